"""Cutoff functions: values, derivatives, and what happens exactly at their ends."""

import math

import numpy as np
import pytest
import torch

from pointedge.potentials.cutoff import FUNCTIONS, curvature_jump, cutoff_function

CUTOFF, WIDTH = 4.5, 0.7
SMOOTH = ["bump", "tanh"]
EVERY = pytest.mark.parametrize("name", FUNCTIONS)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def derivatives(name, distances, order, cutoff=CUTOFF, width=WIDTH):
    """The function and its first ``order`` derivatives, each like the distances."""
    r = distances.clone().requires_grad_()
    values = [cutoff_function(name)(r, cutoff, width)]
    for _ in range(order):
        (slope,) = torch.autograd.grad(values[-1].sum(), r, create_graph=True)
        values.append(slope)
    return [v.detach() for v in values]


def taper(points=401):
    return torch.linspace(CUTOFF - WIDTH, CUTOFF, points, dtype=torch.float64)[1:-1]


FORMULAS = {
    "bump": lambda s: 0.5 * (1 + math.tanh(1 / math.tan(math.pi * s))),
    "cosine": lambda s: 0.5 * (1 + math.cos(math.pi * s)),
    "tanh": lambda s: 0.5 * (1 + math.tanh(1 / (2 * s) + 1 / (2 * s - 2))),
}


@EVERY
def test_values_are_those_of_the_formula(name):
    r = taper()
    expected = [FORMULAS[name]((x - CUTOFF + WIDTH) / WIDTH) for x in r.tolist()]
    values = cutoff_function(name)(r, CUTOFF, WIDTH)
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-12, atol=2e-15)
    assert (values[1:] <= values[:-1]).all()


@EVERY
@DTYPES
def test_exactly_one_inside_and_zero_beyond(name, dtype):
    inner = torch.tensor([0.0, 1e-3, 2.0, CUTOFF - WIDTH - 1e-6, CUTOFF - WIDTH], dtype=dtype)
    outer = torch.tensor([CUTOFF, CUTOFF + 1e-6, CUTOFF + 1, 1e3], dtype=dtype)
    for distances, expected in ((inner, 1.0), (outer, 0.0)):
        value, first, second, third = derivatives(name, distances, 3)
        if name == "cosine":
            # The end itself belongs to the taper: the value is exact to rounding only.
            eps = 10 * torch.finfo(dtype).eps
            assert (value - expected).abs().max() <= eps**2 + (eps if expected else 0)
            apart = (distances - CUTOFF).abs().minimum((distances - CUTOFF + WIDTH).abs()) > 1e-7
            first, second, third = first[apart], second[apart], third[apart]
            assert torch.equal(value[apart], torch.full_like(value[apart], expected))
        else:
            assert torch.equal(value, torch.full_like(value, expected))
        for derivative in (first, second, third):
            assert not derivative.any()


@EVERY
@DTYPES
def test_derivatives_are_finite_everywhere(name, dtype):
    ends = torch.tensor([CUTOFF - WIDTH, CUTOFF, CUTOFF - WIDTH / 2], dtype=dtype)
    infinity = torch.tensor(math.inf, dtype=dtype)
    close = [ends]
    for direction in (infinity, -infinity):
        x = ends
        for _ in range(5):
            x = torch.nextafter(x, direction)
            close.append(x)
    grid = torch.linspace(0, CUTOFF + 1, 5001, dtype=dtype)
    offsets = torch.logspace(-12, -1, 200, dtype=torch.float64)
    near = torch.cat([e + s * offsets for e in (CUTOFF - WIDTH, CUTOFF) for s in (-1, 1)])
    for derivative in derivatives(name, torch.cat([grid, *close, near.to(dtype)]), 3):
        assert torch.isfinite(derivative).all()


