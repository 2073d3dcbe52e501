"""Ensembles: means, spreads, names, and dynamics on the mean."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from ase.md.verlet import VelocityVerlet
from ase.units import fs

from pointedge.calculators import (
    EnsembleCalculator,
    PETCalculator,
    PotentialCalculator,
    models,
)
from pointedge.calculators.inputs import InputError
from pointedge.potentials import checkpoint
from pointedge.potentials.equivariant.mace import MACE
from pointedge.potentials.potential import Potential

from .conftest import bulk, charged_potential, small_potential, structures

EPS = np.finfo(float).eps
NAMES = ("energy", "forces", "stress")


def small_mace(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = {"species": (1, 8), "cutoff": 3.0, "irreps": "4x0e + 4x1o", "lmax": 1}
        network = MACE.from_config({**settings, "average_neighbors": 8.0}).to(torch.float64)
    return Potential(network, repulsion=True)


@pytest.fixture(scope="module")
def members():
    return [small_potential(seed=k) for k in range(3)]


def test_mean_and_spread_are_those_of_the_members(members):
    atoms = bulk()
    atoms.calc = EnsembleCalculator(members)
    found = {name: atoms.calc.get_property(name, atoms) for name in NAMES}
    alone = [PETCalculator(member) for member in members]
    for name in NAMES:
        each = np.stack([calculator.get_property(name, atoms) for calculator in alone])
        np.testing.assert_allclose(found[name], each.mean(axis=0), rtol=1e-12, atol=1e-12)
        spread = atoms.calc.get_property(f"{name}_std", atoms)
        expected = np.sqrt(((each - each.mean(axis=0)) ** 2).sum(axis=0) / 2)
        np.testing.assert_allclose(spread, expected, rtol=1e-10, atol=1e-12)
        assert np.all(spread > 0)


def test_results_follow_all_that_members_read():
    """Also what ASE's own comparison of structures does not look at."""
    atoms = bulk()
    atoms.calc = EnsembleCalculator([charged_potential(), charged_potential()])
    energy = atoms.get_potential_energy()
    atoms.info["charge"] = 1
    assert atoms.get_potential_energy() != energy
    assert atoms.calc.get_property("energy_std", atoms) == 0


def test_any_calculators(members):
    atoms = bulk()
    atoms.calc = EnsembleCalculator([PETCalculator(members[0]), LennardJones(rc=4.0)])
    mean = 0.5 * (
        PETCalculator(members[0]).get_potential_energy(atoms)
        + LennardJones(rc=4.0).get_potential_energy(atoms)
    )
    assert atoms.get_potential_energy() == pytest.approx(mean, rel=1e-12)


class Charged(Calculator):
    """Energies that follow the charge, of a calculator that leaves comparing to ASE."""

    implemented_properties = ("energy", "forces")

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        charge = float(atoms.info.get("charge", 0))
        self.results = {"energy": self.scale * charge, "forces": np.zeros((len(atoms), 3))}


@pytest.mark.parametrize("ours", [[], [charged_potential()]])
def test_other_calculators_follow_the_charge_too(ours):
    """ASE's comparison does not look at it, and they would answer for the last structure."""
    alone = [PETCalculator(model) for model in ours]
    ensemble = EnsembleCalculator([*ours, Charged(10.0), Charged(20.0)])
    frames = []
    for charge in (0, 1, 2):
        frames.append(bulk())
        frames[-1].info["charge"] = charge
    share = 1 / len(ensemble.members)
    expected = [
        share * (30.0 * k + sum(calculator.get_potential_energy(atoms) for calculator in alone))
        for k, atoms in enumerate(frames)
    ]
    many = [result["energy"] for result in ensemble.calculate_many(frames, ("energy",))]
    assert many == pytest.approx(expected, rel=1e-12)
    atoms = bulk()
    atoms.calc = ensemble
    for charge, energy in enumerate(expected):
        atoms.info["charge"] = np.array(charge)
        assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-12)


def test_what_members_lack(members):
    molecule = Atoms("OH", positions=[[0, 0, 0], [0, 0, 1.0]])
    molecule.calc = EnsembleCalculator(members)
    assert molecule.calc.get_property("forces_std", molecule).shape == (2, 3)
    with pytest.raises(PropertyNotImplementedError):
        molecule.get_stress()
    with pytest.raises(PropertyNotImplementedError):
        molecule.get_dipole_moment()


