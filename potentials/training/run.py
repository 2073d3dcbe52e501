"""A training run: data, model, Lightning trainer, and the files it leaves."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar, WeightAveraging
from lightning.pytorch.loggers import CSVLogger

from .. import checkpoint
from ..potential import Potential
from .baseline import fit_baseline
from .callbacks import BEST, ExponentialAverage, KeepBest
from .config import TrainingConfig
from .data import LABELS, Batch, labelled, loader
from .distill import distill_auxiliary
from .loss import WeightedLoss
from .module import TrainingModule, in_words
from .reading import find_file, frame_hash, read_frames, refuse_overlap

LAST = "last.ckpt"
AUXILIARY_FRAMES = 20  # whose bonds an auxiliary network learns


def train(
    config: TrainingConfig,
    output: Path,
    *,
    folder: Path = Path(),
    device: str = "cpu",
    report: Callable[[str], None] = print,
    progress_bar: bool = False,
) -> Potential:
    """Train a potential and return the best one, which is also in ``output/best.safetensors``.

    A run whose ``output/last.ckpt`` exists is resumed from it.

    Args:
        config: the run.
        output: folder for the resolved configuration, log and checkpoints.
        folder: where data files are looked for first.
        device: a torch device, such as "cpu" or "cuda".
        report: called with one line of text at a time.
        progress_bar: show a bar.

    Raises:
        ValueError: data or settings are unusable, or the folder holds a run of other settings.
    """
    output.mkdir(parents=True, exist_ok=True)
    _keep_config(config, output)
    lightning.seed_everything(config.optimization.seed, verbose=False)
    train_frames = read_frames(config.data.train, folder)
    validation_frames = read_frames(config.data.validation, folder)
    refuse_overlap(
        {
            "training": [frame_hash(a) for a in train_frames],
            "validation": [frame_hash(a) for a in validation_frames],
            "test": [frame_hash(a) for a in read_frames(config.data.test, folder)],
        }
    )
    potential = _initial_potential(config, folder, train_frames + validation_frames)
    batches = [
        [labelled(a, config.data, potential.cutoff, potential.inputs) for a in frames]
        for frames in (train_frames, validation_frames)
    ]
    for name, part in zip(("training", "validation"), batches, strict=True):
        report(_summary(name, part))
        _require_labels(config, potential, name, part)
    if config.start_from is None:
        _normalize(potential, batches[0])
    potential.information["training_data_sha256"] = _data_hash(train_frames)
    potential.information["trained_on"] = config.data.description or ", ".join(
        name for selection in config.data.train for name in selection.files
    )
    potential.information["training"] = config.model_dump()

    settings = config.optimization
    train_loader = loader(batches[0], settings.batch_size, seed=settings.seed)
    module = TrainingModule(potential, config, len(train_loader) * settings.max_epochs)
    trainer = _trainer(config, output, device, report, progress_bar)
    last = output / LAST
    if last.exists():
        report(f"resuming from {last}")
    with warnings.catch_warnings():
        # Lightning's advice (worker processes, logging intervals, its own deprecations) is not for
        # the user of this function.
        warnings.filterwarnings("ignore", module="lightning|torch.utils.data")
        validation_loader = loader(batches[1], settings.batch_size)
        trainer.fit(
            module,
            train_loader,
            validation_loader,
            ckpt_path=last if last.exists() else None,
            weights_only=False,  # our own file: optimiser, schedule and averages
        )
        trainer.validate(module, validation_loader, verbose=False)  # the last weights count too
    potential = finish(output / BEST, batches[0], batches[1], config, report)
    if config.auxiliary:
        chosen = train_frames[:: math.ceil(len(train_frames) / AUXILIARY_FRAMES)]
        potential = distill_auxiliary(potential, chosen, seed=settings.seed, report=report)
        checkpoint.save(potential, output / BEST)
    return potential


def finish(
    path: Path,
    train_batches: Sequence[Batch],
    validation_batches: Sequence[Batch],
    config: TrainingConfig,
    report: Callable[[str], None],
) -> Potential:
    """Fit the baseline of a trained potential once more, and write it with its final errors.

    Averaged weights lag behind in the energy's offset, which a baseline removes exactly. Where the
    training frames are of two kinds with opposite errors it may do harm; then it is not kept.
    """
    potential = checkpoint.load(path)

    def errors() -> dict[str, float]:
        module = TrainingModule(potential, config, total_steps=1)
        for batch in loader(validation_batches, config.optimization.batch_size):
            module.validation_step(batch, 0)
        return module.validation_errors()

    before, baseline = errors(), potential.baseline.clone()
    after, what = before, "baseline kept"
    if "energy" in potential.properties:
        predicted = torch.cat([potential(b.graph, forces=False).energy for b in train_batches])
        for number, energy in fit_baseline(potential.species, train_batches, predicted).items():
            potential.baseline[number] = energy
        refitted = errors()
        score = WeightedLoss(config.loss).score
        if score(refitted) <= score(before):
            after, what = refitted, "baseline fitted again"
        else:
            potential.baseline.copy_(baseline)
    potential.information["validation_rmse"] = after
    checkpoint.save(potential, path)
    report(f"best model, {what}: validation RMSE {in_words(after)}")
    return potential


def _trainer(
    config: TrainingConfig,
    output: Path,
    device: str,
    report: Callable[[str], None],
    progress_bar: bool,
) -> lightning.Trainer:
    settings = config.optimization
    callbacks: list[Callback] = [
        KeepBest(output, report),
        WeightAveraging(use_buffers=False, avg_fn=ExponentialAverage(settings.ema_decay)),
        ModelCheckpoint(
            dirpath=output, filename="last", save_top_k=1, enable_version_counter=False
        ),
    ]
    if progress_bar:
        callbacks.append(RichProgressBar())
    accelerator, _, index = device.partition(":")
    return lightning.Trainer(
        accelerator="gpu" if accelerator == "cuda" else accelerator,
        devices=[int(index)] if index else 1,
        max_epochs=settings.max_epochs,
        gradient_clip_val=settings.gradient_clip,
        check_val_every_n_epoch=settings.validate_every,
        num_sanity_val_steps=0,
        logger=CSVLogger(output, name=None, version="log"),
        log_every_n_steps=20,
        callbacks=callbacks,
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        inference_mode=False,
    )


def _initial_potential(config: TrainingConfig, folder: Path, frames: Sequence[Any]) -> Potential:
    if "species" in config.model:
        raise ValueError("model.species is read from the data; leave it out.")
    species = sorted({int(z) for atoms in frames for z in atoms.numbers})
    if config.start_from is not None:
        potential = checkpoint.load(find_file(config.start_from, folder), config.model)
        if missing := set(species) - set(potential.species):
            raise ValueError(f"{config.start_from} does not know species {sorted(missing)}.")
        potential.auxiliary = None  # it was fitted to other weights
        return potential
    kind = checkpoint.architecture(config.architecture)
    return Potential(kind.from_config({"species": species, **config.model}), repulsion=config.zbl)


def _normalize(potential: Potential, batches: Sequence[Batch]) -> None:
    """Fit the baseline, and set scales to the root mean square of what they multiply."""
    for name in potential.properties:
        if name != "energy":
            values = [(getattr(b, name) / b.graph.num_atoms).flatten() for b in batches]
            _set_scale(potential.scale_of(name), torch.cat(values))
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
    forces = torch.cat([b.forces.flatten() for b in batches])
    if forces.isnan().all():
        rest = [b.energy - potential.baseline[b.graph.species].sum() for b in batches]
        atoms = [b.graph.num_atoms for b in batches]
        forces = torch.cat([e / n for e, n in zip(rest, atoms, strict=True)])
    _set_scale(potential.scale, forces)


def _set_scale(scale: torch.Tensor, values: torch.Tensor) -> None:
    known = values[~torch.isnan(values)]
    if len(known):
        scale.fill_(max(known.square().mean().sqrt().item(), 1e-3))


def _summary(name: str, batches: Sequence[Batch]) -> str:
    atoms = sum(b.graph.num_atoms for b in batches)
    labels = ", ".join(
        f"{label} {sum(int(not torch.isnan(getattr(b, label)).any()) for b in batches)}"
        for label in LABELS
        if label in LABELS[:3] or any(not torch.isnan(getattr(b, label)).any() for b in batches)
    )
    return f"{name}: {len(batches)} frames, {atoms} atoms; frames with labels: {labels}"


def _require_labels(
    config: TrainingConfig, potential: Potential, name: str, batches: Sequence[Batch]
) -> None:
    predicted = {
        *potential.properties,
        *(("forces", "stress") if "energy" in potential.properties else ()),
    }
    for label in LABELS:
        if getattr(config.loss, label) > 0 and label not in predicted:
            raise ValueError(
                f"the loss has {label}, but the model predicts {', '.join(potential.properties)}; "
                f"set model.properties, or loss.{label}=0."
            )
        missing = all(torch.isnan(getattr(b, label)).all() for b in batches)
        if getattr(config.loss, label) > 0 and missing:
            key = getattr(config.data, f"{label}_key")
            raise ValueError(
                f"the loss has {label}, but no {name} frame has one (data.{label}_key={key}); set "
                f"data.{label}_key to its name, "
                f"or loss.{label}=0."
            )


def _keep_config(config: TrainingConfig, output: Path) -> None:
    path = output / "config.yaml"
    if path.exists() and (output / LAST).exists() and path.read_text() != config.to_yaml():
        raise ValueError(
            f"{output} holds a run with other settings; choose another folder, or remove it."
        )
    path.write_text(config.to_yaml())


def _data_hash(frames: Sequence[Any]) -> str:
    return hashlib.sha256("".join(sorted(map(frame_hash, frames))).encode()).hexdigest()
