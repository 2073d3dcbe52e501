"""Sets of labelled frames with their neighbour lists, in memory or memory-mapped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from ase import Atoms

from ..datasets.hashes import ColumnsHash, frame_hash
from ..files import replacing
from ..graph import Graph
from .data import LABELS, Batch, GivenWeights, frame_weight, with_labels
from .labels import keys_of, read_labels, with_named_moments
from .reading import Frame, find_file, iterate_frames
from .settings import Data, Frames
from .storage import CacheWriter, Columns, MemoryWriter, Writer, open_cache
from .summary import Summarizer, Summary

CHUNK = 2000  # atoms
KEYS = {*(f"{label}_key" for label in LABELS), "magmoms_key", "weight_key", "group_weights"}
CACHE_FORMAT = 4  # to be raised when columns change their meaning
PER_ATOM = ("positions", "species", "magmoms", "forces", "degree")
PER_EDGE = ("neighbors", "shifts")
DIGESTED = ("hash", "pbc", *LABELS, "weight")
# Centres follow from degrees, since edges are sorted; other integers need half their bits.
NARROW = {"species": np.int16, "neighbors": np.int32, "shifts": np.int32, "degree": np.int32}
GRAPH = tuple(f.name for f in fields(Graph) if f.name not in ("structure", "centers"))


class FrameDataset(Sequence[Batch]):
    """Labelled frames; item i is a :class:`.data.Batch` of one structure.

    Workers of a torch ``DataLoader`` may share one: a cache is mapped, not sent.

    Attributes:
        atoms: (F,) int64, atoms of each frame, for batches by size.
        edges: (F,) int64, directed edges of each frame.
        hashes: (F,) hashes of the frames, see :func:`..datasets.hashes.frame_hash`.
        species: atomic numbers, ascending.
        summary: what they are, for the table.
        digest: hash of the frames, their labels and weights, in their order.
    """

    def __init__(
        self, columns: Columns, summary: Summary, digest: str, folder: Path | None = None
    ) -> None:
        self._columns, self._folder = columns, folder
        self.summary, self.digest = summary, digest
        self.atoms = np.asarray(columns["atoms"]).astype(np.int64)
        self.edges = np.asarray(columns["edges"]).astype(np.int64)
        self.hashes = [str(x, "ascii") for x in columns["hash"]]
        self._atom_starts = np.concatenate([[0], np.cumsum(self.atoms)])
        self._edge_starts = np.concatenate([[0], np.cumsum(self.edges)])

    @classmethod
    def build(
        cls, frames: Iterable[Frame], data: Data, cutoff: float, inputs: tuple[str, ...], name: str
    ) -> FrameDataset:
        """Read labels and make neighbour lists within ``cutoff`` (Å), all in memory.

        Raises:
            ValueError: a frame or label is unusable; the message names it.
        """
        writer = MemoryWriter()
        summary, digest = _collect(frames, data, cutoff, inputs, name, writer)
        return cls(writer.finish(), summary, digest)

    @classmethod
    def open(cls, folder: Path) -> FrameDataset:
        """Map a cache; raises ValueError if it is damaged."""
        columns, information = open_cache(folder)
        summary = Summary.model_validate(information["summary"])
        return cls(columns, summary, information["digest"], folder)

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers, ascending."""
        return tuple(np.unique(self._columns["species"]).tolist())

    def inputs(self, name: str) -> np.ndarray:
        """(F,) "charge" or "spin" of the frames, of those that were read."""
        return self._columns[name]

    def __len__(self) -> int:
        return len(self.atoms)

    @overload
    def __getitem__(self, index: int) -> Batch: ...

    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...

    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no frame {index} of {len(self)}")
        i = index % len(self)
        atoms = slice(self._atom_starts[i], self._atom_starts[i + 1])
        edges = slice(self._edge_starts[i], self._edge_starts[i + 1])
        tensors = {}
        for name, column in self._columns.items():
            part = atoms if name in PER_ATOM else edges if name in PER_EDGE else slice(i, i + 1)
            if name not in ("atoms", "edges", "hash"):
                array = np.array(column[part], dtype=np.int64 if name in NARROW else None)
                tensors[name] = torch.from_numpy(array)
        degree = tensors.pop("degree")
        graph = Graph(
            structure=torch.zeros(len(degree), dtype=torch.int64),
            centers=torch.repeat_interleave(degree),
            **{name: tensors.pop(name) for name in GRAPH if name in tensors},
        )
        return Batch(graph=graph, **tensors)

    def __iter__(self) -> Iterator[Batch]:
        return (self[i] for i in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled as the numbers it maps; a worker maps the files again.
        state = dict(self.__dict__)
        if self._folder is not None:
            del state["_columns"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._folder is not None:
            self._columns, _ = open_cache(self._folder)


class FrameSource:
    """The frames of one set, before it is known what a model wants of them.

    Without a cache they are read once, here; with one they are read as a stream whenever something
    is not in the cache, so that they need not fit into memory.

    Args:
        name: of the set, for messages.
        selections: which frames.
        data: keys of labels, and the folder of the cache.
        folder: where files are looked for first.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file cannot be read, or a selection has no frame.
    """

    def __init__(self, name: str, selections: Sequence[Frames], data: Data, folder: Path) -> None:
        self.name = name
        self.selections = list(selections)
        self.data = data
        self.folder = folder
        self._frames: list[Frame] | None = None
        if data.cache is None:
            self._frames = list(iterate_frames(self.selections, folder))
        else:
            self._content = _content(self.selections, folder)

    def __iter__(self) -> Iterator[Frame]:
        if self._frames is not None:
            return iter(self._frames)
        return iterate_frames(self.selections, self.folder)

    def species(self) -> set[int]:
        """Atomic numbers of all frames."""
        if self.data.cache is None:
            return self._species()
        path = self._place("species", {}).with_suffix(".json")
        if not path.is_file():
            found = sorted(self._species())
            with replacing(path) as file:
                file.write(json.dumps(found).encode())
        try:
            return {int(z) for z in json.loads(path.read_text())}
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); remove it.") from error

    def dataset(self, cutoff: float, inputs: tuple[str, ...]) -> FrameDataset:
        """The frames with labels, neighbour lists within ``cutoff`` (Å) and a model's inputs.

        Raises:
            ValueError: a frame or label is unusable, or the cache is damaged.
        """
        if self.data.cache is None:
            return FrameDataset.build(self, self.data, cutoff, inputs, self.name)
        keys = self.data.model_dump(include=KEYS)
        folder = self._place("frames", {"cutoff": cutoff, "inputs": inputs, "data": keys})
        if not folder.is_dir():
            with CacheWriter(folder) as writer:
                summary, digest = _collect(self, self.data, cutoff, inputs, self.name, writer)
                writer.finish({"summary": summary.model_dump(mode="json"), "digest": digest})
        return FrameDataset.open(folder)

    def _species(self) -> set[int]:
        return set().union(*(frame.atoms.numbers.tolist() for frame in self))

    def _place(self, kind: str, settings: dict[str, Any]) -> Path:
        assert self.data.cache is not None
        key = {"format": CACHE_FORMAT, "name": self.name, "content": self._content, **settings}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / self.data.cache / f"{self.name}-{kind}-{digest}"


def _collect(
    frames: Iterable[Frame],
    data: Data,
    cutoff: float,
    inputs: tuple[str, ...],
    name: str,
    writer: Writer,
) -> tuple[Summary, str]:
    """Write all frames, each looked at once; returns what they are, and their digest."""
    summarizer, digest = Summarizer(name, cutoff), ColumnsHash()
    keys, given = keys_of(data), GivenWeights(data)
    for chunk in _chunks(frames):
        names = [str(frame) for frame in chunk]
        structures = [with_named_moments(frame.atoms, keys, str(frame)) for frame in chunk]
        found = [read_labels(a, keys, where) for a, where in zip(structures, names, strict=True)]
        labels, used = [one for one, _ in found], [one for _, one in found]
        weights = [frame.weight * frame_weight(frame.atoms, data, str(frame)) for frame in chunk]
        given.look_at(structures)
        try:
            batch = with_labels(structures, labels, weights, cutoff, inputs)
        except ValueError:
            _name_the_bad_one(names, structures, cutoff, inputs)
            raise
        hashes = [frame_hash(a) for a in structures]
        summarizer.add(names, structures, batch, used, hashes)
        rows = _rows(batch, hashes)
        writer.append(rows)
        digest.add({column: rows[column] for column in DIGESTED})
    if name == "training":
        given.check()
    return summarizer.finish(), digest.hexdigest()


def _chunks(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """Frames by some thousand atoms, which take less time together than one by one."""
    chunk: list[Frame] = []
    atoms = 0
    for frame in frames:
        chunk.append(frame)
        atoms += len(frame.atoms)
        if atoms >= CHUNK:
            yield chunk
            chunk, atoms = [], 0
    if chunk:
        yield chunk


def _name_the_bad_one(
    names: Sequence[str], structures: Sequence[Atoms], cutoff: float, inputs: tuple[str, ...]
) -> None:
    for name, atoms in zip(names, structures, strict=True):
        try:
            Graph.from_atoms(atoms, cutoff, inputs=inputs)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def _rows(batch: Batch, hashes: Sequence[str]) -> Columns:
    """What is stored of some frames."""
    graph = batch.graph
    tensors = {name: getattr(graph, name) for name in GRAPH}
    tensors |= {name: getattr(batch, name) for name in (*LABELS, "weight")}
    atoms = torch.bincount(graph.structure, minlength=graph.num_structures)
    first = torch.cumsum(atoms, 0) - atoms
    structure = graph.structure[graph.centers]
    tensors["neighbors"] = graph.neighbors - first[structure]
    tensors["degree"] = torch.bincount(graph.centers, minlength=graph.num_atoms)
    tensors["atoms"] = atoms
    tensors["edges"] = torch.bincount(structure, minlength=graph.num_structures)
    rows = {name: value.numpy() for name, value in tensors.items() if value is not None}
    return {
        **{name: array.astype(NARROW.get(name, array.dtype)) for name, array in rows.items()},
        "hash": np.array([digest.encode() for digest in hashes], dtype="S24"),
    }


def _content(selections: Sequence[Frames], folder: Path) -> list[Any]:
    """Selections, and the SHA-256 of their files."""
    files = {name: find_file(name, folder) for one in selections for name in one.files}
    digests = {}
    for name, path in files.items():
        with path.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return [[one.model_dump() for one in selections], digests]
