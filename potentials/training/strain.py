"""Whether stored stresses are the derivatives of stored energies, from strained copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from pydantic import BaseModel

from ..neighbors.cells import volume
from ..spins import stored_moments

SAME_FRACTION = 1e-3  # of cell vectors: positions of copies of one structure
LARGEST_STRAIN = 0.1
FEWEST_PAIRS = 3
DETERMINED = 0.9  # share of the energies' variance that the stresses have to explain
RIGHT = 0.3  # how far the slope may be from 1; finite basis sets are off by several per cent
FRAMES = 20_000  # at most so many are kept for comparison


class StressCheck(BaseModel, frozen=True):
    """Regression of energy differences on those that the stresses say.

    Attributes:
        pairs: of strained copies of one structure.
        slope: energy difference per that of the stresses; 1 in ASE's sign and eV/Å³.
        explained: share of the squared energy differences, 1 at best.
    """

    pairs: int
    slope: float
    explained: float

    @property
    def verdict(self) -> str:
        """In words: right, what is wrong, or that the frames cannot tell."""
        if self.pairs < FEWEST_PAIRS:
            return "cannot tell (no strained copies of one structure)"
        if self.explained < DETERMINED:
            return f"cannot tell ({self.pairs} pairs of strained copies scatter)"
        found = f"dE/dstrain is {self.slope:.3g} times the stress, {self.pairs} strained copies"
        return f"right: {found}" if abs(self.slope - 1) < RIGHT else f"WRONG: {found}"

    @property
    def wrong(self) -> bool:
        """Whether the stresses contradict the energies."""
        return self.verdict.startswith("WRONG")


class StrainedCopies:
    """Collects frames of equal species, fractional coordinates and magnetic order."""

    def __init__(self) -> None:
        self._groups: dict[bytes, list[tuple[np.ndarray, float, np.ndarray]]] = {}
        self._frames = 0

    def add(self, atoms: Atoms, energy: float, stress: np.ndarray) -> None:
        """Take note of a frame: eV and eV/Å³ (3, 3)."""
        cell = np.array(atoms.cell)
        if self._frames >= FRAMES or not volume(cell):
            return
        fractions = (atoms.positions - atoms.positions[0]) @ np.linalg.inv(cell)
        steps = round(1 / SAME_FRACTION)
        key = (np.rint(fractions * steps).astype(np.int64) % steps).tobytes()
        moments = stored_moments(atoms)  # of an order, they differ a little between strains
        order = b"" if moments is None else (np.rint(moments[1]) + 0.0).tobytes()  # -0 is 0
        group = self._groups.setdefault(atoms.numbers.tobytes() + key + order, [])
        group.append((cell, energy, stress))
        self._frames += 1

    def check(self) -> StressCheck:
        """Compare every frame of a group with the one of lowest energy."""
        pairs = []
        for group in self._groups.values():
            lowest = min(group, key=lambda frame: frame[1])
            pairs += [_work(lowest, other) for other in group if other is not lowest]
        return _regression([pair for pair in pairs if pair is not None])


def _work(
    one: tuple[np.ndarray, float, np.ndarray], other: tuple[np.ndarray, float, np.ndarray]
) -> tuple[float, float] | None:
    """Work of the mean stress from one cell to another, and the energy difference, eV."""
    mean = 0.5 * (one[0] + other[0])
    if not volume(mean):
        return None
    gradient = np.linalg.solve(mean, other[0] - one[0])  # rows of a cell: a → a (1 + ε)
    strain, turn = 0.5 * (gradient + gradient.T), 0.5 * (gradient - gradient.T)
    largest = np.abs(strain).max()
    if not np.abs(turn).max() < largest < LARGEST_STRAIN:
        return None
    slopes = [volume(cell) * stress for cell, _, stress in (one, other)]
    return float(np.sum(0.5 * (slopes[0] + slopes[1]) * strain)), other[1] - one[1]


def _regression(pairs: Sequence[tuple[float, float]]) -> StressCheck:
    work, energy = np.array(pairs).reshape(-1, 2).T
    if not np.any(work) or not np.any(energy):
        return StressCheck(pairs=0, slope=0.0, explained=0.0)
    slope = float(work @ energy / (work @ work))
    rest = energy - slope * work
    return StressCheck(
        pairs=len(pairs), slope=slope, explained=float(1 - rest @ rest / (energy @ energy))
    )
