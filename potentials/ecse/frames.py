r"""Coordinate systems of atomic environments, with smooth weights (ECSE, arXiv 2305.19302).

Every ordered pair (j, j') of an atom's neighbours gives a frame with columns

.. math:: a = \hat r_j, \quad b \propto \hat r_j \times \hat r_{j'}, \quad c = a \times b

that turns with the atoms; in its coordinates ``r @ frame`` an environment looks the same however it
is turned. Only pairs inside an adaptive inner radius count, the smallest (smoothly) that holds one
well-conditioned pair: about one pair in a liquid, some dozens in a dense solid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..cutoff import tanh
from .weights import (
    FrameSettings,
    auxiliary_weight,
    pair_weights,
    prefer,
    prune,
    rise,
    smooth_maximum,
    smooth_maximum_of_pairs,
)

CHUNK_PAIRS = 2**17  # pairs of neighbours whose smooth extrema are in memory at once


@dataclass(frozen=True)
class Frames:
    """Frames of N atoms, F in all, pooled in G groups (atoms, or structures).

    Attributes:
        atoms: (F,) int64, the atom each frame belongs to, ascending.
        first, second: (F,) int64, the edges that it is made of.
        matrices: (F, 3, 3) float64, orthogonal; columns are the axes, coordinates ``r @ matrix``.
        weights: (F,) float64; a frame and its mirror image share theirs, evenly unless one of them
            is preferred.
        auxiliary: (G,) float64, weight of the auxiliary model: 1 where there is no frame.
        radii: (N,) float64, the inner radii in Å.
    """

    atoms: Tensor
    first: Tensor
    second: Tensor
    matrices: Tensor
    weights: Tensor
    auxiliary: Tensor
    radii: Tensor


def make_frames(
    vectors: Tensor,
    centers: Tensor,
    num_atoms: int,
    cutoff: float,
    settings: FrameSettings,
    *,
    group: Tensor | None = None,
    num_groups: int = 0,
) -> Frames:
    """Frames and weights from edge vectors, twice differentiable in them.

    Args:
        vectors: (E, 3) Å, of all edges within the cutoff; converted to float64.
        centers: (E,) int64, ascending.
        num_atoms: N.
        cutoff: radius of the environments, Å.
        settings: see :class:`FrameSettings`.
        group: (N,) int64, atoms whose weights are compared in pruning and for the auxiliary weight:
            the structure of each atom, as in the research code; default: every atom for itself,
            which alone is local and extensive.
        num_groups: how many groups there are, where ``group`` is given.
    """
    if group is None:
        group, num_groups = torch.arange(num_atoms, device=centers.device), num_atoms
    vectors = vectors.to(torch.float64)
    lengths = vectors.square().sum(-1).sqrt()
    unit = vectors / lengths[:, None]
    outer = settings.outer_radius(cutoff)
    radii = inner_radii(vectors, lengths, centers, num_atoms, outer, settings)
    first, second, weights = _weighted_pairs(lengths, unit, centers, radii, settings)
    largest = smooth_maximum(weights, group[centers[first]], num_groups, settings.beta_weights)
    matrices = _matrices(unit.index_select(0, first), unit.index_select(0, second))
    if settings.parity == "O3":
        first, second, weights = (x.repeat_interleave(2) for x in (first, second, weights))
        mirror = torch.tensor([1.0, -1.0, 1.0], dtype=matrices.dtype, device=matrices.device)
        matrices = torch.stack([matrices, matrices * mirror], dim=1).flatten(0, 1)
    groups = group[centers[first]]
    if settings.preference > 0:
        mean = _mean_directions(vectors, lengths, centers, num_atoms, cutoff, settings)
        seen = torch.einsum("fx,fxy->fy", mean.index_select(0, centers[first]), matrices)
        weights = prefer(weights, seen.sum(-1) / math.sqrt(3), groups, num_groups, settings)
    weights = prune(weights, largest, groups, settings)
    if settings.parity == "O3":
        weights = 0.5 * weights
    (kept,) = torch.nonzero(weights > settings.negligible, as_tuple=True)
    first, second, weights = first[kept], second[kept], weights[kept]
    return Frames(
        atoms=centers[first],
        first=first,
        second=second,
        matrices=matrices.index_select(0, kept),
        weights=weights,
        auxiliary=auxiliary_weight(largest, settings),
        radii=radii,
    )


def inner_radii(
    vectors: Tensor,
    lengths: Tensor,
    centers: Tensor,
    num_atoms: int,
    outer: float,
    settings: FrameSettings,
) -> Tensor:
    """Inner radii (N,): a smooth minimum, over pairs of neighbours, of the longer of the two.

    Pairs that are nearly collinear do not count, and without any pair the radius is
    ``outer + radius_width``. Memory is that of one chunk of pairs; others run again for gradients.
    """
    (near,) = torch.nonzero(lengths < outer, as_tuple=True)
    vectors, centers = vectors[near], centers[near]
    counts = torch.bincount(centers, minlength=num_atoms)
    begin = torch.cumsum(counts, 0) - counts
    slot = torch.arange(len(near), device=near.device) - begin[centers]
    blocks = _blocks(counts.tolist())
    edge_counts = [block.edges for block in blocks]
    several = len(blocks) > 1 and torch.is_grad_enabled() and vectors.requires_grad
    radii = [vectors.new_zeros(0)]
    for block, *part in zip(
        blocks, *(x.split(edge_counts) for x in (vectors, centers, slot)), strict=True
    ):
        arguments = (*part, block, outer, settings)
        radii.append(
            checkpoint(_radii, *arguments, use_reentrant=False, preserve_rng_state=False)
            if several
            else _radii(*arguments)
        )
    return torch.cat(radii)


@dataclass(frozen=True)
class _Block:
    """Consecutive atoms: the first, how many, their edges in all, and of the one with most."""

    start: int
    atoms: int
    edges: int
    width: int


def _blocks(counts: list[int]) -> list[_Block]:
    """Cut atoms with these numbers of edges into blocks of about CHUNK_PAIRS padded pairs."""
    blocks: list[_Block] = []
    start = atoms = edges = width = 0
    for k, count in enumerate(counts):
        if atoms and (atoms + 1) * max(width, count) ** 2 > CHUNK_PAIRS:
            blocks.append(_Block(start, atoms, edges, width))
            start, atoms, edges, width = k, 0, 0, 0
        atoms, edges, width = atoms + 1, edges + count, max(width, count)
    return [*blocks, _Block(start, atoms, edges, width)] if atoms else blocks


def _radii(
    vectors: Tensor,
    centers: Tensor,
    slot: Tensor,
    block: _Block,
    outer: float,
    settings: FrameSettings,
) -> Tensor:
    """Inner radii (n,) of a block from its edges (e, 3), padded to the same number of each atom."""
    # Empty slots hold a neighbour beyond the outer radius, which has no weight.
    padded = vectors.new_full((block.atoms * block.width, 3), outer)
    padded = padded.index_copy(0, (centers - block.start) * block.width + slot, vectors)
    vectors = padded.view(block.atoms, block.width, 3)
    length = vectors.square().sum(-1).sqrt()
    unit = vectors / length[..., None]
    sine_squared = 1 - torch.matmul(unit, unit.transpose(1, 2)).square()
    taper = tanh(length, outer, settings.radius_width)
    weight = taper[:, :, None] * taper[:, None, :]
    weight = weight * rise(sine_squared, settings.sine, settings.sine_width)
    longer = smooth_maximum_of_pairs(length[:, :, None], length[:, None, :], settings.beta)
    # The outer radius is one more entry of weight 1. Ordered pairs count every pair twice.
    excess = longer - outer
    share = 0.5 * weight * torch.exp(-settings.beta * excess)
    minimum = (share * excess).sum((1, 2)) / (1 + share.sum((1, 2)))
    return outer + minimum + settings.radius_width


def _pairs(inside: Tensor, centers: Tensor, num_atoms: int) -> tuple[Tensor, Tensor]:
    """Ordered pairs (P,), (P,) of different edges of one atom among those ``inside`` (E,) bool."""
    (edges,) = torch.nonzero(inside, as_tuple=True)
    counts = torch.bincount(centers[edges], minlength=num_atoms)
    begin = (torch.cumsum(counts, 0) - counts)[centers[edges]]
    repeats = counts[centers[edges]]
    first = torch.repeat_interleave(repeats)
    within = (
        torch.arange(len(first), device=edges.device) - (torch.cumsum(repeats, 0) - repeats)[first]
    )
    second = begin[first] + within
    different = first != second
    return edges[first[different]], edges[second[different]]


def _weighted_pairs(
    lengths: Tensor, unit: Tensor, centers: Tensor, radii: Tensor, settings: FrameSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Ordered pairs (P,), (P,) of edges of one atom that make frames, and their weights (P,)."""
    inside = lengths.detach() < radii.detach()[centers]
    first, second = _pairs(inside, centers, len(radii))
    cross = torch.linalg.cross(unit.index_select(0, first), unit.index_select(0, second))
    sine_squared = cross.square().sum(-1)
    weights = pair_weights(
        lengths[first], lengths[second], sine_squared, radii[centers[first]], settings
    )
    (chosen,) = torch.nonzero(weights > settings.negligible, as_tuple=True)
    return first[chosen], second[chosen], weights[chosen]


def _mean_directions(
    vectors: Tensor,
    lengths: Tensor,
    centers: Tensor,
    num_atoms: int,
    cutoff: float,
    settings: FrameSettings,
) -> Tensor:
    """Directions (N, 3), of length 1 at most, of the mean of the neighbours' vectors.

    They change slowly as atoms move, and tell neighbours that trade places, and mirror images,
    from one another.
    """
    near = tanh(lengths, cutoff, cutoff)[:, None] * vectors
    mean = vectors.new_zeros(num_atoms, 3).index_add(0, centers, near)
    soft = mean.square().sum(-1, keepdim=True) + settings.preference_length**2
    return mean / soft.sqrt()


def _matrices(first: Tensor, second: Tensor) -> Tensor:
    """Right-handed frames (F, 3, 3) of unit vectors (F, 3) that are not collinear."""
    normal = torch.linalg.cross(first, second)
    normal = normal / normal.square().sum(-1, keepdim=True).sqrt()
    return torch.stack([first, normal, torch.linalg.cross(first, normal)], dim=-1)
