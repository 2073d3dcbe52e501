"""Options that every verb running a model takes, and how numbers are printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ...potentials.files import check_not_read, check_writable, replacing

MODEL = (
    "a packaged name, a file (of a published PET too), or module:callable returning an ASE "
    "calculator; several, separated by commas, are an ensemble: their mean, and standard deviations"
)
Model = Annotated[
    str,
    typer.Argument(help=MODEL),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        help=MODEL,
    ),
]
Device = Annotated[str | None, typer.Option(help="torch device; default: cpu")]
Dtype = Annotated[str | None, typer.Option(help="float32 or float64; default: the model's own")]
Symmetrize = Annotated[
    str | None, typer.Option(help="ecse (exact), octahedral, lebedev:N; default: none")
]


def check_output(path: Path, *, reads: Iterable[str | Path] = (), overwrite: bool = True) -> None:
    """Refuse an output that cannot be written, before what takes long.

    Args:
        path: of the output.
        reads: files that the verb reads, which are never written over.
        overwrite: whether another file may be replaced.

    Raises:
        ValueError: its folder is not there, it is a folder or read, or it exists.
        UnwrittenError: nothing can be written there.
    """
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} into.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file.")
    check_not_read(path, reads)
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; choose another output, or give --overwrite.")
    check_writable(path)


def check_outputs(
    *paths: Path | None, reads: Iterable[str | Path] = (), overwrite: bool = True
) -> None:
    """Refuse outputs, where they are named, that are one and the same; see :func:`check_output`."""
    seen: dict[Path, Path] = {}
    reads = list(reads)
    for path in filter(None, paths):
        check_output(path, reads=reads, overwrite=overwrite)
        if path.resolve() in seen:
            raise ValueError(f"{path} is named for two outputs; name two files.")
        seen[path.resolve()] = path


def write_json(path: Path, tree: Any) -> None:
    """Write plain values, all or nothing."""
    with replacing(path) as file:
        file.write((json.dumps(tree, indent=2, allow_nan=False) + "\n").encode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns to stdout, the first to the left; nothing is folded or cut."""
    lines = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(columns))]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
