"""Weights of mace-torch in our MACE."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ...potential import Potential
from ..irreps import SCALAR, Irreps
from ..linear import MLP
from ..mace import MACE, FirstInteraction, MACEConfig, MACELayer
from ..product import SymmetricProduct, coupled, symmetric
from .blocks import Arrays, TakeOverError, assign, blocks, fill_linear, to_tensor

AGNOSTIC, RESIDUAL = "RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock"
ZERO = 1e-9  # of a symbol


def from_mace(arguments: Mapping[str, Any], arrays: Arrays) -> Potential:
    """A potential, in float64, with the weights of a ``MACE`` or ``ScaleShiftMACE``.

    Args:
        arguments: ``r_max``, ``num_bessel``, ``num_polynomial_cutoff``, ``max_ell``,
            ``num_interactions``, ``hidden_irreps``, ``MLP_irreps``, ``correlation``,
            ``avg_num_neighbors``, ``radial_MLP`` and the name ``interaction_cls_first``.
        arrays: of its ``state_dict``.

    Raises:
        TakeOverError: a block that is not ours, or arrays of other shapes.
    """
    interactions: dict[str, FirstInteraction] = {AGNOSTIC: "agnostic", RESIDUAL: "residual"}
    first = arguments["interaction_cls_first"]
    if first not in interactions or arguments.get("interaction_cls", RESIDUAL) != RESIDUAL:
        raise TakeOverError(
            f"MACE with {first} is not computed here; known: {', '.join(interactions)}."
        )
    numbers = [int(z) for z in arrays["atomic_numbers"]]
    correlation = arguments["correlation"]
    config = MACEConfig(
        species=tuple(numbers),
        cutoff=float(arguments["r_max"]),
        irreps=str(arguments["hidden_irreps"]),
        lmax=int(arguments["max_ell"]),
        num_layers=int(arguments["num_interactions"]),
        num_basis=int(arguments["num_bessel"]),
        envelope_power=int(arguments["num_polynomial_cutoff"]),
        average_neighbors=float(arguments["avg_num_neighbors"]),
        correlation=correlation if isinstance(correlation, int) else tuple(correlation),
        first_interaction=interactions[first],
        readout_width=Irreps.parse(str(arguments["MLP_irreps"]))[SCALAR],
        radial_width=_equal(arguments["radial_MLP"]),
        radial_depth=len(arguments["radial_MLP"]),
    )
    network = MACE(config).to(torch.float64)
    rows = torch.tensor(np.argsort(numbers))
    with torch.no_grad():
        kinds = len(numbers)
        table = to_tensor(arrays["node_embedding.linear.weight"]).view(kinds, -1)
        assign(network.embedding, table[rows] / math.sqrt(kinds))
        for t, layer in enumerate(cast("list[MACELayer]", network.layers)):
            _fill_mace_layer(layer, t, arrays, rows)
        last = len(network.layers) - 1
        for t, readout in enumerate(cast("list[MLP]", network.readouts)):
            names = ["linear"] if t < last or last == 0 else ["linear_1", "linear_2"]
            for weight, name in zip(readout.weights, names, strict=True):
                assign(weight, to_tensor(arrays[f"readouts.{t}.{name}.weight"]).view(weight.shape))
    energies = to_tensor(arrays["atomic_energies_fn.atomic_energies"]).flatten()
    shift = float(np.ravel(arrays.get("scale_shift.shift", 0.0))[0])
    scale = float(np.ravel(arrays.get("scale_shift.scale", 1.0))[0])
    baseline = {z: float(e) + shift for z, e in zip(numbers, energies, strict=True)}
    return Potential(network, baseline, scale).eval()


def _fill_mace_layer(layer: MACELayer, t: int, arrays: Arrays, rows: Tensor) -> None:
    interaction, product = f"interactions.{t}", f"products.{t}"
    convolution, kinds = layer.convolution, len(rows)
    fill_linear(layer.mix, arrays[f"{interaction}.linear_up.weight"])
    for k, weight in enumerate(convolution.radial.weights):
        matrix = to_tensor(arrays[f"{interaction}.conv_tp_weights.layer{k}.weight"])
        if k + 1 == len(convolution.radial.weights):
            theirs = sorted(convolution.paths, key=lambda path: path.target.l)
            widths = [convolution.irreps_in[path.source] for path in theirs]
            columns = dict(zip(theirs, matrix.split(widths, dim=1), strict=True))
            # their harmonics are of the vector to the centre
            matrix = torch.cat([(-1) ** p.degree * columns[p] for p in convolution.paths], dim=1)
        assign(weight, matrix)
    fill_linear(layer.mix_messages, arrays[f"{interaction}.linear.weight"])
    for weight, block in blocks(layer.by_species, arrays[f"{interaction}.skip_tp.weight"]):
        assign(weight, block.permute(1, 0, 2)[rows] / math.sqrt(kinds))
    for n, irrep in enumerate(layer.product.targets):
        place = f"{product}.symmetric_contractions.contractions.{n}"
        _fill_product(layer.product, irrep.l, place, arrays, rows)
    fill_linear(layer.mix_products, arrays[f"{product}.linear.weight"])


def _fill_product(
    product: SymmetricProduct,
    degree: int,
    place: str,
    arrays: Arrays,
    rows: Tensor,
) -> None:
    """Weights of their ways to couple, of which ours are a basis: U w = B (B⁺ U w)."""
    top, size = product.correlation, product.polynomials.size
    for order in range(1, top + 1):
        name = f"{place}.weights_max" if order == top else f"{place}.weights.{top - 1 - order}"
        stored = arrays.get(f"{place}.U_matrix_{order}")
        if stored is None:
            tensors = coupled(_symbol_of_mace, product.polynomials.lmax, degree, order)
        else:
            tensors = to_tensor(stored).reshape(2 * degree + 1, *[size] * order, -1)
        ours = product.polynomials.table(f"{degree}_{order}").flatten(0, 1)
        change = torch.linalg.lstsq(ours, symmetric(tensors).flatten(0, 1)).solution
        weights = torch.einsum("rk,zkc->zrc", change, to_tensor(arrays[name])[rows])
        assign(product.weights[f"{degree}_{order}"], weights)


def _symbol_of_mace(l1: int, l2: int, l3: int) -> Tensor:
    """3j symbol with the signs of e3nn 0.4.4, which mace-torch 0.3 requires.

    Symbols with an odd sum of degrees got other signs in e3nn 0.5.0.
    """
    from e3nn import o3

    symbol: Tensor = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
    if (l1 + l2 + l3) % 2:
        ordered = o3.wigner_3j(*sorted((l1, l2, l3)), dtype=torch.float64).flatten()
        symbol = symbol * ordered[ordered.abs() > ZERO][0].sign()
    return symbol


def _equal(widths: Sequence[int]) -> int:
    if len(set(widths)) != 1:
        raise TakeOverError(f"radial_MLP = {list(widths)} must have layers of one width.")
    return int(widths[0])
