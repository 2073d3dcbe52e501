"""EquivariantConvolution: a graph convolution with freely chosen irreps, in the manner of NequIP.

Layer by layer (Batzner et al., Nat. Commun. 13, 2453, 2022; simplified as in Lee, Galkin & Miret,
arXiv 2410.08131): features are mixed, convolved with spherical harmonics of the edges, mixed again,
added to a self-interaction of each species, and gated. With scalars alone and harmonics of degree 0
it is the invariant network (L0Net), with scalars and vectors the equivariant one (L1Net) of Miller
et al. (arXiv 2008.08461).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..graph import Graph
from ..outputs import RANKS, Outputs
from ..suggestions import refuse_misspelt
from .irreps import SCALAR, Features, Irrep, Irreps
from .layers import Convolution, Edges, EquivariantLinear, Gate, Radial, SpeciesLinear, paths
from .tables import CONVENTION, Tables

VECTOR, TENSOR = Irrep(1, -1), Irrep(2, 1)
# What a property is read from: energies from scalars, dipoles from vectors, and so on.
READ_FROM = {"energy": (SCALAR,), "dipole": (VECTOR,), "polarizability": (SCALAR, TENSOR)}


@dataclass(frozen=True)
class ConvolutionConfig:
    """Shape of an EquivariantConvolution.

    Attributes:
        species: atomic numbers that the model knows, ascending.
        cutoff: radius of an atom's environment, Å.
        irreps: hidden features of all layers, such as "32x0e + 32x1o + 16x2e".
        lmax: largest degree of the harmonics of an edge.
        num_layers: convolutions.
        num_basis: Bessel functions of a length.
        radial_width: hidden width of the radial MLP.
        radial_depth: its hidden layers.
        envelope_power: p of the polynomial envelope at the cutoff.
        average_neighbors: typical number of neighbours, by whose square root sums are divided.
        properties: what it predicts: "energy", "dipole" (e·Å), "polarizability".
        convention: of harmonics and coupling coefficients.
    """

    species: tuple[int, ...]
    cutoff: float = 4.5
    irreps: str = "32x0e + 32x1o"
    lmax: int = 1
    num_layers: int = 3
    num_basis: int = 8
    radial_width: int = 64
    radial_depth: int = 1
    envelope_power: int = 6
    average_neighbors: float = 20.0
    properties: tuple[str, ...] = ("energy",)
    convention: str = CONVENTION

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        object.__setattr__(self, "species", tuple(sorted(int(z) for z in self.species)))
        object.__setattr__(self, "properties", tuple(self.properties))
        if not self.species or len(set(self.species)) != len(self.species):
            raise ValueError(f"species must be distinct atomic numbers, not {self.species}.")
        for name in self.properties:
            refuse_misspelt("property", name, RANKS)
        refuse_misspelt("convention", self.convention, (CONVENTION,))
        for name in ("num_layers", "num_basis", "radial_width", "envelope_power"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1.")
        if self.lmax < 0:
            raise ValueError(f"lmax = {self.lmax} must not be negative.")
        for name in ("cutoff", "average_neighbors"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)} must be positive.")
        for name in self.properties:
            degree = max(irrep.l for irrep in READ_FROM[name])
            if degree > self.lmax:
                raise ValueError(
                    f"{name!r} needs harmonics of degree {degree}, but lmax = {self.lmax}."
                )
        if SCALAR not in self.hidden:
            raise ValueError(
                f"irreps {self.irreps!r} need scalars, such as '32x0e', for the gates."
            )

    @property
    def hidden(self) -> Irreps:
        """Irreps of the features between layers."""
        return Irreps.parse(self.irreps)


class EquivariantConvolution(nn.Module):
    """Energies, dipoles and polarizabilities of atoms from features that turn with the axes."""

    species_index: Tensor

    def __init__(self, config: ConvolutionConfig) -> None:
        super().__init__()
        self.config = config
        self.cutoff, self.hops = config.cutoff, config.num_layers
        self.invariant = True
        self.inputs: tuple[str, ...] = ()
        self.properties = config.properties
        table = torch.full((119,), -1, dtype=torch.int64)
        table[list(config.species)] = torch.arange(len(config.species))
        self.register_buffer("species_index", table, persistent=False)

        hidden = config.hidden
        start = Irreps({SCALAR: hidden[SCALAR]})
        final = [irrep for name in config.properties for irrep in READ_FROM[name]]
        last = Irreps({irrep: hidden.get(irrep, hidden[SCALAR]) for irrep in {*final, SCALAR}})
        shapes = _reachable(start, [hidden] * (config.num_layers - 1) + [last], config.lmax)
        degrees = {
            (group.irrep.l, degree, target.l)
            for irreps, target_irreps in pairwise(shapes)
            for group in paths(irreps, list(target_irreps), config.lmax)
            for degree, target in group.targets
        }
        self.tables = Tables(config.lmax, degrees)
        self.embedding = nn.Parameter(torch.randn(len(config.species), hidden[SCALAR]))
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

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> EquivariantConvolution:
        """Build from plain values; an unknown key is refused with the nearest one."""
        known = [field.name for field in fields(ConvolutionConfig)]
        for key in values:
            refuse_misspelt("EquivariantConvolution setting", key, known)
        return cls(ConvolutionConfig(**values))

    def to_config(self) -> dict[str, Any]:
        """Return the settings as a plain dictionary."""
        return asdict(self.config)

    def forward(self, graph: Graph, edge_vectors: Tensor) -> Outputs:
        """Properties of atoms in the network's units, from edge vectors (E, 3) in Å.

        Energies (N,), dipoles (N, 3), polarizabilities (N, 3, 3). The list may reach beyond the
        cutoff; positions enter through ``edge_vectors`` only.
        """
        features = self.features(graph, edge_vectors)[-1]
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

    def features(self, graph: Graph, edge_vectors: Tensor) -> list[Features]:
        """Features of the atoms before the first layer and after every one."""
        vectors = edge_vectors.to(self.embedding.dtype)
        lengths = vectors.square().sum(-1).sqrt()
        (near,) = torch.nonzero(lengths < self.cutoff, as_tuple=True)
        vectors, lengths = vectors.index_select(0, near), lengths[near]
        edges = Edges(
            lengths,
            self.tables.harmonics(vectors / lengths[:, None]),
            graph.centers[near],
            graph.neighbors[near],
            self.tables,
        )
        species = self.species_index[graph.species]
        # Not `embedding[species]`: the index of an unknown species, -1, would be the last one.
        start = self.embedding.index_select(0, species)[:, None, :]
        found: list[Features] = [{SCALAR: start}]
        for layer in self.layers:
            found.append(layer(found[-1], species, edges))
        return found

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
            irreps_in, list(self.gate.irreps_in), config.lmax, config.average_neighbors
        )
        hidden = [config.radial_width] * config.radial_depth
        self.radial = Radial(
            config.cutoff,
            config.num_basis,
            hidden,
            self.convolution.num_weights,
            config.envelope_power,
        )
        self.mix_messages = EquivariantLinear(self.convolution.irreps_out, self.gate.irreps_in)
        self.self_interaction = SpeciesLinear(irreps_in, self.gate.irreps_in, len(config.species))

    def forward(self, features: Features, species: Tensor, edges: Edges) -> Features:
        """Features (N, 2l + 1, n) of the next layer; species (N,)."""
        weights = self.radial(edges.lengths)
        messages = self.convolution(self.mix(features), weights, edges)
        updated = self.mix_messages(messages)
        for irrep, value in self.self_interaction(features, species).items():
            updated[irrep] = updated[irrep] + value if irrep in updated else value
        return self.gate(updated)


def _reachable(start: Irreps, wanted: list[Irreps], lmax: int) -> list[Irreps]:
    """Irreps before the first layer and after each: of what is wanted, what paths lead to."""
    shapes = [start]
    for irreps in wanted:
        targets = {t for group in paths(shapes[-1], list(irreps), lmax) for _, t in group.targets}
        shapes.append(Irreps({irrep: n for irrep, n in irreps.items() if irrep in targets}))
    return shapes
