"""`pointedge export`: a model in the format of another package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import check_output

FORMATS = {"metatrain": ".ckpt"}  # and the suffix of its files


def export(
    model: Annotated[str, typer.Argument(help="a packaged name or a file")],
    output: Annotated[Path, typer.Argument(help="new file")],
    to: Annotated[
        str, typer.Option(help="metatrain: a checkpoint (.ckpt) that it loads and exports")
    ],
    dtype: Annotated[
        str | None, typer.Option(help="float32 or float64; default: the model's own")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the output")] = False,
) -> None:
    """Write a model for another package, and through it for the engines that run its models.

    A setting that has no form there is refused by name.
    """
    from ...potentials.pet.published.writing import save
    from ...potentials.suggestions import refuse_misspelt
    from ..loading import load_potential
    from ..models import files_of
    from ..settings import read_dtype

    refuse_misspelt("format", to, FORMATS)
    if output.suffix != FORMATS[to]:
        raise ValueError(f"{output} has to end in {FORMATS[to]}, as the files of {to} do.")
    check_output(output, reads=files_of(model), overwrite=overwrite)
    potential = load_potential(model)
    for note in save(potential.to(read_dtype(dtype, potential.dtype)), output):
        print(f"pointedge: {note}", file=sys.stderr)
    print(output)
