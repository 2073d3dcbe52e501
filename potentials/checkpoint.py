"""Checkpoints: one safetensors file with tensors and a JSON description. No pickle, ever."""

from __future__ import annotations

import hashlib
import importlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.utils import parametrize

from .files import replacing
from .potential import Potential
from .rigidity import Rigidity
from .suggestions import did_you_mean

FORMAT_VERSION = 1
# Architecture name -> module (relative to this package) and class. Adding one costs a line here.
ARCHITECTURES = {
    "pet": (".pet", "PET"),
    "convolution": (".equivariant.convolution", "EquivariantConvolution"),
    "nequip": (".equivariant.nequip", "NequIP"),
    "mace": (".equivariant.mace", "MACE"),
}
METADATA_KEY, DIGEST = "pointedge", "sha256"
REQUIRED = ("architecture", "config", "repulsion", "information")  # what load() reads


class CheckpointError(ValueError):
    """A checkpoint file that cannot be read as what it claims to be."""


def architecture(name: str) -> Any:
    """Return the network class of an architecture; raises ValueError with the nearest name."""
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {name!r}; {did_you_mean(name, ARCHITECTURES)}")
    module, attribute = ARCHITECTURES[name]
    return getattr(importlib.import_module(module, __package__), attribute)


def name_of(network: Any) -> str:
    """Return the registered name of a network; raises ValueError if it has none."""
    kind = type(network).__name__
    for name, (_, attribute) in ARCHITECTURES.items():
        if attribute == kind:
            return name
    if hasattr(network, "backbone"):
        raise ValueError(
            f"a symmetrised potential ({kind}) is not written; save the one that it was made of, "
            "and give symmetrize= where it is used."
        )
    raise ValueError(f"{kind} is not a registered architecture; add it to ARCHITECTURES.")


def save(potential: Potential, path: str | Path) -> None:
    """Write a potential; the file holds all that is needed to run it.

    Its metadata give: format version, architecture, the full resolved configuration, species,
    units, baseline energies (eV), the potential's ``information``, the version of the code, and a
    digest of all this and of the tensors, by which :func:`load` notices damage.

    Raises:
        ValueError: the network is none that :func:`load` makes, or the auxiliary one has another
            type of numbers.
        UnwrittenError: the disk is full, or the like; an older file is whole.
    """
    if potential.auxiliary is not None:
        other = next(potential.auxiliary.parameters()).dtype
        if other != potential.dtype:
            raise ValueError(
                f"the network is {potential.dtype} and its auxiliary one {other}; convert both, as "
                "potential.to(dtype) does."
            )
    description = json.loads(json.dumps(description_of(potential)))  # as it will be read
    tensors = {k: v.detach().cpu().contiguous() for k, v in plain_tensors(potential).items()}
    description[DIGEST] = digest_of(description, tensors)
    with replacing(Path(path)) as file:
        file.write(serialize(tensors, metadata={METADATA_KEY: json.dumps(description)}))


def description_of(potential: Potential) -> dict[str, Any]:
    """Return the metadata that a checkpoint of a potential has, plain values."""
    return {
        "format_version": FORMAT_VERSION,
        **_describe(potential.network),
        "repulsion": potential.zbl is not None,
        "auxiliary": None if potential.auxiliary is None else _describe(potential.auxiliary),
        "rigidity": None if potential.rigidity is None else len(potential.rigidity.whitening),
        "species": list(potential.species),
        "units": {"length": "Å", "energy": "eV"},
        "information": potential.information,
        "code_version": version("pointedge"),
    }


def digest_of(description: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of a description, but for the digest in it, and of tensors on the CPU, by name."""
    plain = {key: value for key, value in description.items() if key != DIGEST}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def plain_tensors(potential: Potential) -> dict[str, torch.Tensor]:
    """Tensors by name; parametrised weights (low-rank updates) as they are used."""
    tensors = potential.state_dict()
    for name, module in potential.named_modules():
        if parametrize.is_parametrized(module):
            for weight in module.parametrizations:
                prefix = f"{name}.parametrizations.{weight}."
                tensors = {k: v for k, v in tensors.items() if not k.startswith(prefix)}
                tensors[f"{name}.{weight}"] = getattr(module, weight)
    return tensors


def describe(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a checkpoint, without reading its weights."""
    with _open(path) as file:
        raw = (file.metadata() or {}).get(METADATA_KEY)
    if raw is None:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of pointedge.")
    try:
        description: dict[str, Any] = dict(json.loads(raw))
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} has no readable description ({error}).") from None
    found = description.get("format_version")
    if found != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format {found}, and this version of pointedge reads "
            f"{FORMAT_VERSION}; update pointedge."
        )
    missing = [key for key in REQUIRED if key not in description]
    if missing:
        raise CheckpointError(f"{path}: its description lacks {', '.join(missing)}.")
    return description


