import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT

from pointedge.potentials.training.config import TrainingConfig

from ...networks import TINY


def labelled_molecule(rng: np.random.Generator, split: str):
    """A rattled molecule of H, C, N, O with EMT labels, turned at random."""
    atoms = molecule(rng.choice(["H2O", "NH3", "CH4"]))
    atoms.rattle(0.1, rng=rng)
    atoms.calc = EMT()
    atoms.info["REF_energy"] = atoms.get_potential_energy()
    atoms.arrays["REF_forces"] = atoms.get_forces()
    atoms.info["split"] = split
    atoms.calc = None
    return atoms


@pytest.fixture
def config(tmp_path):
    """A small run in a folder with its data, as a dictionary to be changed by the test."""
    rng = np.random.default_rng(0)
    frames = [labelled_molecule(rng, "a" if k < 24 else "b") for k in range(32)]
    ase.io.write(tmp_path / "frames.xyz", frames)
    return {
        "model": {"cutoff": 3.0, **TINY},
        "data": {
            "train": {"files": ["frames.xyz"], "where": {"split": ["a"]}},
            "validation": {"files": ["frames.xyz"], "where": {"split": ["b"]}},
        },
        "optimization": {"batch_size": 4, "max_epochs": 4, "learning_rate": 3e-3, "ema_decay": 0.9},
        "run": {"plot": False},
    }


@pytest.fixture
def resolved(config):
    return TrainingConfig.from_dict(config)
