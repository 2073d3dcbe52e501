"""`pointedge evaluate`: errors of a model against labelled frames."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Device, Dtype, Model, Symmetrize, check_outputs, print_table, write_json

if TYPE_CHECKING:
    from ...potentials.calibration import Calibration
    from ...potentials.training.labels import Keys
    from ..comparison import Frame
    from ..errors import Block, Errors, WorstFrame
    from ..evaluation import Evaluation

PLOTS = (".png", ".pdf", ".svg")
Key = Annotated[
    str | None, typer.Option(help="its name in the files; default: REF_... and other usual ones")
]


def evaluate(
    model: Model,
    data: Annotated[list[str], typer.Argument(help="files of labelled frames, as ASE reads them")],
    json_file: Annotated[Path | None, typer.Option("--json", help="write all numbers here")] = None,
    plot: Annotated[Path | None, typer.Option(help="write a parity plot here (.png, .pdf)")] = None,
    group_by: Annotated[
        str | None, typer.Option(help="also errors per value of this info key")
    ] = None,
    rotations: Annotated[
        int, typer.Option(help="orientations per frame for the rotational discrepancy; 0: none")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="at most so many frames of a file, evenly spaced")
    ] = None,
    energy_key: Key = None,
    forces_key: Key = None,
    stress_key: Key = None,
    dipole_key: Key = None,
    polarizability_key: Key = None,
    magmoms_key: Key = None,
    device: Device = None,
    dtype: Dtype = None,
    symmetrize: Symmetrize = None,
) -> None:
    """Print the errors of a model per component, element and group, and its worst frames."""
    from ...potentials.training.reading import find_file
    from ..evaluation import evaluate as run
    from ..models import files_of, make_calculator

    files = [find_file(name, Path()) for name in data]
    check_outputs(json_file, plot, reads=[*files, *files_of(model)])
    if plot is not None and plot.suffix.lower() not in PLOTS:
        raise ValueError(f"cannot plot into {plot}; its suffix has to be {' or '.join(PLOTS)}.")
    calculator = make_calculator(model, device=device, dtype=dtype, symmetrize=symmetrize)
    keys = named(
        energy=energy_key,
        forces=forces_key,
        stress=stress_key,
        dipole=dipole_key,
        polarizability=polarizability_key,
        magmoms=magmoms_key,
    )
    used: list[str] = []
    with progress_bar_of_frames() as (expect, advance):
        found = run(
            calculator,
            read_frames(files, keys, limit, used, expect),
            model=model,
            group_by=group_by,
            rotations=rotations,
            progress=advance,
        )
    print("\n".join(used))
    print_evaluation(found)
    if json_file is not None:
        write_json(json_file, found.to_dict())
    if plot is not None:
        found.plot(plot)


def named(**keys: str | None) -> Keys:
    """The keys that options name."""
    return {label: key for label, key in keys.items() if key is not None}


def read_frames(
    files: Iterable[Path],
    keys: Keys,
    limit: int | None,
    used: list[str],
    expect: Callable[[int], None],
) -> Iterator[Frame]:
    """Read one file after the other; ``used`` gets a line per file that names its labels.

    Raises:
        ValueError: a file cannot be read, has no label, or lacks one that ``keys`` name.
    """
    import numpy as np

    from ...potentials.training.kinds import KINDS
    from ...potentials.training.labels import KeyCount, read_labels, with_named_moments
    from ...potentials.training.reading import read_file
    from ..comparison import Frame

    for file in files:
        found = KeyCount()
        frames = []
        for read in read_file(file):
            atoms = with_named_moments(read.atoms, keys, str(read))
            found.add(atoms, read_labels(atoms, keys, str(read))[1])
            frames.append(Frame(atoms, str(file), read.index, keys))
        found.check(str(file), keys)
        if not found.taken.keys() & KINDS.keys():
            others = ", ".join(sorted(found.others)) or "nothing but structures"
            raise ValueError(
                f"{file} has no label by a usual name, but {others}; name one with --energy-key, "
                "--dipole-key and the like."
            )
        count = min(limit or len(frames), len(frames))
        used.append(f"{file}: {count} of {len(frames)} frames; {found}")
        expect(count)
        for index in np.linspace(0, len(frames) - 1, count).round().astype(int).tolist():
            yield frames[index]


def print_evaluation(found: Evaluation) -> None:
    """Print the tables of an evaluation to stdout."""
    from ..errors import UNITS

    block = found.overall
    print(f"{found.model}: {block.frames} frames, {block.atoms} atoms")
    columns = ("error", "unit", "MAE", "RMSE", "95 %", "max", "relative RMSE")
    rows = [_row(name, unit, error) for name, (unit, error) in _lines(block).items()]
    _section("Errors (prediction - label; all but energies per component)", columns, rows)
    if (turned := found.rotational_discrepancy) is not None:
        spread = [f"{number(x)} {UNITS[name]}" for name, x in vars(turned).items() if x is not None]
        print(f"\nrotational discrepancy: {', '.join(spread)} (all but energies per component)")
    if found.calibrations:
        _print_calibrations(found.calibrations)
    if found.groups:
        _print_groups(found)
    if found.worst:
        _print_worst(found.worst)
    print(f"\n{number(found.microseconds_per_atom)} µs per atom in the calculator")
    for note in found.notes:
        print(f"note: {note}")


def _print_calibrations(calibrations: dict[str, Calibration]) -> None:
    from ..errors import UNITS

    rows = [
        (
            *(name.removesuffix("_per_atom"), UNITS[name], str(c.count)),
            *(number(c.error), number(c.std)),
            *(f"{100 * part:.0f} %" for part in (c.within_one, c.within_two)),
            f"{c.correlation:.2f}",
            "-" if c.factor is None else f"{c.factor:.2f}",
        )
        for name, c in calibrations.items()
    ]
    columns = (
        *("", "unit", "errors", "RMSE", "rms std"),
        *("within 1", "within 2", "rank corr.", "factor"),
    )
    _section(
        "Standard deviations (of normal errors 68 % are within one, 95 % within two)", columns, rows
    )


def _print_groups(found: Evaluation) -> None:
    units = {name: unit for name, (unit, _) in _lines(found.overall, elements=False).items()}
    rows: list[tuple[str, ...]] = [("", "", "", *units.values())]
    for group, block in found.groups.items():
        lines = _lines(block, elements=False)
        numbers = [number(lines[name][1].rmse if name in lines else None) for name in units]
        rows.append((group, str(block.frames), str(block.atoms), *numbers))
    columns = ("group", "frames", "atoms", *(name.strip() for name in units))
    _section("RMSE of groups (all but energies per component)", columns, rows)


def _print_worst(worst: list[WorstFrame]) -> None:
    columns = ("frame", "force RMSE", "largest", "of atom", "energy error")
    rows: list[tuple[str, ...]] = [("", "meV/Å", "meV/Å", "", "meV/atom")]
    for w in worst:
        atom = "-" if w.max_force_error_atom is None else str(w.max_force_error_atom)
        rows.append(
            (
                f"{w.file} {w.index}",
                number(w.force_rmse),
                number(w.max_force_error),
                f"{w.max_force_error_element or ''} {atom}".strip(),
                number(w.energy_error),
            )
        )
    _section("Worst frames (force errors per component)", columns, rows)


def _lines(block: Block, *, elements: bool = True) -> dict[str, tuple[str, Errors]]:
    """Units and errors of what a block has, by the name of its line."""
    from ..errors import UNITS

    lines: dict[str, tuple[str, Errors]] = {}
    for quantity, unit in UNITS.items():
        if (found := getattr(block, quantity)) is None:
            continue
        lines[quantity.removesuffix("_per_atom")] = unit, found
        if (corrected := getattr(found, "offset_corrected", None)) is not None:
            lines["  offset-corrected"] = unit, corrected
        for name, error in getattr(found, "per_element", {}).items() if elements else ():
            lines[f"  {name}"] = unit, error
    return lines


def _row(name: str, unit: str, found: Errors) -> tuple[str, ...]:
    values = [number(getattr(found, k, None)) for k in ("mae", "rmse", "p95", "max")]
    relative = getattr(found, "relative_rmse", None)
    return name, unit, *values, "-" if relative is None else f"{relative:.1f} %"


def _section(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:

    print(f"\n{title}")
    print_table(columns, rows)


def number(value: float | None) -> str:
    """Three significant digits, and all digits before the point."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".removesuffix(".")


@contextmanager
def progress_bar_of_frames(
    what: str = "frames",
) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """A bar on stderr if that is a terminal; yields functions that add to its total and advance."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    total = 0
    columns = (
        "[progress.description]{task.description}",
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task(what, total=0)

        def expect(count: int) -> None:
            nonlocal total
            total += count
            progress.update(task, total=total)

        yield expect, lambda count: progress.advance(task, count)
