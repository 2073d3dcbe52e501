"""What a trajectory shows: radial distribution functions, averages with errors, drifts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, pairwise

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from ..potentials.neighbors import neighbor_list

Array = NDArray[np.float64]
ALL = ("*", "*")  # the pair of all atoms, whatever their elements
MAX_RADIUS = 10.0  # Å; beyond this g(r) of a liquid says little, and pairs grow as the cube


@dataclass(frozen=True)
class RDF:
    """Radial distribution function of one pair of elements, averaged over frames.

    Attributes:
        pair: chemical symbols A and B, or ``ALL`` twice.
        r: (bins,) centres of the bins, Å.
        g: (bins,) density of B around A relative to the mean density of B.
        coordination: (bins,) mean number of B atoms within the outer edge of each bin around A.
        frames: number of frames averaged.
        error: (bins,) standard error of g, where it was asked for.
    """

    pair: tuple[str, str]
    r: Array
    g: Array
    coordination: Array
    frames: int
    error: Array | None = None

    @property
    def name(self) -> str:
        """g_AB, or g of all atoms."""
        return "g" if self.pair == ALL else "g_" + "".join(self.pair)

    def first_peak(self, r_min: float = 0.0, smoothing: float = 0.05) -> tuple[float, float]:
        """Position (Å) and height of the first peak beyond ``r_min`` (Å).

        The peak is the first point of the curve, smoothed by a Gaussian of standard deviation
        ``smoothing`` (Å), that exceeds 1 and is the largest within 0.5 Å on both sides. Position
        and height are the vertex of a parabola fitted to the unsmoothed curve around it, where the
        smoothed one exceeds 85 % of its maximum.

        Raises:
            ValueError: there is no such peak.
        """
        width = self.r[1] - self.r[0]
        kernel_range = np.arange(-int(4 * smoothing / width) - 1, int(4 * smoothing / width) + 2)
        kernel = np.exp(-0.5 * (kernel_range * width / smoothing) ** 2)
        half = len(kernel_range) // 2
        padded = np.pad(self.g, half, mode="edge")
        smooth = np.convolve(padded, kernel / kernel.sum(), mode="valid")
        reach = max(round(0.5 / width), 1)
        for k in np.flatnonzero((smooth > 1.0) & (self.r > r_min)):
            if smooth[k] >= smooth[max(k - reach, 0) : k + reach + 1].max():
                return _vertex(self.r, self.g, smooth, int(k))
        raise ValueError(
            f"{self.name}(r) has no peak above 1 between {r_min:g} and "
            f"{self.r[-1]:.1f} Å; average more frames, or look at the curve."
        )


def _vertex(r: Array, g: Array, smooth: Array, top: int) -> tuple[float, float]:
    """Vertex of a parabola through the points around the maximum at index ``top``."""
    low, high = top, top
    while low > 0 and smooth[low - 1] > 0.85 * smooth[top]:
        low -= 1
    while high < len(r) - 1 and smooth[high + 1] > 0.85 * smooth[top]:
        high += 1
    near = slice(max(min(low, top - 2), 0), max(high, top + 2) + 1)
    a, b, c = np.polyfit(r[near] - r[top], g[near], 2)
    if a >= 0 or abs(b / (2 * a)) > r[near][-1] - r[near][0]:
        return float(r[top]), float(g[top])
    return float(r[top] - b / (2 * a)), float(c - b**2 / (4 * a))


def radial_distribution(
    frames: Sequence[Atoms],
    pairs: Sequence[tuple[str, str]],
    *,
    r_max: float | None = None,
    bin_width: float = 0.05,
) -> list[RDF]:
    """Partial radial distribution functions of periodic frames.

    For elements A and B, with the mean over frames,

        g_AB(r) = <V · n_AB(r) / (N_A · (N_B - δ_AB) · 4π/3 (r₊³ - r₋³))>

    where n_AB counts ordered pairs with distances in the bin from r₋ to r₊. An atom is not its own
    neighbour, hence δ_AB, which makes g = 1 for independent atoms however few they are.

    Args:
        frames: structures periodic along all three axes, with the same elements; cells may differ.
        pairs: chemical symbols of A and B; ``ALL`` for all atoms.
        r_max: largest distance in Å; by default and at most half the smallest distance between
            opposite faces of any cell (a larger sphere would meet its own images), by default
            10 Å at most.
        bin_width: in Å.

    Raises:
        ValueError: no frames, a frame that is not periodic along all axes, a pair without two
            atoms, or an ``r_max`` that is too large.
    """
    radius = _radius(frames, r_max)
    edges = np.linspace(0.0, radius, max(round(radius / bin_width), 1) + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    g = np.zeros((len(pairs), len(shells)))
    neighbors = np.zeros_like(g)
    for frame in frames:
        centers, others, distances = _pair_distances(frame, radius)
        symbols = np.array(frame.get_chemical_symbols())
        for k, (a, b) in enumerate(pairs):
            of_a, of_b = (np.isin(symbols, x) | (x == "*") for x in (a, b))
            count_a, count_b = int(of_a.sum()), int(of_b.sum()) - (a == b)
            if count_a < 1 or count_b < 1:
                raise ValueError(f"a frame of {frame.symbols} has no pair {a}-{b}.")
            chosen = of_a[centers] & of_b[others]
            counts, _ = np.histogram(distances[chosen], edges)
            g[k] += frame.get_volume() * counts / (count_a * count_b * shells)
            neighbors[k] += np.cumsum(counts) / count_a
    middle = 0.5 * (edges[1:] + edges[:-1])
    total = len(frames)
    return [
        RDF((a, b), middle, g[k] / total, neighbors[k] / total, total)
        for k, (a, b) in enumerate(pairs)
    ]


def block_radial_distribution(
    frames: Sequence[Atoms], pairs: Sequence[tuple[str, str]], *, blocks: int = 8
) -> list[RDF]:
    """Radial distribution functions with errors, from their spread between parts of a trajectory.

    Args:
        frames: in the order of time, and evenly spaced.
        pairs: see :func:`radial_distribution`.
        blocks: number of consecutive parts; each has to be longer than what structure remembers.

    Raises:
        ValueError: fewer frames than blocks or fewer than 2 blocks, or as
            :func:`radial_distribution`.
    """
    if not 2 <= blocks <= len(frames):
        raise ValueError(
            f"{len(frames)} frames do not make {blocks} blocks; give at least 2 blocks, and a "
            "frame for each."
        )
    radius = _radius(frames, None)
    bounds = np.linspace(0, len(frames), blocks + 1).astype(int)
    parts = [radial_distribution(frames[a:b], pairs, r_max=radius) for a, b in pairwise(bounds)]
    return [
        replace(
            same[0],
            g=np.mean([rdf.g for rdf in same], axis=0),
            coordination=np.mean([rdf.coordination for rdf in same], axis=0),
            frames=len(frames),
            error=np.std([rdf.g for rdf in same], axis=0, ddof=1) / np.sqrt(blocks),
        )
        for same in zip(*parts, strict=True)
    ]


def _radius(frames: Sequence[Atoms], r_max: float | None) -> float:
    if not frames:
        raise ValueError("a radial distribution function needs at least one frame.")
    for frame in frames:
        if not all(frame.pbc) or frame.cell.rank < 3:
            raise ValueError(
                "a radial distribution function needs a density, so a cell that is periodic along "
                f"all three axes; a frame of {frame.symbols} has pbc {frame.pbc.tolist()}."
            )
    heights = [1 / np.linalg.norm(frame.cell.reciprocal(), axis=1).max() for frame in frames]
    limit = 0.5 * min(heights)
    if r_max is None:
        return float(min(limit, MAX_RADIUS))
    if not 0 < r_max <= limit:
        raise ValueError(
            f"r_max is {r_max:g} Å; give more than 0 and at most {limit:.3f} Å, half the distance "
            "between the nearest faces of the cell."
        )
    return r_max


def _pair_distances(
    frame: Atoms, radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Ordered pairs within a radius (Å): indices of both atoms and distances (Å)."""
    positions = torch.tensor(frame.positions)
    cell = torch.tensor(frame.cell.array)
    structure = torch.zeros(len(frame), dtype=torch.int64)
    pbc = torch.tensor(frame.pbc)[None]
    centers, neighbors, shifts = neighbor_list(positions, cell[None], pbc, radius, structure)
    vectors = positions[neighbors] - positions[centers] + shifts.to(cell.dtype) @ cell
    distances: Array = vectors.norm(dim=1).numpy()
    return centers.numpy(), neighbors.numpy(), distances


