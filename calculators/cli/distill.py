"""`pointedge distill-auxiliary`: the network that ECSE needs for atoms without frames."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Model, check_output


def distill_auxiliary(
    model: Model,
    data: Annotated[
        list[str] | None,
        typer.Argument(help="files of structures of the kind to be simulated, as ASE reads them"),
    ] = None,
    output: Annotated[Path, typer.Option(help="new checkpoint")] = Path("distilled.safetensors"),
    steps: Annotated[int, typer.Option(min=1, help="of the optimiser")] = 1500,
    clusters: Annotated[int, typer.Option(min=1, help="to fit to")] = 4000,
    limit: Annotated[int, typer.Option(min=1, help="at most so many frames of a file")] = 20,
    seed: Annotated[int, typer.Option(help="of clusters and initial weights")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the output")] = False,
) -> None:
    """Add an auxiliary network to a model, so that --symmetrize ecse works for any structure.

    It stands in for atoms whose neighbours are none, or in a line.
    """
    from ...potentials import checkpoint
    from ...potentials.training.distill import distill_auxiliary as run
    from ...potentials.training.reading import find_file, read_file
    from ..loading import load_potential
    from ..models import files_of

    files = [find_file(name, Path()) for name in data or []]
    check_output(output, reads=[*files, *files_of(model)], overwrite=overwrite)
    frames: list[Any] = []
    for file in files:
        read = [frame.atoms for frame in read_file(file)]
        frames += read[:: math.ceil(len(read) / limit)]
    result = run(
        load_potential(model),
        frames,
        steps=steps,
        clusters=clusters,
        seed=seed,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    checkpoint.save(result, output)
    print(output)
