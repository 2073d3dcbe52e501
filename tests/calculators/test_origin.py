"""What is the same run of dynamics, and what another one that its folder refuses."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from ase.constraints import FixAtoms, FixedPlane, Hookean

from pointedge.calculators import PETCalculator
from pointedge.calculators.md import run_md

from .conftest import bulk, charged_potential, small_potential
from .quick import SoftSpheres, argon, files, settings


@pytest.fixture
def fluid():
    return argon()


def test_other_runs_are_refused(fluid, tmp_path):
    run_md(fluid, settings(), tmp_path)
    before = files(tmp_path)
    more = settings(steps=80)
    other = fluid.copy()
    other.calc = SoftSpheres()
    other.positions[0, 0] += 1e-9
    with pytest.raises(ValueError, match="began with another structure"):
        run_md(other, more, tmp_path)
    harder = SoftSpheres()
    harder.height = 2.1
    fluid.calc = harder
    with pytest.raises(ValueError, match=r"another model: at step 40 its energy was .* eV"):
        run_md(fluid, more, tmp_path)
    fluid.calc = SoftSpheres()
    with pytest.raises(ValueError, match="with seed 0, not 1"):
        run_md(fluid, settings(steps=80, seed=1), tmp_path)
    assert files(tmp_path) == before


class Wall:
    """A constraint that ASE cannot write."""

    def __init__(self, height):
        self.height, self.side = height, np.array([0, 0, 1])

    def get_removed_dof(self, atoms):
        return 0

    def adjust_positions(self, atoms, new):
        new[:, 2] = np.maximum(new[:, 2], self.height)

    def adjust_momenta(self, atoms, momenta):
        pass

    adjust_forces = adjust_momenta

    def copy(self):
        return Wall(self.height)


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (FixAtoms([0, 1]), FixAtoms([4, 5])),
        (FixedPlane(3, np.array([0, 0, 1])), FixedPlane(3, np.array([0, 1, 0]))),
        (Hookean(0, 1, rt=np.float64(3.0), k=5.0), Hookean(0, 1, rt=np.float64(3.0), k=6.0)),
        (Wall(-4.0), Wall(-3.0)),
    ],
    ids=lambda constraint: type(constraint).__name__,
)
def test_other_constraints_are_another_run(fluid, tmp_path, first, other):
    fluid.set_constraint(first)
    run_md(fluid, settings(steps=10), tmp_path / "run")
    same = argon()
    same.set_constraint(copy.deepcopy(first))
    assert run_md(same, settings(steps=20), tmp_path / "run").frames == 3
    same.set_constraint(other)
    with pytest.raises(ValueError, match="began with another set of constraints; name another"):
        run_md(same, settings(steps=30), tmp_path / "run")
    path = tmp_path / "run" / "state.json"
    state = json.loads(path.read_text())  # as of an earlier version
    del state["constraints"], state["inputs"]
    path.write_text(json.dumps(state))
    assert run_md(same, settings(steps=30), tmp_path / "run").frames == 4


def test_another_charge_is_another_run_where_it_is_read(tmp_path):
    potential, run = charged_potential(), settings(steps=2, interval=1, timestep=0.1)
    for name, reader, other in (
        ("all", PETCalculator(potential), {"charge": 1}),
        ("none", SoftSpheres(), {"spin": 3, "charge": "no"}),
    ):
        atoms = bulk()
        atoms.calc = reader
        run_md(atoms, run, tmp_path / name)
        atoms.info.update(other)
        with pytest.raises(ValueError, match="began with another charge or spin"):
            run_md(atoms, run, tmp_path / name)
    atoms = bulk()
    atoms.calc = PETCalculator(small_potential())
    for charge in (0, 1):
        atoms.info["charge"] = charge
        run_md(atoms, run, tmp_path / "deaf")
