"""Checkpoints: exact round trips, and one clear error for everything that is not one."""

import json
import os
import pickle
import struct

import pytest
import torch
from ase import Atoms

from pointedge.potentials import checkpoint
from pointedge.potentials.checkpoint import (
    CheckpointError,
    describe,
    digest_of,
    load,
    save,
    with_settings,
)
from pointedge.potentials.ecse.symmetrize import symmetrized
from pointedge.potentials.graph import Graph
from pointedge.potentials.pet import PET, PETConfig
from pointedge.potentials.potential import Potential

from .. import structures
from .conftest import INFORMATION, SETTINGS, SMALL
from .saved import rewrite


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_round_trip_is_exact(potential, path, dtype):
    potential.to(dtype)
    save(potential, path)
    again = load(path)
    assert again.dtype == dtype
    assert not again.training
    before, after = potential.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype, name
        assert torch.equal(after[name], tensor), name
    assert again.network.config == potential.network.config
    assert again.zbl is not None
    assert again.information == INFORMATION
    assert again.species == potential.species
    graph = Graph.from_atoms(list(structures.patterns().values()), potential.cutoff)
    first, second = potential(graph, virial=True), again(graph, virial=True)
    for part in ("energies", "baseline", "forces", "strain_gradient"):
        assert torch.equal(getattr(first, part), getattr(second, part)), part


def test_settings_that_leave_the_weights_alone_can_be_changed(potential, path):
    changed = with_settings(potential, {"symmetry": "layers", "frames": {"parity": "SO3"}}, path)
    assert changed.network.config.symmetry == "layers"
    assert changed.network.config.frames.parity == "SO3"
    assert changed.network.config.cutoff == potential.network.config.cutoff
    assert torch.equal(changed.network.edge_embedder.weight, potential.network.edge_embedder.weight)
    with pytest.raises(CheckpointError, match=r"has shape .*, but the configuration asks for"):
        with_settings(potential, {"d_head": 16}, path)


def test_round_trip_without_repulsion(path):
    potential = Potential(PET.from_config({**SETTINGS, **SMALL}))
    save(potential, path)
    assert load(path).zbl is None
    assert load(path).information == {}


def test_metadata_say_what_the_file_is(potential, path):
    save(potential, path)
    description = describe(path)
    assert description["format_version"] == 1
    assert description["architecture"] == "pet"
    assert description["species"] == [1, 6, 8, 14]
    assert description["units"] == {"length": "Å", "energy": "eV"}
    assert description["repulsion"] is True
    assert description["information"] == INFORMATION
    assert description["code_version"]
    # The configuration is complete: no default of a later version can change the model.
    assert description["config"].keys() == potential.network.to_config().keys()
    assert description["config"]["attention_temperature"] == 1.0


def test_baseline_is_stored_in_full_precision(potential, path):
    potential.to(torch.float32)
    save(potential, path)
    assert load(path).baseline[6].item() == -1029.123456789
    assert load(path).scale.item() == 0.37


def test_no_pickle_anywhere(potential, path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a checkpoint was pickled")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch, "save", refuse)
    save(potential, path)
    load(path)
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])  # safetensors: a length, a JSON header, then data
    ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
    assert 8 + length + max(ends) == len(raw)


def test_every_kind_of_damage_to_weights_and_settings_is_noticed(potential, path):
    save(potential, path)
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    cutoff = whole.index(b'\\"cutoff\\": 3.5') + len(b'\\"cutoff\\": ')
    for place in (cutoff, 8 + length, 8 + length + (len(whole) - length) // 2, len(whole) - 1):
        for bit in (0, 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged: its conte"):
                load(path)
    path.write_bytes(whole)
    load(path)


def test_the_digest_is_of_names_types_shapes_and_values():
    tensors = {"a": torch.arange(6.0), "b": torch.tensor(2.0)}
    changes = [
        {"a": tensors["b"], "b": tensors["a"]},
        {**tensors, "a": tensors["a"].view(2, 3)},
        {**tensors, "a": tensors["a"].view(torch.int32)},
        {**tensors, "b": torch.tensor(-2.0)},
        {"a": tensors["a"]},
    ]
    digests = {digest_of({"x": 1}, each) for each in (tensors, *changes)}
    assert len(digests) == 6
    assert digest_of({"x": 2}, tensors) not in digests
    again = dict(reversed(tensors.items()))
    assert digest_of({"sha256": "of another", "x": 1}, again) == digest_of({"x": 1}, tensors)


def test_files_without_a_digest_are_read(potential, path):
    save(potential, path)
    rewrite(path)
    assert checkpoint.DIGEST not in describe(path)
    again = load(path).state_dict()
    assert all(torch.equal(again[k], v) for k, v in potential.state_dict().items())


def test_a_failed_save_leaves_the_old_file_whole(potential, path, monkeypatch):
    save(potential, path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save(potential, path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    save(potential, path)
    load(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_only_registered_architectures_are_saved(path):
    class Other(PET):
        pass

    potential = Potential(Other.from_config({**SETTINGS, **SMALL}))
    with pytest.raises(ValueError, match="Other is not a registered architecture"):
        save(potential, path)
    assert not path.exists()


def test_saving_does_not_change_the_potential(potential, path):
    before = {k: v.clone() for k, v in potential.state_dict().items()}
    potential.train()
    save(potential, path)
    assert potential.training
    assert all(torch.equal(potential.state_dict()[k], v) for k, v in before.items())


def test_settings_of_a_part_change_one_by_one(path):
    frames = {"method": "scores", "reach": 3.0, "preference": 6.0}
    network = PET.from_config({**SETTINGS, **SMALL, "symmetry": "layers", "frames": frames})
    changed = with_settings(Potential(network), {"frames": {"preference": 2.0}}, path)
    found = changed.network.config.frames
    assert (found.reach, found.preference) == (3.0, 2.0)
    other = with_settings(Potential(network), {"frames": {"method": "radius"}}, path)
    assert type(other.network.config.frames) is not type(found)


def test_an_auxiliary_network_of_another_type_is_refused_before_it_is_written(path):
    network, other = (PET(PETConfig(**SETTINGS, **SMALL)) for _ in range(2))
    mixed = Potential(network, auxiliary=other.double())
    with pytest.raises(ValueError, match=r"float32 and its auxiliary one torch\.float64"):
        save(mixed, path)
    assert not path.exists()
    save(mixed.double(), path)
    load(path)


def test_a_symmetrised_potential_says_what_to_save(potential, path):
    with pytest.raises(ValueError, match="save the one that it was made of"):
        save(symmetrized(potential, "octahedral"), path)


@pytest.mark.parametrize("number", [-1, 0, 119])
def test_what_is_no_element(number):
    message = f"there is no element {number}; atomic numbers are 1 to 118"
    with pytest.raises(ValueError, match=message):
        PETConfig(species=(1, number))
    with pytest.raises(ValueError, match=message):
        Potential(PET(PETConfig(**SETTINGS, **SMALL)), {number: 1.0})


def test_what_has_no_gradient_is_refused(potential):
    graph = Graph.from_atoms(list(structures.patterns().values()), 3.0)
    with torch.inference_mode(), pytest.raises(ValueError, match=r"leave it out, or use torch.no"):
        potential(graph)
    with torch.no_grad():
        assert potential(graph).forces.abs().max() > 0
    with pytest.raises(ValueError, match="the graph has no atoms"):
        potential(Graph.from_atoms(Atoms(), 3.0))
