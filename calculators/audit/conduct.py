"""How a calculator behaves towards its caller: what it changes, remembers and repeats."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.constraints import FixAtoms

from .findings import Item, Measured, check
from .subject import MARGIN, Array, NotApplicableError, Subject, largest

SINGLE = float(np.finfo(np.float32).eps)
BOND = 10.0  # eV and eV/Å, of one bond: what cancels in a sum of forces or energies
BATCH = 8  # structures of one kind in a batch
WIDER = 1.2  # more than any skin of a list of neighbours

GETTERS: dict[str, Callable[[Atoms], Any]] = {
    "energy": Atoms.get_potential_energy,
    "forces": Atoms.get_forces,
    "stress": Atoms.get_stress,  # as it is in the results: another form would be a copy
}
Answer = dict[str, Array]
Change = Callable[[Atoms], None]


@check(
    "conduct",
    "Asking for energy, forces and stress leaves the structure, and earlier answers, as they were.",
    "Trajectories hold other structures than those that were computed; two analyses in one script "
    "disturb each other.",
)
def mutation(subject: Subject) -> Iterator[Item]:
    """Structures with atoms outside the cell, notes, arrays and constraints; edited answers."""
    for name, atoms in subject.structures.items():
        keys = ["forces", "energy", *(["stress"] if _has_stress(subject, name) else [])]
        twin = subject.fresh(atoms)
        _furnish(twin)
        before = _contents(twin)
        ask(twin, *keys)
        changed = _changed(before, _contents(twin))
        yield Measured(f"changed of {name}: {', '.join(changed) or 'nothing'}", len(changed), "", 0)
        answers = ask(subject.fresh(atoms), *keys)
        kept = copy.deepcopy(answers)
        _distract(subject, atoms)
        held = {key for key in keys if not np.array_equal(answers[key], kept[key])}
        live = subject.fresh(atoms)
        for array in ask(live, *keys).values():
            if array.ndim and array.flags.writeable:
                array += 1.0
        later = ask(live, *keys)
        held |= {key for key in keys if largest(later[key] - kept[key]) > 0.5}
        what = f"answers for {name} that do not last: {', '.join(sorted(held)) or 'none'}"
        yield Measured(what, len(held), "", 0)


@check(
    "conduct",
    "Every change of the structure, in place or not, reaches the next answer.",
    "Loops over structures, Monte Carlo and cell relaxations use results of an earlier structure, "
    "without a word.",
)
def caches(subject: Subject) -> Iterator[Item]:
    """One Atoms object changed step by step, and two in turn, against a fresh calculation each."""
    name, atoms = next(iter(subject.need("crystal", "slab", "free").items()))
    state = atoms.copy()
    state.set_constraint()
    steps, expected, idle = [], [_forgetful(subject, state)], []
    for what, change in _changes(state, _species(subject)):
        trial = state.copy()
        change(trial)
        try:
            answer = _forgetful(subject, trial)
        except Exception as refusal:  # a refused structure is no stale answer
            yield f"{what}: not tried, the calculator says: {first_line(refusal)}"
            continue
        if all(m.excess <= 1 for m in _against(subject, name, what, answer, expected[-1])):
            idle.append(what)
        state = trial
        steps.append((what, change))
        expected.append(answer)
    yield f"of no effect on this calculator: {', '.join(idle) or 'nothing'}"
    live = subject.fresh(atoms)
    yield from _against(subject, name, "unchanged", ask(live, *expected[0]), expected[0])
    for (what, change), answer in zip(steps, expected[1:], strict=True):
        change(live)
        yield from _against(subject, name, what, ask(live, *answer), answer)
    first, second = subject.fresh(atoms), state
    second.calc = subject.calculator
    for turn, (one, answer) in enumerate([(first, expected[0]), (second, expected[-1])] * 2):
        what = f"structure {turn + 1} of A, B, A, B"
        yield from _against(subject, name, what, ask(one, *answer), answer)


@check(
    "conduct",
    "The same structure has the same energy and forces, whenever it is asked for.",
    "Runs cannot be repeated, and energy is not conserved: numbers depend on chance or on history.",
)
def determinism(subject: Subject) -> Iterator[Item]:
    """Three times, with other structures between."""
    equal = True
    for name, atoms in subject.structures.items():
        answers = []
        for _ in range(3):
            answers.append(ask(subject.fresh(atoms)))
            _distract(subject, atoms)
        first, *others = answers
        limits = repeatable(subject, name)
        for key, unit in (("energy", "eV"), ("forces", "eV/Å")):
            change = max(largest(other[key] - first[key]) for other in others)
            equal &= change == 0
            yield Measured(f"{key}, {name} again", change, unit, limits[key])
    yield "the same to the bit" if equal else "not the same to the bit"


@check(
    "conduct",
    "Structures in a batch have the numbers that they have one by one.",
    "Screening and evaluation of many structures give other numbers than the simulation that "
    "follows.",
)
def batch(subject: Subject) -> Iterator[Item]:
    """All structures and rattled copies of them in one call of ``calculate_many``."""
    if not hasattr(subject.calculator, "calculate_many"):
        raise NotApplicableError("the calculator takes one structure at a time")
    rng = subject.random()
    names = list(subject.structures) * BATCH
    structures = [subject.structures[name].copy() for name in names]
    for atoms in structures:
        atoms.set_constraint()
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
    found = subject.calculator.calculate_many(structures, ("energy", "forces"))
    for kind in subject.structures:
        of_energy, of_forces = [], []
        for name, atoms, result in zip(names, structures, found, strict=True):
            if name == kind:
                energy, forces = subject.both(atoms)
                of_energy.append(result["energy"] - energy)
                of_forces.append(result["forces"] - forces)
        limit = subject.energy_limit(kind)
        yield Measured(f"energy, {kind} in a batch", largest(of_energy), "eV", limit)
        limit = subject.force_limit(kind)
        yield Measured(f"forces, {kind} in a batch", largest(of_forces), "eV/Å", limit)
    yield f"{len(structures)} structures at once"


def ask(atoms: Atoms, *properties: str) -> Answer:
    """Properties of atoms that have a calculator, one after another; default: forces, energy."""
    return {key: np.asarray(GETTERS[key](atoms)) for key in properties or ("forces", "energy")}


def repeatable(subject: Subject, name: str) -> dict[str, float]:
    """Largest differences of repeated answers, in eV and eV/Å.

    Chance is a part of the measured noise, which alone would excuse any: what is repeated may not
    differ by more than the rounding of float32 either, with sums in another order.
    """
    energy, forces = subject.noise(name).size
    atoms = len(subject.structures[name])
    return {
        "energy": min(subject.energy_limit(name), MARGIN * SINGLE * (energy + BOND * atoms)),
        "forces": min(subject.force_limit(name), MARGIN * SINGLE * (forces + BOND)),
    }


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__


def _has_stress(subject: Subject, name: str) -> bool:
    return subject.gives_stress and name == "crystal"


def _furnish(atoms: Atoms) -> None:
    """Give a structure all that one can carry, and an atom outside the cell."""
    atoms.positions[0] += np.asarray(atoms.pbc, dtype=np.float64) @ np.asarray(atoms.cell)
    atoms.info["audit"] = {"of": ["nested", np.arange(3)]}
    atoms.set_array("audit", np.arange(2.0 * len(atoms)).reshape(-1, 2))
    atoms.set_constraint(FixAtoms([0]))


def _contents(atoms: Atoms) -> dict[str, Any]:
    arrays = {f"arrays[{key!r}]": value for key, value in atoms.arrays.items()}
    constraints = [constraint.todict() for constraint in atoms.constraints]
    parts = {"cell": np.asarray(atoms.cell), "pbc": atoms.pbc, "constraints": constraints}
    return copy.deepcopy({**arrays, **parts, "info": atoms.info})


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    names = sorted({*before, *after})
    return [name for name in names if not _same(before.get(name), after.get(name))]


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype == float)
    return bool(one == other)


def _distract(subject: Subject, atoms: Atoms) -> None:
    """Ask about a structure of another size: nothing kept of it serves the next one."""
    other = atoms[:-1] if len(atoms) > 1 else atoms.repeat((2, 1, 1))
    with contextlib.suppress(Exception):  # a refusal distracts as well
        subject.both(other)


def _forgetful(subject: Subject, atoms: Atoms) -> Answer:
    """What a calculation gives that comes after one of another size; stress where there is one."""
    _distract(subject, atoms)
    answer = ask(subject.fresh(atoms))
    if subject.gives_stress and atoms.cell.rank == 3:
        with contextlib.suppress(PropertyNotImplementedError, NotImplementedError, ValueError):
            answer |= ask(subject.fresh(atoms), "stress")
    return answer


def _against(
    subject: Subject, name: str, what: str, found: Answer, answer: Answer
) -> Iterator[Measured]:
    """Differences of two answers, with limits of a structure of the subject."""
    limits = {
        "energy": (subject.energy_limit(name), "eV"),
        "forces": (subject.force_limit(name), "eV/Å"),
        "stress": (subject.stress_limit(name), "eV/Å³"),
    }
    for key, (limit, unit) in limits.items():
        if key not in answer or key not in found:
            continue
        change = largest(found[key] - answer[key])
        yield Measured(f"{key}, {name}, {what}", change, unit, limit)


def _species(subject: Subject) -> list[int]:
    return sorted({int(z) for atoms in subject.structures.values() for z in atoms.numbers})


def _changes(atoms: Atoms, species: list[int]) -> Iterator[tuple[str, Change]]:
    """Changes of every part of a structure; each starts from what those before it left."""
    yield "an atom moved in place", lambda a: _add(a.positions, (0, 1), 0.05)
    yield "an atom moved by 1e-5 Å", lambda a: _add(a.positions, (0, 0), 1e-5)
    if len(species) > 1:
        other = next(z for z in species if z != atoms.numbers[0])
        yield "another species in place", lambda a: _put(a.numbers, 0, other)
    yield f"all lengths times {WIDER}", lambda a: _scale(a, WIDER)
    for k in range(5):  # back in small steps, of which a kept list of neighbours has to see the sum
        yield f"all lengths shrunk, step {k + 1}", lambda a: _scale(a, WIDER**-0.2)
    if np.any(atoms.pbc):
        axis = int(np.flatnonzero(atoms.pbc)[0])
        yield "cell strained in place", lambda a: _add(a.cell, axis, 0.02 * a.cell[axis])
        yield "opened along one axis", lambda a: _put(a.pbc, axis, False)
    if "initial_magmoms" in atoms.arrays:
        moments = atoms.arrays["initial_magmoms"]
        yield "a moment in place", lambda a: _put(a.arrays["initial_magmoms"], 0, moments[0] + 1)
    else:
        ones = np.ones(len(atoms))
        yield "initial magnetic moments", lambda a: a.set_initial_magnetic_moments(ones)
    tenths = np.full(len(atoms), 0.1)
    yield "initial charges", lambda a: a.set_initial_charges(a.get_initial_charges() + tenths)
    yield "info['charge']", lambda a: a.info.update(charge=a.info.get("charge", 0) + 1)
    yield "info['spin']", lambda a: a.info.update(spin=a.info.get("spin", 1) + 1)


def _scale(atoms: Atoms, factor: float) -> None:
    atoms.positions *= factor
    atoms.set_cell(factor * np.asarray(atoms.cell), scale_atoms=False)


def _add(array: Any, index: Any, value: Any) -> None:
    array[index] += value


def _put(array: Any, index: Any, value: Any) -> None:
    array[index] = value
