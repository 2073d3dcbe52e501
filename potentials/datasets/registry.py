"""The registry of reference sets, and where their files are on this machine."""

from __future__ import annotations

import difflib
import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from ..suggestions import refuse_misspelt

FOLDER = "POINTEDGE_DATA"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataFile(_Entry):
    """A file of frames in the one convention: Å, REF_energy eV, REF_forces eV/Å, REF_stress eV/Å³.

    Attributes:
        frames: how many, if known.
        sha256: of the file as it was made when it was entered here.
        content: hash of its frames in any order and of any digits, see :func:`.hashes.data_hash`.
        base: beginning of the addresses of ``sources``.
        sources: addresses of files of the origin, without ``base``, in the order of the converter.
        checksums: of sources, such as "md5:...", as others publish them.
        converter: name of a function of :mod:`.converters` that makes the file of the sources.
        options: of that function.
        by_hand: where to get what has no address that is known for certain.
        untested: the download could not be tried when this was written.
        note: what a reader has to know.
    """

    frames: int | None = None
    sha256: str | None = None
    content: str | None = None
    base: str = ""
    sources: list[str] = []
    checksums: dict[str, str] = {}
    converter: str | None = None
    options: dict[str, Any] = {}
    by_hand: str = ""
    untested: bool = False
    note: str = ""


class DataSet(_Entry):
    """A reference set: files by name, such as "water/train.xyz", and whose they are."""

    title: str
    method: str
    origin: str
    licence: str
    citation: str
    files: dict[str, DataFile]


@cache
def registry() -> dict[str, DataSet]:
    """All reference sets by name."""
    tree = yaml.safe_load((files("pointedge.data") / "registry.yaml").read_text())
    return {name: DataSet.model_validate(entry) for name, entry in tree.items()}


def data_set(name: str) -> DataSet:
    """A reference set; raises ValueError with the nearest name for an unknown one."""
    refuse_misspelt("data set", name, registry())
    return registry()[name]


def registered(file: str) -> tuple[str, DataFile] | None:
    """The set that a file such as "water/train.xyz" belongs to, and its entry; None if unknown."""
    for name, entry in registry().items():
        if file in entry.files:
            return name, entry.files[file]
    return None


def nearest(file: str) -> str | None:
    """The name of the registered file that is most like this one, if any is."""
    names = [name for entry in registry().values() for name in entry.files]
    found = difflib.get_close_matches(file, names, n=1, cutoff=0.7)
    return found[0] if found else None


def local_folders() -> list[Path]:
    """Where files of the registry are looked for: POINTEDGE_DATA, then downloads.

    Before them the package: what comes with it is of the version that its models and configurations
    mean.
    """
    import pooch

    own = [Path(os.environ[FOLDER])] if os.environ.get(FOLDER) else []
    return [Path(str(files("pointedge.data"))), *own, Path(pooch.os_cache("pointedge"))]


def local_path(file: str) -> Path | None:
    """Path of a file of the registry on this machine; None if it is not here."""
    return next((f / file for f in local_folders() if (f / file).is_file()), None)


@cache
def known_test_frames() -> dict[str, str]:
    """Known test splits by the geometries of their frames, see :func:`.hashes.frame_hash`."""
    found = {}
    for file in sorted((files("pointedge.data") / "test_splits").iterdir(), key=lambda f: f.name):
        title, *hashes = file.read_text().splitlines()
        found.update(dict.fromkeys(hashes, title.removeprefix("# ")))
    return found
