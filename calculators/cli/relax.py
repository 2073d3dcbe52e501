"""`pointedge relax`: the nearest minimum of a structure, and of its cell."""

from __future__ import annotations

import io
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ...potentials.files import UnwrittenError, replacing
from .options import Device, Dtype, ModelOption, Symmetrize, check_outputs, print_table
from .runs import progress_bar, read_structure, set_model, terminable

if TYPE_CHECKING:
    from ase import Atoms

    from ..relaxation import RelaxationResult, RelaxationSettings

TRAJECTORIES = (".xyz", ".extxyz")
CLIMB = 1e-3  # eV, more than the rounding of float32


def relax(
    structure: Annotated[str, typer.Argument(help="file that ASE reads, its last frame")],
    model: ModelOption = "pet-water",
    fmax: Annotated[
        float, typer.Option(help="eV/Å; converged is what has smaller forces on all atoms")
    ] = 0.01,
    output: Annotated[
        Path, typer.Option(help="new file, in the format that its suffix says")
    ] = Path("relaxed.xyz"),
    cell: Annotated[bool, typer.Option("--cell", help="relax the cell too")] = False,
    pressure: Annotated[float, typer.Option(help="bar, with --cell")] = 0.0,
    smax: Annotated[
        float,
        typer.Option(help="bar, with --cell; largest deviation of the stress from the pressure"),
    ] = 100.0,
    steps: Annotated[int, typer.Option(help="largest number of steps")] = 500,
    optimizer: Annotated[
        Literal["bfgs", "lbfgs", "fire"] | None,
        typer.Option(help="default: bfgs up to 300 atoms, else lbfgs; fire is slow, but robust"),
    ] = None,
    trajectory: Annotated[
        Path | None, typer.Option(help="write every step to this .xyz or .extxyz file")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace existing files")] = False,
    device: Device = None,
    dtype: Dtype = None,
    symmetrize: Symmetrize = None,
) -> None:
    """Relax a structure to its nearest minimum of the energy; its constraints are respected.

    A run that does not converge, or is stopped, leaves its last structure and exit code 1, and can
    go on from there:

    pointedge relax relaxed.xyz --output relaxed-2.xyz
    """
    from ..models import files_of
    from ..relaxation import RelaxationSettings, check_structure, kept
    from ..structures import file_and_part

    settings = RelaxationSettings(
        fmax=fmax, steps=steps, optimizer=optimizer, cell=cell, pressure=pressure, smax=smax
    )
    reads = [file_and_part(structure)[0], *files_of(model)]
    file_format = _check_files(output, trajectory, reads, overwrite)
    atoms = read_structure(structure)
    _write(output, file_format, kept(atoms), trial=True)  # better now than at the end
    set_model(atoms, model, device, dtype, symmetrize)
    check_structure(atoms, settings)
    result, stopped = _run(atoms, settings, output, file_format, trajectory)
    _report(result, output, trajectory)
    if not result.converged:
        why = "stopped by a signal" if stopped else "not converged"
        print(f"pointedge: {why} after {result.steps} steps; go on from {output}.", file=sys.stderr)
        raise typer.Exit(1)


def _check_files(
    output: Path, trajectory: Path | None, reads: Sequence[Path], overwrite: bool
) -> str:
    """Refuse files that cannot be written, and return the format that ``output`` asks for."""
    check_outputs(output, trajectory, reads=reads, overwrite=overwrite)
    if trajectory is not None and trajectory.suffix not in TRAJECTORIES:
        suffixes = " or ".join(TRAJECTORIES)
        raise ValueError(f"cannot write steps into {trajectory}; its suffix has to be {suffixes}.")
    return _format(output)


def _format(output: Path) -> str:
    """Name of ASE's format for a file; one that cannot be read again is no home for a structure."""
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    try:
        name = filetype(str(output), read=False)
        known = ioformats.get(name)
        folder = name == "bundletrajectory"
        if known is not None and known.can_read and known.can_write and not folder:
            return name
    except (UnknownFileTypeError, ImportError):  # no suffix; a format whose package is missing
        pass
    raise ValueError(
        f"cannot write a structure into {output}; its suffix has to be .xyz, .cif, .traj, .json "
        "or another that ASE reads and writes, or its name POSCAR."
    )


def _write(output: Path, file_format: str, atoms: Atoms, *, trial: bool = False) -> None:
    """Write a whole file or none, since another may be there; a trial leaves nothing.

    Many writers of ASE want a name, whose suffix decides on compression, and no open file.
    """
    import ase.io

    try:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=output.parent) as folder:
            written = Path(folder) / output.name
            ase.io.write(written, atoms, format=file_format)
            if not trial:
                with replacing(output) as file:
                    file.write(written.read_bytes())
    except UnwrittenError:
        raise
    except OSError as error:
        raise UnwrittenError.of(output, error) from None
    except Exception as error:  # ASE's writers of many formats raise whatever they meet
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"the structure cannot be written to {output} in ASE's format {file_format} "
            f"({reason}); choose another, such as .xyz."
        ) from error


