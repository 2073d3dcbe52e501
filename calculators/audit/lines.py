"""Energy and force along a path, and the search for places where they jump.

What three points on the left of an interval foretell of its middle is compared with what three on
its right do. Of a smooth function the two differ by the cube of the interval; a jump stays however
small the interval becomes. Intervals that stand out from those around them are halved, following
the jump: the middle belongs to the side that foretold it. A jump that is smaller than what the
function itself does between points of the grid is found only where one knows to look (``near``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from .findings import Item, Measured
from .subject import (
    EPSILON,
    MARGIN,
    POINTS,
    STEP,
    STIFFNESS,
    Array,
    NotApplicableError,
    Subject,
    epsilon,
    fourth_differences,
)

Function = Callable[[float], Array]  # x -> (k,) values
REFUSALS = (ValueError, NotImplementedError)
WIDTH = 1e-8  # Å, of the last interval
NEAREST = 3  # points on either side that foretell a value
NEAR = 1e-3  # Å, grid around a place where one knows to look
HALVINGS = 3  # before new points are taken beside an interval
LEAST = (1e-8, 1e-6)  # eV, eV/Å: jumps that nobody wants to know of
# What a simulation can bear. Some 30 neighbours per Å pass the cutoff of an atom: jumps of 1e-5 eV
# are below 1 meV/atom. A time step that crosses a jump of the force errs by the jump times what an
# atom moves in it, 0.005 Å, with either sign: 1e5 crossings in 1 ns add up to 1 meV.
ENERGY_JUMP = 1e-5
FORCE_JUMP = 1e-3
MOST_PAIRS = 10
# No axis, no diagonal: what is special in some direction is no judge of distances.
DIRECTION = np.array([0.36, 0.48, 0.80])


@dataclass(frozen=True)
class Path:
    """Atoms that move along a straight line.

    Attributes:
        atoms: at x = 0.
        displacement: (N, 3), what x = 1 Å moves them by.
    """

    subject: Subject
    atoms: Atoms
    displacement: Array

    def __call__(self, x: float) -> Array:
        """Energy, eV, and force along the path, -dE/dx, eV/Å."""
        energy, forces = self._at(x)
        return np.array([energy, (forces * self.displacement).sum()])

    def noise(self, x: float) -> Array:
        """Rounding of the two values at x, standard deviations; see :mod:`.subject`."""
        found = [self._at(x + k * STEP) for k in range(POINTS)]
        energies = np.array([e for e, _ in found])
        forces = np.stack([f for _, f in found])
        values = np.stack([energies, (forces * self.displacement).sum(axis=(1, 2))], axis=1)
        measured = np.sqrt((fourth_differences(values) ** 2).mean(axis=0))
        places = self.atoms.positions + x * self.displacement
        reach = np.abs(places).max() + np.abs(np.asarray(self.atoms.cell)).max() + 1.0
        work = np.abs(forces).sum(axis=(1, 2)).max() * reach
        norm = float(np.linalg.norm(self.displacement))
        of_energy = epsilon(energies) * np.abs(energies).max() + EPSILON * work
        of_force = epsilon(forces) * np.abs(forces).max() + EPSILON * STIFFNESS * reach
        return np.maximum(measured, [of_energy, of_force * norm])

    def _at(self, x: float) -> tuple[float, Array]:
        twin = self.atoms.copy()
        twin.positions += x * self.displacement
        return self.subject.both(twin)


@dataclass(frozen=True)
class Jump:
    """What is left of a gap at a place, (k,) sizes, and what rounding explains of it."""

    place: float
    sizes: Array
    allowed: Array

    @property
    def excess(self) -> float:
        """The largest size over what is allowed."""
        return float((self.sizes / self.allowed).max())


def find_jumps(
    function: Function,
    grid: Array,
    noise: Function,
    *,
    least: tuple[float, ...] = LEAST,
    width: float = WIDTH,
    near: tuple[float, ...] = (),
) -> tuple[Array, list[Jump]]:
    """Look for jumps of a function; returns its values (n, k) on the grid, and all suspects.

    Args:
        function: gives k values at some x.
        grid: (n,), ascending and even.
        noise: standard deviations (k,) of the values at some x.
        least: (k,), jumps that nobody wants to know of.
        width: of the interval at which halving ends.
        near: places to look at with a finer grid, whatever stands out.
    """
    values = np.stack([function(float(x)) for x in grid])
    if not np.isfinite(values).all():
        return values, []
    chosen = {(i, k) for k in range(values.shape[1]) for i in _suspects(grid, values[:, k])}
    starts: list[tuple[Array, Array, int]] = []
    for i, followed in sorted(chosen):
        window = slice(i + 1 - NEAREST, i + 1 + NEAREST)
        starts.append((grid[window], values[window], followed))
    for place in near:
        x = np.array([place + NEAR * (k - NEAREST + 0.5) for k in range(2 * NEAREST)])
        starts.append((x, np.stack([function(float(at)) for at in x]), 0))
    jumps = [_close_in(function, start, noise, np.array(least), width) for start in starts]
    return values, jumps


def of_numbers(what: str, values: Array) -> Iterator[Item]:
    """A failure where energies or forces (n, 2) are no numbers."""
    bad = int((~np.isfinite(values)).any(axis=1).sum())
    if bad:
        where = f"energy or force is no number at {bad} of {len(values)} points, {what}"
        yield Measured(where, np.nan, "eV", 1.0)


def of_jumps(what: str, jumps: list[Jump], place: str) -> Iterator[Item]:
    """The largest jumps of energy and force: what simulations bear, and what rounding explains."""
    for k, (name, unit, bearable) in enumerate(
        (("energy", "eV", ENERGY_JUMP), ("force", "eV/Å", FORCE_JUMP))
    ):
        if not jumps:
            continue
        worst = max(jumps, key=lambda jump: jump.sizes[k] / jump.allowed[k])
        size, allowed = float(worst.sizes[k]), float(worst.allowed[k])
        where = f"{name} jump, {what}, {place.format(worst.place)}"
        yield Measured(where, size, unit, max(allowed, bearable))
        yield Measured(f"{where}, beyond rounding", size, unit, allowed, soft=True)


def dimers(subject: Subject) -> tuple[dict[str, Path], list[str]]:
    """Pairs of all species that the calculator takes, by name, and notes; x is their distance, Å.

    Raises:
        NotApplicableError: it takes none.
    """
    species = sorted({int(z) for atoms in subject.structures.values() for z in atoms.numbers})
    pairs = list(combinations_with_replacement(species, 2))
    found, notes = {}, []
    if len(pairs) > MOST_PAIRS:
        notes.append(f"{MOST_PAIRS} of {len(pairs)} pairs of species were looked at")
    for pair in pairs[:MOST_PAIRS]:
        atoms = subject.alone(pair, np.zeros((2, 3)))
        path = Path(subject, atoms, np.stack([np.zeros(3), DIRECTION]))
        name = "-".join(chemical_symbols[z] for z in pair)
        try:
            path(1.2 * bond_length(path))
        except REFUSALS as refusal:
            notes.append(f"no {name} dimer: {refusal}")
        else:
            found[name] = path
    if not found:
        raise NotApplicableError("; ".join(notes))
    return found, notes


def bond_length(path: Path) -> float:
    """Sum of covalent radii of a dimer, Å."""
    return float(covalent_radii[path.atoms.numbers].sum())


def _suspects(grid: Array, values: Array, count: int = 2) -> list[int]:
    """Intervals with the largest gap, and those whose gap is largest among those around."""
    n, reach = len(grid) - 1, NEAREST - 1
    gaps = np.zeros(n)
    for i in range(reach, n - reach):
        window = slice(i - reach, i + 2 + reach)
        left, right = _foretell(grid[window], values[window])
        gaps[i] = abs(right - left)
    floor = 100 * EPSILON * np.abs(values).max() + np.finfo(float).tiny
    scores = np.zeros(n)
    for i in range(reach, n - reach):
        # A jump shows in the two intervals beside its own as well.
        around = [j for j in range(i - 6, i + 7) if reach <= j < n - reach and abs(i - j) > reach]
        scores[i] = gaps[i] / (np.median(gaps[around]) + floor) if around else 0.0
    found: list[int] = []
    for ranking, many in ((scores, count), (gaps, 1)):
        rest = ranking.copy()
        for _ in range(many):
            best = int(rest.argmax())
            if rest[best] > 0:
                found.append(best)
            rest[max(best - reach, 0) : best + reach + 1] = 0
    return sorted(set(found))


def _close_in(
    function: Function,
    start: tuple[Array, Array, int],
    noise: Function,
    least: Array,
    width: float,
) -> Jump:
    """Halve the middle interval of six points until it is narrow, or until no gap is left in it.

    ``start`` has the points, their values, and the column whose jump is followed.
    """
    (x, values, followed), allowed = start, least
    place = float(x[0])
    while True:
        left, right = _foretell(x, values)
        gaps = np.abs(right - left)
        if allowed is least and (gaps > least).any():
            allowed = least + MARGIN * noise(place)
        if (gaps <= allowed).all() or x[NEAREST] - x[NEAREST - 1] < width:
            return Jump(float(x.mean()), gaps, allowed)
        for _ in range(HALVINGS):
            x, values = _halve(function, x, values, followed)
        x, values = _even(function, x, values)


def _halve(function: Function, x: Array, values: Array, followed: int) -> tuple[Array, Array]:
    """The six points around that half of the middle interval in which the jump is."""
    middle = float(x[NEAREST - 1] + x[NEAREST]) / 2
    left, right = _foretell(x, values)
    value = function(middle)
    x, values = np.insert(x, NEAREST, middle), np.insert(values, NEAREST, value, axis=0)
    first = int(abs(value - left)[followed] <= abs(value - right)[followed])
    return x[first : first + 2 * NEAREST], values[first : first + 2 * NEAREST]


def _even(function: Function, x: Array, values: Array) -> tuple[Array, Array]:
    """The same interval with points as close to it as it is wide: far ones foretell badly."""
    a, b = NEAREST - 1, NEAREST
    even = x[a] + (x[b] - x[a]) * (np.arange(2 * NEAREST) - a)
    even[b] = x[b]
    rows = [values[k] if k in (a, b) else function(float(at)) for k, at in enumerate(even)]
    return even, np.stack(rows)


def _foretell(x: Array, values: Array) -> tuple[Array, Array]:
    """Values in the middle of six points, by parabolas through the left and the right three."""
    middle = (x[NEAREST - 1] + x[NEAREST]) / 2
    left = _lagrange(x[:NEAREST] - middle) @ values[:NEAREST]
    return left, _lagrange(x[NEAREST:] - middle) @ values[NEAREST:]


def _lagrange(x: Array) -> Array:
    """Weights of values at x for their polynomial's value at 0."""
    others = [np.delete(x, k) for k in range(len(x))]
    return np.array([np.prod(o / (o - at)) for o, at in zip(others, x, strict=True)])
