"""Checkpoints of metatrain: versions 1 to 16, targets, and what is refused by name."""

from __future__ import annotations

import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from ase.data import covalent_radii
from ase.units import create_units

from pointedge.potentials import checkpoint
from pointedge.potentials.graph import Graph
from pointedge.potentials.pet import published
from pointedge.potentials.pet.published import PublishedError, building
from pointedge.potentials.pet.published.parsing import parsed
from pointedge.potentials.pet.published.pickles import opened

from ...peers.metatrain_references import structures
from .cases import CASES, FORMAT, unpacked

FILES = sorted(path.name for path in FORMAT.glob("*.gz"))
REFERENCES = np.load(FORMAT / "references.npz")
WITH_ENERGY = [
    (name, target)
    for name in FILES
    for target in ("energy", "energy/pbe")
    if f"{name}/{target}/0/energy" in REFERENCES
]


def read(path, target=None):
    """A potential, without the warning of what was left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return published.load(path, target)


@pytest.fixture
def changed(monkeypatch):
    """Load case1, or another, after a change of what is in the file."""

    def load(change, case="case1_default_small_f64", target=None):
        @contextmanager
        def opened_and_changed(path):
            with opened(path) as saved:
                change(saved)
                yield saved

        monkeypatch.setattr(building, "opened", opened_and_changed)
        return read(CASES / f"{case}.ckpt", target)

    return load


def test_all_versions_are_there():
    published_files = [name for name in FILES if name.startswith("model-v")]
    assert len(published_files) == 34
    versions = {int(name.split("-")[1].split("_")[0][1:]) for name in published_files}
    assert versions == set(range(1, 17))
    assert len(WITH_ENERGY) == 34 + 5


@pytest.mark.parametrize(("name", "target"), WITH_ENERGY)
def test_metatrain_computes_the_same(name, target, tmp_path):
    potential = read(unpacked(name, tmp_path), target).to(torch.float64)
    for number, atoms in enumerate(structures()):
        graph = Graph.from_atoms(atoms, potential.cutoff, inputs=potential.inputs)
        found = potential(graph)
        expected = {k: REFERENCES[f"{name}/{target}/{number}/{k}"] for k in ("energy", "forces")}
        energy = float(found.energy + found.baseline)
        assert energy == pytest.approx(float(expected["energy"]), rel=1e-12)
        np.testing.assert_allclose(found.forces.numpy(), expected["forces"], rtol=0, atol=1e-11)


def test_the_two_structures_tell_models_apart():
    energies = {float(REFERENCES[f"{name}/energy/1/energy"]) for name in FILES}
    assert len(energies) == len(FILES)
    assert all(np.abs(REFERENCES[f"{name}/energy/1/forces"]).max() > 1e-3 for name in FILES)


def test_the_best_weights_are_read(changed):
    def spoil_last(saved):
        saved["model_state_dict"] = dict.fromkeys(saved["model_state_dict"])

    def spoil_best(saved):
        saved["best_model_state_dict"] = None

    def spoil_both(saved):
        saved.update(model_state_dict={}, best_model_state_dict={})

    for change in (spoil_last, spoil_best):
        assert changed(change).dtype == torch.float64
    with pytest.raises(PublishedError, match="it holds no weights"):
        changed(spoil_both)


def test_what_is_not_read_is_said(tmp_path):
    path = unpacked("several.ckpt.gz", tmp_path)
    with pytest.warns(UserWarning, match=r"direct predictions \(non_conservative_forces\) are not"):
        potential = published.load(path)
    assert "energy is read, and not energy/pbe" in " ".join(potential.information["notes"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        published.load(CASES / "case1_default_small_f64.ckpt")


def test_choice_of_a_target(tmp_path):
    path = unpacked("several.ckpt.gz", tmp_path)
    factor = create_units("2018")["kcal"] / create_units("2018")["mol"]
    with opened(path) as saved:
        assert [t.unit for t in parsed(saved).targets[:2]] == ["kcal/mol", "eV"]
    plain, variant = read(path), read(path, "energy/pbe")
    assert float(plain.scale) == pytest.approx(factor * (1 + 1 / 3))
    assert float(variant.scale) == pytest.approx(1 + 1 / 4)
    assert torch.equal(read(path, "pbe").baseline, variant.baseline)
    with pytest.raises(PublishedError, match="no energy 'scan'; it has energy, energy/pbe"):
        read(path, "scan")


def rename(old: str, new: str):
    """Call a target otherwise."""

    def change(saved):
        targets = saved["model_data"]["dataset_info"].state["targets"]
        targets[new] = targets.pop(old)
        for key in ("model_state_dict", "best_model_state_dict"):
            state = {k: v for k, v in saved[key].items() if k != "finetune_config"}
            saved[key] = {
                k.replace(f".{old}.", f".{new}.").replace(f".{old}_", f".{new}_"): v
                for k, v in state.items()
            }

    return change


def test_several_energies_and_none_chosen(changed):
    def two(saved):
        rename("energy", "energy/pbe")(saved)
        targets = saved["model_data"]["dataset_info"].state["targets"]
        targets["mtt::U0"] = targets["energy/pbe"]

    message = r"several energies, energy/pbe, mtt::U0; choose one .* 'model.ckpt@energy/pbe'"
    with pytest.raises(PublishedError, match=message):
        changed(two)
    assert changed(two, target="pbe").information["origin"].endswith("target energy/pbe")
    only = changed(rename("energy", "mtt::U0"))
    assert torch.equal(only.baseline, read(CASES / "case1_default_small_f64.ckpt").baseline)


def hypers(**values):
    return lambda saved: saved["model_data"]["model_hypers"].update(values)


def info(key, value):
    return lambda saved: saved["model_data"]["dataset_info"].state.update({key: value})


def target(key, value):
    return lambda saved: (
        saved["model_data"]["dataset_info"].state["targets"]["energy"].state.update({key: value})
    )


def tensor(change):
    return lambda saved: change(saved["best_model_state_dict"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.update(model_ckpt_version=17),
            "model version is 17, .* reads 1 to 16; update",
        ),
        (lambda s: s.update(architecture_name="soap_bpnn"), "architecture 'soap_bpnn'"),
        (lambda s: s.pop("model_data"), "no checkpoint of metatrain"),
        (lambda s: s.pop("model_state_dict"), "lacks a part of a checkpoint of version 16"),
        (lambda s: s["model_data"].update(dataset_info={}), "lacks a part .* a dict in place"),
        (
            hypers(long_range={"enable": True}),
            "long_range.enable = True: its long-range featuriser",
        ),
        (hypers(zeal=1), "hyper-parameter zeal is not known"),
        (lambda s: s["model_data"]["model_hypers"].pop("d_head"), "parameter d_head is missing"),
        (hypers(cutoff_function="step"), "cutoff_function = 'step'"),
        (hypers(d_head=5), "has shape .* but its hyper-parameters ask for"),
        (hypers(num_gnn_layers=3), "lacks .* such as gnn_layers.2"),
        (hypers(num_gnn_layers=1), "not known here, such as gnn_layers.1"),
        (info("length_unit", "bohr"), "lengths are in bohr"),
        (info("_atomic_types", [1, 6, 8, 13]), "table of species does not fit"),
        (target("unit", "furlong"), "energy is in 'furlong'; known units are ev"),
        (target("is_scalar", False), "predicts energy, and no energy"),
        (tensor(lambda s: s.update({"extra.weight": s["backend.edge_embedder.weight"]})), "extra"),
        (tensor(lambda s: s.pop("backend.edge_embedder.weight")), "such as edge_embedder.weight"),
        (
            tensor(lambda s: s.update({"a.lora_A.weight": s["backend.edge_embedder.weight"]})),
            "low-rank updates .LoRA., but does not state",
        ),
    ],
)
def test_what_is_refused(changed, change, message):
    with pytest.raises(PublishedError, match=message) as error:
        changed(change)
    assert "case1_default_small_f64.ckpt" in str(error.value)
    assert "\n" not in str(error.value)


def test_units(changed):
    hartree = changed(target("unit", "Hartree"))
    assert float(hartree.scale) == pytest.approx(0.37 * 27.211386245988)
    assert hartree.baseline[1].item() == pytest.approx(-0.6 * 27.211386245988)
    unstated = changed(target("unit", ""))
    assert "taken for eV" in unstated.information["notes"][0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_radii_of_the_repulsion(changed, dtype):
    """A model in float32 has them in float32."""
    key = "additive_models.1.covalent_radii"

    def of_type(saved, factor=1.0):
        state = saved["best_model_state_dict"]
        state[key] = in_memory(state[key], factor * state[key].read().to(dtype))

    potential = changed(of_type, case="case8_zbl_f64")
    expected = torch.tensor([covalent_radii[z] for z in (1, 6, 8, 14)], dtype=dtype).double()
    assert torch.equal(potential.zbl.radius.diagonal(), 2 * expected)
    with pytest.raises(PublishedError, match=r"radii of its repulsion .ZBL. are not those"):
        changed(lambda saved: of_type(saved, 1.01), case="case8_zbl_f64")


def test_repulsion_acts_on_energies_in_ev_alone(changed):
    assert changed(lambda saved: None, case="case8_zbl_f64").zbl is not None
    other = changed(target("unit", "Hartree"), case="case8_zbl_f64")
    assert other.zbl is None
    assert "repulsion (ZBL) does not act" in other.information["notes"][0]


def test_uncertainty_wrapper_is_taken_off(changed):
    def wrap(saved):
        inner = dict(saved)
        saved.clear()
        saved.update(architecture_name="llpr", wrapped_model_checkpoint=inner)

    potential = changed(wrap)
    assert potential.rigidity is None, "nothing was fitted"
    expected = read(CASES / "case1_default_small_f64.ckpt")
    assert all(map(torch.equal, potential.state_dict().values(), expected.state_dict().values()))


def test_species_in_another_order(changed):
    """The table of species, not the order of atomic numbers, says which row is whose."""
    names = ("edge_embedder", "node_embedders.0", "gnn_layers.1.neighbor_embedder")

    def turn(saved):
        state = saved["best_model_state_dict"]
        table = state["backend.species_to_species_index"].read()
        values = {"backend.species_to_species_index": torch.where(table >= 0, 3 - table, table)}
        for name in names:
            key = f"backend.{name}.weight"
            values[key] = state[key].read().flip(0)
        for key, value in values.items():
            state[key] = in_memory(state[key], value)

    potential, expected = changed(turn), read(CASES / "case1_default_small_f64.ckpt")
    assert all(map(torch.equal, potential.state_dict().values(), expected.state_dict().values()))


def in_memory(stored, value):
    """A stored tensor with other numbers."""

    class InMemory(type(stored)):
        def read(self):
            return value

    return InMemory(**vars(stored))


def test_conversion_keeps_every_number(tmp_path):
    for case in ("case7_conditioning_f64", "case8_zbl_f64", "case2_adaptive_solver_f64"):
        potential = published.load(CASES / f"{case}.ckpt")
        checkpoint.save(potential, tmp_path / "a.safetensors")
        again = checkpoint.load(tmp_path / "a.safetensors")
        assert potential.state_dict().keys() == again.state_dict().keys()
        for key, value in potential.state_dict().items():
            assert torch.equal(value, again.state_dict()[key]), key
        assert again.information == potential.information
