"""One structure from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from ..potentials.training.reading import read_file


def file_and_part(path: str | Path) -> tuple[Path, str]:
    """The file and the selection that "FILE@PART" stands for; "@" may be in the name of a file."""
    path = Path(path)
    name, _, part = path.name.rpartition("@")
    return (path, "-1") if path.exists() or not name else (path.with_name(name), part)


def read_last(path: str | Path) -> Atoms:
    """Last frame of a file that ASE can read; of "FILE@3" or "FILE@:10", of that selection.

    Keys and data of a database become ``atoms.info``, where a model finds charge and spin.

    Raises:
        ValueError: there is no such file, or no structure in it.
    """
    file, part = file_and_part(path)
    try:
        if file.suffix == ".db" and file.is_file():
            found: Any = [f.atoms for f in read_file(file, index=part)]
        else:
            found = ase.io.read(file, index=part, do_not_split_by_at_sign=True)
    except FileNotFoundError:
        raise ValueError(f"there is no structure file {path}.") from None
    except Exception as error:  # ASE's readers of many formats raise whatever they meet
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} holds no structure that ASE can read ({reason}).") from error
    if isinstance(found, list) and not found:
        raise ValueError(f"{path} selects no structure.")
    return found[-1] if isinstance(found, list) else found
