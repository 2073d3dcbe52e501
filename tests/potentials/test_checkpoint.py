"""Checkpoints: exact round trips, and one clear error for everything that is not one."""

import json
import os
import pickle
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pointedge.potentials import checkpoint
from pointedge.potentials.checkpoint import (
    CheckpointError,
    architecture,
    describe,
    digest_of,
    load,
    save,
)
from pointedge.potentials.graph import Graph
from pointedge.potentials.pet import PET
from pointedge.potentials.potential import Potential

from .. import structures

INFORMATION = {"name": "test", "errors": {"forces": 1.5}, "data": {"sha256": "ab" * 32}}
SETTINGS = {"species": (1, 6, 8, 14), "cutoff": 3.5, "d_pet": 8, "d_node": 12, "num_heads": 2}
SMALL = {"d_head": 8, "d_feedforward": 8, "num_attention_layers": 1, "num_gnn_layers": 1}


@pytest.fixture
def potential():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = PET.from_config({**SETTINGS, **SMALL})
    baseline = {1: -13.6, 6: -1029.123456789, 8: -2042.1, 14: -7875.0}
    return Potential(network, baseline, scale=0.37, repulsion=True, information=INFORMATION)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def rewrite(path, tensors=None, metadata=None):
    """Write the file anew with changed tensors or description, and without a digest."""
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()[checkpoint.METADATA_KEY])
    del description[checkpoint.DIGEST]
    tensors = load_file(path) if tensors is None else tensors
    description.update(metadata or {})
    save_file(tensors, path, metadata={checkpoint.METADATA_KEY: json.dumps(description)})


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
    save(potential, path)
    changed = load(path, {"symmetry": "layers", "frames": {"parity": "SO3"}})
    assert changed.network.config.symmetry == "layers"
    assert changed.network.config.frames.parity == "SO3"
    assert changed.network.config.cutoff == potential.network.config.cutoff
    assert torch.equal(changed.network.edge_embedder.weight, potential.network.edge_embedder.weight)
    with pytest.raises(CheckpointError, match=r"has shape .*, but the configuration asks for"):
        load(path, {"d_head": 16})


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(potential, path, value):
    potential.network.edge_embedder.weight.data[0, 0] = value
    save(potential, path)
    with pytest.raises(CheckpointError, match=r"edge_embedder\.weight has values that are not"):
        load(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32])
def test_a_tensor_of_another_type_is_not_rounded(potential, path, dtype):
    save(potential, path)
    tensors = load_file(path)
    name = "network.gnn_layers.0.edge_embedder.weight"
    rewrite(path, {**tensors, name: tensors[name].to(dtype)})
    with pytest.raises(CheckpointError, match=rf"{name} is {dtype}, and not torch.float32"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"d_pet": 10**6}}, "many more weights"),
        ({"config": {"num_gnn_layers": 10**9}}, "many more weights"),
        ({"config": [1, 2]}, "describes no network"),
        ({"config": {"species": [1, 500]}}, r"model\.safetensors"),
        ({"information": 5}, "describes no network"),
        ({"auxiliary": {"architecture": "pet"}}, "describes no network"),
        ({"rigidity": "x"}, "describes no network"),
        ({"rigidity": -1}, "describes no network"),
    ],
    ids=str,
)
def test_descriptions_that_no_network_can_have(potential, path, change, message):
    save(potential, path)
    config = describe(path)["config"]
    if isinstance(change.get("config"), dict):
        change = {"config": {**config, **change["config"]}}
    rewrite(path, metadata=change)
    with pytest.raises(CheckpointError, match=message) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_unknown_format_version(potential, path):
    save(potential, path)
    rewrite(path, metadata={"format_version": 2})
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors has checkpoint format 2.*update"
    ):
        load(path)


def test_unknown_architecture(potential, path):
    save(potential, path)
    rewrite(path, metadata={"architecture": "pett"})
    with pytest.raises(ValueError, match=r"unknown architecture 'pett'; did you mean 'pet'"):
        load(path)
    with pytest.raises(ValueError, match="known: "):
        architecture("qwertz")


def test_unknown_setting(potential, path):
    save(potential, path)
    rewrite(path, metadata={"config": {**describe(path)["config"], "d_pett": 3}})
    with pytest.raises(ValueError, match="'d_pett'; did you mean 'd_pet'"):
        load(path)


@pytest.mark.parametrize("missing", ["format_version", "architecture", "config", "repulsion"])
def test_incomplete_description(potential, path, missing):
    save(potential, path)
    tensors = load_file(path)
    description = describe(path)
    del description[missing]
    save_file(tensors, path, metadata={checkpoint.METADATA_KEY: json.dumps(description)})
    with pytest.raises(CheckpointError, match=missing.replace("_version", "")):
        load(path)


def test_missing_tensor(potential, path):
    save(potential, path)
    tensors = load_file(path)
    del tensors["network.edge_embedder.weight"]
    rewrite(path, tensors)
    with pytest.raises(CheckpointError, match=r"lacks 1 tensor.*network\.edge_embedder\.weight"):
        load(path)


def test_surplus_tensor(potential, path):
    save(potential, path)
    rewrite(path, {**load_file(path), "network.extra": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"unknown 1 tensor.*network\.extra"):
        load(path)


def test_wrong_shape(potential, path):
    save(potential, path)
    tensors = load_file(path)
    tensors["network.edge_embedder.weight"] = torch.zeros(5, 8)
    rewrite(path, tensors)
    with pytest.raises(
        CheckpointError, match=r"edge_embedder\.weight has shape \(5, 8\).*\(4, 8\)"
    ):
        load(path)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.999])
def test_truncated_file(potential, path, keep):
    save(potential, path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep * len(raw)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match="truncated"):
        load(path)


def test_a_file_of_something_else(path):
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}) * 100)
    with pytest.raises(CheckpointError, match="cannot be read as a safetensors file"):
        load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_somebody_elses_safetensors(path, metadata):
    save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="not a checkpoint of pointedge"):
        load(path)


@pytest.mark.parametrize("text", ["{", "[1, 2]", "3"])
def test_a_broken_description(path, text):
    save_file({"weight": torch.zeros(3)}, path, metadata={checkpoint.METADATA_KEY: text})
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file .*absent\.safetensors"):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(FileNotFoundError):
        load(tmp_path)


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
