"""Energies and forces have no jumps, and no bumps where chemistry has none."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from scipy.signal import find_peaks

from .findings import Curve, Item, Measured, check
from .lines import Path, bond_length, dimers, find_jumps, of_jumps, of_numbers
from .subject import MARGIN, Array, NotApplicableError, Subject

FROM = 0.6  # of the sum of covalent radii, where bonds are compressed to
BEYOND = 1.0  # Å, how far past the cutoff they are stretched
FAR = 8.0  # Å, where no cutoff is known
BOND_POINTS = 64
# A tenth of k_B T at 300 K: what traps no atom. And the force of k_B T over 1 Å.
SHALLOW, SPIKE = 0.0026, 0.026
CROSSING, CROSSING_POINTS = 1.2, 160  # Å
LINE, LINE_POINTS = 0.4, 32  # Å
# Of a fourth derivative, eV/Å⁴, that a difference of second order is off by.
QUARTIC = 1e4
SLOPE_JUMP = 1e-3  # eV/Å², jump of the force's slope that a phonon does not see


@check(
    "smoothness",
    "Stretching a bond changes energy and force without a jump, over one minimum.",
    "Energy is not conserved as neighbours come and go; atoms are caught in minima that are none.",
)
def bonds(subject: Subject) -> Iterator[Item]:
    """Dimers of every pair of species, compressed, stretched, and through the cutoff.

    The bond smoothness characterization test (arXiv 2602.04861) counts discontinuities, artificial
    minima and spurious forces. A dimer is seldom in the training set: the last two only warn.
    """
    found, notes = dimers(subject)
    yield from notes
    cutoff = subject.cutoff
    for pair, path in found.items():
        end = FAR if cutoff is None else cutoff + BEYOND
        grid = np.linspace(FROM * bond_length(path), end, BOND_POINTS)
        near = () if cutoff is None else (cutoff,)
        values, jumps = find_jumps(path, grid, path.noise, near=near)
        energies, forces = values.T
        yield from of_numbers(pair, values)
        yield from of_jumps(pair, jumps, "at {:.4f} Å")
        yield from _bumps(pair, grid, energies, forces)
        yield Curve("bonds", pair, "distance, Å", "energy, eV", grid, energies - energies[-1])


@check(
    "smoothness",
    "An atom that moves in a crystal passes the cutoffs of others without a jump.",
    "Each atom that enters or leaves a neighbourhood heats or cools the crystal.",
)
def crossing(subject: Subject) -> Iterator[Item]:
    """One atom along the line that keeps it farthest from the others."""
    name, atoms = next(iter(subject.need("crystal", "slab", "free").items()))
    atom, direction = _free_line(subject, atoms)
    displacement = np.zeros((len(atoms), 3))
    displacement[atom] = direction
    path = Path(subject, atoms, displacement)
    grid = np.linspace(-CROSSING / 2, CROSSING / 2, CROSSING_POINTS)
    values, jumps = find_jumps(path, grid, path.noise)
    yield from of_numbers(name, values)
    yield from of_jumps(name, jumps, "atom moved by {:.4f} Å")
    if subject.cutoff is not None:
        yield f"{name}: {_crossings(path, grid, subject.cutoff)} pairs cross the cutoff"


@check(
    "smoothness",
    "The force along any line is continuous, and its slope is the curvature of the energy.",
    "Phonons, thermal expansion and long runs at large time steps suffer where the slope jumps.",
)
def curvature(subject: Subject) -> Iterator[Item]:
    """All atoms along a random line; a jump of the slope alone only warns."""
    rng = subject.random()
    for name, atoms in subject.need("free", "crystal").items():
        displacement = rng.normal(size=(len(atoms), 3))
        path = Path(subject, atoms, displacement / np.linalg.norm(displacement, axis=1).max())
        grid = np.linspace(-LINE / 2, LINE / 2, LINE_POINTS)
        values, jumps = find_jumps(path, grid, path.noise)
        yield from of_numbers(name, values)
        yield from of_jumps(name, jumps, "atoms moved by {:.4f} Å")
        if np.isfinite(values).all():
            yield from _slopes(name, path, grid, values[:, 0])


def _slopes(name: str, path: Path, grid: Array, energies: Array) -> Iterator[Item]:
    """Jumps of the force's slope, and how far it is from second differences of the energy."""
    of_energy, of_force = path.noise(float(grid[0]))
    step = float(np.clip((of_energy / QUARTIC) ** 0.25, 1e-5, 1e-2))
    around: dict[float, Array] = {}

    def slope(x: float) -> Array:
        around[x] = np.stack([path(x - step), path(x + step)])
        return np.array([(around[x][1, 1] - around[x][0, 1]) / (2 * step)])

    def noise(x: float) -> Array:
        return np.array([path.noise(x)[1] / (np.sqrt(2) * step)])

    width = 10 * step
    slopes, jumps = find_jumps(slope, grid, noise, least=(0.0,), width=width)
    norm = float((path.displacement**2).sum())
    worst = max(jumps, key=lambda jump: jump.sizes[0], default=None)
    if width > (grid[1] - grid[0]) / 8:
        yield f"{name}: rounding hides jumps of the force's slope"
    elif worst is not None:
        limit = max(float(worst.allowed[0]), SLOPE_JUMP)
        what = f"jump of the force's slope, {name}, atoms moved by {worst.place:.4f} Å"
        yield Measured(what, float(worst.sizes[0]), "eV/Å²", limit, soft=True)
    outer = np.array([around[float(x)][:, 0].sum() for x in grid])
    # A jump that is too small to matter is large in a second difference: one point says little.
    off = np.median(np.abs((outer - 2 * energies) / step**2 + slopes[:, 0]))
    limit = MARGIN * (2.5 * of_energy / step**2 + of_force / step) + QUARTIC * norm**2 * step**2
    what = f"curvature of the energy against slope of the force, {name}"
    yield Measured(what, float(off), "eV/Å²", limit, soft=True)