@EVERY
def test_first_and_second_derivative_are_the_finite_difference(name):
    r = taper()
    r = r[(r > CUTOFF - WIDTH + 2e-3) & (r < CUTOFF - 2e-3)]
    exact = derivatives(name, r, 2)
    step = 2e-4
    near = [derivatives(name, r + k * step, 1) for k in (-2, -1, 1, 2)]
    for order in (1, 2):
        v = [n[order - 1] for n in near]
        numeric = (v[0] - 8 * v[1] + 8 * v[2] - v[3]) / (12 * step)
        assert (numeric - exact[order]).abs().max() <= 1e-7 * exact[order].abs().max()


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivative_in_the_middle_of_the_taper(name):
    """By symmetry it vanishes at s = 1/2, where 1/tan has a pole in its autograd derivatives."""
    middle = torch.tensor([CUTOFF - WIDTH / 2], dtype=torch.float64)
    largest = derivatives(name, taper(), 2)[2].abs().max()
    assert derivatives(name, middle, 2)[2].abs() <= 1e-12 * largest


@pytest.mark.parametrize("name", SMOOTH)
def test_all_derivatives_fade_at_both_ends(name):
    largest = [d.abs().max() for d in derivatives(name, taper(), 3)]
    for end in (CUTOFF - WIDTH, CUTOFF):
        near = end + 0.015 * WIDTH * torch.linspace(-1, 1, 101, dtype=torch.float64)
        for derivative, scale in zip(derivatives(name, near, 3)[1:], largest[1:], strict=True):
            assert derivative.abs().max() <= 1e-10 * scale


def test_cosine_curvature_jumps_by_its_formula():
    jump = curvature_jump("cosine", WIDTH)
    assert jump == pytest.approx(math.pi**2 / (2 * WIDTH**2))
    for end, sign in ((CUTOFF - WIDTH, -1), (CUTOFF, 1)):
        offsets = 1e-6 * torch.tensor([-1, 1], dtype=torch.float64)
        value, first, second = derivatives("cosine", end + offsets, 2)
        assert (value[0] - value[1]).abs() <= 1e-11
        assert (first[0] - first[1]).abs() <= 2e-6 * jump
        taper_side, flat_side = (1, 0) if sign < 0 else (0, 1)
        assert second[taper_side].item() == pytest.approx(sign * jump, rel=1e-10)
        assert second[flat_side] == 0


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_have_no_jump(name):
    assert curvature_jump(name, WIDTH) == 0


@EVERY
def test_a_cutoff_for_every_distance(name):
    distances = torch.linspace(3, 5, 41, dtype=torch.float64)
    cutoffs = torch.linspace(5, 3.5, 41, dtype=torch.float64)
    together = cutoff_function(name)(distances, cutoffs, WIDTH)
    alone = [
        cutoff_function(name)(r, float(c), WIDTH) for r, c in zip(distances, cutoffs, strict=True)
    ]
    assert torch.equal(together, torch.stack(alone))


def test_gradient_in_the_cutoff():
    r = taper()
    cutoff = torch.full_like(r, CUTOFF).requires_grad_()
    (gradient,) = torch.autograd.grad(cutoff_function("bump")(r, cutoff, WIDTH).sum(), cutoff)
    angle = math.pi * (r - CUTOFF + WIDTH) / WIDTH
    sech = 1 / torch.cosh(1 / torch.tan(angle))
    expected = math.pi / (2 * WIDTH) * (sech / torch.sin(angle)) ** 2
    # Near 1 the factor 1 - f of the logistic's slope is rounded to eps, times π / (w sin²).
    rounding = 4 * torch.finfo(torch.float64).eps * math.pi / WIDTH / torch.sin(angle) ** 2
    assert ((gradient - expected).abs() <= rounding + 1e-12 * expected).all()
    for name in FUNCTIONS:
        radius = torch.full_like(r, CUTOFF).requires_grad_()
        (gradient,) = torch.autograd.grad(cutoff_function(name)(r, radius, WIDTH).sum(), radius)
        assert torch.equal(gradient, -derivatives(name, r, 1)[1])


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown cutoff function 'cosin'.*'cosine'"):
        cutoff_function("cosin")
    with pytest.raises(ValueError, match="known: bump, cosine, tanh"):
        cutoff_function("xyz")
