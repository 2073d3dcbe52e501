"""What fine-tuning does to a network: low-rank updates and new species."""

from __future__ import annotations

import pytest
import torch
from ase.build import molecule

from pointedge.potentials import checkpoint
from pointedge.potentials.ecse.scores import ScoreSettings
from pointedge.potentials.graph import Graph
from pointedge.potentials.training.finetune import (
    choose_trained,
    with_species,
)
from pointedge.potentials.training.settings import FineTuning

from .started import CUTOFF, EQUIVARIANT, assert_same, molecules, pet, potential_of


@pytest.mark.parametrize("which", ["attention", "all"])
def test_low_rank_updates_start_from_nothing_and_merge_into_weights(tmp_path, which):
    potential, graph = pet(), molecules()
    before = potential(graph)
    settings = FineTuning(method="lora", rank=2, linear_maps=which)
    choose_trained(potential, settings)
    assert_same(potential(graph), before)
    trained = {n.rpartition(".")[2] for n, p in potential.named_parameters() if p.requires_grad}
    assert trained == {"up", "down"}
    with torch.no_grad():
        for name, parameter in potential.named_parameters():
            if name.endswith("up"):
                parameter.normal_()
    live = potential(graph)
    assert not torch.allclose(live.forces, before.forces)
    checkpoint.save(potential, tmp_path / "merged.safetensors")
    merged = checkpoint.load(tmp_path / "merged.safetensors")
    assert {type(m).__name__ for m in merged.modules()} == {
        type(m).__name__ for m in pet().modules()
    }
    after = merged(graph)
    scale = live.energies.abs().sum()
    torch.testing.assert_close(after.energy, live.energy, rtol=0, atol=1e-14 * scale.item())
    torch.testing.assert_close(after.forces, live.forces, rtol=1e-12, atol=1e-12)
    assert_same(potential(graph), live)  # saving left it as it was


def test_all_linear_maps_or_those_of_attention():
    potential = pet()
    choose_trained(potential, FineTuning(method="lora", linear_maps="all"))
    names = {
        n.split(".parametrizations")[0] for n, p in potential.named_parameters() if p.requires_grad
    }
    assert "network.gnn_layers.1.compress.0" in names
    assert "network.combination_mlps.0.2" in names
    assert not any("head" in name for name in names)


@pytest.mark.parametrize("kind", ["pet", *EQUIVARIANT])
def test_new_species_leave_the_others_as_they_were(kind):
    potential, graph = potential_of(kind), molecules()
    before = potential(graph)
    grown = with_species(potential, [3, 14])
    assert grown.species == (1, 3, 6, 7, 8, 14)
    assert_same(grown(graph), before)
    if kind == "pet":
        mean = potential.network.edge_embedder.weight.mean(0)
        torch.testing.assert_close(grown.network.edge_embedder.weight[1], mean)
    silane = Graph.from_atoms([molecule("SiH4"), molecule("LiH")], CUTOFF)
    assert grown(silane).forces.isfinite().all()
    assert grown.baseline[14] == 0


def test_new_species_that_would_change_the_others_are_refused():
    potential = pet(symmetry="layers", frames=ScoreSettings(preference_species=1.0))
    with pytest.raises(ValueError, match="preference_species"):
        with_species(potential, [14])


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("mace", {"method": "lora"}, "lora updates the linear maps of a transformer, and mace has"),
        ("nequip", {"method": "heads", "add": True}, "weights of every species; use full"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(kind, settings, message):
    new = [8] if settings.pop("add", False) else []
    with pytest.raises(ValueError, match=message):
        choose_trained(potential_of(kind), FineTuning(**settings), new)


def test_equivariant_heads_alone():
    potential = potential_of("mace")
    choose_trained(potential, FineTuning(method="heads"))
    trained = {n.split(".")[1] for n, p in potential.named_parameters() if p.requires_grad}
    assert trained == {"readouts"}
