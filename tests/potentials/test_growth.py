"""Larger PETs that begin where trained ones ended."""

from __future__ import annotations

import pytest
import torch
from ase.build import molecule

from pointedge.potentials.graph import Graph
from pointedge.potentials.pet.growth import larger
from pointedge.potentials.potential import Potential

from ..networks import tiny_pet

CUTOFF = 3.0


def pet(**settings):
    """Weights as after a training: no bias is zero."""
    network = tiny_pet(1, species=(1, 6, 8), cutoff=CUTOFF, num_gnn_layers=2, **settings)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return network


def graph() -> Graph:
    return Graph.from_atoms([molecule("CH3OH"), molecule("H2O")], CUTOFF)


def sizes_of(network) -> dict[str, int]:
    layers, width = network.config.num_attention_layers, network.config.d_feedforward
    return {"num_attention_layers": layers + 2, "d_feedforward": 2 * width + 1}


@pytest.mark.parametrize("activation", ["silu", "swiglu"])
@pytest.mark.parametrize("which", ["num_attention_layers", "d_feedforward", "both"])
def test_a_larger_network_begins_with_the_same_energies(activation, which):
    network = pet(activation=activation)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    sizes = {n: s for n, s in sizes_of(network).items() if which in (n, "both")}
    grown = larger(network, sizes)
    assert grown.to_config() == {**network.to_config(), **sizes}
    assert sum(p.numel() for p in grown.parameters()) > sum(p.numel() for p in network.parameters())
    old, new = Potential(network)(graph()), Potential(grown)(graph())
    torch.testing.assert_close(new.energies, old.energies, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(new.forces, old.forces, rtol=1e-12, atol=1e-12)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name]), f"{name} of the old network changed"


@pytest.mark.parametrize("activation", ["silu", "swiglu"])
def test_everything_that_is_new_can_learn(activation):
    """First what closes a new part, and with its first step all the rest."""
    network = pet(activation=activation)
    grown = larger(network, sizes_of(network))
    old = dict(network.named_parameters())
    for _ in range(2):
        grown(graph(), graph().edge_vectors())["energy"].sum().backward()
        with torch.no_grad():
            for weight in grown.parameters():
                weight -= 1e-3 * weight.grad
    for name, weight in grown.named_parameters():
        if name not in old:
            assert weight.grad.any(), name
        elif weight.shape != old[name].shape:  # a row or column of each new hidden unit
            axis = next(k for k, n in enumerate(weight.shape) if n != old[name].shape[k])
            others = [k for k in range(weight.ndim) if k != axis]
            moved = weight.grad.abs().sum(others) if others else weight.grad.abs()
            assert moved.all(), name


@pytest.mark.parametrize(
    ("settings", "sizes", "message"),
    [
        ({}, {"num_attention_layers": 1}, "num_attention_layers = 1, but it was 2"),
        ({}, {"d_feedforward": 4}, "d_feedforward = 4, but it was"),
        ({}, {"d_feedforward": "wide"}, "d_feedforward"),
        ({"transformer_type": "postln"}, {"num_attention_layers": 3}, "'preln'"),
    ],
)
def test_what_cannot_grow_is_refused(settings, sizes, message):
    network = pet(num_attention_layers=2, **settings)
    with pytest.raises(ValueError, match=message):
        larger(network, sizes)


def test_nodes_as_wide_as_edges_cannot_begin_with_an_identity():
    network = tiny_pet(1, species=(1, 6, 8), cutoff=CUTOFF, d_node=None)
    with pytest.raises(ValueError, match="d_node other than d_pet"):
        larger(network, {"num_attention_layers": 3})
