"""Options that every verb running a model takes, and how numbers are printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

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


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns to stdout, the first to the left; nothing is folded or cut."""
    lines = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(columns))]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
