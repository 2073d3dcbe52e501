"""Potential: a network, its energy baseline and scale, and everything derived from its energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .counting import count
from .derivatives import (
    direct_predictions,
    edge_forces,
    edge_gradient,
    mean_over_atoms,
    strain_gradient,
    sum_over_atoms,
)
from .graph import Graph
from .outputs import DIRECT, Outputs, along
from .rigidity import Rigidity
from .species import refuse_no_element
from .zbl import ZBL


class Network(Protocol):
    """What a potential needs of an architecture; see :class:`pointedge.potentials.pet.PET`.

    Attributes:
        HEADS: names of its modules that read properties from features.
        LAYERS: names of its lists whose entries belong to layer 0, 1, and so on.
        cutoff: radius of the edges it needs, Å.
        hops: number of message-passing steps: an atom's energy depends on the environments of
            atoms up to ``hops - 1`` edges away.
        invariant: whether its energies are invariant under O(3) by construction.
        inputs: names of the optional inputs of :class:`Graph` that it reads.
        properties: names of what it predicts, of :data:`.outputs.RANKS`.
    """

    HEADS: tuple[str, ...]
    LAYERS: tuple[str, ...]
    cutoff: float
    hops: int
    invariant: bool
    inputs: tuple[str, ...]
    properties: tuple[str, ...]

    def __call__(self, graph: Graph, edge_vectors: Tensor) -> Outputs:
        """Properties (N, ...) of atoms by name, from edge vectors (E, 3)."""

    def to_config(self) -> dict[str, Any]:
        """Return the settings, as plain values; "species" lists the atomic numbers."""


@dataclass(frozen=True)
class Prediction:
    """Energy, derivatives and more of a batch of B structures with N atoms, in float64.

    Attributes:
        energies: (N,) eV, without the baseline: scale times network, plus repulsion. NaN, as are
            the sums, if the network has no energy.
        energy: (B,) eV, their sums, without the baseline.
        baseline: (B,) eV, the sums of the species' baseline energies.
        atomic_baseline: (N,) eV.
        forces: (N, 3) eV/Å, or None.
        strain_gradient: (B, 3, 3) eV, dE/dε for a general strain r → r(1 + ε), or None.
        moments: what else the network predicts, summed over atoms: "dipole" (B, 3) in e·Å,
            "polarizability" (B, 3, 3) in the unit of its labels.
        direct: "forces" (N, 3) in eV/Å, without their mean in each structure, and "stress"
            (B, 3, 3) in eV/Å³ that the network predicts and that are no derivatives.
    """

    energies: Tensor
    energy: Tensor
    baseline: Tensor
    atomic_baseline: Tensor
    forces: Tensor | None = None
    strain_gradient: Tensor | None = None
    moments: Outputs = field(default_factory=dict)
    direct: Outputs = field(default_factory=dict)

    @property
    def virial(self) -> Tensor:
        """dE/dε (B, 3, 3) in eV with respect to symmetric strain."""
        if self.strain_gradient is None:
            raise ValueError("the virial was not asked for; call the potential with virial=True.")
        return 0.5 * (self.strain_gradient + self.strain_gradient.transpose(-1, -2))

    @property
    def torque(self) -> Tensor:
        """Antisymmetric part (B, 3, 3) of dE/dε in eV; zero for an exactly invariant model."""
        if self.strain_gradient is None:
            raise ValueError("the virial was not asked for; call the potential with virial=True.")
        return 0.5 * (self.strain_gradient - self.strain_gradient.transpose(-1, -2))


class Potential(nn.Module):
    """Total energy E = Σ_i [scale · network_i + repulsion_i + baseline(species_i)].

    Positions enter through the edge vectors v alone, so that one gradient g = dE/dv gives forces
    F_k = Σ_{e from k} g_e - Σ_{e to k} g_e and the strain derivative Σ_e v_e ⊗ g_e. Edge vectors,
    sums, baseline and repulsion are float64 whatever the network's type.

    Args:
        network: the architecture.
        baseline: energy in eV of each species, by atomic number.
        scale: factor on the network's energies, eV.
        repulsion: add a ZBL repulsion at short range.
        auxiliary: an invariant network that symmetrisation uses where an atom has no frame (see
            :mod:`pointedge.potentials.ecse`); the potential itself does not call it.
        information: what a model card says, plain values (data, errors, units).
        rigidity: standard deviations of its energies, see :mod:`.rigidity`.
    """

    baseline: Tensor
    scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        baseline: dict[int, float] | None = None,
        scale: float = 1.0,
        repulsion: bool = False,
        information: dict[str, Any] | None = None,
        auxiliary: nn.Module | None = None,
        rigidity: Rigidity | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.auxiliary = auxiliary
        self.rigidity = rigidity
        self.species: tuple[int, ...] = tuple(network.to_config()["species"])  # type: ignore[operator]
        self.zbl = ZBL(self.species) if repulsion else None
        self.information = dict(information or {})
        table = torch.zeros(119, dtype=torch.float64)
        for number, energy in (baseline or {}).items():
            refuse_no_element(int(number))
            table[int(number)] = energy
        self.register_buffer("baseline", table)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        for name in self.properties:
            if name != "energy":
                shape = (119,) if name in DIRECT else ()  # those of atoms may differ by species
                self.register_buffer(f"{name}_scale", torch.ones(shape, dtype=torch.float64))

    @property
    def cutoff(self) -> float:
        """Radius in Å that the neighbour list must have."""
        cutoff = float(self.network.cutoff)  # type: ignore[arg-type]
        return cutoff if self.zbl is None else max(cutoff, self.zbl.cutoff)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the optional inputs of a graph that the network reads."""
        return self.network.inputs  # type: ignore[return-value]

    @property
    def properties(self) -> tuple[str, ...]:
        """Names of what the network predicts."""
        return self.network.properties  # type: ignore[return-value]

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the network."""
        return next(self.network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Potential:
        """Move and convert; baseline, scale, repulsion and uncertainty stay in float64."""
        modules = [m for m in (self, self.zbl, self.rigidity) if m is not None]
        kept = [(m, dict(m.named_buffers(recurse=False))) for m in modules]
        super()._apply(fn, recurse)
        for module, buffers in kept:
            for name, buffer in buffers.items():
                setattr(module, name, buffer.to(getattr(module, name).device))
        return self

    def forward(
        self, graph: Graph, *, forces: bool = True, virial: bool = False, create_graph: bool = False
    ) -> Prediction:
        """Predict a batch; ``create_graph`` keeps results differentiable in the weights.

        Raises:
            ValueError: derivatives of an energy that the network does not predict, or in torch's
                inference mode, which has none; a graph without atoms.
        """
        derivatives = forces or virial
        if graph.num_atoms == 0:
            raise ValueError("the graph has no atoms; give at least one.")
        if derivatives and torch.is_inference_mode_enabled():
            raise ValueError(
                "torch.inference_mode() lets nothing be differentiated, and forces would be zero; "
                "leave it out, or use torch.no_grad()."
            )
        if derivatives and "energy" not in self.properties:
            raise ValueError(
                f"the model predicts {', '.join(self.properties)}, and no energy to differentiate; "
                "call it with forces=False."
            )
        vectors = graph.edge_vectors().to(torch.float64)
        if derivatives:
            vectors = vectors.detach().requires_grad_()
        with torch.set_grad_enabled(derivatives or create_graph):
            outputs = self.atomic_properties(graph, vectors)
            energies = outputs.pop(
                "energy", torch.full_like(self.baseline[graph.species], torch.nan)
            )
            gradient = None
            if derivatives:
                gradient = edge_gradient(energies, vectors, create_graph=create_graph)
        if not create_graph:
            energies = energies.detach()
            outputs = {name: value.detach() for name, value in outputs.items()}
        atomic_baseline = self.baseline[graph.species]
        return Prediction(
            energies=energies,
            energy=sum_over_atoms(energies, graph),
            baseline=sum_over_atoms(atomic_baseline, graph),
            atomic_baseline=atomic_baseline,
            forces=edge_forces(gradient, graph) if forces and gradient is not None else None,
            strain_gradient=(
                strain_gradient(gradient, vectors, graph)
                if virial and gradient is not None
                else None
            ),
            moments={
                name: sum_over_atoms(value, graph)
                for name, value in outputs.items()
                if name not in DIRECT
            },
            direct=direct_predictions(outputs, graph),
        )

    def last_layer_features(self, graph: Graph) -> Tensor:
        """What energies of atoms are linear in (N, F), float64; of networks that have such.

        They describe environments, for selections and maps, and uncertainties are made of them.

        Raises:
            ValueError: the network has none.
        """
        if not hasattr(self.network, "last_layer_features"):
            raise ValueError(
                f"a {type(self.network).__name__} shows no features, which uncertainties are made "
                "of; take a PET or MACE without symmetrisation, or an ensemble."
            )
        with torch.no_grad():
            vectors = graph.edge_vectors().to(torch.float64)
            found: Tensor = self.network.last_layer_features(graph, vectors)  # type: ignore[operator]
            return found.to(torch.float64)

    def mean_features(self, graph: Graph) -> Tensor:
        """Features (B, F) of the network's last layer, means over atoms, in float64."""
        return mean_over_atoms(self.last_layer_features(graph), graph)

    def standard_deviations(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """How sure energies are: of structures (B,) and atoms (N,), eV, see :mod:`.rigidity`.

        Raises:
            ValueError: the potential has no rigidity, or its network no features.
        """
        if self.rigidity is None:
            raise ValueError(
                "the model does not know how sure it is; give it that with `pointedge "
                "fit-uncertainty`."
            )
        features = self.last_layer_features(graph)
        atoms = count(graph.structure, graph.num_structures)
        return atoms * self.rigidity(mean_over_atoms(features, graph)), self.rigidity(features)

    def atomic_properties(self, graph: Graph, edge_vectors: Tensor) -> Outputs:
        """Properties (N, ...) in float64, differentiable in the edge vectors (E, 3).

        The "energy" is in eV and without the baseline.
        """
        outputs = {
            name: self._scaled(name, value.to(torch.float64), graph.species)
            for name, value in self.network(graph, edge_vectors).items()
        }
        if self.zbl is not None and "energy" in outputs:
            outputs["energy"] = outputs["energy"] + self.zbl(
                graph.species, graph.centers, graph.neighbors, edge_vectors
            )
        return outputs

    def scale_of(self, name: str) -> Tensor:
        """The factor on a property of the network, or that of each species (119,)."""
        return self.scale if name == "energy" else self.get_buffer(f"{name}_scale")

    def _scaled(self, name: str, value: Tensor, species: Tensor) -> Tensor:
        scale = self.scale_of(name)
        return scale * value if scale.ndim == 0 else along(scale[species], value)
