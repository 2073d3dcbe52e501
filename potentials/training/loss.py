"""The loss: squared errors of energy per atom, forces and more, relative to running means."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..potential import Prediction
from .config import Loss
from .data import LABELS, Batch


def residuals(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
    """Errors of all labels that exist, flat: energy per atom, force and stress components.

    Energies are compared per structure and divided by its number of atoms, eV; forces in eV/Å;
    stresses in eV/Å³; dipoles and polarizabilities of whole structures (all only where predicted).
    """
    atoms = torch.bincount(batch.graph.structure, minlength=batch.graph.num_structures)
    energy = (prediction.energy + prediction.baseline - batch.energy) / atoms
    errors = {"energy": energy}
    if prediction.forces is not None:
        errors["forces"] = prediction.forces - batch.forces
    if prediction.strain_gradient is not None:
        volume = batch.graph.volume()[:, None, None]
        errors["stress"] = prediction.virial / volume - batch.stress
    for name, value in prediction.moments.items():
        errors[name] = value - getattr(batch, name)
    return {name: error[~torch.isnan(error)] for name, error in errors.items()}


class SlidingLoss(nn.Module):
    """Sum of weight × mean squared error / running mean of that error.

    Attributes:
        running: running mean squared errors, one for each of LABELS; 0 before the first.
    """

    def __init__(self, settings: Loss) -> None:
        super().__init__()
        self.weights = [getattr(settings, name) for name in LABELS]
        self.memory = settings.memory
        self.running: Tensor
        self.register_buffer("running", torch.zeros(len(LABELS), dtype=torch.float64))

    def forward(self, errors: dict[str, Tensor]) -> Tensor:
        """Loss of a batch's errors by label, a scalar; updates the running means."""
        terms = []
        for k, name in enumerate(LABELS):
            if self.weights[k] == 0 or name not in errors or not errors[name].numel():
                continue
            squared = errors[name].square().mean()
            mean = self._slide(k, squared.detach())
            terms.append(self.weights[k] * squared / mean)
        if not terms:
            raise ValueError("no frame of this batch has a label that the loss asks for.")
        return torch.stack(terms).sum()

    def score(self, rmse: dict[str, float]) -> float:
        """Weighted sum of ln RMSE; lower is better, and units do not matter."""
        weights = dict(zip(LABELS, self.weights, strict=True))
        return sum(weights[name] * math.log(error) for name, error in rmse.items())

    def _slide(self, k: int, squared: Tensor) -> Tensor:
        old = self.running[k]
        new = torch.where(old > 0, self.memory * old + (1 - self.memory) * squared, squared)
        self.running[k] = new
        return new.clamp(min=torch.finfo(new.dtype).tiny)
