"""Predictions for a file of structures: a copy of it with energies, forces and stresses of a model.

Nothing of the file is lost, and no digit. What it had as energy, free energy, forces and stress
goes on as ``REF_energy``, ``REF_forces`` and so on, unless it has these already; keys, data,
constraints and all else stay as they are. Standard deviations of a model that has them are kept as
``energy_std``, ``forces_std`` and ``max_forces_std`` among the structure's own numbers and arrays
(keys and data of a database). The copy appears when it is complete, and not before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db.row import AtomsRow
from ase.io.extxyz import XYZError
from ase.stress import full_3x3_to_voigt_6_stress

from ..potentials.files import (
    UnwrittenError,
    check_not_read,
    check_writable,
    partial_of,
    replacing,
)
from ..potentials.neighbors.cells import volume
from ..potentials.training.reading import from_row, keys_of
from .base import CheckedCalculator
from .comparison import COMMON, COMPARED_STDS, Frame, chunks, implements, predict
from .exact import exact_extxyz

DATABASES, TEXTS = (".db",), (".xyz", ".extxyz")
REPLACED = ("energy", "free_energy", "forces", "stress")  # results that a model gives anew
UNWRITTEN = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")
OF_VOLUME = ("stress", "stress_std")  # only where the cell spans one
CHUNK = 4_000  # atoms that are handed to the calculator at once


@dataclass(frozen=True)
class Predicted:
    """How many structures and atoms a file has, and how many structures got a stress."""

    structures: int
    atoms: int
    stresses: int


def predict_file(
    calculator: Any,
    source: Path,
    target: Path,
    *,
    model: str = "",
    overwrite: bool = False,
    expect: Callable[[int], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Predicted:
    """Write a copy of a file with predictions: energy (eV), forces (eV/Å), stress (eV/Å³).

    Stress is given where the cell spans a volume, and standard deviations (same units) where the
    model has them. In a database, ids, times, keys, data and
    metadata stay; rows are searched by energy as usual.

    Args:
        calculator: an ASE calculator; its ``calculate_many`` is used where it has one.
        source: an SQLite database of ASE (.db), or extended XYZ (.xyz, .extxyz); only read.
        target: of the same format.
        model: name for the database's column of calculators.
        overwrite: replace ``target`` if it exists.
        expect: called with numbers of structures as they are known to come.
        progress: called with the number of structures after each chunk.

    Raises:
        ValueError: files that are of other formats, exist or do not, or are the same; no structure;
            a structure that the model cannot treat, with its place; then nothing is written.
    """
    _check_files(source, target, overwrite)
    copy = _copy_database if source.suffix in DATABASES else _copy_text
    return copy(calculator, source, target, model, expect or _ignore, progress or _ignore)


def _copy_database(
    calculator: Any,
    source: Path,
    target: Path,
    model: str,
    expect: Callable[[int], None],
    progress: Callable[[int], None],
) -> Predicted:
    """A copy of the whole file, whose rows are then updated where they are."""
    counts = []
    known = calculator.parameters if isinstance(calculator, CheckedCalculator) else {}
    settings = {**known, "model": model}
    with _database_copy(source, target) as database:
        ids = [row.id for row in database.select(columns=["id"], include_data=False)]
        expect(len(ids))
        frames = (Frame(from_row(database.get(id=id)), str(source), id) for id in ids)
        for chunk, predictions in _predictions(calculator, frames):
            with database:  # one transaction
                for frame, prediction in zip(chunk, predictions, strict=True):
                    row = database.get(id=frame.index)
                    keys, data = _update_row(row, *_parted(prediction), settings)
                    for name in database._get_external_table_names():  # these are there already
                        row.__dict__.pop(name, None)
                    database.write(row, keys, data, id=row.id)
            counts.append(_count(chunk, predictions))
            progress(len(chunk))
        return _total(counts, source)


def _copy_text(
    calculator: Any,
    source: Path,
    target: Path,
    model: str,
    expect: Callable[[int], None],
    progress: Callable[[int], None],
) -> Predicted:
    """Frames one after the other, so that files may be larger than memory."""
    counts = []
    with replacing(target) as file:
        for chunk, predictions in _predictions(calculator, _frames(source)):
            expect(len(chunk))
            for frame, prediction in zip(chunk, predictions, strict=True):
                updated = _updated(frame.atoms, *_parted(prediction))
                file.write(exact_extxyz(updated).encode())
            counts.append(_count(chunk, predictions))
            progress(len(chunk))
        return _total(counts, source)


def _predictions(
    calculator: Any, frames: Iterable[Frame]
) -> Iterator[tuple[list[Frame], list[dict[str, Any]]]]:
    """Chunks of frames and what is predicted for them, by ASE's names and in its shapes."""
    given = [name for name in (*COMMON, *COMPARED_STDS) if implements(calculator, name)]
    if "energy" not in given:
        raise ValueError("the model gives no energy to write; take one that does.")
    for chunk in chunks(frames, CHUNK):
        asked = [
            tuple(n for n in given if n not in OF_VOLUME or volume(np.asarray(frame.atoms.cell)))
            for frame in chunk
        ]
        predictions: list[dict[str, Any]] = []
        for found in predict(calculator, chunk, asked):
            prediction: dict[str, Any] = dict(found)
            prediction["energy"] = float(found["energy"])
            prediction["free_energy"] = prediction["energy"]
            for name in OF_VOLUME:
                if name in found:
                    prediction[name] = full_3x3_to_voigt_6_stress(found[name])
            predictions.append(prediction)
        yield chunk, predictions


