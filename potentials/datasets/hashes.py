"""Hashes of frames, by which copies are found in other sets and files, and of a run's data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
from ase import Atoms

from ..graph import DEFAULT_INPUTS
from ..spins import stored_moments

# Of weighted sums over all coordinates, Å. Files of fewer digits move these by less: of copies of
# water, 192 atoms, 39 of 40 keep their hash with five decimals, and 30 with four. Frames that
# differ by less, all atoms together, teach and test the same thing.
SAME_POSITION = 1e-2
SAME_MOMENT = 0.1  # μ_B; the same geometry with other spins is another frame
# Of the weights of a sum: eight are enough that no two of millions of frames agree by chance.
FREQUENCIES = np.sqrt([2.0, 3.0, 5.0, 6.0, 7.0, 10.0, 11.0, 13.0])
GEOMETRY = 16  # hexadecimal digits of a hash that are those of species, positions and cell
ROWS = 2**16  # of a column, which may be mapped, that are looked at together


def frame_hash(atoms: Atoms) -> str:
    """Hash of a frame: 16 hexadecimal digits of species, positions and cell, and 8 of its inputs.

    Those of inputs (moments, and charge and spin where they are not the usual ones) may be missing.
    Labels do not enter. Copies in files of fewer digits have the same hash, but for a few whose
    sums fall on a limit; atoms that are wrapped, shifted or in another order have another hash.
    """
    digest = hashlib.sha256(atoms.numbers.astype("<i8").tobytes())
    digest.update(_sums(np.concatenate([atoms.positions, np.asarray(atoms.cell)]), SAME_POSITION))
    inputs = []
    moments = stored_moments(atoms)
    if moments is not None and np.any(moments[1]):
        inputs.append(_sums(moments[1], SAME_MOMENT))
    for key, usual in DEFAULT_INPUTS.items():
        if (value := _written(atoms.info.get(key, usual))) != _written(usual):
            inputs.append(f"{key} {value}".encode())
    others = hashlib.sha256(b"".join(inputs)).hexdigest()[:8] if inputs else ""
    return digest.hexdigest()[:GEOMETRY] + others


def _written(value: Any) -> str:
    """The same text for 1 and 1.0; models that read it refuse what is no number."""
    return f"{float(value):g}" if isinstance(value, Real) else str(value)


def _sums(array: np.ndarray, unit: float) -> bytes:
    """Sums of numbers with smooth weights of about 1, in whole units."""
    values = np.asarray(array, dtype=float).ravel()
    places = np.arange(1, len(values) + 1)
    sums = (np.cos(np.outer(FREQUENCIES, places)) * values).sum(axis=1)
    with np.errstate(invalid="ignore"):  # what is not finite is refused where it is used
        return np.rint(sums / unit).astype("<i8").tobytes()


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
