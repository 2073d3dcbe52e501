"""Names of settings and weights: ours, and those of metatrain's PET (model version 16)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..config import PETConfig
from .errors import PublishedError

# Their hyper-parameter -> our setting; words are ours in lower case.
SETTINGS = {
    "cutoff": "cutoff",
    "cutoff_function": "cutoff_function",
    "cutoff_width": "cutoff_width",
    "num_neighbors_adaptive": "num_neighbors_adaptive",
    "adaptive_cutoff_method": "adaptive_cutoff_method",
    "cutoff_width_adaptive": "cutoff_width_adaptive",
    "d_pet": "d_pet",
    "d_head": "d_head",
    "d_node": "d_node",
    "d_feedforward": "d_feedforward",
    "num_heads": "num_heads",
    "num_attention_layers": "num_attention_layers",
    "num_gnn_layers": "num_gnn_layers",
    "normalization": "normalization",
    "activation": "activation",
    "attention_temperature": "attention_temperature",
    "transformer_type": "transformer_type",
    "featurizer_type": "featurizer",
    "system_conditioning": "system_conditioning",
    "max_charge": "max_charge",
    "max_spin_multiplicity": "max_spin_multiplicity",
}
WORDS = ("Bump", "Cosine", "RMSNorm", "LayerNorm", "SwiGLU", "SiLU", "PreLN", "PostLN")
ADDITIVE = ("zbl", "long_range")  # hyper-parameters of what is added to the network


def to_config(
    hypers: Mapping[str, Any], species: tuple[int, ...], properties: tuple[str, ...] = ("energy",)
) -> PETConfig:
    """Settings of a network of ours.

    Raises:
        PublishedError: a hyper-parameter is missing, or not known; or a long-range model.
        ValueError: a value that no model can be built from.
    """
    if missing := [name for name in SETTINGS if name not in hypers]:
        raise PublishedError(f"hyper-parameter {', '.join(missing)} is missing.")
    if surplus := [name for name in hypers if name not in SETTINGS and name not in ADDITIVE]:
        raise PublishedError(f"hyper-parameter {', '.join(surplus)} is not known here.")
    if (hypers.get("long_range") or {}).get("enable"):
        raise PublishedError(
            "long_range.enable = True: its long-range featuriser (Ewald sums of learned charges) "
            "is not computed here."
        )
    values = {ours: hypers[theirs] for theirs, ours in SETTINGS.items()}
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = value.lower()
    return PETConfig.from_dict({"species": species, "properties": properties, **values})


def to_hypers(config: PETConfig) -> dict[str, Any]:
    """Hyper-parameters of metatrain's PET that has the settings of ours."""
    words = {word.lower(): word for word in WORDS}
    hypers = {theirs: getattr(config, ours) for theirs, ours in SETTINGS.items()}
    hypers["d_node"] = config.node_width
    return {k: words.get(v, v) if isinstance(v, str) else v for k, v in hypers.items()}


def their_name(name: str, target: str, others: Mapping[str, str] | None = None) -> str:
    """Their name of a weight of our network, whose energy is called ``target`` there.

    ``others`` are their names of what else it predicts, by ours.
    """
    # our covariant heads are called by property, then readout, then side
    name = re.sub(r"^covariant_heads\.(\w+)\.(\d+)\.(node|edge)\.", r"\3_heads.\1@\2.", name)
    if head := re.fullmatch(r"(node|edge)_heads\.(?:(\w+)@)?(\d+)\.(\d)\.(\w+)", name):
        side, ours, layer, place, kind = head.groups()
        target = (others or {})[ours] if ours else target
        if place == "4":
            return f"{side}_last_layers.{target}.{layer}.{target}___0.{kind}"
        return f"{side}_heads.{target}.{layer}.{place}.{kind}"
    return re.sub(r"^(gnn_layers\.\d+)\.layers\.", r"\1.trans.layers.", name)


def is_species_table(name: str) -> bool:
    """Whether a weight of ours has a row for each species."""
    return (
        name == "edge_embedder.weight"
        or re.search(r"(^node_embedders\.\d+|\.neighbor_embedder)\.weight$", name) is not None
    )
