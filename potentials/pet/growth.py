"""A larger PET that begins where a trained one ended: the same energies, but for rounding.

What adds to features may begin with adding nothing (Net2Net, arXiv 1511.05641): new transformer
layers start with outputs of zero, and new hidden units of their MLPs with weights of zero to what
follows. Otherwise both are random, as in a new network.
"""

from __future__ import annotations

import torch
from torch import nn

from .config import PETConfig
from .model import PET
from .transformer import FeedForward, TransformerLayer

SIZES = ("num_attention_layers", "d_feedforward")  # that can grow


def larger(network: PET, sizes: dict[str, int]) -> PET:
    """A PET with more transformer layers per message-passing layer, or wider MLPs in them.

    Args:
        network: trained; it is left as it is.
        sizes: new values of the settings in ``SIZES``.

    Raises:
        ValueError: a value is smaller than the network's, or its transformers cannot begin with an
            identity.
    """
    old = network.to_config()
    config = PETConfig.from_dict({**old, **sizes})
    for name, size in sizes.items():
        if size < old[name]:
            raise ValueError(f"{name} = {size}, but it was {old[name]}, and can only grow.")
    deeper = config.num_attention_layers > network.config.num_attention_layers
    if deeper and not _additive(network):
        raise ValueError(
            "num_attention_layers can grow where a layer adds to nodes and edges (transformer_type"
            " 'preln' and d_node other than d_pet), which those of this network do not."
        )
    grown = PET(config).to(network.edge_embedder.weight).train(network.training)
    known, state = dict(network.named_modules()), grown.state_dict()
    with torch.no_grad():
        for name, module in grown.named_modules():
            if isinstance(module, TransformerLayer) and name not in known:
                _silence(module)
            elif isinstance(module, FeedForward) and name in known:
                _take(module, known[name])
    same = {n: w for n, w in network.state_dict().items() if w.shape == state[n].shape}
    grown.load_state_dict(same, strict=False)
    return grown


def _additive(network: PET) -> bool:
    return all(
        layer.pre_norm and layer.expanded
        for layer in network.modules()
        if isinstance(layer, TransformerLayer)
    )


def _silence(layer: TransformerLayer) -> None:
    """Let a layer add nothing to nodes and edges."""
    for last in (
        layer.attention.output_linear,
        layer.mlp.w_out,
        layer.center_expansion,
        layer.center_mlp.w_out,
    ):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


def _take(wide: FeedForward, narrow: nn.Module) -> None:
    """Give an MLP the hidden units of a narrower one, and let the others add nothing."""
    assert isinstance(narrow, FeedForward)
    hidden, parts = narrow.w_out.in_features, 2 if wide.gated else 1  # values, gates
    for new, old in zip(wide.w_in.parameters(), narrow.w_in.parameters(), strict=True):
        new.unflatten(0, (parts, -1))[:, :hidden] = old.unflatten(0, (parts, -1))
    wide.w_out.weight[:, hidden:] = 0
    wide.w_out.weight[:, :hidden] = narrow.w_out.weight
    wide.w_out.bias.copy_(narrow.w_out.bias)
