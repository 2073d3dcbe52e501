"""Hashes of frames, by which copies are found in other sets and files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from ase import Atoms

from ..spins import stored_moments

# Å. Copies of a frame in files of fewer digits still have the same hash; frames that are closer to
# each other than this teach and test the same thing.
SAME_POSITION = 1e-3
SAME_MOMENT = 0.1  # μ_B; the same geometry with other spins is another frame


def frame_hash(atoms: Atoms) -> str:
    """Hash (16 hexadecimal digits) of species, positions and cell to 1e-3 Å, and moments.

    Labels do not enter. Atoms that are wrapped, shifted or in another order have another hash.
    """
    digest = hashlib.sha256(atoms.numbers.astype("<i8").tobytes())
    for array, unit in ((atoms.positions, SAME_POSITION), (np.asarray(atoms.cell), SAME_POSITION)):
        digest.update(_rounded(array, unit))
    moments = stored_moments(atoms)
    if moments is not None and np.any(moments[1]):
        digest.update(_rounded(moments[1], SAME_MOMENT))
    for key in ("charge", "spin"):
        if key in atoms.info:
            digest.update(f"{key} {atoms.info[key]}".encode())
    return digest.hexdigest()[:16]


def _rounded(array: np.ndarray, unit: float) -> bytes:
    return np.rint(np.asarray(array, dtype=float) / unit).astype("<i8").tobytes()


def data_hash(hashes: Iterable[str]) -> str:
    """One hash of the hashes of frames in any order."""
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()
