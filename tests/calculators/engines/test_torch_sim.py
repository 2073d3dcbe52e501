"""torch-sim: batches give the numbers of one-by-one ASE, and what it would lose is refused."""

import warnings

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.filters import FrechetCellFilter
from ase.geometry import find_mic
from ase.optimize import FIRE

from pointedge.calculators import PotentialCalculator
from pointedge.potentials.checkpoint import architecture
from pointedge.potentials.potential import Potential

from ...networks import tiny_pet
from ..conftest import bulk

with warnings.catch_warnings():  # torch-sim scripts functions when it is imported
    warnings.simplefilter("ignore")
    pytest.importorskip(
        "torch_sim", reason="torch-sim is not installed; pip install 'pointedge[engines]'"
    )
    import torch_sim
    from torch_sim.integrators import nvt_langevin
    from torch_sim.models.interface import validate_model_outputs
    from torch_sim.optimizers import fire, frechet_cell_fire

    from pointedge.calculators.engines.torch_sim import PotentialModel

STEPS = 15
MANY = [4, pytest.param(100, marks=pytest.mark.slow)]
# torch-sim's FIRE is ASE's, but lowers the mixing before using it, and not after: so not at all.
OURS, THEIRS = {"f_alpha": 1.0}, {"fa": 1.0, "logfile": None}
TOLERANCE = 1e-6  # eV, Å, eV/Å: what the issue asks of a whole trajectory
EXACT = 1e-10  # of one evaluation


@pytest.fixture(scope="module")
def repulsive():
    """Random weights, and ZBL so that atoms that are let go do not fall into each other."""
    network = tiny_pet(0, species=(1, 8), cutoff=3.0)
    return Potential(network, {1: -13.6, 8: -432.1}, 5.0, repulsion=True)


def crystals(count):
    """Periodic structures of 2 to 6 atoms in skewed cells, some atoms outside of theirs."""
    found = []
    for k in range(count):
        rng = np.random.default_rng(k)
        sites = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1], [0, 0, 1]]) / 2
        size = 2 + k % 5
        cell = np.diag(rng.uniform(3.6, 4.4, 3)) + rng.normal(scale=0.2, size=(3, 3))
        atoms = Atoms(rng.choice(["H", "O"], size), cell=cell, pbc=True)
        atoms.set_scaled_positions(sites[:size])
        atoms.positions += rng.normal(scale=0.1, size=(size, 3))
        atoms.positions[0] += cell[0] - cell[2]
        found.append(atoms)
    return found


def each(tensor, structures):
    """Rows of a batch by structure, as arrays."""
    return np.split(tensor.numpy(), np.cumsum([len(a) for a in structures])[:-1])


def assert_same_places(found, expected, cell):
    """Positions agree up to lattice vectors."""
    assert find_mic(found - expected, cell)[1].max() < TOLERANCE


def test_energy_forces_and_stress_are_those_of_ase(potential):
    structures = [bulk(), *crystals(5)]
    model = PotentialModel(potential)
    results = model(model.state(structures))
    calculator = PotentialCalculator(potential)
    forces = each(results["forces"], structures)
    for k, atoms in enumerate(structures):
        atoms.calc = calculator
        assert results["energy"][k].item() == pytest.approx(atoms.get_potential_energy(), abs=EXACT)
        np.testing.assert_allclose(forces[k], atoms.get_forces(), rtol=0, atol=EXACT)
        stress = atoms.get_stress(voigt=False)
        np.testing.assert_allclose(results["stress"][k], stress, rtol=0, atol=EXACT)


def test_molecules_have_no_stress(potential):
    molecules = [molecule("H2O"), molecule("H2O2"), Atoms("O")]
    with pytest.raises(PropertyNotImplementedError, match="structure 0 has no stress"):
        PotentialModel(potential).state(molecules)
    model = PotentialModel(potential, compute_stress=False)
    state = model.state(molecules)
    results = model(state)
    assert set(results) == {"energy", "forces"}
    calculator = PotentialCalculator(potential)
    expected = [calculator.get_forces(atoms) for atoms in molecules]
    np.testing.assert_allclose(results["forces"], np.concatenate(expected), rtol=0, atol=EXACT)
    model.compute_stress = True
    with pytest.raises(ValueError, match="structure 0 has no stress"):
        model(state)


