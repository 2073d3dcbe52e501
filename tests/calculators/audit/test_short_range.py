"""Atoms that collapse are found, with the distance and the depth; those that repel pass."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from pointedge.calculators.audit import Status

from .pairs import Pair, audit, smooth, structures, with_core

FREE = {"structures": {"free": structures()["free"]}}


def _collapse(found):
    (measured,) = [m for m in found.measured if m.what.startswith("fall")]
    return measured


@pytest.mark.parametrize("calculator", [Pair(smooth), LennardJones(sigma=2.3, rc=5, smooth=True)])
def test_repulsion_passes(calculator):
    found = audit("approach", calculator, **FREE)
    assert found.status is Status.PASS, found.worst
    told = {m.what: m.value for m in found.measured if m.what.startswith("ml-peg")}
    assert told["ml-peg diatomics, sign flips of the force (1 is right)"] == 1
    assert told["ml-peg diatomics, minima (1 is right)"] == 1
    assert told["ml-peg diatomics, Spearman, repulsive side (-1 is right)"] == pytest.approx(-1)
    assert told["ml-peg diatomics, Spearman, attractive side (1 is right)"] > 0.8


def test_an_attractive_core_fails_with_its_distance_and_depth():
    found = audit("approach", Pair(with_core), **FREE)
    assert found.status is Status.FAIL
    r = np.linspace(0.9, 0.2, 20001) * 2.64
    energy = with_core(r + 0j).real
    top = energy[r > 1.0].argmax()
    # The audit looks every 0.7 * 2.64 Å / 35 = 0.053 Å: it misses the top by up to half of that.
    said = float(re.search(r"from ([\d.]+) Å", _collapse(found).what)[1])
    assert said == pytest.approx(r[top], abs=0.06)
    assert _collapse(found).value == pytest.approx(energy[top] - energy[top:].min(), rel=0.05)


def test_attraction_without_a_wall_fails():
    found = audit("approach", Pair(lambda r: -np.exp(-r)), **FREE)
    assert found.status is Status.FAIL


def test_a_wall_that_nobody_gets_over_warns():
    def potential(r):
        return 50.0 * np.exp(-((r / 1.2) ** 2)) - 500.0 * np.exp(-((r / 0.35) ** 2))

    assert audit("approach", Pair(potential), **FREE).status is Status.WARN


def test_a_refusal_ends_the_scan_and_is_told():
    class Careful(Pair):
        def calculate(self, atoms=None, *args, **kwargs):
            if len(atoms) == 2 and atoms.get_distance(0, 1) < 1.0:
                raise ValueError("too close.")
            super().calculate(atoms, *args, **kwargs)

    found = audit("approach", Careful(with_core), **FREE)
    assert "Cu-Cu: refused below 1.0" in found.notes[0]


@pytest.mark.parametrize("calculator", [Pair(smooth), EMT()])
def test_lone_atoms_pass(calculator):
    found = audit("isolated", calculator, **FREE)
    assert found.status is Status.PASS, found.worst


class _Lonely(Pair):
    def __init__(self, force=0.0, pair=0.0, energy=0.0):
        super().__init__(smooth)
        self.extra = (force, pair, energy)

    def calculate(self, atoms=None, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        force, pair, energy = self.extra
        self.results["forces"] = self.results["forces"] + force * (len(atoms) == 1)
        self.results["energy"] += pair * (len(atoms) == 2) + energy * (len(atoms) == 1)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"force": 1e-6}, "force on one Cu"),
        ({"pair": 1e-9}, "energy of Cu-Cu, 60 Å apart"),
        ({"energy": np.nan}, "energy or force is no number at 1 of 1 points, one Cu"),
    ],
)
def test_lone_atoms_fail(fault, said):
    found = audit("isolated", _Lonely(**fault), **FREE)
    assert found.status is Status.FAIL
    assert said in {m.what for m in found.measured if m.status is Status.FAIL}


def test_lone_atoms_and_dimers_have_the_moments_of_the_structures():
    class Spins(Pair):
        def calculate(self, atoms=None, *args, **kwargs):
            if "initial_magmoms" not in atoms.arrays:
                raise ValueError("no moments.")
            assert (
                atoms.get_initial_magnetic_moments() == np.where(atoms.numbers == 29, 5, 0)
            ).all()
            super().calculate(atoms, *args, **kwargs)

    known = {name: atoms.copy() for name, atoms in structures().items()}
    for atoms in known.values():
        atoms.numbers[1] = 8
        atoms.set_initial_magnetic_moments(np.where(atoms.numbers == 29, 5, 0))
    for check in ("isolated", "approach"):
        found = audit(check, Spins(smooth), structures=known)
        assert found.status is Status.PASS, found.worst
