"""Rows of numbers, as the other packages keep weights, and the blocks they consist of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..linear import EquivariantLinear, SpeciesLinear

Arrays = Mapping[str, np.ndarray]


class TakeOverError(ValueError):
    """A model that our networks do not compute, or arrays that do not fit its arguments."""


def fill_linear(linear: EquivariantLinear, flat: np.ndarray) -> None:
    """Set the weights of a linear map."""
    for weight, block in blocks(linear, flat):
        assign(weight, block)


def blocks(
    linear: EquivariantLinear | SpeciesLinear, flat: np.ndarray
) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Every weight of a linear map and its block; of maps of species as (in, species, out)."""
    weights = list(linear.weights.values())
    shapes = [(w.shape[-2], *w.shape[:-2], w.shape[-1]) for w in weights]
    yield from zip(weights, cut(to_tensor(flat), shapes), strict=True)


def cut(flat: Tensor, shapes: Sequence[Sequence[Any]]) -> list[Tensor]:
    """Consecutive blocks of a row of numbers."""
    sizes = [math.prod(shape) for shape in shapes]
    if sum(sizes) != flat.numel():
        raise TakeOverError(f"{flat.numel()} weights do not fit blocks {list(map(tuple, shapes))}.")
    return [x.view(*shape) for x, shape in zip(flat.split(sizes), shapes, strict=True)]


def assign(parameter: Tensor, value: Tensor) -> None:
    """Set a weight; raises TakeOverError if the shape is another."""
    if parameter.shape != value.shape:
        raise TakeOverError(
            f"weights of shape {tuple(value.shape)} do not fit {tuple(parameter.shape)}; are these "
            "the arguments that the model was built with?"
        )
    parameter.copy_(value)


def to_tensor(array: np.ndarray | Tensor) -> Tensor:
    """In float64, whatever it was."""
    return torch.as_tensor(np.asarray(array)).to(torch.float64)
