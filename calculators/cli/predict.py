"""`pointedge predict`: a copy of a file with a model's energies, forces and stresses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ...potentials.files import check_not_read
from .evaluate import progress_bar_of_frames
from .options import Device, Dtype, Model, Symmetrize, print_table


def predict(
    model: Model,
    source: Annotated[Path, typer.Argument(help="database of ASE (.db), or extended XYZ")],
    target: Annotated[Path, typer.Argument(help="new file of the same format")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace an existing file")
    ] = False,
    device: Device = None,
    dtype: Dtype = None,
    symmetrize: Symmetrize = None,
) -> None:
    """Copy a file of structures, with energy, forces and stress of a model as their results.

    Keys, data and constraints stay, and results that the file had go on as REF_energy, REF_forces
    and so on, where `pointedge evaluate` finds them. Standard deviations of a model that has them
    (an ensemble) are kept as energy_std, forces_std and max_forces_std. The copy appears when it is
    complete.
    """
    from ..models import files_of, make_calculator
    from ..predictions import predict_file

    check_not_read(target, files_of(model))
    calculator = make_calculator(model, device=device, dtype=dtype, symmetrize=symmetrize)
    start = time.perf_counter()
    with progress_bar_of_frames("structures") as (expect, advance):
        found = predict_file(
            calculator,
            source,
            target,
            model=model,
            overwrite=overwrite,
            expect=expect,
            progress=advance,
        )
    seconds = time.perf_counter() - start
    rows = [
        ("structures", f"{found.structures:,}", ""),
        ("atoms", f"{found.atoms:,}", ""),
        ("structures with a stress", f"{found.stresses:,}", ""),
        ("wall time", f"{seconds:.3g}", "s"),
        ("per structure", f"{1e3 * seconds / found.structures:.3g}", "ms"),
    ]
    print_table(("quantity", "value", "unit"), rows)
    print(f"{target}: all of {source}, with energy, forces and stress of {model}")
