"""Folders of the original research code; its numbers are compared in test_pet_reference.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

from pointedge.potentials.pet import published
from pointedge.potentials.pet.published import PublishedError, is_published

from .cases import original_folder

SELF = (-0.5, -37.5, -75.0, -289.0)


@pytest.mark.parametrize("prefix", ["", "model.pet_model.", "module.model.pet_model."])
def test_prefixes_of_wrappers(tmp_path, prefix):
    folder = original_folder(tmp_path / "a", prefix=prefix)
    expected = published.load(original_folder(tmp_path / "b"))
    found = published.load(folder)
    assert is_published(folder)
    assert all(map(torch.equal, found.state_dict().values(), expected.state_dict().values()))


def test_self_contributions(tmp_path):
    folder = original_folder(tmp_path / "a", baseline=SELF)
    potential = published.load(folder)
    assert potential.species == (1, 6, 8, 14)
    assert potential.baseline[[1, 6, 8, 14]].tolist() == list(SELF)
    assert "best_val_rmse_both_model" in potential.information["origin"]


def test_species_in_any_order(tmp_path):
    """all_species.npy says which row of a table, and which self-contribution, is whose."""
    folder = original_folder(tmp_path / "a", baseline=SELF)
    expected = published.load(folder)
    order = [2, 0, 3, 1]
    np.save(folder / "all_species.npy", np.array([1, 6, 8, 14])[order])
    np.save(folder / "self_contributions.npy", np.array(SELF)[order])
    file = folder / "best_val_rmse_both_model_state_dict"
    state = torch.load(file)
    for key, value in state.items():
        if "embedder.weight" in key or key.endswith("pet_model.embedding.weight"):
            state[key] = value[[*order, 4]]
    torch.save(state, file)
    found = published.load(folder)
    assert all(map(torch.equal, found.state_dict().values(), expected.state_dict().values()))


def test_forces_alone_have_no_baseline(tmp_path):
    folder = original_folder(tmp_path / "a", baseline=SELF)
    hypers = yaml.safe_load((folder / "hypers_used.yaml").read_text())
    hypers["MLIP_SETTINGS"]["USE_ENERGIES"] = False
    (folder / "hypers_used.yaml").write_text(yaml.dump(hypers))
    (folder / "self_contributions.npy").unlink()
    potential = published.load(folder)
    assert not potential.baseline.any()
    assert "no baseline" in potential.information["notes"][0]


def test_heads_of_the_later_code(tmp_path):
    folder = original_folder(tmp_path / "a")
    file = folder / "best_val_rmse_both_model_state_dict"
    expected = published.load(folder)
    state = {k.replace(".nn.4.linear.", ".nn.4."): v for k, v in torch.load(file).items()}
    state = {
        k.replace("heads.", "heads.").replace(".nn.", ".model.nn."): v for k, v in state.items()
    }
    head = {k: v for k, v in state.items() if ".heads.0." in k}
    copies = {k.replace("heads.0", "central_tokens_predictors.0.head"): v for k, v in head.items()}
    torch.save({**state, **copies}, file)
    found = published.load(folder)
    assert all(map(torch.equal, found.state_dict().values(), expected.state_dict().values()))


def test_choice_of_weights(tmp_path):
    folder = original_folder(tmp_path / "a")
    first = folder / "best_val_rmse_both_model_state_dict"
    first.rename(folder / "best_val_mae_forces_model_state_dict")
    published.load(folder)  # the only one
    torch.save({}, folder / "other_state_dict")
    message = "no weights 'best_val_rmse_both_model_state_dict'; it has best_val_mae_forces_model, "
    with pytest.raises(PublishedError, match=message):
        published.load(folder)
    assert published.load(folder, "best_val_mae_forces_model").dtype == torch.float64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"TRANSFORMER_TYPE": "PreLN"}, "TRANSFORMER_TYPE = 'PreLN' is not computed here"),
        ({"USE_LONG_RANGE": True}, "USE_LONG_RANGE = True is not computed"),
        ({"ACTIVATION": "mish"}, "ACTIVATION = 'mish'"),
        ({"N_TARGETS": 2}, "N_TARGETS = 2"),
        ({"USE_ZEAL": True}, "USE_ZEAL in hypers_used.yaml is not known"),
        ({"HEAD_N_NEURONS": 13}, "does not fit hypers_used.yaml"),
        ({"N_GNN_LAYERS": 4}, "lacks .* such as bond_heads.3"),
        ({"N_GNN_LAYERS": 2}, "has unknown .* such as bond_heads.2"),
        ({"BLEND_NEIGHBOR_SPECIES": True}, "lacks 2 tensor"),
    ],
)
def test_what_is_not_ours_is_refused(tmp_path, changes, message):
    with pytest.raises(PublishedError, match=message):
        published.load(original_folder(tmp_path / "a", changes=changes))


def test_damaged_folders(tmp_path):
    folder = original_folder(tmp_path / "a")
    np.save(folder / "all_species.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(PublishedError, match=r"all_species.npy cannot be read"):
        published.load(folder)
    folder = original_folder(tmp_path / "b")
    (folder / "hypers_used.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(PublishedError, match=r"hypers_used.yaml cannot be read"):
        published.load(folder)
    folder = original_folder(tmp_path / "c")
    torch.save({"a": print}, folder / "best_val_rmse_both_model_state_dict")
    with pytest.raises(PublishedError, match=r"names (builtins|__builtin__).print, which"):
        published.load(folder)
