"""What a PET works on: atoms and edges in the order of a layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layout import Layout, map_chunks
from .views import Views


@dataclass(frozen=True)
class Atoms:
    """What atoms are, renumbered.

    Attributes:
        species: (N,) species indices.
        condition: (N, d_node) of charge and multiplicity, or None.
        spins: (N, d_node) and (E, d_pet) of magnetic moments, or None.
    """

    species: Tensor
    condition: Tensor | None
    spins: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Edges:
    """Edges in the order of a layout, and neighbourhoods as layers see them.

    Attributes:
        layout: of the atoms and edges.
        factor: (E,) cutoff factors.
        species: (E,) species index of the neighbour.
        directions: (E, 3) unit vectors.
        views: as they are, or in frames of their own.
        recompute: run chunks again in the backward pass.
    """

    layout: Layout
    factor: Tensor
    species: Tensor
    directions: Tensor
    views: Views
    recompute: bool

    def see(
        self, layer: nn.Module, nodes: tuple[Tensor, ...], edges: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Run a message-passing layer on all neighbourhoods."""
        return self.views.map(layer, nodes, edges, recompute=self.recompute)

    def map(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        nodes: tuple[Tensor, ...],
        edges: tuple[Tensor, ...],
    ) -> tuple[Tensor, ...]:
        """Run a function that does not see geometry, chunk by chunk."""
        return map_chunks(self.layout.chunks, function, nodes, edges, recompute=self.recompute)


def edge_geometry(edge_input: str, vectors: Tensor, length: Tensor) -> Tensor:
    """What tokens see (E, 1), (E, 3) or (E, 4) of edge vectors (E, 3) and lengths (E,)."""
    if edge_input == "vector":
        return vectors
    if edge_input == "length":
        return length[:, None]
    return torch.cat([vectors, length[:, None]], dim=-1)


def edge_length(vectors: Tensor) -> Tensor:
    """Lengths (E,), with metatrain's offset, so that the derivative at zero is finite."""
    return (vectors.square().sum(-1) + 1e-15).sqrt()
