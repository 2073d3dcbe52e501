"""What all equivariant networks share: settings, edges, species and the order of atoms."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ..graph import Graph
from ..outputs import Outputs
from ..species import Groups, species_index
from ..spins import scaled_moments, squares
from .config import EquivariantConfig
from .irreps import SCALAR, Features
from .messages import Convolution, Edges, RadialBasis
from .tables import Tables

# Sees, and may change, the features (N, 2l + 1, n) of a stage such as "layer 1"; the last argument
# (N,) says which atom of the graph is in which row.
Edit = Callable[[str, Features, Tensor], Features]


def unedited(stage: str, features: Features, atoms: Tensor) -> Features:
    """Leave features as they are."""
    return features


class EquivariantNetwork(nn.Module):
    """Base of networks whose features turn with the axes.

    Magnetic moments enter the scalars of an atom with their squares, and functions of an edge with
    the products of both ends.

    Attributes:
        embedding: (K, n) scalars of each species before the first layer.
    """

    CONFIG: ClassVar[type[EquivariantConfig]]
    HEADS = ("readout", "readouts")
    LAYERS = ("layers",)
    properties: tuple[str, ...] = ("energy",)
    species_index: Tensor
    embedding: nn.Parameter

    def __init__(self, config: EquivariantConfig) -> None:
        super().__init__()
        self.config = config
        self.cutoff, self.hops = config.cutoff, config.num_layers
        self.invariant = True
        self.inputs: tuple[str, ...] = () if config.typical_moment is None else ("magmoms",)
        self.register_buffer("species_index", species_index(config.species), persistent=False)
        self.basis = RadialBasis(config.cutoff, config.num_basis, config.envelope_power)

    def complete(self) -> None:
        """Reserve what symbols and moments need; the last step of building a network."""
        if self.config.typical_moment is not None:
            self.moment_embedding = nn.Parameter(torch.randn_like(self.embedding))
        convolutions = [module for module in self.modules() if isinstance(module, Convolution)]
        self.width = max(convolution.width for convolution in convolutions)
        degrees = {path.degrees for convolution in convolutions for path in convolution.paths}
        self.tables = Tables(self.config.lmax, degrees)

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> Self:
        """Build from plain values; an unknown key is refused with the nearest one."""
        return cls(cls.CONFIG.from_dict(values))

    def to_config(self) -> dict[str, Any]:
        """Return the settings as a plain dictionary."""
        return asdict(self.config)

    def forward(self, graph: Graph, edge_vectors: Tensor, edit: Edit = unedited) -> Outputs:
        """Properties of atoms in the network's units, from edge vectors (E, 3) in Å.

        Energies (N,), dipoles (N, 3), polarizabilities (N, 3, 3). The list may reach beyond the
        cutoff; positions enter through ``edge_vectors`` only.
        """
        vectors = edge_vectors.to(self.embedding.dtype)
        moments = None
        if self.config.typical_moment is not None:
            moments = scaled_moments(graph.magmoms, self.config.typical_moment, vectors.dtype)
        edges = Edges.build(graph, vectors, self.basis, self.tables, self.width, moments)
        order = edges.layout.atom_order
        groups = Groups.build(self.species_index[graph.species[order]], len(self.config.species))
        scalars = self.embedding[groups.index]
        if moments is not None:
            scalars = scalars + squares(moments[order]) * self.moment_embedding[groups.index]
        features: Features = {SCALAR: scalars[:, None, :]}
        outputs = self.predict(
            features, groups, edges, lambda stage, value: edit(stage, value, order)
        )
        return {
            name: value.new_empty(value.shape).index_copy(0, order, value)
            for name, value in outputs.items()
        }

    @abstractmethod
    def predict(
        self,
        features: Features,
        atoms: Groups,
        edges: Edges,
        edit: Callable[[str, Features], Features],
    ) -> Outputs:
        """Properties of atoms in the order of the edges' layout; every stage is edited."""
