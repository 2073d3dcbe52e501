"""The optimiser's groups: what decays, and how fast each layer of a network learns."""

from __future__ import annotations

from typing import Any

from torch import nn

from .settings import Optimization


def parameter_groups(
    network: nn.Module, settings: Optimization, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Groups of the trained parameters for AdamW; "factor" is on the learning rate.

    Matrices decay; norms, biases and what belongs to species (embeddings) do not. The factor is
    ``layer_decay`` to the power of :func:`depth`.
    """
    embeddings = {id(p) for p in _embeddings(network)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and id(parameter) not in embeddings
        key = (settings.weight_decay if decays else 0.0, layer_decay ** depth(network, name))
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor}
        for (decay, factor), parameters in sorted(
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
