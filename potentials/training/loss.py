"""The loss: weighted mean squared errors of energy per atom, forces and stress."""

from __future__ import annotations

import torch
from torch import Tensor

from ..potential import Prediction
from .config import Loss
from .data import Batch


def residuals(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
    """Errors of all labels that exist, flat: energy per atom, force and stress components.

    Energies are compared per structure and divided by its number of atoms, eV; forces in eV/Å;
    stresses in eV/Å³ (only where predicted).
    """
    atoms = torch.bincount(batch.graph.structure, minlength=batch.graph.num_structures)
    energy = (prediction.energy + prediction.baseline - batch.energy) / atoms
    errors = {"energy": energy}
    if prediction.forces is not None:
        errors["forces"] = prediction.forces - batch.forces
    if prediction.strain_gradient is not None:
        volume = batch.graph.volume()[:, None, None]
        errors["stress"] = prediction.virial / volume - batch.stress
    return {name: error[~torch.isnan(error)] for name, error in errors.items()}


def weighted_loss(errors: dict[str, Tensor], weights: Loss) -> Tensor:
    """Sum of weight × mean squared error over the labels of a batch; a scalar."""
    terms = [
        getattr(weights, name) * error.square().mean()
        for name, error in errors.items()
        if error.numel() and getattr(weights, name) > 0
    ]
    if not terms:
        raise ValueError("no frame of this batch has a label that the loss asks for.")
    return torch.stack(terms).sum()
