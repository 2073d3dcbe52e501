"""ZBL repulsion against its formula."""

import itertools
import math

import numpy as np
import pytest
import torch
from ase.data import covalent_radii

from pointedge.potentials.graph import Graph
from pointedge.potentials.zbl import ZBL

from .. import structures

SPECIES = (1, 6, 8, 14)
PAIRS = list(itertools.combinations_with_replacement(SPECIES, 2))
EVERY_PAIR = pytest.mark.parametrize("pair", PAIRS, ids=str)


def screened(zi, zj, r):
    """The universal potential of Ziegler, Biersack and Littmark, eV, as LAMMPS documents it."""
    x = r * (zi**0.23 + zj**0.23) / 0.46850
    phi = (
        0.18175 * math.exp(-3.19980 * x)
        + 0.50986 * math.exp(-0.94229 * x)
        + 0.28022 * math.exp(-0.40290 * x)
        + 0.02817 * math.exp(-0.20162 * x)
    )
    return 14.399645478425668 * zi * zj * phi / r


def energies(pair, distances, order=0):
    """Pair energy (eV) at each distance and its derivatives, both directions summed."""
    r = torch.as_tensor(distances, dtype=torch.float64).clone().requires_grad_()
    n = len(r)
    species = torch.tensor(pair).repeat(n)
    first = 2 * torch.arange(n)
    centers, neighbors = torch.cat([first, first + 1]), torch.cat([first + 1, first])
    direction = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    vectors = torch.cat([r[:, None] * direction, -r[:, None] * direction])
    per_atom = ZBL(SPECIES)(species, centers, neighbors, vectors)
    # Both atoms have half of the energy (to rounding: Z_i Z_j is multiplied in either order).
    torch.testing.assert_close(per_atom[::2], per_atom[1::2], rtol=1e-14, atol=1e-11)
    values = [per_atom.view(n, 2).sum(1)]
    for _ in range(order):
        values.append(torch.autograd.grad(values[-1].sum(), r, create_graph=True)[0])
    return [v.detach().numpy() for v in values]


def radius_of(pair):
    return covalent_radii[pair[0]] + covalent_radii[pair[1]]


@EVERY_PAIR
def test_screened_coulomb_plus_a_polynomial(pair):
    """E(r) = e(r) + A r³/3 + B r⁴/4 + C with E = E' = E'' = 0 at the radius."""
    end = radius_of(pair)
    h = 1e-3
    e = {k: screened(*pair, end + k * h) for k in range(-3, 4)}
    slope = (45 * (e[1] - e[-1]) - 9 * (e[2] - e[-2]) + e[3] - e[-3]) / (60 * h)
    curvature = (270 * (e[1] + e[-1]) - 27 * (e[2] + e[-2]) + 2 * (e[3] + e[-3]) - 490 * e[0]) / (
        180 * h**2
    )
    system = np.array([[end**3 / 3, end**4 / 4, 1], [end**2, end**3, 0], [2 * end, 3 * end**2, 0]])
    a, b, c = np.linalg.solve(system, [-e[0], -slope, -curvature])
    distances = np.linspace(0.02, end - 1e-6, 60)
    expected = [screened(*pair, r) + a * r**3 / 3 + b * r**4 / 4 + c for r in distances]
    # The polynomial of this twin comes from finite differences, good to about 1e-8 eV/Å².
    np.testing.assert_allclose(energies(pair, distances)[0], expected, rtol=1e-9, atol=1e-7)


@EVERY_PAIR
def test_smooth_at_the_radius_of_the_pair(pair):
    end = radius_of(pair)
    inside = energies(pair, [end - 1e-5, end - 2e-5], order=2)
    outside = energies(pair, [end, end + 1e-9, end + 0.5], order=2)
    assert all(not derivative.any() for derivative in outside)
    # Energy, slope and curvature vanish as the third, second and first power of the way to go.
    third = energies(pair, [end - 1e-5], order=3)
    third = abs(third[3][0])
    rounding = 1e-12 * screened(*pair, 0.5 * end)
    for order in range(3):
        power = 3 - order
        bound = 2 * third * 1e-5**power / math.factorial(power) + rounding / end**order
        assert abs(inside[order][0]) <= bound
    assert abs(inside[2][1] / inside[2][0] - 2) < 1e-3  # a finite third derivative, no jump


@EVERY_PAIR
def test_repulsive_and_decreasing(pair):
    distances = np.linspace(0.01, radius_of(pair) - 1e-3, 500)
    value, slope, curvature = energies(pair, distances, order=2)
    assert (value > 0).all()
    assert (slope < 0).all()
    assert (curvature > 0).all()
    assert value[0] == pytest.approx(screened(*pair, 0.01), rel=1e-2)


@EVERY_PAIR
def test_derivative_is_the_finite_difference(pair):
    distances = np.linspace(0.2, radius_of(pair) - 0.01, 100)
    step = 1e-4
    numeric = [energies(pair, distances + k * step)[0] for k in (-2, -1, 1, 2)]
    numeric = (numeric[0] - 8 * numeric[1] + 8 * numeric[2] - numeric[3]) / (12 * step)
    exact = energies(pair, distances, order=1)[1]
    assert np.abs(numeric - exact).max() <= 1e-7 * np.abs(exact).max()


def test_structure_against_a_plain_double_loop():
    atoms = structures.patterns()["TTT"]
    atoms.set_cell(0.7 * np.asarray(atoms.cell), scale_atoms=True)
    zbl = ZBL(SPECIES)
    graph = Graph.from_atoms(atoms, zbl.cutoff)
    found = zbl(graph.species, graph.centers, graph.neighbors, graph.edge_vectors())
    expected = np.zeros(len(atoms))
    inside = 0
    for i, j, r in zip(
        graph.centers.tolist(),
        graph.neighbors.tolist(),
        graph.edge_vectors().norm(dim=1).tolist(),
        strict=True,
    ):
        pair = int(atoms.numbers[i]), int(atoms.numbers[j])
        if r < radius_of(pair):
            inside += 1
            expected[i] += 0.5 * energies(pair, [r])[0][0]
    assert inside >= 4
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_cutoff_is_that_of_the_largest_pair():
    assert ZBL(SPECIES).cutoff == pytest.approx(2 * covalent_radii[14])
    assert ZBL((1,)).cutoff == pytest.approx(2 * covalent_radii[1])


def test_coincident_atoms_stay_finite():
    value, slope, curvature = energies((8, 8), [0.0, 1e-8], order=2)
    assert np.isfinite([value, slope, curvature]).all()


def test_no_edges():
    none = torch.zeros(0, dtype=torch.int64)
    found = ZBL(SPECIES)(torch.tensor([1, 8]), none, none, torch.zeros(0, 3, dtype=torch.float64))
    assert torch.equal(found, torch.zeros(2, dtype=torch.float64))