def telling_pairs(atoms: Atoms, limit: int = 3) -> list[tuple[str, str]]:
    """Pairs of elements worth looking at, the most telling first.

    O-O and O-H for water; up to three elements, the most frequent pairs; for more, as in alloys,
    all atoms together, and then each of the most frequent elements with itself.
    """
    counts = Counter(sorted(atoms.get_chemical_symbols()))
    if is_water(atoms):
        return [("O", "O"), ("O", "H")] if counts["O"] > 1 else [("O", "H")]
    if len(counts) > 3:
        alike = [(a, a) for a, number in counts.most_common(limit + 1) if number > 1]
        return [ALL, *alike]
    frequency = {
        (a, b): counts[a] * (counts[a] - 1) / 2 if a == b else counts[a] * counts[b]
        for a, b in combinations_with_replacement(counts, 2)
    }
    present = [pair for pair, number in frequency.items() if number > 0]
    return sorted(present, key=lambda pair: -frequency[pair])[:limit]


def is_water(atoms: Atoms) -> bool:
    """Whether the atoms are those of water molecules."""
    counts = Counter(atoms.get_chemical_symbols())
    return set(counts) == {"H", "O"} and counts["H"] == 2 * counts["O"]


def block_average(values: Array) -> tuple[float, float]:
    """Mean of a correlated series (n,) and the standard error of that mean.

    Neighbours are averaged pairwise, again and again, and each level gives an error estimate that
    grows until blocks are longer than the correlation (Flyvbjerg & Petersen, J. Chem. Phys. 91,
    461 (1989)). The plateau is taken at the first level whose blocks of length B satisfy
    B³ > 2 n (ε_B/ε_1)⁴ (Lee et al., Phys. Rev. E 83, 066706 (2011)), which balances what is left
    of the correlation against the noise of few blocks. Where a series is too short for that, the
    largest estimate is returned; it is then a lower bound. For fewer than 4 values it is NaN.
    """
    blocks = np.asarray(values, dtype=np.float64)
    mean = float(blocks.mean()) if len(blocks) else np.nan
    if len(blocks) < 4:
        return mean, np.nan
    count, length, estimates = len(blocks), 1, []
    while len(blocks) >= 4:
        error = float(blocks.std(ddof=1) / np.sqrt(len(blocks)))
        estimates.append(error)
        if error == 0 or length**3 > 2 * count * (error / estimates[0]) ** 4:
            return mean, error
        blocks = 0.5 * (blocks[: len(blocks) // 2 * 2 : 2] + blocks[1::2])
        length *= 2
    return mean, max(estimates)


def linear_drift(time: Array, values: Array) -> tuple[float, float]:
    """Slope of values (n,) against time (n,) by least squares, and its standard error.

    The error of ordinary least squares is enlarged by the ratio of the block-averaged to the naive
    error of the residuals, since successive values of a simulation are not independent. Both are
    NaN for fewer than 4 points.
    """
    if len(time) < 4:
        return np.nan, np.nan
    centered = np.asarray(time, dtype=np.float64) - np.mean(time)
    spread = float((centered**2).sum())
    residuals = np.asarray(values, dtype=np.float64) - np.mean(values)
    slope = float(centered @ residuals) / spread
    residuals = residuals - slope * centered
    error = float(np.sqrt((residuals**2).sum() / (len(time) - 2) / spread))
    naive = float(residuals.std(ddof=1) / np.sqrt(len(residuals)))
    if naive > 0:
        error *= max(block_average(residuals)[1] / naive, 1.0)
    return slope, error
