"""Checkpoints of metatrain's PET, model versions 1 to 16, brought to the names of version 16.

What changed from one version to the next is in metatrain 2026.4 (``metatrain/pet/checkpoints.py``,
BSD-3-Clause). Most are renames; four pin how older models behave: version 8 (norms, activation and
order of layers), 10 (cosine cutoff), 12 (adaptive cutoff on a grid) and 14 (its width).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import PublishedError

NEWEST = 16
Hypers = dict[str, Any]
State = dict[str, Any]

# Hyper-parameters of files older than a version that lack them; a string in braces is another's.
DEFAULTS: tuple[tuple[int, str, Any], ...] = (
    (8, "normalization", "LayerNorm"),
    (8, "activation", "SiLU"),
    (8, "d_node", "{d_pet}"),
    (8, "transformer_type", "PostLN"),
    (8, "featurizer_type", "residual"),
    (10, "num_neighbors_adaptive", None),
    (10, "cutoff_function", "Cosine"),
    (11, "attention_temperature", 1.0),
    (12, "adaptive_cutoff_method", "grid"),
    (14, "cutoff_width_adaptive", "{cutoff_width}"),
    (15, "system_conditioning", False),
    (15, "max_charge", 10),
    (15, "max_spin_multiplicity", 10),
)
# The shape of the large models of version 7, which their files do not state.
LARGE = {
    "normalization": "RMSNorm",
    "activation": "SwiGLU",
    "transformer_type": "PreLN",
    "featurizer_type": "feedforward",
}


def is_large(version: int, names: Mapping[str, Any]) -> bool:
    """Whether weights are of the large models from before version 8."""
    return version < 8 and "node_embedding.weight" in names


def upgraded(
    version: int, hypers: Mapping[str, Any], state: Mapping[str, Any], targets: Sequence[str]
) -> tuple[Hypers, State]:
    """Hyper-parameters and tensors as version 16 names them, without the prefix ``backend.``.

    Args:
        version: of the model in the file, 1 to 16.
        hypers: as they are in the file.
        state: tensors by name.
        targets: names of all targets, in the file's order.

    Raises:
        PublishedError: a default follows from a hyper-parameter that is not there.
    """
    hypers = dict(hypers)
    if is_large(version, state):
        d_pet = int(hypers["d_pet"])
        hypers.update(LARGE, d_node=4 * d_pet, d_feedforward=2 * d_pet)
        state = {_large_name(k): _without_padding(k, v) for k, v in state.items()}
    elif version < 8:
        state = {_name_of_8(k): _without_padding(k, v) for k, v in state.items()}
    for since, name, value in DEFAULTS:
        if version < since and name not in hypers:
            hypers[name] = _filled(value, hypers)
    state = {name.removeprefix("backend."): value for name, value in state.items()}
    if "scaler.scales" in state:  # until version 6: one number for each target
        for name, scale in zip(targets, state.pop("scaler.scales").tolist(), strict=True):
            state[f"scaler.{name}_scale"] = scale
    return hypers, state


def _filled(value: Any, hypers: Hypers) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        name = value.strip("{}")
        if name not in hypers:
            raise PublishedError(f"hyper-parameter {name} is missing.")
        return hypers[name]
    return value


def _name_of_8(name: str) -> str:
    name = name.replace(".mlp.0.", ".mlp.w_in.").replace(".mlp.3.", ".mlp.w_out.")
    name = re.sub(r"^embedding\.", "edge_embedder.", name)
    return re.sub(r"^gnn_layers\.(\d+)\.node_embedder\.", r"node_embedders.\1.", name)


def _large_name(name: str) -> str:
    name = name.replace("combination_rmsnorms", "combination_norms")
    name = re.sub(r"^node_embedding\.", "node_embedders.0.", name)
    return re.sub(r"^embedding\.", "edge_embedder.", name)


def _without_padding(name: str, value: Any) -> Any:
    """Tables of species had a last row for padding until version 8."""
    table = re.search(r"(^embedding|^node_embedding|\.node_embedder|\.neighbor_embedder)\.", name)
    return value[:-1] if table and isinstance(value, Tensor) else value


def merged_lora(state: State, configuration: Mapping[str, Any]) -> State:
    """Low-rank updates added to their weights: W + (alpha/rank) B A.

    Raises:
        PublishedError: there are updates, but not the factor alpha.
    """
    prefixes = {name.removesuffix(".lora_A.weight") for name in state if ".lora_A." in name}
    if not prefixes:
        return state
    if configuration.get("method") != "lora":
        raise PublishedError("it has low-rank updates (LoRA), but does not state their factor.")
    alpha = float(configuration.get("config", {}).get("alpha", 8))
    merged = {}
    for name, value in state.items():
        prefix, _, rest = name.rpartition(".linear.")
        if prefix in prefixes:
            if rest == "weight":
                a, b = state[f"{prefix}.lora_A.weight"], state[f"{prefix}.lora_B.weight"]
                value = value + alpha / len(a) * torch.matmul(b, a)
            merged[f"{prefix}.{rest}"] = value
        elif ".lora_" not in name:
            merged[name] = value
    return merged
