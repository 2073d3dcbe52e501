"""A network that is no PET, for what must work with any."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pointedge.potentials.cutoff import bump


class TiltedGas(nn.Module):
    """Densities of neighbours with a direction, passed on once: smooth, and not invariant.

    ρ_i = Σ_j f(r_ij) c_j exp(a · v_ij),  e_i = c_i + ρ_i² + Σ_j f(r_ij) tanh(ρ_j + d · v_ij).
    """

    def __init__(self, species: tuple[int, ...], cutoff: float) -> None:
        super().__init__()
        self.species, self.cutoff = species, cutoff
        self.hops, self.invariant, self.inputs = 2, False, ()
        self.properties = ("energy",)
        self.charge = nn.Embedding(119, 1)
        self.direction = nn.Linear(3, 2)

    def to_config(self):
        return {"species": self.species}

    def forward(self, graph, vectors: Tensor) -> dict[str, Tensor]:
        vectors = vectors.to(self.charge.weight.dtype)
        factor = bump(vectors.square().sum(-1).sqrt(), self.cutoff, 0.5)
        tilt, other = (0.2 * self.direction(vectors)).unbind(-1)
        density = vectors.new_zeros(graph.num_atoms).index_add(
            0,
            graph.centers,
            factor * self.charge(graph.species[graph.neighbors])[:, 0] * torch.exp(tilt),
        )
        passed = factor * torch.tanh(density[graph.neighbors] + other)
        own = self.charge(graph.species)[:, 0] + density.square()
        return {"energy": own.index_add(0, graph.centers, passed)}