def _bumps(pair: str, grid: Array, energies: Array, forces: Array) -> Iterator[Item]:
    """Minima beside the deepest, and local maxima of the force, which a bond has none of."""
    minima, of_minima = find_peaks(-energies, prominence=0)
    deepest = minima[energies[minima].argmin()] if len(minima) else -1
    others = of_minima["prominences"][minima != deepest]
    yield Measured(
        f"depth of a second minimum, {pair}", others.max(initial=0.0), "eV", SHALLOW, soft=True
    )
    maxima, of_maxima = find_peaks(forces, prominence=0)
    spikes = of_maxima["prominences"]
    yield Measured(f"force spike, {pair}", spikes.max(initial=0.0), "eV/Å", SPIKE, soft=True)
    bad = grid[minima[(minima != deepest)][others > SHALLOW]]
    worse = grid[maxima[spikes > SPIKE]]
    for what, places in (("second minima", bad), ("force spikes", worse)):
        if len(places):
            yield f"{what} of {pair} at " + ", ".join(f"{x:.2f}" for x in places) + " Å"


def _free_line(subject: Subject, atoms: Atoms) -> tuple[int, Array]:
    """An atom and a direction in which it stays away from others, of some random ones."""
    if len(atoms) < 2:
        raise NotApplicableError("a crystal of one atom per cell has none to move by itself")
    rng = subject.random()
    directions = rng.normal(size=(12, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    candidates = rng.permutation(len(atoms))[:8]
    best, found = -1.0, (0, directions[0])
    for atom, direction in product(candidates, directions):
        closest = min(_nearest(atoms, atom, x * direction) for x in (-0.5, -0.25, 0.25, 0.5))
        if closest > best:
            best, found = closest, (int(atom), direction)
    return found


def _nearest(atoms: Atoms, atom: int, fraction: Array) -> float:
    """Distance of the nearest atom to one that is moved by a fraction of the line."""
    twin = atoms.copy()
    twin.positions[atom] += CROSSING * fraction
    others = [k for k in range(len(atoms)) if k != atom]
    return float(twin.get_distances(atom, others, mic=True).min())


def _crossings(path: Path, grid: Array, cutoff: float) -> int:
    """Pairs that are inside the cutoff at one end of the path and outside at the other."""
    inside = []
    for x in (grid[0], grid[-1]):
        twin = path.atoms.copy()
        twin.positions += x * path.displacement
        i, j, shifts = neighbor_list("ijS", twin, cutoff)
        inside.append({(a, b, *s) for a, b, s in zip(i, j, shifts.tolist(), strict=True)})
    return len(inside[0] ^ inside[1]) // 2
