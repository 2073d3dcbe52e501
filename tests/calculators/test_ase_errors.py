"""Bad input gets one clear error before the model runs."""

import re

import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.calculators import PETCalculator, PotentialCalculator
from pointedge.calculators.inputs import InputError
from pointedge.potentials.potential import Potential

from .conftest import MomentNetwork, bulk, charged_potential, slab, small_potential


@pytest.fixture(scope="module")
def silent():
    """A calculator whose model fails the test if it runs."""
    calculator = PETCalculator(charged_potential())

    def forward(*args, **options):
        pytest.fail("the model ran")

    calculator.potential.forward = forward
    return calculator


def gold():
    atoms = bulk()
    atoms.symbols[3] = "Au"
    return atoms


def dummy():
    atoms = bulk()
    atoms.numbers[3] = 0
    return atoms


def position(value):
    atoms = bulk()
    atoms.positions[4, 2] = value
    return atoms


def cell(value):
    atoms = bulk()
    atoms.cell[1, 0] = value
    return atoms


def zero_vector():
    atoms = slab(0.0)
    atoms.pbc = True
    return atoms


def dependent():
    atoms = bulk()
    atoms.cell[2] = atoms.cell[0] + atoms.cell[1]
    return atoms


def parallel():
    atoms = slab(0.0)
    atoms.cell[1] = -2 * atoms.cell[0]
    return atoms


def overlapping():
    atoms = bulk()
    atoms.positions[7] = atoms.positions[3] + [0, 0.05, 0]
    return atoms


def duplicate():
    return bulk() + bulk()[[5]]


def overlapping_through_the_boundary():
    atoms = bulk()
    atoms.positions[7] = atoms.positions[3] + atoms.cell[0] + [0, 0.05, 0]
    return atoms


def own_image():
    return Atoms("H", cell=[5.0, 5.0, 0.11], pbc=True)


def flat_cell():
    """Vectors longer than the limit whose difference is shorter."""
    return Atoms("H", cell=[[5, 0, 0], [5, 0.05, 0], [0, 0, 5.0]], pbc=True)


def with_info(**info):
    atoms = bulk()
    atoms.info.update(info)
    return atoms


CASES = [
    (Atoms(), "the structure has no atoms; give at least one."),
    (gold(), "the structure: atom 3 is Au, which the model does not know; it knows H, O."),
    (dummy(), "atom 3 is no element (atomic number 0), which the model does not know"),
    (position(np.nan), "the position of atom 4 is ["),
    (position(np.inf), "inf] Å, which is not finite; check the step or file that it came from."),
    (cell(np.nan), "cell vector 1 is [nan, 5.6, 0.3] Å, which is not finite"),
    (zero_vector(), "cell vector 2 is 0 Å long, but periodic, which needs at least 0.1 Å; set the"),
    (dependent(), "the cell vectors of the periodic axes are linearly dependent (5.4 0.2 0; "),
    (parallel(), "the cell vectors of the periodic axes are linearly dependent"),
    (overlapping(), "atoms 3 and 7 are 0.05 Å apart, closer than 0.1 Å; remove duplicate atoms"),
    (duplicate(), "atoms 5 and 16 are 0 Å apart"),
    (overlapping_through_the_boundary(), "atoms 3 and 7 (image -1 0 0) are 0.05 Å apart"),
    (flat_cell(), "atom 0 and its own (image "),
    (
        with_info(charge=4),
        "atoms.info['charge'] is 4, but the model knows charge from -3 to 3 only",
    ),
    (with_info(charge=-4), "atoms.info['charge'] is -4, but"),
    (with_info(charge=0.5), "atoms.info['charge'] must be a whole number, not 0.5."),
    (with_info(charge="one"), "atoms.info['charge'] must be a whole number, not 'one'."),
    (with_info(charge=None), "atoms.info['charge'] must be a whole number, not None."),
    (with_info(charge=[1]), "atoms.info['charge'] must be a whole number, not [1]."),
    (with_info(charge=np.nan), "atoms.info['charge'] must be a whole number, not nan."),
    (with_info(charge=np.inf), "atoms.info['charge'] must be a whole number, not inf."),
    (with_info(spin=0), "atoms.info['spin'] is 0, but the model knows spin from 1 to 4 only"),
    (with_info(spin=5), "atoms.info['spin'] is 5, but"),
]


