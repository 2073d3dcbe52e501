"""EquivariantConvolution: a graph convolution with freely chosen irreps, in the manner of NequIP.

Layer by layer (Batzner et al., Nat. Commun. 13, 2453, 2022; simplified as in Lee, Galkin & Miret,
arXiv 2410.08131): features are mixed, convolved with spherical harmonics of the edges, mixed again,
added to a self-interaction of each species, and gated. With scalars alone and harmonics of degree 0
it is the invariant network (L0Net), with scalars and vectors the equivariant one (L1Net) of Miller
et al. (arXiv 2008.08461).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..outputs import Outputs
from ..species import Groups
from ..suggestions import refuse_misspelt
from .config import EquivariantConfig
from .irreps import SCALAR, Features, Irrep, Irreps
from .linear import EquivariantLinear, Gate, SpeciesLinear, add
from .messages import Convolution, Edges
from .network import EquivariantNetwork

VECTOR, TENSOR = Irrep(1, -1), Irrep(2, 1)
# What a property is read from: energies from scalars, dipoles from vectors, and so on.
READ_FROM = {"energy": (SCALAR,), "dipole": (VECTOR,), "polarizability": (SCALAR, TENSOR)}


@dataclass(frozen=True)
class ConvolutionConfig(EquivariantConfig):
    """Shape of an EquivariantConvolution.

    Attributes:
        properties: what it predicts: "energy", "dipole" (e·Å), "polarizability".
    """

    properties: tuple[str, ...] = ("energy",)

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        object.__setattr__(self, "properties", tuple(self.properties))
        if not self.properties:
            raise ValueError("properties is empty; name at least one, such as 'energy'.")
        for name in self.properties:
            refuse_misspelt("property", name, READ_FROM)
            degree = max(irrep.l for irrep in READ_FROM[name])
            if degree > self.lmax:
                raise ValueError(
                    f"{name!r} needs harmonics of degree {degree}, but lmax = {self.lmax}."
                )

    @property
    def final(self) -> set[Irrep]:
        """Irreps that the properties are read from."""
        return {irrep for name in self.properties for irrep in READ_FROM[name]}


class EquivariantConvolution(EquivariantNetwork):
    """Energies, dipoles and polarizabilities of atoms from features that turn with the axes."""

    CONFIG = ConvolutionConfig

    def __init__(self, config: ConvolutionConfig) -> None:
        super().__init__(config)
        self.properties = config.properties
        shapes = config.layers()
        self.embedding = nn.Parameter(torch.randn(len(config.species), shapes[0][SCALAR]))
        self.layers = nn.ModuleList(
            ConvolutionLayer(irreps, target, config) for irreps, target in pairwise(shapes)
        )
        self.readouts = nn.ModuleDict(
            {
                name: EquivariantLinear(
                    shapes[-1], Irreps(dict.fromkeys(READ_FROM[name], 1)), bias=name == "energy"
                )
                for name in config.properties
            }
        )
        self.complete()

    def predict(
        self,
        features: Features,
        atoms: Groups,
        edges: Edges,
        edit: Callable[[str, Features], Features],
    ) -> Outputs:
        """Properties of atoms, of features after the last layer."""
        for k, layer in enumerate(self.layers, start=1):
            features = edit(f"layer {k}", layer(features, atoms, edges))
        outputs: Outputs = {}
        for name, readout in self.readouts.items():
            read = readout(features)
            if name == "energy":
                outputs[name] = read[SCALAR][:, 0, 0]
            elif name == "dipole":
                outputs[name] = read[VECTOR][:, :, 0]
            else:
                outputs[name] = self._tensor(read[SCALAR][:, 0, 0], read[TENSOR][:, :, 0])
        return outputs

    def _tensor(self, scalar: Tensor, tensor: Tensor) -> Tensor:
        """Symmetric tensors (N, 3, 3) of scalars (N,) and components (N, 5) of degree 2."""
        basis = self.tables.quadrupoles(tensor.dtype)
        identity = torch.eye(3, dtype=scalar.dtype, device=scalar.device)
        return scalar[:, None, None] * identity + torch.einsum("nm,mxy->nxy", tensor, basis)


class ConvolutionLayer(nn.Module):
    """Mix, convolve, mix, add the self-interaction, gate."""

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, config: ConvolutionConfig) -> None:
        super().__init__()
        self.gate = Gate(irreps_out)
        self.mix = EquivariantLinear(irreps_in, irreps_in)
        self.convolution = Convolution(
            irreps_in,
            list(self.gate.irreps_in),
            config.lmax,
            config.radial_sizes,
            1 / math.sqrt(config.average_neighbors),
        )
        self.mix_messages = EquivariantLinear(self.convolution.irreps_out, self.gate.irreps_in)
        self.self_interaction = SpeciesLinear(irreps_in, self.gate.irreps_in, len(config.species))

    def forward(self, features: Features, atoms: Groups, edges: Edges) -> Features:
        """Features (N, 2l + 1, n) of the next layer."""
        messages = self.mix_messages(self.convolution(self.mix(features), edges))
        return self.gate(add(messages, self.self_interaction(features, atoms)))
