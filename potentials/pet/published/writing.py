"""A PET of ours as a checkpoint of metatrain (model version 16), which need not be installed.

Weights go by the names of :mod:`.names`. What has the same energies in another form is rewritten:
networks that see vectors or lengths alone, or a neighbour's species in the first layer only, become
the common one with weights of zero.
"""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ase.data import covalent_radii
from torch import Tensor

from ...files import replacing
from ...potential import Potential
from ..config import PETConfig
from ..model import PET
from .errors import PublishedError
from .names import their_name, to_hypers
from .tensormaps import write_block
from .versions import NEWEST

TARGET = "energy"
LONG_RANGE = {  # metatrain's defaults
    "enable": False,
    "use_ewald": False,
    "smearing": 1.4,
    "kspace_resolution": 1.33,
    "interpolation_nodes": 5,
}
REFERENCE = "https://arxiv.org/abs/2305.19302v3"
# Settings without a form in metatrain's PET, and the only value that has one.
NOT_THERE: dict[str, Any] = {
    "symmetry": "none",
    "typical_moment": None,
    "properties": ("energy",),
}


def save(potential: Potential, path: str | Path) -> list[str]:
    """Write a checkpoint that metatrain loads and exports.

    Its repulsion (ZBL) is rounded there to float32, which changes energies by some 1e-8 eV.

    Args:
        potential: a PET, in float32 or float64, which the file keeps.
        path: of the file.

    Returns:
        Sentences on what of the potential is not in the file.

    Raises:
        PublishedError: another architecture, or a setting that metatrain's PET does not have.
        UnwrittenError: the disk is full, or the like.
    """
    network = potential.network
    if type(network) is not PET:
        raise PublishedError(f"only a PET can be written for metatrain, not {_kind(network)}.")
    _check(network.config)
    state = _state(potential, network)
    checkpoint = {
        "architecture_name": "pet",
        "model_ckpt_version": NEWEST,
        "metadata": _script_object(_metadata(potential), "metatomic.ModelMetadata"),
        "model_data": {
            "model_hypers": {
                **to_hypers(network.config),
                "zbl": potential.zbl is not None,
                "long_range": LONG_RANGE,
            },
            "dataset_info": _dataset_info(potential.species),
        },
        "epoch": None,
        "best_epoch": None,
        "model_state_dict": OrderedDict(state, finetune_config={}),
        "best_model_state_dict": OrderedDict(state, finetune_config={}),
    }
    module: Any = SimpleNamespace(Pickler=_Pickler, __name__="pickle")
    with replacing(Path(path)) as file:
        torch.save(checkpoint, file, pickle_module=module)
    left = {"auxiliary network (for ECSE)": potential.auxiliary, "uncertainty": potential.rigidity}
    return [f"Its {name} is not written." for name, part in left.items() if part is not None]


def _check(config: PETConfig) -> None:
    for name, value in NOT_THERE.items():
        if (found := getattr(config, name)) != value:
            raise PublishedError(f"metatrain's PET has no {name} = {found!r}, only {value!r}.")
    if config.cutoff_function == "tanh":
        raise PublishedError("metatrain's PET has no cutoff_function = 'tanh'.")


def _state(potential: Potential, network: PET) -> dict[str, Any]:
    """Tensors by their names; the second one tells metatrain the type of them all."""
    species = list(potential.species)
    index = torch.full((max(species) + 1,), -1, dtype=torch.int64)
    index[species] = torch.arange(len(species))
    state: dict[str, Any] = {"backend.species_to_species_index": index}
    for name, value in _weights(network).items():
        state[f"backend.{their_name(name, TARGET)}"] = value
        if name.startswith("system_conditioning."):
            state[name] = value
    energies = potential.baseline[species].cpu().numpy()[:, None]
    zero = torch.zeros(1, dtype=torch.float64)
    state["additive_models.0.dummy_buffer"] = zero
    state[f"additive_models.0.{TARGET}_composition_buffer"] = write_block(
        "center_type", species, energies, "energy"
    )
    state["additive_models.0.model.type_to_index"] = index
    if potential.zbl is not None:
        radii = torch.tensor([covalent_radii[z] for z in species], dtype=torch.float64)
        state["additive_models.1.species_to_index"] = index.to(torch.int32)
        state["additive_models.1.covalent_radii"] = radii
    state["scaler.dummy_buffer"] = zero
    scale, one = np.full((1, 1), potential.scale.item()), np.ones((1, 1))
    for kind, values in (("", scale), ("per_target_", scale), ("per_property_", one)):
        name = f"scaler.{TARGET}_{kind}scaler_buffer"
        state[name] = write_block("atomic_type", [-1], values, "energy")
    state["scaler.model.type_to_index"] = index
    return state


