"""Frames of files: where files are found, how frames are read, and which are selected."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.db.row import AtomsRow

from ..datasets.hashes import GEOMETRY
from ..datasets.registry import FOLDER, local_folders, nearest, registered
from .settings import Frames
from .slices import parse_slice

LONGEST_REASON = 300  # characters of what other readers say: some of them quote the file


@dataclass(frozen=True)
class Frame:
    """A structure, where it came from, for messages, and the weight of its selection."""

    atoms: Atoms
    file: str = ""
    index: int = 0
    weight: float = 1.0

    def __str__(self) -> str:
        return f"frame {self.index} of {self.file}" if self.file else "the frame"


def read_frames(selection: Frames | Sequence[Frames], folder: Path) -> list[Atoms]:
    """Structures of all selected frames, see :func:`iterate_frames`."""
    return [frame.atoms for frame in iterate_frames(selection, folder)]


def iterate_frames(selection: Frames | Sequence[Frames], folder: Path) -> Iterator[Frame]:
    """Read the selected frames one by one, in the order of selections, files and frames.

    Args:
        selection: which frames; several selections are read one after the other.
        folder: where files are looked for first, see :func:`find_file`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file cannot be read or is empty, or a selection has no frame.
    """
    for one in [selection] if isinstance(selection, Frames) else selection:
        found, unseen = False, set(one.unless)
        for frame in _taken(one, lambda one=one: _kept(one, folder)):  # type: ignore[misc]
            unseen -= frame.atoms.info.keys()
            if any(_alike(frame.atoms.info.get(k), v) for k, v in one.unless.items()):
                continue
            found = True
            yield replace(frame, weight=one.weight)
        if not found:
            raise ValueError(_nothing(one, folder))
        if unseen:
            raise ValueError(
                f"no selected frame of {', '.join(one.files)} has {' or '.join(sorted(unseen))}, "
                "which unless asks for; correct it, or leave it out."
            )


def _taken(selection: Frames, read: Callable[[], Iterator[Frame]]) -> Iterator[Frame]:
    """Apply ``take`` or ``leave``; slices that count from the end cost one more reading."""
    text = selection.take or selection.leave
    if text is None:
        yield from read()
        return
    part = parse_slice(text)
    from_end = any(x is not None and x < 0 for x in (part.start, part.stop))
    chosen = range(*part.indices(sum(1 for _ in read()) if from_end else sys.maxsize))
    for k, frame in enumerate(read()):
        if (k in chosen) == (selection.take is not None):
            yield frame


def _kept(selection: Frames, folder: Path) -> Iterator[Frame]:
    for name in selection.files:
        for frame in read_file(find_file(name, folder), name, selection.index):
            if all(_alike(frame.atoms.info.get(k), v) for k, v in selection.where.items()):
                yield frame


def _alike(value: object, patterns: Sequence[str]) -> bool:
    """Whether a value is one of some texts, or matches one with ``*``, ``?`` or ``[...]``."""
    return str(value) in patterns or any(fnmatchcase(str(value), p) for p in patterns)


def read_file(path: Path, name: str | None = None, index: str = ":") -> Iterator[Frame]:
    """Frames of a file that ASE can read, as a generator; raises ValueError if it cannot."""
    shown = f"{name or path}{'' if index == ':' else f'[{index}]'}"
    if path.suffix == ".db":
        frames = _database(path, index)
    else:
        frames = ase.io.iread(path, index, do_not_split_by_at_sign=True)
    k = -1
    while True:
        try:
            atoms = next(frames, None)
        except Exception as error:  # readers of ASE raise anything
            reason = " ".join(str(error).split())[:LONGEST_REASON]
            raise ValueError(
                f"{path} cannot be read after {k + 1} frames: {type(error).__name__}: {reason}; "
                "give a file that ase.io.read can read."
            ) from error
        if atoms is None:
            break
        k += 1
        if not len(atoms):
            raise ValueError(f"frame {k} of {shown} has no atoms; remove it.")
        yield Frame(atoms, shown, k)
    if k < 0 and index == ":":
        raise ValueError(f"{path} holds no frames; is it complete?")


def _database(path: Path, index: str) -> Iterator[Atoms]:
    import ase.db

    with ase.db.connect(path) as database:
        chosen = range(*parse_slice(index).indices(database.count()))
        for k, row in enumerate(database.select()):
            if k in chosen:
                yield from_row(row)


def from_row(row: AtomsRow) -> Atoms:
    """Structure of a row of an ASE database; its keys and data become ``atoms.info``."""
    atoms = row.toatoms()
    atoms.info.update(keys_of(row))
    atoms.info.update(row.data)
    return atoms


def keys_of(row: AtomsRow) -> dict[str, Any]:
    """Keys and values of a row, as they were written.

    ``row.key_value_pairs`` has the sum of initial charges for a key "charge", and the like for
    "mass", "volume" and other properties of the class.
    """
    return {key: vars(row)[key] for key in row.key_value_pairs}


def _nothing(selection: Frames, folder: Path) -> str:
    """Why a selection has no frame."""
    files = ", ".join(selection.files)
    for key, values in selection.where.items():
        seen: set[str] = set()
        for name in selection.files:
            for frame in read_file(find_file(name, folder), name, selection.index):
                seen.add(str(frame.atoms.info.get(key)))
        if not any(_alike(text, values) for text in seen):
            return (
                f"no frame {selection.index} of {files} has {key} {' or '.join(values)}; "
                f"it is {', '.join(sorted(islice(seen, 12))) or 'in none'}."
            )
    part = f", take {selection.take}" if selection.take else ""
    part += f", leave {selection.leave}" if selection.leave else ""
    part += f", unless {selection.unless}" if selection.unless else ""
    return (
        f"no frame of {files} is selected by index {selection.index}, where {selection.where}"
        f"{part}; widen the selection."
    )


def find_file(name: str, folder: Path) -> Path:
    """Path of a data file: in the folder, or one of the registry on this machine.

    Raises:
        FileNotFoundError: it is at none of the places; the message has them, and how to get it.
    """
    known = registered(name)
    places = [folder / name]
    if known is not None:
        places += [place / name for place in local_folders()]
    elif os.environ.get(FOLDER):
        places.append(Path(os.environ[FOLDER]) / name)
    for place in places:
        if place.is_file():
            return place
    tried = " and ".join(str(place) for place in places[:2])
    advice = f"give a path relative to {folder}, or set {FOLDER} to the folder that holds it."
    if known is not None:
        advice = f"`pointedge data fetch {known[0]}` brings it, or {advice}"
    elif (guess := nearest(name)) is not None:
        advice = f"did you mean {guess!r} of the registry (`pointedge data list`)? Or {advice}"
    raise FileNotFoundError(f"data file {name} not found at {tried}; {advice}")


def refuse_known_tests(hashes: Sequence[str], known: Mapping[str, str]) -> None:
    """Raise ValueError if the geometry of a training frame is in a known test split."""
    hashes = [one[:GEOMETRY] for one in hashes]
    found = [k for k, one in enumerate(hashes) if one in known]
    if found:
        raise ValueError(
            f"{len(found)} training frames are of a known test split: frame {found[0]} is in "
            f"{known[hashes[found[0]]]}; leave them out, or set data.train_on_test_splits=true and "
            "report no error on that split."
        )


def refuse_overlap(sets: dict[str, Sequence[str]]) -> None:
    """Raise ValueError if a frame is in two sets of frame hashes, such as {"training": ...}."""
    seen: dict[str, tuple[str, int]] = {}
    for name, hashes in sets.items():
        for k, one in enumerate(hashes):
            other, twin = seen.setdefault(one, (name, k))
            if other != name:
                raise ValueError(
                    f"{name} frame {k} is {other} frame {twin}: errors would look too small; "
                    "split the data by source."
                )
