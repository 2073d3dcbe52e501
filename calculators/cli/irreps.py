"""`pointedge irreps`: which irreducible representations a model uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...potentials.files import replacing
from .evaluate import Key, named, number, progress_bar_of_frames, read_frames
from .options import Device, Dtype, Model, check_output, print_table, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..ase import PotentialCalculator
    from ..comparison import Array, Frame
    from ..irreps import IrrepUsage

OUTPUTS = ("irreps.json", "irreps.png", "embeddings.png", "pruned.yaml")


def irreps(
    model: Model,
    data: Annotated[list[str], typer.Argument(help="files of labelled frames, as ASE reads them")],
    output: Annotated[Path, typer.Option(help="folder for the table, JSON and pictures")],
    limit: Annotated[
        int | None, typer.Option(min=1, help="at most so many frames of a file, evenly spaced")
    ] = None,
    projection: Annotated[
        str, typer.Option(help="of embeddings: pca, or phate (package of its own, GPL-2)")
    ] = "pca",
    prune: Annotated[
        float | None,
        typer.Option(
            min=0, help="write settings without irreps that no error grows by this fraction without"
        ),
    ] = None,
    energy_key: Key = None,
    forces_key: Key = None,
    stress_key: Key = None,
    dipole_key: Key = None,
    polarizability_key: Key = None,
    magmoms_key: Key = None,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Print what a model's errors are without each irrep of each layer, and what features weigh."""
    from ...potentials.equivariant.usage import equivariant
    from ...potentials.training.reading import find_file
    from ..ase import PotentialCalculator
    from ..irreps import irrep_usage, number_of_evaluations
    from ..models import files_of
    from ..projections import require

    require(projection)  # before what takes long
    calculator = PotentialCalculator(model, device=device, dtype=dtype)
    equivariant(calculator.potential)
    output.mkdir(parents=True, exist_ok=True)
    files = [find_file(name, Path()) for name in data]
    for name in OUTPUTS:
        check_output(output / name, reads=[*files, *files_of(model)])
    keys = named(
        energy=energy_key,
        forces=forces_key,
        stress=stress_key,
        dipole=dipole_key,
        polarizability=polarizability_key,
        magmoms=magmoms_key,
    )
    used: list[str] = []
    frames = list(read_frames(files, keys, limit, used, lambda count: None))
    with progress_bar_of_frames("evaluations") as (expect, advance):
        expect(number_of_evaluations(calculator, frames))
        found = irrep_usage(calculator, frames, model=model, threshold=prune, progress=advance)
    print("\n".join(used))
    print_usage(found)
    write_json(output / "irreps.json", found.to_dict())
    _draw(found, frames, projection, output)
    if found.pruned is not None:
        _write_pruned(found, calculator, output)
    print(f"\nwritten to {output}")


def print_usage(found: IrrepUsage) -> None:
    """Print the table of a measurement to stdout."""
    from ..errors import UNITS

    names = list(found.errors)
    columns = ["stage, irrep", "channels", "norm", "share", "variance", "gradient"]
    units = [""] * len(columns)
    for edit in ("zeroed", "shuffled"):
        for name in names:
            columns.append(f"{name.removesuffix('_per_atom')}, {edit}")
            units.append(UNITS[name])
    rows = [units, ["as it is", *[""] * 5, *[number(found.errors[k]) for k in names] * 2]]
    for u in found.stages:
        s = u.statistics
        shares = [f"{100 * x:.1f} %" for x in (s.share, s.variance, s.gradient)]
        values = [number(edit[k]) for edit in (u.zeroed, u.shuffled) for k in names]
        rows.append([f"{s.stage}, {s.irrep}", str(s.channels), number(s.norm), *shares, *values])
    print(f"\n{found.model}: {found.frames} frames; RMSE without one irrep of one stage")
    print_table(columns, rows)


def _draw(found: IrrepUsage, frames: list[Frame], projection: str, output: Path) -> None:
    """Write the pictures; of embeddings only where there are frames enough."""
    from ..irrep_figures import embedding_figure, usage_figure

    _save(usage_figure(found), output / "irreps.png")
    if len(frames) < 3:
        print("note: embeddings are not drawn: they take 3 frames or more.")
        return
    colors, meaning = _colors(frames)
    _save(embedding_figure(found, colors, meaning, projection), output / "embeddings.png")


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _colors(frames: list[Frame]) -> tuple[Array, str]:
    """What to colour frames by: the spacial score of molecules, else energy, else size."""
    import numpy as np

    from ..projections import spacial_scores

    structures = [frame.atoms for frame in frames]
    scores = spacial_scores(structures)
    if scores is not None:
        return scores, "normalised spacial score"
    labels = [frame.labels() for frame in frames]
    if all("energy" in label for label in labels):
        energies = np.array([float(label["energy"]) for label in labels])
        energies /= [len(atoms) for atoms in structures]
        return 1000 * (energies - energies.mean()), "energy, mean removed (meV/atom)"
    return np.array([float(len(atoms)) for atoms in structures]), "atoms"


def _write_pruned(found: IrrepUsage, calculator: PotentialCalculator, output: Path) -> None:
    """Write the smaller settings as the beginning of a configuration for training."""
    import yaml

    from ...potentials.checkpoint import architecture, name_of
    from ...potentials.equivariant.usage import equivariant

    assert found.pruned is not None
    network = equivariant(calculator.potential)
    name = name_of(network)
    smaller = architecture(name).from_config(found.pruned)  # refuses what cannot be built
    before, after = (sum(p.numel() for p in n.parameters()) for n in (network, smaller))
    settings = {k: v for k, v in smaller.to_config().items() if k != "species"}
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    tree = {"architecture": name, "model": settings}
    text = f"# {found.model} without what no error grew by {found.threshold:g} without.\n"
    with replacing(output / "pruned.yaml") as file:
        file.write((text + yaml.safe_dump(tree, sort_keys=False)).encode())
    print(
        f"\npruned: irreps {network.config.irreps} -> {smaller.config.irreps}, lmax "
        f"{network.config.lmax} -> {smaller.config.lmax}, parameters {before} -> {after}"
    )
