"""Small networks that the tests of this folder share."""

from __future__ import annotations

import pytest

from pointedge.potentials.pet import PET
from pointedge.potentials.potential import Potential

from .. import structures
from ..networks import TINY
from ..physics.battery import lively


@pytest.fixture(params=["production", "residual", "adaptive"])
def tiny(request) -> Potential:
    """A float64 PET of random weights; tests may change it."""
    settings = {
        "production": {},
        "residual": {"featurizer": "residual", "transformer_type": "postln", "d_node": None},
        "adaptive": {"num_neighbors_adaptive": 6.0},
    }[request.param]
    network = PET.from_config({"species": structures.SPECIES, "cutoff": 3.5, **TINY, **settings})
    return lively(network, seed=23)
