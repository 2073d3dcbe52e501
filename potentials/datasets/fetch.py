"""Downloads of reference sets: checked, converted, and there only when they are complete."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import ase.io

from ..files import replacing
from .converters import CONVERTERS
from .hashes import data_hash, frame_hash
from .registry import DataFile, data_set, local_path


def fetch(name: str, folder: Path, report: Callable[[str], None] = print) -> list[Path]:
    """Bring the files of a reference set to this machine; those that are here are checked.

    Args:
        name: of the set.
        folder: for the files that are not here.
        report: called with a line for each file.

    Raises:
        ValueError: no such set, a wrong checksum, or a file that has to be fetched by hand.
        OSError: a download failed.
    """
    paths = []
    for file, entry in data_set(name).files.items():
        path = local_path(file)
        if path is None:
            path = folder / file
            if entry.by_hand or not entry.sources:
                raise ValueError(f"{file} has to be fetched by hand: {entry.by_hand}; as {path}.")
            if entry.untested:
                report(f"{file}: this download has not been tried before")
            _download(file, entry, path, report)
        else:
            report(f"{file}: {path}, {check(path, entry)}")
        paths.append(path)
    return paths


def check(path: Path, entry: DataFile) -> str:
    """Say how a file compares with the registry, by bytes, or to the digits of its frames.

    Raises:
        ValueError: it is damaged, or another file. One made of sources that have more frames by now
            is what a download brings, and told.
    """
    if entry.sha256 is None:
        return "no checksum is known"
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256:
            return "checksum right"
    found = _hashes(path)
    if entry.content is not None and data_hash(found) == entry.content:
        return "the frames of the registry"
    if entry.converter is not None and len(found) > (entry.frames or len(found)):
        return f"{len(found)} frames{_other(entry)}"
    raise ValueError(
        f"{path} has another SHA-256 than the registry, and other frames; remove it, and fetch it "
        "again, or give your own file another name."
    )


def _other(entry: DataFile) -> str:
    return f"; these are not just the {entry.frames} that the registry's errors refer to"


def _download(file: str, entry: DataFile, path: Path, report: Callable[[str], None]) -> None:
    import pooch

    with tempfile.TemporaryDirectory() as temporary:
        sources = []
        for source in entry.sources:
            place = Path(temporary) / source
            place.parent.mkdir(parents=True, exist_ok=True)
            url, known = entry.base + source, entry.checksums.get(source)
            try:
                pooch.retrieve(url, known, fname=place.name, path=place.parent, progressbar=False)
            except ValueError as error:
                raise ValueError(f"{url} has a wrong checksum: {error}") from error
            sources.append(place)
        if entry.converter is None:
            (only,) = sources
            with replacing(path) as target:
                target.write(only.read_bytes())
        else:
            frames = list(CONVERTERS[entry.converter](sources, **entry.options))
            converted = Path(temporary) / "converted.xyz"
            ase.io.write(converted, frames, format="extxyz")
            with replacing(path) as target:
                target.write(converted.read_bytes())
            count = f"{len(frames)} frames"
            if entry.content is not None and data_hash(_hashes(path)) != entry.content:
                count += _other(entry)
            report(f"{file}: {path}, {count}")


def _hashes(path: Path) -> list[str]:
    try:
        return [frame_hash(atoms) for atoms in ase.io.iread(path, ":")]
    except Exception:  # readers of ASE raise anything; what cannot be read is not what it should be
        return []
