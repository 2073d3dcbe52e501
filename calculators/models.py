"""What a MODEL argument stands for: a calculator, ours or of another package, and its card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..potentials.packaged import SUFFIX, packaged_folder, split_target
from ..potentials.packaged import packaged_models as packaged_models
from .ensemble_files import find_ensemble
from .foreign import foreign_calculator, is_foreign
from .loading import find_model, read_model

if TYPE_CHECKING:
    from ..potentials.potential import Potential

STRUCTURES = ("water-64", "mno-64", "hea-128")  # packaged; the first of known elements is chosen


def default_structure(calculator: Any = None) -> Path:
    """Return the packaged structure that suits a calculator: all its elements are known to it.

    Calculators of other packages, which do not say what they know, get the first one: water.

    Raises:
        ValueError: the calculator knows the elements of none.
    """
    import ase.io
    from ase.data import chemical_symbols

    folder = packaged_folder("structures")
    paths = [folder / f"{name}.xyz" for name in STRUCTURES]
    potentials = potentials_of(calculator)
    if not potentials:
        return paths[0]
    species = set.intersection(*(set(potential.species) for potential in potentials))
    found: list[str] = []
    for path in paths:
        structure = next(ase.io.iread(path, index=0))
        if set(structure.numbers) <= species:
            return path
        found.append(structure.symbols.formula.reduce()[0].format("hill"))
    known = ", ".join(chemical_symbols[z] for z in sorted(species))
    raise ValueError(
        f"the model knows {known}, and no packaged structure consists of these "
        f"({', '.join(found)}); give a STRUCTURE."
    )


def files_of(model: str | Path) -> list[Path]:
    """The files that a MODEL argument stands for, of an ensemble and its members; maybe none."""
    ensemble = find_ensemble(str(model))
    members = [] if ensemble is None else [Path(file) for file in ensemble.members]
    packaged = packaged_models()
    found: list[Path] = []
    for one in (model, *members):
        path = packaged.get(str(one)) or Path(split_target(one)[0]).expanduser()
        # A folder of PET's research code. (A list of models is too long a name for Path.is_dir.)
        found += path.iterdir() if os.path.isdir(path) else [path]
    return [path for path in found if os.path.isfile(path)]


def potentials_of(calculator: Any) -> list[Potential]:
    """Our potentials that a calculator runs: one, those of an ensemble, or none."""
    from ..potentials.potential import Potential

    members = getattr(calculator, "members", [calculator])
    found = (getattr(member, "potential", None) for member in members)
    return [potential for potential in found if isinstance(potential, Potential)]


def make_calculator(
    model: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    symmetrize: str | None = None,
) -> Any:
    """Return the ASE calculator of a MODEL argument of the command line.

    Args:
        model: a packaged name, a file, or ``module:callable`` returning an ASE calculator (the
            module may lie in the current directory), or an ensemble, see :mod:`.ensemble_files`.
        device: torch device; default: the CPU, or the callable's own.
        dtype: "float32" or "float64"; default: the model's own.
        symmetrize: exact symmetrisation, for potentials of this package.

    Raises:
        ValueError: there is no such model, module or callable, or it does not take an option.
    """
    from .ase import PotentialCalculator
    from .ensemble import EnsembleCalculator

    if (ensemble := find_ensemble(model)) is not None:
        options: dict[str, Any] = {"device": device, "dtype": dtype, "symmetrize": symmetrize}
        try:
            members = [
                make_calculator(member, **options) if is_foreign(member) else member
                for member in ensemble.members
            ]
            return EnsembleCalculator(
                members, factors=ensemble.factors, weights=ensemble.weights, **options
            )
        except ValueError as error:
            raise ValueError(f"a member of {model}: {error}") from error
    if is_foreign(model):
        if symmetrize is not None:
            raise ValueError(f"symmetrize works on potentials of pointedge only, not on {model}.")
        given = {"device": device, "dtype": dtype}
        return foreign_calculator(model, {k: v for k, v in given.items() if v is not None})
    return PotentialCalculator(model, device=device, dtype=dtype, symmetrize=symmetrize)


def model_card(model: str | Path) -> dict[str, Any]:
    """Return what a model's file says of itself, as plain values.

    Keys: name, file, bytes, architecture, config, species, inputs, cutoff (Å), cutoff_function,
    cutoff_width (Å), curvature_jump (1/Å²), baseline (eV by symbol), scale (eV), repulsion, dtype,
    parameters, units, information (data and errors, as training left them), code_version,
    format_version. Raises ValueError for a file that holds no model.
    """
    from ase.data import chemical_symbols

    from ..potentials import checkpoint
    from ..potentials.cutoff import curvature_jump
    from ..potentials.pet.published import is_published

    path, potential = find_model(split_target(model)[0]), read_model(model)
    if is_published(path):
        description = {**checkpoint.description_of(potential), "format_version": "published"}
    else:
        description = checkpoint.describe(path)
    tensors = potential.state_dict()
    config = description["config"]
    function, width = config.get("cutoff_function"), config.get("cutoff_width")
    return {
        "name": path.name.removesuffix(SUFFIX),
        "file": str(path),
        "bytes": sum(f.stat().st_size for f in [path, *path.glob("*")] if f.is_file()),
        **description,
        "species": [chemical_symbols[z] for z in potential.species],
        "inputs": list(potential.inputs),
        "cutoff": potential.cutoff,
        "cutoff_function": function,
        "cutoff_width": width,
        "curvature_jump": None if function is None else curvature_jump(function, width),
        "baseline": {chemical_symbols[z]: tensors["baseline"][z].item() for z in potential.species},
        "scale": tensors["scale"].item(),
        "dtype": str(potential.dtype).removeprefix("torch."),
        "parameters": sum(p.numel() for p in potential.parameters()),
    }
