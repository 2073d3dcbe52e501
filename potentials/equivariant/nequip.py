"""NequIP: E(3)-equivariant convolutions over geometric tensors (Batzner et al., 2022).

Nat. Commun. 13, 2453, as the package ``nequip`` 0.16-0.19 computes it: in every layer features are
mixed, convolved with harmonics of the edges, mixed again, added to a self-connection through the
embedding of the species (from the second layer on), and gated; the energy is read from the scalars
of the last layer. Left out of what the package offers: trainable Bessel functions, cutoffs,
neighbour numbers and energy scales of each species, residual connections, its own ZBL.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..outputs import Outputs
from ..plain import refuse_out_of_range
from ..species import Groups
from .config import EquivariantConfig
from .irreps import SCALAR, Features, Irreps
from .linear import MLP, EquivariantLinear, Gate, SpeciesLinear, add
from .messages import Convolution, Edges
from .network import EquivariantNetwork


@dataclass(frozen=True)
class NequIPConfig(EquivariantConfig):
    """Shape of a NequIP; the defaults are those of the package, but for parity.

    Irreps with both parities, "32x0e + 32x1o + 32x1e", are what the package calls ``parity: true``.

    Attributes:
        embedding_width: numbers that describe a species; None: as many as scalars.
        readout_depth: hidden layers of the readout of the energy.
        readout_width: their width; None: as many as scalars.
    """

    num_layers: int = 4
    radial_width: int = 128
    embedding_width: int | None = None
    readout_depth: int = 0
    readout_width: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        refuse_out_of_range(
            self,
            not_negative=("readout_depth",),
            at_least_one=("embedding_width", "readout_width"),
        )


class NequIP(EquivariantNetwork):
    """Energies of atoms from features that turn with the axes."""

    CONFIG = NequIPConfig

    def __init__(self, config: NequIPConfig) -> None:
        super().__init__(config)
        shapes = config.layers()
        scalars = shapes[0][SCALAR]
        width = config.embedding_width or scalars
        self.embedding = nn.Parameter(torch.randn(len(config.species), width))
        shapes[0] = Irreps({SCALAR: width})
        self.layers = nn.ModuleList(
            NequIPLayer(irreps, target, config, width, first=k == 0)
            for k, (irreps, target) in enumerate(pairwise(shapes))
        )
        hidden = [config.readout_width or scalars] * config.readout_depth
        self.readout = MLP([scalars, *hidden, 1], gain=math.sqrt(2))
        self.complete()

    def predict(
        self,
        features: Features,
        atoms: Groups,
        edges: Edges,
        edit: Callable[[str, Features], Features],
    ) -> Outputs:
        """Energies (N,) of atoms, from the scalars after the last layer."""
        for k, layer in enumerate(self.layers, start=1):
            features = edit(f"layer {k}", layer(features, atoms, edges, self.embedding))
        return {"energy": self.readout(features[SCALAR][:, 0])[:, 0]}


class NequIPLayer(nn.Module):
    """Mix, convolve, mix, connect with the features before, gate."""

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_out: Irreps,
        config: NequIPConfig,
        embedding_width: int,
        first: bool,
    ) -> None:
        super().__init__()
        self.gate = Gate(irreps_out)
        wanted = self.gate.irreps_in
        self.mix = EquivariantLinear(irreps_in, irreps_in)
        self.convolution = Convolution(
            irreps_in,
            list(wanted),
            config.lmax,
            config.radial_sizes,
            1 / math.sqrt(config.average_neighbors),
            gain=math.sqrt(2),
        )
        self.mix_messages = EquivariantLinear(self.convolution.irreps_out, wanted)
        self.self_connection = (
            None
            if first
            else SpeciesLinear(irreps_in, wanted, len(config.species), embedding_width)
        )

    def forward(
        self, features: Features, atoms: Groups, edges: Edges, embedding: Tensor
    ) -> Features:
        """Features (N, 2l + 1, n) of the next layer; ``embedding`` (K, T) of the species."""
        updated = self.mix_messages(self.convolution(self.mix(features), edges))
        if self.self_connection is not None:
            updated = add(updated, self.self_connection(features, atoms, embedding))
        return self.gate(updated)
