"""Neighbour lists: which images of which atoms lie within a cutoff of each atom.

The contract, the same for every backend. Input is a batch of B structures with N atoms in all:

    positions  (N, 3) float32 or float64, Å; also outside the cell, up to 65536 cells
    cell       (B, 3, 3) float, Å; rows are lattice vectors; rows of open axes are ignored
    pbc        (B, 3) bool; which lattice vectors are periodic
    cutoff     float, Å
    structure  (N,) int64; index of the structure that each atom belongs to

Output is a list of E directed edges, sorted by centre, on the device of the positions:

    centers    (E,) int64
    neighbors  (E,) int64
    shifts     (E, 3) int64; periodic image of the neighbour, 0 along open axes

There is one edge for each ordered pair of atoms i, j of one structure and each integer image S with

    |positions[j] - positions[i] + S @ cell| < cutoff,

decided in float64 for the positions as they are given. Both directions are listed, images of the
centre itself are, the centre itself is not, and the number of neighbours has no limit.

Errors are ``ValueError``: arguments whose shapes, types or devices disagree, a cutoff that is not a
positive finite number, a position that is not finite or farther away, a cell vector along a
periodic axis that is zero, not finite, or linearly dependent on the others, and an unknown backend.
"""

from .search import Backend, neighbor_list
from .verlet import VerletList

__all__ = ["Backend", "VerletList", "neighbor_list"]
