"""What may not change an energy: orientation, handedness, place, and the order of atoms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..comparison import turned
from .findings import Array, Item, Measured, check
from .subject import Subject, largest

ORIENTATIONS = 8
# ml-peg, issue 834: as built, a walk of 14 relative turns of 1° to 40°, and random orientations.
WALK = np.linspace(1.0, 40.0, 14)
WALK_RANDOM = 20  # of their 100
APPROXIMATE = 0.1  # of the validation error of forces: what orientation may add to it


@check(
    "symmetry",
    "A turned structure has the same energy, and its forces and stress turn with it.",
    "Free clusters start to spin by themselves; phonons and relaxed cells depend on how a crystal "
    "lies in its axes.",
)
def rotation(subject: Subject) -> Iterator[Item]:
    """Random proper rotations; a walk as that of ml-peg for the free structure."""
    rotations = Rotation.random(ORIENTATIONS, rng=subject.random()).as_matrix()
    yield from _turned(subject, rotations)
    if "free" in subject.structures:
        yield from _walk(subject)


@check(
    "symmetry",
    "The mirror image of a structure has the same energy, and mirrored forces and stress.",
    "Enantiomers differ in energy, and crystals with inversion symmetry have forces that break it.",
)
def inversion(subject: Subject) -> Iterator[Item]:
    """Random improper rotations."""
    rotations = Rotation.random(ORIENTATIONS // 2, rng=subject.random()).as_matrix()
    yield from _turned(subject, np.concatenate([[-np.eye(3)], -rotations]))


@check(
    "symmetry",
    "A structure that is moved as a whole has the same energy and forces.",
    "A net force moves the whole system, and momentum is not conserved.",
)
def translation(subject: Subject) -> Iterator[Item]:
    """Moved by up to 5 Å; and the sum of all forces."""
    rng = subject.random()
    for name, atoms in subject.structures.items():
        moved = []
        for shift in rng.uniform(-5, 5, size=(4, 3)):
            twin = atoms.copy()
            twin.positions += shift
            moved.append(twin)
        yield from equal(subject, name, moved, "moved")
        net = largest(subject.forces(atoms).sum(axis=0))
        limit = subject.force_limit(name) * np.sqrt(len(atoms))
        yield Measured(f"net force, {name}", net, "eV/Å", limit)


@check(
    "symmetry",
    "The order in which atoms are listed changes nothing.",
    "Sorting or appending atoms changes results; equal files give different energies.",
)
def permutation(subject: Subject) -> Iterator[Item]:
    """Four random orders."""
    rng = subject.random()
    for name, atoms in subject.structures.items():
        orders = [rng.permutation(len(atoms)).astype(np.int64) for _ in range(4)]
        yield from equal(subject, name, [atoms[order] for order in orders], "reordered", orders)


def equal(
    subject: Subject,
    name: str,
    others: list[Atoms],
    what: str,
    orders: list[NDArray[np.int64]] | None = None,
) -> Iterator[Measured]:
    """Compare structures with one of the subject's: energies and forces, of atoms in an order."""
    energy, forces = subject.both(subject.structures[name])
    found = [subject.both(atoms) for atoms in others]
    rows = orders or [np.arange(len(forces), dtype=np.int64)] * len(others)
    of_energy = largest(np.array([e - energy for e, _ in found]))
    of_forces = largest(np.array([f - forces[k] for (_, f), k in zip(found, rows, strict=True)]))
    yield Measured(f"energy, {name} {what}", of_energy, "eV", subject.energy_limit(name))
    yield Measured(f"forces, {name} {what}", of_forces, "eV/Å", subject.force_limit(name))


def _turned(subject: Subject, matrices: Array) -> Iterator[Item]:
    for name, atoms in subject.structures.items():
        energy, forces = subject.both(atoms)
        stress = subject.gives_stress and name == "crystal"
        reference = subject.stress(atoms) if stress else np.zeros((3, 3))
        worst = np.zeros(3)
        for matrix in matrices:
            twin = turned(atoms, matrix)
            e, f = subject.both(twin)
            s = subject.stress(twin) if stress else np.zeros((3, 3))
            back = (e - energy, f @ matrix.T - forces, matrix @ s @ matrix.T - reference)
            worst = np.maximum(worst, [largest(np.asarray(x)) for x in back])
        yield from _judged(subject, name, worst, stress)


def _judged(subject: Subject, name: str, worst: Array, stress: bool) -> Iterator[Item]:
    """Exactness is judged by rounding; what is learned, by the model's own error of forces."""
    atoms = len(subject.structures[name])
    limits = (subject.energy_limit(name), subject.force_limit(name), subject.stress_limit(name))
    labels = ("energy", "forces", "stress")
    units = ("eV", "eV/Å", "eV/Å³")
    shown = list(zip(labels, worst, limits, units, strict=True))[: 3 if stress else 2]
    for label, value, limit, unit in shown:
        what = f"{label}, {name} turned"
        if subject.exact:
            yield Measured(what, value, unit, limit)
        elif label == "forces" and subject.force_error is not None:
            allowed = APPROXIMATE * subject.force_error
            yield Measured(what, value, unit, max(limit, allowed))
            yield Measured(f"{what}, as if exact", value, unit, limit, soft=True)
        else:
            yield Measured(f"{what}, as if exact", value, unit, limit, soft=True)
    if not subject.exact:
        yield f"energy of the {name} turned: {1000 * worst[0] / atoms:.3g} meV/atom at most"


def _walk(subject: Subject) -> Iterator[Item]:
    """Mean and largest difference over all pairs of orientations, per atom, as ml-peg has it."""
    atoms, rng = subject.structures["free"], subject.random()
    axes = rng.normal(size=(len(WALK), 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    matrices = [np.eye(3)]
    for axis, angle in zip(axes, WALK, strict=True):
        matrices.append(matrices[-1] @ Rotation.from_rotvec(np.radians(angle) * axis).as_matrix())
    matrices += list(Rotation.random(WALK_RANDOM, rng=rng).as_matrix())
    energies, forces = [], []
    for matrix in matrices:
        energy, force = subject.both(turned(atoms, matrix))
        energies.append(energy / len(atoms))
        forces.append(force @ matrix.T)
    first, second = np.triu_indices(len(matrices), k=1)
    gaps = 1000 * np.abs(np.array(energies)[first] - np.array(energies)[second])
    errors = [
        1000 * np.abs(forces[i] - forces[j]).mean() for i, j in zip(first, second, strict=True)
    ]
    for what, values, unit in (
        ("|ΔE|", gaps, "meV/atom"),
        ("force MAE", np.array(errors), "meV/Å"),
    ):
        yield Measured(f"ml-peg rotation walk, {what}, mean", float(values.mean()), unit)
        yield Measured(f"ml-peg rotation walk, {what}, max", float(values.max()), unit)
