"""Relaxation of a structure, and of its cell, with any ASE calculator and ASE's optimizers.

Around the optimizers stand the things a run needs: a test of convergence on what the user asks for
(forces on atoms, and the stress itself), and every state on the way, so that no run is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms, FixCartesian, FixScaled, FixSymmetry

from .recorder import FRAME_ARRAYS, remember, without_labels

OptimizerName = Literal["lbfgs", "bfgs", "fire"]
FEW_ATOMS = 300  # to diagonalise their Hessian takes 0.2 s, no longer than a step of a model
# What a relaxed structure keeps: it is at rest, and labels from its file would be wrong.
ARRAYS = ({*FRAME_ARRAYS} | {"tags"}) - {"momenta"}
# These hold while the cell is strained; others (bond lengths) exert a stress that nobody counts.
CELL_CONSTRAINTS = (FixAtoms, FixCartesian, FixScaled, FixSymmetry)


class RelaxationError(ValueError):
    """The relaxation met a state that it cannot go on from; the states before it remain."""


@dataclass(frozen=True)
class RelaxationSettings:
    """What a relaxation needs besides its structure and its calculator.

    Attributes:
        fmax: eV/Å; converged is what has smaller forces on all atoms, after constraints.
        steps: largest number of steps.
        optimizer: "bfgs" always heads downhill, but its step costs O(atoms³); "lbfgs" scales, and
            in a basin takes as few steps, but outside it may climb to a saddle point; "fire" takes
            two to four times the steps, and is hard to mislead. Default: bfgs up to 300 atoms, else
            lbfgs. Line searches are not offered: they triple the evaluations, and the rounding of
            float32 energies misleads them.
        cell: relax the cell too, all six components of its strain. Fixed atoms follow the strain.
        pressure: bar, with ``cell``.
        smax: bar, with ``cell``: converged is what has all components of the stress closer than
            this to those of ``pressure``. ASE alone would accept ``fmax`` × 1 Å per volume of an
            atom, which at 0.01 eV/Å in water is 1600 bar.

    Raises:
        ValueError: a value is out of range.
    """

    fmax: float = 0.01
    steps: int = 500
    optimizer: OptimizerName | None = None
    cell: bool = False
    pressure: float = 0.0
    smax: float = 100.0

    def __post_init__(self) -> None:
        known = get_args(OptimizerName)
        if self.optimizer not in (None, *known):
            raise ValueError(f"unknown optimizer {self.optimizer!r}; known: {', '.join(known)}.")
        for name, unit in (("fmax", "eV/Å"), ("smax", "bar")):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)} {unit}; it must be positive.")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be at least 1.")
        if not np.isfinite(self.pressure):
            raise ValueError(f"pressure is {self.pressure} bar; it must be finite.")
        if self.pressure and not self.cell:
            raise ValueError(
                f"a pressure of {self.pressure:g} bar acts on the cell only; relax the cell too, "
                "or leave the pressure out."
            )


@dataclass(frozen=True)
class RelaxationResult:
    """State of a relaxation after so many steps; that of the last step is its outcome.

    Attributes:
        settings: what was asked for.
        start: the structure as it came, with energy, forces, and stress if there is one.
        atoms: the same of the structure now, at rest and with the constraints it came with.
        steps: number of steps taken.
    """

    settings: RelaxationSettings
    start: Atoms
    atoms: Atoms
    steps: int

    @property
    def converged(self) -> bool:
        """Whether forces, and with a cell the stress, are as small as asked for."""
        settings = self.settings
        small = largest_force(self.atoms) < settings.fmax
        if not settings.cell:
            return small
        return small and largest_stress(self.atoms, settings.pressure) < settings.smax

    @property
    def energy_change(self) -> float:
        """Energy now less that at the start, eV."""
        return float(self.atoms.get_potential_energy() - self.start.get_potential_energy())

    @property
    def enthalpy_change(self) -> float:
        """The same of energy + pressure × volume, which a relaxation under pressure lowers, eV."""
        if not self.settings.cell:
            return self.energy_change
        grown = self.atoms.get_volume() - self.start.get_volume()
        return self.energy_change + self.settings.pressure * units.bar * grown

    @property
    def largest_displacement(self) -> float:
        """Farthest way of an atom from its start, Å; not counting the strain of a relaxed cell."""
        origin = self.start.positions
        if self.settings.cell:
            origin = self.start.cell.scaled_positions(origin) @ self.atoms.cell
        return float(np.linalg.norm(self.atoms.positions - origin, axis=1).max())


def largest_force(atoms: Atoms) -> float:
    """Largest length of a force on an atom after constraints, eV/Å."""
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def largest_stress(atoms: Atoms, pressure: float = 0.0) -> float:
    """Largest deviation of a stress component from that of a pressure (bar), in bar."""
    stress = atoms.get_stress() / units.bar
    return float(np.abs(stress + pressure * np.array([1, 1, 1, 0, 0, 0])).max())


def relax(
    atoms: Atoms,
    settings: RelaxationSettings | None = None,
    *,
    progress: Callable[[RelaxationResult], None] | None = None,
) -> RelaxationResult:
    """Relax a structure; it is only read, and its calculator used.

    Args:
        atoms: structure with a calculator; its constraints are respected.
        settings: see :class:`RelaxationSettings`.
        progress: called with the state of every step, that of step 0 first.

    Raises:
        ValueError: the structure does not suit the settings.
        RelaxationError: energies, forces or stress are not finite, or the calculator refuses a
            structure on the way.
    """
    for result in irelax(atoms, settings):
        if progress is not None:
            progress(result)
    return result


def irelax(atoms: Atoms, settings: RelaxationSettings | None = None) -> Iterator[RelaxationResult]:
    """Relax as :func:`relax` does, and yield the state of every step, that of step 0 first."""
    settings = settings or RelaxationSettings()
    check_structure(atoms, settings)
    system = atoms.copy()
    system.calc = atoms.calc
    start: Atoms | None = None
    step = 0
    try:
        for _ in make_optimizer(system, settings).irun(fmax=0.0, steps=settings.steps):
            if problem := _not_finite(system, settings):
                raise RelaxationError(_message(step, problem))
            now = kept(system)
            remember(now, system)
            start = now if start is None else start
            result = RelaxationResult(settings, start, now, step)
            yield result
            if result.converged:
                return
            step += 1
    except RelaxationError:
        raise
    except ValueError as error:  # of our calculators: atoms on top of each other, or lost
        if step == 0:
            raise
        raise RelaxationError(_message(step, str(error).rstrip("."))) from error


def check_structure(atoms: Atoms, settings: RelaxationSettings) -> None:
    """Refuse a structure that cannot be relaxed as asked, with ValueError."""
    if atoms.calc is None:
        raise ValueError("the structure has no calculator; set atoms.calc before relax.")
    if len(atoms) == 0:
        raise ValueError("the structure has no atoms; give at least one.")
    fixed = [c.get_indices() for c in atoms.constraints if isinstance(c, FixAtoms)]
    if fixed and not settings.cell and len(np.unique(np.concatenate(fixed))) == len(atoms):
        raise ValueError("the constraints of the structure leave no atom free to move.")
    if not settings.cell:
        return
    if not (all(atoms.pbc) and atoms.cell.rank == 3):
        raise ValueError(
            "relaxing the cell needs one with a volume, periodic along all three axes; the "
            f"structure has pbc {atoms.pbc.tolist()} and rank {atoms.cell.rank}: relax its atoms "
            "only."
        )
    if "stress" not in getattr(atoms.calc, "implemented_properties", ("stress",)):
        raise ValueError(
            f"relaxing the cell needs a stress, which {type(atoms.calc).__name__} does not give: "
            "relax the atoms only."
        )
    for constraint in atoms.constraints:
        if not isinstance(constraint, CELL_CONSTRAINTS):
            raise ValueError(
                f"a constraint of the structure, {type(constraint).__name__}, cannot be kept while "
                "the cell changes; remove it, or relax the atoms only."
            )


def optimizer_name(atoms: Atoms, settings: RelaxationSettings) -> OptimizerName:
    """Name of the optimizer that was asked for, or that suits the number of atoms."""
    return settings.optimizer or ("bfgs" if len(atoms) <= FEW_ATOMS else "lbfgs")


def make_optimizer(atoms: Atoms, settings: RelaxationSettings) -> Any:
    """Return ASE's optimizer of the structure, or of structure and cell, in place."""
    from ase import optimize
    from ase.filters import FrechetCellFilter

    kinds = {"lbfgs": optimize.LBFGS, "bfgs": optimize.BFGS, "fire": optimize.FIRE}
    target: Any = atoms
    if settings.cell:
        # With this factor a strain is as stiff a coordinate in a large cell as in a small one. With
        # ASE's own, N, it softens as 1/N: 108 atoms of copper took four times the steps.
        target = FrechetCellFilter(
            atoms,
            exp_cell_factor=len(atoms) ** 0.5,
            scalar_pressure=settings.pressure * units.bar,
        )
    return kinds[optimizer_name(atoms, settings)](target, logfile=None)


def kept(atoms: Atoms) -> Atoms:
    """Return a copy with only what a relaxed structure keeps, without results."""
    return without_labels(atoms, ARRAYS)


def _not_finite(system: Atoms, settings: RelaxationSettings) -> str | None:
    """Say what cannot be relaxed any further."""
    found = {
        "energy": system.get_potential_energy(),
        "forces": system.get_forces(apply_constraint=False),
        "stress": system.get_stress(apply_constraint=False) if settings.cell else 0.0,
    }
    broken = [name for name, value in found.items() if not np.isfinite(value).all()]
    return f"{' and '.join(broken)} not finite" if broken else None


def _message(step: int, problem: str) -> str:
    when = "cannot start" if step == 0 else f"failed at step {step}"
    return (
        f"the relaxation {when}: {problem}; check that the model knows such structures, or start "
        "closer to a minimum."
    )
