"""Cases for files of frames: edited extended XYZ, and damaged files of other formats."""

from __future__ import annotations

import os
import pickle
import random
from functools import cache
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import strategies as st

from pointedge.potentials.training.labels import read_labels
from pointedge.potentials.training.reading import read_file

from .damage import damaged
from .outcomes import ERROR, RIGHT, FindingError, canary_command, read_or_refused, same

ODD_WORDS = (
    *("nan", "inf", "-inf", "1e999", "1e-999", "1.2.3", "--1", "", "x", "H2", "Xx", "0", "-1"),
    *("999999999999", "1e3", "0x10", "T", "F", '"', '"a b"', "{", "\t", "é", "\x00", "=", "a=b=c"),
    *("R:3", "Properties=pos:R:3", 'Lattice="1 2 3"', 'pbc="T T"', "_JSON {}", "REF_energy=5"),
)
LABELS = ("REF_energy", "energy", "charge", "virial", "stress", "name", "Time")
FORMATS = {".traj": None, ".json": None, ".db": None, ".cif": "cif", ".vasp": "vasp"}


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Up to three frames as extended XYZ, with some edits."""
    frames = [_frame(draw) for _ in range(draw(st.integers(1, 3)))]
    text = "".join(frames)
    for _ in range(draw(st.integers(0, 3))):
        text = _edited(draw, text)
    return text


def _frame(draw: st.DrawFn) -> str:
    size = draw(st.integers(1, 4))
    numbers = st.floats(-1e3, 1e3, allow_subnormal=False)
    extra = draw(st.sampled_from(("", ":forces:R:3", ":magmoms:R:1", ":tags:I:1")))
    words = [f"Properties=species:S:1:pos:R:3{extra}"]
    if draw(st.booleans()):
        cell = " ".join(repr(x) for x in draw(st.lists(numbers, min_size=9, max_size=9)))
        words.insert(0, f'Lattice="{cell}"')
    labels = draw(st.lists(st.sampled_from(LABELS), unique=True, max_size=3))
    values = st.one_of(numbers, st.sampled_from(ODD_WORDS))
    words += [f"{key}={draw(values)}" for key in labels]
    columns = {"": 3, ":forces:R:3": 6, ":magmoms:R:1": 4, ":tags:I:1": 4}[extra]
    lines = [str(size), " ".join(words)]
    for _ in range(size):
        row = [repr(x) for x in draw(st.lists(numbers, min_size=columns, max_size=columns))]
        if extra.endswith("I:1"):
            row[-1] = str(draw(st.integers(0, 9)))
        lines.append(" ".join([draw(st.sampled_from(("H", "O", "Si"))), *row]))
    return "\n".join(lines) + "\n"


def _edited(draw: st.DrawFn, text: str) -> str:
    kind = draw(st.sampled_from(("word", "line", "twice", "cut", "insert", "order")))
    lines = text.split("\n")
    place = draw(st.integers(0, len(lines) - 1))
    if kind == "word":
        words = lines[place].split(" ")
        words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(ODD_WORDS))
        lines[place] = " ".join(words)
    elif kind == "line":
        del lines[place]
    elif kind == "twice":
        lines.insert(place, lines[place])
    elif kind == "order":
        lines[0], lines[place] = lines[place], lines[0]
    elif kind == "cut":
        return text[: draw(st.integers(0, len(text)))]
    else:
        start = draw(st.integers(0, len(text)))
        return text[:start] + draw(st.text(max_size=8)) + text[start:]
    return "\n".join(lines)


def text_case(text: str, folder: Path) -> str:
    """One case of extended XYZ: what is read has to be what the columns say."""
    path = folder / "frames.xyz"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    return _read(path, _expected(path.read_text(encoding="utf-8")))


def file_case(rng: random.Random, folder: Path) -> str:
    """One case of another format; what damage leaves readable there, nobody can tell."""
    suffix = rng.choice(list(FORMATS))
    path, canary = folder / f"frames{suffix}", folder / "canary"
    content = originals()[suffix]
    if rng.random() < 0.1:
        content = b"PickleTrajectory" + pickle.dumps(_Harm(canary))
    path.write_bytes(damaged(content, rng) if rng.random() < 0.9 else content)
    outcome = _read(path, None)
    if canary.exists():
        raise FindingError("code in the file was run")
    return outcome


class _Harm:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (canary_command(self.canary),)


@cache
def originals() -> dict[str, bytes]:
    """Two frames of water in each of the other formats."""
    import tempfile

    frames = []
    for k in range(2):
        atoms = Atoms("OHH", np.eye(3) + 0.1 * k, cell=[6, 6, 6], pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0 - k, forces=np.ones((3, 3)))
        frames.append(atoms)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix, kind in FORMATS.items():
            path = Path(folder) / f"frames{suffix}"
            ase.io.write(path, frames if kind is None else frames[0], format=kind)
            found[suffix] = path.read_bytes()
    return found


def _read(path: Path, expected: list[np.ndarray] | None) -> str:
    frames, _ = read_or_refused(lambda: list(read_file(path)), (ValueError,), path.name)
    if frames is None:
        return ERROR
    if expected is not None:
        same(len(frames), len(expected), "the number of frames")
        for frame, positions in zip(frames, expected, strict=True):
            if not np.array_equal(frame.atoms.positions, positions, equal_nan=True):
                raise FindingError(f"wrong result: positions of {frame} are not those of the file")
    for frame in frames:
        labels, _ = read_or_refused(
            lambda frame=frame: read_labels(frame.atoms, {}, str(frame)),  # type: ignore[misc]
            (ValueError,),
            path.name,
        )
        if labels is None:
            return ERROR
        if any(not np.isfinite(value).all() for value in labels[0].values()):
            raise FindingError("wrong result: a label is not finite")
    return RIGHT


def _expected(text: str) -> list[np.ndarray] | None:
    """Positions of all frames by plain counting of lines; None where that fails."""
    lines = text.split("\n")
    found = []
    try:
        while lines and lines[0].strip():
            size = int(lines[0])
            columns = lines[1].split("Properties=")[1].split()[0].strip('"').split(":")
            start = 0
            for name, count in zip(columns[::3], columns[2::3], strict=True):
                if name == "pos":
                    break
                start += int(count)
            rows = [line.split()[start : start + 3] for line in lines[2 : 2 + size]]
            found.append(np.array(rows, dtype=float).reshape(size, 3))
            lines = lines[2 + size :]
    except (ValueError, IndexError):
        return None
    return found
