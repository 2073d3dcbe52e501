"""The Lightning module: one training step, validation errors, optimiser and schedule."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from ..outputs import ERRORS
from ..potential import Potential
from .config import TrainingConfig
from .data import LABELS, Batch
from .loss import Residual, WeightedLoss, residuals


class TrainingModule(lightning.LightningModule):
    """Trains a potential; ``total_steps`` is what the learning-rate schedule spans."""

    def __init__(self, potential: Potential, config: TrainingConfig, total_steps: int) -> None:
        super().__init__()
        self.potential = potential
        self.config = config
        self.loss = WeightedLoss(config.loss)
        self.total_steps = total_steps
        self.seconds = 0.0  # spent in training steps and validation, over all resumed parts
        self._clock: float | None = None
        self._sums: Tensor | None = None  # (2, L, 2) squares and penalties of the validation

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of a batch, turned at random."""
        optimization = self.config.optimization
        if optimization.augment:
            batch = batch.augmented(seed=optimization.seed + 1_000_003 * (self.global_step + 1))
        errors = self._residuals(batch, create_graph=True)
        loss = self.loss(errors)
        if not torch.isfinite(loss):
            raise ValueError(
                f"the loss is {loss.item()} in step {self.global_step}; lower the learning rate."
            )
        self.log("loss", loss.detach(), prog_bar=True)
        if "forces" in errors:
            self.log("force_rmse", 1000 * errors["forces"].rmse().detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Collect the squared errors, and the penalties, of a batch."""
        errors = self._residuals(batch, create_graph=False)
        squares = torch.zeros_like(self.loss.sums({}))
        for name, residual in errors.items():
            squares[LABELS.index(name)] = replace(
                residual, weight=torch.ones_like(residual.weight)
            ).sums()
        sums = torch.stack([squares, self.loss.sums(errors)])
        self._sums = sums if self._sums is None else self._sums + sums

    def validation_errors(self) -> dict[str, float]:
        """Root mean squared errors since the last call, in units of ERRORS, over all ranks.

        Scales of the loss that follow validations do so here.
        """
        if self._sums is None:
            return {}
        squares, penalties = self.loss.reduce(self._sums)
        self._sums = None
        self.loss.validated(penalties)
        means = zip(LABELS, squares.tolist(), strict=True)
        return {name: 1000 * math.sqrt(total / n) for name, (total, n) in means if n}

    def _residuals(self, batch: Batch, *, create_graph: bool) -> dict[str, Residual]:
        """Errors of the labels that the loss asks for; in a validation, of more."""
        weights = self.config.loss
        has_energy = "energy" in self.potential.properties
        prediction = self.potential(
            batch.graph,
            forces=has_energy and (weights.forces > 0 or not create_graph),
            virial=weights.stress > 0,
            create_graph=create_graph,
        )
        labels = self.loss.labels if create_graph else LABELS
        return residuals(prediction, batch, [n for n in labels if has_energy or n != "energy"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; norms, biases and embeddings do not decay."""
        embeddings = {id(m.weight) for m in self.modules() if isinstance(m, nn.Embedding)}
        parameters = list(self.potential.network.parameters())
        decay = [p for p in parameters if p.ndim > 1 and id(p) not in embeddings]
        rest = [p for p in parameters if p.ndim <= 1 or id(p) in embeddings]
        settings = self.config.optimization
        groups: list[dict[str, Any]] = [
            {"params": decay, "weight_decay": settings.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=settings.learning_rate)

    @property
    def progress(self) -> float:
        """How much of the schedule is done, 0 to 1, by steps or by time."""
        steps = self.global_step / self.total_steps
        hours = self.config.optimization.max_hours
        return min(1.0, steps if hours is None else max(steps, self.seconds / 3600 / hours))

    def on_train_batch_start(self, batch: Batch, index: int) -> int | None:
        """Set the learning rate; end the run when its schedule is over."""
        now = time.monotonic()
        self.seconds += now - (now if self._clock is None else self._clock)
        self._clock = now
        progress = self.progress
        rate = learning_rate(
            progress,
            self.config.optimization.learning_rate,
            self.config.optimization.warmup_fraction,
        )
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = rate
        if progress >= 1:
            self.trainer.should_stop = True
            return -1
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the time spent, which the schedule may depend on."""
        checkpoint["seconds"] = self.seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from the time spent."""
        self.seconds = checkpoint["seconds"]


def learning_rate(progress: float, peak: float, warmup: float) -> float:
    """Linear warm-up to ``peak``, then a cosine to zero; ``progress`` runs from 0 to 1.

    The first step already has a part of the peak: a rate of zero would waste it.
    """
    if progress < warmup:
        return peak * (0.01 + 0.99 * progress / warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def in_words(errors: dict[str, float]) -> str:
    """Validation errors with their units, for a line of a report."""
    return ", ".join(f"{n} {errors[n]:.3g} {ERRORS[n]}" for n in ERRORS if n in errors)
