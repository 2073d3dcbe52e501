"""Small networks that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pointedge.potentials.pet import PET
from pointedge.potentials.potential import Potential

from .. import structures
from ..networks import TINY
from ..physics.battery import lively

INFORMATION = {"name": "test", "errors": {"forces": 1.5}, "data": {"sha256": "ab" * 32}}
SETTINGS = {"species": (1, 6, 8, 14), "cutoff": 3.5, "d_pet": 8, "d_node": 12, "num_heads": 2}
SMALL = {"d_head": 8, "d_feedforward": 8, "num_attention_layers": 1, "num_gnn_layers": 1}


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


@pytest.fixture
def potential() -> Potential:
    """A float32 PET with baseline, scale and repulsion."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = PET.from_config({**SETTINGS, **SMALL})
    baseline = {1: -13.6, 6: -1029.123456789, 8: -2042.1, 14: -7875.0}
    return Potential(network, baseline, scale=0.37, repulsion=True, information=INFORMATION)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a checkpoint may be written."""
    return tmp_path / "model.safetensors"
