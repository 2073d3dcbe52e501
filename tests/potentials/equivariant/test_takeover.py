"""Energies, forces and stress of the packages mace-torch 0.3.16 and nequip 0.19.1, reproduced.

``tests/data/mace_reference.npz`` and ``nequip_reference.npz`` hold random weights and what the
packages computed with them in float64, for ethanol and a small triclinic crystal.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.potentials import checkpoint
from pointedge.potentials.equivariant.takeover import TakeOverError, from_mace, from_nequip
from pointedge.potentials.graph import Graph

DATA = Path(__file__).parents[2] / "data"
AGREEMENT = 1e-12  # of the largest force and of the energy; sums of some hundred terms
MODELS = {"mace": (from_mace, "abc"), "nequip": (from_nequip, ("l1", "l2", "l2p", "l3p"))}
CASES = [(kind, name) for kind, (_, names) in MODELS.items() for name in names]


@cache
def reference(kind: str) -> dict[str, np.ndarray]:
    return dict(np.load(DATA / f"{kind}_reference.npz"))


def model(kind: str, name: str):
    data = reference(kind)
    prefix = f"{name}/state/"
    arrays = {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}
    return json.loads(str(data[f"{name}/config"])), arrays


def atoms(kind: str, structure: str) -> Atoms:
    values = {
        k: reference(kind)[f"{structure}/{k}"] for k in ("numbers", "positions", "cell", "pbc")
    }
    return Atoms(**values)


@pytest.mark.parametrize("structure", ["molecule", "crystal"])
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_energies_and_derivatives_are_theirs(kind, name, structure):
    potential = MODELS[kind][0](*model(kind, name))
    expected = {
        key: reference(kind).get(f"{name}/{structure}/{key}")
        for key in ("energy", "forces", "stress")
    }
    frame = atoms(kind, structure)
    found = potential(Graph.from_atoms(frame, potential.cutoff), virial=True)
    energy = float(found.energy + found.baseline)
    assert energy == pytest.approx(float(expected["energy"]), rel=AGREEMENT)
    scale = np.abs(expected["forces"]).max()
    assert scale > 0.1
    assert np.abs(found.forces.numpy() - expected["forces"]).max() < AGREEMENT * scale
    if expected["stress"] is not None:
        stress = found.virial[0].numpy() / frame.get_volume()
        largest = np.abs(expected["stress"]).max()
        assert np.abs(stress - expected["stress"]).max() < AGREEMENT * largest


def test_what_was_taken_over_can_be_saved(tmp_path):
    potential = from_mace(*model("mace", "a"))
    graph = Graph.from_atoms(atoms("mace", "crystal"), potential.cutoff)
    checkpoint.save(potential, tmp_path / "mace.safetensors")
    again = checkpoint.load(tmp_path / "mace.safetensors")
    assert torch.equal(again(graph).energy, potential(graph).energy)


@pytest.mark.parametrize(
    ("kind", "name", "changes", "message"),
    [
        ("mace", "a", {"interaction_cls_first": "RealAgnosticDensityInteractionBlock"}, "Density"),
        ("mace", "a", {"hidden_irreps": "8x0e + 8x1o"}, "do not fit"),
        ("mace", "a", {"radial_MLP": [8, 16]}, r"radial_MLP = \[8, 16\] must have layers of one"),
        ("nequip", "l1", {"bessel_trainable": True}, "bessel_trainable = True is not computed"),
        ("nequip", "l1", {"avg_num_neighbors": {"H": 1, "C": 2, "O": 3}}, "of single species"),
        ("nequip", "l1", {"num_features": 5}, "do not fit"),
    ],
)
def test_what_is_not_ours_is_refused(kind, name, changes, message):
    arguments, arrays = model(kind, name)
    with pytest.raises(TakeOverError, match=message):
        MODELS[kind][0]({**arguments, **changes}, arrays)
