"""`pointedge audit`: whether a model can be trusted in a simulation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Device, Dtype, Model, Symmetrize, check_outputs, print_table, write_json

if TYPE_CHECKING:
    from ..audit import Report

PICTURES = (".png", ".pdf", ".svg", ".html")


def audit(
    model: Model,
    structures: Annotated[
        list[str] | None, typer.Argument(help="files; the first of each periodicity is taken")
    ] = None,
    elements: Annotated[
        str | None, typer.Option(help="such as Cu,Au; of calculators that do not name theirs")
    ] = None,
    only: Annotated[str | None, typer.Option(help="checks or groups, with commas")] = None,
    skip: Annotated[str | None, typer.Option(help="checks or groups, with commas")] = None,
    budget: Annotated[
        float | None, typer.Option(min=1, help="no check begins after so many seconds")
    ] = None,
    symmetry: Annotated[
        str | None, typer.Option(help="what the model claims: exact, approximate; ours say it")
    ] = None,
    force_error: Annotated[
        float | None, typer.Option(help="validation error of forces, meV/Å; ours say it")
    ] = None,
    cutoff: Annotated[float | None, typer.Option(help="of neighbourhoods, Å; ours say it")] = None,
    report: Annotated[
        Path | None, typer.Option(help="a page of tables and curves (.html, .png, .pdf)")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write all numbers here")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="say what each check means")] = False,
    device: Device = None,
    dtype: Dtype = None,
    symmetrize: Symmetrize = None,
) -> None:
    """Check symmetry, derivatives, smoothness, conservation and conduct of any ASE calculator.

    Limits follow from the calculator's own rounding. Exit code 1 if a check fails.
    """
    from ..audit import audit as run
    from ..audit.runner import select
    from ..foreign import UnknownOptionError
    from ..models import files_of, make_calculator
    from ..structures import file_and_part
    from .evaluate import progress_bar_of_frames
    from .runs import read_structure

    if explain:
        for check in select(_names(only), _names(skip)):
            print(
                f"{check.group}: {check.name}\n  {check.statement}\n  If not: {check.consequence}"
            )
        return
    read = [file_and_part(name)[0] for name in structures or ()]
    check_outputs(json_file, report, reads=[*read, *files_of(model)])
    for option, value in (("--force-error", force_error), ("--cutoff", cutoff)):
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{option} is {value:g}; it must be positive.")
    if report is not None and report.suffix.lower() not in PICTURES:
        raise ValueError(
            f"cannot draw into {report}; its suffix has to be {' or '.join(PICTURES)}."
        )
    if symmetry not in (None, "exact", "approximate"):
        raise ValueError(f"--symmetry is 'exact' or 'approximate', not {symmetry!r}.")

    def build(precision: str | None) -> Any:
        try:
            return make_calculator(
                model, device=device, dtype=precision or dtype, symmetrize=symmetrize
            )
        except UnknownOptionError:  # of one precision alone
            if precision is None:
                raise
            return build(None)

    checks = select(_names(only), _names(skip))
    given = [read_structure(name) for name in structures or ()]
    with progress_bar_of_frames("checks") as (expect, advance):
        expect(len(checks))
        found = run(
            build(None),
            given,
            elements=_names(elements),
            model=model,
            exact=None if symmetry is None else symmetry == "exact",
            force_error=None if force_error is None else force_error / 1000,
            cutoff=cutoff,
            build=build,
            checks=checks,
            budget=budget,
            progress=advance,
        )
    print_report(found)
    if json_file is not None:
        write_json(json_file, found.to_dict())
    if report is not None:
        from ..audit.page import write_report

        write_report(found, report)
    if found.failed:
        raise typer.Exit(1)


def print_report(found: Report) -> None:
    """Print the table of an audit, and what is said of what did not pass."""
    from ..audit.findings import COLUMNS

    made = ", ".join(f"{name} {formula}" for name, formula in found.structures.items())
    print(f"{found.model}: {made}")
    for name, reason in found.refused.items():
        print(f"not taken: {name} ({reason})")
    print()
    print_table(COLUMNS, [finding.cells() for finding in found.findings])
    for finding in found.findings:
        if finding.status != "pass":
            print(f"\n{finding.check.name}, {finding.status}")
            if finding.status != "skip":
                print(f"  {finding.check.statement}")
                print(f"  Where that fails: {finding.check.consequence}")
            for note in finding.notes:
                print(f"  {note}")
    told = [m for finding in found.findings for m in finding.measured if m.limit is None]
    if told:
        print("\nFigures")
        print_table(("", "", "unit"), [(m.what, f"{m.value:.2g}", m.unit) for m in told])
    counts = {
        s: sum(f.status == s for f in found.findings) for s in ("pass", "warn", "fail", "skip")
    }
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    print(f"\n{summary}; {found.seconds:.0f} s")
    if found.primary is not None:
        print(f"first failure: {found.primary.check.name}")


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []
