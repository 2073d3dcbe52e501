"""`pointedge md`: molecular dynamics, with a trajectory, a log and a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ...potentials.files import check_not_read, replacing
from .options import Device, Dtype, ModelOption, Symmetrize, print_table
from .runs import md_progress, read_structure, set_calculator, stoppable

if TYPE_CHECKING:
    from ..results import MDResult
    from ..trajectories import RDF

PICTURE = "md.png"


def md(
    structure: Annotated[
        str | None,
        typer.Argument(
            help="file that ASE reads, its last frame; default: a packaged structure of elements "
            "that the model knows: 64 H2O, 32 MnO, or 128 Mo-Nb-Ta-W"
        ),
    ] = None,
    model: ModelOption = "pet-water",
    ensemble: Annotated[
        Literal["nve", "nvt", "npt"],
        typer.Option(help="constant energy; constant temperature; and pressure"),
    ] = "nvt",
    temperature: Annotated[float, typer.Option(help="K; in nve of drawn velocities only")] = 300.0,
    timestep: Annotated[float, typer.Option(help="fs")] = 0.5,
    steps: Annotated[int, typer.Option(help="number of time steps")] = 2000,
    output: Annotated[
        Path | None,
        typer.Option(help="folder for all files; default: water-md, or as the structure is called"),
    ] = None,
    pressure: Annotated[float, typer.Option(help="bar, for npt")] = 1.0,
    thermostat: Annotated[
        Literal["bussi", "langevin"],
        typer.Option(help="for nvt; langevin for isolated molecules, which bussi heats unevenly"),
    ] = "bussi",
    thermostat_time: Annotated[
        float, typer.Option(help="relaxation time of the thermostat, fs")
    ] = 100.0,
    interval: Annotated[int, typer.Option(help="steps between frames")] = 20,
    log_interval: Annotated[int, typer.Option(help="steps between lines of the log")] = 10,
    seed: Annotated[int, typer.Option(help="of velocities and thermostat")] = 0,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="begin anew, and replace the files of an earlier run"),
    ] = False,
    uncertain_forces: Annotated[
        float | None,
        typer.Option(help="limit of the standard deviation of a force, eV/Å; of an ensemble"),
    ] = None,
    uncertain_energy: Annotated[
        float | None, typer.Option(help="limit of the standard deviation of the energy, eV")
    ] = None,
    uncertain_action: Annotated[
        Literal["stop", "store"],
        typer.Option(help="above a limit: stop with exit code 1, or store frames and go on"),
    ] = "stop",
    uncertain_spacing: Annotated[
        int, typer.Option(help="at least so many steps between frames that are stored")
    ] = 100,
    device: Device = None,
    dtype: Dtype = None,
    symmetrize: Symmetrize = None,
) -> None:
    """Run molecular dynamics: a trajectory, a log, a picture, and a table of what came out.

    The same command again goes on where a run was cut off, at whatever moment that was; with more
    steps, it makes a run longer. A structure with velocities keeps them. Frames above a limit of
    uncertainty are in uncertain.extxyz, without labels, for `pointedge select` and a reference
    calculation.
    """
    from ..dynamics import MDSettings
    from ..figures import md_figure
    from ..md import run_md
    from ..models import default_structure, files_of, make_calculator
    from ..monitor import Limits, UncertainError
    from ..restart import FILES
    from ..results import read_run
    from ..structures import file_and_part

    limits = None
    if uncertain_forces is not None or uncertain_energy is not None:
        limits = Limits(uncertain_forces, uncertain_energy, uncertain_action, uncertain_spacing)
    elif (uncertain_action, uncertain_spacing) != ("stop", 100):
        raise ValueError(
            "--uncertain-action and --uncertain-spacing need a limit: --uncertain-forces or "
            "--uncertain-energy."
        )
    settings = MDSettings(
        ensemble=ensemble,
        temperature=temperature,
        timestep=timestep,
        steps=steps,
        pressure=pressure,
        thermostat=thermostat,
        thermostat_time=thermostat_time,
        seed=seed,
        interval=interval,
        log_interval=log_interval,
    )
    calculator = make_calculator(model, device=device, dtype=dtype, symmetrize=symmetrize)
    atoms = read_structure(structure, calculator)
    if output is None:
        name = structure or default_structure(calculator).name.partition("-")[0]
        output = Path(f"{file_and_part(name)[0].stem}-md")
    reads = [*files_of(model), *([] if structure is None else [file_and_part(structure)[0]])]
    for name in (*FILES, PICTURE):
        check_not_read(output / name, reads)
    set_calculator(atoms, calculator, symmetrize)
    with stoppable(output), md_progress(settings.steps, settings.timestep) as progress:
        try:
            result = run_md(
                atoms, settings, output, limits=limits, overwrite=overwrite, progress=progress
            )
            doubt = None
        except UncertainError as error:
            result, doubt = read_run(output), str(error)
    rdfs = _rdfs(result)
    print_table(("quantity", "value", "error", "unit"), _rows(result, rdfs))
    if len(result.thermo["step"]) > 1:  # not stopped at once
        with replacing(output / PICTURE) as file:
            md_figure(result, rdfs).savefig(file, dpi=150, format="png")
    files = ", ".join(p.name for p in sorted(output.iterdir()) if p.is_file())
    print(f"{output}: {files}")
    if doubt is not None:
        print(f"pointedge: {doubt}", file=sys.stderr)
        raise SystemExit(1)


def _rdfs(result: MDResult) -> list[RDF]:
    try:
        return result.rdfs()
    except ValueError:  # no density, or only one atom of each element: nothing to draw
        return []


def _rows(result: MDResult, rdfs: list[RDF]) -> list[tuple[str, str, str, str]]:
    """The final table: quantity, value, error, unit."""
    settings = result.settings
    steps = int(result.thermo["step"][-1])
    origin = "drawn" if result.drew_velocities else "from the structure"
    rows = [
        ("steps", f"{steps}", "", ""),
        ("time", f"{steps * settings.timestep / 1000:g}", "", "ps"),
        ("starting velocities", origin, "", ""),
        ("temperature, second half", *_numbers(*result.mean("temperature_K"), 1), "K"),
    ]
    if settings.ensemble == "npt":
        volume, error = (x / len(result.atoms) for x in result.mean("volume_A3"))
        rows.append(("volume, second half", *_numbers(volume, error, 3), "Å³/atom"))
        rows.append(("pressure, second half", *_numbers(*result.mean("pressure_bar"), 0), "bar"))
    drift, error = result.energy_drift()
    if drift == drift:
        kept = "total energy" if settings.ensemble == "nve" else "conserved quantity"
        rows.append((f"drift of {kept}", *_numbers(drift, error, 4), "meV/atom/ps"))
    for rdf in rdfs[:1]:
        name = f"first peak of {rdf.name}"
        try:
            position, height = rdf.first_peak()
        except ValueError:
            rows.append((name, "none", "", ""))
            continue
        rows.append((name, f"{position:.2f}", "", "Å"))
        rows.append(("its height", f"{height:.2f}", "", ""))
    if result.uncertain:
        rows.append(("uncertain frames", f"{result.uncertain}", "", ""))
    speed = result.milliseconds_per_step
    if speed == speed:
        rows.append(("wall time", f"{speed:.1f}", "", "ms/step"))
        rows.append(("speed", f"{0.0864 * settings.timestep / speed * 1000:.3g}", "", "ns/day"))
    return rows


def _numbers(value: float, error: float, digits: int) -> tuple[str, str]:
    return f"{value:.{digits}f}", f"± {error:.{digits}f}" if error == error else ""
