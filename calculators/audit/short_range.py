"""Atoms that are pushed together repel each other, and atoms that are alone feel no force."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase.data import chemical_symbols
from scipy.stats import spearmanr

from .findings import Curve, Item, Measured, check
from .lines import DIRECTION, REFUSALS, Path, bond_length, dimers, of_numbers
from .subject import EPSILON, MARGIN, Array, NotApplicableError, Subject, largest

OUTER, INNER, POINTS = 0.9, 0.2, 36  # of the sum of covalent radii
# Of the same. The shortest bonds known, of Cr2 and Mo2, are 0.6 of it: further in all atoms repel.
SHORTEST = 0.5
RIPPLE = 0.026  # eV, k_B T at 300 K: an atom does not notice a dip of less
REACHED = 10.0  # eV above atoms that are apart; trajectories do not get over it
FAR = 60.0  # Å
# ml-peg's diatomics: distances (Å), eV/Å that count as no force, eV/Å² that count as no curvature.
DISTANCES = np.linspace(0.18, 6.0, 100)
NO_FORCE, NO_CURVATURE = 1e-2, 0.5
MOST_CURVES = 3  # pairs that ml-peg's figures are made of


@check(
    "short range",
    "Two atoms that are pushed together repel each other all the way.",
    "Atoms fall into each other in hot or dense systems, and the run explodes.",
)
def approach(subject: Subject) -> Iterator[Item]:
    """Dimers from 0.9 down to 0.2 of the sum of covalent radii; and ml-peg's figures of dimers."""
    found, notes = dimers(subject)
    yield from notes
    for pair, path in found.items():
        grid = np.linspace(OUTER, INNER, POINTS) * bond_length(path)
        grid, values, refusal = _inward(path, grid)
        if refusal:
            yield f"{pair}: refused below {grid[-1]:.2f} Å: {refusal}"
        yield from of_numbers(pair, values)
        if len(grid) > 2 and np.isfinite(values).all():
            apart = float(path(FAR)[0])
            yield from _collapse(pair, grid, values, SHORTEST * bond_length(path), apart)
            yield Curve(
                "short range", pair, "distance, Å", "energy, eV", grid, values[:, 0] - apart
            )
    yield from _diatomics(dict(list(found.items())[:MOST_CURVES]))


@check(
    "short range",
    "An atom by itself has a finite energy and no force, and two that are far apart have the sum.",
    "Cohesive and binding energies have no reference; evaporation and gases go wrong.",
)
def isolated(subject: Subject) -> Iterator[Item]:
    """Atoms of every species, alone and in pairs 60 Å apart."""
    energies: dict[str, float] = {}
    for z in sorted({int(z) for a in subject.structures.values() for z in a.numbers}):
        name = chemical_symbols[z]
        atoms = subject.alone([z], [[0.3, -0.2, 0.7]])
        try:
            energy, force = subject.both(atoms)
        except REFUSALS as refusal:
            yield f"no {name} atom: {refusal}"
            continue
        energies[name] = energy
        noise = Path(subject, atoms, DIRECTION[None]).noise(0.0)
        finite = energy if np.isfinite(energy) else np.nan
        yield Measured(f"energy of one {name}", finite, "eV")
        yield from of_numbers(f"one {name}", np.array([[energy, force.sum()]]))
        limit = MARGIN * max(float(noise[1]), EPSILON)
        yield Measured(f"force on one {name}", largest(force), "eV/Å", limit)
    if not energies:
        raise NotApplicableError("the calculator refuses single atoms")
    found, _ = dimers(subject)
    # Energies that do not depend on the distance are rounded too, and do not show it.
    rounding = max(subject.energy_limit(name) for name in subject.structures)
    for pair, path in found.items():
        first, second = pair.split("-")
        if first in energies and second in energies:
            energy, force = path(FAR)
            noise = MARGIN * (path.noise(FAR) + EPSILON)
            off = abs(energy - energies[first] - energies[second])
            limit = max(float(noise[0]), rounding)
            yield Measured(f"energy of {pair}, {FAR:.0f} Å apart", off, "eV", limit)
            yield Measured(f"force of {pair}, {FAR:.0f} Å apart", abs(force), "eV/Å", noise[1])


def _inward(path: Path, grid: Array) -> tuple[Array, Array, str]:
    """Values (n, 2) at distances until the calculator refuses one, and what it says of that."""
    values: list[Array] = []
    try:
        for x in grid:
            values.append(path(float(x)))  # noqa: PERF401  (what was found before a refusal stays)
    except REFUSALS as refusal:
        return grid[: len(values)], np.reshape(values, (-1, 2)), str(refusal)
    return grid, np.stack(values), ""


def _collapse(
    pair: str, grid: Array, values: Array, shortest: float, apart: float
) -> Iterator[Item]:
    """How far the energy falls again on the way in, once it has risen or no bond is that short."""
    energies = values[:, 0]
    rises = np.flatnonzero(np.diff(energies) > 0)
    inside = np.flatnonzero(grid <= shortest)
    starts = [*rises[:1], *inside[:1]]
    start = int(min(starts)) if starts else len(grid) - 1
    wall = np.maximum.accumulate(energies[start:])
    depths = wall - energies[start:]
    worst = int(depths.argmax())
    top = start + int(energies[start : start + worst + 1].argmax())
    depth, height = float(depths[worst]), float(energies[top] - apart)
    soft = height > REACHED
    what = f"fall of the energy on the way in, {pair}"
    if depth > RIPPLE:
        what += f", from {grid[top]:.2f} Å on"
        yield f"{pair}: energy turns over at {grid[top]:.2f} Å, {height:.3g} eV above atoms apart"
    yield Measured(what, depth, "eV", RIPPLE, soft=soft)


def _diatomics(paths: dict[str, Path]) -> Iterator[Item]:
    """ml-peg's figures, means over pairs of species; told, and not judged."""
    figures = []
    for pair, path in paths.items():
        x, values, _ = _inward(path, DISTANCES[::-1])
        if len(x) > 20 and np.isfinite(values).all():
            figures.append(_shape(x[::-1], values[::-1, 0], values[::-1, 1]))
            flips, minima, inflections, *_ = figures[-1]
            yield f"{pair}: {flips:.0f} flips, {minima:.0f} minima, {inflections:.0f} inflections"
    for k, (what, right) in enumerate(
        (
            ("sign flips of the force", "1"),
            ("minima", "1"),
            ("inflections", "1"),
            ("Spearman, repulsive side", "-1"),
            ("Spearman, attractive side", "1"),
        )
    ):
        column = np.array([figure[k] for figure in figures], dtype=float)
        column = column[np.isfinite(column)]
        if len(column):
            name = f"ml-peg diatomics, {what} ({right} is right)"
            yield Measured(name, float(column.mean()), "")


def _shape(x: Array, energies: Array, forces: Array) -> tuple[float, ...]:
    """Flips, minima, inflections, and rank correlations on both sides of the lowest point."""
    signs = np.sign(forces[np.abs(forces) >= NO_FORCE])
    second = np.gradient(np.gradient(energies, x), x)
    bends = np.sign(second[np.abs(second) >= NO_CURVATURE])
    slopes = np.diff(energies)
    minima = int(((slopes[:-1] < 0) & (slopes[1:] > 0)).sum())
    lowest = int(energies.argmin())
    sides = (slice(0, lowest + 1), slice(lowest, None))
    ranks = [
        float(spearmanr(x[side], energies[side]).statistic) if len(x[side]) > 2 else np.nan
        for side in sides
    ]
    return (float((np.diff(signs) != 0).sum()), minima, float((np.diff(bends) != 0).sum()), *ranks)
