"""Training of potentials."""
