"""Graphs of structures on their way to one or several potentials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from ase import Atoms

from ..potentials.graph import Graph, read_inputs
from ..potentials.neighbors import VerletList
from ..potentials.potential import Potential
from .inputs import check_distances


class Graphs:
    """Makes graphs that serve all of some potentials, with one neighbour list.

    Edges reach as far as the largest cutoff; a network leaves out those beyond its own.

    Args:
        potentials: one or more; graphs are on the device of the first.
        skin: neighbours are kept until an atom has moved by half of this, Å; 0: never.

    Attributes:
        inputs: optional inputs of any of them.
        device: of the graphs.
        verlet: the neighbour list that steps of a simulation share.
    """

    def __init__(self, potentials: Sequence[Potential], skin: float = 0.5) -> None:
        self.inputs = tuple(dict.fromkeys(name for p in potentials for name in p.inputs))
        self.device = potentials[0].device
        self.verlet = VerletList(max(p.cutoff for p in potentials), skin=skin)

    def of(self, atoms: Atoms) -> Graph:
        """Graph of one structure, with the neighbours of an earlier step where they still serve."""
        device = self.device
        positions = torch.tensor(atoms.positions, dtype=torch.float64, device=device)
        cell = torch.tensor(np.asarray(atoms.cell)[None], dtype=torch.float64, device=device)
        pbc = torch.tensor(np.asarray(atoms.pbc)[None], dtype=torch.bool, device=device)
        species = torch.tensor(atoms.numbers, dtype=torch.int64, device=device)
        structure = torch.zeros_like(species)
        edges = self.verlet.update(positions, cell, pbc, structure, species)
        inputs = read_inputs([atoms], self.inputs, device=device)
        graph = Graph(positions, species, cell, pbc, structure, *edges, **inputs)
        check_distances(graph)
        return graph

    def batches(self, structures: Sequence[Atoms], max_edges: int) -> Iterator[Graph]:
        """Join consecutive structures up to ``max_edges`` edges and atoms in all, at least one."""
        batch: list[Graph] = []
        size = 0
        for k, atoms in enumerate(structures):
            graph = Graph.from_atoms(
                atoms, self.verlet.cutoff, device=self.device, inputs=self.inputs
            )
            check_distances(graph, f"structure {k}")
            size += graph.num_edges + graph.num_atoms
            if batch and size > max_edges:
                yield Graph.batch(batch)
                batch, size = [], graph.num_edges + graph.num_atoms
            batch.append(graph)
        if batch:
            yield Graph.batch(batch)
