"""Attention over a neighbourhood: its formula, its two implementations, and which one runs."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pointedge.potentials.graph import Graph
from pointedge.potentials.pet.transformer import (
    SMALLEST_WEIGHT,
    attention_bias,
    neighborhood_attention,
)

from .. import structures

N, HEADS, SLOTS, WIDTH = 3, 2, 5, 4
SCALE = 0.6


class Operations(TorchDispatchMode):
    """Records the names of all operations."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))

    @property
    def fused(self):
        return any("scaled_dot_product" in name for name in self.names)

    @property
    def explicit(self):
        return any("softmax" in name for name in self.names) and not self.fused


def inputs(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(
        3, N, HEADS, 1 + SLOTS, WIDTH, dtype=torch.float64, generator=generator
    ).to(dtype)
    factors = torch.rand(N, SLOTS, dtype=torch.float64, generator=generator).to(dtype)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [False] * 5])
    return query, key, value, factors, mask


def plain(query, key, value, factors, mask):
    """A_ij = f_j exp(q_i k_j scale) / sum, with f = 1 for the centre, in plain loops."""
    result = torch.zeros_like(value)
    for n in range(N):
        weights = [1.0] + [
            f if m else 0.0 for f, m in zip(factors[n].tolist(), mask[n], strict=True)
        ]
        for h in range(HEADS):
            for i in range(1 + SLOTS):
                a = [
                    f * math.exp(float(query[n, h, i] @ key[n, h, j]) * SCALE)
                    for j, f in enumerate(weights)
                ]
                for j in range(1 + SLOTS):
                    result[n, h, i] += a[j] / sum(a) * value[n, h, j]
    return result


def explicit(query, key, value, bias):
    with torch.enable_grad(), Operations() as operations:
        result = neighborhood_attention(query.requires_grad_(), key, value, bias, SCALE)
    query.requires_grad_(False)
    assert operations.explicit
    return result.detach()


def fused(query, key, value, bias):
    with torch.no_grad(), Operations() as operations:
        result = neighborhood_attention(query, key, value, bias, SCALE)
    assert operations.fused
    return result


@pytest.mark.parametrize("attention", [explicit, fused])
def test_attention_is_its_formula(attention):
    query, key, value, factors, mask = inputs()
    found = attention(query, key, value, attention_bias(factors, mask))
    torch.testing.assert_close(
        found, plain(query, key, value, factors, mask), rtol=1e-13, atol=1e-14
    )


@pytest.mark.parametrize("seed", range(5))
def test_both_ways_agree(seed):
    query, key, value, factors, mask = inputs(seed)
    bias = attention_bias(factors, mask)
    first, second = explicit(query, key, value, bias), fused(query, key, value, bias)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-14 * float(value.abs().max()) * 10)


def test_both_ways_agree_in_float32_as_well_as_rounding_allows():
    query, key, value, factors, mask = inputs()
    exact = explicit(query, key, value, attention_bias(factors, mask))
    single = [x.float() for x in (query, key, value)]
    bias = attention_bias(factors.float(), mask)
    first, second = explicit(*single, bias), fused(*single, bias)
    difference = (first.double() - exact).abs().max()
    print(f"[attention] float32-float64 {difference:.1e}, fused {(first - second).abs().max():.1e}")
    assert (first - second).abs().max() <= 3 * difference


def test_padding_and_neighbours_at_the_cutoff_have_no_influence():
    query, key, value, factors, mask = inputs()
    factors[0, 3] = 0.0
    found = explicit(query, key, value, attention_bias(factors, mask))
    key[~torch.nn.functional.pad(mask, (1, 0), value=True)[:, None].expand(-1, HEADS, -1)] = 50.0
    value[2, :, 1:] = 1e6
    value[0, :, 4] += 1e3
    changed = explicit(query, key, value, attention_bias(factors, mask))
    assert torch.equal(found[2], changed[2])
    weight = SMALLEST_WEIGHT * math.exp(10)
    assert (found[0] - changed[0]).abs().max() <= 1e3 * weight


def test_bias_of_padding_and_centre():
    factors = torch.tensor([[0.5, 0.0, 0.3]], dtype=torch.float64)
    mask = torch.tensor([[True, True, False]])
    bias = attention_bias(factors, mask)
    assert bias.shape == (1, 1, 1, 4)
    expected = [0.0, math.log(0.5), math.log(SMALLEST_WEIGHT), -math.inf]
    assert bias.flatten().tolist() == pytest.approx(expected)


def test_an_atom_without_neighbours_attends_to_itself():
    query, key, value, factors, mask = inputs()
    bias = attention_bias(factors[:, :0], mask[:, :0])
    alone = explicit(query[:, :, :1], key[:, :, :1], value[:, :, :1], bias)
    torch.testing.assert_close(alone, value[:, :, :1])


def test_fused_runs_where_no_gradient_is_asked_for(tiny):
    graph = Graph.from_atoms(structures.patterns()["TTT"], tiny.cutoff)
    with Operations() as operations:
        tiny(graph, forces=False)
    assert operations.fused
    assert not any("_softmax." in name for name in operations.names)


@pytest.mark.parametrize("training", [False, True])
def test_explicit_runs_where_forces_are_asked_for(tiny, training):
    graph = Graph.from_atoms(structures.patterns()["TTT"], tiny.cutoff)
    with Operations() as operations:
        tiny(graph, create_graph=training)
    assert operations.explicit


def test_explicit_runs_where_only_weights_need_gradients(tiny):
    """Training on energies alone differentiates once, in the weights."""
    graph = Graph.from_atoms(structures.patterns()["TTT"], tiny.cutoff)
    prediction = tiny(graph, forces=False, create_graph=True)
    gradients = torch.autograd.grad(
        prediction.energy.sum(), list(tiny.parameters()), allow_unused=True
    )
    assert sum(g is not None and bool(g.any()) for g in gradients) > len(gradients) // 2


@pytest.mark.parametrize("needs", ["query", "key", "value", "bias"])
def test_a_gradient_in_any_input_can_be_taken_twice(needs):
    """The fused kernels have no second derivative, so they must not run for any of the inputs."""
    query, key, value, factors, mask = inputs()
    tensors = {
        "query": query,
        "key": key,
        "value": value,
        "bias": attention_bias(factors, mask),
    }
    leaf = tensors[needs].clone().requires_grad_()
    tensors[needs] = leaf
    result = neighborhood_attention(*tensors.values(), SCALE)
    (gradient,) = torch.autograd.grad(result.square().sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), leaf)
    assert torch.isfinite(second).all()
    assert second.any()


def test_first_and_second_derivatives():
    query, key, value, factors, mask = (x[:2] for x in inputs())
    leaves = [x.clone().requires_grad_() for x in (query, key, value, factors)]

    def function(query, key, value, factors):
        return neighborhood_attention(query, key, value, attention_bias(factors, mask), SCALE)

    small = [x[:, :1, :3, :2] if x.ndim == 4 else x[:, :2] for x in leaves]
    small = [x.detach().requires_grad_() for x in small]
    mask = mask[:, :2]
    assert torch.autograd.gradcheck(function, small)
    assert torch.autograd.gradgradcheck(function, small)
