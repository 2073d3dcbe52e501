"""The packaged crystals are what their script makes, and what their names say."""

from collections import Counter

import ase.io
import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from pointedge.data import generate_structures


@pytest.mark.parametrize(("name", "make"), [("mno-64", "mno"), ("hea-128", "alloy")])
def test_the_script_makes_the_files(name, make):
    packaged = ase.io.read(generate_structures.FOLDER / f"{name}.xyz")
    made = getattr(generate_structures, make)()
    assert packaged.info == made.info
    np.testing.assert_array_equal(packaged.numbers, made.numbers)
    np.testing.assert_allclose(packaged.positions, made.positions, atol=1e-8)
    np.testing.assert_allclose(packaged.cell, made.cell)
    np.testing.assert_allclose(
        packaged.get_initial_magnetic_moments(), made.get_initial_magnetic_moments()
    )
    assert len(packaged) == int(name.partition("-")[2])


def test_manganese_is_antiferromagnetic_of_type_ii():
    """Half of the 12 nearest Mn are parallel, and all six next ones, across an O, are opposite."""
    atoms = generate_structures.mno()
    moments = atoms.get_initial_magnetic_moments()
    assert moments.sum() == 0
    assert not moments[atoms.numbers == 8].any()
    i, j, distance = neighbor_list("ijd", atoms, 1.01 * generate_structures.MNO_LATTICE)
    between = (atoms.numbers[i] == 25) & (atoms.numbers[j] == 25)
    relative = distance / generate_structures.MNO_LATTICE
    near, far = between & (relative < 0.72), between & (relative > 0.99)
    parallel = moments[i] == moments[j]
    assert near.sum() == 12 * 32
    assert Counter(i[near & parallel]) == Counter(i[near & ~parallel])
    assert not parallel[far].any()
    assert far.sum() == 6 * 32
    with pytest.raises(ValueError, match="even number"):
        generate_structures.mno(repeat=3)


def test_the_alloy_is_an_equal_mixture_on_a_bcc_lattice():
    atoms = generate_structures.alloy()
    assert set(Counter(atoms.get_chemical_symbols()).values()) == {32}
    assert atoms.cell[0, 0] / 4 == pytest.approx((3.15 + 3.30 + 3.31 + 3.16) / 4)
    distances = neighbor_list("d", atoms, 3.0)
    assert len(distances) == 8 * 128
    other = generate_structures.alloy(seed=1)
    assert (atoms.numbers != other.numbers).mean() > 0.5
    with pytest.raises(ValueError, match="even repeat"):
        generate_structures.alloy(repeat=3)
