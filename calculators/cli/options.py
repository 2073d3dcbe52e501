"""Options that every verb running a model takes, and how numbers are printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

Model = Annotated[
    str,
    typer.Argument(help="a packaged name, a file, or module:callable returning an ASE calculator"),
]
ModelOption = Annotated[
    str,
    typer.Option("--model", help="a packaged name, a file, or module:callable returning an ASE calculator"),
]
Device = Annotated[str | None, typer.Option(help="torch device; default: cpu")]
Dtype = Annotated[str | None, typer.Option(help="float32 or float64; default: the model's own")]
Symmetrize = Annotated[str | None, typer.Option(help="exact symmetrisation of the model: ecse")]


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns to stdout, plain where stdout is no terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for k, column in enumerate(columns):
        table.add_column(column, justify="left" if k == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # never fold numbers when piped into a file
    console.print(table)
