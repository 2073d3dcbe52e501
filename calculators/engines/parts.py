"""A part of a structure: the energies of some of its atoms, and their derivatives."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...potentials.derivatives import edge_forces, edge_gradient
from ...potentials.graph import Graph
from ...potentials.potential import Potential


def field(graph: Graph, owned: Tensor, hops: int) -> tuple[Graph, Tensor]:
    """What the energies of atoms ``owned`` (N,) bool depend on, in a graph of one structure.

    Environments of atoms up to ``hops - 1`` edges away are whole, with the reverse of every edge;
    what the others lack does not reach an owned atom.

    Returns:
        A graph of n atoms, of which it owns these, and their indices (n,), ascending, in the
        given one.
    """
    centers, neighbors = graph.centers, graph.neighbors
    whole = owned
    for _ in range(hops - 1):
        whole = whole.index_fill(0, neighbors[whole[centers]], True)
    (edges,) = torch.nonzero(whole[centers] | whole[neighbors], as_tuple=True)
    (atoms,) = torch.nonzero(whole.index_fill(0, centers[edges], True), as_tuple=True)
    if len(atoms) == graph.num_atoms and len(edges) == graph.num_edges:
        return replace(graph, owned=owned), atoms
    number = torch.zeros_like(graph.species).index_put(
        (atoms,), torch.arange(len(atoms), device=atoms.device)
    )
    return replace(
        graph,
        positions=graph.positions[atoms],
        species=graph.species[atoms],
        structure=graph.structure[atoms],
        centers=number[centers[edges]],
        neighbors=number[neighbors[edges]],
        shifts=graph.shifts[edges],
        magmoms=None if graph.magmoms is None else graph.magmoms[atoms],
        owned=owned[atoms],
    ), atoms


def differentiate(potential: Potential, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
    """Energies of the k atoms that a graph owns, and derivatives of their sum, in float64.

    Returns:
        Energies (k,) in eV, with the baseline; forces (N, 3) in eV/Å on all atoms; and dE/dε
        (N, 3, 3) in eV, not symmetric, half of a pair's for each of its two atoms.
    """
    owned = graph.owned
    assert owned is not None
    vectors = graph.edge_vectors().to(torch.float64).requires_grad_()
    energies = potential.atomic_properties(graph, vectors)["energy"][owned]
    gradient = edge_gradient(energies, vectors, create_graph=False)
    pairs = 0.5 * vectors.detach()[:, :, None] * gradient[:, None, :]
    strain = pairs.new_zeros(graph.num_atoms, 3, 3)
    strain = strain.index_add(0, graph.centers, pairs).index_add(0, graph.neighbors, pairs)
    baseline = potential.baseline[graph.species[owned]]
    return energies.detach() + baseline, edge_forces(gradient, graph), strain
