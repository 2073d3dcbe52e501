"""`pointedge evaluate`: errors of a model against labelled frames."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Device, Dtype, Model, Symmetrize, print_table

if TYPE_CHECKING:
    from ase import Atoms

    from ..comparison import Frame, Keys
    from ..errors import Block, Errors, WorstFrame
    from ..evaluation import Evaluation

PLOTS = (".png", ".pdf", ".svg")
Key = Annotated[
    str | None, typer.Option(help="name of the label; default: REF_..., or what is found")
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
    device: Device = None,
    dtype: Dtype = None,
    symmetrize: Symmetrize = None,
) -> None:
    """Print the errors of a model per component, element and group, and its worst frames."""
    from ...potentials.training.reading import find_file
    from ..evaluation import evaluate as run
    from ..models import make_calculator

    for output in (json_file, plot):
        if output is not None and not output.parent.is_dir():
            raise ValueError(f"there is no folder {output.parent} to write {output.name} into.")
    if plot is not None and plot.suffix.lower() not in PLOTS:
        raise ValueError(f"cannot plot into {plot}; its suffix has to be {' or '.join(PLOTS)}.")
    files = [find_file(name, Path()) for name in data]
    calculator = make_calculator(model, device=device, dtype=dtype, symmetrize=symmetrize)
    requested = {
        "energy": energy_key,
        "forces": forces_key,
        "stress": stress_key,
        "dipole": dipole_key,
        "polarizability": polarizability_key,
    }
    used: list[str] = []
    with progress_bar_of_frames() as (expect, advance):
        found = run(
            calculator,
            read_frames(files, requested, limit, used, expect),
            model=model,
            group_by=group_by,
            rotations=rotations,
            progress=advance,
        )
    print("\n".join(used))
    print_evaluation(found)
    if json_file is not None:
        json_file.write_text(json.dumps(found.to_dict(), indent=2, allow_nan=False) + "\n")
    if plot is not None:
        found.plot(plot)


def read_frames(
    files: Iterable[Path],
    requested: dict[str, str | None],
    limit: int | None,
    used: list[str],
    expect: Callable[[int], None],
) -> Iterator[Frame]:
    """Read one file after the other; ``used`` gets a line per file that names its labels."""
    import ase.io
    import numpy as np

    from ..comparison import COMMON, Frame

    for file in files:
        try:
            structures: Any = ase.io.read(file, ":")
        except (ase.io.formats.UnknownFileTypeError, LookupError, ValueError, OSError) as error:
            raise ValueError(f"{file} cannot be read by ASE: {error}") from error
        if not structures:
            raise ValueError(f"{file} holds no frames that ASE can read.")
        keys = find_keys(structures, requested, str(file))
        labels = ", ".join(
            f"{name} {key or 'none'}" for name, key in vars(keys).items() if key or name in COMMON
        )
        count = min(limit or len(structures), len(structures))
        used.append(f"{file}: {count} of {len(structures)} frames, labels are {labels}")
        expect(count)
        for index in np.linspace(0, len(structures) - 1, count).round().astype(int).tolist():
            yield Frame(structures[index], str(file), index, keys)


def find_keys(structures: list[Atoms], requested: dict[str, str | None], file: str) -> Keys:
    """Choose the labels of a file: as requested, else REF_..., else what is there by another name.

    Dipoles and polarizabilities, whose units vary, have to be requested under other names.

    Raises:
        ValueError: a requested label is absent, several could be meant, or there is none at all.
    """
    from ..comparison import Keys, label_places

    names: dict[str, set[str]] = {quantity: set() for quantity in requested}
    everything: dict[str, None] = {}
    for atoms in structures:
        for place in label_places(atoms).values():
            everything.update(dict.fromkeys(place))
        for quantity, known in names.items():
            for place in label_places(atoms, quantity).values():
                known.update(k for k, value in place.items() if _fits(quantity, value, len(atoms)))
    chosen = {
        quantity: _choose(quantity, names[quantity], key, file, list(everything))
        for quantity, key in requested.items()
    }
    if not any(chosen.values()):
        *others, last = requested
        raise ValueError(
            f"{file} has no {', '.join(others)} or {last} by a usual name; it has "
            f"{', '.join(everything)}; name one with --energy-key, --dipole-key and the like."
        )
    return Keys(**chosen)


def _choose(
    quantity: str, known: set[str], key: str | None, file: str, everything: list[str]
) -> str:
    from ..comparison import COMMON

    if key is not None:
        if key in known:
            return key
        raise ValueError(
            f"{file} has no {quantity} called {key!r}; it has {', '.join(everything)}."
        )
    for usual in (f"REF_{quantity}", quantity):
        if usual in known:
            return usual
    if quantity not in COMMON:
        return ""
    stem = quantity.removesuffix("s")  # also "dft_force"; "mag_forces" act on moments
    similar = sorted(k for k in known if stem in k.lower() and "mag" not in k.lower())
    if len(similar) > 1:
        raise ValueError(
            f"{file} has several labels that may be the {quantity}: {', '.join(similar)}; "
            f"choose one with --{quantity}-key."
        )
    return similar[0] if similar else ""


def _fits(quantity: str, value: Any, atoms: int) -> bool:
    import numpy as np

    from ..comparison import label_shapes

    array = np.asarray(value)
    return array.dtype.kind in "fiu" and array.shape in label_shapes(quantity, atoms)


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
    if found.groups:
        _print_groups(found)
    if found.worst:
        _print_worst(found.worst)
    print(f"\n{number(found.microseconds_per_atom)} µs per atom in the calculator")
    for note in found.notes:
        print(f"note: {note}")


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
