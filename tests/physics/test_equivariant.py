"""The physics battery on equivariant networks, and the equivariance of every layer."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from pointedge.potentials.equivariant.convolution import ConvolutionConfig, EquivariantConvolution
from pointedge.potentials.graph import Graph, random_rotations
from pointedge.potentials.potential import Potential

from .. import structures
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
VARIANTS = {
    "invariant": {"irreps": "8x0e", "lmax": 0},
    "vectors": {"irreps": "6x0e + 4x1o", "lmax": 1},
    "tensors": {"irreps": "6x0e + 2x0o + 3x1o + 2x1e + 2x2e + 1x2o", "lmax": 2, "num_layers": 3},
}


@cache
def variant(name: str) -> Potential:
    with torch.random.fork_rng():
        torch.manual_seed(sorted(VARIANTS).index(name))
        network = EquivariantConvolution(ConvolutionConfig(**{**SMALL, **VARIANTS[name]}))
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


@pytest.mark.parametrize("name", VARIANTS)
def test_an_unknown_species_is_refused(name):
    for atom in (0, -1):
        atoms = FRAMES["TTF"].copy()
        atoms.numbers[atom] = 79
        with pytest.raises((IndexError, RuntimeError)):
            predict(variant(name), atoms)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("frame", FRAMES)
@torch.no_grad()
def test_every_irrep_of_every_layer_turns(name, frame):
    """By the matrix that its harmonics turn by, with the sign of its parity under inversion."""
    network = variant(name).network
    graph = Graph.from_atoms(FRAMES[frame], network.cutoff)
    before = network.features(graph, graph.edge_vectors())
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(64, 3, dtype=torch.float64, generator=generator)
    points = points / points.norm(dim=1, keepdim=True)
    for turn in random_rotations(4, generator=generator):
        sign = torch.linalg.det(turn).round()
        turned = graph.rotated(turn[None])
        after = network.features(turned, turned.edge_vectors())
        degrees = [network.tables.harmonics(x) for x in (points, sign * points @ turn)]
        for layer, (old, new) in enumerate(zip(before, after, strict=True)):
            largest = max(value.abs().max() for value in old.values())
            for irrep, value in old.items():
                matrix = torch.linalg.lstsq(degrees[0][irrep.l], degrees[1][irrep.l]).solution.T
                expected = matrix @ value * (sign if irrep.p < 0 else 1)
                error = (new[irrep] - expected).abs().max() / largest
                assert error < ROUNDING, f"{irrep} of layer {layer}"
