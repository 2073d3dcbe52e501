"""Files of ``torch.save``, read without running anything that is in them.

Such a file is a zip archive of a pickle and of the tensors' bytes. A pickle is a program: it names
functions, and calls them. Ours may name a dozen things, all of them inert: an ordered dictionary, a
set, tensors (a :class:`StoredTensor` is only the place of one) and classes of metatrain, for which
a :class:`Stub` stands in that keeps what it is given. Any other name ends the reading.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import LONGEST_REASON, PublishedError

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
STUBBED = ("metatrain", "metatensor", "metatomic")  # packages whose classes become stubs
CONTAINERS: dict[tuple[str, str], type] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}


class Stub:
    """Stands for an object of a class that is not imported."""

    state: Any = None  # what the object was pickled with

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a file; nothing is read before :meth:`read`."""

    archive: zipfile.ZipFile
    name: str
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self) -> Tensor:
        """The tensor, on the CPU.

        Raises:
            PublishedError: its bytes are damaged, or fewer than it needs.
        """
        try:
            data = self.archive.read(self.name)
            if not data or len(data) % self.dtype.itemsize:
                raise ValueError(f"{len(data)} bytes of {self.dtype}")
            values = torch.frombuffer(bytearray(data), dtype=self.dtype)
            if math.prod(self.size) > len(values):
                raise ValueError(f"{len(values)} numbers for shape {self.size}")
            return values.as_strided(self.size, self.stride, self.offset).clone()
        except (KeyError, RuntimeError, ValueError, TypeError, zipfile.BadZipFile, OSError) as e:
            raise PublishedError(f"tensor {self.name} is damaged ({e}); fetch it again.") from None


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """What was saved; its tensors can be read while the file is open.

    Raises:
        PublishedError: the file is truncated, damaged or of another format, or its pickle names
            something that is not on the list, of which nothing has then run.
    """
    try:
        archive = zipfile.ZipFile(path)
        # a truncated file ends in the directory of an array within it, which is a zip file too
        if all(entry.header_offset > 0 for entry in archive.filelist):
            raise zipfile.BadZipFile("its directory is not at its end")
    except Exception as error:  # a damaged directory makes zipfile raise what it meets
        raise PublishedError(
            f"{path} cannot be opened as a file of torch.save ({error}); it may be truncated, or "
            "older than torch 1.6."
        ) from None
    with archive:
        yield _unpickled(archive, path)


def _unpickled(archive: zipfile.ZipFile, path: Path) -> Any:
    names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise PublishedError(
            f"{path} is an exported (TorchScript) model, whose code only torch can run; give the "
            "checkpoint (.ckpt) that it was exported from."
        )
    programs = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise PublishedError(f"{path} is a zip file, but not one of torch.save (no data.pkl).")
    folder = programs[0].removesuffix("data.pkl")
    try:
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise PublishedError(f"{path} was written on a big-endian machine; save it anew.")
        return _Unpickler(archive, folder, path).load()
    except PublishedError:
        raise
    except Exception as error:  # a damaged pickle raises whatever it meets
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise PublishedError(
            f"{path} is damaged ({type(error).__name__}: {reason}); fetch it again."
        ) from None


def _refuse_greed(program: bytes) -> None:
    """Raise ValueError where a pickle would take memory that has nothing to do with its length.

    The unpickler has a table of all places that a pickle names, up to the largest; lengths of texts
    beyond its end are told by ``genops``.
    """
    for operation, place, _ in pickletools.genops(program):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(place or 0) > len(program):
            raise ValueError(f"it names place {place} of its memory")


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows the few names of checkpoints of PET."""

    def __init__(self, archive: zipfile.ZipFile, folder: str, path: Path) -> None:
        program = archive.read(f"{folder}data.pkl")
        _refuse_greed(program)
        super().__init__(io.BytesIO(program))
        self.archive, self.folder, self.path = archive, folder, path

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for: always one of ours, and a new one, which a file may spoil."""
        if module.split(".")[0] in STUBBED or (module, name) == ("torch", "ScriptObject"):
            return type(name, (Stub,), {})
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: StoredTensor(
                self.archive, storage[0], storage[1], offset, size, stride
            )
        if (module, name) in CONTAINERS:
            return CONTAINERS[module, name]
        raise PublishedError(
            f"{self.path} names {module}.{name}, which no checkpoint of PET needs and which could "
            "be harmful; it was refused before anything of it ran."
        )

    def persistent_load(self, pid: Any) -> tuple[str, torch.dtype]:
        """Where a storage lies, and its type."""
        kind, dtype, key = pid[:3]
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise ValueError(f"an unknown kind of reference, {kind!r}")
        return f"{self.folder}data/{key}", dtype
