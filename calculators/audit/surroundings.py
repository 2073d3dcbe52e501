"""What a calculator does beside others in its process: threads, memory, and input that is wrong."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
from ase import Atoms
from scipy.stats import theilslopes

from .conduct import Answer, ask, first_line, repeatable
from .findings import Item, Measured, check
from .subject import NotApplicableError, Subject, largest
from .time_limit import OverdueError, time_limit

ROUNDS = 20  # of all structures in each thread, or as many as fit into SECONDS
CALLS = 2000
SECONDS = 20.0  # for a measurement of memory, after a warm-up of a tenth of it
SAMPLES = 20
LEAK = 1.0  # MB per 1,000 calls: a gigabyte in a run of a million steps
PAGE = 2.0  # MB, a huge page: what an allocator takes at once tells nothing
UNKNOWN = 118  # oganesson, of which no potential has data
REPULSION = 10.0  # eV: two H atoms at 0.1 Å repel with 100 eV, and all others with more
PATIENCE = 30.0  # s for an answer to input that makes no sense, or as long as SLOWER right ones
SLOWER = 20


@check(
    "conduct",
    "Two calculators of different precision, in two threads, do not disturb each other.",
    "Numbers are wrong by single precision, or change from run to run, in servers, committees and "
    "comparisons of models in one script.",
)
def threads(subject: Subject) -> Iterator[Item]:
    """Each alone, and both at the same time; and what making one does to torch's default type."""
    if subject.build is None:
        raise NotApplicableError("no second calculator can be made of it")
    made, alone, changed = {}, {}, 0
    for precision in ("float64", "float32"):
        before = _default_type()
        made[precision] = Subject(subject.build(precision), subject.structures, seed=subject.seed)
        changed += _restored(before)
        alone[precision] = _round(made[precision])
    yield Measured("changes of torch's default type", changed, "", 0)
    start = Barrier(2)

    def repeated(precision: str) -> list[dict[str, Answer]]:
        start.wait()
        end = time.perf_counter() + SECONDS / 4
        found: list[dict[str, Answer]] = []
        while len(found) < 2 or (len(found) < ROUNDS and time.perf_counter() < end):
            found.append(_round(made[precision]))
        return found

    with ThreadPoolExecutor(2) as pool:
        together = dict(zip(made, pool.map(repeated, made), strict=True))
    for precision, twin in made.items():
        for name in subject.structures:
            limits = repeatable(twin, name)
            for key, unit in (("energy", "eV"), ("forces", "eV/Å")):
                expected = alone[precision][name][key]
                change = max(largest(found[name][key] - expected) for found in together[precision])
                yield Measured(f"{key}, {name}, {precision}", change, unit, limits[key])
    yield f"rounds: {' and '.join(str(len(found)) for found in together.values())}"


