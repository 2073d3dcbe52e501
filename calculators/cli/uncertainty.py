"""`pointedge fit-uncertainty`: standard deviations of a model, or of an ensemble."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .evaluate import Key, named, progress_bar_of_frames, read_frames
from .options import Model, check_output

if TYPE_CHECKING:
    from ...potentials.training.labels import Keys
    from ..ensemble_files import Ensemble
    from ..evaluation import Evaluation

NEGLIGIBLE = 0.01  # weight of a member that is not worth its time


def fit_uncertainty(
    model: Model,
    training: Annotated[
        list[str] | None,
        typer.Argument(help="files of frames that the model was trained on; none for an ensemble"),
    ] = None,
    validation: Annotated[
        list[str] | None,
        typer.Option(help="files of labelled frames that it was not trained on"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="default: uncertain.safetensors; of an ensemble, ensemble.json"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="of an ensemble's members in its means: W,W,..., or fit, for the least force error"
            " on the validation frames; default: those of the ensemble, else equal"
        ),
    ] = None,
    energy_key: Key = None,
    forces_key: Key = None,
    stress_key: Key = None,
    magmoms_key: Key = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the output")] = False,
) -> None:
    """Let a model say how sure it is of energies, or make an ensemble's spread as large as errors.

    One model (PET, MACE): the features of the training frames say what it knows, the errors of the
    validation frames what that means in eV (last-layer prediction rigidity). Several models,
    separated by commas: factors on their standard deviations of energy, forces and stress, in a
    file that is a MODEL of its own, with weights of the members in means.
    """
    from ...potentials.training.reading import find_file
    from ..ensemble_files import SUFFIX, check_storable, find_ensemble
    from ..models import files_of

    ensemble = find_ensemble(model)
    if not validation:
        raise ValueError("give --validation, files of labelled frames that no training saw.")
    if output is None:
        output = Path("uncertain.safetensors" if ensemble is None else f"ensemble{SUFFIX}")
    if ensemble is not None and training:
        raise ValueError("an ensemble needs no training frames; leave them out.")
    if ensemble is None and weights is not None:
        raise ValueError(f"{model} is one model; leave --weights out.")
    if ensemble is not None:
        if output.suffix != SUFFIX:
            raise ValueError(f"{output} has to end in {SUFFIX}, as files of ensembles do.")
        check_storable(ensemble.members)
        if weights not in (None, "fit"):
            ensemble = replace(ensemble, weights=_read_weights(weights, len(ensemble.members)))
    frames = [find_file(name, Path()) for name in (*(training or []), *validation)]
    check_output(output, reads=[*frames, *files_of(model)], overwrite=overwrite)
    keys = named(energy=energy_key, forces=forces_key, stress=stress_key, magmoms=magmoms_key)
    if ensemble is None:
        _fit_rigidity(model, training or [], validation, keys, output)
    else:
        if weights == "fit":
            ensemble = _fit_weights(ensemble, validation, keys)
        _fit_factors(ensemble, validation, keys, output)
    print(output)


def _fit_rigidity(
    model: str, training: list[str], validation: list[str], keys: Keys, output: Path
) -> None:
    from ...potentials import checkpoint
    from ...potentials.training.dataset import FrameSource
    from ...potentials.training.reading import refuse_overlap
    from ...potentials.training.settings import Data, Frames
    from ...potentials.training.uncertainty import fit_rigidity
    from ..loading import load_potential

    if not training:
        raise ValueError(
            f"{model} is one model; name files of the frames that it was trained on after it."
        )
    potential = load_potential(model)
    selections = {"training": [Frames(files=training)], "validation": [Frames(files=validation)]}
    data = Data(
        train=selections["training"],
        validation=selections["validation"],
        **{f"{label}_key": key for label, key in keys.items()},
    )
    sources = [FrameSource(name, files, data, Path()) for name, files in selections.items()]
    for name, source in zip(selections, sources, strict=True):
        _check_species(name, source.species(), model, potential.species)
    known, others = (s.dataset(potential.cutoff, potential.inputs) for s in sources)
    refuse_overlap({"training": known.hashes, "validation": others.hashes})
    calibration = fit_rigidity(
        potential,
        (batch.graph for batch in known),
        ((batch.graph, batch.energy) for batch in others),
    )
    checkpoint.save(potential, output)
    frames = f"energies of {calibration.count} validation frames, meV/atom"
    print(f"{frames}: {calibration}", file=sys.stderr)


def _check_species(name: str, found: set[int], model: str, known: Sequence[int]) -> None:
    from ase.data import chemical_symbols

    if unknown := sorted(found - set(known)):
        have, knows = (", ".join(chemical_symbols[z] for z in s) for s in (unknown, known))
        raise ValueError(f"{name} frames have {have}, and {model} knows {knows} only.")


def _read_weights(text: str, count: int) -> list[float]:
    from ..ensemble_files import read_weights

    try:
        return read_weights([float(weight) for weight in text.split(",")], count)
    except ValueError as error:
        raise ValueError(f"--weights {text}: {error}") from None


def _fit_weights(ensemble: Ensemble, validation: list[str], keys: Keys) -> Ensemble:
    """The members of a mean with the least force error, and their weights."""
    from ..ensemble_files import read_weights
    from ..models import make_calculator
    from ..weights import least_error

    members = ensemble.members
    each = [_evaluation(make_calculator(m), validation, keys).comparison for m in members]
    found = least_error([comparison.error("forces") for comparison in each])
    for member, weight in zip(members, found, strict=True):
        print(f"{member}: weight {weight:.4g}", file=sys.stderr)
    useful = {m: w for m, w in zip(members, found, strict=True) if w > NEGLIGIBLE}
    if len(useful) < 2:
        raise ValueError(f"no mean has a smaller force error than {next(iter(useful))} alone.")
    weights = read_weights(list(useful.values()), len(useful))
    return replace(ensemble, members=list(useful), weights=weights)


def _evaluation(calculator: Any, validation: list[str], keys: Keys) -> Evaluation:
    from ...potentials.training.reading import find_file
    from ..evaluation import evaluate

    files = [find_file(name, Path()) for name in validation]
    with progress_bar_of_frames() as (expect, advance):
        frames = read_frames(files, keys, None, [], expect)
        return evaluate(calculator, frames, progress=advance)


def _fit_factors(ensemble: Ensemble, validation: list[str], keys: Keys, output: Path) -> None:
    from ..ensemble import EnsembleCalculator
    from ..ensemble_files import write_ensemble
    from ..errors import UNITS

    members, weights = ensemble.members, ensemble.weights
    found = _evaluation(EnsembleCalculator(members, weights=weights), validation, keys)
    for name, calibration in found.calibrations.items():
        text = f"{name.removesuffix('_per_atom')}, {calibration.count} errors, {UNITS[name]}"
        print(f"{text}: {calibration}", file=sys.stderr)
    for note in found.notes:  # labels of another reference, for one, and huge factors from them
        print(f"note: {note}", file=sys.stderr)
    write_ensemble(output, members, found.calibrations, validation, weights)
