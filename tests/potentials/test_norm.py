"""The norm of frozen weights against torch's: values, gradients of both orders, batches by vmap."""

import pytest
import torch

from pointedge.potentials.pet.norm import RMSNorm

EPS = torch.finfo(torch.float64).eps


@pytest.fixture
def norms():
    """Ours, of frozen weights, and its twin."""
    generator = torch.Generator().manual_seed(0)
    ours, twin = RMSNorm(6), torch.nn.RMSNorm(6)
    weight = torch.rand(6, generator=generator, dtype=torch.float64) + 0.5
    for norm in (ours, twin):
        norm.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
    return ours.eval(), twin.eval()


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 5, 6, generator=generator, dtype=torch.float64)
    x[0, 0] = 0  # of a layer whose weights are zero
    x[1] *= 1e-9
    return x.requires_grad_()


def test_values_and_gradients_are_those_of_torch(norms, tokens):
    found = []
    for norm in norms:
        y = norm(tokens)
        (first,) = torch.autograd.grad(y.sin().sum(), tokens, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), tokens)
        (plain,) = torch.autograd.grad(norm(tokens).sin().sum(), tokens)
        found.append((y, plain, first, second))
    for one, other in zip(*found, strict=True):
        # Gradients are differences of numbers of their row's size: of mean and own part.
        size = other.detach().abs().amax(dim=-1, keepdim=True)
        assert ((one - other).abs() <= 100 * EPS * size).all()


def test_derivatives_by_differences(norms, tokens):
    x = tokens.detach()[2:].requires_grad_()
    assert torch.autograd.gradcheck(norms[0], x)
    assert torch.autograd.gradgradcheck(norms[0], x)


def test_stacked_weights(norms, tokens):
    """What an ensemble of equal networks may do."""
    ours, twin = norms
    weights = torch.stack([ours.weight, 2 * ours.weight]).detach()

    def run(norm):
        def one(weight):
            return torch.func.functional_call(norm, {"weight": weight}, tokens.detach())

        return torch.func.vmap(one)(weights)

    torch.testing.assert_close(run(ours), run(twin), rtol=20 * EPS, atol=0)


def test_a_trained_weight_has_a_gradient(norms, tokens):
    ours, twin = norms
    for norm in norms:
        norm.weight.requires_grad_()
        norm(tokens).square().sum().backward()
    assert torch.equal(ours.weight.grad, twin.weight.grad)
