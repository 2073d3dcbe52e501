"""`pointedge data`: what is in files of frames, and the reference sets of the registry."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(help="Frames to train on and to test with.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="of a reference set, see `pointedge data list`")]


@data.command("list")
def list_sets() -> None:
    """Print the reference sets, their files, and which of them are on this machine."""
    from ...potentials.datasets.registry import local_path, registry

    for name, entry in registry().items():
        print(f"{name}: {entry.title}")
        print(f"    {entry.method}; {entry.citation}; {entry.licence}; {entry.origin}")
        for file, one in entry.files.items():
            here = local_path(file)
            state = "here" if here else "by hand" if one.by_hand else "to be fetched"
            if here is None and one.untested:
                state += " (untested)"
            frames = "" if one.frames is None else f"{one.frames:,} frames, "
            print(f"    {file}: {frames}{state}{f'; {one.note}' if one.note else ''}")


@data.command("path")
def print_paths(name: Name) -> None:
    """Print where the files of a reference set are on this machine."""
    from ...potentials.datasets.registry import data_set, local_path

    paths = {file: local_path(file) for file in data_set(name).files}
    if missing := [file for file, path in paths.items() if path is None]:
        raise ValueError(
            f"{', '.join(missing)} is not on this machine; run `pointedge data fetch {name}`, or "
            "set POINTEDGE_DATA to the folder that holds it."
        )
    print("\n".join(str(path) for path in paths.values()))


@data.command("fetch")
def fetch_set(
    name: Name,
    output: Annotated[
        Path | None, typer.Option(help="folder for the files; default: the user's cache")
    ] = None,
) -> None:
    """Download a reference set, or check the files of it that are here."""
    import pooch

    from ...potentials.datasets.fetch import fetch

    folder = Path(pooch.os_cache("pointedge")) if output is None else output
    paths = fetch(name, folder, report=lambda line: print(line, file=sys.stderr, flush=True))
    print("\n".join(str(path) for path in paths))


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
    from ...potentials.training.dataset import FrameSource
    from ...potentials.training.kinds import KINDS
    from ...potentials.training.labels import keys_of
    from ...potentials.training.settings import Data, Frames
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
        one.summary.keys.check(one.summary.name, keys_of(settings))
    print("\n".join(table_lines([one.summary for one in sets])))
    for line in common_frames({one.summary.name: one.hashes for one in sets}):
        print(f"warning: {line}")
