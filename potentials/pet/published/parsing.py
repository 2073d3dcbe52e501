"""Checkpoints of metatrain's PET: what a file holds, by the names of version 16."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .errors import PublishedError
from .pickles import StoredTensor, Stub
from .uncertainty import uncertainty_tensors
from .versions import NEWEST, Hypers, State, is_large, merged_lora, upgraded


@dataclass(frozen=True)
class Target:
    """What a checkpoint predicts: one of its targets.

    Attributes:
        name: "energy", "energy/pbe", "non_conservative_forces" and the like.
        quantity: "energy", or others.
        unit: as it is in the file.
        scalar: whether it has no components.
    """

    name: str
    quantity: str
    unit: str
    scalar: bool

    @property
    def is_energy(self) -> bool:
        """Whether forces are its derivatives."""
        return self.quantity == "energy" and self.scalar


@dataclass(frozen=True)
class Published:
    """A checkpoint with the names of version 16.

    Attributes:
        version: of the model in the file.
        hypers: hyper-parameters.
        state: tensors by name, of the best epoch.
        species: atomic numbers, ascending.
        targets: all of them.
        length_unit: as it is in the file.
        information: what the file says of itself, plain values.
        uncertainties: tensors of its wrapper (llpr), empty if it has none.
    """

    version: int
    hypers: Hypers
    state: State
    species: tuple[int, ...]
    targets: tuple[Target, ...]
    length_unit: str
    information: dict[str, Any]
    uncertainties: Mapping[str, Tensor]


def parsed(saved: Any) -> Published:
    """A checkpoint as metatrain saves it, with the names of version 16.

    Raises:
        PublishedError: it is none, of a future version, or incomplete.
    """
    uncertainties: dict[str, Tensor] = {}
    if isinstance(saved, Mapping) and saved.get("architecture_name") == "llpr":
        uncertainties = uncertainty_tensors(saved)
        saved = saved.get("wrapped_model_checkpoint")
    if not isinstance(saved, Mapping) or "model_data" not in saved:
        raise PublishedError("it is no checkpoint of metatrain with a model in it (model_data).")
    if (name := saved.get("architecture_name")) != "pet":
        raise PublishedError(f"it holds an architecture {name!r}; only 'pet' is read here.")
    version = saved.get("model_ckpt_version") or 1  # as metatrain has it
    if not isinstance(version, int) or not 1 <= version <= NEWEST:
        raise PublishedError(
            f"its model version is {version}, and this version of pointedge reads 1 to {NEWEST}; "
            "update pointedge."
        )
    try:
        return _parsed(saved, version, uncertainties)
    except (KeyError, AttributeError, TypeError) as error:
        raise PublishedError(
            f"it lacks a part of a checkpoint of version {version} "
            f"({type(error).__name__}: {error})."
        ) from None


def chosen(published: Published, name: str | None) -> Target:
    """The energy that is meant.

    Raises:
        PublishedError: there is none of that name, or several and none was chosen.
    """
    energies = {target.name: target for target in published.targets if target.is_energy}
    if not energies:
        others = ", ".join(target.name for target in published.targets) or "nothing"
        raise PublishedError(f"it predicts {others}, and no energy, which is needed here.")
    known = ", ".join(energies)
    if name is not None:
        for candidate in (name, f"energy/{name}"):
            if candidate in energies:
                return energies[candidate]
        raise PublishedError(f"it has no energy {name!r}; it has {known}.")
    if len(energies) == 1:
        return next(iter(energies.values()))
    if "energy" in energies:
        return energies["energy"]
    raise PublishedError(
        f"it has several energies, {known}; choose one by its name after the file's, "
        f"as in 'model.ckpt@{next(iter(energies))}'."
    )


def _parsed(
    saved: Mapping[str, Any], version: int, uncertainties: Mapping[str, Tensor]
) -> Published:
    info = _state_of(saved["model_data"]["dataset_info"])
    targets = tuple(_target(name, _state_of(stub)) for name, stub in info["targets"].items())
    weights, configuration = _weights(saved, version)
    names = [target.name for target in targets]
    hypers, state = upgraded(version, saved["model_data"]["model_hypers"], weights, names)
    return Published(
        version=version,
        hypers=hypers,
        state=merged_lora(state, configuration),
        species=tuple(sorted(int(z) for z in info["_atomic_types"])),
        targets=targets,
        length_unit=str(info["length_unit"]),
        information=_information(saved, version),
        uncertainties=uncertainties,
    )


def _weights(saved: Any, version: int) -> tuple[State, Mapping[str, Any]]:
    """Tensors of the best epoch by name, and how the model was fine-tuned."""
    last, best = saved["model_state_dict"], saved.get("best_model_state_dict")
    found = last if is_large(version, last or {}) else best or last
    if not found:
        raise PublishedError("it holds no weights.")
    configuration = found.get("finetune_config") or (last or {}).get("finetune_config") or {}
    if not configuration and version < 3:
        configuration = (saved.get("train_hypers") or {}).get("finetune") or {}
    tensors = {k: v.read() for k, v in found.items() if isinstance(v, StoredTensor)}
    return tensors, configuration


def _state_of(stub: Any) -> Any:
    if not isinstance(stub, Stub):
        raise TypeError(f"a {type(stub).__name__} in place of what describes data")
    return stub.state


def _target(name: str, state: Mapping[str, Any]) -> Target:
    return Target(name, str(state["quantity"]), str(state["unit"]), bool(state["is_scalar"]))


def _information(saved: Any, version: int) -> dict[str, Any]:
    """What a file says of its model: name, authors, references and the like."""
    try:
        described = json.loads(saved["metadata"].state[0])
        kept = {k: v for k, v in described.items() if k != "class" and v}
    except (KeyError, AttributeError, TypeError, ValueError, IndexError):
        kept = {}
    epochs = {k: saved.get(k) for k in ("epoch", "best_epoch") if isinstance(saved.get(k), int)}
    return {"published": {"model_version": version, **epochs, **kept}}
