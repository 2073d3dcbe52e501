"""Verlet reuse: every step equals a fresh list, and lists are rebuilt only when they must be."""

import numpy as np
import pytest
import torch
from hypothesis import given, note, settings
from hypothesis import strategies as st

from pointedge.potentials.neighbors import VerletList, neighbor_list

from .cases import Case, assert_edges, batch, canonical, named_cases
from .test_backends import properties
from .test_cell_list import liquid

NAMED = named_cases()
CUTOFF = 4.0


def assert_fresh(edges, system, cutoff=CUTOFF):
    positions, cell, pbc, structure = system
    fresh = neighbor_list(positions, cell, pbc, cutoff, structure)
    assert bool((edges[0].diff() >= 0).all())
    assert np.array_equal(canonical(edges), canonical(fresh))


def wrap(positions, cell, pbc, structure):
    """Move atoms into their cells along periodic axes."""
    positions = positions.clone()
    for index, (vectors, periodic) in enumerate(zip(cell, pbc, strict=True)):
        axes = periodic.nonzero().squeeze(1)
        members = structure == index
        fractions = positions[members] @ torch.linalg.pinv(vectors[axes])
        positions[members] -= fractions.floor() @ vectors[axes]
    return positions


@given(
    names=st.lists(
        st.sampled_from(["triclinic", "left-handed", "outside", "outside-rotated", "molecule",
                         "slab-zero-vector", "wire-zero-vectors", "fcc-copper-one-atom",
                         "rhombohedral-10-degrees", "close-atoms", "isolated-atom"]),
        min_size=1, max_size=3,
    ),
    seed=st.integers(0, 2**32 - 1),
    wrapping=st.booleans(),
    strain=st.sampled_from([0.0, 1e-3, 1e-2]),
    step=st.sampled_from([0.01, 0.05, 0.3]),
)  # fmt: skip
@settings(properties, max_examples=20)
def test_random_walk_equals_the_oracle(names, seed, wrapping, strain, step):
    """Random steps, strains with rotation, drift, lattice jumps; batches of all periodicities."""
    note(f"{names} {seed} {wrapping} {strain} {step}")
    rng = np.random.default_rng(seed)
    structures = [NAMED[name] for name in names]
    verlet = VerletList(3.0, skin=0.6)
    for _ in range(6):
        positions, cell, pbc, structure = batch(structures)
        edges = verlet.update(positions, cell, pbc, structure)
        assert_edges(edges, structures, 3.0, structure)
        new = VerletList(3.0, skin=0.6).update(positions, cell, pbc, structure)
        for edge, other in zip(edges, new, strict=True):  # in the same order, for sums that round
            assert torch.equal(edge, other)
        moved = []
        for case in structures:
            deform = np.eye(3) + strain * rng.normal(size=(3, 3))
            positions = (case.positions + step * rng.normal(size=case.positions.shape)) @ deform
            cell = case.cell @ deform
            positions = positions + rng.normal(size=3)
            if wrapping:
                positions += (rng.integers(-2, 3, positions.shape) * case.pbc) @ cell
            moved.append(Case(positions, cell, case.pbc, case.cutoff))
        structures = moved


