r"""What equivariant networks are built of: linear maps, convolutions, gates, radial functions.

Features have channels last, (N, 2l + 1, n). With :math:`C` the 3j symbols of :mod:`.tables`, a
convolution with harmonics :math:`Y` and radial weights :math:`R` is

.. math:: m_i^{(l_3)} = \frac{1}{\sqrt{\bar N}} \sum_j R_{path}(r_{ij}) \sqrt{2 l_3 + 1} \;
              C^{l_1 l_2 l_3} \, h_j^{(l_1)} \, Y^{(l_2)}(\hat r_{ij})

channel by channel ("uvu"), for every path (l1, l2) -> l3 that parity allows; paths to one irrep are
laid side by side. Harmonics are of the vector from the centre to its neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .irreps import SCALAR, Features, Irrep, Irreps
from .tables import Tables

# Factors that give activations of a standard normal variable a second moment of 1.
SILU, TANH = 1.6765325, 1.5925374


class EquivariantLinear(nn.Module):
    """Mixes the channels of every irrep; scalars may have a bias.

    Args:
        irreps_in, irreps_out: an irrep that is in one of them only is left out.
        bias: of the even scalars.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, bias: bool = False) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
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
            if irrep in self.irreps_in:
                weight = self.weights[str(irrep)]
                outputs[irrep] = features[irrep] @ (weight / math.sqrt(weight.shape[0]))
        if self.bias is not None:
            outputs[SCALAR] = outputs[SCALAR] + self.bias
        return outputs


class SpeciesLinear(nn.Module):
    """A linear map of its own for the atoms of every species (self-interaction)."""

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, num_species: int) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        self.weights = nn.ParameterDict(
            {
                str(irrep): nn.Parameter(torch.randn(num_species, irreps_in[irrep], n))
                for irrep, n in irreps_out.items()
                if irrep in irreps_in
            }
        )

    def forward(self, features: Features, species: Tensor) -> Features:
        """As a linear map; ``species`` (N,) are indices."""
        outputs: Features = {}
        for irrep in self.irreps_out:
            if irrep in self.irreps_in:
                weight = self.weights[str(irrep)]
                scaled = weight / math.sqrt(weight.shape[1])
                outputs[irrep] = torch.einsum("ndi,nio->ndo", features[irrep], scaled[species])
        return outputs


class Radial(nn.Module):
    """Weights (E, outputs) from lengths: Bessel functions under an envelope, through an MLP.

    The envelope is 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2) with x = r / cutoff;
    value, slope and curvature vanish at the cutoff (Gasteiger et al., arXiv 2003.03123).
    """

    def __init__(
        self, cutoff: float, num_basis: int, hidden: Sequence[int], outputs: int, power: int
    ) -> None:
        super().__init__()
        self.cutoff, self.num_basis, self.power = cutoff, num_basis, power
        sizes = [num_basis, *hidden, outputs]
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(a, b)) for a, b in pairwise(sizes))

    def forward(self, lengths: Tensor) -> Tensor:
        """Of lengths (E,) in Å, zero from the cutoff on."""
        basis = bessel(lengths, self.cutoff, self.num_basis)
        x = basis * envelope(lengths / self.cutoff, self.power)[:, None]
        for k, weight in enumerate(self.weights):
            x = x @ (weight / math.sqrt(weight.shape[0]))
            if k + 1 < len(self.weights):
                x = SILU * F.silu(x)
        return x


def bessel(lengths: Tensor, cutoff: float, number: int) -> Tensor:
    """Radial basis (E, number): sqrt(2 / r_c) sin(n π r / r_c) / r."""
    n = torch.arange(1, number + 1, dtype=lengths.dtype, device=lengths.device)
    return (
        math.sqrt(2 / cutoff)
        * torch.sin(n * math.pi * lengths[:, None] / cutoff)
        / lengths[:, None]
    )


