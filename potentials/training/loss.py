"""The loss: errors of energy per atom, forces and more, weighted and made comparable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..potential import Prediction
from .data import LABELS, Batch
from .settings import Loss


@dataclass(frozen=True)
class Residual:
    """Errors of one label; where it is missing they are 0, as are their gradients of any order.

    Attributes:
        errors: (B or N, ...) prediction minus label, in the label's unit (energies: eV/atom).
        known: of the same shape, where there is a label.
        weight: (B or N,) of the frame that a row belongs to.
    """

    errors: Tensor
    known: Tensor
    weight: Tensor

    def sums(self, penalty: Callable[[Tensor], Tensor] = torch.square) -> Tensor:
        """Weighted sum of the penalties of all components, and the number of components, (2,)."""
        rows = penalty(self.errors).flatten(1).sum(1)
        return torch.stack([(self.weight * rows).sum(), self.known.sum().to(rows.dtype)])


def residuals(
    prediction: Prediction, batch: Batch, labels: Sequence[str] = LABELS
) -> dict[str, Residual]:
    """Errors of ``labels`` as far as they are predicted, without a host synchronisation.

    Energies per atom are of structures, in eV; forces in eV/Å; stresses in eV/Å³; dipoles and
    polarizabilities of whole structures.
    """
    graph = batch.graph
    found = {name: (value, getattr(batch, name)) for name, value in prediction.moments.items()}
    counts = torch.ones_like(graph.positions[:, 0])
    atoms = torch.zeros_like(batch.energy).index_add(0, graph.structure, counts)
    found["energy"] = ((prediction.energy + prediction.baseline) / atoms, batch.energy / atoms)
    if prediction.forces is not None:
        found["forces"] = (prediction.forces, batch.forces)
    if prediction.strain_gradient is not None:
        # A missing stress has no need of a volume, which may be 0 then; 1 / 0 has no gradient.
        known = ~batch.stress.isnan().flatten(1).all(1)
        volume = torch.where(known, graph.volume(), 1.0)[:, None, None]
        found["stress"] = (prediction.virial / volume, batch.stress)
    result = {}
    for name in labels:
        if name in found:
            value, label = found[name]
            known = ~label.isnan()
            errors = torch.where(known, value - label.nan_to_num(), 0.0)
            weight = batch.weight[graph.structure] if name == "forces" else batch.weight
            result[name] = Residual(errors.reshape(len(errors), -1), known, weight)
    return result


def alone(sums: Tensor) -> Tensor:
    """Sums over all ranks, where there is one."""
    return sums


class WeightedLoss(nn.Module):
    """Sum over labels of weight × mean penalty / scale.

    The mean is over all labelled components of a step, on whatever rank they are; frames multiply
    theirs by their weight. What the scale is, ``loss.normalization`` says.

    Args:
        settings: weights, penalties and normalisation.
        reduce: sums a tensor over all ranks. Gradients are averaged over ranks afterwards (as DDP
            does), so that the loss of a rank is its share times their number.

    Attributes:
        scales: (L,) scales of LABELS; 0 before the first error.
        validations: number of validations that entered.
    """

    weights: Tensor
    scales: Tensor
    validations: Tensor

    def __init__(self, settings: Loss, reduce: Callable[[Tensor], Tensor] = alone) -> None:
        super().__init__()
        self.settings = settings
        self.reduce = reduce
        self.labels = settings.labels
        self.penalties = {name: penalty(settings, name) for name in LABELS}
        weights = torch.tensor([getattr(settings, n) for n in LABELS], dtype=torch.float64)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("scales", torch.zeros(len(LABELS), dtype=torch.float64))
        self.register_buffer("validations", torch.zeros((), dtype=torch.int64))

    def forward(self, residuals: dict[str, Residual]) -> Tensor:
        """Loss of a step, a scalar; scales that slide from step to step do so."""
        sums = self.sums(residuals)
        ranks = torch.ones_like(sums[:1])
        everywhere = self.reduce(torch.cat([sums.detach(), ranks]))
        totals, counts = everywhere[:-1].unbind(1)
        means = totals / counts.clamp(min=1)
        if self.settings.normalization == "fixed":
            scales = torch.ones_like(means)
        else:
            self.scales = self._slide(means, counts > 0)
            scales = torch.where(self.scales > 0, self.scales, 1.0)
        share = everywhere[-1, 0] * self.weights / (counts.clamp(min=1) * scales)
        return (share * sums[:, 0]).sum()

    def sums(self, residuals: dict[str, Residual]) -> Tensor:
        """Weighted sums of penalties and numbers of components (L, 2) of LABELS, of one rank."""
        zero = torch.zeros(2, dtype=self.weights.dtype, device=self.weights.device)
        return torch.stack(
            [
                residuals[name].sums(self.penalties[name]) if name in residuals else zero
                for name in LABELS
            ]
        )

    def validated(self, sums: Tensor) -> None:
        """Let the scales follow validation errors: sums (L, 2) over all frames and ranks.

        Roots slide, s ← m s + (1 - m) s_validation, after every validation (arXiv 2305.19302).
        """
        if self.settings.normalization != "sliding_epoch":
            return
        new = (sums[:, 0] / sums[:, 1].clamp(min=1)).sqrt()
        memory = self.settings.epoch_memory
        slid = (memory * self.scales.sqrt() + (1 - memory) * new).square()
        slid = torch.where(self.validations > 0, slid, new.square())
        self.scales = torch.where(sums[:, 1] > 0, slid, self.scales)
        self.validations = self.validations + 1

    def score(self, rmse: dict[str, float]) -> float:
        """Sum of ln RMSE; lower is better, and units do not matter.

        Weighted as the loss is, unless these weights have units.
        """
        units = self.settings.normalization == "fixed"
        smallest = torch.finfo(torch.float64).tiny
        return sum(
            (1.0 if units else getattr(self.settings, name)) * math.log(max(rmse[name], smallest))
            for name in self.labels
            if name in rmse
        )

    def _slide(self, means: Tensor, present: Tensor) -> Tensor:
        """Running means of the penalties; between validations those of ``sliding_epoch`` rest."""
        memory, old = self.settings.memory, self.scales
        new = torch.where(old > 0, memory * old + (1 - memory) * means, means)
        return torch.where(present & (self.validations == 0), new, old)


def penalty(settings: Loss, name: str) -> Callable[[Tensor], Tensor]:
    """What an error of a label counts: x², |x|, or Huber's x²/2 up to δ and δ(|x| - δ/2) beyond."""
    kind = getattr(settings.kind, name)
    if kind == "squared":
        return torch.square
    if kind == "absolute":
        return torch.abs
    delta = getattr(settings.huber_delta, name)
    return lambda errors: F.huber_loss(
        errors, torch.zeros_like(errors), reduction="none", delta=delta
    )
