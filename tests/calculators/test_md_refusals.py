"""Molecular dynamics that cannot be: unstable, over other runs, of unsuitable structures."""

from __future__ import annotations

from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixAtoms

from pointedge.calculators import md
from pointedge.calculators.dynamics import MDSettings
from pointedge.calculators.md import UnstableDynamicsError, run_md

from .quick import SoftSpheres, Springs, argon, settings


@pytest.fixture
def fluid():
    return argon()


def test_unstable_dynamics_stops(fluid, tmp_path):
    fluid.calc = Springs(fluid.positions, constant=50.0)  # stable below 18 fs
    with pytest.raises(UnstableDynamicsError, match=r"at step [1-9]\d* .* timestep below 20 fs"):
        run_md(fluid, settings(timestep=20.0, steps=1000, interval=1), tmp_path / "run")
    frames = ase.io.read(tmp_path / "run" / "trajectory.extxyz", index=":")
    assert 1 < len(frames) < 1000
    assert all(np.isfinite(f.positions).all() for f in frames)
    with pytest.raises(UnstableDynamicsError, match=r"cannot start: an atom moves by \d\.\d\d Å"):
        run_md(fluid, settings(timestep=400.0), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_energies_that_are_not_finite_stop(fluid, tmp_path):
    class Broken(SoftSpheres):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            if np.abs(args[0].positions - fluid.positions).max() > 0.05:
                self.results["forces"][3] = np.nan

    fluid.calc = Broken()
    with pytest.raises(UnstableDynamicsError, match="energy or forces are not finite"):
        run_md(fluid, settings(steps=1000), tmp_path)


def test_colliding_atoms_of_our_calculator_are_unstable_dynamics(tmp_path):
    from pointedge.calculators import PETCalculator

    from .conftest import small_potential

    atoms = molecule("H2O", vacuum=3.0, pbc=True)
    atoms.calc = PETCalculator(small_potential())
    direction = atoms.positions[0] - atoms.positions[1]
    speed = 0.45 / units.fs
    atoms.set_velocities([[0, 0, 0], speed * direction / np.linalg.norm(direction), [0, 0, 0]])
    with pytest.raises(UnstableDynamicsError, match=r"at step 2 .* apart"):
        run_md(atoms, settings(timestep=1.0, ensemble="nve"), tmp_path)


def test_a_folder_is_never_overwritten_silently(fluid, tmp_path):
    run_md(fluid, settings(steps=10), tmp_path)
    before = (tmp_path / "thermo.csv").read_text()
    with pytest.raises(ValueError, match=r"not empty: it holds a run with timestep 2\.0, not"):
        run_md(fluid, settings(timestep=1.0), tmp_path)
    assert (tmp_path / "thermo.csv").read_text() == before
    (tmp_path / "state.json").unlink()
    with pytest.raises(ValueError, match="is not empty, and holds no run"):
        run_md(fluid, settings(), tmp_path)
    run_md(fluid, settings(), tmp_path, overwrite=True)
    assert len((tmp_path / "thermo.csv").read_text().splitlines()) == 10
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        run_md(fluid, settings(), tmp_path / "file")


def test_an_unsuitable_structure_is_refused_before_anything_is_written(fluid, tmp_path):
    folder = tmp_path / "run"
    water = molecule("H2O")
    water.calc = SoftSpheres()
    with pytest.raises(ValueError, match="needs a cell with a volume"):
        run_md(water, settings(ensemble="npt"), folder)
    water.set_cell([9, 9, 9])
    water.pbc = True
    water.calc = Springs(water.positions)
    with pytest.raises(ValueError, match="needs a stress, which Springs does not give"):
        run_md(water, settings(ensemble="npt"), folder)
    with pytest.raises(ValueError, match="at least 2 atoms"):
        run_md(Atoms("Ar", calculator=SoftSpheres()), settings(), folder)
    fluid.set_constraint(FixAtoms(range(32)))
    with pytest.raises(ValueError, match="no atom free"):
        run_md(fluid, settings(), folder)
    fluid.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match="no constraints"):
        run_md(fluid, settings(ensemble="npt"), folder)
    fluid.calc = None
    with pytest.raises(ValueError, match="no calculator"):
        run_md(fluid, settings(), folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ensemble": "NVT"}, "unknown ensemble"),
        ({"thermostat": "nose"}, "unknown thermostat"),
        ({"temperature": 0.0}, "temperature is 0.0 K"),
        ({"timestep": -1.0}, "timestep is -1.0 fs"),
        ({"timestep": np.nan}, "timestep is nan fs"),
        ({"pressure": np.inf}, "pressure is inf bar"),
        ({"steps": 0}, "steps is 0"),
        ({"interval": 0}, "interval is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"pressure": 5e4}, "pressure has a meaning in npt, and the ensemble is nvt"),
        ({"ensemble": "nve", "thermostat": "langevin"}, "thermostat has a meaning in nvt,"),
        ({"ensemble": "npt", "thermostat": "langevin"}, "thermostat has a meaning in nvt,"),
        ({"ensemble": "nve", "thermostat_time": 3.0}, "thermostat_time has a meaning in nvt and"),
        ({"ensemble": "nvt", "barostat_time": 3.0}, "barostat_time has a meaning in npt"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        MDSettings(**change)


def test_what_is_too_hot_follows_from_the_start(fluid, tmp_path, monkeypatch):
    """And not from where a run is resumed: it ends as if it had never stopped."""
    fluid.set_momenta(30 * np.ones((len(fluid), 3)) * (np.arange(len(fluid)) % 2)[:, None])
    seen = []
    monkeypatch.setattr(md, "_instability", lambda atoms, timestep, hottest: seen.append(hottest))
    run = settings(thermostat="langevin", steps=40)
    run_md(fluid, replace(run, steps=10), tmp_path)
    run_md(fluid, run, tmp_path)
    assert seen[0] > 10 * fluid.get_temperature() / 2 > 3000
    assert set(seen) == {seen[0]}
