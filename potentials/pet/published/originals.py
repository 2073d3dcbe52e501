"""Calculation folders of the original research code (spozdn/pet, lab-cosmo/pet)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from ...potential import Potential
from ..config import PETConfig
from ..model import PET
from .errors import PublishedError
from .names import is_species_table
from .pickles import StoredTensor, opened

HYPERS, SPECIES, BASELINE = "hypers_used.yaml", "all_species.npy", "self_contributions.npy"
DEFAULT = "best_val_rmse_both_model"  # what the research code's calculator takes
SUFFIX = "_state_dict"
SETTINGS = {
    "R_CUT": "cutoff",
    "CUTOFF_DELTA": "cutoff_width",
    "TRANSFORMER_D_MODEL": "d_pet",
    "HEAD_N_NEURONS": "d_head",
    "TRANSFORMER_DIM_FEEDFORWARD": "d_feedforward",
    "TRANSFORMER_N_HEAD": "num_heads",
    "N_TRANS_LAYERS": "num_attention_layers",
    "N_GNN_LAYERS": "num_gnn_layers",
}
FIXED = {
    "cutoff_function": "cosine",
    "normalization": "layernorm",
    "activation": "silu",
    "transformer_type": "postln",
    "featurizer": "residual",
    "d_node": None,
}
# Options that change the model, and the only value that we compute, which is the default.
NOT_TAKEN: dict[str, Any] = {
    "ACTIVATION": "silu",
    "TRANSFORMER_TYPE": "PostLN",
    "R_EMBEDDING_ACTIVATION": False,
    "COMPRESS_MODE": "mlp",
    "ADD_TOKEN_FIRST": True,
    "ADD_TOKEN_SECOND": True,
    "AVERAGE_POOLING": False,
    "AVERAGE_BOND_ENERGIES": False,
    "USE_BOND_ENERGIES": True,
    "TRANSFORMERS_CENTRAL_SPECIFIC": False,
    "HEADS_CENTRAL_SPECIFIC": False,
    "USE_ADDITIONAL_SCALAR_ATTRIBUTES": False,
    "USE_LONG_RANGE": False,
    "RESIDUAL_FACTOR": 0.5,
    "D_OUTPUT": 1,
    "N_TARGETS": 1,
    "TARGET_TYPE": "structural",
    "TARGET_AGGREGATION": "sum",
}
CHOICES = ("USE_LENGTH", "USE_ONLY_LENGTH", "BLEND_NEIGHBOR_SPECIES")
WITHOUT_EFFECT = ("DTYPE", "SCALAR_ATTRIBUTES_SIZE", "K_CUT", "K_CUT_DELTA")
DUPLICATES = re.compile(
    r"gnn_layers\.\d+\.trans_layer\..*|(central_tokens|messages|messages_bonds)_predictors\..*"
)


def load_original(folder: str | Path, name: str | None = None) -> Potential:
    """Read a calculation folder, whose energies are taken for eV and lengths for Å.

    Its self-contributions are part of the energy, which the last version of the research code's
    calculator leaves out.

    Args:
        folder: with hypers_used.yaml, all_species.npy, self_contributions.npy and weights.
        name: of the weights, without "_state_dict"; None: the best by energies and forces.

    Raises:
        PublishedError: a file is missing, damaged or unsafe, or an option is not computed here.
    """
    folder = Path(folder)
    try:
        hypers, energies = _hypers(folder)
        species = [int(z) for z in _array(folder / SPECIES)]
        baseline = _array(folder / BASELINE).tolist() if energies else [0.0] * len(species)
        weights, chosen = _weights(folder, name)
        network = _network(hypers, species, weights)
        table = dict(zip(species, baseline, strict=True))
    except ValueError as error:
        raise PublishedError(f"{folder}: {error}") from None
    notes = [] if energies else ["It was trained on forces alone: its energies have no baseline."]
    information = {"origin": f"PET (original research code), {chosen}", "notes": notes}
    return Potential(network, table, information=information).eval()


def _hypers(folder: Path) -> tuple[dict[str, Any], bool]:
    """Settings of the architecture, and whether the model was trained on energies."""
    try:
        read = yaml.safe_load((folder / HYPERS).read_text())
        hypers = dict(read.get("ARCHITECTURAL_HYPERS", read))
    except (OSError, yaml.YAMLError, AttributeError, TypeError, UnicodeDecodeError) as error:
        raise PublishedError(f"{HYPERS} cannot be read ({error}).") from None
    known = {*SETTINGS, *NOT_TAKEN, *CHOICES, *WITHOUT_EFFECT}
    if "ARCHITECTURAL_HYPERS" in read and (surplus := [k for k in hypers if k not in known]):
        raise PublishedError(f"{', '.join(surplus)} in {HYPERS} is not known here.")
    for key, value in NOT_TAKEN.items():
        if hypers.get(key, value) != value:
            raise PublishedError(f"{key} = {hypers[key]!r} is not computed here, only {value!r}.")
    return hypers, bool(read.get("MLIP_SETTINGS", read).get("USE_ENERGIES", True))


def _config(hypers: Mapping[str, Any], species: list[int]) -> PETConfig:
    if missing := [theirs for theirs in SETTINGS if theirs not in hypers]:
        raise PublishedError(f"{HYPERS} lacks {', '.join(missing)}.")
    edge_input = "vector+length" if hypers.get("USE_LENGTH", True) else "vector"
    return PETConfig.from_dict(
        {
            "species": species,
            **{ours: hypers[theirs] for theirs, ours in SETTINGS.items()},
            **FIXED,
            "edge_input": "length" if hypers.get("USE_ONLY_LENGTH", False) else edge_input,
            "blend_neighbor_species": bool(hypers.get("BLEND_NEIGHBOR_SPECIES", False)),
        }
    )


def _weights(folder: Path, name: str | None) -> tuple[dict[str, Tensor], str]:
    """Tensors by name, without the prefixes of wrappers and without duplicates."""
    found = sorted(p.name.removesuffix(SUFFIX) for p in folder.glob(f"*{SUFFIX}"))
    chosen = name or (found[0] if len(found) == 1 else DEFAULT)
    if chosen not in found:
        raise PublishedError(
            f"it has no weights {chosen + SUFFIX!r}; it has {', '.join(found) or 'none'}, of which "
            "one can be chosen by its name after the folder's, as in 'FOLDER@NAME'."
        )
    with opened(folder / f"{chosen}{SUFFIX}") as saved:
        if not isinstance(saved, Mapping):
            raise PublishedError(f"{chosen}{SUFFIX} holds no weights by name.")
        tensors = {str(k): v.read() for k, v in saved.items() if isinstance(v, StoredTensor)}
    first = next((k for k in tensors if re.fullmatch(r"(.*\.)?embedding\.weight", k)), "")
    prefix = first.removesuffix("embedding.weight")
    plain = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return {_plain(k): v for k, v in plain.items() if not DUPLICATES.fullmatch(k)}, chosen


def _plain(name: str) -> str:
    """Heads by one name in all versions of the code."""
    return re.sub(
        r"^((?:bond_)?heads\.\d+)\.(?:model\.)?nn\.(\d)\.(?:linear\.)?", r"\1.nn.\2.", name
    )


def _network(hypers: Mapping[str, Any], species: list[int], state: dict[str, Tensor]) -> PET:
    network = PET(_config(hypers, species))
    rows = torch.tensor(np.argsort(species))
    expected = network.state_dict()
    names = {ours: _their_name(ours) for ours in expected}
    missing, surplus = set(names.values()) - state.keys(), state.keys() - set(names.values())
    for problem, tensors in (("lacks", missing), ("has unknown", surplus)):
        if tensors:
            raise PublishedError(f"it {problem} {len(tensors)} tensor(s), such as {min(tensors)}.")
    weights = {ours: state[theirs] for ours, theirs in names.items()}
    for ours, value in weights.items():
        if is_species_table(ours) and len(value) == len(rows) + 1:
            weights[ours] = value[rows]  # without the last row, which is of padding
        if weights[ours].shape != expected[ours].shape:
            raise PublishedError(
                f"its tensor {names[ours]} has shape {tuple(value.shape)}, which does not fit "
                f"{HYPERS}."
            )
    network.to(weights["edge_embedder.weight"].dtype).load_state_dict(weights)
    return network


def _their_name(name: str) -> str:
    """Their name of a weight of our network."""
    for ours, theirs in (
        (r"^edge_embedder\.", "embedding."),
        (r"^node_embedders\.(\d+)\.", r"gnn_layers.\1.central_embedder."),
        (r"^(gnn_layers\.\d+)\.edge_embedder\.", r"\1.r_embedding."),
        (r"^(gnn_layers\.\d+)\.layers\.", r"\1.trans.layers."),
        (r"\.mlp\.w_in\.", ".mlp.0."),
        (r"\.mlp\.w_out\.", ".mlp.3."),
        (r"^node_heads\.(\d+)\.", r"heads.\1.nn."),
        (r"^edge_heads\.(\d+)\.", r"bond_heads.\1.nn."),
    ):
        name = re.sub(ours, theirs, name)
    return name


def _array(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False)).ravel()
    except (OSError, ValueError) as error:
        raise PublishedError(f"{path.name} cannot be read ({error}).") from None
