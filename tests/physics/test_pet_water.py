"""The packaged water models on our own box: derivatives, smoothness and conservation."""

import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.calculators import PETCalculator
from pointedge.calculators.cli.runs import read_structure
from pointedge.calculators.dynamics import MDSettings
from pointedge.calculators.loading import load_potential
from pointedge.calculators.md import run_md
from pointedge.potentials.graph import Graph

from .numerics import DERIVATIVE


@pytest.fixture(scope="module", params=["pet-water", "pet-water-o3", "mace-water"])
def potential(request):
    return load_potential(request.param).to(torch.float64)


def test_forces_along_random_directions(potential):
    """Finite differences of the energy without baseline, along directions that move all atoms."""
    atoms = read_structure(None)
    graph = Graph.from_atoms(atoms, potential.cutoff)
    forces = potential(graph).forces
    rng = np.random.default_rng(0)
    for _ in range(2):
        direction = rng.normal(size=atoms.positions.shape)

        def energy(step, direction=direction):
            moved = atoms.copy()
            moved.positions += step * direction
            graph = Graph.from_atoms(moved, potential.cutoff)
            return potential(graph, forces=False).energy.item()

        expected = -(forces.numpy() * direction).sum()
        scale = np.abs(forces.numpy() * direction).sum()
        errors = []
        for h in (1e-4, 3e-4):
            numeric = (energy(-2 * h) - 8 * energy(-h) + 8 * energy(h) - energy(2 * h)) / (12 * h)
            errors.append(abs(numeric - expected) / scale)
        assert min(errors) < DERIVATIVE


@pytest.mark.parametrize(("pair", "radius"), [("OO", 1.32), ("HO", 0.97), ("HH", 0.62)])
def test_close_contacts_repel(potential, pair, radius):
    """Below 0.8 of the sum of covalent radii two atoms alone repel, and more when closer."""
    distances = np.linspace(0.2, 0.8, 7) * radius
    frames = [Atoms(pair, [[0, 0, 0], [0.6 * r, 0, 0.8 * r]]) for r in distances]
    forces = potential(Graph.from_atoms(frames, potential.cutoff)).forces.numpy()
    push = forces[1::2] @ [0.6, 0, 0.8]
    assert (push > 0).all()
    assert (np.diff(push) < 0).all()


def test_stretched_bonds_are_pulled_back(potential):
    """In the liquid a stretched O-H bond has a restoring force; a first model had none at 1.3 Å."""
    atoms = read_structure(None)
    distances = atoms.get_all_distances(mic=True)
    hydrogens = np.flatnonzero(atoms.numbers == 1)
    for oxygen in np.flatnonzero(atoms.numbers == 8)[::16]:
        hydrogen = hydrogens[np.argmin(distances[oxygen, hydrogens])]
        bond = atoms.get_distance(oxygen, hydrogen, mic=True, vector=True)
        bond /= np.linalg.norm(bond)
        for length in (1.15, 1.25, 1.35, 1.45):
            frame = atoms.copy()
            frame.positions[hydrogen] = frame.positions[oxygen] + length * bond
            forces = potential(Graph.from_atoms(frame, potential.cutoff)).forces.numpy()
            assert forces[hydrogen] @ bond < 0, f"bond {oxygen}-{hydrogen} at {length} Å"


@pytest.mark.slow
def test_energy_is_conserved(tmp_path):
    """Slope below 0.1 meV/atom/ps at 0.5 fs, and fluctuations that fall with the step squared."""
    fluctuations = {}
    for timestep in (0.25, 0.5):
        atoms = read_structure(None)
        atoms.calc = PETCalculator("pet-water", dtype="float64")
        settings = MDSettings(
            ensemble="nve", timestep=timestep, steps=round(500 / timestep), log_interval=1
        )
        result = run_md(atoms, settings, tmp_path / str(timestep))
        slope, error = result.energy_drift()
        assert abs(slope) < 0.1 + 2 * error
        time, energy = result.thermo["time_ps"], result.thermo["conserved_eV"]
        fluctuations[timestep] = (energy - np.polyval(np.polyfit(time, energy, 1), time)).std()
    assert fluctuations[0.5] / fluctuations[0.25] == pytest.approx(4, rel=0.25)