def load(path: str | Path) -> Potential:
    """Read a potential on the CPU, in the floating-point type it was saved in.

    Args:
        path: of a file that :func:`save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is truncated, damaged (its digest is another; old files have
            none), or of another format, or its tensors do not fit its configuration (missing,
            surplus or misshapen ones are named).
    """
    description = describe(path)
    try:
        with _open(path) as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} has a tensor that cannot be read ({error}).") from None
    if DIGEST in description and description[DIGEST] != digest_of(description, tensors):
        raise CheckpointError(
            f"{path} is damaged: its contents are not those that were saved; fetch or save it anew."
        )
    return _filled(path, description, {}, tensors)


def with_settings(potential: Potential, changes: dict[str, Any], path: str | Path) -> Potential:
    """A potential like another, with changed settings of its network.

    Raises:
        CheckpointError: the changes do not fit it (those that shape tensors do not); it names
            ``path``, which the potential comes from.
    """
    return _filled(path, description_of(potential), changes, plain_tensors(potential))


def _filled(
    path: str | Path,
    description: dict[str, Any],
    changes: dict[str, Any],
    tensors: dict[str, torch.Tensor],
) -> Potential:
    """The potential of a description, with its weights."""
    potential = _built(path, description, changes, sum(t.numel() for t in tensors.values()))
    _check_shapes(path, potential.state_dict(keep_vars=True), tensors)
    # Of its weights: tables of constants are float64 whatever the network's type.
    weights = (tensors[f"network.{name}"].dtype for name, _ in potential.network.named_parameters())
    potential.to(next((d for d in weights if d.is_floating_point), torch.float32))
    _check_values(path, potential.state_dict(keep_vars=True), tensors)
    potential.load_state_dict(tensors, strict=True)
    return potential.eval()


def _built(
    path: str | Path, description: dict[str, Any], changes: dict[str, Any], numbers: int
) -> Potential:
    """The potential of a description, its weights still random; the file has so many numbers."""
    # files before these were invented have none
    auxiliary, rigidity = description.get("auxiliary"), description.get("rigidity")
    try:
        config = _changed(description["config"], changes)
        with _at_most(10 * numbers + 10_000):
            return Potential(
                _network({**description, "config": config}),
                repulsion=description["repulsion"],
                information=description["information"],
                auxiliary=None if auxiliary is None else _network(auxiliary),
                rigidity=None if rigidity is None else Rigidity(rigidity),
            )
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # a description that is wrong makes networks raise what they meet
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path} describes no network that can be built ({type(error).__name__}: {reason})."
        ) from None


def _changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with changes; those of a part, such as frames, change one by one."""
    found = {**config, **changes}
    for name, new in changes.items():
        old = config.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            same = new.get("method", old.get("method")) == old.get("method")
            found[name] = {**old, **new} if same else new
    return found


@contextmanager
def _at_most(numbers: int) -> Iterator[None]:
    """Stop whoever builds modules here with more weights, before they fill all memory."""
    here, count = threading.get_ident(), 0

    def add(module: torch.nn.Module, name: str, weights: torch.nn.Parameter | None) -> None:
        nonlocal count
        if weights is not None and threading.get_ident() == here:
            count += weights.numel()
            if count > numbers:
                raise ValueError("its configuration asks for many more weights than it has.")

    hook = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        hook.remove()


def _check_shapes(
    path: str | Path, expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]
) -> None:
    for problem, names in (
        ("lacks", expected.keys() - found.keys()),
        ("has unknown", found.keys() - expected.keys()),
    ):
        if names:
            shown = ", ".join(sorted(names)[:3])
            raise CheckpointError(f"{path} {problem} {len(names)} tensor(s), such as {shown}.")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: tensor {name} has shape {tuple(tensor.shape)}, but the configuration "
                f"asks for {tuple(expected[name].shape)}."
            )


def _check_values(
    path: str | Path, expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]
) -> None:
    """Refuse what copying would round silently, and numbers that are none."""
    for name, tensor in found.items():
        if tensor.dtype != expected[name].dtype:
            raise CheckpointError(
                f"{path}: tensor {name} is {tensor.dtype}, and not {expected[name].dtype}."
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(f"{path}: tensor {name} has values that are not finite.")


def _network(description: dict[str, Any]) -> Any:
    return architecture(description["architecture"]).from_config(description["config"])


def _describe(network: Any) -> dict[str, Any]:
    return {"architecture": name_of(network), "config": network.to_config()}


def _open(path: str | Path) -> Any:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint file {path}.")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a safetensors file ({error}); it may be truncated."
        ) from None
