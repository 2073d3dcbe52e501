"""A training run: data, model, the loop, and the files it leaves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch
from ase import Atoms
from ase.data import chemical_symbols
from lightning.fabric import Fabric

from .. import checkpoint
from ..datasets.hashes import data_hash
from ..files import UnwrittenError
from ..potential import Potential
from .baseline import fit_baseline
from .config import TrainingConfig
from .data import Batch
from .dataset import FrameSource
from .display import Display
from .distill import distill_auxiliary, refuse_invariant
from .finetune import load_start, prepare, started_from
from .folder import RunFolder
from .interruptions import Interruption, RunStoppedError
from .labels import keys_of, with_named_moments
from .module import TrainingModule
from .precision import check_precision, matrix_products, refuse_elsewhere, weight_type
from .ranks import ends_all, launch, reducer
from .reading import Frame
from .results import finish, in_order, write_results
from .sets import TRAINING, VALIDATION, Sets, open_sets, open_sources, species_of
from .settings import Data
from .summary import Range
from .table import table_lines
from .trainer import Trainer
from .uncertainty import fit_rigidity, refuse_few, refuse_unknown

__all__ = ["RunStoppedError", "finish", "train"]
AUXILIARY_FRAMES = 20  # whose bonds an auxiliary network learns


def train(
    config: TrainingConfig,
    output: Path,
    *,
    folder: Path = Path(),
    device: str | None = None,
    report: Callable[[str], None] = print,
    progress_bar: bool = False,
) -> Potential:
    """Train a potential and return the best one, which is also in ``output/best.safetensors``.

    A run that ``output`` holds is resumed from its last state, see :class:`.folder.RunFolder`.

    Args:
        config: the run.
        output: folder for the resolved configuration, log and checkpoints.
        folder: where data files are looked for first.
        device: a torch device, in place of the one of the configuration.
        report: called with one line of text at a time.
        progress_bar: show a bar on stderr, a terminal.

    Raises:
        ValueError: data or settings are unusable, or the folder holds a run of other settings.
        UnwrittenError: a file cannot be written; once there is room the run can be resumed.
        RunStoppedError: a signal or ``run.max_time`` stopped the run; it can be resumed.
    """
    settings = config.run
    interruption = Interruption(settings.max_time)  # what comes before the first step counts, too
    fabric = launch(device or settings.device, settings.devices, settings.num_nodes)
    files, first = RunFolder(output), fabric.is_global_zero
    display = Display(report if first else _silent, bar=progress_bar and first)
    with (
        ExitStack() as lock,
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        # Lightning's and torch's advice (worker processes, say) is not for the user.
        warnings.filterwarnings("ignore", module="lightning|torch.utils.data")
        torch.manual_seed(config.optimization.seed)
        with ends_all(fabric):
            if first:
                lock.enter_context(files.locked())
            files.keep_config(config, write=first)
        refuse_elsewhere(config.optimization.precision, fabric.device)
        with fabric.rank_zero_first() if config.data.cache else nullcontext():
            sources = open_sources(config.data, folder)
            kept = files.start if files.has_state() and files.start.exists() else None
            species = species_of(sources)
            potential = _initial_potential(config, folder, species, kept, display.line)
            if config.start_from is not None and kept is None and first:
                checkpoint.save(load_start(config.start_from, folder), files.start)
            sets = open_sets(sources, config, potential)
        for line in table_lines([frames.summary for frames in sets.values()]):
            display.line(line)
        _refuse_what_ends(potential, config, sets)
        _prepare(potential, config, sets, display)
        try:
            trainer = _trainer(potential, config, sets, fabric, files, display)
            with matrix_products(config.optimization.precision):
                trainer.fit(interruption)
            if first and not files.results.exists():
                return _finish(trainer, config, sets, sources, display)
        except UnwrittenError as error:
            raise type(error)(
                f"{error}; make room, and run the same command again to resume."
            ) from None
    if first:
        display.line(f"the run is complete, see {files.results}")
    return checkpoint.load(files.best)


def _refuse_what_ends(potential: Potential, config: TrainingConfig, sets: Sets) -> None:
    """Refuse before the first step what the end of the run cannot give."""
    if config.auxiliary:
        refuse_invariant(potential)
        missing = set(potential.species) - set(sets[TRAINING].species)
        if missing and "magmoms" in potential.inputs:
            symbols = ", ".join(chemical_symbols[z] for z in sorted(missing))
            raise ValueError(
                f"auxiliary takes moments of all species from the training frames, and {symbols} "
                "is in none; set auxiliary=false."
            )
    if config.uncertainty:
        refuse_unknown(potential)
        energies = sets[VALIDATION].summary.labels.get("energy", Range())
        refuse_few(energies.frames)


def _prepare(potential: Potential, config: TrainingConfig, sets: Sets, display: Display) -> None:
    """Fit baseline and scales, and write down where the potential comes from."""
    training = sets[TRAINING]
    if "energy" in potential.properties and "energy" not in training.summary.labels:
        display.line("no training frame has an energy: the baselines of species are not fitted")
    if config.start_from is None:
        _normalize(potential, training)
    else:
        prepare(potential, config.fine_tuning, training, display.line)
    potential.information["training_data_sha256"] = data_hash(training.hashes)
    potential.information["trained_on"] = config.data.description or ", ".join(
        name for selection in config.data.train for name in selection.files
    )
    potential.information["training"] = config.model_dump()


def _trainer(
    potential: Potential,
    config: TrainingConfig,
    sets: Sets,
    fabric: Fabric,
    files: RunFolder,
    display: Display,
) -> Trainer:
    """What runs the loop; says what its precision costs."""
    module = TrainingModule(potential, config, reducer(fabric))
    batches = sets[TRAINING], sets[VALIDATION]
    trainer = Trainer(fabric, module, config, *batches, files, display)
    check_precision(potential, batches[0], config.optimization.precision, display.line)
    return trainer


def _finish(
    trainer: Trainer,
    config: TrainingConfig,
    sets: Sets,
    sources: dict[str, FrameSource],
    display: Display,
) -> Potential:
    """The best potential, with its auxiliary network, on a CPU; its errors are written."""
    files, device = trainer.folder, trainer.fabric.device
    batches = sets[TRAINING], sets[VALIDATION]
    potential = finish(files.best, *batches, config, display.line, device=device)
    if config.auxiliary:
        display.line("fitting the auxiliary network to small clusters")
        chosen = _auxiliary_frames(sources[TRAINING], len(sets[TRAINING]), config.data)
        seed = config.optimization.seed
        potential = distill_auxiliary(potential, chosen, seed=seed, report=display.line)
        checkpoint.save(potential, files.best)
    if config.uncertainty:
        potential.to(device)
        calibration = fit_rigidity(
            potential,
            (batch.graph for batch in in_order(batches[0], config, device)),
            ((batch.graph, batch.energy) for batch in in_order(batches[1], config, device)),
        )
        display.line(
            f"uncertainty of {calibration.count} validation energies, meV/atom: {calibration}"
        )
        checkpoint.save(potential, files.best)
    for line in write_results(
        files, potential.to(device), sets, config, trainer.schedule.summary()
    ):
        display.line(line)
    return potential.cpu()


def _auxiliary_frames(source: Iterable[Frame], count: int, data: Data) -> list[Atoms]:
    """Some evenly spaced frames, and the first of each species that these lack."""
    step = math.ceil(count / AUXILIARY_FRAMES)
    keys, seen, chosen = keys_of(data), set[int](), []
    for k, frame in enumerate(source):
        numbers = set(frame.atoms.numbers.tolist())
        if k % step == 0 or not numbers <= seen:
            chosen.append(with_named_moments(frame.atoms, keys, str(frame)))
            seen |= numbers
    return chosen


def _initial_potential(
    config: TrainingConfig,
    folder: Path,
    species: list[int],
    kept: Path | None,
    report: Callable[[str], None],
) -> Potential:
    if config.start_from is not None:
        potential = started_from(config, folder, species, kept=kept, report=report)
    else:
        kind = checkpoint.architecture(config.architecture or "")
        network = kind.from_config({"species": species, **config.model})
        potential = Potential(network, repulsion=bool(config.zbl))
    return potential.to(weight_type(config.optimization.precision))


def _normalize(potential: Potential, batches: Sequence[Batch]) -> None:
    """Fit the baseline, and set scales to the root mean square of what they multiply.

    Both by the weights that frames have in the loss.
    """
    weights = torch.cat([b.weight for b in batches])
    for name in potential.properties:
        if name != "energy":
            values = [getattr(b, name) / b.graph.num_atoms for b in batches]
            _set_scale(potential.scale_of(name), values, weights)
    if "energy" not in potential.properties:
        return
    repulsion = torch.zeros(len(batches), dtype=torch.float64)
    if potential.zbl is not None:
        for k, batch in enumerate(batches):
            g = batch.graph
            repulsion[k] = potential.zbl(g.species, g.centers, g.neighbors, g.edge_vectors()).sum()
    baseline = fit_baseline(potential.species, batches, repulsion)
    for number, energy in baseline.items():
        potential.baseline[number] = energy
    values = [b.forces for b in batches]
    if all(v.isnan().all() for v in values):
        rest = [b.energy - potential.baseline[b.graph.species].sum() for b in batches]
        values = [e / b.graph.num_atoms for e, b in zip(rest, batches, strict=True)]
    _set_scale(potential.scale, values, weights)


def _set_scale(scale: torch.Tensor, values: Sequence[torch.Tensor], weights: torch.Tensor) -> None:
    """Set a scale to the root mean square of what is known of frames with some weight."""
    sizes = torch.tensor([v.numel() for v in values])
    flat, weight = torch.cat([v.flatten() for v in values]), weights.repeat_interleave(sizes)
    known = ~torch.isnan(flat) & (weight > 0)
    if known.any():
        mean = torch.sum(weight[known] * flat[known] ** 2) / weight[known].sum()
        scale.fill_(max(mean.sqrt().item(), 1e-3))


def _silent(line: str) -> None:
    """Report of the ranks but the first, which say the same."""
