"""Our PETs as checkpoints of metatrain: what our reader makes of them, and what is refused.

That metatrain reads them is seen where it is installed: tests/peers/metatrain_roundtrip.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.potentials import checkpoint
from pointedge.potentials.ecse.symmetrize import symmetrized
from pointedge.potentials.graph import Graph
from pointedge.potentials.packaged import packaged_models
from pointedge.potentials.pet import published
from pointedge.potentials.pet.published import PublishedError
from pointedge.potentials.pet.published.building import round_like_metatrain
from pointedge.potentials.pet.published.pickles import opened
from pointedge.potentials.pet.published.writing import save
from pointedge.potentials.potential import Potential

from ...networks import tiny_pet
from ..test_pet_reference import structures
from .cases import CASES, original_folder

CHECKPOINTS = sorted(path.stem for path in CASES.glob("case*.ckpt"))


def numbers(potential: Potential, atoms: Atoms) -> list[np.ndarray]:
    graph = Graph.from_atoms(atoms, potential.cutoff, inputs=potential.inputs)
    found = potential(graph, virial=True)
    energies = found.energies + found.atomic_baseline
    return [energies.numpy(), found.forces.numpy(), found.virial.numpy()]


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_what_was_read_is_written_with_the_same_names_and_numbers(case, tmp_path):
    potential = published.load(CASES / f"{case}.ckpt")
    assert save(potential, tmp_path / "a.ckpt") == []
    again = published.load(tmp_path / "a.ckpt")
    assert again.network.config == potential.network.config
    for key, value in potential.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    with opened(CASES / f"{case}.ckpt") as theirs, opened(tmp_path / "a.ckpt") as ours:
        if theirs["model_ckpt_version"] < 16:
            return
        assert ours["model_data"]["model_hypers"] == theirs["model_data"]["model_hypers"]
        expected, found = (saved["best_model_state_dict"] for saved in (theirs, ours))
        assert next(iter(found)) == "backend.species_to_species_index"
        for name in expected.keys() | found.keys() - {"finetune_config"}:
            assert (found[name].size, found[name].dtype) == (
                expected[name].size,
                expected[name].dtype,
            ), name
        info = [saved["model_data"]["dataset_info"].state for saved in (theirs, ours)]
        assert info[0].keys() == info[1].keys()
        target = [state["targets"]["energy"].state for state in info]
        buffers = [state.pop("layout").state[0].read() for state in target]
        assert target[0] == target[1]
        assert len(buffers[0]) == len(buffers[1])


@pytest.mark.parametrize("case", ["orig1_default_like_f64", "orig3_only_length_f64"])
def test_models_of_the_research_code(case, tmp_path):
    """They see less than metatrain's PET, which gives the same with weights of zero."""
    potential = published.load(original_folder(tmp_path / "a", case, baseline=(1, 2, 3, 4)))
    save(potential, tmp_path / "a.ckpt")
    again = published.load(tmp_path / "a.ckpt")
    assert again.network.config.blend_neighbor_species
    for name in ("ethanol_molecule", "dimer"):
        both = [numbers(p, structures()[name]) for p in (again, potential)]
        for found, expected in zip(*both, strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * abs(expected).max())


def test_edges_that_see_vectors_alone(tmp_path):
    network = tiny_pet(3, species=(1, 6, 8, 14), edge_input="vector", cutoff=3.5)
    potential = Potential(network, scale=2.0)
    save(potential, tmp_path / "a.ckpt")
    atoms = structures()["ethanol_molecule"]
    both = [numbers(p, atoms) for p in (published.load(tmp_path / "a.ckpt"), potential)]
    for found, expected in zip(*both, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * abs(expected).max())


def test_packaged_water(tmp_path):
    potential = checkpoint.load(packaged_models()["pet-water"])
    notes = save(potential, tmp_path / "a.ckpt")
    assert notes == [
        "Its auxiliary network (for ECSE) is not written.",
        "Its uncertainty is not written.",
    ]
    again = published.load(tmp_path / "a.ckpt")
    assert again.dtype == torch.float32
    round_like_metatrain(potential)
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    for found, expected in zip(numbers(again, water), numbers(potential, water), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cutoff_function": "tanh"}, "has no cutoff_function = 'tanh'"),
        ({"symmetry": "layers"}, "has no symmetry = 'layers'"),
        ({"typical_moment": 2.0}, r"has no typical_moment = 2\.0"),
        ({"properties": ("energy", "dipole")}, r"has no properties = \('energy', 'dipole'\)"),
    ],
)
def test_settings_without_a_form_are_refused(settings, message, tmp_path):
    potential = Potential(tiny_pet(1, species=(1, 8), cutoff=3.0, **settings))
    with pytest.raises(PublishedError, match=message):
        save(potential, tmp_path / "a.ckpt")
    assert not (tmp_path / "a.ckpt").exists()


def test_other_networks_are_refused(tmp_path):
    plain = Potential(tiny_pet(1, species=(1, 8), cutoff=3.0))
    with pytest.raises(PublishedError, match="only a PET can be written for metatrain, not a symm"):
        save(symmetrized(plain, "octahedral"), tmp_path / "a.ckpt")
    mace = checkpoint.load(packaged_models()["mace-water"])
    with pytest.raises(PublishedError, match="not MACE"):
        save(mace, tmp_path / "a.ckpt")
