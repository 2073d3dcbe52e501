"""The end of a run: its baseline, and its errors on frames that chose its weights or did not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from .. import checkpoint
from ..files import replacing
from ..outputs import ERRORS
from ..potential import Potential
from .baseline import fit_baseline
from .batching import batch_sampler, loader
from .config import TrainingConfig
from .data import LABELS, Batch
from .folder import RunFolder
from .loss import WeightedLoss, residuals
from .module import in_words
from .sets import TRAINING

Table = dict[str, dict[str, float]]
LAG = 0.02  # eV/atom, more than averaged weights are behind


def finish(
    path: Path,
    train_batches: Sequence[Batch],
    validation_batches: Sequence[Batch],
    config: TrainingConfig,
    report: Callable[[str], None],
    *,
    device: torch.device | str = "cpu",
) -> Potential:
    """Fit the baseline of a trained potential once more, and write it with its final errors.

    Averaged weights lag behind in the energy's offset, which a baseline removes exactly. Where the
    training frames are of two kinds with opposite errors it may do harm; then it is not kept. (So
    the validation frames decide on it, as on the weights; test frames decide on nothing.) Nor is
    it where ``fine_tuning.baseline`` is "keep" and it would be more than such a lag.
    """
    potential = checkpoint.load(path).to(device)

    def errors() -> dict[str, float]:
        return rmse(label_errors(potential, in_order(validation_batches, config, device)))

    before, baseline = errors(), potential.baseline.clone()
    after, what = before, "baseline kept"
    if "energy" in potential.properties:
        parts = in_order(train_batches, config, device)
        found = [potential(batch.graph, forces=False) for batch in parts]
        predicted = torch.cat([p.energy + p.baseline for p in found]).cpu()
        # the change of least norm: species that no training frame has keep theirs
        change = fit_baseline(potential.species, train_batches, predicted)
        fitted = "baseline fitted again"
        if _other_zero(change, potential, config):
            fitted = what = (
                "baseline kept, though the energies of training frames have another zero "
                "(fine_tuning.baseline=refit takes theirs)"
            )
            new = potential.information["added_species"]
            change = fit_baseline(new, train_batches, predicted)
        for number, energy in change.items():
            potential.baseline[number] += energy
        refitted = errors() if change else before
        score = WeightedLoss(config.loss).score
        if change and score(refitted) <= score(before):
            after, what = refitted, fitted
        else:
            potential.baseline.copy_(baseline)
    potential.information["validation_rmse"] = after
    checkpoint.save(potential, path)
    report(f"best model, {what}: validation RMSE {in_words(after)}")
    return potential.cpu()


def _other_zero(change: dict[int, float], potential: Potential, config: TrainingConfig) -> bool:
    """Whether a new baseline would move species that were to be kept by more than a lag."""
    if config.start_from is None or config.fine_tuning.baseline != "keep":
        return False
    new = potential.information["added_species"]
    return any(abs(de) > LAG for z, de in change.items() if z not in new)


def in_order(
    frames: Sequence[Batch], config: TrainingConfig, device: torch.device | str
) -> Iterator[Batch]:
    """Frames in their own order, in batches as large as those of the training."""
    draws = batch_sampler(frames, config.optimization, shuffled=False).epoch(0)
    return (batch.to(device) for batch in loader(frames, list(draws)) if batch is not None)


def rmse(table: Table) -> dict[str, float]:
    """The root mean squared errors of a table."""
    return {name: errors["rmse"] for name, errors in table.items()}


def label_errors(potential: Potential, batches: Iterable[Batch]) -> Table:
    """Errors by label in units of ERRORS: "rmse", "mae" and the number of components.

    As in calculators/errors.py: energies per atom, raw; components of all else.
    """
    has_energy = "energy" in potential.properties
    sums = torch.zeros(len(LABELS), 3, dtype=torch.float64)
    for batch in batches:
        stress = has_energy and not bool(batch.stress.isnan().all())
        prediction = potential(batch.graph, forces=has_energy, virial=stress)
        for name, residual in residuals(prediction, batch).items():
            if has_energy or name != "energy":
                errors = residual.errors
                found = [errors.square().sum(), errors.abs().sum(), residual.known.sum()]
                sums[LABELS.index(name)] += torch.stack([x.double() for x in found]).cpu()
    return {
        name: {"rmse": 1000 * math.sqrt(squares / n), "mae": 1000 * total / n, "components": int(n)}
        for name, (squares, total, n) in zip(LABELS, sums.tolist(), strict=True)
        if n
    }


def write_results(
    folder: RunFolder,
    potential: Potential,
    sets: Mapping[str, Sequence[Batch]],
    config: TrainingConfig,
    run: Mapping[str, float],
) -> list[str]:
    """Write results.json, and the same errors into the model's file; returns them as a table.

    Test frames are looked at here, for the first time.

    Args:
        folder: of the run.
        potential: its best weights, on the device where they are to be evaluated.
        sets: frames by name; those of the training are left out.
        config: of the run.
        run: what it was: epochs, steps and hours.
    """
    errors = {
        name: label_errors(potential, in_order(frames, config, potential.device))
        for name, frames in sets.items()
        if name != TRAINING
    }
    potential.information |= {f"{name}_rmse": rmse(found) for name, found in errors.items()}
    checkpoint.save(potential, folder.best)
    units = {name: ERRORS[name] for found in errors.values() for name in found}
    tree = {**run, "units": units, "errors": errors}
    with replacing(folder.results) as file:
        file.write((json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode())
    return errors_table(errors)


def errors_table(errors: Mapping[str, Table]) -> list[str]:
    """The same as aligned lines."""
    rows = [("", "", "RMSE", "MAE", "")]
    for frames, found in errors.items():
        for name, values in found.items():
            rows.append(
                (frames, name, f"{values['rmse']:.4g}", f"{values['mae']:.4g}", ERRORS[name])
            )
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    return [
        f"{frames:{widths[0]}}  {name:{widths[1]}}  {rmse:>{widths[2]}}  {mae:>{widths[3]}}  {unit}"
        for frames, name, rmse, mae, unit in rows
    ]
