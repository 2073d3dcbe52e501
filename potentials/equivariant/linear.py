"""Maps of the features of one atom: linear ones, those of its species, gates; and MLPs.

Features have channels last, (N, 2l + 1, n), so that a linear map is a product with one matrix for
every irrep. Weights of a standard normal distribution keep the variance of features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..species import Groups
from .irreps import SCALAR, Features, Irreps

# Factors that give the activation of a standard normal variable a second moment of 1; e3nn's
# figures, from a sample of a million (the integrals are 1.67653 and 1.59254).
SILU, TANH = 1.6791767923989418, 1.5937334472592695


class EquivariantLinear(nn.Module):
    """Mixes the channels of every irrep; scalars may have a bias.

    Args:
        irreps_in, irreps_out: an irrep that is in one of them only is left out.
        bias: of the even scalars.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, bias: bool = False) -> None:
        super().__init__()
        self.irreps_out = irreps_out
        self.weights = nn.ParameterDict(
            {
                str(irrep): nn.Parameter(torch.randn(irreps_in[irrep], n))
                for irrep, n in irreps_out.items()
                if irrep in irreps_in
            }
        )
        scalars = irreps_out.get(SCALAR, 0)
        self.bias = nn.Parameter(torch.zeros(scalars)) if bias and scalars else None

    def forward(self, features: Features) -> Features:
        """Features (N, 2l + 1, n) to features of the output's irreps."""
        outputs: Features = {}
        for irrep in self.irreps_out:
            if str(irrep) in self.weights:
                weight = self.weights[str(irrep)]
                outputs[irrep] = features[irrep] @ (weight / math.sqrt(weight.shape[0]))
        if self.bias is not None:
            outputs[SCALAR] = outputs[SCALAR] + self.bias
        return outputs


class SpeciesLinear(nn.Module):
    """A linear map of its own for the atoms of every species (self-interaction).

    Args:
        irreps_in, irreps_out: an irrep that is in one of them only is left out.
        num_species: K.
        embedding_width: T; None: every species has matrices of its own. Otherwise they are sums
            over T matrices, with the embedding of the species as coefficients.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_out: Irreps,
        num_species: int,
        embedding_width: int | None = None,
    ) -> None:
        super().__init__()
        self.irreps_out = irreps_out
        self.embedding_width = embedding_width
        terms = num_species if embedding_width is None else embedding_width
        self.weights = nn.ParameterDict(
            {
                str(irrep): nn.Parameter(torch.randn(terms, irreps_in[irrep], n))
                for irrep, n in irreps_out.items()
                if irrep in irreps_in
            }
        )

    def forward(
        self, features: Features, groups: Groups, embedding: Tensor | None = None
    ) -> Features:
        """As a linear map; ``embedding`` (K, T) of the species, where it is asked for."""
        outputs: Features = {}
        for irrep in self.irreps_out:
            if str(irrep) in self.weights:
                weight = self.weights[str(irrep)]
                matrices = weight / math.sqrt(weight.shape[1])
                if self.embedding_width is not None:
                    assert embedding is not None
                    mixed = embedding / math.sqrt(self.embedding_width)
                    matrices = torch.einsum("kt,tio->kio", mixed, matrices)
                outputs[irrep] = _multiply(features[irrep], matrices, groups)
        return outputs


class MLP(nn.Module):
    """Perceptron without bias: zero where its input is zero.

    Args:
        sizes: of the input, the hidden layers, and the output.
        gain: of its activation, SiLU.
    """

    def __init__(self, sizes: Sequence[int], gain: float = SILU) -> None:
        super().__init__()
        self.gain = gain
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(a, b)) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """Of values (..., input)."""
        *_, last = self.weights
        return self.hidden(x) @ (last / math.sqrt(last.shape[0]))

    def hidden(self, x: Tensor) -> Tensor:
        """What its last weights multiply, (..., width)."""
        # not self.weights[:-1]: a slice makes new parameters of weights that functional_call put in
        *weights, _ = self.weights
        for weight in weights:
            x = self.gain * F.silu(x @ (weight / math.sqrt(weight.shape[0])))
        return x


class Gate(nn.Module):
    """SiLU for even scalars, tanh for odd ones; all else is multiplied by scalars of its own.

    Args:
        irreps: of the output.
    """

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        self.irreps_out = irreps
        self.gated = [irrep for irrep in irreps if irrep.l > 0]
        gates = sum(irreps[irrep] for irrep in self.gated)
        self.irreps_in = Irreps({**irreps, SCALAR: irreps.get(SCALAR, 0) + gates})

    def forward(self, features: Features) -> Features:
        """Of features with as many scalars more as there are gates: SiLU of them."""
        counts = [self.irreps_out.get(SCALAR, 0), *(self.irreps_out[i] for i in self.gated)]
        outputs: Features = {}
        scalars, *gates = features[SCALAR].split(counts, dim=-1)
        for irrep in self.irreps_out:
            if irrep == SCALAR:
                outputs[irrep] = SILU * F.silu(scalars)
            elif irrep.l == 0:
                outputs[irrep] = TANH * torch.tanh(features[irrep])
        for irrep, gate in zip(self.gated, gates, strict=True):
            outputs[irrep] = features[irrep] * (SILU * F.silu(gate))
        return outputs


def add(first: Features, second: Features) -> Features:
    """Sum of two sets of features; an irrep that one of them lacks is zero there."""
    total = dict(first)
    for irrep, value in second.items():
        total[irrep] = total[irrep] + value if irrep in total else value
    return total


def _multiply(values: Tensor, matrices: Tensor, groups: Groups) -> Tensor:
    """Values (N, 2l + 1, n) times the matrix (n, m) of each atom's species."""
    return groups.map(lambda z, part: part @ matrices[z], values)
