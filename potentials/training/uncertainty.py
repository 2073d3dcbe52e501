"""Uncertainties of a trained potential, from the frames that it was trained on and others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import torch
from torch import Tensor

from ..calibration import Calibration
from ..graph import Graph
from ..potential import Potential
from ..rigidity import Rigidity


def fit_rigidity(
    potential: Potential,
    training: Iterable[Graph],
    validation: Iterable[tuple[Graph, Tensor]],
) -> Calibration:
    """Give a potential uncertainties of its energies; ``potential.information`` says how good.

    Args:
        potential: with a network that has ``last_layer_features``, such as PET.
        training: batches of the structures that its weights were fitted to.
        validation: batches of others, and their energies (B,) in eV; NaN for none.

    Returns:
        How well standard deviations fit, in meV/atom.

    Raises:
        ValueError: the network has no such features, or there is too little to calibrate with.
    """
    refuse_unknown(potential)
    means = torch.cat([potential.mean_features(graph) for graph in training])
    features, errors = [], []
    for graph, energy in validation:
        found = potential(graph, forces=False)
        known = ~torch.isnan(energy)
        difference = found.energy + found.baseline - energy
        atoms = torch.bincount(graph.structure, minlength=graph.num_structures)
        errors.append((difference / atoms)[known])
        features.append(potential.mean_features(graph)[known])
    rigidity = Rigidity(means.shape[1]).to(means.device)
    calibration = rigidity.fit(means, torch.cat(features), torch.cat(errors))
    potential.rigidity = rigidity
    potential.information["uncertainty"] = asdict(calibration)
    return calibration


def refuse_unknown(potential: Potential) -> None:
    """Refuse a potential that no uncertainty can be given, by a ValueError."""
    network = potential.network
    if not hasattr(network, "last_layer_features") or "energy" not in potential.properties:
        raise ValueError(
            f"the uncertainty of a {type(network).__name__} is not known: it has no energy that is "
            "linear in the weights of a last layer; PET and MACE have."
        )


def refuse_few(energies: int) -> None:
    """Refuse to calibrate with fewer than two energies, by a ValueError."""
    if energies < 2:
        raise ValueError(
            f"{energies} energies cannot calibrate uncertainties; give two validation frames with "
            "energies, or more."
        )
