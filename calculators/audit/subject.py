"""What is audited: a calculator, structures to ask it about, and how finely it resolves them.

Limits of the checks follow from the calculator's own rounding. It is measured: along a line of
steps of 1e-5 Å a smooth function has no fourth difference, and what is left is noise, whose
variance is that of the difference over 70 (the sum of squares of 1, -4, 6, -4, 1). Numbers that are
rounded so coarsely that they do not change along the line hide it: what float32 can hold counts as
rounded to float32. No calculator can be more exact than its input, whose rounding in float64 is the
smallest noise that is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import ArrayLike, NDArray

from ...potentials.neighbors.cells import volume

Array = NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)
STEP = 1e-5  # Å, far below any length of a potential
FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
POINTS = 9
# Of the noise. Maximum of a few hundred numbers, sums in other orders, other rounding of inputs.
MARGIN = 30.0
STIFFNESS = 100.0  # eV/Å², largest second derivative that rounding of positions is multiplied with


class NotApplicableError(Exception):
    """A check does not apply; the message says why."""


@dataclass(frozen=True)
class Noise:
    """Rounding of a calculator for one structure, standard deviations.

    Attributes:
        energy: eV.
        forces: of a component, eV/Å.
        stress: of a component, eV/Å³.
        size: |E|, eV, and the largest force, eV/Å.
    """

    energy: float
    forces: float
    stress: float
    size: tuple[float, float]


@dataclass
class Subject:
    """A calculator under audit.

    Attributes:
        calculator: any ASE calculator.
        structures: by what they are: "free" (no periodic direction), "crystal" (three), "slab"
            (two); those that the calculator refused are missing.
        refused: what it said of these.
        exact: whether it claims to be invariant under rotations.
        force_error: its validation error, eV/Å per component, by which approximate invariance is
            judged; None: not known.
        cutoff: radius of its neighbourhoods, Å; None: not known.
        build: makes another calculator of the same kind, of a precision ("float32", "float64") if
            it has a choice.
        seed: of random directions.
    """

    calculator: Any
    structures: dict[str, Atoms]
    refused: dict[str, str] = field(default_factory=dict)
    exact: bool = True
    force_error: float | None = None
    cutoff: float | None = None
    build: Callable[[str | None], Any] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._noise: dict[str, Noise] = {}

    @cached_property
    def gives_stress(self) -> bool:
        """Whether it gives a stress of a crystal."""
        if "crystal" not in self.structures:
            return False
        try:
            self.stress(self.structures["crystal"])
        except (PropertyNotImplementedError, NotImplementedError, NotApplicableError):
            return False
        return True

    def random(self) -> np.random.Generator:
        """A generator that starts anew for each check, so that checks do not depend on others."""
        return np.random.default_rng(self.seed)

    def need(self, *names: str) -> dict[str, Atoms]:
        """Structures of these names that there are; skips the check if there is none."""
        found = {name: self.structures[name] for name in names if name in self.structures}
        if not found:
            said = "; ".join(f"{name}: {text}" for name, text in self.refused.items())
            raise NotApplicableError(
                f"no {' or '.join(names)} structure ({said or 'none was given'})"
            )
        return found

    def alone(self, numbers: Sequence[int], positions: ArrayLike) -> Atoms:
        """Free atoms, with the magnetic moments that their elements have in the structures."""
        atoms = Atoms(numbers=numbers, positions=positions)
        moments: dict[int, ArrayLike] = {}
        for known in self.structures.values():
            if "initial_magmoms" in known.arrays:
                pairs = zip(known.numbers, known.get_initial_magnetic_moments(), strict=True)
                moments = {int(z): moment for z, moment in reversed(list(pairs))} | moments
        if set(map(int, numbers)) <= set(moments):
            atoms.set_initial_magnetic_moments([moments[int(z)] for z in numbers])
        return atoms

    def energy(self, atoms: Atoms) -> float:
        """Energy in eV, of a calculation that remembers nothing."""
        return float(self.fresh(atoms).get_potential_energy())

    def forces(self, atoms: Atoms) -> Array:
        """Forces (N, 3) in eV/Å."""
        return np.array(self.fresh(atoms).get_forces(), dtype=np.float64)

    def both(self, atoms: Atoms) -> tuple[float, Array]:
        """Energy and forces of one calculation."""
        twin = self.fresh(atoms)
        forces = np.array(twin.get_forces(), dtype=np.float64)
        return float(twin.get_potential_energy()), forces

    def stress(self, atoms: Atoms) -> Array:
        """Stress (3, 3) in eV/Å³, with ASE's sign."""
        stress = np.array(self.fresh(atoms).get_stress(voigt=True), dtype=np.float64)
        return np.asarray(voigt_6_to_full_3x3_stress(stress))

    def raw_stress(self, atoms: Atoms) -> Array:
        """Stress as the calculator leaves it in its results: six numbers, or nine."""
        twin = self.fresh(atoms)
        twin.get_stress()
        return np.asarray(self.calculator.results["stress"], dtype=np.float64)

    def noise(self, name: str) -> Noise:
        """Rounding for a structure of :attr:`structures`."""
        if name not in self._noise:
            self._noise[name] = self._measure(self.structures[name])
        return self._noise[name]

    def energy_limit(self, name: str, copies: int = 1) -> float:
        """Largest difference, eV, of energies of copies of a structure that should be equal."""
        return MARGIN * self.noise(name).energy * copies

    def force_limit(self, name: str) -> float:
        """Largest difference of force components, eV/Å, that should be equal."""
        return MARGIN * self.noise(name).forces

    def stress_limit(self, name: str) -> float:
        """Largest difference of stress components, eV/Å³, that should be equal."""
        return MARGIN * self.noise(name).stress

    def fresh(self, atoms: Atoms) -> Atoms:
        """A copy with the calculator, which is told to forget; constraints would hide forces."""
        twin = atoms.copy()
        twin.set_constraint()
        if hasattr(self.calculator, "reset"):
            self.calculator.reset()
        twin.calc = self.calculator
        return twin

    def _measure(self, atoms: Atoms) -> Noise:
        rng = self.random()
        energies: list[Array] = []
        forces: list[Array] = []
        stresses: list[Array] = []
        spanned = volume(np.asarray(atoms.cell))
        stress = self.gives_stress and spanned > 0
        for _ in range(2):
            direction = rng.normal(size=atoms.positions.shape)
            direction /= np.abs(direction).max()
            line: list[tuple[Array, Array, Array]] = []
            for k in range(POINTS):
                twin = self.fresh(atoms)
                twin.positions += k * STEP * direction
                force = np.array(twin.get_forces(), dtype=np.float64)
                tensor = np.array(twin.get_stress() if stress else np.zeros(6), dtype=np.float64)
                line.append((np.array([twin.get_potential_energy()]), force, tensor))
            for values, found in zip(
                zip(*line, strict=True), (energies, forces, stresses), strict=True
            ):
                found.append(fourth_differences(np.stack(values)))
        energy = float(line[0][0][0])
        rounding = epsilon(np.concatenate([e for e, _, _ in line])) / np.sqrt(12) * abs(energy)
        reach = np.abs(atoms.positions).max() + np.abs(np.asarray(atoms.cell)).max() + 1.0
        work = float(np.abs(force).sum()) * reach
        of_forces = EPSILON * (float(np.abs(force).max()) + STIFFNESS * reach)
        of_stress = of_forces * reach * len(atoms) / spanned if spanned else 0.0
        return Noise(
            energy=max(_rms(energies), rounding, EPSILON * (abs(energy) + work)),
            forces=max(_rms(forces), of_forces),
            stress=max(_rms(stresses), of_stress),
            size=(abs(energy), float(np.abs(force).max())),
        )


def largest(values: ArrayLike) -> float:
    """Largest absolute value; infinite where one is no number."""
    array = np.abs(np.asarray(values, dtype=np.float64))
    return float(array.max(initial=0.0)) if np.isfinite(array).all() else np.inf


def epsilon(values: Array) -> float:
    """That of float32 for numbers that it can hold, else of float64."""
    narrow = np.array_equal(values, values.astype(np.float32))
    return float(np.finfo(np.float32).eps) if narrow else EPSILON


def fourth_differences(values: Array) -> Array:
    """Fourth differences (n - 4, ...) of values (n, ...), scaled to the variance of their noise."""
    windows = np.lib.stride_tricks.sliding_window_view(values, len(FOURTH), axis=0)
    return np.asarray(windows @ FOURTH) / np.sqrt((FOURTH**2).sum())


def _rms(parts: list[Array]) -> float:
    return float(np.sqrt(np.mean(np.concatenate([np.ravel(p) for p in parts]) ** 2)))