@pytest.mark.parametrize(("atoms", "message"), CASES)
def test_structures(silent, atoms, message):
    atoms = atoms.copy()
    atoms.calc = silent
    for ask in (atoms.get_forces, atoms.get_potential_energy):
        with pytest.raises(InputError, match=re.escape(message)) as caught:
            ask()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


def test_close_contacts_are_no_overlap(calculator):
    """H2 compressed to a third, and an image at 0.11 Å: unlikely, but no mistake."""
    for atoms in (Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.25]]), own_image()):
        atoms.calc = calculator
        assert np.isfinite(atoms.get_forces()).all()


def test_vectors_of_open_axes_may_be_anything_finite(calculator):
    atoms = slab(0.0)
    atoms.calc = calculator
    forces = atoms.get_forces()
    for vector in ([0, 0, 1e-3], [5.4, 0.2, 0.0], [0, 0, -30.0]):
        atoms.cell[2] = vector
        np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-11)


def test_nearly_flat_cells_are_cells(calculator):
    """10 degrees between the vectors of a rhombohedral cell, and its stress."""
    cosine = np.cos(np.radians(10.0))
    matrix = np.linalg.cholesky(np.full((3, 3), cosine) + np.eye(3) * (1 - cosine))
    atoms = Atoms("O", cell=12 * matrix, pbc=True)
    atoms.calc = calculator
    assert np.isfinite(atoms.get_stress()).all()


def test_magnetic_moments_that_are_not_finite():
    atoms = bulk()
    moments = np.zeros(16)
    moments[6] = np.nan
    atoms.set_initial_magnetic_moments(moments)
    atoms.calc = PotentialCalculator(Potential(MomentNetwork()))
    with pytest.raises(
        InputError, match=r"magnetic moment .* of atom 6 is .*nan.* μ_B, which is not finite"
    ):
        atoms.get_forces()


def test_no_structure_yet(calculator):
    with pytest.raises(InputError, match="no structure yet"):
        calculator.get_potential_energy()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"dtype": "float46"}, ValueError, "unknown dtype 'float46'; did you mean 'float64'?"),
        ({"dtype": torch.float16}, ValueError, "unknown dtype 'float16'; did you mean"),
        ({"dtype": "double"}, ValueError, "unknown dtype 'double'; known: float32, float64."),
        ({"device": "gpu"}, ValueError, "device 'gpu' cannot be used ("),
        ({"device": "meta"}, ValueError, "device 'meta' cannot be used ("),
        ({"device": "cuda:93"}, ValueError, "here: cpu"),
        ({"symmetrize": "esce"}, ValueError, "unknown symmetrize 'esce'; did you mean 'ecse'?"),
        ({"skin": -0.1}, ValueError, "-0.1 Å"),
        ({"skin": float("nan")}, ValueError, "nan Å"),
    ],
)
def test_settings(settings, error, message):
    with pytest.raises(error, match=re.escape(message)) as caught:
        PETCalculator(small_potential(), **settings)
    assert "\n" not in str(caught.value)


def test_misspelt_setting():
    with pytest.raises(TypeError, match="dtyp"):
        PETCalculator(small_potential(), dtyp="float64")


def test_another_architecture():
    with pytest.raises(ValueError, match="holds a MomentNetwork, not a PET; use PotentialCalc"):
        PETCalculator(Potential(MomentNetwork()))


def test_a_charge_that_the_model_does_not_read_is_told():
    calculator = PETCalculator(small_potential())
    atoms = bulk()
    neutral = calculator.get_potential_energy(atoms)
    atoms.info.update(charge=0.0, spin=1)
    calculator.get_potential_energy(atoms)  # no word
    atoms.info.update(charge=1)
    calculator.reset()
    with pytest.warns(UserWarning, match="reads no charge, and gives what it would for 0, not for"):
        assert calculator.get_potential_energy(atoms) == neutral
