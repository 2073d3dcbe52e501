"""Adaptive cutoffs against a bisection in plain python."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.potentials.cutoff import bump
from pointedge.potentials.graph import Graph
from pointedge.potentials.pet import PETConfig
from pointedge.potentials.pet.adaptive import adaptive_cutoffs
from pointedge.potentials.potential import edge_forces

from .. import structures
from ..networks import tiny_pet

LARGEST = 4.0


def config(target=8.0, method="solver", width=1.0):
    return PETConfig(
        species=structures.SPECIES,
        cutoff=LARGEST,
        num_neighbors_adaptive=target,
        adaptive_cutoff_method=method,
        cutoff_width_adaptive=width,
        d_pet=8,
    )


def environments():
    """Graph and distances of all structures, and of an atom alone."""
    frames = [*structures.patterns().values(), *structures.awkward().values()]
    graph = Graph.from_atoms([*frames, structures.isolated_atom()], LARGEST)
    return graph, graph.edge_vectors().norm(dim=1)


def plain_bump(r, cutoff, width):
    s = (r - (cutoff - width)) / width
    if s <= 0:
        return 1.0
    return 0.0 if s >= 1 else 0.5 * (1 + math.tanh(1 / math.tan(math.pi * s)))


def plain_root(distances, target, width, largest=LARGEST):
    """Sixty bisections of the count of neighbours plus K (r/R)³ equal to K."""
    low, high = 0.0, largest
    for _ in range(60):
        middle = 0.5 * (low + high)
        count = sum(plain_bump(d, middle, width) for d in distances)
        if count + target * (middle / largest) ** 3 < target:
            low = middle
        else:
            high = middle
    return high


@pytest.mark.parametrize(("target", "width"), [(8.0, 1.0), (2.0, 0.5), (30.0, 2.0)])
def test_solver_against_bisection(target, width):
    graph, distances = environments()
    radii = adaptive_cutoffs(config(target, width=width), graph.centers, distances, graph.num_atoms)
    expected = [
        max(plain_root(distances[graph.centers == i].tolist(), target, width), LARGEST / 16)
        for i in range(graph.num_atoms)
    ]
    torch.testing.assert_close(
        radii, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-11
    )
    assert radii.min() < 0.9 * LARGEST


def test_plateaus_do_not_send_newton_from_end_to_end():
    """With K/2 neighbours at half the radius a step ends at all of it, and the next one back."""
    distances = torch.tensor([1.09] * 4 + [5.6, 5.7, 5.8, 5.9, 6.0, 6.1, 6.2, 6.3]).double()
    settings = dataclasses.replace(config(8.0), cutoff=7.5)
    centers = torch.zeros(len(distances), dtype=torch.int64)
    found = adaptive_cutoffs(settings, centers, distances, 1).item()
    assert found == pytest.approx(plain_root(distances.tolist(), 8.0, 1.0, 7.5), abs=1e-11)
    assert 5.5 < found < 7.0


@pytest.mark.parametrize("method", ["solver", "grid"])
def test_gradient_is_the_finite_difference(method):
    graph, distances = environments()

    def radii(d):
        return adaptive_cutoffs(config(method=method), graph.centers, d, graph.num_atoms)

    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(graph.num_atoms, dtype=torch.float64, generator=generator)
    direction = torch.randn(len(distances), dtype=torch.float64, generator=generator)
    leaf = distances.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((radii(leaf) * weights).sum(), leaf)
    exact = (gradient * direction).sum()
    errors = []
    for step in (1e-4, 3e-5, 3e-4):
        value = {
            k: (radii(distances + k * step * direction) * weights).sum() for k in (-2, -1, 1, 2)
        }
        numeric = (value[-2] - 8 * value[-1] + 8 * value[1] - value[2]) / (12 * step)
        errors.append(float((numeric - exact).abs() / exact.abs()))
    assert min(errors) <= 1e-7, errors


def test_gradient_is_that_of_the_implicit_function():
    """dR/dr_j = -f'(r_j) / (dN/dR) at the root, for many environments and to rounding.

    A solver that stops near the root has the right radius after its last Newton step, but takes
    the slope beside the root, and forces are wrong by as much.
    """
    num_atoms, count, target, width = 3000, 12, 8.0, 1.0
    generator = torch.Generator().manual_seed(4)
    uniform = torch.rand(num_atoms * count, dtype=torch.float64, generator=generator)
    distances = (0.8**3 + uniform * (LARGEST**3 - 0.8**3)) ** (1 / 3)
    centers = torch.arange(num_atoms).repeat_interleave(count)
    leaf = distances.clone().requires_grad_()
    radii = adaptive_cutoffs(config(target, width=width), centers, leaf, num_atoms)
    (gradient,) = torch.autograd.grad(radii.sum(), leaf)
    root = radii.detach()
    edge_root = root[centers].requires_grad_()
    (rise,) = torch.autograd.grad(bump(distances, edge_root, width).sum(), edge_root)
    slope = 3 * target * root**2 / LARGEST**3
    slope = slope.index_add(0, centers, rise)
    assert (gradient - rise / slope[centers]).abs().max() <= 1e-13 * gradient.abs().max()


@pytest.mark.parametrize("method", ["solver", "grid"])
def test_radii_of_atoms_do_not_depend_on_the_batch(method):
    graph, distances = environments()
    together = adaptive_cutoffs(config(method=method), graph.centers, distances, graph.num_atoms)
    for i in range(graph.num_atoms):
        mine = distances[graph.centers == i]
        alone = adaptive_cutoffs(config(method=method), torch.zeros_like(mine).long(), mine, 1)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-12)


def test_no_neighbours_means_the_largest_radius():
    none = torch.zeros(0, dtype=torch.int64)
    for dtype in (torch.float32, torch.float64):
        radii = adaptive_cutoffs(config(), none, torch.zeros(0, dtype=dtype), 3)
        assert radii.dtype == dtype
        torch.testing.assert_close(radii, torch.full((3,), LARGEST, dtype=dtype))
    graph, distances = environments()
    assert adaptive_cutoffs(config(), graph.centers, distances, graph.num_atoms)[-1] == LARGEST


def test_grid_stays_below_the_largest_radius():
    none = torch.zeros(0, dtype=torch.int64)
    radii = adaptive_cutoffs(config(method="grid"), none, torch.zeros(0, dtype=torch.float64), 2)
    assert torch.isfinite(radii).all()
    assert ((radii > 0.8 * LARGEST) & (radii <= LARGEST)).all()


def test_more_neighbours_shrink_the_radius():
    radii = []
    for count in (1, 4, 16, 64, 1000):
        distances = torch.linspace(1, 3.9, count, dtype=torch.float64)
        centers = torch.zeros(count, dtype=torch.int64)
        radii.append(float(adaptive_cutoffs(config(), centers, distances, 1)))
    assert radii == sorted(radii, reverse=True)
    assert LARGEST / 16 <= radii[-1] < radii[0] <= LARGEST


def test_float32_is_close_to_float64():
    graph, distances = environments()
    double = adaptive_cutoffs(config(), graph.centers, distances, graph.num_atoms)
    single = adaptive_cutoffs(config(), graph.centers, distances.float(), graph.num_atoms)
    assert single.dtype == torch.float32
    # The root answers to a neighbour's rounding by at most about that rounding.
    eps = torch.finfo(torch.float32).eps
    assert (single.double() - double).abs().max() <= 30 * LARGEST * eps


@pytest.mark.parametrize("featurizer", ["residual", "feedforward"])
@pytest.mark.parametrize("target", [None, 2.0])
@pytest.mark.parametrize("layers", [1, 2])
def test_hops_reach_the_last_atom_that_an_energy_depends_on(featurizer, target, layers):
    """A chain whose atoms see only the next ones: atom 0 depends on atoms up to ``hops``."""
    network = tiny_pet(
        0,
        species=(8,),
        cutoff=2.0,
        featurizer=featurizer,
        num_gnn_layers=layers,
        num_neighbors_adaptive=target,
    )
    sideways = 0.3 * np.random.default_rng(0).normal(size=(8, 2))
    chain = Atoms("O8", positions=np.c_[1.3 * np.arange(8), sideways])
    graph = Graph.from_atoms(chain, network.cutoff)
    vectors = graph.edge_vectors().requires_grad_()
    (gradient,) = torch.autograd.grad(network(graph, vectors)["energy"][0], vectors)
    felt = edge_forces(gradient, graph).abs().sum(dim=1)
    assert int(felt.nonzero().max()) == network.hops
