"""Small networks that the tests of this folder share."""

from __future__ import annotations

import pytest

from pointedge.potentials.pet import PET
from pointedge.potentials.potential import Potential

from .. import structures
from ..physics.battery import lively

TINY = {
    "species": structures.SPECIES,
    "cutoff": 3.5,
    "d_pet": 8,
    "d_node": 12,
    "d_head": 8,
    "d_feedforward": 8,
    "num_heads": 2,
    "num_attention_layers": 1,
}


@pytest.fixture(params=["production", "residual", "adaptive"])
def tiny(request) -> Potential:
    """A float64 PET of random weights; tests may change it."""
    settings = {
        "production": {},
        "residual": {"featurizer": "residual", "transformer_type": "postln", "d_node": None},
        "adaptive": {"num_neighbors_adaptive": 6.0},
    }[request.param]
    return lively(PET.from_config({**TINY, **settings}), seed=23)
