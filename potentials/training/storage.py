"""Columns of numbers that grow frame by frame: in memory, or in a memory-mapped cache."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import numpy as np
from numpy.lib import format as npy

Columns = dict[str, np.ndarray]
INDEX = "index.json"
LOCK = "lock"


class Writer(Protocol):
    """What takes the rows of one frame after the other."""

    def append(self, rows: Columns) -> None:
        """Add rows to every column; the columns are those of the first call."""


class MemoryWriter:
    """Columns in memory."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}

    def append(self, rows: Columns) -> None:
        """Add rows to every column."""
        _require_same(rows, self._parts)
        for name, part in rows.items():
            self._parts.setdefault(name, []).append(part)

    def finish(self) -> Columns:
        """The columns."""
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


class CacheWriter(AbstractContextManager["CacheWriter"]):
    """A folder of .npy files, one for each column, which appears when it is complete.

    Args:
        folder: of the cache; until :meth:`finish` the files are in a temporary folder beside it,
            which an error removes, and after a kill the next writer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        self._partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        self._lock = _hold(self._partial)
        self._files: dict[str, BinaryIO] = {}
        self._shapes: dict[str, tuple[str, tuple[int, ...]]] = {}  # type, and shape of all rows

    def append(self, rows: Columns) -> None:
        """Add rows to every column."""
        _require_same(rows, self._files)
        for name, part in rows.items():
            if name not in self._files:
                self._files[name] = (self._partial / f"{name}.npy").open("wb+")
                self._shapes[name] = (part.dtype.str, (0, *part.shape[1:]))
                self._header(name)
            kind, (count, *rest) = self._shapes[name]
            self._files[name].write(np.ascontiguousarray(part).tobytes())
            self._shapes[name] = (kind, (count + len(part), *rest))

    def finish(self, information: dict[str, Any]) -> None:
        """Write headers and the index, and move the folder to its place, if it is still free."""
        for name, file in self._files.items():
            file.seek(0)
            self._header(name)
            file.flush()
            os.fsync(file.fileno())
            file.close()
        index = {
            "columns": {n: [kind, list(shape)] for n, (kind, shape) in self._shapes.items()},
            "information": information,
        }
        (self._partial / INDEX).write_text(json.dumps(index))
        (self._partial / LOCK).unlink(missing_ok=True)
        try:
            self._partial.rename(self.folder)
        except OSError:
            if not self.folder.is_dir():
                raise  # otherwise another process has made the same cache meanwhile

    def _header(self, name: str) -> None:
        # NumPy leaves room in the header for a first axis that grows: its length does not change.
        kind, shape = self._shapes[name]
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._files[name], header)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._partial, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> Self:
        return self


def open_cache(folder: Path) -> tuple[Columns, dict[str, Any]]:
    """Memory-map the columns of a cache; returns them and its information.

    Raises:
        ValueError: files are missing, cut short, or not what the index says.
    """
    try:
        index = json.loads((folder / INDEX).read_text())
        columns = {}
        for name, (kind, shape) in index["columns"].items():
            # An empty file cannot be mapped.
            mode = "r" if np.prod(shape) else None
            columns[name] = np.load(folder / f"{name}.npy", mmap_mode=mode)  # type: ignore[arg-type]
            if columns[name].shape != tuple(shape) or columns[name].dtype != np.dtype(kind):
                raise ValueError(f"{name}.npy is not what the index says")
        return columns, index["information"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"the cache {folder} is damaged ({error}); remove it, and it will be made again."
        ) from error


def _hold(partial: Path) -> BinaryIO:
    """Say that a process writes here, as long as it lives; the file appears when it is locked."""
    name = partial / f"{LOCK}.new"
    file = name.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        name.rename(partial / LOCK)
    except OSError:  # a file system without locks: nobody will take it for abandoned
        name.unlink(missing_ok=True)
    return file


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed writers of a cache have left beside it: whatever nobody holds."""
    for partial in folder.parent.glob(f".{glob.escape(folder.name)}-*"):
        try:
            with (partial / LOCK).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(partial)
        except OSError:  # being written, finished meanwhile, or without a lock
            continue


def _require_same(rows: Columns, known: dict[str, Any]) -> None:
    if known and rows.keys() != known.keys():
        other = ", ".join(sorted(rows.keys() ^ known.keys()))
        raise ValueError(f"some frames have {other} and others have not.")
