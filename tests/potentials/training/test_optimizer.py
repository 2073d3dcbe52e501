"""The optimiser: what decays, what learns more slowly, and what Muon takes."""

from __future__ import annotations

import pytest
import torch

from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.module import TrainingModule
from pointedge.potentials.training.optimizer import MATRIX, MUON_RATE

from .started import EQUIVARIANT, pet, potential_of


def config(start_from=None, fine_tuning=None, **optimization):
    """A configuration whose data are never read."""
    tree = {
        "start_from": start_from,
        "data": {"train": {"files": ["a"]}, "validation": {"files": ["b"]}},
        "optimization": optimization,
    }
    return TrainingConfig.from_dict(tree | ({"fine_tuning": fine_tuning} if fine_tuning else {}))


def test_layers_learn_slower_the_farther_they_are_from_the_heads():
    settings = config(start_from="a", fine_tuning={"layer_decay": 0.5})
    module = TrainingModule(pet(), settings)
    factors = {
        id(p): group["factor"]
        for group in module.configure_optimizers().param_groups
        for p in group["params"]
    }
    found = {n: factors[id(p)] for n, p in module.potential.network.named_parameters()}
    assert found["node_heads.0.0.weight"] == 1
    assert found["gnn_layers.1.compress.0.weight"] == found["combination_norms.1.bias"] == 0.5
    assert found["gnn_layers.0.compress.0.weight"] == 0.25
    assert found["edge_embedder.weight"] == found["node_embedders.0.weight"] == 0.125


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("kind", ["pet", *EQUIVARIANT])
def test_norms_biases_and_embeddings_do_not_decay(kind, optimizer):
    module = TrainingModule(potential_of(kind), config(optimizer=optimizer))
    groups = module.configure_optimizers().param_groups
    decays = {id(p) for g in groups for p in g["params"] if g["weight_decay"] > 0}
    names = {n for n, p in module.potential.network.named_parameters() if id(p) not in decays}
    assert sum(len(g["params"]) for g in groups) == len(list(module.potential.network.parameters()))
    expected = {
        n
        for n, p in module.potential.network.named_parameters()
        if p.ndim == 1 or "embed" in n.replace("gnn_layers.0.edge_embedder", "")
    } - {"gnn_layers.1.edge_embedder.weight"}
    assert names == expected
    assert names


def test_muon_takes_matrices_and_makes_their_steps_orthogonal():
    """Singular values of a step are one within what five Newton-Schulz iterations leave."""
    rate = 1e-3
    module = TrainingModule(pet(), config(optimizer="muon", learning_rate=rate, weight_decay=0))
    network = module.potential.network
    optimizer = module.configure_optimizers()
    taken = {id(p) for g in optimizer.param_groups if "momentum" in g for p in g["params"]}
    names = {name for name, p in network.named_parameters() if id(p) in taken}
    assert "gnn_layers.0.layers.0.attention.input_linear.weight" in names
    assert names == {
        name
        for name, p in network.named_parameters()
        if p.ndim == 2 and min(p.shape) >= MATRIX and "embedder" not in name
    }
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    torch.manual_seed(0)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    for p in network.parameters():
        p.grad = torch.randn_like(p)
        if id(p) in taken:
            u, values, v = torch.linalg.svd(p.grad, full_matrices=False)
            p.grad = u @ torch.diag(torch.linspace(0.1, 1, len(values)).to(p)) @ v
    optimizer.step()
    for name, p in network.named_parameters():
        change = p.detach() - before[name]
        if name in names:
            scale = 0.2 * max(p.shape) ** 0.5 * MUON_RATE * rate
            values = torch.linalg.svdvals(change) / scale
            assert 0.4 < values.min() <= values.max() < 1.4, name
        else:
            torch.testing.assert_close(
                change.abs(), torch.full_like(change, rate), rtol=1e-3, atol=0
            )
    optimizer.zero_grad()
    assert all(p.grad is None for p in network.parameters())


def test_muon_of_an_older_torch_is_refused(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ValueError, match=r"which torch 2\S* does not have yet; install torch 2\.9"):
        TrainingModule(pet(), config(optimizer="muon")).configure_optimizers()


def test_muon_without_a_matrix_is_refused():
    module = TrainingModule(pet(), config(optimizer="muon"))
    for p in module.potential.network.parameters():
        p.requires_grad_(p.ndim == 1)
    with pytest.raises(
        ValueError, match=r"is muon, and nothing that is trained is a matrix .* use adamw"
    ):
        module.configure_optimizers()
