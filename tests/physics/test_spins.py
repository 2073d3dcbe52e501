"""Networks that read magnetic moments: what of them matters, and what must not."""

from __future__ import annotations

from functools import cache

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.calculators import PotentialCalculator
from pointedge.calculators.inputs import InputError
from pointedge.potentials.checkpoint import architecture
from pointedge.potentials.ecse.symmetrize import symmetrized
from pointedge.potentials.graph import Graph, random_rotations
from pointedge.potentials.potential import Potential
from pointedge.potentials.spins import keep_moments

from .. import structures
from . import test_equivariant, test_pet
from .battery import FRAMES, lively
from .numerics import check_equal, graph_of, predict

EQUIVARIANT = {**test_equivariant.SMALL, "typical_moment": 1.5}
PET = {**test_pet.PRODUCTION, "typical_moment": 1.5}
VARIANTS = {
    "pet": ("pet", PET),
    "paper": ("pet", {**test_pet.PAPER, "cutoff_function": "tanh", "typical_moment": 1.5}),
    "layers": ("pet", {**PET, "symmetry": "layers"}),
    "convolution": ("convolution", {**EQUIVARIANT, "irreps": "4x0e + 3x1o"}),
    "nequip": ("nequip", {**EQUIVARIANT, "irreps": "4x0e + 3x1o"}),
    "mace": ("mace", {**EQUIVARIANT, "irreps": "4x0e + 4x1o", "lmax": 1}),
}
EVERY = pytest.mark.parametrize("name", VARIANTS)
PERIODIC = ("TTT", "TTF", "small-cell", "FFF")


@cache
def variant(name: str) -> Potential:
    kind, settings = VARIANTS[name]
    with torch.random.fork_rng():
        torch.manual_seed(sorted(VARIANTS).index(name))
        network = architecture(kind).from_config(settings)
    return lively(network, seed=23)


def with_moments(moments: list[np.ndarray]) -> list[Atoms]:
    frames = [FRAMES[name].copy() for name in PERIODIC]
    for atoms, values in zip(frames, moments, strict=True):
        atoms.set_initial_magnetic_moments(values)
    return frames


@pytest.fixture
def vectors() -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [rng.normal(size=(len(FRAMES[name]), 3)) for name in PERIODIC]


@EVERY
def test_moments_may_turn_together(name, vectors):
    """By any rotation, proper or not, and so be reversed, while the atoms stay."""
    potential = variant(name)
    before = predict(potential, with_moments(vectors))
    turns = random_rotations(3, generator=torch.Generator().manual_seed(1)).numpy()
    for turn in [*turns, -np.eye(3)]:
        frames = with_moments([m @ turn for m in vectors])
        check_equal("spin rotation", predict(potential, frames), before, frames, potential.cutoff)


@EVERY
def test_collinear_moments_are_vectors_along_any_axis(name, vectors):
    potential = variant(name)
    axis = np.array([2.0, -1.0, 2.0]) / 3.0
    signed = [m[:, 0] for m in vectors]
    before = predict(potential, with_moments(signed))
    frames = with_moments([m[:, None] * axis for m in signed])
    check_equal("axis", predict(potential, frames), before, frames, potential.cutoff)


@EVERY
def test_a_moment_matters_and_so_does_its_direction(name, vectors):
    potential = variant(name)
    start = with_moments(vectors)[0]
    expected = predict(potential, start)
    for change in (-1.0, 1.5):
        moments = vectors[0].copy()
        moments[2] *= change
        changed = start.copy()
        changed.set_initial_magnetic_moments(moments)
        found = predict(potential, changed)
        assert (found.energy - expected.energy).abs() > 1e-3
        assert (found.forces - expected.forces).abs().max() > 1e-3


@pytest.mark.parametrize("name", [n for n in VARIANTS if n != "nequip"])
def test_a_lone_moment_knows_its_size_alone(name):
    """But for NequIP, whose first layer has nothing but messages."""
    potential = variant(name)
    energies = []
    for moment in ([0, 0, 1.0], [0, 1.0, 0], [0, 0, 2.0]):
        atom = structures.isolated_atom()
        atom.set_initial_magnetic_moments([moment])
        energies.append(float(predict(potential, atom).energy))
    assert energies[0] == pytest.approx(energies[1], rel=1e-12)
    assert abs(energies[2] - energies[0]) > 1e-3


