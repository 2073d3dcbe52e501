"""Relaxation: minima of energy and enthalpy, constraints, refusals, and what a failure leaves."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength, FixCartesian, Hookean

from pointedge.calculators import PETCalculator, PotentialCalculator
from pointedge.calculators.relaxation import (
    RelaxationError,
    RelaxationSettings,
    irelax,
    largest_force,
    largest_stress,
    optimizer_name,
    relax,
)
from pointedge.potentials.potential import Potential

from .conftest import MomentNetwork, small_potential
from .quick import SoftSpheres, Springs, argon

PRESSURE = 2e5  # bar; the repulsive model has a minimum under pressure only
OPTIMIZERS = ["bfgs", "lbfgs", "fire"]


class BreaksDown(SoftSpheres):
    """Forces are not finite from the fifth structure on."""

    calls = 0

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.calls += 1
        if self.calls >= 5:
            self.results["forces"][3, 1] = np.nan


def water(turn=0.0):
    atoms = molecule("H2O")
    atoms.rotate(40, (1, 2, 3))
    atoms.rotate(turn, (2, -1, 1))
    return atoms


def random_water():
    """Water with a random network whose energy has a negative curvature at the start."""
    atoms = water()
    atoms.calc = PETCalculator(small_potential(seed=3, scale=0.2))
    return atoms


def crystal():
    """Two atoms in a triclinic cell, with a model that repels at all distances."""
    cell = [[2.2, 0.2, 0.0], [0.1, 2.4, 0.3], [-0.2, 0.1, 2.3]]
    atoms = Atoms("OH", scaled_positions=[[0, 0, 0], [0.47, 0.52, 0.55]], cell=cell, pbc=True)
    atoms.set_initial_magnetic_moments([0.0, 0.0])
    atoms.calc = PotentialCalculator(Potential(MomentNetwork()))
    return atoms


def squeezed(**changes):
    return RelaxationSettings(**{"cell": True, "pressure": PRESSURE, **changes})


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_minimum(optimizer):
    fluid = argon()
    result = relax(fluid, RelaxationSettings(fmax=0.02, optimizer=optimizer))
    assert result.converged
    assert result.energy_change < -0.1
    fresh = result.atoms.copy()
    fresh.calc = SoftSpheres()
    assert np.linalg.norm(fresh.get_forces(), axis=1).max() < 0.02
    assert fresh.get_potential_energy() == pytest.approx(result.atoms.get_potential_energy())
    assert np.abs(np.asarray(fresh.cell) - np.asarray(fluid.cell)).max() == 0
    moved = np.linalg.norm(fresh.positions - fluid.positions, axis=1).max()
    assert result.largest_displacement == pytest.approx(moved)


def test_negative_curvature_does_not_lead_uphill():
    """Where ASE's LBFGS climbs in four steps, the default goes down."""
    result = relax(random_water())
    assert result.converged
    assert result.energy_change < -0.01
    assert relax(random_water(), RelaxationSettings(optimizer="lbfgs")).energy_change > 0.01


def test_states_on_the_way():
    states = list(irelax(random_water()))
    assert [state.steps for state in states] == list(range(len(states)))
    assert [state.converged for state in states] == [False] * (len(states) - 1) + [True]
    assert states[0].energy_change == 0
    assert all(state.start is states[0].atoms for state in states)
    seen = []
    relax(random_water(), progress=seen.append)
    assert [s.energy_change for s in seen] == [s.energy_change for s in states]


def test_step_limit():
    result = relax(random_water(), RelaxationSettings(steps=3))
    assert result.steps == 3
    assert not result.converged


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_cell_under_pressure(optimizer):
    result = relax(crystal(), squeezed(optimizer=optimizer))
    assert result.converged
    assert result.enthalpy_change < -0.1
    atoms = result.atoms
    assert largest_force(atoms) < 0.01
    assert largest_stress(atoms, PRESSURE) < 100
    energies = []
    for factor in (0.999, 1.001):
        scaled = atoms.copy()
        scaled.set_cell(atoms.cell * factor, scale_atoms=True)
        scaled.calc = PotentialCalculator(Potential(MomentNetwork()))
        energies.append(scaled.get_potential_energy())
    slope = (energies[1] - energies[0]) / (atoms.get_volume() * (1.001**3 - 0.999**3))
    assert -slope / units.bar == pytest.approx(PRESSURE, abs=150)


def test_small_forces_are_not_enough_for_a_cell():
    result = relax(crystal(), squeezed(fmax=50.0))
    assert largest_force(result.start) < 50
    assert result.steps > 0
    assert largest_stress(result.atoms, PRESSURE) < 100


def test_a_supercell_needs_no_more_steps():
    one = crystal()
    many = one.repeat(2)
    many.calc = one.calc
    assert relax(many, squeezed()).steps <= 1.3 * relax(one, squeezed()).steps


def test_fixed_atoms_stay():
    fluid = argon()
    free = np.arange(32) >= 10
    fluid.set_constraint([FixAtoms(range(8)), FixCartesian([8, 9], mask=[True, False, True])])
    result = relax(fluid, RelaxationSettings(fmax=0.02))
    moved = np.abs(result.atoms.positions - fluid.positions)
    assert moved[:8].max() == 0
    assert moved[8:10][:, [0, 2]].max() == 0
    assert moved[8:10, 1].min() > 1e-3
    assert moved[free].max() > 0.1
    assert result.converged
    forces = result.atoms.get_forces(apply_constraint=False)
    assert np.linalg.norm(forces, axis=1).max() > 0.02
    assert [c.todict() for c in result.atoms.constraints] == [c.todict() for c in fluid.constraints]


