"""Cases for published checkpoints: damaged archives, harmful and edited pickles, odd arrays."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import struct
import zipfile
from functools import cache
from pathlib import Path

import torch

from pointedge.potentials.pet import published
from pointedge.potentials.pet.published import PublishedError
from pointedge.potentials.pet.published.tensormaps import read_block

from .damage import ODD_INTEGERS, damaged, rezipped
from .outcomes import ERROR, RIGHT, FindingError, canary_command, read_or_refused

FILES = Path(__file__).parents[1] / "data" / "published-format"
LEFT_OUT = ("several", "uncertain", "direct")  # large, or of targets that have to be chosen
CANARY = "canary"


@cache
def originals() -> list[tuple[bytes, dict[str, torch.Tensor]]]:
    """Files of versions 1 to 16, and the tensors of their potentials."""
    paths = [p for p in sorted(FILES.glob("*.ckpt.gz")) if not p.name.startswith(LEFT_OUT)]
    return [(gzip.decompress(path.read_bytes()), {}) for path in paths]


def case(rng: random.Random, folder: Path) -> str:
    """One case: make a file, read it, judge what came of it."""
    if rng.random() < 0.1:
        return _array_case(rng)
    data, expected = rng.choice(originals())
    path, canary = folder / "model.ckpt", folder / CANARY
    if not expected:
        path.write_bytes(data)
        expected.update(published.load(path).state_dict())
    kind, meant = rng.random(), False
    if kind < 0.5:
        data = damaged(data, rng)
    elif kind < 0.75:
        data, meant = rezipped(data, rng), True
    else:
        data, meant = rezipped(data, rng, _program(_pickle_in(data), rng, canary)), True
    path.write_bytes(data)
    potential, _ = read_or_refused(lambda: published.load(path), (PublishedError,), path.name)
    if canary.exists():
        raise FindingError("code in the file was run")
    if potential is None:
        return ERROR
    found = potential.state_dict()
    for name, tensor in found.items():
        if not tensor.isfinite().all():
            raise FindingError(f"wrong result: {name} is not finite")
        # With right checksums, an edited file means what it says; else nothing may differ.
        if not meant and not torch.equal(tensor, expected[name]):
            raise FindingError(f"wrong result: {name} is not that of the file")
    return RIGHT


def _pickle_in(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return next(archive.read(n) for n in archive.namelist() if n.endswith("/data.pkl"))


class _Harm:
    """Runs a command when it is unpickled by whoever trusts it."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (canary_command(self.canary),)


def _program(program: bytes, rng: random.Random, canary: Path) -> bytes:
    """A pickle that was damaged, or does harm before it goes on."""
    kind = rng.randrange(4)
    if kind == 0:
        return damaged(program, rng)
    head, rest = program[:2], program[2:]
    command = canary_command(canary)
    if kind == 1:
        return head + rng.choice(_harmful(command, canary)) + b"0" + rest
    if kind == 2:  # in the place of some other opcode
        place = rng.randrange(2, len(program))
        return program[:place] + rng.choice(_harmful(command, canary)) + program[place:]
    return head + rng.choice(_greedy()) + rest


def _harmful(command: str, canary: Path) -> list[bytes]:
    text = command.encode()
    code = f"import os; os.system({command!r})".encode()
    one = b"X" + struct.pack("<I", len(text)) + text
    protocol = _part_of_pickle(_Harm(canary))
    return [
        b"cos\nsystem\n" + one + b"\x85R",
        b"cposix\nsystem\n" + one + b"\x85R",
        b"(" + one + b"ios\nsystem\n",
        b"(cos\nsystem\n" + one + b"o",
        b"cbuiltins\nexec\nX" + struct.pack("<I", len(code)) + code + b"\x85R",
        b"\x8c\x02os\x8c\x06system\x93" + one + b"\x85R",
        b"cmetatrain\nSystem\n}X\x0c\x00\x00\x00__setstate__cos\nsystem\nsb" + one + b"b",
        b"ccollections\nOrderedDict.__class__.__base__\n" + one + b"\x85R",
        b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n",
        protocol,
    ]


def _part_of_pickle(harm: _Harm) -> bytes:
    """A pickle without its first two bytes and its end."""
    return pickle.dumps(harm, protocol=2)[2:-1]


def _greedy() -> list[bytes]:
    """What would take all memory: places in the memo, and lengths of texts and integers."""
    huge = [struct.pack("<Q", n) for n in ODD_INTEGERS if n > 1]
    return [
        *(b"Nr" + n[:4] + b"0" for n in huge),  # LONG_BINPUT
        *(b"\x8e" + n for n in huge),  # BINBYTES8
        *(b"\x8d" + n for n in huge),  # BINUNICODE8
        *(b"\x96" + n for n in huge),  # BYTEARRAY8
        *(b"\x95" + n for n in huge),  # FRAME
        *(b"\x8b" + n[:4] for n in huge),  # LONG4
        b"(" * 100_000,
        b"]" * 100_000,
    ]


def _array_case(rng: random.Random) -> str:
    """A labelled array, as files have them within."""
    data = damaged(rezipped(_array(), rng) if rng.random() < 0.5 else _array(), rng)
    buffer = torch.frombuffer(bytearray(data or b"x"), dtype=torch.uint8)
    read, _ = read_or_refused(lambda: read_block(buffer, "array"), (PublishedError,), "array")
    return ERROR if read is None else RIGHT


@cache
def _array() -> bytes:
    import numpy as np

    from pointedge.potentials.pet.published.tensormaps import write_block

    energies = np.array([[-13.6], [-1029.1]])
    return write_block("center_type", [1, 6], energies, "energy").numpy().tobytes()