def _write_or_rescue(output: Path, file_format: str, atoms: Atoms) -> None:
    """Write the outcome; where there is no room for it any more, among temporary files."""
    try:
        _write(output, file_format, atoms)
    except UnwrittenError as error:
        rescued = Path(tempfile.mkdtemp(prefix="pointedge-")) / output.name
        _write(rescued, file_format, atoms)
        raise UnwrittenError(f"{error}; the last structure is in {rescued}.") from None


def _run(
    atoms: Atoms,
    settings: RelaxationSettings,
    output: Path,
    file_format: str,
    trajectory: Path | None,
) -> tuple[RelaxationResult, bool]:
    """Relax, and write the last state reached, however the run ends.

    Returns that state, and whether a signal ended the run.
    """
    from ..relaxation import irelax

    result, stopped = None, False
    with terminable():
        try:
            with progress_bar(settings.steps) as show:
                for result in irelax(atoms, settings):
                    if trajectory is not None:
                        _append(trajectory, result)
                    if show is not None:
                        show(result.steps, _progress_text(result))
        except KeyboardInterrupt:
            stopped = True
        except Exception:
            if result is not None:
                text = f"the structure of step {result.steps} is in {output}"
                print(f"pointedge: {text}.", file=sys.stderr)
            raise
        finally:
            if result is not None:
                with _undisturbed():
                    _write_or_rescue(output, file_format, result.atoms)
    if result is None:  # stopped before there was anything to lose
        raise KeyboardInterrupt
    return result, stopped


def _append(trajectory: Path, result: RelaxationResult) -> None:
    """Write a state into the file of all steps, which the first of them begins anew."""
    import ase.io

    frame = result.atoms.copy()
    frame.info["step"] = result.steps
    frame.calc = result.atoms.calc
    text = io.StringIO()
    ase.io.write(text, frame, format="extxyz")
    try:
        with trajectory.open("a" if result.steps else "w", encoding="utf-8") as file:
            file.write(text.getvalue())
    except OSError as error:
        raise UnwrittenError(f"{trajectory} could not be written ({error.strerror}).") from None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no second Ctrl-C come between a run and its file."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def _progress_text(result: RelaxationResult) -> str:
    from ..relaxation import largest_force

    return f"{result.energy_change:.3f} eV  {largest_force(result.atoms):.3f} eV/Å"


def _report(result: RelaxationResult, output: Path, trajectory: Path | None) -> None:
    """Print the final table and the files, and on stderr a doubt."""
    print_table(("quantity", "value", "unit"), _rows(result))
    print(f"{output}: the last structure" + (f"; {trajectory}: every step" if trajectory else ""))
    if result.converged and result.enthalpy_change > CLIMB:
        print(
            f"pointedge: the energy rose by {result.enthalpy_change:.3f} eV, so that this may be a "
            "saddle point and no minimum; try --optimizer fire.",
            file=sys.stderr,
        )


def _rows(result: RelaxationResult) -> list[tuple[str, str, str]]:
    """The final table: quantity, value, unit."""
    from ..relaxation import largest_force, largest_stress, optimizer_name

    start, atoms, settings = result.start, result.atoms, result.settings
    rows = [
        ("converged", "yes" if result.converged else "no", ""),
        ("steps", f"{result.steps}", ""),
        ("optimizer", optimizer_name(atoms, settings), ""),
        ("energy before", f"{start.get_potential_energy():.6f}", "eV"),
        ("energy after", f"{atoms.get_potential_energy():.6f}", "eV"),
        ("energy change", f"{result.energy_change:.6f}", "eV"),
        ("largest force before", f"{largest_force(start):.3g}", "eV/Å"),
        ("largest force after", f"{largest_force(atoms):.3g}", "eV/Å"),
        ("largest displacement", f"{result.largest_displacement:.3g}", "Å"),
    ]
    if not settings.cell:
        return rows
    if settings.pressure:
        rows.append(("enthalpy change", f"{result.enthalpy_change:.6f}", "eV"))
    growth = atoms.get_volume() / start.get_volume() - 1
    rows.append(("volume change", f"{100 * growth:.2f}", "%"))
    name = "largest stress" + (" beyond the pressure" if settings.pressure else "")
    for when, frame in (("before", start), ("after", atoms)):
        rows.append((f"{name}, {when}", f"{largest_stress(frame, settings.pressure):.1f}", "bar"))
    return rows
