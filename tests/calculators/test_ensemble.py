"""Committees: means, spreads, and dynamics on their mean."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.lj import LennardJones
from ase.md.verlet import VelocityVerlet
from ase.units import fs

from pointedge.calculators import CommitteeCalculator, PETCalculator, models
from pointedge.calculators.models import committee, make_calculator
from pointedge.potentials import checkpoint

from .conftest import bulk, charged_potential, small_potential

NAMES = ("energy", "forces", "stress")


@pytest.fixture(scope="module")
def members():
    return [small_potential(seed=k) for k in range(3)]


def test_mean_and_spread_are_those_of_the_members(members):
    atoms = bulk()
    atoms.calc = CommitteeCalculator(members)
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
    atoms.calc = CommitteeCalculator([charged_potential(), charged_potential()])
    energy = atoms.get_potential_energy()
    atoms.info["charge"] = 1
    assert atoms.get_potential_energy() != energy
    assert atoms.calc.get_property("energy_std", atoms) == 0


def test_any_calculators(members):
    atoms = bulk()
    atoms.calc = CommitteeCalculator([PETCalculator(members[0]), LennardJones(rc=4.0)])
    mean = 0.5 * (
        PETCalculator(members[0]).get_potential_energy(atoms)
        + LennardJones(rc=4.0).get_potential_energy(atoms)
    )
    assert atoms.get_potential_energy() == pytest.approx(mean, rel=1e-12)


def test_what_members_lack(members):
    molecule = Atoms("OH", positions=[[0, 0, 0], [0, 0, 1.0]])
    molecule.calc = CommitteeCalculator(members)
    assert molecule.calc.get_property("forces_std", molecule).shape == (2, 3)
    with pytest.raises(PropertyNotImplementedError):
        molecule.get_stress()
    with pytest.raises(PropertyNotImplementedError):
        molecule.get_dipole_moment()


def test_a_committee_of_one(members):
    with pytest.raises(ValueError, match="at least two members, not 1"):
        CommitteeCalculator(members[:1])


def test_dynamics_conserves_the_mean_energy(members):
    atoms = bulk()
    atoms.calc = CommitteeCalculator(members)
    dynamics = VelocityVerlet(atoms, timestep=0.1 * fs)
    start = atoms.get_total_energy()
    moved = atoms.get_kinetic_energy()
    dynamics.run(40)
    moved = atoms.get_kinetic_energy() - moved
    assert abs(atoms.get_total_energy() - start) < 1e-3 * moved


def test_names(members, tmp_path, monkeypatch):
    files = []
    for k, member in enumerate(members[:2], start=1):
        files.append(tmp_path / f"tiny-{k}.safetensors")
        checkpoint.save(member, files[-1])
    by_files = make_calculator(",".join(map(str, files)))
    assert len(by_files.members) == 2
    packaged = {path.stem: path for path in files}
    monkeypatch.setattr(models, "packaged_models", lambda: packaged)
    assert committee("tiny") == ["tiny-1", "tiny-2"]
    assert committee("tiny-1") == ["tiny-1"]
    assert committee("tin") == ["tin"]
    by_name = make_calculator("tiny", dtype="float64")
    atoms = bulk()
    assert by_name.get_potential_energy(atoms) == by_files.get_potential_energy(atoms)
