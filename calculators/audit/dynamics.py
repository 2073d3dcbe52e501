"""A structure that is left to itself keeps its energy and its angular momentum.

The error of velocity Verlet in the total energy goes with the square of the time step. At the same
times of runs with steps of dt, dt/2 and dt/4 it can therefore be taken away; what is left at dt → 0
is what forces do that are no gradient of the energy, whatever the integrator. That says nothing
where atoms meet walls that no step resolves: an energy that changes by as much as atoms have in
motion, at a step that is a quarter of a usual one, fails by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from ..dynamics import draw_velocities
from ..trajectories import linear_drift
from .derivatives import of_orientation
from .findings import Curve, Item, Measured, check
from .subject import EPSILON, MARGIN, Array, Subject

STEPS = 60  # of the largest step
REFINEMENTS = 3
TEMPERATURE = 300.0  # K
# fs, by the square root of the lightest mass: 0.5 with H.
SHORTEST, LONGEST = 0.5, 2.0
# meV/atom/ps, beyond which it fails: a crystal becomes 4 K hotter in 1 ps.
HEATING = 1.0
TRUST = 10.0  # times the estimated error of the extrapolation
ORDER = 0.5  # what the order of the fluctuation may be below 2
HBAR = units._hbar / units._e * units.second  # eV times ASE's unit of time


@dataclass(frozen=True)
class Run:
    """A run at constant energy.

    Attributes:
        step: fs.
        time: (n,), ps.
        total, kinetic: energies (n,), eV.
        momenta: angular momenta (n, 3) about the centre of mass, ħ.
    """

    step: float
    time: Array
    total: Array
    kinetic: Array
    momenta: Array


@check(
    "dynamics",
    "At constant energy the total energy fluctuates with the square of the time step, and stays.",
    "Runs heat up or cool down by themselves, and a thermostat hides it while dynamics go wrong.",
)
def drift(subject: Subject) -> Iterator[Item]:
    """Velocity Verlet at 300 K with three time steps over the same time."""
    for name, atoms in subject.need("free", "crystal").items():
        if len(atoms) < 2:
            yield f"{name}: one atom does not move"
            continue
        first = _largest_step(atoms)
        runs = [_run(subject, atoms, first / 2**k, STEPS * 2**k) for k in range(REFINEMENTS)]
        per_atom = 1000 / len(atoms)
        for run in runs:
            energies = per_atom * (run.total - run.total[0])
            label = f"{name}, {run.step:g} fs"
            yield Curve("drift", label, "time, ps", "total energy, meV/atom", run.time, energies)
            slope, error = linear_drift(run.time, energies)
            yield Measured(f"drift, {name}, {run.step:g} fs (± {error:.2g})", slope, "meV/atom/ps")
        if not all(np.isfinite(run.total).all() for run in runs):
            yield Measured(f"energy not conserved, {name}, step → 0", np.nan, "meV/atom/ps", 1.0)
            continue
        change = per_atom * float(np.abs(runs[-1].total - runs[-1].total[0]).max())
        what = f"change of the total energy, {name}, {runs[-1].step:g} fs"
        yield Measured(what, change, "meV/atom", 1500 * units.kB * TEMPERATURE)
        yield from _left(name, runs, per_atom, subject.noise(name).energy)
        yield from _order(name, runs, subject.noise(name).energy)
        slope, _ = linear_drift(runs[-1].time, runs[-1].total)
        ratio = abs(slope) * runs[-1].time[-1] / runs[-1].kinetic.std()
        yield Measured(f"ml-peg NVE, drift over spread of the kinetic energy, {name}", ratio, "")


@check(
    "dynamics",
    "A free structure keeps its angular momentum.",
    "Clusters and molecules in vacuum start to spin by themselves, or stop.",
)
def angular_momentum(subject: Subject) -> Iterator[Item]:
    """Velocity Verlet keeps it exactly if forces have no torque."""
    for name, atoms in subject.need("free").items():
        run = _run(subject, atoms, _largest_step(atoms), STEPS)
        change = float(np.linalg.norm(run.momenta - run.momenta[0], axis=1).max())
        arms = atoms.positions - atoms.positions.mean(axis=0)
        torque = subject.force_limit(name) * float(np.linalg.norm(arms))
        rounding = EPSILON * STEPS * _reach(atoms) * float(np.abs(run.momenta).max())
        limit = torque * run.time[-1] * 1000 * units.fs / HBAR + MARGIN * rounding
        what = f"change of the angular momentum in {run.time[-1]:.2g} ps, {name}"
        yield from of_orientation(subject, what, change, "ħ", limit)


def _left(name: str, runs: list[Run], per_atom: float, noise: float) -> Iterator[Item]:
    """Change of the energy at dt → 0, and how far it may be off: the next term, and rounding."""
    at = [run.total[:: 2**k] - run.total[0] for k, run in enumerate(runs)]
    coarse, fine = ((4 * b - a) / 3 for a, b in pairwise(at))
    duration = float(runs[0].time[-1])
    value = per_atom * float(np.abs(fine).max()) / duration
    error = TRUST * float(np.abs(fine - coarse).max()) / 15 + 2 * MARGIN * noise
    limit = per_atom * error / duration
    what = f"energy not conserved, {name}, step → 0"
    yield Measured(what, value, "meV/atom/ps", max(limit, HEATING))
    yield Measured(f"{what}, beyond rounding", value, "meV/atom/ps", limit, soft=True)


def _order(name: str, runs: list[Run], noise: float) -> Iterator[Item]:
    """How the fluctuation of the total energy falls with the step."""
    spread = [float((run.total[:: 2**k]).std()) for k, run in enumerate(runs)]
    if spread[-1] < MARGIN * noise:
        yield f"{name}: the energy fluctuates by no more than its rounding"
        return
    orders = np.log2(np.array(spread[:-1]) / spread[1:])
    yield f"{name}: fluctuation falls with powers {orders[0]:.2f} and {orders[1]:.2f} of the step"
    what = f"power of the step by which the fluctuation falls, below 2, {name}"
    yield Measured(what, max(2.0 - float(orders[-1]), 0.0), "", ORDER, soft=True)


def _run(subject: Subject, atoms: Atoms, step: float, steps: int) -> Run:
    """ASE's velocity Verlet, from the same velocities at 300 K."""
    twin = subject.fresh(atoms)
    draw_velocities(twin, TEMPERATURE, subject.random())
    dynamics = VelocityVerlet(twin, step * units.fs)
    rows: list[tuple[float, float]] = []
    momenta: list[Array] = []
    for k in range(steps + 1):
        if k:
            dynamics.step()
        kinetic = float(twin.get_kinetic_energy())
        rows.append((float(twin.get_potential_energy()) + kinetic, kinetic))
        arms = twin.positions - twin.get_center_of_mass()
        momenta.append(np.cross(arms, twin.get_momenta()).sum(axis=0) / HBAR)
    total, kinetic_energies = np.array(rows).T
    time = np.arange(steps + 1) * step / 1000
    return Run(step, time, total, kinetic_energies, np.stack(momenta))


def _largest_step(atoms: Atoms) -> float:
    """Time step, fs, that the lightest atom bears; in tenths."""
    return float(np.clip(0.5 * np.sqrt(atoms.get_masses().min()), SHORTEST, LONGEST).round(1))


def _reach(atoms: Atoms) -> float:
    """Largest coordinate over the extent of the structure: what arms are rounded by."""
    return float(np.abs(atoms.positions).max() + 1.0) / float(np.ptp(atoms.positions) + 0.1) + 1.0
