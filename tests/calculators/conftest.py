"""Small potentials with random weights, and structures of every kind of boundary."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.units import kB
from torch import nn

from pointedge.calculators import PETCalculator
from pointedge.potentials.pet import PET, PETConfig
from pointedge.potentials.potential import Potential

BASELINE = {1: -13.6, 8: -432.1}


def small_potential(seed=0, baseline=None, scale=0.5, dtype=torch.float64, **settings):
    """A PET for H and O, 3.5 Å, with random weights."""
    defaults = {
        "species": (1, 8),
        "cutoff": 3.5,
        "d_pet": 16,
        "d_node": 16,
        "d_head": 16,
        "d_feedforward": 16,
        "num_heads": 2,
        "num_attention_layers": 1,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PET(PETConfig(**{**defaults, **settings})).to(dtype)
    return Potential(network, BASELINE if baseline is None else baseline, scale)


def charged_potential():
    """A PET that reads charge and spin, with a conditioning that is not zero."""
    potential = small_potential(system_conditioning=True, max_charge=3, max_spin_multiplicity=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        nn.init.normal_(potential.network.system_conditioning.project[2].weight)
    return potential


class MomentNetwork(nn.Module):
    """E_i = a Σ_x m_ix² + Σ_j (1 - r²/r_c²)³: another architecture, which reads magmoms."""

    cutoff = 3.0
    inputs = ("magmoms",)
    properties = ("energy",)

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def to_config(self):
        return {"species": [1, 8]}

    def forward(self, graph, edge_vectors):
        pair = (1 - edge_vectors.square().sum(-1) / self.cutoff**2).clamp(min=0) ** 3
        energies = self.a * graph.magmoms.square().sum(-1)
        return {"energy": energies.index_add(0, graph.centers, pair)}


def bulk():
    """16 atoms in a triclinic periodic cell, some outside it."""
    rng = np.random.default_rng(3)
    cell = np.array([[5.4, 0.2, 0.0], [0.9, 5.6, 0.3], [-0.7, 0.4, 5.9]])
    grid = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1, 2, 3], indexing="ij"), -1).reshape(-1, 3)
    positions = (grid / [2, 2, 4]) @ cell + rng.normal(scale=0.12, size=(16, 3))
    positions[2] += 2 * cell[0] - cell[2]
    return Atoms("OH" * 8, positions=positions, cell=cell, pbc=True)


def slab(height):
    """Two periodic axes; the third cell vector is zero or ``height`` Å long."""
    atoms = bulk()
    cell = atoms.cell[:] * [[1.0], [1.0], [0.0]]
    cell[2, 2] = height
    atoms.set_cell(cell)
    atoms.pbc = (True, True, False)
    return atoms


def set_temperature(atoms, kelvin):
    """Give the atoms thermal momenta, without net momentum; the same ones in every call."""
    momenta = np.random.default_rng(0).normal(size=(len(atoms), 3))
    momenta *= np.sqrt(kelvin * kB * atoms.get_masses())[:, None]
    atoms.set_momenta(momenta - momenta.mean(axis=0))


def structures():
    """One structure of each kind, by name."""
    water = molecule("H2O")
    boxed = molecule("H2O", cell=[9.0, 9.5, 10.0])
    water.rotate(40, (1, 2, 3))
    return {
        "bulk": bulk(),
        "slab": slab(20.0),
        "slab without third vector": slab(0.0),
        "molecule": water,
        "molecule in a box": boxed,
        "atom": Atoms("O", positions=[[0.3, 0.1, -0.2]]),
        "two atoms out of reach": Atoms("OH", positions=[[0, 0, 0], [0, 0, 3.6]]),
    }


@pytest.fixture
def calculator():
    return PETCalculator(small_potential())


@pytest.fixture(scope="session")
def potential():
    return small_potential()