def test_fixed_atoms_follow_the_cell():
    atoms = crystal()
    atoms.set_constraint(FixAtoms([0, 1]))
    result = relax(atoms, squeezed())
    assert result.converged
    before, after = atoms.get_scaled_positions(), result.atoms.get_scaled_positions()
    np.testing.assert_allclose(after, before, atol=1e-10)
    assert result.largest_displacement < 1e-10
    assert np.abs(result.atoms.positions - atoms.positions).max() > 0.1


def test_the_structure_is_only_read():
    atoms = crystal()
    atoms.set_momenta(np.ones((2, 3)))
    atoms.set_tags([1, 2])
    atoms.info.update(charge=0, energy=-1.0)
    atoms.arrays["REF_forces"] = np.ones((2, 3))
    atoms.set_constraint(FixAtoms([0]))
    before, calculator = atoms.copy(), atoms.calc
    result = relax(atoms, squeezed())
    assert atoms == before
    assert atoms.info == before.info
    assert atoms.calc is calculator
    np.testing.assert_array_equal(atoms.get_momenta(), before.get_momenta())
    assert result.atoms.info == {"charge": 0}  # labels would now be wrong
    assert set(result.atoms.arrays) == {"numbers", "positions", "tags", "initial_magmoms"}


def test_turned_molecules_relax_to_one_energy():
    energies = {}
    for symmetrize in ("ecse", None):
        calculator = PETCalculator(small_potential(seed=5, scale=0.2), symmetrize=symmetrize)
        for turn in (0, 75):
            atoms = water(turn)
            atoms.calc = calculator
            result = relax(atoms)
            assert result.converged
            energies[symmetrize, turn] = result.atoms.get_potential_energy()
    assert abs(energies["ecse", 0] - energies["ecse", 75]) < 1e-7
    assert abs(energies[None, 0] - energies[None, 75]) > 1e-3


def test_many_atoms_are_not_diagonalised():
    assert optimizer_name(Atoms("H300"), RelaxationSettings()) == "bfgs"
    assert optimizer_name(Atoms("H301"), RelaxationSettings()) == "lbfgs"
    assert optimizer_name(Atoms("H301"), RelaxationSettings(optimizer="bfgs")) == "bfgs"


def test_failures_name_the_step():
    fluid = argon()
    fluid.calc = BreaksDown()
    seen = []
    with pytest.raises(RelaxationError, match="failed at step 4: forces not finite; check"):
        relax(fluid, progress=seen.append)
    assert [state.steps for state in seen] == [0, 1, 2, 3]
    assert all(np.isfinite(state.atoms.get_forces()).all() for state in seen)
    fluid.calc.calls = 4
    with pytest.raises(RelaxationError, match="cannot start: forces not finite"):
        relax(fluid)


def test_refusals_of_the_calculator_name_the_step():
    atoms = Atoms("O2", positions=[[0, 0, 0], [0, 0, 0.75]], magmoms=[0.0, 0.0])
    atoms.calc = PotentialCalculator(Potential(MomentNetwork(), scale=-1.0))  # attracts
    with pytest.raises(RelaxationError, match=r"failed at step \d+: the structure: atoms 0 and 1"):
        relax(atoms)
    atoms.positions[1, 2] = 0.05
    with pytest.raises(ValueError, match=r"^the structure: atoms 0 and 1"):
        relax(atoms)


def bonded():
    atoms = crystal()
    atoms.set_constraint(FixBondLength(0, 1))
    return atoms


def fixed():
    atoms = argon()
    atoms.set_constraint([FixAtoms(range(20)), FixAtoms(range(15, 32))])
    return atoms


def strange():
    atoms = crystal()
    atoms.calc = Springs(atoms.positions)
    return atoms


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (water, {}, "has no calculator"),
        (random_water, {"cell": True}, "periodic along all three axes"),
        (bonded, {"cell": True}, "FixBondLengths, cannot be kept"),
        (strange, {"cell": True}, "Springs does not give"),
        (fixed, {}, "leave no atom free"),
        (crystal, {"fmax": 0.0}, "fmax is 0.0 eV/Å"),
        (crystal, {"smax": np.nan}, "smax is nan bar"),
        (crystal, {"steps": 0}, "steps is 0"),
        (crystal, {"optimizer": "newton"}, "unknown optimizer 'newton'; known: lbfgs, bfgs, fire"),
        (crystal, {"pressure": 1.0}, "acts on the cell only"),
        (crystal, {"pressure": np.inf, "cell": True}, "pressure is inf bar"),
    ],
)
def test_refusals(make, settings, message):
    with pytest.raises(ValueError, match=message):
        relax(make(), RelaxationSettings(**settings))


def test_the_energy_of_a_spring_is_counted_once():
    """States keep the model's energy; ASE adds the spring's where a structure has it."""
    atoms = water()
    atoms.calc = EMT()
    atoms.set_constraint(Hookean(0, 1, k=5.0, rt=0.5))
    bare = atoms.copy()
    bare.set_constraint()
    bare.calc = EMT()
    assert atoms.get_potential_energy() > bare.get_potential_energy() + 0.1
    result = relax(atoms, RelaxationSettings(steps=1))
    assert result.start.get_potential_energy() == pytest.approx(atoms.get_potential_energy())
    assert result.start.calc.results["energy"] == pytest.approx(bare.get_potential_energy())
