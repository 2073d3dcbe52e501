"""A periodic structure is one crystal, however it is written down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from .findings import Item, Measured, check
from .subject import Array, NotApplicableError, Subject, largest
from .symmetry import equal

PERIODIC = ("crystal", "slab")


@check(
    "periodicity",
    "Moving single atoms by lattice vectors changes nothing.",
    "Atoms that leave the cell lose neighbours; energies jump when a code wraps them.",
)
def images(subject: Subject) -> Iterator[Item]:
    """Every atom moved by up to three cells along every periodic direction."""
    rng = subject.random()
    for name, atoms in subject.need(*PERIODIC).items():
        others = []
        for _ in range(4):
            twin = atoms.copy()
            shifts = rng.integers(-3, 4, size=(len(atoms), 3)) * atoms.pbc
            twin.positions += shifts @ np.asarray(atoms.cell)
            others.append(twin)
        yield from equal(subject, name, others, "with atoms moved by lattice vectors")


@check(
    "periodicity",
    "Wrapping atoms into the cell changes nothing, wherever its origin is.",
    "Energies jump as atoms cross the faces of the cell.",
)
def wrapping(subject: Subject) -> Iterator[Item]:
    """Moved as a whole and wrapped; and moved out of the cell along open directions."""
    rng = subject.random()
    for name, atoms in subject.need(*PERIODIC).items():
        others = []
        for place in rng.uniform(size=(4, 3)):
            twin = atoms.copy()
            twin.positions += place @ np.asarray(atoms.cell)
            twin.wrap()
            others.append(twin)
        yield from equal(subject, name, others, "moved and wrapped")


@check(
    "periodicity",
    "A supercell has as many times the energy, and the same forces and stress.",
    "Neighbours are missing or counted twice in small cells: lattice constants and phonons depend "
    "on the cell that was chosen.",
)
def supercell(subject: Subject) -> Iterator[Item]:
    """Repeated along every periodic direction, and by 2 x 2 where there are two."""
    for name, atoms in subject.need(*PERIODIC).items():
        axes = np.flatnonzero(atoms.pbc)
        energy, forces = subject.both(atoms)
        stress = subject.stress(atoms) if subject.gives_stress and name == "crystal" else None
        repeats = [np.where(np.arange(3) == axis, 2, 1) for axis in axes]
        repeats.append(np.where(atoms.pbc, 2, 1) if len(atoms) <= 16 else np.ones(3, dtype=int))
        for repeat in repeats:
            copies = int(np.prod(repeat))
            if copies == 1:
                continue
            twin = atoms.repeat(tuple(repeat))
            e, f = subject.both(twin)
            changes: list[ArrayLike] = [e / copies - energy, f - np.tile(forces, (copies, 1))]
            if stress is not None:
                changes.append(subject.stress(twin) - stress)
            yield from _judged(subject, name, f"{name} {'x'.join(map(str, repeat))}", changes)


@check(
    "periodicity",
    "Another choice of cell vectors for the same lattice changes nothing.",
    "Triclinic cells lose neighbours, or their stress is turned; constant-pressure runs that shear "
    "the cell drift.",
)
def cell_choice(subject: Subject) -> Iterator[Item]:
    """Skewed by integer matrices of determinant 1 and -1 (a left-handed cell)."""
    rng = subject.random()
    for name, atoms in subject.need(*PERIODIC).items():
        energy, forces = subject.both(atoms)
        stress = subject.stress(atoms) if subject.gives_stress and name == "crystal" else None
        for matrix in _unimodular(rng, atoms.pbc):
            twin = recelled(atoms, matrix)
            e, f = subject.both(twin)
            hand = "left-handed" if np.linalg.det(matrix) < 0 else "skewed"
            changes: list[ArrayLike] = [e - energy, f - forces]
            if stress is not None:
                changes.append(subject.stress(twin) - stress)
            yield from _judged(subject, name, f"{name}, {hand}", changes)


def _judged(
    subject: Subject, name: str, what: str, changes: Sequence[ArrayLike]
) -> Iterator[Measured]:
    """Changes of energy, forces and, if there is one, stress against rounding of a structure."""
    limits = (subject.energy_limit(name), subject.force_limit(name), subject.stress_limit(name))
    labels = (("energy", "eV"), ("forces", "eV/Å"), ("stress", "eV/Å³"))
    for (label, unit), change, limit in zip(labels, changes, limits, strict=False):
        yield Measured(f"{label}, {what}", largest(change), unit, limit)


def recelled(atoms: Atoms, matrix: Array) -> Atoms:
    """The same atoms with cell vectors ``matrix @ cell``."""
    twin = atoms.copy()
    twin.set_cell(matrix @ np.asarray(atoms.cell), scale_atoms=False)
    return twin


def _unimodular(rng: np.random.Generator, pbc: Array) -> list[Array]:
    """Integer matrices that mix periodic directions only: two of determinant 1, one of -1."""
    axes = np.flatnonzero(pbc)
    if len(axes) < 2:
        raise NotApplicableError("a single periodic direction leaves no choice of cell")
    found = []
    for sign in (1, 1, -1):
        matrix = np.eye(3)
        for _ in range(2):
            i, j = rng.choice(axes, size=2, replace=False)
            matrix[i] += rng.choice([-1, 1]) * matrix[j]
        matrix[axes[0]] *= sign
        found.append(matrix)
    return found