def test_an_ensemble_of_one(members):
    with pytest.raises(ValueError, match="at least two members, not 1"):
        EnsembleCalculator(members[:1])
    with pytest.raises(ValueError, match="pet-water is no ensemble; name one, or give a list"):
        EnsembleCalculator("pet-water")


@pytest.mark.filterwarnings("ignore:the model reads no charge")  # of three alone
@pytest.mark.parametrize("kind", structures())
def test_one_graph_serves_members_of_all_cutoffs_and_inputs(kind):
    """Against the readable twin: every member alone, with a list and a graph of its own."""
    potentials = [
        small_potential(seed=1, cutoff=2.5),
        small_potential(seed=2, cutoff=4.5),
        charged_potential(),
        small_mace(3),
    ]
    atoms = structures()[kind]
    atoms.info["charge"] = 1
    ensemble = EnsembleCalculator(potentials)
    names = NAMES if atoms.cell.rank == 3 else NAMES[:2]
    alone = [PotentialCalculator(potential) for potential in potentials]
    for name in names:
        each = np.stack([member.get_property(name, atoms) for member in alone])
        size = np.abs(each).max()
        for found, expected in (
            (ensemble.get_property(name, atoms), each.mean(axis=0)),
            (ensemble.get_property(f"{name}_std", atoms), each.std(axis=0, ddof=1)),
        ):
            np.testing.assert_allclose(found, expected, rtol=0, atol=100 * EPS * size)
    energies = [member.get_property("energies", atoms) for member in alone]
    found = ensemble.get_property("energies", atoms)
    np.testing.assert_allclose(found, np.mean(energies, axis=0), rtol=100 * EPS)
    assert "energies_std" not in ensemble.implemented_properties


def test_many_structures_are_those_one_by_one(members):
    frames = [atoms for atoms in structures().values() if atoms.cell.rank == 3]
    names = ("energy", "forces", "stress", "energy_std", "forces_std", "stress_std")
    for others in ([], [LennardJones(rc=4.0)]):
        ensemble = EnsembleCalculator([*members, *others])
        frames[0].set_constraint(FixAtoms([0]))  # whose forces are the model's all the same
        together = ensemble.calculate_many(frames, names, max_edges=500)
        for atoms, found in zip(frames, together, strict=True):
            for name in names:
                expected = ensemble.get_property(name, atoms)
                size = max(np.abs(found[name.removesuffix("_std")]).max(), 1.0)
                np.testing.assert_allclose(found[name], expected, rtol=0, atol=100 * EPS * size)


def test_the_mean_force_is_the_gradient_of_the_mean_energy():
    """Five-point differences, as of the potentials: 1e-7 of the largest force."""
    ensemble = EnsembleCalculator([small_potential(seed=k, baseline={}) for k in range(3)])
    atoms = bulk()
    forces, stress = (ensemble.get_property(name, atoms) for name in ("forces", "stress"))

    def slope(moved):
        steps = {-2: 1, -1: -8, 1: 8, 2: -1}
        terms = [w * ensemble.get_property("energy", moved(3e-4 * k)) for k, w in steps.items()]
        return sum(terms) / 3.6e-3

    def displaced(length):
        twin = atoms.copy()
        twin.positions[5, 1] += length
        return twin

    def strained(strain):
        twin = atoms.copy()
        deformation = np.eye(3)
        deformation[0, 0] += strain
        twin.set_cell(atoms.cell[:] @ deformation, scale_atoms=True)
        return twin

    assert abs(slope(displaced) + forces[5, 1]) < 1e-7 * np.abs(forces).max()
    virial = stress * atoms.get_volume()
    assert abs(slope(strained) - virial[0]) < 1e-7 * np.abs(virial).max()


def test_results_follow_positions_cell_and_periodicity_with_one_list(members):
    ensemble = EnsembleCalculator(members)
    atoms = bulk()
    atoms.calc = ensemble
    rng = np.random.default_rng(0)
    for step in range(12):
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
        if step == 8:
            atoms.pbc = (True, True, False)
        if step == 10:
            atoms.cell[0] *= 1.01
        fresh = EnsembleCalculator(members, skin=0)
        np.testing.assert_array_equal(atoms.get_forces(), fresh.get_property("forces", atoms))
    assert ensemble._graphs.verlet.builds < 6
    assert all(member._graphs.verlet.updates == 0 for member in ensemble.members)


