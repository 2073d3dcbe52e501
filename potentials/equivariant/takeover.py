"""Weights of models of the packages ``mace-torch`` and ``nequip``, in our networks.

Their files are pickles that only their own environment opens. Export there, and build here::

    numpy.savez("weights.npz", **{k: v.numpy() for k, v in model.state_dict().items()})

together with the arguments the model was built with. Arrays are those of mace-torch 0.3 and of
nequip 0.16 to 0.19 (older ones lay irreps out in another order), whose energies and forces come out
to rounding in float64. What was trained in float32 agrees to some 1e-7.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from ..potential import Potential
from .irreps import SCALAR, Irrep, Irreps
from .linear import MLP, EquivariantLinear, SpeciesLinear
from .mace import MACE, MACEConfig, MACELayer
from .messages import Path, paths
from .nequip import NequIP, NequIPConfig, NequIPLayer
from .product import SymmetricProduct, coupled, symmetric
from .tables import Tables

Arrays = Mapping[str, np.ndarray]
AGNOSTIC, RESIDUAL = "RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock"
ZERO = 1e-9  # of a symbol
NOT_TAKEN: dict[
    str, tuple[Any, ...]
] = {  # arguments of nequip's that change the model, and the only values that we compute
    "bessel_trainable": (False,),
    "per_edge_type_cutoff": (None, {}),
    "convnet_sc": (True,),
    "convnet_resnet": (False,),
    "learnable_shift": (False,),
    "pair_potential": (None,),
    "convnet_nonlinearity_type": ("gate",),
    "readout_mlp_nonlinearity": ("silu",),
    "radial_mlp_nonlinearity": ("silu",),
}


class TakeOverError(ValueError):
    """A model that our networks do not compute, or arrays that do not fit its arguments."""


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
    blocks = {AGNOSTIC: "agnostic", RESIDUAL: "residual"}
    first = arguments["interaction_cls_first"]
    if first not in blocks or arguments.get("interaction_cls", RESIDUAL) != RESIDUAL:
        raise TakeOverError(f"MACE with {first} is not computed here; known: {', '.join(blocks)}.")
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
        first_interaction=blocks[first],  # type: ignore[arg-type]
        readout_width=Irreps.parse(str(arguments["MLP_irreps"]))[SCALAR],
        radial_width=_equal(arguments["radial_MLP"]),
        radial_depth=len(arguments["radial_MLP"]),
    )
    network = MACE(config).to(torch.float64)
    rows = torch.tensor(np.argsort(numbers))
    with torch.no_grad():
        kinds = len(numbers)
        table = _tensor(arrays["node_embedding.linear.weight"]).view(kinds, -1)
        _set(network.embedding, table[rows] / math.sqrt(kinds))
        for t, layer in enumerate(cast("list[MACELayer]", network.layers)):
            _fill_mace_layer(layer, t, arrays, rows)
        last = len(network.layers) - 1
        for t, readout in enumerate(cast("list[MLP]", network.readouts)):
            names = ["linear"] if t < last or last == 0 else ["linear_1", "linear_2"]
            for weight, name in zip(readout.weights, names, strict=True):
                _set(weight, _tensor(arrays[f"readouts.{t}.{name}.weight"]).view(weight.shape))
    energies = _tensor(arrays["atomic_energies_fn.atomic_energies"]).flatten()
    shift = float(np.ravel(arrays.get("scale_shift.shift", 0.0))[0])
    scale = float(np.ravel(arrays.get("scale_shift.scale", 1.0))[0])
    baseline = {z: float(e) + shift for z, e in zip(numbers, energies, strict=True)}
    return Potential(network, baseline, scale).eval()


def _fill_mace_layer(layer: MACELayer, t: int, arrays: Arrays, rows: Tensor) -> None:
    interaction, product = f"interactions.{t}", f"products.{t}"
    convolution, kinds = layer.convolution, len(rows)
    _fill_blocks(layer.mix, arrays[f"{interaction}.linear_up.weight"])
    for k, weight in enumerate(convolution.radial.weights):
        matrix = _tensor(arrays[f"{interaction}.conv_tp_weights.layer{k}.weight"])
        if k + 1 == len(convolution.radial.weights):
            theirs = sorted(convolution.paths, key=lambda path: path.target.l)
            widths = [convolution.irreps_in[path.source] for path in theirs]
            columns = dict(zip(theirs, matrix.split(widths, dim=1), strict=True))
            # their harmonics are of the vector to the centre
            matrix = torch.cat([(-1) ** p.degree * columns[p] for p in convolution.paths], dim=1)
        _set(weight, matrix)
    _fill_blocks(layer.mix_messages, arrays[f"{interaction}.linear.weight"])
    blocks = _blocks(layer.by_species, arrays[f"{interaction}.skip_tp.weight"])
    for weight, block in blocks:
        _set(weight, block.permute(1, 0, 2)[rows] / math.sqrt(kinds))
    for n, irrep in enumerate(layer.product.targets):
        place = f"{product}.symmetric_contractions.contractions.{n}"
        _fill_product(layer.product, irrep.l, place, arrays, rows)
    _fill_blocks(layer.mix_products, arrays[f"{product}.linear.weight"])


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
            tensors = _tensor(stored).reshape(2 * degree + 1, *[size] * order, -1)
        ours = product.polynomials.table(f"{degree}_{order}").flatten(0, 1)
        change = torch.linalg.lstsq(ours, symmetric(tensors).flatten(0, 1)).solution
        weights = torch.einsum("rk,zkc->zrc", change, _tensor(arrays[name])[rows])
        _set(product.weights[f"{degree}_{order}"], weights)


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


def from_nequip(arguments: Mapping[str, Any], arrays: Arrays) -> Potential:
    """A potential, in float64, with the weights of a ``NequIPGNNModel``.

    Irreps that cannot reach the energy are left out, such as 1e in the last hidden layer.

    Args:
        arguments: that it was built with.
        arrays: of its ``state_dict``.

    Raises:
        TakeOverError: an option that our network does not have, or arrays of other shapes.
    """
    for name, values in NOT_TAKEN.items():
        if arguments.get(name, values[0]) not in values:
            raise TakeOverError(f"nequip's {name} = {arguments[name]!r} is not computed here.")
    state = {k.rsplit("model.func.", 1)[-1]: _tensor(v) for k, v in arrays.items()}
    species = [atomic_numbers[name] for name in arguments["type_names"]]
    depth, lmax = int(arguments.get("num_layers", 4)), int(arguments.get("l_max", 1))
    features = arguments.get("num_features", 32)
    widths = [features] * (lmax + 1) if isinstance(features, int) else list(features)
    # their order: degree, then even before odd
    every = [Irrep(l, p) for l in range(lmax + 1) for p in (1, -1)]  # noqa: E741
    if not arguments.get("parity", True):
        every = [irrep for irrep in every if irrep == Irrep.harmonic(irrep.l)]
    embedding = arguments.get("type_embed_num_features") or widths[0]
    shapes = [{SCALAR: embedding}]
    for k in range(depth):
        hidden = every if k + 1 < depth else [SCALAR]
        reached = {p.target for p in paths(shapes[-1], hidden, lmax)}
        shapes.append({irrep: widths[irrep.l] for irrep in hidden if irrep in reached})
    config = NequIPConfig(
        species=tuple(species),
        cutoff=float(arguments["r_max"]),
        irreps=_useful(shapes[1:], lmax),
        lmax=lmax,
        num_layers=depth,
        num_basis=int(arguments.get("num_bessels", 8)),
        radial_width=int(arguments.get("radial_mlp_width", 128)),
        radial_depth=int(arguments.get("radial_mlp_depth", 1)),
        envelope_power=int(arguments.get("polynomial_cutoff_p", 6)),
        average_neighbors=_one("avg_num_neighbors", arguments),
        embedding_width=embedding,
        readout_depth=int(arguments.get("readout_mlp_hidden_layers_depth", 0)),
        readout_width=arguments.get("readout_mlp_hidden_layers_width"),
    )
    network = NequIP(config).to(torch.float64)
    rows = torch.tensor(np.argsort(species))
    with torch.no_grad():
        _set(network.embedding, state["type_embed.embed_module.weight"][rows])
        layers = cast("list[NequIPLayer]", network.layers)
        for n, (layer, (before, after)) in enumerate(zip(layers, pairwise(shapes), strict=True)):
            place = f"layer{n}_convnet.conv"
            _fill_nequip_layer(layer, place, state, before, after, config, network.tables)
        for k, weight in enumerate(network.readout.weights):
            _set(weight, state[f"per_atom_energy_readout.mlp_module.mlp.{2 * k}.weight"])
    scales = state.get("per_type_energy_scale_shift.scales", torch.ones(1)).flatten()
    if len(scales) and not torch.allclose(scales, scales[0]):
        raise TakeOverError("nequip's energy scales of single species are not computed here.")
    shifts = state.get("per_type_energy_scale_shift.shifts", torch.zeros(1)).flatten()
    shifts = (shifts if len(shifts) else torch.zeros(1)).expand(len(species))
    baseline = {z: float(e) for z, e in zip(species, shifts, strict=True)}
    return Potential(network, baseline, float(scales[0]) if len(scales) else 1.0).eval()


def _fill_nequip_layer(
    layer: NequIPLayer,
    place: str,
    state: Mapping[str, Tensor],
    before: dict[Irrep, int],
    after: dict[Irrep, int],
    config: NequIPConfig,
    tables: Tables,
) -> None:
    """Pick what ours has from the blocks of theirs; ``before``, ``after``: in their order."""
    gated = [irrep for irrep in after if irrep.l > 0]
    wide = {**after, SCALAR: after[SCALAR] + sum(after[irrep] for irrep in gated)}
    wide = dict(sorted(wide.items()))
    theirs = [
        Path(source, degree, target)
        for source in before
        for degree in range(config.lmax + 1)
        for target in source * Irrep.harmonic(degree)
        if target in wide
    ]
    ours = layer.convolution.paths
    # columns of the scalars: themselves, then gates in the order of what they gate
    pieces = torch.arange(wide[SCALAR]).split([after[SCALAR], *(after[i] for i in gated)])
    gates = dict(zip(gated, pieces[1:], strict=True))
    scalars = torch.cat([pieces[0], *(gates[irrep] for irrep in layer.gate.gated)])

    def kept(target: Irrep, matrix: Tensor) -> Tensor:
        return matrix[..., scalars] if target == SCALAR else matrix

    flat = state[f"{place}.linear_1.weight"]
    squares = dict(zip(before, _cut(flat, [(n, n) for n in before.values()]), strict=True))
    for name, weight in layer.mix.weights.items():
        _set(weight, squares[Irrep.parse(name)])
    signs = {path: _sign(path, tables, place, state) for path in ours}
    for k, weight in enumerate(layer.convolution.radial.weights):
        matrix = state[f"{place}.edge_mlp.mlp.{2 * k}.weight"]
        if k == 0:
            matrix = matrix * math.sqrt(2 / config.cutoff)  # their basis is as much larger
        if k + 1 == len(layer.convolution.radial.weights):
            columns = matrix.split([before[path.source] for path in theirs], dim=1)
            matrix = torch.cat([signs[p] * columns[theirs.index(p)] for p in ours], dim=1)
        _set(weight, matrix)
    groups = {target: [p for p in theirs if p.target == target] for target in wide}
    sizes = [(sum(before[p.source] for p in groups[t]), n) for t, n in wide.items()]
    for target, matrix in zip(wide, _cut(state[f"{place}.linear_2.weight"], sizes), strict=True):
        if str(target) in layer.mix_messages.weights:
            parts = matrix.split([before[p.source] for p in groups[target]])
            mine = [parts[groups[target].index(p)] for p in ours if p.target == target]
            _set(layer.mix_messages.weights[str(target)], kept(target, torch.cat(mine)))
    if layer.self_connection is not None:
        same = [irrep for irrep in before if irrep in wide]
        shapes = [(before[i], layer.self_connection.embedding_width, wide[i]) for i in same]
        blocks = _cut(state[f"{place}.sc.weight"], shapes)
        for irrep, block in zip(same, blocks, strict=True):
            if str(irrep) in layer.self_connection.weights:
                matrix = kept(irrep, block.permute(1, 0, 2))
                _set(layer.self_connection.weights[str(irrep)], matrix)


def _sign(path: Path, tables: Tables, place: str, state: Mapping[str, Tensor]) -> float:
    """Of their 3j symbol, where it is stored, relative to ours."""
    degrees = "_".join(map(str, path.degrees))
    theirs = state.get(f"{place}.tp_scatter.tp._compiled_main_left_right._w3j_{degrees}")
    return 1.0 if theirs is None else float((theirs * tables.coupling(path.degrees)).sum().sign())


def _useful(shapes: Sequence[dict[Irrep, int]], lmax: int) -> str:
    """Irreps that some hidden layer has, and that the energy can come to know of."""
    useful: dict[Irrep, int] = {SCALAR: shapes[-1][SCALAR]}
    needed = {SCALAR}
    for shape in reversed(shapes[:-1]):
        needed |= {path.source for path in paths(Irreps(shape), list(needed), lmax)}
        needed &= {*shape}
        useful.update({irrep: shape[irrep] for irrep in needed})
    return str(Irreps(useful))


def _fill_blocks(linear: EquivariantLinear, flat: np.ndarray) -> None:
    for weight, block in _blocks(linear, flat):
        _set(weight, block)


def _blocks(
    linear: EquivariantLinear | SpeciesLinear, flat: np.ndarray
) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Every weight of a linear map and its block; of maps of species as (in, species, out)."""
    weights = list(linear.weights.values())
    shapes = [(w.shape[-2], *w.shape[:-2], w.shape[-1]) for w in weights]
    yield from zip(weights, _cut(_tensor(flat), shapes), strict=True)


