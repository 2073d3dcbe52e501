"""`pointedge select`: the frames that are most worth a reference calculation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .evaluate import number, progress_bar_of_frames
from .options import Device, Dtype, ModelOption, check_output, print_table

if TYPE_CHECKING:
    from ..comparison import Frame

SUFFIXES = (".xyz", ".extxyz")


def select(
    frames: Annotated[list[str], typer.Argument(help="files of frames, as ASE reads them")],
    model: ModelOption,
    count: Annotated[int, typer.Option(min=1, help="how many frames")],
    output: Annotated[Path, typer.Option(help="extended XYZ for the chosen frames")] = Path(
        "chosen.xyz"
    ),
    training: Annotated[
        list[str] | None,
        typer.Option(help="files of training frames, which are not chosen again"),
    ] = None,
    by: Annotated[
        Literal["forces", "energy", "features"] | None,
        typer.Option(help="whose uncertainty; default: the first of these that the model has"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the output")] = False,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Choose the frames whose reference calculation would teach a model most.

    One after the other the frame of which most is unknown, given those chosen before, so that no
    two of them teach the same (greedy D-optimal design on features of the last layer). They are
    written without labels; copies of training frames and of others are left out.
    """
    from ...potentials.files import replacing
    from ...potentials.training.reading import find_file
    from ..exact import exact_extxyz
    from ..models import files_of, make_calculator
    from ..selection import UNITS, describe, feature_members, without_results
    from ..selection import select as choose

    if output.suffix not in SUFFIXES:
        raise ValueError(f"{output} has to end in {' or '.join(SUFFIXES)}.")
    candidates, known = (
        [find_file(name, Path()) for name in names] for names in (frames, training or [])
    )
    check_output(output, reads=[*candidates, *known, *files_of(model)], overwrite=overwrite)
    calculator = make_calculator(model, device=device, dtype=dtype)
    with progress_bar_of_frames() as (expect, advance):
        found = describe(calculator, _read(candidates, expect), _read(known), advance)
    measure: str = by or next(iter(found.stds.keys()), "features")
    chosen = choose(found, count, by=by, whitening=_whitening(calculator))
    with replacing(output) as file:
        for one in chosen:
            file.write(exact_extxyz(without_results(one, found)).encode())
    unit = f" / {UNITS[measure]}" if UNITS[measure] else ""
    columns = ("frame", f"uncertainty of {measure}{unit}", "given those above", "distance")
    rows = [
        (
            f"{one.frame.file} {one.frame.index}",
            *(number(x) if x == x else "-" for x in (one.uncertainty, one.left, one.distance)),
        )
        for one in chosen
    ]
    print_table(columns, rows)
    print(
        f"{found.read} frames read, {found.known} of the training and {found.copies} copies left "
        f"out; {len(chosen)} of {len(found.frames)} in {output}"
    )
    if not feature_members(calculator):
        print("note: the model shows no features, so that frames were chosen by uncertainty alone.")


def _read(files: list[Path], expect: Callable[[int], None] | None = None) -> Iterator[Frame]:
    """Frames one after the other, with the names of their files."""
    from ...potentials.training.reading import read_file
    from ..comparison import Frame

    for file in files:
        for read in read_file(file):
            if expect is not None:
                expect(1)
            yield Frame(read.atoms, str(file), read.index)


def _whitening(calculator: Any) -> Any:
    """What a single model remembers of its training frames, if anything."""
    rigidity = getattr(getattr(calculator, "potential", None), "rigidity", None)
    return None if rigidity is None else rigidity.whitening.cpu().numpy()
