"""ECSE: exact symmetry under rotation from an ensemble of coordinate systems."""
