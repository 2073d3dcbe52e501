"""A moving average of weights, which is validated and kept in place of the weights themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class ExponentialAverage:
    """Moving average of weights whose memory grows with the number of steps up to ``decay``.

    A constant decay would leave the random initial weights in the average for thousands of steps.
    (torch's AveragedModel counts its steps on the device, and waits for it in every one.)
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.count = 0
        self.average = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take up the weights of a step; the first ones are the average."""
        decay = min(self.decay, (1 + self.count) / (10 + self.count)) if self.count else 0.0
        get_ema_multi_avg_fn(decay)(self.average, self.parameters, self.count)
        self.count += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Exchange weights and average for the time being."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"average": self.average, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an average."""
        for mine, saved in zip(self.average, state["average"], strict=True):
            mine.copy_(saved)
        self.count = state["count"]

    def _exchange(self) -> None:
        for parameter, average in zip(self.parameters, self.average, strict=True):
            parameter.data, average.data = average.data, parameter.data
