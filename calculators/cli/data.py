"""`pointedge data`: what is in files of frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(help="Frames to train on and to test with.", no_args_is_help=True)


@data.command("table")
def show_table(
    files: Annotated[list[str], typer.Argument(help="files of frames, as ASE reads them")],
    cutoff: Annotated[
        float, typer.Option(min=0.1, help="within which neighbors and distances are counted, Å")
    ] = 4.0,
    key: Annotated[
        list[str] | None,
        typer.Option(help="label=name, such as energy=dft_E; default: usual names"),
    ] = None,
) -> None:
    """Print what frames there are, their labels and ranges, and what is suspicious about them."""
    from ...potentials.training.config import Data, Frames
    from ...potentials.training.dataset import FrameSource
    from ...potentials.training.labels import KINDS
    from ...potentials.training.table import common_frames, table_lines

    keys = {}
    for text in key or []:
        label, equals, name = text.partition("=")
        if not equals or label not in KINDS:
            raise ValueError(f"--key is label=name, of {', '.join(KINDS)}; not {text!r}.")
        keys[f"{label}_key"] = name
    selections = {name: [Frames(files=[name])] for name in dict.fromkeys(files)}
    several = [one for parts in selections.values() for one in parts]
    settings = Data.model_validate({"train": several, "validation": several, **keys})
    sets = [
        FrameSource(name, parts, settings, Path()).dataset(cutoff, ())
        for name, parts in selections.items()
    ]
    for one in sets:
        one.summary.keys.check(one.summary.name, settings)
    print("\n".join(table_lines([one.summary for one in sets])))
    for line in common_frames({one.summary.name: one.hashes for one in sets}):
        print(f"warning: {line}")
