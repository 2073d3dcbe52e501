"""The mean of the weights of several models, which is often better than each of them.

Models that were fine-tuned from one and the same lie on the slopes of one valley of the loss, and
their mean nearer to its floor (model soups, Wortsman et al., ICML 2022, arXiv:2203.05482). Energies
may be off by a constant for each species, which a baseline that is fitted again takes away.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from ..checkpoint import name_of
from ..potential import Potential


def mean_of(potentials: Sequence[Potential], names: Sequence[str]) -> Potential:
    """A potential with the mean of the weights, baselines and scales of others.

    Args:
        potentials: of equal architecture, settings and species.
        names: what messages call them.

    Raises:
        ValueError: they differ in more than weights, or in type.
    """
    first = _kind(potentials[0])
    for potential, name in zip(potentials, names, strict=True):
        for what, value in _kind(potential).items():
            if value != first[what]:
                raise ValueError(
                    f"start_from: {names[0]} and {name} differ in their {what}, and have no mean; "
                    "give models that were trained on from one and the same."
                )
    result = copy.deepcopy(potentials[0])
    result.auxiliary = result.rigidity = None  # what was fitted to each is not the mean's
    states = [potential.state_dict() for potential in potentials]
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in result.state_dict().items()
    }
    result.load_state_dict(mean)
    return result


def _kind(potential: Potential) -> dict[str, Any]:
    """What has to be equal."""
    return {
        "architecture": name_of(potential.network),
        "settings": potential.network.to_config(),  # type: ignore[operator]
        "repulsion": potential.zbl is not None,
        "type": potential.dtype,
    }