@EVERY
def test_energy_is_smooth_in_the_moments(name, vectors):
    """Its slope in the moments is the finite difference."""
    potential = variant(name)
    graph = graph_of(potential, with_moments(vectors))
    graph.magmoms.requires_grad_()
    energies = potential.atomic_properties(graph, graph.edge_vectors())["energy"]
    (slope,) = torch.autograd.grad(energies.sum(), graph.magmoms)
    direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(0)).double()
    step, energy = 1e-4, {}
    for k in (-2, -1, 1, 2):
        moved = Graph(**{**vars(graph), "magmoms": graph.magmoms.detach() + k * step * direction})
        energy[k] = potential(moved, forces=False).energy.sum()
    difference = (energy[-2] - 8 * energy[-1] + 8 * energy[1] - energy[2]) / (12 * step)
    assert float(difference) == pytest.approx(float((slope * direction).sum()), rel=1e-7)


def test_ecse_keeps_the_moments(vectors):
    """Symmetrised after training, the atoms may turn while the moments stay."""
    potential = symmetrized(variant("pet"), "ecse-structure")
    atoms = with_moments(vectors)[0]
    before = predict(potential, atoms)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = atoms.copy()
    turned.set_cell(np.asarray(atoms.cell) @ turn)
    turned.positions = atoms.positions @ turn
    after = predict(potential, turned)
    assert float(after.energy) == pytest.approx(float(before.energy), rel=1e-12)
    np.testing.assert_allclose(after.forces, before.forces.numpy() @ turn, atol=1e-10)


@EVERY
def test_without_moments_nothing_is_calculated(name):
    potential, atoms = variant(name), FRAMES["TTT"].copy()
    with pytest.raises(ValueError, match=r"the structure has none; give them with atoms\.set"):
        Graph.from_atoms(atoms, potential.cutoff, inputs=potential.inputs)
    with pytest.raises(ValueError, match=r"this graph has none; build it with inputs"):
        potential(Graph.from_atoms(atoms, potential.cutoff))
    atoms.calc = PotentialCalculator(potential)
    with pytest.raises(InputError, match="the structure: the model reads magnetic moments"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("key", ["REF_spin", "REF_magmoms", "magmoms"])
def test_moments_of_files_are_understood(key, vectors):
    (first, *_), potential = with_moments(vectors), variant("pet")
    expected = predict(potential, first).energy
    first.arrays[key] = first.arrays.pop("initial_magmoms")
    assert torch.equal(predict(potential, first).energy, expected)
    first.set_initial_magnetic_moments(np.zeros(len(first)))  # comes before what was measured
    assert not torch.equal(predict(potential, first).energy, expected)


def test_moments_of_a_column_called_magmoms(tmp_path, vectors):
    """Which ASE's reader of extended XYZ takes for results."""
    (first, *_), potential = with_moments(vectors), variant("pet")
    expected = predict(potential, first).energy
    first.arrays["magmoms"] = first.arrays.pop("initial_magmoms")
    ase.io.write(tmp_path / "frame.xyz", first)
    frame = ase.io.read(tmp_path / "frame.xyz")
    found = predict(potential, frame).energy
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # of eight digits in the file
    keep_moments(frame)
    frame.calc = None
    assert torch.equal(predict(potential, frame).energy, found)


def test_moments_of_wrong_shape():
    atoms = FRAMES["dimer"].copy()
    atoms.arrays["REF_spin"] = np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"'REF_spin' have shape \(2, 2\); give one signed number"):
        predict(variant("pet"), atoms)


@pytest.mark.parametrize("kind", ["pet", "nequip"])
def test_a_typical_moment_is_positive(kind):
    with pytest.raises(ValueError, match=r"typical_moment = 0.* must be positive"):
        architecture(kind).from_config({"species": (1, 8), "typical_moment": 0.0})
