r"""Symmetric products of features: the many-body part of MACE (Batatia et al., arXiv 2206.07697).

For features A (degrees 0 to lmax, in all D = (lmax + 1)² components) the product of order q is,
channel by channel and for every degree L of the output,

.. math:: B^L_M = \sum_{\nu=1}^q \sum_k w^{\nu}_{z k} \sum_{i_1 \dots i_\nu}
          U^{L \nu}_{M, i_1 \dots i_\nu, k} A_{i_1} \dots A_{i_\nu}

with weights for every species z. U couples the factors one after another with 3j symbols. Only its
symmetric part matters, so that U is kept as a basis of homogeneous polynomials, of which there are
fewer than ways to couple (12 in place of 51 for three factors of lmax = 3 and L = 1).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import combinations_with_replacement, permutations
from typing import Any

import torch
from torch import Tensor, nn

from ..species import Groups
from .irreps import Features, Irrep, Irreps
from .tables import Constants

Symbol = Callable[[int, int, int], Tensor]  # 3j symbols (2l1 + 1, 2l2 + 1, 2l3 + 1)
ATOMS = 64  # in a block, so that intermediate values stay small
INDEPENDENT = 1e-6  # what a unit vector must have left outside the span of others


class SymmetricProduct(nn.Module):
    """Products of up to three features of an atom, with the weights of its species.

    Args:
        channels: multiplicity of every irrep of input and output.
        lmax: the input has the irreps of harmonics up to this degree.
        targets: irreps of the output.
        correlation: largest number of factors, 1 to 3.
        num_species: sets of weights.
    """

    def __init__(
        self, channels: int, lmax: int, targets: Irreps, correlation: int, num_species: int
    ) -> None:
        super().__init__()
        self.irreps_in = [Irrep.harmonic(l) for l in range(lmax + 1)]  # noqa: E741
        self.targets, self.correlation = targets, correlation
        self.polynomials = Polynomials(lmax, [irrep.l for irrep in targets], correlation)
        self.weights = nn.ParameterDict()
        for name, count in self.polynomials.counts.items():
            values = torch.randn(num_species, count, channels) / max(count, 1)
            self.weights[name] = nn.Parameter(values)
        size = (lmax + 1) ** 2
        rows, columns = torch.triu_indices(size, size)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("triples", _places_of_triples(size), persistent=False)

    def forward(self, features: Features, atoms: Groups) -> Features:
        """Features (N, 2l + 1, n) to products (N, 2L + 1, n)."""
        values = torch.cat([features[irrep] for irrep in self.irreps_in], dim=1)
        products = atoms.map(self._of_species, values)
        parts = products.split([irrep.dim for irrep in self.targets], dim=1)
        return dict(zip(self.targets, parts, strict=True))

    def _of_species(self, z: int, values: Tensor) -> Tensor:
        """Products (n, Σ(2L + 1), channels) of values (n, D, channels) of atoms of a species."""
        folded = [self._folded(z, order, values.dtype) for order in range(1, self.correlation + 1)]
        # contiguous: products of other batches of matrices go one by one, with copies
        blocks = [x.permute(2, 1, 0).contiguous() for x in values.split(ATOMS)]
        return torch.cat([self._evaluate(x, *folded) for x in blocks], dim=-1).permute(2, 1, 0)

    def _folded(self, z: int, order: int, dtype: torch.dtype) -> Tensor:
        """Polynomials (channels, Σ(2L + 1), monomials) of an order, summed with the weights."""
        parts = []
        for irrep in self.targets:
            name = f"{irrep.l}_{order}"
            table = self.polynomials.table(name).to(dtype)
            parts.append(torch.einsum("mtk,kc->cmt", table, self.weights[name][z]))
        return torch.cat(parts, dim=1)

    def _evaluate(
        self, x: Tensor, first: Tensor, second: Tensor | None = None, third: Tensor | None = None
    ) -> Tensor:
        """Sum of the polynomials of x (channels, D, n): (channels, Σ(2L + 1), n)."""
        result = first @ x
        if second is None:
            return result
        pairs = x.index_select(1, self.get_buffer("rows"))
        pairs = pairs * x.index_select(1, self.get_buffer("columns"))
        if third is None:
            return result + second @ pairs
        # a factor of every pair: (channels, Σ(2L + 1) · pairs, D) times (channels, D, n)
        dense = x.new_zeros(*third.shape[:2], pairs.shape[1] * x.shape[1])
        dense = dense.index_copy(2, self.get_buffer("triples"), third)
        factors = (dense.view(len(x), -1, x.shape[1]) @ x).unflatten(1, second.shape[1:])
        return result + ((factors + second[..., None]) * pairs[:, None]).sum(2)


class Polynomials(Constants):
    """Bases of the equivariant polynomials (2L + 1, monomials, basis) of D variables.

    A table's name is "L_order". Its monomials are those of ``combinations_with_replacement``.
    """

    def __init__(self, lmax: int, degrees: list[int], correlation: int) -> None:
        super().__init__()
        self.lmax, self.degrees, self.correlation = lmax, degrees, correlation
        self.size = (lmax + 1) ** 2
        self.counts: dict[str, int] = {}
        for l in degrees:  # noqa: E741
            for order in range(1, correlation + 1):
                self.counts[f"{l}_{order}"] = count = multiplicity(lmax, l, order)
                monomials = math.comb(self.size + order - 1, order)
                self.reserve(f"polynomials_{l}_{order}", 2 * l + 1, monomials, count)

    def table(self, name: str) -> Tensor:
        """Coefficients (2L + 1, monomials, basis) in float64."""
        self.fill()
        return self.get_buffer(f"polynomials_{name}")

    def compute(self, o3: Any) -> dict[str, Tensor]:
        """Orthonormal bases, of the symmetric part of all ways to couple."""
        symbol = partial(o3.wigner_3j, dtype=torch.float64)
        return {
            f"polynomials_{l}_{order}": _independent(
                symmetric(coupled(symbol, self.lmax, l, order)), self.size, order
            )
            for l in self.degrees  # noqa: E741
            for order in range(1, self.correlation + 1)
        }


def coupled(symbol: Symbol, lmax: int, l: int, order: int) -> Tensor:  # noqa: E741
    """All ways (2l + 1, D, ..., D, ways) to couple ``order`` factors to degree l, natural parity.

    One after another, in the order of the research code: by the degree and parity of the factors so
    far, the degree of the next, and the degree of both.
    """
    size = (lmax + 1) ** 2
    identity = torch.eye(size, dtype=torch.float64)
    found = [(k, (-1) ** k, identity[k * k : (k + 1) ** 2]) for k in range(lmax + 1)]
    for _ in range(order - 1):
        longer = []
        for degree, parity, tensor in found:
            for added in range(lmax + 1):
                for total in range(abs(degree - added), degree + added + 1):
                    factor = math.sqrt(2 * total + 1) * symbol(total, degree, added)
                    values = torch.einsum("mab,a...->m...b", factor, tensor)
                    wide = values.new_zeros(*values.shape[:-1], size)
                    wide[..., added**2 : (added + 1) ** 2] = values
                    longer.append((total, parity * (-1) ** added, wide))
        found = sorted(longer, key=lambda entry: entry[:2])
    return torch.stack([t for k, parity, t in found if (k, parity) == (l, (-1) ** l)], dim=-1)


def symmetric(tensors: Tensor) -> Tensor:
    """Coefficients (2l + 1, monomials, ways) of the polynomials of (2l + 1, D, ..., ways)."""
    size, order = tensors.shape[1], tensors.ndim - 2
    last = tensors.movedim(0, -2)  # (D, ..., 2l + 1, ways)
    columns = [
        torch.stack([last[ordering] for ordering in set(permutations(monomial))]).sum(0)
        for monomial in combinations_with_replacement(range(size), order)
    ]
    return torch.stack(columns, dim=1)


def _independent(polynomials: Tensor, size: int, order: int) -> Tensor:
    """An orthogonal basis (2l + 1, monomials, basis) of the span, by Gram and Schmidt.

    Orthogonal as symmetric tensors, each with a norm of sqrt(2l + 1).
    """
    orderings = [
        math.factorial(order) / math.prod(math.factorial(n) for n in Counter(m).values())
        for m in combinations_with_replacement(range(size), order)
    ]
    scale = polynomials.new_tensor(orderings).sqrt()[
        :, None
    ]  # norm of a monomial's tensor: 1/scale
    basis = polynomials.new_zeros(polynomials[..., 0].numel(), 0)
    for column in (polynomials / scale).flatten(0, 1).unbind(1):
        unit = column / column.norm().clamp(min=INDEPENDENT)
        for _ in range(2):  # once more, for what rounding has left
            unit = unit - basis @ (basis.T @ unit)
        if unit.norm() > INDEPENDENT:
            basis = torch.cat([basis, (unit / unit.norm())[:, None]], dim=1)
    scaled = math.sqrt(len(polynomials)) * scale * basis.unflatten(0, polynomials.shape[:2])
    return torch.where(scaled.abs() < 1e-12, 0.0, scaled)


def multiplicity(lmax: int, l: int, order: int) -> int:  # noqa: E741
    """How often degree l, natural parity, is in the symmetric power of all degrees up to lmax.

    There are as many as monomials of order m = l, less those of m = l + 1, of complex harmonics.
    """
    variables = [(k, m) for k in range(lmax + 1) for m in range(-k, k + 1)]
    monomials = Counter(
        (sum(m for _, m in monomial), sum(k for k, _ in monomial) % 2)
        for monomial in combinations_with_replacement(variables, order)
    )
    return monomials[l, l % 2] - monomials[l + 1, l % 2]


def _places_of_triples(size: int) -> Tensor:
    """Where the monomials i <= j <= k are in a table of pairs i <= j by factors k."""
    pair = {p: n for n, p in enumerate(combinations_with_replacement(range(size), 2))}
    triples = combinations_with_replacement(range(size), 3)
    return torch.tensor([pair[i, j] * size + k for i, j, k in triples])
