"""What happens between the steps of a training run: the best weights, and their average."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from .. import checkpoint
from .module import in_words

BEST = "best.safetensors"


class KeepBest(Callback):
    """Reports validation errors, and writes the averaged weights whenever they are the best.

    It has to come before the weight averaging in the list of callbacks, which puts the raw weights
    back at the end of the validation.
    """

    def __init__(self, output: Path, report: Callable[[str], None]) -> None:
        self.output = output
        self.report = report
        self.best = float("inf")

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Log the errors of an epoch and keep its weights if they are the best."""
        if trainer.sanity_checking:
            return
        errors = module.validation_errors()
        for name, error in errors.items():
            module.log(f"validation_{name}", error, prog_bar=name == "forces")
        score = module.loss.score(errors)
        better = score < self.best
        self.report(
            f"epoch {trainer.current_epoch}, step {trainer.global_step}, "
            f"{module.seconds / 60:.0f} min: validation RMSE {in_words(errors)}"
            f"{' (best)' if better else ''}"
        )
        if better:
            self.best = score
            potential = module.potential
            potential.information["validation_rmse"] = errors
            potential.information["steps"] = trainer.global_step
            checkpoint.save(potential, self.output / BEST)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best score so far."""
        self.best = state_dict["best"]


class ExponentialAverage:
    """Moving average of weights whose memory grows with the number of steps up to ``decay``.

    A constant decay would leave the random initial weights in the average for thousands of steps.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def __call__(self, average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        """Average of a tensor after ``count`` earlier updates."""
        decay = min(self.decay, (1 + int(count)) / (10 + int(count)))
        return average.lerp(current, 1 - decay)