@pytest.mark.parametrize("name", ["pet", "mace"])
def test_passes_torch_sims_own_test(name):
    settings = {
        "pet": {"d_pet": 8, "d_node": 8, "d_head": 8, "num_heads": 2},
        "mace": {"irreps": "4x0e + 4x1o", "lmax": 2, "radial_width": 8},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = {"species": (14, 26), "cutoff": 4.0, **settings[name]}
        network = architecture(name).from_config(config)
    model = PotentialModel(Potential(network.double(), {14: -100.0, 26: -200.0}))
    validate_model_outputs(model, model.device, model.dtype)


@pytest.mark.parametrize("count", MANY)
def test_relaxation_takes_the_steps_of_ase(repulsive, count):
    structures = crystals(count)
    model = PotentialModel(repulsive)
    start, step = fire(model, **OURS)
    state = start(model.state(structures))
    for _ in range(STEPS):
        state = step(state)
    calculator = PotentialCalculator(repulsive)
    positions = each(state.positions, structures)
    for k, atoms in enumerate(structures):
        atoms.calc = calculator
        FIRE(atoms, **THEIRS).run(fmax=0.0, steps=STEPS)
        assert_same_places(positions[k], atoms.positions, atoms.cell)
        assert state.energy[k].item() == pytest.approx(atoms.get_potential_energy(), abs=TOLERANCE)


def test_relaxation_of_cells_takes_the_steps_of_ase(repulsive):
    structures = crystals(3)
    model = PotentialModel(repulsive)
    start, step = frechet_cell_fire(model, **OURS)
    state = start(model.state(structures))
    for _ in range(STEPS):
        state = step(state)
    calculator = PotentialCalculator(repulsive)
    for k, atoms in enumerate(structures):
        atoms.calc = calculator
        before = atoms.get_potential_energy()
        FIRE(FrechetCellFilter(atoms), **THEIRS).run(fmax=0.0, steps=STEPS)
        assert before - atoms.get_potential_energy() > 0.01
        assert state.energy[k].item() == pytest.approx(atoms.get_potential_energy(), abs=TOLERANCE)


def baoab(atoms, momenta, noise, dt, kt, gamma):
    """Langevin dynamics of one structure with ASE: the splitting of torch-sim, one by one."""
    mass = atoms.get_masses()[:, None]
    c1 = np.exp(-gamma * dt)
    for kick in noise:
        momenta = momenta + 0.5 * dt * atoms.get_forces()
        atoms.positions += 0.5 * dt * momenta / mass
        momenta = c1 * momenta + np.sqrt(kt * (1 - c1**2) * mass) * kick
        atoms.positions += 0.5 * dt * momenta / mass
        momenta = momenta + 0.5 * dt * atoms.get_forces()
    return momenta


@pytest.mark.parametrize("count", MANY)
def test_nvt_is_that_of_ase(repulsive, count):
    structures = crystals(count)
    dt, kt, gamma = 0.5 * units.fs, 300 * units.kB, 0.02 / units.fs
    model = PotentialModel(repulsive)
    scalars = (torch.tensor(x, dtype=torch.float64) for x in (dt, kt, gamma))
    start, step = nvt_langevin(model, **dict(zip(("dt", "kT", "gamma"), scalars, strict=True)))
    state = start(model.state(structures), seed=0)
    momenta = each(state.momenta.clone(), structures)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        noise = torch.stack([torch.randn_like(state.momenta) for _ in range(STEPS)], dim=1)
        torch.manual_seed(1)
        for _ in range(STEPS):
            state = step(state)
    assert model._batch._verlet.builds < STEPS  # neighbours were kept between steps
    calculator = PotentialCalculator(repulsive)
    kicks = each(noise, structures)
    found = zip(each(state.positions, structures), each(state.momenta, structures), strict=True)
    for k, (positions, final) in enumerate(found):
        atoms = structures[k]
        atoms.calc = calculator
        expected = baoab(atoms, momenta[k], kicks[k].swapaxes(0, 1), dt, kt, gamma)
        np.testing.assert_allclose(final, expected, rtol=0, atol=TOLERANCE)
        assert_same_places(positions, atoms.positions, atoms.cell)
        assert state.energy[k].item() == pytest.approx(atoms.get_potential_energy(), abs=TOLERANCE)


def test_structures_leave_a_batch_when_they_are_relaxed(repulsive):
    structures = crystals(3)
    model = PotentialModel(repulsive)
    converged = torch_sim.generate_force_convergence_fn(0.3, include_cell_forces=False)
    final = torch_sim.optimize(
        model.state(structures), model, optimizer=fire, convergence_fn=converged
    )
    calculator = PotentialCalculator(repulsive)
    for energy, atoms in zip(final.energy, final.to_atoms(), strict=True):
        assert energy.item() == pytest.approx(calculator.get_potential_energy(atoms), abs=EXACT)
        assert np.linalg.norm(calculator.get_forces(atoms), axis=1).max() < 0.3


def test_a_float32_network_keeps_states_in_float64(potential):
    model = PotentialModel(potential, dtype="float32")
    assert model.dtype == torch.float64
    results = model(model.state(bulk()))
    assert {value.dtype for value in results.values()} == {torch.float64}
    expected = PotentialCalculator(potential, dtype="float32").get_potential_energy(bulk())
    assert results["energy"].item() == pytest.approx(expected, abs=1e-5)