def test_precision_and_symmetry_of_all_members(members):
    atoms = bulk()
    single = EnsembleCalculator(members, dtype="float32").get_property("energy", atoms)
    double = EnsembleCalculator(members).get_property("energy", atoms)
    assert single != double
    assert single == pytest.approx(double, abs=1e-4)
    molecule = structures()["molecule"]
    symmetric = EnsembleCalculator(members, symmetrize="octahedral")
    turned = molecule.copy()
    turned.rotate(90, "x")
    for name in ("energy", "energy_std"):
        one, two = (symmetric.get_property(name, a) for a in (molecule, turned))
        assert one == pytest.approx(two, rel=1e-9)


def test_members_that_are_invariant_are_not_symmetrised_again(members, tmp_path):
    exact = small_mace(5)
    mixed = EnsembleCalculator([members[0], exact], symmetrize="octahedral")
    assert mixed.parameters["symmetrize"] == "octahedral"
    turned = bulk()
    turned.rotate(90, "x", rotate_cell=True)
    one, two = (mixed.get_property("energy", atoms) for atoms in (bulk(), turned))
    assert one == pytest.approx(two, rel=1e-9)
    expected = PotentialCalculator(members[0], symmetrize="octahedral").get_potential_energy(turned)
    expected += PotentialCalculator(exact).get_potential_energy(turned)
    assert two == pytest.approx(expected / 2, rel=1e-12)
    files = [tmp_path / "pet.safetensors", tmp_path / "mace.safetensors"]
    for model, file in zip((members[0], exact), files, strict=True):
        checkpoint.save(model, file)
    named = models.make_calculator(",".join(map(str, files)), symmetrize="octahedral")
    assert named.get_potential_energy(turned) == pytest.approx(two, rel=1e-12)
    assert named.parameters["symmetrize"] == "octahedral"
    with pytest.raises(ValueError, match="invariant already; use it as it is"):
        EnsembleCalculator([exact, small_mace(6)], symmetrize="octahedral")


def test_factors(members):
    atoms = bulk()
    plain = EnsembleCalculator(members)
    scaled = EnsembleCalculator(members, factors={"energy": 2.0, "forces": 0.5})
    for name, factor in (("energy", 2.0), ("forces", 0.5), ("stress", 1.0)):
        one, two = (c.get_property(f"{name}_std", atoms) for c in (plain, scaled))
        np.testing.assert_allclose(two, factor * np.array(one), rtol=4 * EPS)
        one, two = (c.get_property(name, atoms) for c in (plain, scaled))
        np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match=r"no factor on 'force'; did you mean 'forces'"):
        EnsembleCalculator(members, factors={"force": 2.0})
    with pytest.raises(ValueError, match=r"std of energy is 0; it must be positive"):
        EnsembleCalculator(members, factors={"energy": 0})


def test_refusals(members):
    ensemble = EnsembleCalculator(members)
    gold = bulk()
    gold.symbols[3] = "Au"
    with pytest.raises(InputError, match="atom 3 is Au, which the model does not know"):
        ensemble.get_potential_energy(gold)
    with pytest.raises(InputError, match="structure 1: atom 3 is Au"):
        ensemble.calculate_many([bulk(), gold])
    with pytest.raises(ValueError, match="make a new calculator"):
        ensemble.set(skin=1.0)


def test_dynamics_conserves_the_mean_energy(members):
    atoms = bulk()
    atoms.calc = EnsembleCalculator(members)
    dynamics = VelocityVerlet(atoms, timestep=0.1 * fs)
    start = atoms.get_total_energy()
    moved = atoms.get_kinetic_energy()
    dynamics.run(40)
    moved = atoms.get_kinetic_energy() - moved
    assert abs(atoms.get_total_energy() - start) < 1e-3 * moved


def test_the_packaged_structure_and_the_cost_are_those_of_the_members(members):
    ensemble = EnsembleCalculator([small_potential(species=(8, 25), baseline={})] * 2)
    assert models.default_structure(ensemble).stem.startswith("mno")
    mixed = EnsembleCalculator([members[0], small_potential(species=(8, 25), baseline={})])
    with pytest.raises(ValueError, match="the model knows O, and no packaged structure"):
        models.default_structure(mixed)
