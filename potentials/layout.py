"""Neighbourhoods as padded blocks: chunks of atoms with about as many neighbours each.

Atoms are renumbered by neighbour count, so that a chunk of consecutive atoms, each with its edges,
is a slice of every tensor and padding is small. A chunk is sized to stay in the processor's cache:
most of a step is elementwise work on edges, bound by memory traffic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .counting import count


@dataclass(frozen=True)
class Chunk:
    """Consecutive atoms (n of them) and their edges (e), padded to M slots per atom.

    Attributes:
        atoms: slice of the renumbered atoms.
        edges: slice of the reordered edges.
        gather: (n·M,) index into the chunk's edges for every slot; padding repeats an edge.
        slots: (e,) slot of every edge, or None where there is no padding.
        mask: (n, M) bool, True for real edges.
    """

    atoms: slice
    edges: slice
    gather: Tensor
    slots: Tensor | None
    mask: Tensor

    def pad(self, x: Tensor) -> Tensor:
        """Arrange edge values (e, d) as (n, M, d)."""
        shape = (*self.mask.shape, x.shape[-1])
        return x.view(shape) if self.slots is None else x.index_select(0, self.gather).view(shape)

    def unpad(self, x: Tensor) -> Tensor:
        """Bring (n, M, d) back to edge values (e, d)."""
        flat = x.reshape(-1, x.shape[-1])
        return flat if self.slots is None else flat.index_select(0, self.slots)


@dataclass(frozen=True)
class Layout:
    """Renumbered neighbourhoods of a batch.

    Attributes:
        atom_order: (N,) original index of each renumbered atom.
        edge_order: (E,) original index of each reordered edge.
        centers: (E,) renumbered centres, ascending.
        neighbors: (E,) renumbered neighbours.
        shifts: (E, 3) periodic images.
        chunks: the chunks, in order; they cover all atoms and edges.
    """

    atom_order: Tensor
    edge_order: Tensor
    centers: Tensor
    neighbors: Tensor
    shifts: Tensor
    chunks: list[Chunk]

    @classmethod
    def build(
        cls, centers: Tensor, neighbors: Tensor, shifts: Tensor, num_atoms: int, chunk_tokens: int
    ) -> Layout:
        """Lay out a full edge list; one host synchronisation (the neighbour counts)."""
        counts = count(centers, num_atoms)
        counts, atom_order = torch.sort(counts, stable=True)
        rank = torch.empty_like(atom_order)
        rank[atom_order] = torch.arange(num_atoms, device=centers.device)
        centers, order = torch.sort(rank[centers], stable=True)
        chunks = cut(counts, chunk_tokens)
        return cls(atom_order, order, centers, rank[neighbors[order]], shifts[order], chunks)

    @cached_property
    def reverse(self) -> Tensor:
        """Position (E,) of the edge j -> i with the opposite shift, of each edge i -> j."""
        return reverse_edges(self.centers, self.neighbors, self.shifts, len(self.atom_order))

    @cached_property
    def slots(self) -> Tensor:
        """Edge (S,) in every slot of all chunks, padding included."""
        return torch.cat([chunk.gather + chunk.edges.start for chunk in self.chunks])

    @cached_property
    def mask(self) -> Tensor:
        """Whether an edge (S,) in a slot is real."""
        return torch.cat([chunk.mask.flatten() for chunk in self.chunks])

    def padded(self) -> list[Chunk]:
        """The chunks for values of slots (S, ...) in place of edges, which need no padding."""
        chunks, start = [], 0
        for chunk in self.chunks:
            stop = start + len(chunk.gather)
            gather = torch.arange(stop - start, device=chunk.gather.device)
            chunks.append(replace(chunk, edges=slice(start, stop), gather=gather, slots=None))
            start = stop
        return chunks


def map_chunks(
    chunks: list[Chunk],
    function: Callable[..., tuple[Tensor, ...]],
    nodes: tuple[Tensor, ...],
    edges: tuple[Tensor, ...],
    *,
    recompute: bool,
) -> tuple[Tensor, ...]:
    """Apply ``function(chunk, *nodes, *edges)`` chunk by chunk and join what it returns.

    With ``recompute`` a chunk keeps only its inputs, and runs again in the backward pass.
    """
    # split, not slices: the gradient of a slice is as long as the whole tensor.
    atom_counts = [chunk.atoms.stop - chunk.atoms.start for chunk in chunks]
    edge_counts = [chunk.edges.stop - chunk.edges.start for chunk in chunks]
    parts = [x.split(atom_counts) for x in nodes] + [x.split(edge_counts) for x in edges]
    results = []
    for chunk, *arguments in zip(chunks, *parts, strict=True):
        if recompute:
            results.append(
                checkpoint(
                    function, chunk, *arguments, use_reentrant=False, preserve_rng_state=False
                )
            )
        else:
            results.append(function(chunk, *arguments))
    if len(results) == 1:
        return results[0]
    return tuple(torch.cat(outputs) for outputs in zip(*results, strict=True))


def reverse_edges(centers: Tensor, neighbors: Tensor, shifts: Tensor, num_atoms: int) -> Tensor:
    """Position (E,) of the edge (j, i, -S) for each edge (i, j, S) of a full list.

    Both ways of reading an edge are sorted by the same key; equal ranks belong together. The key
    has two words: 21 bits for each shift, as far as a neighbour list goes, then i·N + j.
    """
    if len(centers) == 0:
        return centers
    forward = _lexsort(centers * num_atoms + neighbors, _pack(shifts))
    backward = _lexsort(neighbors * num_atoms + centers, _pack(-shifts))
    reverse = torch.empty_like(forward)
    reverse[forward] = backward
    return reverse


def _pack(shifts: Tensor) -> Tensor:
    x, y, z = (shifts + (1 << 20)).unbind(-1)
    return (x << 42) | (y << 21) | z


def _lexsort(major: Tensor, minor: Tensor) -> Tensor:
    order = torch.argsort(minor, stable=True)
    return order[torch.argsort(major[order], stable=True)]


def cut(counts: Tensor, chunk_tokens: int) -> list[Chunk]:
    """Cut ascending neighbour counts (N,) into chunks of at most ``chunk_tokens`` padded tokens."""
    host = counts.cpu().numpy()
    first = np.concatenate([[0], np.cumsum(host)])
    chunks = []
    start = 0
    while start < len(host):
        window = host[start : start + chunk_tokens] + 1
        tokens = np.arange(1, len(window) + 1) * window
        stop = start + max(1, int(np.searchsorted(tokens, chunk_tokens, side="right")))
        chunks.append(_chunk(counts, start, stop, first, int(host[stop - 1])))
        start = stop
    return chunks


def _chunk(counts: Tensor, start: int, stop: int, first: np.ndarray, width: int) -> Chunk:
    edges = slice(int(first[start]), int(first[stop]))
    num_edges = edges.stop - edges.start
    count = counts[start:stop, None]
    slot = torch.arange(width, device=counts.device)
    mask = slot < count
    begin = torch.cumsum(count, 0) - count
    gather = (begin + slot).clamp(max=max(num_edges - 1, 0)).flatten()
    slots = None
    if num_edges != mask.numel():
        atom = torch.repeat_interleave(
            torch.arange(stop - start, device=counts.device), count[:, 0], output_size=num_edges
        )
        slots = torch.arange(num_edges, device=counts.device) - begin[atom, 0] + atom * width
    return Chunk(slice(start, stop), edges, gather, slots, mask)
