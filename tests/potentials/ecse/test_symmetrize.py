"""Symmetrisation by name: averages over fixed rotations, calculators, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule

from pointedge.calculators import PETCalculator
from pointedge.potentials import checkpoint
from pointedge.potentials.ecse.averages import lebedev_rotations, octahedral_group
from pointedge.potentials.ecse.symmetrize import NAMES, relative_cost, symmetrized
from pointedge.potentials.graph import Graph, random_rotations
from pointedge.potentials.potential import Potential

from ... import structures
from .test_model import FRAMES, pet


def potential(**changes) -> Potential:
    baseline = {1: -13.6, 6: -1030.0}
    return Potential(pet(**changes), baseline, 1.7, auxiliary=pet(edge_input="length"))


def energy_errors(found: Potential, rotations: torch.Tensor) -> np.ndarray:
    """Energies of a crystal turned, minus that of the crystal."""
    graph = Graph.from_atoms([FRAMES["TTT"]] * (len(rotations) + 1), found.cutoff)
    matrices = torch.cat([torch.eye(3, dtype=torch.float64)[None], rotations])
    energy = found(graph.rotated(matrices), forces=False).energy.numpy()
    return energy[1:] - energy[0]


def test_octahedral_group_is_a_group():
    matrices, weights = octahedral_group()
    rows = {tuple(m.flatten().tolist()) for m in matrices}
    assert len(rows) == 48
    products = torch.einsum("aij,bjk->abik", matrices, matrices).reshape(-1, 9)
    assert {tuple(p.tolist()) for p in products} == rows
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(("order", "count"), [(3, 84), (5, 308), (7, 780), (9, 1444)])
def test_lebedev_rotations_integrate_products_of_components(order, count):
    """Exact for polynomials of matrix elements up to the order, whose O(3) averages are known."""
    matrices, weights = lebedev_rotations(order)
    assert len(matrices) == count
    identity = torch.eye(3, dtype=torch.float64).expand_as(matrices)
    torch.testing.assert_close(matrices @ matrices.mT, identity, rtol=0, atol=1e-14)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-14)
    first = torch.einsum("k,kij->ij", weights, matrices)
    torch.testing.assert_close(first, torch.zeros_like(first), rtol=0, atol=1e-14)
    second = torch.einsum("k,kij,kmn->ijmn", weights, matrices, matrices)
    unit = torch.eye(3, dtype=torch.float64)
    expected = torch.einsum("im,jn->ijmn", unit, unit) / 3
    torch.testing.assert_close(second, expected, rtol=0, atol=1e-14)
    if order >= 4:
        fourth = torch.einsum("k,kij->kij", weights, matrices**4).sum(0)
        torch.testing.assert_close(fourth, torch.full_like(fourth, 1 / 5), rtol=0, atol=1e-14)


def test_averages_are_invariant_as_far_as_they_claim():
    rotations = random_rotations(6, generator=torch.Generator().manual_seed(2))
    plain = potential()
    raw = np.abs(energy_errors(plain, rotations)).max()
    left = {
        name: np.abs(energy_errors(symmetrized(plain, name), rotations)).max()
        for name in ("octahedral", "lebedev:3", "lebedev:7", "ecse")
    }
    assert left["ecse"] < 1e-12 < left["lebedev:7"]
    assert left["lebedev:7"] < left["lebedev:3"] < raw
    assert left["octahedral"] < raw
    group, _ = octahedral_group()
    assert np.abs(energy_errors(symmetrized(plain, "octahedral"), group[::7])).max() < 1e-12


@pytest.mark.parametrize("name", ["octahedral", "lebedev:3"])
def test_forces_of_averages_turn_back(name):
    """The average of energies, forces turned back, strain gradients turned back: by hand."""
    plain = potential()
    graph = Graph.from_atoms(FRAMES["TTT"], plain.cutoff)
    found = symmetrized(plain, name)(graph, virial=True)
    matrices, weights = octahedral_group() if name == "octahedral" else lebedev_rotations(3)
    energy, forces, strain = 0.0, 0.0, 0.0
    for matrix, weight in zip(matrices, weights, strict=True):
        turned = plain(graph.rotated(matrix[None]), virial=True)
        energy = energy + weight * turned.energy
        forces = forces + weight * turned.forces @ matrix.T
        strain = strain + weight * matrix @ turned.strain_gradient @ matrix.T
    torch.testing.assert_close(found.energy, energy, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.forces, forces, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.strain_gradient, strain, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["octahedral", "lebedev:3", "ecse", "ecse-structure"])
def test_calculators_in_float32(name):
    """Networks in float32, matrices and frames still in float64."""
    atoms = molecule("CH3OH")
    forces = []
    for dtype in ("float32", "float64"):
        atoms.calc = PETCalculator(potential(), symmetrize=name, dtype=dtype)
        forces.append(atoms.get_forces())
    difference = np.abs(forces[0] - forces[1]).max() / np.abs(forces[1]).max()
    assert 0 < difference < 1e-4


def test_the_plain_potential_is_left_as_it_is():
    plain = potential()
    averaged = symmetrized(plain, "ecse")
    assert type(plain.network).__name__ == "PET"
    assert averaged.network.backbone is plain.network
    assert averaged.species == plain.species
    assert float(averaged.scale) == float(plain.scale)


@pytest.mark.parametrize("name", ["ecse", "ecse-structure"])
def test_calculator_of_a_checkpoint_with_an_auxiliary_network(tmp_path, name):
    """A file carries both networks; dimers and single atoms are ordinary input."""
    plain = potential()
    checkpoint.save(plain, tmp_path / "both.safetensors")
    loaded = checkpoint.load(tmp_path / "both.safetensors")
    assert loaded.auxiliary.to_config() == plain.auxiliary.to_config()
    calculator = PETCalculator(tmp_path / "both.safetensors", symmetrize=name)
    for atoms in (molecule("CH3OH"), structures.isolated_atom(), FRAMES["dimer"].copy()):
        atoms.calc = calculator
        energies = []
        for axis in ("z", (1, 2, 3), (0, -1, 1)):
            atoms.rotate(77, axis)
            energies.append(atoms.get_potential_energy())
        assert np.ptp(energies) < 1e-12 * sum(map(abs, energies))
        assert np.abs(atoms.get_forces().sum(axis=0)).max() < 1e-12


def test_older_files_have_no_auxiliary_network(tmp_path):
    checkpoint.save(Potential(pet()), tmp_path / "plain.safetensors")
    assert checkpoint.describe(tmp_path / "plain.safetensors")["auxiliary"] is None
    assert checkpoint.load(tmp_path / "plain.safetensors").auxiliary is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("esce", "unknown symmetrize 'esce'; did you mean 'ecse'"),
        ("lebedev", "unknown symmetrize 'lebedev'; did you mean 'lebedev:3'"),
        ("lebedev:500", "lebedev:500 does not exist; orders are 1 to 131"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        symmetrized(potential(), name)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_invariant_already_is_refused(name):
    """An average over 48 rotations would cost 48 times as much, and change nothing."""
    with pytest.raises(ValueError, match="the network is invariant already; use it as it is"):
        symmetrized(potential(edge_input="length"), name)


def test_relative_cost_bounds_the_edges_that_the_backbone_sees(monkeypatch):
    plain = potential()
    graph = Graph.from_atoms(FRAMES["TTT"], plain.cutoff)
    assert relative_cost(plain, graph) == 1
    assert relative_cost(symmetrized(plain, "lebedev:3"), graph) == 84
    seen = []
    forward = type(plain.network).forward
    monkeypatch.setattr(
        type(plain.network),
        "forward",
        lambda self, graph, vectors: seen.append(len(vectors)) or forward(self, graph, vectors),
    )
    for name in ("ecse", "ecse-structure"):
        seen.clear()
        averaged = symmetrized(plain, name)
        averaged(graph, forces=False)
        cost = relative_cost(averaged, graph)
        assert 0.5 * cost <= sum(seen) / graph.num_edges <= cost
