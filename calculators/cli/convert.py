"""`pointedge convert`: a published PET as a checkpoint of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import check_output


def convert(
    model: Annotated[
        str,
        typer.Argument(
            help="a checkpoint of metatrain's PET (FILE@ENERGY chooses among several energies), or "
            "a calculation folder of the original code (FOLDER@WEIGHTS)"
        ),
    ],
    output: Annotated[Path, typer.Argument(help="new file, .safetensors")],
    non_conservative: Annotated[
        bool, typer.Option("--non-conservative", help="keep forces and stress predicted as such")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the output")] = False,
) -> None:
    """Convert a published PET to a safetensors file, which opens faster and holds no pickle."""
    from ...potentials import checkpoint
    from ...potentials.packaged import SUFFIX, split_target
    from ...potentials.pet.published import is_published
    from ..loading import find_model, read_model
    from ..models import files_of

    if output.suffix != SUFFIX:
        raise ValueError(
            f"{output} has to end in {SUFFIX}; 'pointedge export' writes other formats."
        )
    check_output(output, reads=files_of(model), overwrite=overwrite)
    if not is_published(path := find_model(split_target(model)[0])):
        checkpoint.describe(path)  # says what else is no checkpoint
        raise ValueError(f"{model} is a checkpoint of pointedge already.")
    checkpoint.save(read_model(model, direct=non_conservative), output)
    print(output)
