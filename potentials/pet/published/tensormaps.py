"""Labelled arrays of metatensor (.mts): a zip archive of numpy arrays, read and written."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import LONGEST_REASON, PublishedError


@dataclass(frozen=True)
class Block:
    """The only block of a labelled array.

    Attributes:
        samples: (S,) what the rows are of, such as atomic numbers.
        values: (S, ..., P) for P properties.
    """

    samples: list[int]
    values: np.ndarray


def read_block(buffer: Tensor, what: str) -> Block:
    """Block of the bytes (uint8) of an array that has a single one.

    Raises:
        PublishedError: it has several, or cannot be read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(buffer.numpy().tobytes())) as archive:
            if "blocks/1/values.npy" in archive.namelist():
                raise PublishedError(f"{what} has several blocks; energies have one.")
            values = _array(archive, "blocks/0/values.npy")
            samples = _array(archive, "blocks/0/samples.npy")
        return Block([int(row[0]) for row in samples.tolist()], values)
    except PublishedError:
        raise
    except (KeyError, ValueError, TypeError, zipfile.BadZipFile, OSError) as error:
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise PublishedError(f"{what} cannot be read ({reason}); the file is damaged.") from None


def write_block(name: str, samples: Sequence[int], values: np.ndarray, unit: str) -> Tensor:
    """Bytes (uint8) of an array with one block, and one property of the name ``unit``.

    Args:
        name: of what the rows are of, such as "center_type".
        samples: (S,) their values.
        values: (S, 1) float64.
        unit: name of the property, such as "energy".
    """
    arrays: dict[str, Any] = {
        "keys.npy": _labels("_", [0]),
        "blocks/0/values.npy": np.ascontiguousarray(values, dtype=np.float64),
        "blocks/0/samples.npy": _labels(name, samples),
        "blocks/0/properties.npy": _labels(unit, [0]),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, array in arrays.items():
            file = io.BytesIO()
            np.save(file, array, allow_pickle=False)
            # as long as metatensor's own, since metatrain loads it into a buffer of that length
            with archive.open(zipfile.ZipInfo(path), "w", force_zip64=True) as entry:
                entry.write(file.getvalue())
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    return np.load(io.BytesIO(archive.read(name)), allow_pickle=False)


def _labels(name: str, values: Sequence[int]) -> np.ndarray:
    return np.array([(int(v),) for v in values], dtype=[(name, "<i4")])
