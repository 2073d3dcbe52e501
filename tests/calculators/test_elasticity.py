"""Elastic constants against lattice sums, and against second differences of the energy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms, FixSymmetry
from ase.neighborlist import neighbor_list
from scipy.optimize import brentq

from pointedge.calculators.elasticity import STRAINS, elastic_constants, strained
from pointedge.calculators.relaxation import RelaxationSettings, relax

from .quick import Springs

CUTOFF = 2.86  # between shells of the crystals below, so that a strain brings no pair across


def slope(r):
    """φ'(r) of 4 (r⁻¹² - r⁻⁶), eV/Å."""
    return 4 * (-12 * r**-13 + 6 * r**-7)


def curvature(r):
    return 4 * (156 * r**-14 - 42 * r**-8)


def lattice_sum(lattice):
    """C_xxxx, C_xxyy and C_yzyz (GPa) and tr σ of fcc Lennard-Jones by sums over all neighbours.

    C_αβγδ = 1/(2V) Σ (φ'' - φ'/r) r_α r_β r_γ r_δ / r², for pair forces without stress, where every
    atom is a centre of inversion (Born & Huang).
    """
    atoms = bulk("Ar", "fcc", a=lattice)
    r, d = neighbor_list("dD", atoms, CUTOFF)
    weight = (curvature(r) - slope(r) / r) / r**2 / (2 * atoms.get_volume()) / units.GPa
    x, y, z = d.T
    constants = [(weight * p).sum() for p in (x**4, x * x * y * y, y * y * z * z)]
    return np.array(constants), (slope(r) * r).sum()


def crystal(atoms, smooth=False):
    atoms.calc = LennardJones(sigma=1.0, epsilon=1.0, rc=CUTOFF, smooth=smooth)
    return atoms


@pytest.fixture(scope="module")
def fcc():
    return brentq(lambda a: lattice_sum(a)[1], 1.5, 1.6, xtol=1e-13)


@pytest.mark.parametrize("cubic", [False, True])
def test_fcc_against_lattice_sums(fcc, cubic):
    atoms = crystal(bulk("Ar", "fcc", a=fcc, cubic=cubic))
    small = tuple(0.02 * s for s in STRAINS)  # what is left of the parabola falls as its square
    found = elastic_constants(atoms, strains=small)
    (c11, c12, c44), _ = lattice_sum(fcc)
    assert c12 == pytest.approx(c44)  # Cauchy's relation
    values = found.cubic()
    for name, expected in (("C11", c11), ("C12", c12), ("C44", c44)):
        value, fit, spread = values[name]
        assert value == pytest.approx(expected, rel=1e-5)
        assert spread < 1e-6 * expected
        assert fit < 1e-5 * expected
    assert found.bulk_modulus == pytest.approx((c11 + 2 * c12) / 3, rel=1e-5)
    assert found.residual_stress < 1e-6 * c11
    cubic_zeros = [(0, 3), (3, 0), (0, 5), (3, 4), (4, 5)]
    assert max(abs(found.stiffness[entry]) for entry in cubic_zeros) < 1e-6 * c11
    default = elastic_constants(atoms).cubic()
    assert default["C11"][0] == pytest.approx(c11, rel=0.005)
    assert default["C11"][1] < 0.005 * c11


@pytest.fixture(scope="module")
def hcp():
    """Strain in the plane moves the atoms of its cell against each other."""
    atoms = crystal(bulk("Ar", "hcp", a=1.09, c=1.78), smooth=True)
    settings = RelaxationSettings(cell=True, fmax=1e-6, smax=0.01, steps=200)
    relaxed = relax(atoms, settings)
    assert relaxed.converged
    return relaxed.atoms


SMALL = tuple(0.1 * s for s in STRAINS)


@pytest.fixture(scope="module")
def of_hcp(hcp):
    return elastic_constants(crystal(hcp.copy(), smooth=True), strains=SMALL, fmax=1e-6)


