"""Symmetric products against tensors of coupling coefficients, contracted one by one."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from e3nn import o3

from pointedge.potentials.equivariant import product as module
from pointedge.potentials.equivariant.irreps import Irrep, Irreps
from pointedge.potentials.equivariant.product import (
    Polynomials,
    SymmetricProduct,
    coupled,
    multiplicity,
    symmetric,
)
from pointedge.potentials.species import Groups

CHANNELS, LMAX, SPECIES = 2, 2, 3
TARGETS = Irreps.parse("2x0e + 2x1o + 2x2e")
ROUNDING = 1e-12
symbol = partial(o3.wigner_3j, dtype=torch.float64)


@pytest.mark.parametrize(
    ("lmax", "l", "counts"),
    [
        (1, 0, (1, 2, 2)),
        (1, 1, (1, 1, 2)),
        (2, 0, (1, 3, 5)),
        (2, 2, (1, 3, 6)),
        (3, 1, (1, 3, 12)),
    ],
)
def test_as_many_polynomials_as_ways_to_couple_are_independent(lmax, l, counts):  # noqa: E741
    for order, count in enumerate(counts, start=1):
        assert multiplicity(lmax, l, order) == count
        ways = symmetric(coupled(symbol, lmax, l, order)).flatten(0, 1)
        ours = Polynomials(lmax, [l], order).table(f"{l}_{order}").flatten(0, 1)
        assert torch.linalg.matrix_rank(ways) == ours.shape[1] == count
        fit = ours @ torch.linalg.lstsq(ours, ways).solution
        assert (fit - ways).abs().max() < ROUNDING * ways.abs().max()


def naive(product, values, species):
    """Sums over all orders and all indices of the tensors that the polynomials came from."""
    results = []
    for irrep in TARGETS:
        total = 0.0
        for order in range(1, product.correlation + 1):
            name = f"{irrep.l}_{order}"
            ways = coupled(symbol, LMAX, irrep.l, order)
            table = product.polynomials.table(name).flatten(0, 1)
            # not lstsq: more ways than are independent
            change = torch.linalg.pinv(symmetric(ways).flatten(0, 1), rtol=1e-10) @ table
            tensors = torch.einsum("...k,kr->...r", ways, change)
            letters = "ijk"[:order]
            factors = ",".join(f"n{letter}c" for letter in letters)
            weights = product.weights[name][species]
            total = total + torch.einsum(
                f"m{letters}r,nrc,{factors}->nmc", tensors, weights, *[values] * order
            )
        results.append(total)
    return results


@pytest.mark.parametrize("correlation", [1, 2, 3])
@pytest.mark.parametrize("block", [2, 64])
@torch.no_grad()
def test_products_are_the_sums_over_all_indices(monkeypatch, correlation, block):
    monkeypatch.setattr(module, "ATOMS", block)
    torch.manual_seed(0)
    product = SymmetricProduct(CHANNELS, LMAX, TARGETS, correlation, SPECIES).to(torch.float64)
    values = torch.randn(7, (LMAX + 1) ** 2, CHANNELS, dtype=torch.float64)
    species = torch.tensor([0, 2, 2, 0, 2, 0, 0])  # none of the second
    features = dict(
        zip(map(Irrep.harmonic, range(LMAX + 1)), values.split([1, 3, 5], dim=1), strict=True)
    )
    found = product(features, Groups.build(species, SPECIES))
    for irrep, expected in zip(TARGETS, naive(product, values, species), strict=True):
        assert (found[irrep] - expected).abs().max() < ROUNDING * expected.abs().max()
