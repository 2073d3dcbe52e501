"""Neighbourhoods as the layers of PET see them: as they are, or in coordinates of their own.

In a symmetric layer every atom's neighbourhood is seen once in each of its frames (ECSE, see
:mod:`..ecse.frames`), and the layer's outputs are averaged with the weights of the frames. Messages
between layers are then invariant, so that a layer costs (frames per atom) times a plain one, and
the model stays strictly message-passing. The auxiliary view, of neighbours' lengths without
directions, enters with the atom's auxiliary weight: it is the output where there is no frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..counting import count
from ..ecse.environments import Frames
from ..layout import Chunk, Layout, cut, map_chunks


@dataclass(frozen=True)
class Views:
    """V views of N neighbourhoods, with W edges in all; the first four are for layers to see.

    Attributes:
        chunks: of views and their edges.
        geometry: (W, 1 to 4) what an edge token sees of its vector.
        factor: (W,) cutoff factors.
        species: (W,) species index of the neighbour.
        average: how to average over views; None where every atom has one, itself.
    """

    chunks: list[Chunk]
    geometry: Tensor
    factor: Tensor
    species: Tensor
    average: Average | None = None

    def map(
        self,
        layer: Callable[..., tuple[Tensor, ...]],
        nodes: tuple[Tensor, ...],
        edges: tuple[Tensor, ...],
        *,
        recompute: bool,
    ) -> tuple[Tensor, ...]:
        """Run a layer on nodes (N, ...) and edges (E, ...) of all atoms; averages over views."""
        average = self.average
        if average is not None:
            nodes = tuple(x.index_select(0, average.atoms) for x in nodes)
            edges = tuple(x.index_select(0, average.edges) for x in edges)
        seen = (*edges, self.geometry, self.factor, self.species)
        outputs = map_chunks(self.chunks, layer, nodes, seen, recompute=recompute)
        return outputs if average is None else average(*outputs)


@dataclass(frozen=True)
class Average:
    """Weighted sums over views.

    Attributes:
        atoms: (V,) atom of each view, in the layout's numbering, ascending.
        edges: (W,) edge of each view's edge, in the layout's order.
        owner: (W,) view of each of them.
        weights: (V,) of sum 1 for every atom.
        num_atoms, num_edges: N and E.
    """

    atoms: Tensor
    edges: Tensor
    owner: Tensor
    weights: Tensor
    num_atoms: int
    num_edges: int

    def __call__(self, node: Tensor, message: Tensor) -> tuple[Tensor, Tensor]:
        """Average the views' nodes (V, d) and messages (W, d)."""
        weights = self.weights[:, None]
        of_edges = weights.index_select(0, self.owner).to(message.dtype)
        nodes = node.new_zeros(self.num_atoms, node.shape[1])
        messages = message.new_zeros(self.num_edges, message.shape[1])
        return (
            nodes.index_add(0, self.atoms, weights.to(node.dtype) * node),
            messages.index_add(0, self.edges, of_edges * message),
        )


def framed(
    frames: Frames,
    layout: Layout,
    vectors: Tensor,
    length: Tensor,
    factor: Tensor,
    species: Tensor,
    chunk_tokens: int,
) -> Views:
    """Views of every atom in its frames, and without directions where its frames are poor.

    Args:
        frames: of the atoms in their original numbering.
        layout: of atoms and edges.
        vectors: (E, 3) Å in the layout's order; float64, as frames are.
        length: (E,) Å, in the network's type, and in the layout's order as all that follows.
        factor: (E,) cutoff factors.
        species: (E,) species index of the neighbour.
        chunk_tokens: size of chunks, padded tokens.
    """
    rank = torch.empty_like(layout.atom_order)
    rank[layout.atom_order] = torch.arange(len(rank), device=rank.device)
    (poor,) = torch.nonzero(frames.auxiliary > 0, as_tuple=True)
    atoms, order = torch.sort(rank[torch.cat([frames.atoms, poor])], stable=True)
    blind = frames.matrices.new_zeros(len(poor), 3, 3)
    matrices = torch.cat([frames.matrices, blind]).index_select(0, order)
    weights = torch.cat([frames.weights, frames.auxiliary[poor]])[order]
    weights = weights / weights.new_zeros(len(rank)).index_add(0, atoms, weights)[atoms]

    counts = count(layout.centers, len(rank))
    first = (torch.cumsum(counts, 0) - counts)[atoms]
    counts = counts[atoms]
    owner = torch.repeat_interleave(counts)
    start = torch.cumsum(counts, 0) - counts
    edges = first[owner] + torch.arange(len(owner), device=owner.device) - start[owner]
    turned = torch.einsum(
        "wx,wxy->wy", vectors.index_select(0, edges), matrices.index_select(0, owner)
    )
    return Views(
        chunks=cut(counts, chunk_tokens),
        geometry=torch.cat([turned.to(length.dtype), length[edges, None]], dim=-1),
        factor=factor[edges],
        species=species[edges],
        average=Average(atoms, edges, owner, weights, len(rank), len(layout.centers)),
    )
