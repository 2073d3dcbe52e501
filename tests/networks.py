"""A PET as small as can be, which tests of many folders share."""

from __future__ import annotations

import torch

from pointedge.potentials.pet import PET, PETConfig

TINY = {
    "d_pet": 8,
    "d_node": 12,
    "d_head": 8,
    "d_feedforward": 8,
    "num_heads": 2,
    "num_attention_layers": 1,
}


def tiny_pet(seed: int, **settings) -> PET:
    """With random weights, in float64; settings name at least the species."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PET(PETConfig(**{**TINY, **settings})).to(torch.float64)