def _cut(flat: Tensor, shapes: Sequence[Sequence[Any]]) -> list[Tensor]:
    """Consecutive blocks of a row of numbers."""
    sizes = [math.prod(shape) for shape in shapes]
    if sum(sizes) != flat.numel():
        raise TakeOverError(f"{flat.numel()} weights do not fit blocks {list(map(tuple, shapes))}.")
    return [x.view(*shape) for x, shape in zip(flat.split(sizes), shapes, strict=True)]


def _set(parameter: Tensor, value: Tensor) -> None:
    if parameter.shape != value.shape:
        raise TakeOverError(
            f"weights of shape {tuple(value.shape)} do not fit {tuple(parameter.shape)}; are these "
            "the arguments that the model was built with?"
        )
    parameter.copy_(value)


def _equal(widths: Sequence[int]) -> int:
    if len(set(widths)) != 1:
        raise TakeOverError(f"radial_MLP = {list(widths)} must have layers of one width.")
    return int(widths[0])


def _one(name: str, arguments: Mapping[str, Any]) -> float:
    value = arguments[name]
    if isinstance(value, Mapping):
        raise TakeOverError(f"nequip's {name} of single species is not computed here.")
    return float(value)


def _tensor(array: np.ndarray | Tensor) -> Tensor:
    return torch.as_tensor(np.asarray(array)).to(torch.float64)
