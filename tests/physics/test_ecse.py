"""The physics battery on networks that ECSE has made invariant."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from pointedge.potentials.ecse.model import ECSE
from pointedge.potentials.ecse.scores import ScoreSettings
from pointedge.potentials.ecse.weights import RadiusSettings
from pointedge.potentials.pet import PET, PETConfig
from pointedge.potentials.potential import Potential

from .. import structures
from .battery import PotentialBattery, lively
from .test_pet import PRODUCTION
from .toy import TiltedGas

CUTOFF = 2.8  # Å; every frame of every atom costs its receptive field, some 75 edges here

# The research code's pruning takes effect within some thousandths of an Å, finer than the grids of
# the battery.
GENTLE = RadiusSettings(pruning_rounds=1, pruning=0.4, pruning_width=0.6)


def pet(**changes) -> PET:
    return PET(PETConfig(**{**PRODUCTION, "cutoff": CUTOFF, **changes}))


@cache
def symmetrized(name: str) -> Potential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        backbone = {
            "pet": pet,
            "one-hop": lambda: pet(num_gnn_layers=1, featurizer="residual"),
            "toy": lambda: TiltedGas(structures.SPECIES, cutoff=CUTOFF),
        }[name]()
        auxiliary = pet(edge_input="length", num_gnn_layers=1)
        frames = GENTLE if name == "toy" else ScoreSettings()
        network = ECSE(backbone, frames=frames, auxiliary=auxiliary)
    return lively(network, seed=23)


class ECSEBattery(PotentialBattery):
    name = ""
    invariant = True

    @pytest.fixture
    def potential(self):
        return symmetrized(self.name)


@pytest.mark.slow
class TestPET(ECSEBattery):
    name = "pet"
    # Every point of this path costs thousands of receptive fields; the toy backbone walks it.
    test_a_neighbour_crosses_the_cutoff_in_a_dense_environment = None


@pytest.mark.slow
class TestOneHop(ECSEBattery):
    name = "one-hop"
    test_a_neighbour_crosses_the_cutoff_in_a_dense_environment = None


class TestToy(ECSEBattery):
    """A backbone that is nothing like PET: what ECSE asks of one is all it has."""

    name = "toy"
