"""How far a run is, and what follows from it: the learning rate, validations, and the end."""

from __future__ import annotations

import math
from typing import Any

from .batching import BatchSampler, Counts
from .settings import Optimization

COUNTERS = ("epoch", "step", "steps", "seconds", "validated", "best")


class Schedule:
    """The way of a run, by epochs or by time, and where on it the run is.

    Args:
        settings: its length, warm-up and learning rate, and how often it is validated.
        sampler: tells the number of steps of an epoch; batches of so many atoms differ in it.

    Attributes:
        epoch: number of epochs done.
        step: number of steps done in this epoch.
        steps: number of steps done in all.
        seconds: spent so far, over all resumed parts.
        validated: number of steps at the last validation.
        best: best score of a validation so far.
    """

    def __init__(self, settings: Optimization, sampler: BatchSampler) -> None:
        self.settings, self.sampler = settings, sampler
        self.epoch = self.step = self.steps = self.validated = 0
        self.seconds = 0.0
        self.best = float("inf")

    def __str__(self) -> str:
        return f"epoch {self.epochs:.4g} of {self.settings.max_epochs}, step {self.steps}"

    @property
    def epochs(self) -> float:
        """Number of epochs done, with the part of this one."""
        return self.epoch + self.step / len(self.sampler.batches(self.epoch))

    @property
    def progress(self) -> float:
        """How much is done, 0 to 1, by steps or by time."""
        hours = self.settings.max_hours
        spent = 0.0 if hours is None else self.seconds / 3600 / hours
        return min(1.0, max(self.epochs / self.settings.max_epochs, spent))

    @property
    def due(self) -> bool:
        """Whether a validation comes next: at the end in any case."""
        end = self.step == 0 and self.epoch % self.settings.validate_every == 0
        return (end or self.progress >= 1) and self.validated != self.steps

    @property
    def unfinished(self) -> bool:
        """Whether there is a step or a validation to come."""
        return self.due or self.progress < 1

    @property
    def learning_rate(self) -> float:
        """The peak's share at this progress, for the next step; see :func:`learning_rate`."""
        settings = self.settings
        return learning_rate(self.progress, settings.learning_rate, settings.warmup_fraction)

    @property
    def batch(self) -> Counts:
        """Indices of the frames of the next step, over all ranks."""
        return self.sampler.batches(self.epoch)[self.step]

    def advance(self) -> None:
        """Count a step."""
        self.steps += 1
        self.step += 1
        if self.step == len(self.sampler.batches(self.epoch)):
            self.epoch, self.step = self.epoch + 1, 0

    def summary(self) -> dict[str, float]:
        """Epochs and steps done, and hours spent in them."""
        return {"epochs": self.epochs, "steps": self.steps, "hours": self.seconds / 3600}

    def state_dict(self) -> dict[str, Any]:
        """All that decides where the run is."""
        return {name: getattr(self, name) for name in COUNTERS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name in COUNTERS:
            setattr(self, name, state[name])


def learning_rate(progress: float, peak: float, warmup: float) -> float:
    """Linear warm-up to ``peak``, then a cosine to zero; ``progress`` runs from 0 to 1.

    The first step already has a part of the peak: a rate of zero would waste it.
    """
    if progress < warmup:
        return peak * (0.01 + 0.99 * progress / warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
