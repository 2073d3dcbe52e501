"""Forces and stress are derivatives of the energy, and of nothing else.

Directions are random, over all atoms or all strains at once: what is wrong in any component shows
in each. SciPy's central differences of eighth order halve their step until they agree with
themselves to what the calculator's rounding allows; where they never do, since a potential has
details that are finer than that, the step at which they agree best counts. Halved steps agree by
chance now and then, so three sequences are run: the median is taken, and its error, which is part
of the limit, is its own or its distance from the nearer of the others, whichever is larger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ase import Atoms
from scipy.differentiate import derivative

from ...potentials.neighbors.cells import volume
from .findings import Item, Measured, check
from .subject import EPSILON, MARGIN, Array, NotApplicableError, Subject

DIRECTIONS = 3
# Å, what the outermost point of the first stencil moves an atom by. No halving of one meets those
# of another: the same points would agree with themselves.
REACHES = (0.1, 0.08, 0.065)
TRUST = 10.0  # times the estimated error of a finite difference


@check(
    "derivatives",
    "Forces are minus the gradient of the energy.",
    "Energy is not conserved, relaxations end beside the minimum, and thermostats hide the heat.",
)
def forces(subject: Subject) -> Iterator[Item]:
    """Work along random displacements of all atoms against energies."""
    rng = subject.random()
    for name, atoms in subject.structures.items():
        found = subject.forces(atoms)
        limit = subject.force_limit(name)
        for k in range(DIRECTIONS):
            direction = rng.normal(size=found.shape)
            direction /= np.abs(direction).max()

            def energy(x: float, atoms: Atoms = atoms, direction: Array = direction) -> float:
                twin = atoms.copy()
                twin.positions += x * direction
                return subject.energy(twin)

            slope, error = _slope(energy, subject.noise(name).energy, 1.0)
            work = -float((found * direction).sum())
            norm = float(np.linalg.norm(direction))
            yield Measured(
                f"{name}, direction {k + 1}",
                abs(slope - work) / norm,
                "eV/Å",
                limit + TRUST * error / norm,
            )


@check(
    "derivatives",
    "The stress is the derivative of the energy by symmetric strain, over the cell's own volume.",
    "Lattice constants, elastic constants and densities at constant pressure are wrong.",
)
def stress(subject: Subject) -> Iterator[Item]:
    """Random symmetric strains of crystal and slab against energies."""
    if not subject.gives_stress:
        raise NotApplicableError("the calculator gives no stress of the crystal")
    rng = subject.random()
    for name, atoms in subject.need("crystal", "slab").items():
        try:
            found = subject.stress(atoms)
        except (ValueError, NotImplementedError) as refusal:
            if name == "crystal":
                raise
            yield f"no stress of the slab: {refusal}"
            continue
        cell = np.asarray(atoms.cell)
        spanned = volume(cell)
        size = max(np.abs(atoms.positions).max(), np.abs(cell).max())
        rounding = EPSILON * subject.noise(name).size[0] / spanned
        for k in range(DIRECTIONS):
            strain = rng.normal(size=(3, 3))
            strain = (strain + strain.T) / np.abs(strain + strain.T).max()

            def energy(x: float, atoms: Atoms = atoms, strain: Array = strain) -> float:
                twin = atoms.copy()
                twin.set_cell(np.asarray(atoms.cell) @ (np.eye(3) + x * strain), scale_atoms=True)
                return subject.energy(twin)

            slope, error = _slope(energy, subject.noise(name).energy, 1 / size)
            work = spanned * float((found * strain).sum())
            yield Measured(
                f"{name}, strain {k + 1}",
                abs(slope - work) / spanned,
                "eV/Å³",
                9 * subject.stress_limit(name) + TRUST * error / spanned + rounding,
            )


@check(
    "derivatives",
    "Forces on a free structure have no torque, and the stress of a crystal is symmetric.",
    "Angular momentum is not conserved; clusters spin up, and cells turn at constant pressure.",
)
def torque(subject: Subject) -> Iterator[Item]:
    """Net torque of the free structure; antisymmetric part of a stress that has nine numbers."""
    for name, atoms in subject.need("free").items():
        force = subject.forces(atoms)
        arms = atoms.positions - atoms.positions.mean(axis=0)
        value = float(np.abs(np.cross(arms, force).sum(axis=0)).max())
        limit = subject.force_limit(name) * float(np.linalg.norm(arms))
        yield from of_orientation(subject, f"net torque, {name}", value, "eV", limit)
    if subject.gives_stress:
        raw = np.array(subject.raw_stress(subject.structures["crystal"]))
        if raw.shape == (3, 3):
            part = float(np.abs(raw - raw.T).max() / 2)
            limit = subject.stress_limit("crystal")
            yield from of_orientation(
                subject, "antisymmetric stress, crystal", part, "eV/Å³", limit
            )
        else:
            yield "the stress has six components, and no antisymmetric part to look at"


def of_orientation(
    subject: Subject, what: str, value: float, unit: str, limit: float
) -> Iterator[Measured]:
    """A figure that vanishes for exactly invariant models; of others, how far they are."""
    yield Measured(what, value, unit, limit, soft=not subject.exact)


def _slope(function: Callable[[float], float], noise: float, scale: float) -> tuple[float, float]:
    """dE/dx at 0 and its error; an atom moves by x / scale, and noise is the function's."""

    def many(steps: Array) -> Array:
        return np.reshape([function(float(x)) for x in np.ravel(steps)], np.shape(steps))

    resolution = MARGIN * noise / (min(REACHES) * scale)
    found = sorted(_halved(many, reach * scale, resolution) for reach in REACHES)
    (low, _), (middle, error), (high, _) = found
    return middle, max(min(middle - low, high - middle), error, resolution)


def _halved(many: Callable[[Array], Array], step: float, resolution: float) -> tuple[float, float]:
    """The slope where halved steps change it least, and that change."""
    seen: list[tuple[float, float]] = []

    def note(state: Any) -> None:
        if np.isfinite(state.error):
            seen.append((float(state.error), float(state.df)))

    tolerances = {"atol": resolution, "rtol": 0.0}
    derivative(
        many,
        0.0,
        initial_step=step,
        order=8,
        maxiter=8,
        tolerances=tolerances,
        callback=note,
    )
    error, slope = min(seen, default=(np.inf, np.nan))
    return slope, error