def _weights(network: PET) -> dict[str, Tensor]:
    """Weights of the same function with all inputs of metatrain's PET, by our names."""
    config = network.config
    weights = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    for k in range(config.num_gnn_layers):
        place = f"gnn_layers.{k}"
        embedder = weights[f"{place}.edge_embedder.weight"]
        if config.edge_input != "vector+length":  # the columns are x, y, z and the length
            columns = embedder.new_zeros(len(embedder), 4)
            columns[:, slice(3) if config.edge_input == "vector" else slice(3, 4)] = embedder
            weights[f"{place}.edge_embedder.weight"] = columns
        if k and not config.blend_neighbor_species:
            geometry, message = weights[f"{place}.compress.0.weight"].chunk(2, dim=1)
            between = torch.zeros_like(message)
            weights[f"{place}.compress.0.weight"] = torch.cat([geometry, between, message], dim=1)
            weights[f"{place}.neighbor_embedder.weight"] = message.new_zeros(
                len(config.species), config.d_pet
            )
    return weights


def _metadata(potential: Potential) -> str:
    """What the file says of itself, as metatomic keeps it."""
    said = dict(potential.information.get("published", {}))
    return json.dumps(
        {
            "authors": said.get("authors", []),
            "class": "ModelMetadata",
            "description": said.get("description", f"written by pointedge {version('pointedge')}"),
            "extra": said.get("extra", {}),
            "name": said.get("name", ""),
            "references": said.get("references", {"architecture": [REFERENCE]}),
        }
    )


def _dataset_info(species: tuple[int, ...]) -> Any:
    layout = write_block("system", [], np.zeros((0, 1)), "energy")
    target = {
        "is_scalar": True,
        "is_cartesian": False,
        "is_spherical": False,
        "is_atomic_basis": False,
        "layout": _script_object(layout, "metatensor.TensorMap"),
        "quantity": "energy",
        "unit": "eV",
        "description": "",
        "blocks_shape": {f"{TARGET}___0": [1]},
    }
    state = {
        "length_unit": "angstrom",
        "_atomic_types": list(species),
        "targets": {TARGET: _Foreign.of("metatrain.utils.data.target_info.TargetInfo", target)},
        "extra_data": {},
    }
    return _Foreign.of("metatrain.utils.data.dataset.DatasetInfo", state)


def _script_object(content: Any, kind: str) -> Any:
    return _Foreign.of("torch.ScriptObject", (content, f"__torch__.torch.classes.{kind}"))


class _Foreign:
    """An object of a class that is not imported, with the state it is to have."""

    content: Any

    @classmethod
    def of(cls, name: str, content: Any) -> _Foreign:
        module, _, kind = name.rpartition(".")
        made = type(kind, (cls,), {"__module__": module, "__qualname__": kind})()
        made.content = content
        return made

    def __getstate__(self) -> Any:
        return self.content


class _Pickler(pickle._Pickler):
    """Names classes of :class:`_Foreign` as what they stand for, without importing it.

    The pickler in C cannot be told how to write a class.
    """

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if isinstance(obj, type) and issubclass(obj, _Foreign):
            line = f"{obj.__module__}\n{obj.__qualname__}\n"
            self.write(pickle.GLOBAL + line.encode())  # type: ignore[attr-defined]
            self.memoize(obj)  # type: ignore[attr-defined]
        else:
            super().save_global(obj, name)  # type: ignore[misc]


def _kind(network: Any) -> str:
    return "a symmetrised one" if hasattr(network, "backbone") else type(network).__name__
