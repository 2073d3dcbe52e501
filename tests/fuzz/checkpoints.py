"""Cases for our checkpoints: damaged bytes, edited headers and descriptions, other tensors."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialize

from pointedge.potentials import checkpoint
from pointedge.potentials.checkpoint import DIGEST, METADATA_KEY
from pointedge.potentials.equivariant.nequip import NequIP
from pointedge.potentials.potential import Potential

from ..networks import tiny_pet
from .damage import damaged, edit_tree
from .outcomes import ERROR, RIGHT, FindingError, read_or_refused, same

SPECIES = [1, 6, 8]


@cache
def originals() -> list[tuple[bytes, dict[str, Any], dict[str, torch.Tensor]]]:
    """Files of small models, what they say of themselves, and their tensors."""
    nequip = {"species": SPECIES, "cutoff": 3.0, "irreps": "4x0e + 4x1o", "lmax": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        networks = (
            tiny_pet(1, species=SPECIES, cutoff=3.0, num_gnn_layers=1).to(torch.float32),
            NequIP.from_config(nequip),
        )
    found = []
    for network in networks:
        baseline = {1: -13.6, 6: -1029.1, 8: -2042.1}
        potential = Potential(network, baseline, 0.4, True, {"name": "fuzz", "errors": {"f": 1.5}})
        tensors = {
            k: v.detach().contiguous() for k, v in checkpoint.plain_tensors(potential).items()
        }
        description = json.loads(json.dumps(checkpoint.description_of(potential)))
        description[DIGEST] = checkpoint.digest_of(description, tensors)
        found.append((_file(tensors, description), description, tensors))
    return found


def case(rng: random.Random, folder: Path) -> str:
    """One case: make a file, read it, judge what came of it."""
    data, description, tensors = rng.choice(originals())
    if rng.random() < 0.5:
        data = damaged(data, rng)
    elif rng.random() < 0.2:
        data = _other_header(data, rng)
    else:  # edited by somebody who knows the format, or in place
        edited, others = json.loads(json.dumps(description)), dict(tensors)
        _edit_tensors(others, rng) if rng.random() < 0.5 else edit_tree(edited, rng)
        if rng.random() < 0.6:  # then the file means what it says now
            description, tensors = edited, others
            edited.pop(DIGEST, None)
            if rng.random() < 0.5:
                edited[DIGEST] = checkpoint.digest_of(edited, others)
        data = _file(others, edited)
    path = folder / "model.safetensors"
    path.write_bytes(data)
    potential, _ = read_or_refused(
        lambda: checkpoint.load(path),
        (checkpoint.CheckpointError, FileNotFoundError),
        path.name,
    )
    if potential is None:
        return ERROR
    _judge(potential, description, tensors)
    return RIGHT


def _judge(
    potential: Potential, description: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> None:
    found = checkpoint.plain_tensors(potential)
    same(found.keys(), tensors.keys(), "the names of tensors")
    for name, tensor in tensors.items():
        if found[name].dtype != tensor.dtype or not torch.equal(found[name], tensor):
            raise FindingError(f"wrong result: tensor {name} is not that of the file")
    config = json.loads(json.dumps(potential.network.to_config()))
    for name, value in description["config"].items():
        same(config[name], value, f"setting {name}")


def _file(tensors: dict[str, torch.Tensor], description: Any) -> bytes:
    return serialize(tensors, metadata={METADATA_KEY: json.dumps(description)})


def _edit_tensors(tensors: dict[str, torch.Tensor], rng: random.Random) -> None:
    name = rng.choice(sorted(tensors))
    tensor = tensors[name]
    kind = rng.randrange(8)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[f"{name}x"] = tensor.clone()
    elif kind == 2:
        tensors[name] = tensor.to(rng.choice((torch.float16, torch.float64, torch.int64)))
    elif kind == 3:
        tensors[name] = tensor.T.contiguous() if tensor.ndim == 2 else tensor[None].clone()
    elif kind == 4:
        tensors[name] = tensor.new_zeros(0)
    elif tensor.numel():
        values = tensor.clone().view(-1)
        odd = {5: float("nan"), 6: float("inf"), 7: 1.0}[kind]
        values[rng.randrange(len(values))] = odd if tensor.is_floating_point() else 1
        tensors[name] = values.view(tensor.shape)


def _other_header(data: bytes, rng: random.Random) -> bytes:
    """The JSON header of safetensors, edited; what it says of the bytes no longer holds."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    edit_tree(header, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
