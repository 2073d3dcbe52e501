"""Readout heads of PET: what its features say of an atom's energy, dipole or polarizability."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..outputs import RANKS
from .config import PETConfig


def mlp(width: int, hidden: int, outputs: int = 1) -> nn.Sequential:
    """A head of two hidden layers."""
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.SiLU(),
        nn.Linear(hidden, hidden),
        nn.SiLU(),
        nn.Linear(hidden, outputs),
    )


class CovariantHead(nn.Module):
    """Vectors or symmetric rank-2 tensors of atoms, from features of nodes and edges.

    Features that know the axes are read component by component. Invariant ones (of a length-only
    network, or of symmetric layers) give scalars s, t of edges and u of nodes, and

        vector_i = Σ_j f_ij s_ij r̂_ij,   tensor_i = u_i 1 + Σ_j f_ij (s_ij r̂_ij r̂_ijᵀ + t_ij 1)

    turn with the atoms exactly.
    """

    def __init__(self, config: PETConfig, name: str) -> None:
        super().__init__()
        self.rank = RANKS[name]
        self.invariant_features = config.edge_input == "length" or config.symmetry == "layers"
        components = 3**self.rank
        if self.invariant_features:
            node, edge = self.rank - 1, self.rank  # numbers of scalars
        else:
            node = edge = components
        self.node = mlp(config.node_width, config.d_head, node) if node else None
        self.edge = mlp(config.d_pet, config.d_head, edge)

    def of_nodes(self, node: Tensor) -> Tensor:
        """The nodes' own part (N, 3 or 9) from features (N, d_node)."""
        if self.node is None:
            return node.new_zeros(len(node), 3)
        values: Tensor = self.node(node)
        return values * _unity(values) if self.invariant_features else values

    def of_edges(self, message: Tensor, factor: Tensor, directions: Tensor) -> Tensor:
        """The edges' part (e, 3 or 9) from messages (e, d_pet) and unit vectors (e, 3)."""
        values: Tensor = self.edge(message) * factor[:, None]
        if not self.invariant_features:
            return values
        if self.rank == 1:
            return values * directions
        outer = (directions[:, :, None] * directions[:, None, :]).flatten(1)
        along, isotropic = values.split(1, dim=1)
        return along * outer + isotropic * _unity(values)

    def shaped(self, values: Tensor) -> Tensor:
        """Vectors (N, 3), or symmetric tensors (N, 3, 3), from components (N, 3 or 9)."""
        if self.rank == 1:
            return values
        tensors = values.unflatten(1, (3, 3))
        return 0.5 * (tensors + tensors.transpose(1, 2))


def _unity(like: Tensor) -> Tensor:
    return torch.eye(3, dtype=like.dtype, device=like.device).flatten()
