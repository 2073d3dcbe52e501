"""Reference weights of tests/data/pet-cases as potentials (a full reader is a later part)."""

from __future__ import annotations

import collections
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch

from pointedge.potentials.pet import PET
from pointedge.potentials.potential import Potential

CASES = Path(__file__).parents[1] / "data" / "pet-cases"


class _Stub:
    """Stands for any class of metatrain; keeps its state."""

    def __init__(self, *args):
        self.args = args

    def __setstate__(self, state):
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (
            module.split(".")[0] in ("metatrain", "metatensor", "metatomic")
            or name == "ScriptObject"
        ):
            return _Stub
        allowed = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            ("torch", "DoubleStorage"): torch.DoubleStorage,
            ("torch", "LongStorage"): torch.LongStorage,
            ("torch", "IntStorage"): torch.IntStorage,
            ("torch", "ByteStorage"): torch.ByteStorage,
            ("torch", "FloatStorage"): torch.FloatStorage,
        }
        return allowed[module, name]


class _PickleModule:
    Unpickler = _Unpickler

    @staticmethod
    def load(file, **kwargs):
        return _Unpickler(file, **kwargs).load()


def _tensor_map(buffer: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Samples (atomic numbers) and values of a one-block .mts buffer."""
    archive = zipfile.ZipFile(io.BytesIO(buffer.numpy().tobytes()))
    values = np.load(io.BytesIO(archive.read("blocks/0/values.npy")))
    samples = np.load(io.BytesIO(archive.read("blocks/0/samples.npy")))
    return samples[samples.dtype.names[0]], values


def metatrain_case(name: str) -> Potential:
    """Potential with the weights of a metatrain reference case, in float64."""
    file = torch.load(CASES / f"{name}.ckpt", pickle_module=_PickleModule, weights_only=False)
    hypers = json.loads((CASES / f"{name}_hypers.json").read_text())
    state = file["best_model_state_dict"] or file["model_state_dict"]
    legacy = hypers.get("model_ckpt_version", 16) < 8 or "legacy" in name
    settings = hypers["hypers"]
    if legacy:
        settings = {**LEGACY, **settings}
        state = _upgrade(state)
    network = PET.from_config({"species": hypers["atomic_types"], **_config(settings)})
    weights = {}
    for key, value in state.items():
        key = key.removeprefix("backend.")
        key = key.replace(".trans.layers.", ".layers.")
        for side in ("node", "edge"):
            key = key.replace(f"{side}_heads.energy.", f"{side}_heads.")
            key = key.replace(f"{side}_last_layers.energy.", f"{side}_heads.")
            key = key.replace(".energy___0.", ".4.")
        weights[key] = value
    network = network.to(torch.float64)
    network.load_state_dict({k: weights[k] for k in network.state_dict()}, strict=True)
    numbers, values = _tensor_map(state["additive_models.0.energy_composition_buffer"])
    _, scale = _tensor_map(state["scaler.energy_scaler_buffer"])
    baseline = dict(zip(numbers.tolist(), values[:, 0].tolist(), strict=True))
    potential = Potential(
        network, baseline, scale=float(scale.reshape(-1)[0]), repulsion=settings["zbl"]
    )
    if potential.zbl is not None:
        _round_like_metatrain(potential)
    return potential


LEGACY = {
    "normalization": "LayerNorm",
    "activation": "SiLU",
    "d_node": None,
    "transformer_type": "PostLN",
    "featurizer_type": "residual",
    "cutoff_function": "Cosine",
    "num_neighbors_adaptive": None,
    "attention_temperature": 1.0,
    "zbl": False,
}


def _upgrade(state: dict) -> dict:
    """Names and tables of model version 7 as in version 8."""
    new = {}
    for key, value in state.items():
        if "embedding.weight" in key or ("embedder.weight" in key and value.shape[-1] != 4):
            value = value[:-1]
        key = key.replace(".mlp.0", ".mlp.w_in").replace(".mlp.3", ".mlp.w_out")
        if key == "embedding.weight":
            key = "edge_embedder.weight"
        parts = key.split(".")
        if parts[0] == "gnn_layers" and parts[2] == "node_embedder":
            key = f"node_embedders.{parts[1]}.weight"
        new[key] = value
    return new


def _config(hypers: dict) -> dict:
    renamed = {
        "cutoff": hypers["cutoff"],
        "cutoff_width": hypers["cutoff_width"],
        "featurizer": hypers["featurizer_type"],
    }
    for key in (
        "num_neighbors_adaptive",
        "d_pet",
        "d_node",
        "d_head",
        "d_feedforward",
        "num_heads",
        "num_attention_layers",
        "num_gnn_layers",
        "attention_temperature",
    ):
        renamed[key] = hypers[key]
    for key in ("adaptive_cutoff_method", "cutoff_width_adaptive", "system_conditioning"):
        if key in hypers:
            renamed[key] = hypers[key]
    for key in ("cutoff_function", "normalization", "activation", "transformer_type"):
        renamed[key] = hypers[key].lower()
    return renamed


def _round_like_metatrain(potential: Potential) -> None:
    """Round screening length and strength to float32, as metatrain does even in float64."""
    zbl = potential.zbl
    z = torch.tensor(potential.species, dtype=torch.int32)
    power = z**0.23
    zbl.screening.copy_((0.46850 / (power[:, None] + power)).to(torch.float64))
    zbl.strength.copy_((14.399645478425668 * z[:, None] * z).to(torch.float64))


def original_case(name: str) -> Potential:
    """Potential with the weights of a case of the original research code, in float64."""
    file = json.loads((CASES / f"{name}_hypers.json").read_text())
    hypers = file["hypers"]
    raw = np.load(CASES / f"{name}_state_dict.npz")
    config = {
        "species": file["atomic_types"],
        "cutoff": hypers["R_CUT"],
        "cutoff_function": "cosine",
        "cutoff_width": hypers["CUTOFF_DELTA"],
        "d_pet": hypers["TRANSFORMER_D_MODEL"],
        "d_node": None,
        "d_head": hypers["HEAD_N_NEURONS"],
        "d_feedforward": hypers["TRANSFORMER_DIM_FEEDFORWARD"],
        "num_heads": hypers["TRANSFORMER_N_HEAD"],
        "num_attention_layers": hypers["N_TRANS_LAYERS"],
        "num_gnn_layers": hypers["N_GNN_LAYERS"],
        "normalization": "layernorm",
        "activation": "silu",
        "transformer_type": "postln",
        "featurizer": "residual",
        "edge_input": "length" if hypers["USE_ONLY_LENGTH"] else "vector+length",
        "blend_neighbor_species": hypers["BLEND_NEIGHBOR_SPECIES"],
    }
    weights = {}
    for key in raw.files:
        value = torch.from_numpy(raw[key])
        if key == "embedding.weight" or "embedder" in key:
            value = value[:-1]
        key = key.replace(".mlp.0", ".mlp.w_in").replace(".mlp.3", ".mlp.w_out")
        key = key.replace("embedding.weight", "edge_embedder.weight") if "r_" not in key else key
        key = key.replace("r_edge_embedder", "edge_embedder").replace(
            "r_embedding", "edge_embedder"
        )
        key = key.replace(".trans.layers.", ".layers.")
        parts = key.split(".")
        if parts[0] == "gnn_layers" and parts[2] == "central_embedder":
            key = f"node_embedders.{parts[1]}.weight"
        for ours, theirs in (("node_heads", "heads"), ("edge_heads", "bond_heads")):
            if parts[0] == theirs:
                key = key.replace(theirs, ours).replace(".nn.", ".").replace(".linear.", ".")
        weights[key] = value
    network = PET.from_config(config).to(torch.float64)
    network.load_state_dict({k: weights[k] for k in network.state_dict()}, strict=True)
    return Potential(network)
