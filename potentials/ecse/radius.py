r"""Frames of pairs of neighbours within an adaptive inner radius (ECSE, arXiv 2305.19302).

The inner radius is the smallest (smoothly) that holds one well-conditioned pair, so that few pairs
count: about one in a liquid, some dozens in a dense solid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..counting import count
from ..cutoff import tanh
from .environments import Environments, Frames, axes, pairs, sine_squared, with_mirror_images
from .weights import (
    RadiusSettings,
    auxiliary_weight,
    pair_weights,
    prune,
    rise,
    smooth_maximum,
    smooth_maximum_of_pairs,
)

CHUNK_PAIRS = 2**17  # pairs of neighbours whose smooth extrema are in memory at once


def frames_by_radius(environments: Environments, settings: RadiusSettings) -> Frames:
    """Frames with the weights of the research code, which are no shares; halved for mirrors."""
    group, num_groups = environments.group, environments.num_groups
    first, second, weights = _weighted_pairs(environments, settings)
    atoms = environments.centers[first]
    largest = smooth_maximum(weights, group[atoms], num_groups, settings.beta_weights)
    weights = prune(weights, largest, group[atoms], settings)
    unit = environments.unit
    matrices = axes(unit.index_select(0, first), unit.index_select(0, second))
    if settings.parity == "O3":
        matrices = with_mirror_images(matrices)
        atoms, first, second = (x.repeat_interleave(2) for x in (atoms, first, second))
        weights = 0.5 * weights.repeat_interleave(2)
    auxiliary = auxiliary_weight(largest, settings)
    frames = Frames(atoms, first, second, matrices, weights, auxiliary)
    return frames.where(weights > settings.negligible)


def inner_radii(environments: Environments, settings: RadiusSettings) -> Tensor:
    """Inner radii (N,): a smooth minimum, over pairs of neighbours, of the longer of the two.

    Pairs that are nearly collinear do not count, and without any pair the radius is
    ``outer_radius + radius_width``. Memory is that of one chunk of pairs; others run again for
    gradients.
    """
    outer, num_atoms = settings.outer_radius(environments.cutoff), environments.num_atoms
    (near,) = torch.nonzero(environments.lengths < outer, as_tuple=True)
    vectors, centers = environments.vectors[near], environments.centers[near]
    counts = count(centers, num_atoms)
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
    for k, each in enumerate(counts):
        if atoms and (atoms + 1) * max(width, each) ** 2 > CHUNK_PAIRS:
            blocks.append(_Block(start, atoms, edges, width))
            start, atoms, edges, width = k, 0, 0, 0
        atoms, edges, width = atoms + 1, edges + each, max(width, each)
    return [*blocks, _Block(start, atoms, edges, width)] if atoms else blocks


def _radii(
    vectors: Tensor,
    centers: Tensor,
    slot: Tensor,
    block: _Block,
    outer: float,
    settings: RadiusSettings,
) -> Tensor:
    """Inner radii (n,) of a block from its edges (e, 3), padded to the same number of each atom."""
    # Empty slots hold a neighbour beyond the outer radius, which has no weight.
    padded = vectors.new_full((block.atoms * block.width, 3), outer)
    padded = padded.index_copy(0, (centers - block.start) * block.width + slot, vectors)
    vectors = padded.view(block.atoms, block.width, 3)
    length = vectors.square().sum(-1).sqrt()
    unit = vectors / length[..., None]
    sine = 1 - torch.matmul(unit, unit.transpose(1, 2)).square()
    taper = tanh(length, outer, settings.radius_width)
    weight = taper[:, :, None] * taper[:, None, :]
    weight = weight * rise(sine, settings.sine, settings.sine_width)
    longer = smooth_maximum_of_pairs(length[:, :, None], length[:, None, :], settings.beta)
    # The outer radius is one more entry of weight 1. Ordered pairs count every pair twice.
    excess = longer - outer
    share = 0.5 * weight * torch.exp(-settings.beta * excess)
    minimum = (share * excess).sum((1, 2)) / (1 + share.sum((1, 2)))
    return outer + minimum + settings.radius_width


def _weighted_pairs(
    environments: Environments, settings: RadiusSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Ordered pairs (P,), (P,) of edges of one atom that make frames, and their weights (P,)."""
    lengths, unit, centers = environments.lengths, environments.unit, environments.centers
    radii = inner_radii(environments, settings)
    inside = lengths.detach() < radii.detach()[centers]
    first, second = pairs(inside, centers, len(radii))
    sine = sine_squared(unit.index_select(0, first), unit.index_select(0, second))
    weights = pair_weights(lengths[first], lengths[second], sine, radii[centers[first]], settings)
    (chosen,) = torch.nonzero(weights > settings.negligible, as_tuple=True)
    return first[chosen], second[chosen], weights[chosen]
