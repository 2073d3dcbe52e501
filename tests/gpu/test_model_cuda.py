"""Potential, calculator and training step on CUDA against the CPU."""

import pytest
import torch

from pointedge.potentials.checkpoint import architecture
from pointedge.potentials.graph import Graph, random_rotations
from pointedge.potentials.layout import Layout
from pointedge.potentials.potential import Potential

from .waits import waits

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def random_graph(cutoff: float, device: str) -> Graph:
    """Two periodic boxes of H, C and O."""
    from pointedge.potentials.neighbors import neighbor_list

    generator = torch.Generator().manual_seed(0)
    positions = 7 * torch.rand(80, 3, dtype=torch.float64, generator=generator)
    cell = 7 * random_rotations(2, generator=generator)
    positions = positions @ cell[0] / 7
    pbc = torch.ones(2, 3, dtype=torch.bool)
    structure = torch.arange(80) // 40
    species = torch.tensor([1, 6, 8, 1]).repeat(20)
    tensors = [t.to(device) for t in (positions, species, cell, pbc, structure)]
    edges = neighbor_list(tensors[0], tensors[2], tensors[3], cutoff, tensors[4])
    return Graph(*tensors, *edges)


SETTINGS = {
    "pet": {"d_pet": 16, "d_node": 24, "num_heads": 2},
    "nequip": {"irreps": "4x0e + 4x1o", "radial_width": 8},
    "mace": {"irreps": "4x0e + 4x1o", "lmax": 2, "radial_width": 8},
}


@pytest.fixture(params=SETTINGS)
def potential(request) -> Potential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = {"species": (1, 6, 8), "cutoff": 3.0, **SETTINGS[request.param]}
        network = architecture(request.param).from_config(config)
        return Potential(network.double(), repulsion=True)


@cuda
def test_predictions_agree_with_the_cpu(potential):
    expected = potential(random_graph(potential.cutoff, "cpu"), virial=True)
    found = potential.to("cuda")(random_graph(potential.cutoff, "cuda"), virial=True)
    for name in ("energies", "forces", "strain_gradient"):
        one, other = getattr(expected, name), getattr(found, name).cpu()
        assert (one - other).abs().max() <= 1e-10 * one.abs().max()


@cuda
def test_the_layout_waits_once():
    graph = random_graph(3.0, "cuda")
    edges = (graph.centers, graph.neighbors, graph.shifts, graph.num_atoms, 1000)
    Layout.build(*edges)
    assert len(waits(Layout.build, *edges)) <= 1


@cuda
def test_weight_gradients_agree_with_the_cpu(potential):
    def gradients(device):
        potential.to(device)
        prediction = potential(random_graph(potential.cutoff, device), create_graph=True)
        loss = prediction.forces.square().mean() + prediction.energy.square().mean()
        weights = list(potential.network.parameters())
        return [g.cpu() for g in torch.autograd.grad(loss, weights)]

    for one, other in zip(gradients("cpu"), gradients("cuda"), strict=True):
        assert (one - other).abs().max() <= 1e-9 * max(one.abs().max().item(), 1.0)
