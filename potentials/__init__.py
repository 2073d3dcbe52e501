"""Interatomic potentials: atoms in, energies, forces and stress out."""
