"""What may not change an energy: orientation, handedness, place, and the order of atoms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..comparison import turned
from .findings import Curve, Item, Measured, check
from .subject import Array, Subject, largest

ORIENTATIONS = 8
# ml-peg, issue 834: as built, a walk of 14 relative turns of 1° to 40°, and random orientations.
WALK = np.linspace(1.0, 40.0, 14)
WALK_RANDOM = 20  # of their 100
# Of a model that is not exact: the share of its validation error of forces that would be gone
# without its dependence on orientation (they add in quadrature).
APPROXIMATE = 0.1
UNITS = ("eV", "eV/Å", "eV/Å³")


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
        found: dict[str, list[Array]] = {"energy": [], "forces": []}
        if subject.gives_stress and name == "crystal":
            found["stress"] = []
        for matrix in [np.eye(3), *matrices]:
            twin = turned(atoms, matrix)
            energy, forces = subject.both(twin)
            found["energy"].append(np.array(energy))
            found["forces"].append(forces @ matrix.T)
            if "stress" in found:
                found["stress"].append(matrix @ subject.stress(twin) @ matrix.T)
        yield from _judged(subject, name, {key: np.stack(value) for key, value in found.items()})


def _judged(subject: Subject, name: str, found: dict[str, Array]) -> Iterator[Item]:
    """Exactness is judged by rounding; what is learned, by the model's own error of forces."""
    limits = (subject.energy_limit(name), subject.force_limit(name), subject.stress_limit(name))
    for (label, values), limit, unit in zip(found.items(), limits, UNITS, strict=False):
        change = largest(values[1:] - values[0])
        yield Measured(f"{label}, {name} turned", change, unit, limit, soft=not subject.exact)
    if subject.exact:
        return
    spread = float(np.sqrt(found["forces"].var(axis=0, ddof=1).mean()))
    of_energy = 1000 * float(found["energy"].std(ddof=1)) / len(subject.structures[name])
    yield (
        f"{name}: turns change energies by {of_energy:.2g} meV/atom and forces by "
        f"{1000 * spread:.2g} meV/Å (rms); symmetrize='ecse' or symmetric layers remove that"
    )
    if name == "crystal" and subject.force_error is not None:
        share = 1 - np.sqrt(max(0.0, 1 - (spread / subject.force_error) ** 2))
        yield Measured("share of the validation error that is orientation", share, "", APPROXIMATE)


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
    steps = np.linspace(0, 1, len(gaps))
    text = "|ΔE| of two orientations (meV/atom)"
    yield Curve("orientation", "free", text, "share of pairs below", np.sort(gaps), steps, "x")
    for what, values, unit in (
        ("|ΔE|", gaps, "meV/atom"),
        ("force MAE", np.array(errors), "meV/Å"),
    ):
        yield Measured(f"ml-peg rotation walk, {what}, mean", float(values.mean()), unit)
        yield Measured(f"ml-peg rotation walk, {what}, max", float(values.max()), unit)
