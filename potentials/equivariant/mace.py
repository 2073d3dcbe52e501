"""MACE: messages of higher body order by symmetric products (Batatia et al., arXiv 2206.07697).

As the package ``mace-torch`` 0.3 computes ``MACE`` and ``ScaleShiftMACE`` with the blocks
``RealAgnosticInteractionBlock`` and ``RealAgnosticResidualInteractionBlock``: in every layer
features are convolved with harmonics of the edges up to a high degree, summed over neighbours,
multiplied with one another on the atom, and read out. Two layers are usually enough. Left out of
what the package offers: density blocks, other radial functions and distance transforms, parity that
is not natural, correlation 4, several heads; its ZBL is this project's own (``zbl: true``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from ..graph import Graph
from ..outputs import Outputs
from ..plain import refuse_out_of_range
from ..species import Groups
from ..suggestions import refuse_misspelt
from .config import EquivariantConfig
from .irreps import SCALAR, Features, Irrep, Irreps
from .linear import MLP, EquivariantLinear, SpeciesLinear, add
from .messages import Convolution, Edges
from .network import EquivariantNetwork
from .product import SymmetricProduct

FirstInteraction = Literal["residual", "agnostic"]
CORRELATIONS = (1, 2, 3)


@dataclass(frozen=True)
class MACEConfig(EquivariantConfig):
    """Shape of a MACE.

    All irreps have natural parity (0e, 1o, 2e, ...) and the same number of channels.

    Attributes:
        correlation: factors of the products, 1 to 3: of all layers, or of each.
        first_interaction: "residual": the first layer adds a linear map of the features before it,
            as the others do; "agnostic": it mixes the channels of each species instead.
        readout_width: hidden width of the last layer's readout.
    """

    irreps: str = "64x0e + 64x1o"
    lmax: int = 3
    num_layers: int = 2
    radial_depth: int = 3
    envelope_power: int = 5
    correlation: int | tuple[int, ...] = 3
    first_interaction: FirstInteraction = "residual"
    readout_width: int = 16

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        refuse_out_of_range(self, at_least_one=("readout_width",))
        refuse_misspelt("first_interaction", self.first_interaction, get_args(FirstInteraction))
        if not isinstance(self.correlation, int):
            object.__setattr__(self, "correlation", tuple(self.correlation))
        if len(self.correlations) != self.num_layers:
            raise ValueError(
                f"correlation = {self.correlation} names {len(self.correlations)} layers, and "
                f"num_layers = {self.num_layers}."
            )
        for order in self.correlations:
            if order not in CORRELATIONS:
                raise ValueError(f"correlation = {self.correlation} must be of 1, 2 or 3.")
        odd = [str(irrep) for irrep in self.hidden if irrep != Irrep.harmonic(irrep.l)]
        if odd or self.hidden.lmax > self.lmax:
            raise ValueError(
                f"{', '.join(odd) or self.hidden} of irreps {self.irreps!r}: MACE has those of "
                f"harmonics up to lmax = {self.lmax} only: "
                f"{', '.join(str(Irrep.harmonic(k)) for k in range(self.lmax + 1))}."
            )
        if len(set(self.hidden.values())) > 1:
            raise ValueError(f"irreps {self.irreps!r} must have equally many channels in MACE.")

    @property
    def correlations(self) -> tuple[int, ...]:
        """Correlation of each layer."""
        one = self.correlation
        return (one,) * self.num_layers if isinstance(one, int) else one


class MACE(EquivariantNetwork):
    """Energies of atoms from many-body features that turn with the axes."""

    CONFIG = MACEConfig

    def __init__(self, config: MACEConfig) -> None:
        super().__init__(config)
        shapes = config.layers()
        self.embedding = nn.Parameter(torch.randn(len(config.species), shapes[0][SCALAR]))
        self.layers = nn.ModuleList(
            MACELayer(irreps, target, correlation, config, residual)
            for (irreps, target), correlation, residual in zip(
                pairwise(shapes),
                config.correlations,
                [config.first_interaction == "residual", *[True] * (config.num_layers - 1)],
                strict=True,
            )
        )
        linear = [[shapes[0][SCALAR], 1]] * (config.num_layers - 1)
        last = [shapes[0][SCALAR], *[config.readout_width] * (config.num_layers > 1), 1]
        self.readouts = nn.ModuleList(MLP(sizes) for sizes in [*linear, last])
        self.complete()

    def predict(
        self,
        features: Features,
        atoms: Groups,
        edges: Edges,
        edit: Callable[[str, Features], Features],
    ) -> Outputs:
        """Energies (N,) of atoms, summed over layers."""
        energies = []
        for k, (layer, readout) in enumerate(zip(self.layers, self.readouts, strict=True), start=1):
            messages = partial(edit, f"messages {k}")
            features = edit(f"layer {k}", layer(features, atoms, edges, messages))
            energies.append(readout(features[SCALAR][:, 0])[:, 0])
        return {"energy": torch.stack(energies).sum(0)}

    def last_layer_features(self, graph: Graph, edge_vectors: Tensor) -> Tensor:
        """What an atom's energy is linear in (N, F): inputs of the last weights of its readouts."""
        found: list[Tensor] = []

        def keep(stage: str, features: Features, atoms: Tensor) -> Features:
            if stage.startswith("layer"):
                readout = cast("MLP", self.readouts[len(found)])
                hidden = readout.hidden(features[SCALAR][:, 0])
                found.append(torch.empty_like(hidden).index_copy(0, atoms, hidden))
            return features

        self(graph, edge_vectors, keep)
        return torch.cat(found, dim=1)


class MACELayer(nn.Module):
    """Convolve, multiply, add what was there before."""

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_out: Irreps,
        correlation: int,
        config: MACEConfig,
        residual: bool,
    ) -> None:
        super().__init__()
        channels, kinds = irreps_in[SCALAR], len(config.species)
        many = Irreps(dict.fromkeys(map(Irrep.harmonic, range(config.lmax + 1)), channels))
        self.residual = residual
        self.mix = EquivariantLinear(irreps_in, irreps_in)
        self.convolution = Convolution(
            irreps_in,
            list(many),
            config.lmax,
            config.radial_sizes,
            1 / config.average_neighbors,
        )
        self.mix_messages = EquivariantLinear(self.convolution.irreps_out, many)
        self.by_species = SpeciesLinear(
            irreps_in if residual else many, irreps_out if residual else many, kinds
        )
        self.product = SymmetricProduct(channels, config.lmax, irreps_out, correlation, kinds)
        self.mix_products = EquivariantLinear(irreps_out, irreps_out)

    def forward(
        self,
        features: Features,
        atoms: Groups,
        edges: Edges,
        edit: Callable[[Features], Features],
    ) -> Features:
        """Features (N, 2l + 1, n) of the next layer; messages, up to degree lmax, are edited."""
        messages = self.mix_messages(self.convolution(self.mix(features), edges))
        if not self.residual:
            messages = self.by_species(messages, atoms)
        updated = self.mix_products(self.product(edit(messages), atoms))
        return add(updated, self.by_species(features, atoms)) if self.residual else updated