def _parted(prediction: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Results that ASE knows, and standard deviations."""
    spreads = {name: prediction[name] for name in COMPARED_STDS if name in prediction}
    if "energy_std" in spreads:
        spreads["energy_std"] = float(spreads["energy_std"])
    if "forces_std" in spreads:
        spreads["max_forces_std"] = float(spreads["forces_std"].max())
    return {k: v for k, v in prediction.items() if k not in spreads}, spreads


def _updated(atoms: Atoms, results: dict[str, Any], spreads: dict[str, Any]) -> Atoms:
    """A copy of a structure with new results."""
    twin = atoms.copy()
    old = {} if atoms.calc is None else dict(atoms.calc.results)
    for name in REPLACED:
        if name in old:
            place = twin.arrays if name == "forces" else twin.info
            place.setdefault(f"REF_{name}", old.pop(name))
    for name, value in spreads.items():
        _replace(twin.arrays if name == "forces_std" else twin.info, name, value)
    twin.calc = SinglePointCalculator(twin, **old, **results)
    return twin


def _update_row(
    row: AtomsRow, results: dict[str, Any], spreads: dict[str, Any], settings: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give a row new results; returns its keys and data, to which the old ones were added."""
    keys, data = keys_of(row), dict(row.data)
    for name in REPLACED:
        if name in row:
            place = data if np.ndim(row[name]) else keys
            place.setdefault(f"REF_{name}", row.__dict__.pop(name))
    for name, value in spreads.items():
        _replace(data if np.ndim(value) else keys, name, value)
    row.__dict__.update(results, calculator="pointedge", calculator_parameters=settings)
    return keys, data


def _replace(place: dict[str, Any], name: str, value: Any) -> None:
    """Put a value where another may be, which goes on as that of a reference."""
    if name in place:
        place.setdefault(f"REF_{name}", place[name])
    place[name] = value


def _frames(source: Path) -> Iterator[Frame]:
    try:
        frames = ase.io.iread(source, ":", format="extxyz", do_not_split_by_at_sign=True)
        for index, atoms in enumerate(frames):
            yield Frame(atoms, str(source), index)
    except (XYZError, ValueError, LookupError, OSError) as error:
        raise ValueError(f"{source} cannot be read by ASE: {error}") from error


@contextmanager
def _database_copy(source: Path, target: Path) -> Iterator[Any]:
    """A database with all that another has, which becomes ``target`` if all goes well."""
    partial = partial_of(target)
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(partial)) as new,
        ):
            old.backup(new)
        yield ase.db.connect(partial, type="db")
        partial.replace(target)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith(UNWRITTEN):
            raise UnwrittenError(f"{target} could not be written ({error}).") from None
        raise ValueError(f"{source} cannot be read as a database of ASE: {error}.") from error
    finally:
        partial.unlink(missing_ok=True)


def _check_files(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse what cannot be read or written."""
    if not source.is_file():
        raise ValueError(f"there is no file {source}.")
    formats = next((kind for kind in (DATABASES, TEXTS) if source.suffix in kind), ())
    if not formats:
        known = ", ".join((*DATABASES, *TEXTS))
        raise ValueError(f"{source} is not of {known}; convert it with `ase convert`.")
    if target.suffix not in formats:
        raise ValueError(
            f"{target} has to end in {' or '.join(formats)} as {source} does, so that nothing of "
            "it is lost."
        )
    if not target.parent.is_dir():
        raise ValueError(f"there is no folder {target.parent} to write {target.name} into.")
    check_not_read(target, [source])
    if target.exists() and not overwrite:
        raise ValueError(f"{target} exists; name another file, or add --overwrite.")
    check_writable(target)


def _count(chunk: list[Frame], predictions: list[dict[str, Any]]) -> tuple[int, int, int]:
    atoms = sum(len(frame.atoms) for frame in chunk)
    return len(chunk), atoms, sum("stress" in prediction for prediction in predictions)


def _total(counts: list[tuple[int, int, int]], source: Path) -> Predicted:
    if not counts:
        raise ValueError(f"{source} holds no structure.")
    return Predicted(*(sum(column) for column in zip(*counts, strict=True)))


def _ignore(count: int) -> None:
    """Tell nobody."""
