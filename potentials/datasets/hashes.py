"""Hashes of frames, by which copies are found in other sets and files, and of a run's data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
from ase import Atoms

from ..spins import stored_moments

# Å. Copies of a frame in files of fewer digits still have the same hash; frames that are closer to
# each other than this teach and test the same thing.
SAME_POSITION = 1e-3
SAME_MOMENT = 0.1  # μ_B; the same geometry with other spins is another frame
ROWS = 2**16  # of a column, which may be mapped, that are looked at together


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


class ColumnsHash:
    """One hash of columns in their order; how they are cut into parts does not matter.

    Fractions count to the digits of float32: what is computed of labels (stresses of virials) may
    end in other bits on another processor.
    """

    def __init__(self) -> None:
        self._digests: dict[str, hashlib._Hash] = {}

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        """Add rows to columns."""
        for name, rows in columns.items():
            digest = self._digests.setdefault(name, hashlib.sha256())
            kind = "<f4" if rows.dtype.kind == "f" else rows.dtype.newbyteorder("<")
            for k in range(0, len(rows), ROWS):
                with np.errstate(over="ignore"):
                    digest.update(rows[k : k + ROWS].astype(kind).tobytes())

    def hexdigest(self) -> str:
        """The hash of what was added so far."""
        parts = [f"{name} {digest.hexdigest()}" for name, digest in sorted(self._digests.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
