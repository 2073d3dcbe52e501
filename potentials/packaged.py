"""Models and structures that come with the package."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

SUFFIX = ".safetensors"


def packaged_folder(name: str) -> Path:
    """Return a folder of the data that come with the package."""
    return Path(str(files("pointedge.data") / name))


def packaged_models() -> dict[str, Path]:
    """Return the files of the models that come with the package, by name."""
    folder = packaged_folder("models")
    return {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def split_target(model: str | Path) -> tuple[str, str | None]:
    """Return the file and the energy that "FILE@ENERGY" stands for, which has None without "@"."""
    file, mark, target = str(model).rpartition("@")
    if mark and not os.path.exists(Path(model).expanduser()):
        return file, target
    return str(model), None
