"""Weights of nequip in our NequIP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor

from ...potential import Potential
from ..irreps import SCALAR, Irrep, Irreps
from ..messages import Path, paths
from ..nequip import NequIP, NequIPConfig, NequIPLayer
from ..tables import Tables
from .blocks import Arrays, TakeOverError, assign, cut, to_tensor

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
    state = {k.rsplit("model.func.", 1)[-1]: to_tensor(v) for k, v in arrays.items()}
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
        assign(network.embedding, state["type_embed.embed_module.weight"][rows])
        layers = cast("list[NequIPLayer]", network.layers)
        for n, (layer, (before, after)) in enumerate(zip(layers, pairwise(shapes), strict=True)):
            place = f"layer{n}_convnet.conv"
            _fill_nequip_layer(layer, place, state, before, after, config, network.tables)
        for k, weight in enumerate(network.readout.weights):
            assign(weight, state[f"per_atom_energy_readout.mlp_module.mlp.{2 * k}.weight"])
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
    squares = dict(zip(before, cut(flat, [(n, n) for n in before.values()]), strict=True))
    for name, weight in layer.mix.weights.items():
        assign(weight, squares[Irrep.parse(name)])
    signs = {path: _sign(path, tables, place, state) for path in ours}
    for k, weight in enumerate(layer.convolution.radial.weights):
        matrix = state[f"{place}.edge_mlp.mlp.{2 * k}.weight"]
        if k == 0:
            matrix = matrix * math.sqrt(2 / config.cutoff)  # their basis is as much larger
        if k + 1 == len(layer.convolution.radial.weights):
            columns = matrix.split([before[path.source] for path in theirs], dim=1)
            matrix = torch.cat([signs[p] * columns[theirs.index(p)] for p in ours], dim=1)
        assign(weight, matrix)
    groups = {target: [p for p in theirs if p.target == target] for target in wide}
    sizes = [(sum(before[p.source] for p in groups[t]), n) for t, n in wide.items()]
    for target, matrix in zip(wide, cut(state[f"{place}.linear_2.weight"], sizes), strict=True):
        if str(target) in layer.mix_messages.weights:
            parts = matrix.split([before[p.source] for p in groups[target]])
            mine = [parts[groups[target].index(p)] for p in ours if p.target == target]
            assign(layer.mix_messages.weights[str(target)], kept(target, torch.cat(mine)))
    if layer.self_connection is not None:
        same = [irrep for irrep in before if irrep in wide]
        shapes = [(before[i], layer.self_connection.embedding_width, wide[i]) for i in same]
        found = cut(state[f"{place}.sc.weight"], shapes)
        for irrep, block in zip(same, found, strict=True):
            if str(irrep) in layer.self_connection.weights:
                matrix = kept(irrep, block.permute(1, 0, 2))
                assign(layer.self_connection.weights[str(irrep)], matrix)


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


def _one(name: str, arguments: Mapping[str, Any]) -> float:
    value = arguments[name]
    if isinstance(value, Mapping):
        raise TakeOverError(f"nequip's {name} of single species is not computed here.")
    return float(value)
