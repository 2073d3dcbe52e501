"""The `pointedge` command, one file per verb."""

from __future__ import annotations

import sys
import warnings
from importlib import metadata
from typing import Annotated, Any

import typer

from .audit import audit
from .convert import convert
from .data import data
from .distill import distill_auxiliary
from .drive import drive
from .evaluate import evaluate
from .export import export
from .info import info
from .irreps import irreps
from .lammps import lammps
from .md import md
from .models import models
from .predict import predict
from .relax import relax
from .runs import interruptible
from .select import select
from .train import train
from .uncertainty import fit_uncertainty

app = typer.Typer(
    name="pointedge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pointedge {metadata.version('pointedge')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print it, and end"),
    ] = False,
) -> None:
    """Transformer interatomic potentials: run, train and check them."""


VERBS = (
    md,
    relax,
    drive,
    lammps,
    evaluate,
    audit,
    predict,
    select,
    irreps,
    train,
    distill_auxiliary,
    fit_uncertainty,
    convert,
    export,
    models,
    info,
)
for verb in VERBS:
    app.command()(interruptible(verb))
for command in data.registered_commands:
    if command.callback is not None:
        command.callback = interruptible(command.callback)
app.add_typer(data, name="data")


def main() -> None:
    """Run the command; an error that the user can mend is one line on stderr and exit code 2."""
    with warnings.catch_warnings():
        warnings.showwarning = _show
        try:
            app()
        except Exception as error:
            if not isinstance(error, _expected()):
                raise
            print(f"pointedge: {_said(error)}", file=sys.stderr)
            raise SystemExit(2) from None


def _expected() -> tuple[type[Exception], ...]:
    """Errors that have a sentence for users: our own, and what calculators raise on purpose."""
    from ase.calculators.calculator import CalculatorError

    return ValueError, OSError, NotImplementedError, CalculatorError


def _said(error: Exception) -> str:
    """An error in words; those of the operating system come as numbers."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file could not be written or read'}: {error.strerror}."
    return str(error)


def _show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Show a warning as one line on stderr, without the line of code that gave it."""
    print(f"pointedge: warning: {message}", file=sys.stderr)
