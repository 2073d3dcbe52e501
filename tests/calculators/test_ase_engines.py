"""ASE's dynamics, relaxations, cell filters and paths run a few steps and do what they should."""

import copy

import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError
from ase.filters import FrechetCellFilter, UnitCellFilter
from ase.io import read
from ase.md.langevin import Langevin
from ase.md.nptberendsen import NPTBerendsen
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS, FIRE, LBFGS, BFGSLineSearch
from ase.units import fs

from pointedge.calculators import PETCalculator
from pointedge.potentials.potential import Potential

from .conftest import bulk, set_temperature, slab, small_potential


@pytest.fixture
def atoms():
    structure = bulk()
    structure.calc = PETCalculator(small_potential(scale=0.2))
    return structure


@pytest.mark.parametrize("optimizer", [BFGS, FIRE, LBFGS, BFGSLineSearch])
def test_relaxation_lowers_the_energy(atoms, optimizer):
    before = atoms.get_potential_energy()
    optimizer(atoms, logfile=None).run(fmax=0.01, steps=8)
    assert atoms.get_potential_energy() < before - 1e-3


@pytest.mark.parametrize("kind", [FrechetCellFilter, UnitCellFilter])
def test_cell_relaxation(atoms, kind):
    volume = atoms.get_volume()
    before = atoms.get_potential_energy()
    FIRE(kind(atoms), logfile=None).run(fmax=0.001, steps=8)
    assert atoms.get_potential_energy() < before
    assert atoms.get_volume() != volume


def test_cell_relaxation_of_a_slab_without_third_vector_is_refused():
    atoms = slab(0.0)
    atoms.calc = PETCalculator(small_potential())
    with pytest.raises(PropertyNotImplementedError, match="span no volume"):
        FIRE(FrechetCellFilter(atoms), logfile=None).run(steps=2)


def test_constant_energy(atoms):
    """The drift of velocity Verlet is that of its time step: a quarter for half of it."""
    start = atoms.copy()
    spread = []
    for step in (0.5, 0.25):
        run = start.copy()
        run.calc = atoms.calc
        set_temperature(run, 300)
        dynamics = VelocityVerlet(run, timestep=step * fs)
        energies = [run.get_total_energy() for _ in dynamics.irun(round(8 / step))]
        spread.append(np.ptp(energies))
    assert 3 < spread[0] / spread[1] < 5


def test_langevin(atoms):
    set_temperature(atoms, 300)
    before = atoms.positions.copy()
    rng = np.random.default_rng(0)
    friction = 0.01 / fs
    Langevin(atoms, 0.5 * fs, temperature_K=300, friction=friction, fixcm=False, rng=rng).run(10)
    assert 0 < np.abs(atoms.positions - before).max() < 1


def test_berendsen_barostat(atoms):
    set_temperature(atoms, 300)
    volume = atoms.get_volume()
    NPTBerendsen(atoms, 0.5 * fs, temperature_K=300, pressure_au=0.0, compressibility_au=0.007).run(
        10
    )
    assert atoms.get_volume() != volume


@pytest.mark.parametrize("name", ["IsotropicMTKNPT", "MTKNPT"])
def test_martyna_tobias_klein_barostat(atoms, name):
    module = pytest.importorskip("ase.md.nose_hoover_chain")
    if not hasattr(module, name):
        pytest.skip(f"this ASE has no {name}")
    set_temperature(atoms, 300)
    volume = atoms.get_volume()
    dynamics = getattr(module, name)(
        atoms, 0.5 * fs, temperature_K=300, pressure_au=0.0, tdamp=50 * fs, pdamp=500 * fs
    )
    dynamics.run(10)
    assert atoms.get_volume() != volume


def test_constant_pressure_needs_one_run_of_the_model_per_step(atoms, monkeypatch):
    runs = []
    forward = Potential.forward
    monkeypatch.setattr(
        Potential, "forward", lambda self, *a, **o: runs.append(o) or forward(self, *a, **o)
    )
    set_temperature(atoms, 300)
    dynamics = NPTBerendsen(
        atoms, 0.5 * fs, temperature_K=300, pressure_au=0.0, compressibility_au=0.007
    )
    dynamics.run(10)
    # One more at either end, and one where the barostat has scaled the cell after the forces.
    assert len(runs) <= 2 * 10 + 2


@pytest.mark.parametrize("shared", [True, False])
def test_nudged_elastic_band(shared):
    calculator = PETCalculator(small_potential(scale=0.2))
    first = bulk()
    last = first.copy()
    last.positions[1] += [0.4, 0.2, 0.0]
    images = [first, *(first.copy() for _ in range(3)), last]
    band = NEB(images, allow_shared_calculator=shared, method="improvedtangent")
    band.interpolate()
    for image in images:
        image.calc = calculator if shared else copy.deepcopy(calculator)
    FIRE(band, logfile=None).run(steps=3)
    for image in images:
        fresh = image.copy()
        fresh.calc = PETCalculator(calculator.potential)
        energy = fresh.get_potential_energy()
        assert image.get_potential_energy() == pytest.approx(energy, rel=1e-13)


def test_trajectory_keeps_results_and_settings(atoms, tmp_path):
    optimizer = BFGS(atoms, logfile=None, trajectory=str(tmp_path / "run.traj"))
    optimizer.run(steps=2)
    last = read(tmp_path / "run.traj")
    assert last.get_potential_energy() == atoms.get_potential_energy()
    np.testing.assert_array_equal(last.get_forces(), atoms.get_forces())
    np.testing.assert_array_equal(last.get_stress(), atoms.get_stress())
    assert last.calc.parameters["dtype"] == "float64"


def test_trajectory_of_a_molecule_has_no_stress(tmp_path):
    molecule = bulk()[:6]
    molecule.cell = None
    molecule.pbc = False
    molecule.calc = PETCalculator(small_potential())
    BFGS(molecule, logfile=None, trajectory=str(tmp_path / "run.traj")).run(steps=2)
    assert "stress" not in read(tmp_path / "run.traj").calc.results
