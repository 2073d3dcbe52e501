"""What a step computes: the loss of a batch, validation errors, optimiser and learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..outputs import ERRORS
from ..potential import Potential, Prediction
from .config import TrainingConfig
from .data import LABELS, Batch
from .loss import Residual, WeightedLoss, alone, residuals
from .optimizer import MuonWithAdamW, optimizer_of
from .precision import autocast


class TrainingModule(nn.Module):
    """A potential and the loss that it is trained with.

    Args:
        potential: to be trained.
        config: of the run.
        reduce: sums a tensor over all ranks.

    Attributes:
        window: (L + 1, 2) sums over steps of this rank: squared errors of LABELS and their
            numbers; of the loss, and the number of steps.
    """

    window: Tensor

    def __init__(
        self,
        potential: Potential,
        config: TrainingConfig,
        reduce: Callable[[Tensor], Tensor] = alone,
    ) -> None:
        super().__init__()
        self.potential = potential
        self.config = config
        self.loss = WeightedLoss(config.loss, reduce)
        self._sums: Tensor | None = None  # (2, L, 2) squares and penalties of the validation
        window = torch.zeros(len(LABELS) + 1, 2, dtype=torch.float64)
        self.register_buffer("window", window, persistent=False)

    def training_step(self, batch: Batch | None) -> Tensor:
        """Loss of a batch; None is the share of a rank that has no frame in it."""
        errors = {} if batch is None else self._residuals(batch, create_graph=True)[1]
        loss = self.loss(errors)
        with torch.no_grad():
            steps = torch.ones_like(loss)
            self.window += torch.cat([self._squares(errors), torch.stack([loss, steps])[None]])
        return loss

    def training_errors(self) -> dict[str, float]:
        """Mean loss and root mean squared errors since the last call, over all ranks."""
        *squares, (loss, steps) = self.loss.reduce(self.window).tolist()
        self.window.zero_()
        rmse = {f"train_{name}": error for name, error in _roots(squares).items()}
        return {"loss": loss / max(steps, 1), **rmse}

    def validation_step(self, batch: Batch) -> Prediction:
        """Collect the squared errors, and the penalties, of a batch."""
        prediction, errors = self._residuals(batch, create_graph=False)
        sums = torch.stack([self._squares(errors), self.loss.sums(errors)])
        self._sums = sums if self._sums is None else self._sums + sums
        return prediction

    def validation_errors(self) -> dict[str, float]:
        """Root mean squared errors since the last call, in units of ERRORS, over all ranks.

        Scales of the loss that follow validations do so here.
        """
        if self._sums is None:  # of a rank that has no validation frame
            self._sums = torch.stack([self.loss.sums({})] * 2)
        squares, penalties = self.loss.reduce(self._sums)
        self._sums = None
        self.loss.validated(penalties)
        return _roots(squares.tolist())

    def forget(self) -> None:
        """Begin a validation anew."""
        self._sums = None

    def _squares(self, errors: dict[str, Residual]) -> Tensor:
        """Sums of squares without weights, and numbers of components (L, 2)."""
        squares = torch.zeros_like(self.loss.sums({}))
        for name, residual in errors.items():
            squares[LABELS.index(name)] = replace(
                residual, weight=torch.ones_like(residual.weight)
            ).sums()
        return squares

    def _residuals(
        self, batch: Batch, *, create_graph: bool
    ) -> tuple[Prediction, dict[str, Residual]]:
        """Errors of the labels that the loss asks for; in a validation, of more."""
        weights = self.config.loss
        has_energy = "energy" in self.potential.properties
        precision = self.config.optimization.precision if create_graph else "float32"
        with autocast(precision, self.potential.device):
            prediction = self.potential(
                batch.graph,
                forces=has_energy and (weights.forces > 0 or not create_graph),
                virial=weights.stress > 0,
                create_graph=create_graph,
            )
        labels = self.loss.labels if create_graph else LABELS
        known = [name for name in labels if has_energy or name != "energy"]
        return prediction, residuals(prediction, batch, known)

    def configure_optimizers(self) -> torch.optim.Optimizer | MuonWithAdamW:
        """Of all that is trained, see :func:`.optimizer.optimizer_of`."""
        decay = self.config.fine_tuning.layer_decay
        return optimizer_of(self.potential.network, self.config.optimization, decay)


def in_words(errors: dict[str, float]) -> str:
    """Validation errors with their units, for a line of a report."""
    return ", ".join(f"{n} {errors[n]:.3g} {ERRORS[n]}" for n in ERRORS if n in errors)


def _roots(squares: list[list[float]]) -> dict[str, float]:
    """Root mean squares of LABELS, in units of ERRORS, where there is a component."""
    means = zip(LABELS, squares, strict=True)
    return {name: 1000 * math.sqrt(total / n) for name, (total, n) in means if n}
