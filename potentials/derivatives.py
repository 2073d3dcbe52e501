"""From the gradient in edge vectors to forces and strain, and from atoms to structures."""

from __future__ import annotations

import torch
from torch import Tensor

from .counting import count
from .graph import Graph
from .outputs import DIRECT, Outputs, along


def direct_predictions(outputs: Outputs, graph: Graph) -> Outputs:
    """Forces and stress that are predicted as such, see :class:`.potential.Prediction`.

    A mean force would push the whole structure; a cell without volume has no stress (NaN).
    """
    found: Outputs = {}
    forces, stress = DIRECT
    if forces in outputs:
        found["forces"] = outputs[forces] - mean_over_atoms(outputs[forces], graph)[graph.structure]
    if stress in outputs:
        volume = graph.volume()[:, None, None]
        found["stress"] = torch.where(
            volume > 0, sum_over_atoms(outputs[stress], graph) / volume, torch.nan
        )
    return found


def edge_gradient(energies: Tensor, vectors: Tensor, *, create_graph: bool) -> Tensor:
    """dE/dv (E, 3) of the summed energies (N,); zero where no energy depends on an edge."""
    if not energies.requires_grad:
        return torch.zeros_like(vectors)
    (gradient,) = torch.autograd.grad(
        energies,
        vectors,
        torch.ones_like(energies),
        create_graph=create_graph,
        allow_unused=True,
    )
    return torch.zeros_like(vectors) if gradient is None else gradient


def edge_forces(gradient: Tensor, graph: Graph) -> Tensor:
    """Forces (N, 3) = -dE/dr from the gradient (E, 3) in the edge vectors."""
    forces = torch.zeros(graph.num_atoms, 3, dtype=gradient.dtype, device=gradient.device)
    return forces.index_add(0, graph.centers, gradient).index_add(0, graph.neighbors, -gradient)


def strain_gradient(gradient: Tensor, vectors: Tensor, graph: Graph) -> Tensor:
    """dE/dε (B, 3, 3) for r → r(1 + ε) of positions and cell."""
    products = vectors.detach()[:, :, None] * gradient[:, None, :]
    total = torch.zeros(graph.num_structures, 3, 3, dtype=products.dtype, device=products.device)
    return total.index_add(0, graph.structure[graph.centers], products)


def sum_over_atoms(values: Tensor, graph: Graph) -> Tensor:
    """Sums (B, ...) over the atoms of each structure of values (N, ...)."""
    total = values.new_zeros(graph.num_structures, *values.shape[1:])
    return total.index_add(0, graph.structure, values)


def mean_over_atoms(values: Tensor, graph: Graph) -> Tensor:
    """Means (B, ...) over the atoms of each structure of values (N, ...)."""
    atoms = count(graph.structure, graph.num_structures)
    return along(1 / atoms.to(values.dtype), sum_over_atoms(values, graph))
