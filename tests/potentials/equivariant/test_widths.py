"""Networks with matched numbers of parameters."""

from __future__ import annotations

import pytest

from pointedge.potentials.equivariant.convolution import ConvolutionConfig
from pointedge.potentials.equivariant.widths import (
    equivariant_net,
    invariant_net,
    matched,
    number_of_parameters,
)

CONFIG = ConvolutionConfig((1, 8), irreps="16x0e + 8x1o + 4x2e", lmax=2)


def test_parameters_match():
    wanted = number_of_parameters(CONFIG)
    for make, irreps in ((invariant_net, "0e"), (equivariant_net, "0e + 1o")):
        found = make(CONFIG)
        assert [str(irrep) for irrep in found.hidden] == irreps.split(" + ")
        assert found.lmax == len(found.hidden) - 1
        assert number_of_parameters(found) == pytest.approx(wanted, rel=0.03)


def test_proportions_are_kept():
    found = matched(CONFIG, 4 * number_of_parameters(CONFIG)).hidden
    scalars, vectors, tensors = found.values()
    assert vectors == pytest.approx(scalars / 2, abs=1)
    assert tensors == pytest.approx(scalars / 4, abs=1)


def test_out_of_reach_is_said():
    with pytest.raises(ValueError, match=r"no width of irreps .16x0e .* has about 10 parameters"):
        matched(CONFIG, 10)
