"""What atoms are conditioned on: charge and multiplicity of the structure, and magnetic moments."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..graph import Graph
from ..layout import Layout
from ..spins import pair_invariants, scaled_moments, squares
from .config import PETConfig


class SystemConditioning(nn.Module):
    """Embedding of total charge and spin multiplicity, added to every node after each layer."""

    def __init__(self, config: PETConfig) -> None:
        super().__init__()
        d = config.node_width
        self.max_charge = config.max_charge
        self.max_spin = config.max_spin_multiplicity
        self.charge_embedding = nn.Embedding(2 * config.max_charge + 1, d)
        self.spin_multiplicity_embedding = nn.Embedding(config.max_spin_multiplicity, d)
        last = nn.Linear(d, d)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.project = nn.Sequential(nn.Linear(2 * d, d), nn.SiLU(), last)

    def forward(self, graph: Graph) -> Tensor:
        """Features (B, d_node) of the structures; missing inputs mean charge 0, multiplicity 1."""
        zero = torch.zeros(graph.num_structures, dtype=torch.int64, device=graph.species.device)
        charge = zero if graph.charge is None else graph.charge
        spin = zero + 1 if graph.spin is None else graph.spin
        features = [
            self.charge_embedding(charge + self.max_charge),
            self.spin_multiplicity_embedding(spin - 1),
        ]
        return self.project(torch.cat(features, dim=-1))


class SpinConditioning(nn.Module):
    """Embeddings of magnetic moments, added to the initial nodes and messages."""

    def __init__(self, config: PETConfig) -> None:
        super().__init__()
        assert config.typical_moment is not None
        self.typical_moment = config.typical_moment
        self.node_embedder = _embedder(1, config.node_width)
        self.edge_embedder = _embedder(3, config.d_pet)

    def forward(self, graph: Graph, layout: Layout) -> tuple[Tensor, Tensor]:
        """Embeddings (N, d_node) of atoms and (E, d_pet) of edges, in the order of the layout.

        Raises:
            ValueError: the graph has no moments.
        """
        dtype = next(self.parameters()).dtype
        moments = scaled_moments(graph.magmoms, self.typical_moment, dtype)[layout.atom_order]
        pairs = pair_invariants(moments, layout.centers, layout.neighbors)
        return self.node_embedder(squares(moments)), self.edge_embedder(pairs)


def _embedder(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))
