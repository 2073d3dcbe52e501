"""Networks of other irreps and the same number of parameters, to be compared fairly.

As in Miller et al. (arXiv 2008.08461), lest what vectors add be mistaken for what more parameters
add. The invariant network has scalars only, and harmonics of no higher degree than the output: of
degree 0 for energies, of degree 1 for dipoles, which its last layer makes of scalars.
"""

from __future__ import annotations

from dataclasses import replace

from .convolution import ConvolutionConfig, EquivariantConvolution
from .irreps import Irreps

WIDEST = 1024  # channels of the most frequent irrep


def number_of_parameters(config: ConvolutionConfig) -> int:
    """Trainable numbers of a network."""
    return sum(p.numel() for p in EquivariantConvolution(config).parameters())


def matched(config: ConvolutionConfig, parameters: int) -> ConvolutionConfig:
    """The configuration with all multiplicities scaled to a number of parameters, nearly.

    Args:
        config: its multiplicities give the proportions; those that would vanish are 1.
        parameters: to come as close to as whole channels allow.

    Raises:
        ValueError: even the narrowest or the widest network is far off.
    """
    shape = Irreps.parse(config.irreps)
    largest = max(shape.values())

    def scaled(width: int) -> ConvolutionConfig:
        channels = {i: max(1, round(n * width / largest)) for i, n in shape.items()}
        return replace(config, irreps=str(Irreps(channels)))

    low, high = 1, WIDEST
    while low < high:  # the first width with as many, or more
        middle = (low + high) // 2
        if number_of_parameters(scaled(middle)) < parameters:
            low = middle + 1
        else:
            high = middle
    candidates = [scaled(width) for width in (max(low - 1, 1), low)]
    best = min(candidates, key=lambda c: abs(number_of_parameters(c) - parameters))
    found = number_of_parameters(best)
    if abs(found - parameters) > 0.5 * parameters:
        raise ValueError(
            f"no width of irreps {config.irreps!r} has about {parameters} parameters; the nearest, "
            f"{best.irreps!r}, has {found}."
        )
    return best


def invariant_net(config: ConvolutionConfig) -> ConvolutionConfig:
    """Scalars only (L0Net), with the number of parameters of a configuration."""
    shape = replace(config, irreps="1x0e", lmax=max(irrep.l for irrep in config.final))
    return matched(shape, number_of_parameters(config))


def equivariant_net(config: ConvolutionConfig) -> ConvolutionConfig:
    """As many scalars as vectors (L1Net), with the number of parameters of a configuration."""
    lmax = max(1, *(irrep.l for irrep in config.final))
    shape = replace(config, irreps="1x0e + 1x1o", lmax=lmax)
    return matched(shape, number_of_parameters(config))