@pytest.mark.parametrize("backend", ["vesin", "matscipy", "torch"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_molecular_dynamics_builds_rarely(wrapped, backend):
    system = positions, cell, pbc, structure = liquid(150)
    positions = positions.clone()
    verlet = VerletList(CUTOFF, skin=0.8, backend=backend)
    generator = torch.Generator().manual_seed(3)
    velocity = 0.02 * torch.randn(150, 3, generator=generator, dtype=torch.float64)
    for _ in range(30):
        positions += velocity
        given_positions = wrap(positions, cell, pbc, structure) if wrapped else positions
        system = (given_positions, cell, pbc, structure)
        assert_fresh(verlet.update(*system), system)
    assert verlet.updates == 30
    assert 2 <= verlet.builds <= 12


def test_wrapping_alone_never_builds():
    positions, cell, pbc, structure = liquid(100)
    generator = torch.Generator().manual_seed(5)
    verlet = VerletList(CUTOFF, skin=0.2)
    verlet.update(positions, cell, pbc, structure)
    for _ in range(5):
        images = torch.randint(-3, 4, (100, 3), generator=generator).to(torch.float64)
        system = (positions + images @ cell[0], cell, pbc, structure)
        assert_fresh(verlet.update(*system), system)
    assert verlet.builds == 1


def test_wrapping_counts_on_periodic_axes_only():
    """A jump by an open axis' vector is a real move."""
    positions, cell, pbc, structure = batch([NAMED["slab-thin-vector"]])
    cell[0, 2, 2] = 20.0
    verlet = VerletList(CUTOFF, skin=0.5)
    verlet.update(positions, cell, pbc, structure)
    jumped = positions.clone()
    jumped[0] += cell[0, 2]
    assert_fresh(verlet.update(jumped, cell, pbc, structure), (jumped, cell, pbc, structure))
    assert verlet.builds == 2


def test_drift_and_rotation_never_build():
    positions, cell, pbc, structure = liquid(150)
    verlet = VerletList(CUTOFF, skin=0.2)
    generator = torch.tensor([[0.0, 1, 2], [-1, 0, 3], [-2, -3, 0]], dtype=torch.float64)
    turn = torch.linalg.matrix_exp(0.01 * generator)
    for step in range(30):
        drift = step * torch.tensor([1.3, -0.4, 0.9])
        system = (wrap(positions + drift, cell, pbc, structure), cell, pbc, structure)
        assert_fresh(verlet.update(*system), system)
        positions, cell = positions @ turn, cell @ turn
    assert verlet.builds == 1


@pytest.mark.parametrize("follow", [True, False])
def test_strain_draws_on_the_budget(follow):
    """Small strain with atoms that follow it (NPT) keeps the list; much strain does not."""
    positions, cell, pbc, structure = liquid(150)
    verlet = VerletList(CUTOFF, skin=0.5)
    builds = []
    for step in range(30):
        stretch = torch.diag(1 + 0.004 * step * torch.tensor([1.0, -1.0, 0.5]).to(torch.float64))
        system = (positions @ stretch if follow else positions, cell @ stretch, pbc, structure)
        assert_fresh(verlet.update(*system), system)
        builds.append(verlet.builds)
    assert builds[2 if follow else 1] == 1
    assert 2 <= builds[-1] < 15


def test_compression_finds_pairs_from_beyond_the_skin():
    """A homogeneous compression moves no atom against the affine map, yet brings pairs closer."""
    line = torch.tensor([[0.0, 0, 0], [5.0, 0, 0]], dtype=torch.float64)
    cell = 20.0 * torch.eye(3, dtype=torch.float64)[None]
    pbc, structure = torch.ones(1, 3, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
    verlet = VerletList(CUTOFF, skin=0.5)
    assert len(verlet.update(line, cell, pbc, structure)[0]) == 0
    for scale in (0.95, 0.9, 0.85, 0.81, 0.79):
        edges = verlet.update(scale * line, scale * cell, pbc, structure)
    assert len(edges[0]) == 2


def test_vector_of_an_open_axis_does_not_matter():
    positions, cell, pbc, structure = batch([NAMED["slab-zero-vector"]])
    verlet = VerletList(CUTOFF, skin=0.5)
    verlet.update(positions, cell, pbc, structure)
    cell[0, 2] = torch.tensor([3.0, 4.0, 50.0])
    verlet.update(positions, cell, pbc, structure)
    assert verlet.builds == 1


def test_another_system_builds():
    positions, cell, pbc, structure = liquid(60)
    species = torch.ones(60, dtype=torch.int64)
    other = species.clone()
    other[3] = 8
    slab = pbc.clone()
    slab[0, 2] = False
    two = (torch.cat([cell, cell]), torch.cat([pbc, pbc]), structure.clone())
    two[2][30:] = 1
    halves = two[2].clone()
    halves[29] = 1
    verlet = VerletList(CUTOFF, skin=0.5)
    calls = [
        (positions, cell, pbc, structure, species),
        (positions, cell, pbc, structure, other),
        (positions, cell, slab, structure, other),
        (positions[:59], cell, slab, structure[:59], other[:59]),
        (positions, *two, other),
        (positions, *two[:2], halves, other),
        (positions, *two[:2], halves),
    ]
    for expected, call in enumerate(calls, start=1):
        for _ in range(2):
            assert_fresh(verlet.update(*call), call[:4])
            assert verlet.builds == expected


def test_no_skin_always_builds():
    system = liquid(60)
    verlet = VerletList(CUTOFF, skin=0.0)
    for _ in range(3):
        assert_fresh(verlet.update(*system), system)
    assert verlet.builds == verlet.updates == 3


def test_callers_tensors_are_copied():
    """Moving the caller's own tensor in place must not move the reference along."""
    positions, cell, pbc, structure = liquid(60)
    verlet = VerletList(CUTOFF, skin=0.5)
    edges = verlet.update(positions, cell, pbc, structure)
    edges[2].add_(7)
    edges[0].zero_()
    for _ in range(3):
        positions.add_(0.3 * torch.randn(60, 3, generator=torch.Generator().manual_seed(1)))
        cell.mul_(0.99)
        system = (positions, cell, pbc, structure)
        assert_fresh(verlet.update(*system), system)
    assert verlet.builds == 4


def test_positions_lost_to_nan_are_an_error():
    positions, cell, pbc, structure = liquid(60)
    verlet = VerletList(CUTOFF)
    verlet.update(positions, cell, pbc, structure)
    lost = positions.clone()
    lost[7, 1] = torch.nan
    with pytest.raises(ValueError, match="atom 7"):
        verlet.update(lost, cell, pbc, structure)
    verlet.update(positions, cell, pbc, structure)
    assert (verlet.builds, verlet.updates) == (1, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cutoff": -1.0}, "cutoff"),
        ({"cutoff": 3.0, "skin": -0.1}, "skin"),
        ({"cutoff": 3.0, "skin": float("nan")}, "skin"),
        ({"cutoff": 3.0, "backend": "tourch"}, "did you mean 'torch'"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        VerletList(**arguments)


def test_no_atoms():
    _, cell, pbc, _ = liquid(60)
    verlet = VerletList(CUTOFF)
    for _ in range(2):
        empty = torch.zeros(0, dtype=torch.int64)
        assert len(verlet.update(torch.zeros(0, 3), cell, pbc, empty)[0]) == 0
