"""Energy is local and extensive: what is far away does not matter, and parts add up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms

from .findings import Item, Measured, check
from .subject import EPSILON, NotApplicableError, Subject, largest

FAR = 60.0  # Å, between the nearest atoms of two parts
NEAR_LIMITS = (20.0, 50.0)  # Å, ml-peg's distances of a single atom


@check(
    "size",
    "Two structures that are far apart have the sum of their energies, and their own forces.",
    "Binding and adsorption energies have an error that depends on the size of the system.",
)
def extensivity(subject: Subject) -> Iterator[Item]:
    """Two free structures 60 Å apart; two slabs, as ml-peg has it, in a cell that holds both."""
    for name, atoms in subject.need("free", "slab").items():
        energy, forces = subject.both(atoms)
        pair = beside(atoms)
        e, f = subject.both(pair)
        limit = subject.energy_limit(name, copies=2)
        yield Measured(f"energy, two of {name}", abs(e - 2 * energy), "eV", limit)
        change = largest(f - np.concatenate([forces, forces]))
        yield Measured(f"forces, two of {name}", change, "eV/Å", subject.force_limit(name))


@check(
    "size",
    "An atom far away changes no force.",
    "Forces depend on what else is in the box; padding and batches leak into results.",
)
def locality(subject: Subject) -> Iterator[Item]:
    """One atom 20 to 50 Å away from the free structure, at ten places: as ml-peg has it."""
    (atoms,) = subject.need("free").values()
    rng = subject.random()
    forces = subject.forces(atoms)
    center = atoms.positions.mean(axis=0)
    radius = np.linalg.norm(atoms.positions - center, axis=1).max()
    changes = []
    for distance in rng.uniform(*NEAR_LIMITS, size=10):
        direction = rng.normal(size=3)
        place = center + (radius + distance) * direction / np.linalg.norm(direction)
        guest = atoms[:1]
        guest.positions[:] = place
        changes.append(subject.forces(atoms + guest)[: len(atoms)] - forces)
    limit = subject.force_limit("free")
    yield Measured("forces, free, one atom far away", largest(np.array(changes)), "eV/Å", limit)
    means = 1000 * np.abs(np.array(changes)).mean(axis=(1, 2))
    yield Measured("ml-peg locality, mean of |ΔF|", float(means.mean()), "meV/Å")
    yield Measured("ml-peg locality, its spread", float(means.std()), "meV/Å")


@check(
    "precision",
    "Energies resolve what forces do: they are not rounded where they are summed.",
    "In float32 a sum of thousands of eV ends at meV: energy conservation cannot be seen, barriers "
    "and Monte Carlo drown in noise, which grows with the system.",
)
def resolution(subject: Subject) -> Iterator[Item]:
    """Noise of energies against that of forces, along the same lines."""
    for name, atoms in subject.structures.items():
        noise = subject.noise(name)
        # What noise of forces would do to an energy over a bond's length, atoms being independent.
        limit = 3 * noise.forces * np.sqrt(len(atoms)) + 30 * EPSILON * noise.size[0]
        yield Measured(f"noise of the energy, {name}", noise.energy, "eV", limit)
        per_atom = 1000 * noise.energy / len(atoms)
        yield f"{name}: noise of {per_atom:.2g} meV/atom and {1000 * noise.forces:.2g} meV/Å"


def beside(atoms: Atoms) -> Atoms:
    """Two copies far apart along an open direction, in a cell that is long enough if it has one."""
    open_axes = np.flatnonzero(~np.asarray(atoms.pbc))
    if not len(open_axes):
        raise NotApplicableError("a crystal has no room for another beside it")
    axis = int(open_axes[-1])
    vector = np.zeros(3)
    cell = np.asarray(atoms.cell)
    if atoms.pbc.any():
        first, second = np.asarray(atoms.cell.complete())[[k for k in range(3) if k != axis]]
        vector = np.cross(first, second)
        vector /= np.linalg.norm(vector)
    else:
        vector[axis] = 1.0
    heights = atoms.positions @ vector
    twin = atoms.copy()
    twin.positions += (np.ptp(heights) + FAR) * vector
    pair = atoms + twin
    if cell[axis].any():
        cell = cell.copy()
        cell[axis] += (np.ptp(heights) + FAR) * vector
        pair.set_cell(cell)
    return pair
