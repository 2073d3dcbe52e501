"""Atomic environments, the frames that pairs of neighbours give, and their mirror images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..counting import count


@dataclass(frozen=True)
class Environments:
    """N atoms with E edges to their neighbours, pooled in G groups (atoms, or structures).

    Attributes:
        vectors: (E, 3) Å, float64.
        lengths: (E,) Å.
        unit: (E, 3) directions.
        centers: (E,) int64, ascending.
        species: (E,) of the neighbours, 0 to 1 in the order of a model's species.
        group: (N,) int64, of each atom.
        num_groups: G.
        cutoff: Å, that all edges are within.
    """

    vectors: Tensor
    lengths: Tensor
    unit: Tensor
    centers: Tensor
    species: Tensor
    group: Tensor
    num_groups: int
    cutoff: float

    @classmethod
    def of(
        cls,
        vectors: Tensor,
        centers: Tensor,
        num_atoms: int,
        cutoff: float,
        species: Tensor | None = None,
        group: Tensor | None = None,
        num_groups: int = 0,
    ) -> Environments:
        """Of edge vectors (E, 3) of any type; every atom for itself, unless they are grouped."""
        if species is None:
            species = vectors.new_zeros(len(vectors), dtype=torch.float64)
        if group is None:
            group, num_groups = torch.arange(num_atoms, device=centers.device), num_atoms
        vectors = vectors.to(torch.float64)
        lengths = vectors.square().sum(-1).sqrt()
        unit = vectors / lengths[:, None]
        return cls(vectors, lengths, unit, centers, species, group, num_groups, cutoff)

    @property
    def num_atoms(self) -> int:
        """N."""
        return len(self.group)


@dataclass(frozen=True)
class Frames:
    """Frames of N atoms, F in all, pooled in G groups (atoms, or structures).

    Attributes:
        atoms: (F,) int64, the atom each frame belongs to, ascending.
        first, second: (F,) int64, the edges that it is made of.
        matrices: (F, 3, 3) float64, orthogonal; columns are the axes, coordinates ``r @ matrix``.
        weights: (F,) float64.
        auxiliary: (G,) float64, weight of the auxiliary model: 1 where there is no frame.
    """

    atoms: Tensor
    first: Tensor
    second: Tensor
    matrices: Tensor
    weights: Tensor
    auxiliary: Tensor

    def where(self, chosen: Tensor) -> Frames:
        """Some of the frames, by a mask (F,)."""
        (kept,) = torch.nonzero(chosen, as_tuple=True)
        return Frames(
            self.atoms[kept],
            self.first[kept],
            self.second[kept],
            self.matrices.index_select(0, kept),
            self.weights[kept],
            self.auxiliary,
        )


def pairs(inside: Tensor, centers: Tensor, num_atoms: int) -> tuple[Tensor, Tensor]:
    """Ordered pairs (P,), (P,) of different edges of one atom among those ``inside`` (E,) bool."""
    (edges,) = torch.nonzero(inside, as_tuple=True)
    counts = count(centers[edges], num_atoms)
    begin = (torch.cumsum(counts, 0) - counts)[centers[edges]]
    repeats = counts[centers[edges]]
    first = torch.repeat_interleave(repeats)
    within = (
        torch.arange(len(first), device=edges.device) - (torch.cumsum(repeats, 0) - repeats)[first]
    )
    second = begin[first] + within
    different = first != second
    return edges[first[different]], edges[second[different]]


def sine_squared(first: Tensor, second: Tensor) -> Tensor:
    """Squared sines (P,) of the angles between unit vectors (P, 3), precise where they vanish."""
    return torch.linalg.cross(first, second).square().sum(-1)


def axes(first: Tensor, second: Tensor) -> Tensor:
    """Right-handed frames (F, 3, 3) of unit vectors (F, 3) that are not collinear."""
    normal = torch.linalg.cross(first, second)
    normal = normal / normal.square().sum(-1, keepdim=True).sqrt()
    return torch.stack([first, normal, torch.linalg.cross(first, normal)], dim=-1)


def with_mirror_images(matrices: Tensor) -> Tensor:
    """Frames (F, 3, 3), each followed by its mirror image with the normal reversed: (2F, 3, 3)."""
    mirror = torch.tensor([1.0, -1.0, 1.0], dtype=matrices.dtype, device=matrices.device)
    return torch.stack([matrices, matrices * mirror], dim=1).flatten(0, 1)
