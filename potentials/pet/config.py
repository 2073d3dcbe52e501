"""PETConfig: every hyper-parameter of the Point Edge Transformer, with its default and meaning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

from ..cutoff import FUNCTIONS
from ..ecse.frames import FrameSettings, frame_settings
from ..ecse.scores import ScoreSettings
from ..outputs import RANKS
from ..plain import checked, refuse_out_of_range
from ..species import refuse_no_element
from ..suggestions import did_you_mean, refuse_misspelt

AT_LEAST_ONE = (
    "d_pet",
    "d_node",
    "d_head",
    "d_feedforward",
    "num_heads",
    "num_attention_layers",
    "num_gnn_layers",
    "max_spin_multiplicity",
)
POSITIVE = (
    "num_neighbors_adaptive",
    "cutoff_width_adaptive",
    "attention_temperature",
    "typical_moment",
)


@dataclass(frozen=True)
class PETConfig:
    """Shape of a PET; the defaults are those of metatrain 2026.4 (model version 16).

    Attributes:
        species: atomic numbers that the model knows, ascending.
        cutoff: radius of an atom's environment, Å (an upper bound if it adapts).
        cutoff_function: "bump" or "tanh" (C-infinity) or "cosine" (C1).
        cutoff_width: width of the taper, Å.
        num_neighbors_adaptive: aim for this many neighbours by an atom-wise cutoff; None: fixed.
        adaptive_cutoff_method: "solver" (root of the smooth count) or "grid" (older checkpoints).
        cutoff_width_adaptive: width of the taper in the smooth neighbour count, Å.
        d_pet: width of edge tokens.
        d_node: width of node features; None: as d_pet.
        d_head: hidden width of the readout heads.
        d_feedforward: hidden width of the edge MLP (before a gate doubles it).
        num_heads: attention heads; divides d_pet.
        num_attention_layers: transformer layers per message-passing layer.
        num_gnn_layers: message-passing layers.
        normalization: "rmsnorm" or "layernorm", in the transformer.
        activation: "swiglu" (value times sigmoid of the gate) or "silu", in the transformer.
        transformer_type: "preln" or "postln".
        featurizer: "feedforward" (production) or "residual" (the paper: a readout per layer).
        attention_temperature: divides the attention logits.
        edge_input: what an edge token sees of its vector: "vector+length", "vector" or "length"
            (the last one makes the model invariant under rotation).
        blend_neighbor_species: feed the neighbour's species into every layer, not only the first.
        properties: what it predicts: "energy", "dipole" (e·Å), "polarizability"; of published
            models also "non_conservative_forces" and "non_conservative_stress".
        system_conditioning: condition on total charge and spin multiplicity.
        max_charge: largest absolute charge, e.
        max_spin_multiplicity: largest multiplicity 2S+1.
        typical_moment: a typical magnetic moment, μ_B; makes the model read the moments of atoms,
            scaled by it. None: blind to them.
        symmetry: "none"; or "layers": every layer sees each neighbourhood in frames of its own, and
            is exactly invariant under rotation (see :mod:`.views`).
        frames: parameters of those frames.
    """

    species: tuple[int, ...]
    cutoff: float = 4.5
    cutoff_function: Literal["bump", "cosine", "tanh"] = "bump"
    cutoff_width: float = 0.5
    num_neighbors_adaptive: float | None = None
    adaptive_cutoff_method: Literal["solver", "grid"] = "solver"
    cutoff_width_adaptive: float = 1.0
    d_pet: int = 128
    d_node: int | None = 256
    d_head: int = 128
    d_feedforward: int = 256
    num_heads: int = 8
    num_attention_layers: int = 2
    num_gnn_layers: int = 2
    normalization: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    activation: Literal["swiglu", "silu"] = "swiglu"
    transformer_type: Literal["preln", "postln"] = "preln"
    featurizer: Literal["feedforward", "residual"] = "feedforward"
    attention_temperature: float = 1.0
    edge_input: Literal["vector+length", "vector", "length"] = "vector+length"
    blend_neighbor_species: bool = True
    properties: tuple[str, ...] = ("energy",)
    system_conditioning: bool = False
    max_charge: int = 10
    max_spin_multiplicity: int = 10
    typical_moment: float | None = None
    symmetry: Literal["none", "layers"] = "none"
    frames: FrameSettings = field(default_factory=ScoreSettings)

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        object.__setattr__(self, "species", tuple(sorted(int(z) for z in self.species)))
        if not self.species or len(set(self.species)) != len(self.species):
            raise ValueError(f"species must be distinct atomic numbers, not {self.species}.")
        for number in self.species:
            refuse_no_element(number)
        object.__setattr__(self, "properties", tuple(self.properties))
        for name in self.properties:
            refuse_misspelt("property", name, RANKS)
        if not self.properties:
            raise ValueError("properties is empty; name at least one, such as 'energy'.")
        refuse_out_of_range(
            self, positive=POSITIVE, at_least_one=AT_LEAST_ONE, not_negative=("max_charge",)
        )
        if self.d_pet % self.num_heads:
            raise ValueError(
                f"d_pet = {self.d_pet} must be a multiple of num_heads = {self.num_heads}."
            )
        if not 0 < self.cutoff_width <= self.cutoff:
            raise ValueError(
                f"cutoff_width = {self.cutoff_width} Å must lie between 0 and the cutoff "
                f"({self.cutoff} Å)."
            )
        hints = get_type_hints(type(self))
        for name, hint in hints.items():
            options = [o for o in get_args(hint) if isinstance(o, str)]
            value = getattr(self, name)
            if options and value not in options:
                raise ValueError(f"{name} = {value!r}; {did_you_mean(str(value), options)}")
        if self.symmetry == "layers" and self.edge_input != "vector+length":
            raise ValueError(
                f"symmetry = 'layers' needs edge_input = 'vector+length', not {self.edge_input!r}."
            )
        assert set(get_args(hints["cutoff_function"])) == set(FUNCTIONS)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PETConfig:
        """Build from plain values, as found in a YAML file; an unknown key is refused."""
        if "frames" in values:
            values = {**values, "frames": frame_settings(values["frames"])}
        return cls(**checked(cls, values, "PET setting"))

    @property
    def node_width(self) -> int:
        """Width of node features."""
        return self.d_pet if self.d_node is None else self.d_node