def test_relaxed_atoms_against_energies(hcp, of_hcp):
    atoms, found = crystal(hcp.copy(), smooth=True), of_hcp
    np.testing.assert_allclose(found.stiffness, found.stiffness.T, atol=1e-3 * found.bulk_modulus)

    def energies(direction, size, fmax):
        copies = [crystal(strained(atoms, direction, s), smooth=True) for s in (-size, 0.0, size)]
        steps = RelaxationSettings(fmax=fmax)
        return [relax(copy, steps).atoms.get_potential_energy() for copy in copies]

    for direction in (0, 2, 5):
        size = 5e-4
        low, middle, high = energies(direction, size, 1e-7)
        expected = (low + high - 2 * middle) / size**2 / atoms.get_volume() / units.GPa
        assert found.stiffness[direction, direction] == pytest.approx(expected, rel=1e-3)
    low, middle, high = energies(0, size, 1e3)  # atoms stay where the strain takes them
    clamped = (low + high - 2 * middle) / size**2 / atoms.get_volume() / units.GPa
    assert clamped > 1.005 * found.stiffness[0, 0]


class FixFoundSymmetry(FixSymmetry):
    """ASE's constraint, but with operations from trying all: ASE's own needs spglib."""

    def __init__(self, atoms):
        self.do_adjust_positions = self.do_adjust_cell = True
        self.rotations, self.translations, self.symm_map = [], [], []
        turns = np.array(list(product((-1, 0, 1), repeat=9))).reshape(-1, 3, 3)
        metric, places = atoms.cell.array @ atoms.cell.array.T, atoms.get_scaled_positions()
        same = np.isclose(turns.swapaxes(1, 2) @ metric @ turns, metric).all(axis=(1, 2))
        for turn, target in product(turns[same], places):
            shift = target - turn @ places[0]
            apart = (places @ turn.T + shift)[:, None] - places
            onto = np.isclose(apart, np.round(apart)).all(axis=2)
            if onto.any(axis=1).all():
                self.rotations.append(turn)
                self.translations.append(shift)
                self.symm_map.append(onto.argmax(axis=1).tolist())


def test_symmetry_is_not_kept_under_strain(hcp, of_hcp):
    """ASE would symmetrise the strain itself, and then what atoms do about it."""
    atoms = crystal(hcp.copy(), smooth=True)
    atoms.set_constraint([FixAtoms([0]), FixFoundSymmetry(atoms)])
    assert len(atoms.constraints[1].rotations) == 24  # P6_3/mmc
    for direction in (0, 5):
        copy = strained(atoms, direction, 0.01)
        expected = np.eye(3)
        expected[0, 0] += 0.01 * (direction == 0)
        expected[0, 1] = expected[1, 0] = 0.005 * (direction == 5)
        np.testing.assert_allclose(copy.cell.array, atoms.cell.array @ expected, atol=1e-12)
        assert [type(c) for c in copy.constraints] == [FixAtoms]
    atoms.set_constraint(atoms.constraints[1])
    found = elastic_constants(atoms, strains=SMALL, fmax=1e-6)
    assert isinstance(atoms.constraints[0], FixSymmetry)
    # Forces below fmax are left out in one start, and not in the other.
    np.testing.assert_allclose(found.stiffness, of_hcp.stiffness, atol=1e-3 * of_hcp.bulk_modulus)


def test_progress_and_refusals(fcc):
    atoms = crystal(bulk("Ar", "fcc", a=fcc))
    before = atoms.copy()
    seen = []
    three = elastic_constants(
        atoms, strains=(-0.001, 0, 0.001), progress=lambda done, all: seen.append((done, all))
    )
    assert seen[-1] == (18, 18)
    assert np.isnan(three.errors).all()
    assert atoms == before
    with pytest.raises(ValueError, match="at least 3 different"):
        elastic_constants(atoms, strains=(-0.01, 0.01))
    with pytest.raises(ValueError, match="needs one with a volume"):
        elastic_constants(crystal(molecule("H2O")))
    atoms.calc = Springs(atoms.positions)
    with pytest.raises(ValueError, match="needs a stress, which Springs does not give"):
        elastic_constants(atoms)
    two = crystal(Atoms("Ar2", positions=[[0, 0, 0], [1, 0.8, 0.7]], cell=[1.9] * 3, pbc=True))
    with pytest.raises(ValueError, match="are not at rest after 1 steps"):
        elastic_constants(two, steps=1)