@check(
    "conduct",
    "Memory does not grow with the number of calls.",
    "Long runs end without a word, killed for memory, after days.",
)
def memory(subject: Subject) -> Iterator[Item]:
    """Resident memory over up to 2,000 calls of the smallest structure, slightly moved each time.

    The slope is the median of those of all pairs of samples, so that a single growth of a pool
    counts little. What the samples' scatter leaves open (95 %) is no leak, and neither is a huge
    page: a few calls of a slow calculator tell little.
    """
    resident = resident_memory()
    atoms = min(subject.structures.values(), key=len)
    rng = subject.random()

    def call() -> None:
        twin = subject.fresh(atoms)
        twin.positions += rng.normal(scale=0.01, size=twin.positions.shape)
        ask(twin)

    warm = _repeat(call, CALLS // 10, SECONDS / 10)
    done, calls, sizes = 0, [], []
    for _ in range(SAMPLES):
        done += _repeat(call, CALLS // SAMPLES, SECONDS / SAMPLES)
        gc.collect(1)  # a full one takes as long as many calls
        calls.append(done)
        sizes.append(resident())
    slope, _, low, _ = theilslopes(sizes, calls, alpha=0.95)
    limit = LEAK + 1000 * max(slope - low, PAGE / done)
    yield Measured(f"growth over {done} calls", max(1000 * slope, 0.0), "MB/1000 calls", limit)
    yield f"{warm} calls to warm up, {done} measured; {sizes[-1]:.0f} MB at the end"


@check(
    "conduct",
    "Input that makes no sense is refused, or has an answer that shows it.",
    "A broken step, file or element goes unnoticed, and what follows looks like a result.",
)
def inputs(subject: Subject) -> Iterator[Item]:
    """A NaN, two atoms in one place, an element that does not exist, no cell, stress of a molecule.

    A finite energy and forces of NaN fail, other silent answers warn, and so do a finite energy
    of NaN whose forces show it, and no answer in time; repulsion of atoms in one place, and results
    that are no numbers, are honest.
    """
    name, atoms = next(iter(subject.need("free", "slab", "crystal").items()))
    start = time.perf_counter()
    energy = subject.energy(atoms)
    patience = max(PATIENCE, SLOWER * (time.perf_counter() - start))
    for what, change, honest in (
        ("a NaN position", _nan, lambda e: False),
        ("two atoms in one place", _overlap, lambda e: e - energy > REPULSION),
        ("an unknown element", _unknown, lambda e: _blind(subject, name)),
        ("periodic without a cell", _no_cell, lambda e: False),
    ):
        twin = atoms.copy()
        change(twin)
        try:
            with time_limit(patience):
                silent, shows, words = _outcome(subject, twin, honest)
        except OverdueError:
            silent, shows, words = True, True, f"no answer within {patience:.0f} s"
        nan = change is _nan
        silent |= nan and shows
        yield Measured(f"silent: {what}", float(silent), "", 0, soft=shows or not nan)
        yield f"{what}: {words}"
    if subject.gives_stress:
        silent, words = _stress_outcome(subject, atoms)
        yield Measured("silent: stress of a molecule", float(silent), "", 0, soft=True)
        yield f"stress of a molecule: {words}"
    after = abs(subject.energy(atoms) - energy)
    limit = subject.energy_limit(name)
    yield Measured(f"energy, {name}, after all of these", after, "eV", limit)


def _round(subject: Subject) -> dict[str, Answer]:
    return {name: ask(subject.fresh(atoms)) for name, atoms in subject.structures.items()}


def _repeat(call: Callable[[], None], most: int, seconds: float) -> int:
    """Call up to ``most`` times, at least once, within some time; returns how often."""
    end, count = time.perf_counter() + seconds, 0
    while count == 0 or (count < most and time.perf_counter() < end):
        call()
        count += 1
    return count


def _default_type() -> Any:
    """Torch's default type, if anybody imported torch."""
    torch = sys.modules.get("torch")
    return None if torch is None else torch.get_default_dtype()


def _restored(before: Any) -> int:
    """Whether torch's default type has changed, which is put right again for those to come."""
    if before is None or _default_type() == before:
        return 0
    sys.modules["torch"].set_default_dtype(before)
    return 1


def resident_memory() -> Callable[[], float]:
    """A function that tells the process's own memory in MB; elsewhere its largest so far.

    Pages of files are not counted, which the system drops and reads again as it likes.
    """
    statm = Path("/proc/self/statm")
    if statm.exists():
        page = os.sysconf("SC_PAGE_SIZE")

        def own() -> float:
            resident, of_files = statm.read_text().split()[1:3]
            return (int(resident) - int(of_files)) * page / 1e6

        return own
    try:
        import resource
    except ImportError:
        raise NotApplicableError("this system does not tell a process's memory") from None
    unit = 1 if sys.platform == "darwin" else 1024
    return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _nan(atoms: Atoms) -> None:
    atoms.positions[-1, 2] = np.nan


def _overlap(atoms: Atoms) -> None:
    if len(atoms) > 1:
        atoms.positions[1] = atoms.positions[0]
    else:
        atoms.extend(atoms.copy())


def _unknown(atoms: Atoms) -> None:
    atoms.numbers[0] = UNKNOWN


def _no_cell(atoms: Atoms) -> None:
    atoms.set_cell(np.zeros((3, 3)))
    atoms.pbc = True


def _blind(subject: Subject, name: str) -> bool:
    """Whether the calculator does not look at elements at all, as Lennard-Jones."""
    atoms = subject.structures[name]
    known = {int(z) for other in subject.structures.values() for z in other.numbers}
    others = known - {int(atoms.numbers[0])}
    twin = atoms.copy()
    twin.numbers[0] = min(others, default=atoms.numbers[0])
    change = abs(subject.energy(twin) - subject.energy(atoms))
    return bool(others) and change <= subject.energy_limit(name)


def _outcome(
    subject: Subject, atoms: Atoms, honest: Callable[[float], bool]
) -> tuple[bool, bool, str]:
    """Whether an answer looks like a result and is none, whether forces alone show that, and words.

    Args:
        subject: tells energies and forces.
        atoms: what is asked about.
        honest: whether a finite energy may be right.
    """
    try:
        energy = subject.energy(atoms)
        if not np.isfinite(energy):
            return False, False, f"an energy of {energy} eV"
        forces = subject.forces(atoms)
    except Exception as refusal:  # in whatever class a calculator says no
        return False, False, first_line(refusal)
    if not np.isfinite(forces).all():
        largest_force = np.abs(forces).max()
        return False, True, f"an energy of {energy:.6g} eV, and forces of {largest_force} eV/Å"
    if honest(energy):
        return False, False, f"an energy of {energy:.6g} eV, as it may be"
    return True, False, f"an energy of {energy:.6g} eV without a word"


def _stress_outcome(subject: Subject, atoms: Atoms) -> tuple[bool, str]:
    twin = atoms.copy()
    twin.set_cell(np.zeros((3, 3)))
    twin.pbc = False
    try:
        stress = subject.stress(twin)
    except Exception as refusal:
        return False, first_line(refusal)
    silent = bool(np.isfinite(stress).all())
    return silent, f"a stress of up to {np.abs(stress).max():.6g} eV/Å³"
