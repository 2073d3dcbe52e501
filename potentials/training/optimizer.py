"""The optimiser: what decays, how fast each layer of a network learns, AdamW or Muon."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .settings import Optimization

# Sides of the matrices that Muon is for; a map of an edge vector, or to an energy, is narrower.
MATRIX = 8
# Of Muon's learning rate to AdamW's. A small PET of water (800 steps, AdamW at 3e-3: 218 meV/Å)
# came to 223 with 1, 196 with 3, and did not learn with 8.
MUON_RATE = 3.0


def optimizer_of(
    network: nn.Module, settings: Optimization, layer_decay: float = 1.0
) -> torch.optim.Optimizer | MuonWithAdamW:
    """The optimiser of a network's trained parameters, see :func:`parameter_groups`.

    Raises:
        ValueError: Muon is asked for, and nothing that is trained is a matrix, or torch lacks it.
    """
    groups = parameter_groups(network, settings, layer_decay)
    if settings.optimizer == "muon":
        return MuonWithAdamW(groups, settings.learning_rate)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


class MuonWithAdamW:
    """Muon for matrices and AdamW for the rest, with the interface of one optimiser.

    Muon makes the momentum of a matrix orthogonal before the step, so that all its directions are
    learned at one pace (Liu et al., arXiv 2502.16982, whose scale of steps is used). The products
    that do so are in bfloat16, in torch's own implementation.
    """

    def __init__(self, groups: list[dict[str, Any]], rate: float) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(
                f"optimization.optimizer is muon, which torch {torch.__version__} does not have"
                " yet; install torch 2.9 or later, or use adamw."
            )
        matrices = [g | {"factor": MUON_RATE * g["factor"]} for g in groups if g["matrices"]]
        if not matrices:
            raise ValueError(
                "optimization.optimizer is muon, and nothing that is trained is a matrix of at "
                f"least {MATRIX} rows and columns; use adamw."
            )
        rest = [group for group in groups if not group["matrices"]]
        self._parts = {
            **({"adamw": torch.optim.AdamW(rest, lr=rate)} if rest else {}),
            "muon": torch.optim.Muon(matrices, lr=rate, adjust_lr_fn="match_rms_adamw"),
        }

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of both, AdamW's first; "lr" is to be the rate of a run times their "factor"."""
        return [group for part in self._parts.values() for group in part.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self._parts.values():
            part.zero_grad()

    def step(self) -> None:
        """One step of both."""
        for part in self._parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Momenta and squares, by optimiser."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])


def parameter_groups(
    network: nn.Module, settings: Optimization, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Groups of the trained parameters; "factor" is on the learning rate, "matrices" is for Muon.

    Matrices decay; norms, biases and what belongs to species (embeddings) do not. The factor is
    ``layer_decay`` to the power of :func:`depth`.
    """
    embeddings = {id(p) for p in _embeddings(network)}
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and id(parameter) not in embeddings
        matrix = decays and parameter.ndim == 2 and min(parameter.shape) >= MATRIX
        decay = settings.weight_decay if decays else 0.0
        key = (decay, layer_decay ** depth(network, name), settings.optimizer == "muon" and matrix)
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor, "matrices": matrices}
        for (decay, factor, matrices), parameters in sorted(
            groups.items(), key=lambda item: item[0], reverse=True
        )
    ]


def depth(network: Any, name: str) -> int:
    """How far a parameter is from the output: 0 for heads, 1 for the last layer, and so on.

    Embeddings and whatever belongs to no layer come before the first one.
    """
    first, *rest = name.split(".")
    if first in network.HEADS:
        return 0
    layers = max(len(getattr(network, part)) for part in network.LAYERS if hasattr(network, part))
    return layers - int(rest[0]) if first in network.LAYERS else layers + 1


def _embeddings(network: nn.Module) -> list[nn.Parameter]:
    """Vectors of species or charges, of whatever name; parametrised ones are of a module too."""
    found = [p for m in network.modules() if isinstance(m, nn.Embedding) for p in m.parameters()]
    return found + [p for n, p in network.named_parameters() if n.split(".")[-1] == "embedding"]
