"""Receptive fields: what the energies of some atoms depend on, as graphs of their own.

An owner is an atom, whose field is what its energy depends on after a number of message-passing
steps, or a structure, whose field is all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..graph import DEFAULT_INPUTS, Graph


@dataclass(frozen=True)
class Fields:
    """Atoms and edges of K fields, ascending in owner, then in index.

    Attributes:
        atoms: (n,) int64, index in the graph, and ``atom_field`` (n,) the field it is in.
        edges: (m,) int64, index in the graph, and ``edge_field`` (m,).
    """

    atoms: Tensor
    atom_field: Tensor
    edges: Tensor
    edge_field: Tensor


def receptive_fields(graph: Graph, owners: Tensor, hops: int) -> Fields:
    """Fields of atoms ``owners`` (K,) after ``hops`` message-passing steps on a full edge list.

    Whole environments (of all atoms up to hops - 1 edges away), and the reverse of every edge,
    since messages are exchanged along both. The other environments are cut; what goes wrong there
    needs one step more to reach the owner.
    """
    outgoing = _Rows.of(graph.centers, graph.num_atoms)
    incoming = _Rows.of(graph.neighbors, graph.num_atoms)
    field = torch.arange(len(owners), device=owners.device)
    atoms = owners
    for _ in range(hops - 1):
        row, edges = outgoing.expand(atoms)
        field, atoms = _distinct(
            torch.cat([field, field[row]]),
            torch.cat([atoms, graph.neighbors[edges]]),
            graph.num_atoms,
        )
    (row, edges), (row_in, edges_in) = outgoing.expand(atoms), incoming.expand(atoms)
    edge_field, edges = _distinct(
        torch.cat([field[row], field[row_in]]), torch.cat([edges, edges_in]), graph.num_edges
    )
    atom_field, atoms = _distinct(
        torch.cat([field, edge_field]), torch.cat([atoms, graph.centers[edges]]), graph.num_atoms
    )
    return Fields(atoms, atom_field, edges, edge_field)


def structure_fields(graph: Graph) -> Fields:
    """All atoms and edges of each structure."""
    device = graph.species.device
    return Fields(
        atoms=torch.arange(graph.num_atoms, device=device),
        atom_field=graph.structure,
        edges=torch.arange(graph.num_edges, device=device),
        edge_field=graph.structure[graph.centers],
    )


def copies(graph: Graph, fields: Fields, chosen: Tensor) -> tuple[Graph, Fields]:
    """One structure for each chosen field (F,), which may repeat.

    Returns:
        The graph, unturned, and what its atoms and edges are: indices in the original, and the
        copy (0 to F - 1) they belong to.
    """
    num_fields = int(chosen.max()) + 1 if len(chosen) else 0
    atom_copy, atom = _Rows.of(fields.atom_field, num_fields).expand(chosen)
    edge_copy, edge = _Rows.of(fields.edge_field, num_fields).expand(chosen)
    atoms, edges = fields.atoms[atom], fields.edges[edge]
    # Atoms of a copy ascend, so that an edge finds its ends by their key.
    keys = atom_copy * graph.num_atoms + atoms
    first = torch.searchsorted(atom_copy, torch.arange(len(chosen), device=chosen.device))
    structure = graph.structure[atoms[first]]
    inputs = {
        name: value[structure]
        for name in DEFAULT_INPUTS
        if (value := getattr(graph, name)) is not None
    }
    if graph.magmoms is not None:
        inputs["magmoms"] = graph.magmoms[atoms]
    copied = replace(
        graph,
        positions=graph.positions[atoms],
        species=graph.species[atoms],
        cell=graph.cell[structure],
        pbc=graph.pbc[structure],
        structure=atom_copy,
        centers=torch.searchsorted(keys, edge_copy * graph.num_atoms + graph.centers[edges]),
        neighbors=torch.searchsorted(keys, edge_copy * graph.num_atoms + graph.neighbors[edges]),
        shifts=graph.shifts[edges],
        owned=None,
        **inputs,
    )
    return copied, Fields(atoms, atom_copy, edges, edge_copy)


@dataclass(frozen=True)
class _Rows:
    """Positions of every value 0 to n - 1 in a list, row by row."""

    order: Tensor
    begin: Tensor
    counts: Tensor

    @classmethod
    def of(cls, values: Tensor, n: int) -> _Rows:
        counts = torch.bincount(values, minlength=n)
        return cls(torch.argsort(values, stable=True), torch.cumsum(counts, 0) - counts, counts)

    def expand(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Of each of ``rows`` (k,), all members: which row of the k, and the member."""
        counts = self.counts[rows]
        which = torch.repeat_interleave(counts)
        first = torch.cumsum(counts, 0) - counts
        within = torch.arange(len(which), device=rows.device) - first[which]
        return which, self.order[self.begin[rows][which] + within]


def _distinct(major: Tensor, minor: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Distinct pairs, sorted; minor is below n."""
    keys = torch.unique(major * n + minor)
    return torch.div(keys, n, rounding_mode="floor") if n else keys, keys % n if n else keys
