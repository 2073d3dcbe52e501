"""The physics battery on equivariant networks, and the equivariance of every layer."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from pointedge.potentials.checkpoint import architecture
from pointedge.potentials.graph import random_rotations
from pointedge.potentials.potential import Potential

from .. import structures
from . import numerics
from .battery import FRAMES, PotentialBattery, lively
from .numerics import predict

ROUNDING = 1e-12  # of sums of some hundred terms, relative to the layer's largest feature
SMALL = {
    "species": structures.SPECIES,
    "cutoff": 3.5,
    "num_layers": 2,
    "num_basis": 4,
    "radial_width": 8,
    "average_neighbors": 10.0,
}
TENSORS = "6x0e + 3x1o + 2x1e + 2x2e + 1x2o"
VARIANTS = {
    "invariant": ("convolution", {"irreps": "8x0e", "lmax": 0}),
    "vectors": ("convolution", {"irreps": "6x0e + 4x1o", "lmax": 1}),
    "tensors": ("convolution", {"irreps": TENSORS, "lmax": 2, "num_layers": 4}),
    "nequip": ("nequip", {"irreps": "4x0e + 3x1o + 2x2e", "lmax": 2, "embedding_width": 5}),
    "pseudoscalars": ("nequip", {"irreps": "4x0e + 2x0o + 3x1o + 2x1e", "num_layers": 6}),
    "mace": ("mace", {"irreps": "4x0e + 4x1o", "lmax": 2}),
    "magnetic": ("mace", {"irreps": "4x0e + 4x1o", "lmax": 1, "typical_moment": 1.5}),
    "agnostic": (
        "mace",
        {
            "irreps": "3x0e + 3x1o + 3x2e",
            "lmax": 3,
            "correlation": (2, 3),
            "first_interaction": "agnostic",
        },
    ),
}


@cache
def variant(name: str) -> Potential:
    kind, changes = VARIANTS[name]
    with torch.random.fork_rng():
        torch.manual_seed(sorted(VARIANTS).index(name))
        network = architecture(kind).from_config({**SMALL, **changes})
    return lively(network, seed=5)


class EquivariantBattery(PotentialBattery):
    name = ""
    invariant = True
    width = 3.5  # the envelope falls all along ...
    inward = 1.5  # ... and is below a hundredth in the last half Å

    @pytest.fixture
    def potential(self):
        return variant(self.name)


class TestInvariant(EquivariantBattery):
    name = "invariant"


class TestVectors(EquivariantBattery):
    name = "vectors"


class TestTensors(EquivariantBattery):
    name = "tensors"


class TestNequIP(EquivariantBattery):
    name = "nequip"


class TestPseudoscalars(EquivariantBattery):
    name = "pseudoscalars"


class TestMACE(EquivariantBattery):
    name = "mace"


class TestMagneticMACE(EquivariantBattery):
    name = "magnetic"


class TestAgnosticMACE(EquivariantBattery):
    name = "agnostic"


@pytest.mark.parametrize("name", VARIANTS)
def test_an_unknown_species_is_refused(name):
    for atom in (0, -1):
        atoms = FRAMES["TTF"].copy()
        atoms.numbers[atom] = 79
        with pytest.raises((IndexError, RuntimeError)):
            predict(variant(name), atoms)


@torch.no_grad()
def features(network, graph):
    """Of all stages, atoms in the order of the graph."""
    stages = {}

    def keep(stage, values, atoms):
        order = torch.argsort(atoms)
        stages[stage] = {irrep: value[order] for irrep, value in values.items()}
        return values

    network(graph, graph.edge_vectors(), keep)
    return stages


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("frame", FRAMES)
def test_every_irrep_of_every_layer_turns(name, frame):
    """By the matrix that its harmonics turn by, with the sign of its parity under inversion."""
    network = variant(name).network
    graph = numerics.graph_of(variant(name), FRAMES[frame])
    before = features(network, graph)
    assert len(before) >= network.config.num_layers
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(64, 3, dtype=torch.float64, generator=generator)
    points = points / points.norm(dim=1, keepdim=True)
    for turn in random_rotations(4, generator=generator):
        sign = torch.linalg.det(turn).round()
        after = features(network, graph.rotated(turn[None]))
        degrees = [network.tables.harmonics(x) for x in (points, sign * points @ turn)]
        for stage, old in before.items():
            largest = max(value.abs().max() for value in old.values())
            for irrep, value in old.items():
                matrix = torch.linalg.lstsq(degrees[0][irrep.l], degrees[1][irrep.l]).solution.T
                expected = matrix @ value * (sign if irrep.p < 0 else 1)
                error = (after[stage][irrep] - expected).abs().max() / largest
                assert error < ROUNDING, f"{irrep} of {stage}"
