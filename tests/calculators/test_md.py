"""Molecular dynamics: what a run writes and keeps, and whether its physics is right."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from matplotlib.image import imread

from pointedge.calculators.dynamics import MDSettings, make_dynamics
from pointedge.calculators.figures import md_figure
from pointedge.calculators.md import run_md
from pointedge.calculators.recorder import COLUMNS, pressure

from .quick import SoftSpheres, Springs, argon, settings


@pytest.fixture
def fluid():
    return argon()


def test_the_test_calculator_is_consistent(fluid):
    from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

    numerical = calculate_numerical_forces(fluid, eps=1e-4, iatoms=[0, 7])
    np.testing.assert_allclose(fluid.get_forces()[[0, 7]], numerical, atol=1e-8)
    strained = calculate_numerical_stress(fluid)  # nearest images as above know no sheared cell
    np.testing.assert_allclose(fluid.get_stress()[:3], strained[:3], atol=1e-8)


def test_files_and_columns(fluid, tmp_path):
    result = run_md(fluid, settings(steps=43), tmp_path / "run")
    table = np.genfromtxt(tmp_path / "run" / "thermo.csv", delimiter=",", names=True)
    assert table.dtype.names == tuple(COLUMNS)
    assert table["step"].tolist() == [0, 5, 10, 15, 20, 25, 30, 35, 40, 43]
    np.testing.assert_allclose(table["time_ps"], 0.002 * table["step"])
    sums = table["potential_eV"] + table["kinetic_eV"]
    np.testing.assert_allclose(table["total_eV"], sums, atol=2e-8)
    np.testing.assert_allclose(table["volume_A3"], 10.6**3)
    assert np.isfinite(table["pressure_bar"]).all()
    assert np.isnan(table["wall_ms_per_step"][0])
    assert (table["wall_ms_per_step"][1:] > 0).all()
    frames = ase.io.read(tmp_path / "run" / "trajectory.extxyz", index=":")
    assert [f.info["step"] for f in frames] == [0, 10, 20, 30, 40, 43]
    assert frames[-1].info["time_fs"] == 86.0
    assert result.frames == 6
    stored = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert MDSettings(**stored) == result.settings
    for frame in frames:
        energy, forces = frame.get_potential_energy(), frame.get_forces()
        stress = frame.get_stress()
        frame.calc = SoftSpheres()
        assert frame.get_potential_energy() == pytest.approx(energy, abs=1e-6)
        np.testing.assert_allclose(frame.get_forces(), forces, atol=1e-6)
        np.testing.assert_allclose(frame.get_stress(), stress, atol=1e-8)
    np.testing.assert_allclose(frames[-1].positions, result.atoms.positions, atol=1e-8)
    np.testing.assert_allclose(frames[-1].get_momenta(), result.atoms.get_momenta(), atol=1e-8)


def test_the_structure_is_only_read(fluid, tmp_path):
    fluid.info["REF_energy"] = -1.0
    fluid.arrays["REF_forces"] = np.ones((32, 3))
    fluid.info["charge"] = 0
    before = fluid.copy()
    run_md(fluid, settings(), tmp_path)
    assert fluid == before
    assert not fluid.constraints
    assert not fluid.has("momenta")
    frame = ase.io.read(tmp_path / "trajectory.extxyz")
    assert set(frame.info) == {"charge", "step", "time_fs"}  # labels would now be wrong
    assert "REF_forces" not in frame.arrays


def test_velocities_are_drawn_or_kept(fluid, tmp_path):
    first = run_md(fluid, settings(steps=1), tmp_path / "a")
    again = run_md(fluid, settings(steps=1), tmp_path / "b")
    other = run_md(fluid, settings(steps=1, seed=1), tmp_path / "c")
    assert first.drew_velocities
    np.testing.assert_array_equal(first.atoms.get_momenta(), again.atoms.get_momenta())
    assert np.abs(first.atoms.get_momenta() - other.atoms.get_momenta()).max() > 0.1
    fluid.set_velocities(np.full((32, 3), 0.01))
    fluid.arrays["momenta"][0] += 3.0
    kept = run_md(fluid, settings(steps=1, ensemble="nve"), tmp_path / "d")
    assert not kept.drew_velocities
    start = ase.io.read(tmp_path / "d" / "trajectory.extxyz", index=0)
    relative = fluid.get_momenta() - fluid.get_momenta().mean(axis=0)
    np.testing.assert_allclose(start.get_momenta(), relative, atol=1e-7)


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_center_of_mass_stays(fluid, tmp_path, ensemble):
    result = run_md(fluid, settings(ensemble=ensemble), tmp_path)
    assert np.abs(result.atoms.get_momenta().sum(axis=0)).max() < 1e-10
    moved = result.atoms.get_center_of_mass() - fluid.get_center_of_mass()
    assert np.abs(moved).max() < 1e-10
    kinetic = result.thermo["kinetic_eV"]
    expected = 2 * kinetic / (93 * units.kB)
    np.testing.assert_allclose(result.thermo["temperature_K"], expected, rtol=1e-6)


def test_nve_conserves_energy(fluid, tmp_path):
    result = run_md(fluid, settings(ensemble="nve", steps=600), tmp_path)
    slope, error = result.energy_drift()
    assert abs(slope) < max(4 * error, 0.02)
    assert np.ptp(result.thermo["conserved_eV"]) < 2e-3 * np.ptp(result.thermo["potential_eV"])


def test_bussi_keeps_its_conserved_quantity(fluid, tmp_path):
    result = run_md(fluid, settings(steps=600), tmp_path)
    assert np.ptp(result.thermo["total_eV"]) > 0.3
    assert np.ptp(result.thermo["conserved_eV"]) < 5e-3
    assert abs(result.energy_drift()[0]) < 0.05


@pytest.mark.parametrize("thermostat", ["bussi", "langevin"])
def test_nvt_temperature(fluid, tmp_path, thermostat):
    run = settings(
        steps=2500, timestep=4.0, thermostat=thermostat, thermostat_time=30.0, interval=1000
    )
    result = run_md(fluid, run, tmp_path)
    mean, error = result.mean("temperature_K")
    assert error < 6
    assert abs(mean - 300) < 4 * error
    # A canonical kinetic energy of f degrees of freedom has variance f/2 (k_B T)².
    spread = result.thermo["temperature_K"][100:].std()
    assert spread == pytest.approx(300 * np.sqrt(2 / 93), rel=0.15)


def test_langevin_heats_modes_that_exchange_no_energy(fluid, tmp_path):
    fluid.positions = bulk("Ar", a=5.3, cubic=True).repeat(2).positions
    fluid.calc = Springs(fluid.positions)
    run = settings(
        steps=2500, timestep=4.0, thermostat="langevin", thermostat_time=30.0, interval=1000
    )
    result = run_md(fluid, run, tmp_path)
    mean, error = result.mean("potential_eV")
    assert abs(mean - 93 / 2 * units.kB * 300) < 4 * error
    assert np.isnan(result.energy_drift()).all()


def test_npt_pressure_and_temperature(fluid, tmp_path):
    run = settings(
        ensemble="npt",
        steps=2500,
        timestep=4.0,
        pressure=8000.0,
        thermostat_time=30.0,
        barostat_time=300.0,
        interval=1000,
    )
    result = run_md(fluid, run, tmp_path)
    for column, target in (("pressure_bar", 8000.0), ("temperature_K", 300.0)):
        mean, error = result.mean(column)
        assert error < 0.06 * target
        assert abs(mean - target) < 4 * error
    assert np.ptp(result.thermo["volume_A3"]) > 10
    cell = result.atoms.cell.array
    np.testing.assert_allclose(cell, cell[0, 0] * np.eye(3), atol=1e-10)


def test_a_run_continues_from_its_last_frame(fluid, tmp_path):
    whole = run_md(fluid, settings(ensemble="nve", steps=60), tmp_path / "whole")
    run_md(fluid, settings(ensemble="nve", steps=30), tmp_path / "first")
    last = ase.io.read(tmp_path / "first" / "trajectory.extxyz")
    last.calc = SoftSpheres()
    rest = run_md(last, settings(ensemble="nve", steps=30), tmp_path / "rest")
    assert not rest.drew_velocities
    np.testing.assert_allclose(rest.atoms.positions, whole.atoms.positions, atol=1e-6)
    noisy = run_md(last, settings(steps=30, thermostat="langevin"), tmp_path / "noisy")
    assert not noisy.atoms.constraints


def test_fixed_atoms_stay_fixed_and_are_counted(fluid, tmp_path):
    fluid.set_constraint(FixAtoms([0, 1]))
    result = run_md(fluid, settings(), tmp_path)
    np.testing.assert_array_equal(result.atoms.positions[:2], fluid.positions[:2])
    kinetic, temperature = result.thermo["kinetic_eV"], result.thermo["temperature_K"]
    np.testing.assert_allclose(temperature, 2 * kinetic / (90 * units.kB), rtol=1e-6)
    assert len(ase.io.read(tmp_path / "trajectory.extxyz").constraints) == 1


def test_an_interrupted_run_leaves_readable_files(fluid, tmp_path):
    def stop(step, temperature):
        if step == 27:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_md(fluid, settings(), tmp_path, progress=stop)
    frames = ase.io.read(tmp_path / "trajectory.extxyz", index=":")
    assert [f.info["step"] for f in frames] == [0, 10, 20]
    table = np.genfromtxt(tmp_path / "thermo.csv", delimiter=",", names=True)
    assert table["step"][-1] == 25


def test_pressure_of_an_ideal_gas_is_its_kinetic_part(fluid):
    fluid.set_cell(fluid.cell * 10, scale_atoms=True)
    rng = np.random.default_rng(0)
    fluid.set_momenta(rng.normal(size=(32, 3)))
    temperature = fluid.get_temperature()
    expected = 32 * units.kB * temperature / fluid.get_volume()
    assert pressure(fluid) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(pressure(molecule("H2O")))


def test_every_ensemble_has_its_dynamics(fluid):
    rng = np.random.default_rng(0)
    fluid.set_momenta(rng.normal(size=(32, 3)))
    names = {
        type(make_dynamics(fluid, settings(**change), rng)).__name__
        for change in ({}, {"ensemble": "nve"}, {"ensemble": "npt"}, {"thermostat": "langevin"})
    }
    assert names == {"VelocityVerlet", "Bussi", "Langevin", "LangevinBAOAB"}


def water_box():
    """27 water molecules far from equilibrium, for pictures."""
    single = molecule("H2O")
    single.set_cell([3.5] * 3)
    single.pbc = True
    return single.repeat(3)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_picture(tmp_path, periodic, ensemble):
    atoms = water_box()
    atoms.pbc = periodic
    atoms.calc = Springs(atoms.positions)
    result = run_md(atoms, settings(ensemble=ensemble, timestep=0.5), tmp_path)
    rdfs = result.rdfs() if periodic else []
    assert [r.pair for r in rdfs] == ([("O", "O"), ("O", "H")] if periodic else [])
    md_figure(result, rdfs).savefig(tmp_path / "md.png", dpi=100)
    image = imread(tmp_path / "md.png")
    assert image.shape[:2] == ((660, 900) if periodic else (350, 900))
    assert image[..., :3].min() < 0.5 < image[..., :3].max()
