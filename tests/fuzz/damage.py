"""Damage that happens to bytes, trees and zip archives, drawn at random."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from typing import Any

ODD_INTEGERS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 1e308, float("nan"), float("inf"), "x", "", [], {}, [[]], {"a": 1}),
    *ODD_INTEGERS,
)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes with flipped bits, or with blocks cut, zeroed, moved, repeated or overwritten."""
    kinds = (_flipped, _flipped, _cut, _zeroed, _swapped, _repeated, _removed, _noise, _integer)
    return rng.choice(kinds)(bytearray(data), rng)


def _block(data: bytearray, rng: random.Random) -> slice:
    start = rng.randrange(len(data))
    return slice(start, min(len(data), start + rng.choice((1, 8, 64, 512, 4096))))


def _flipped(data: bytearray, rng: random.Random) -> bytes:
    near = rng.choice((len(data), 2048, 64))  # headers are at the beginning
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(min(near, len(data)))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _cut(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.choice((rng.randrange(len(data)), len(data) - rng.randrange(1, 64)))])


def _zeroed(data: bytearray, rng: random.Random) -> bytes:
    block = _block(data, rng)
    data[block] = bytes(block.stop - block.start)
    return bytes(data)


def _swapped(data: bytearray, rng: random.Random) -> bytes:
    first, second = _block(data, rng), _block(data, rng)
    size = min(first.stop - first.start, second.stop - second.start)
    a, b = first.start, second.start
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return bytes(data)


def _repeated(data: bytearray, rng: random.Random) -> bytes:
    block = _block(data, rng)
    data[block.stop : block.stop] = data[block]
    return bytes(data)


def _removed(data: bytearray, rng: random.Random) -> bytes:
    del data[_block(data, rng)]
    return bytes(data)


def _noise(data: bytearray, rng: random.Random) -> bytes:
    block = _block(data, rng)
    data[block] = rng.randbytes(block.stop - block.start)
    return bytes(data)


def _integer(data: bytearray, rng: random.Random) -> bytes:
    """A length or an offset that says something else."""
    start = rng.choice((0, rng.randrange(len(data)), max(len(data) - rng.randrange(8, 80), 0)))
    size = rng.choice((4, 8))
    data[start : start + size] = struct.pack("<Q", rng.choice(ODD_INTEGERS))[:size]
    return bytes(data)


def edit_tree(tree: dict[str, Any], rng: random.Random) -> None:
    """Change, remove or add one value of nested dictionaries and lists."""
    node: Any = tree
    while True:
        places = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not places:
            return
        place = rng.choice(places)
        if isinstance(node[place], dict | list) and node[place] and rng.random() < 0.8:
            node = node[place]
            continue
        action = rng.random()
        if action < 0.8:
            old = node[place]
            close = [old * 2, -old, old + 1] if type(old) in (int, float) else []
            node[place] = rng.choice([*ODD_VALUES, *close])
        elif action < 0.9:
            del node[place]
        elif isinstance(node, dict):
            node[f"{place}x"] = rng.choice(ODD_VALUES)
        return


def rezipped(data: bytes, rng: random.Random, program: bytes | None = None) -> bytes:
    """An archive whose entries were renamed, removed, repeated, compressed or changed.

    Their checksums are right. ``program`` replaces the pickle in it.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    kind = "compressed" if program is not None else rng.choice(("name", "gone", "twice", "content"))
    place = rng.randrange(len(entries))
    name, content = entries[place]
    if kind == "name":
        entries[place] = (
            rng.choice((f"{name}x", "data.pkl", entries[0][0], "", name[:-1])),
            content,
        )
    elif kind == "gone":
        del entries[place]
    elif kind == "twice":
        entries.append((name, content[::-1]))
    elif kind == "content":
        entries[place] = (name, damaged(content, rng) if content else b"x")
    if program is not None:
        entries = [(n, program if n.endswith("/data.pkl") else c) for n, c in entries]
    buffer = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()