def envelope(x: Tensor, p: int) -> Tensor:
    """Polynomial that falls from 1 at 0 to 0 at 1, and is 0 beyond."""
    value = 1 - 0.5 * (p + 1) * (p + 2) * x**p + p * (p + 2) * x ** (p + 1)
    value = value - 0.5 * p * (p + 1) * x ** (p + 2)
    return torch.where(x < 1, value, 0.0)


@dataclass(frozen=True)
class Edges:
    """E edges within the cutoff, as layers see them.

    Attributes:
        lengths: (E,) Å.
        harmonics: (E, 2l + 1) of each degree, of the vector from the centre to the neighbour.
        centers: (E,) int64, atoms that receive messages.
        neighbors: (E,) int64, atoms that send them.
        tables: with the coupling coefficients.
    """

    lengths: Tensor
    harmonics: list[Tensor]
    centers: Tensor
    neighbors: Tensor
    tables: Tables


@dataclass(frozen=True)
class Paths:
    """What one input irrep contributes: degrees of harmonics and irreps of the output."""

    irrep: Irrep
    number: int
    targets: list[tuple[int, Irrep]]


class Convolution(nn.Module):
    """Sums over neighbours of features times harmonics, channel by channel.

    Args:
        irreps_in: of the features.
        targets: irreps that the output may have.
        lmax: largest degree of the harmonics.
        normalization: the sums are divided by its square root: neighbours of an atom, on average.
    """

    def __init__(
        self, irreps_in: Irreps, targets: Sequence[Irrep], lmax: int, normalization: float
    ) -> None:
        super().__init__()
        self.normalization = normalization
        self.paths = paths(irreps_in, targets, lmax)
        multiplicities: dict[Irrep, int] = {}
        for group in self.paths:
            for _, target in group.targets:
                multiplicities[target] = multiplicities.get(target, 0) + group.number
        self.irreps_out = Irreps(multiplicities)
        self.num_weights = sum(group.number * len(group.targets) for group in self.paths)

    def forward(self, features: Features, weights: Tensor, edges: Edges) -> Features:
        """Messages to N atoms.

        Args:
            features: (N, 2l + 1, n) of each irrep.
            weights: (E, num_weights) of each path and channel.
            edges: of the graph.
        """
        parts: dict[Irrep, list[Tensor]] = {irrep: [] for irrep in self.irreps_out}
        split = weights.split([group.number * len(group.targets) for group in self.paths], dim=1)
        for group, weight in zip(self.paths, split, strict=True):
            source = features[group.irrep].index_select(0, edges.neighbors)
            kernels = torch.cat([_kernel(group.irrep, *t, edges) for t in group.targets], 1)
            product = kernels @ source
            sizes = [target.dim for _, target in group.targets]
            for (_, target), part, factor in zip(
                group.targets,
                product.split(sizes, dim=1),
                weight.split(group.number, dim=1),
                strict=True,
            ):
                message = part * (factor / math.sqrt(self.normalization))[:, None, :]
                atoms = message.new_zeros(len(features[group.irrep]), *message.shape[1:])
                parts[target].append(atoms.index_add(0, edges.centers, message))
        return {irrep: torch.cat(found, dim=-1) for irrep, found in parts.items()}


def _kernel(irrep: Irrep, degree: int, target: Irrep, edges: Edges) -> Tensor:
    """Matrices (E, 2 l3 + 1, 2 l1 + 1) that a neighbour's features are multiplied by."""
    values = edges.harmonics[degree]
    symbol = math.sqrt(target.dim) * edges.tables.coupling((irrep.l, degree, target.l))
    return torch.einsum("abc,eb->eca", symbol.to(values.dtype), values)


def paths(irreps: Irreps, targets: Sequence[Irrep], lmax: int) -> list[Paths]:
    """Products of features with harmonics up to a degree that are among the targets."""
    found = []
    for irrep, number in irreps.items():
        pairs = [
            (degree, target)
            for degree in range(lmax + 1)
            for target in irrep * Irrep.harmonic(degree)
            if target in targets
        ]
        if pairs:
            found.append(Paths(irrep, number, pairs))
    return found


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
        """Of features with as many scalars more as there are gates."""
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
