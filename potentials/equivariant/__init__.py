"""Equivariant networks, whose features turn with the atoms by irreps of O(3)."""
