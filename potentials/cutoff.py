r"""Smooth cutoff functions: 1 inside, 0 beyond the cutoff, a taper of given width in between.

With :math:`s = (r - (r_c - w)) / w`:

* ``bump``: :math:`\frac12 (1 + \tanh\cot \pi s)`, C-infinity (metatrain's PET).
* ``cosine``: :math:`\frac12 (1 + \cos \pi s)`, C1 only: the second derivative jumps by
  :math:`\pm\pi^2 / (2 w^2)` at either end (PET, arXiv 2305.19302; Behler and Parrinello 2007).
* ``tanh``: :math:`\frac12 (1 + \tanh(\frac1{x+1} + \frac1{x-1}))`, :math:`x = 2 s - 1`,
  C-infinity (ECSE, arXiv 2305.19302).

Both tanh forms are evaluated as the logistic function of twice their argument, which keeps full
relative precision where the value is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .suggestions import did_you_mean

CutoffFunction = Callable[[Tensor, Tensor | float, float], Tensor]


def bump(distance: Tensor, cutoff: Tensor | float, width: float) -> Tensor:
    """C-infinity bump of distances in Å; the cutoff may be a number or one value per distance."""
    # Beyond these ends the value is 0 or 1 to the last bit, and so are all derivatives.
    angle = math.pi * _taper(distance, cutoff, width).clamp(1e-6, 1 - 1e-6)
    # Not 1 / tan: its second derivative cancels to noise where tan diverges, at s = 1/2.
    return torch.sigmoid(2 * torch.cos(angle) / torch.sin(angle))


def cosine(distance: Tensor, cutoff: Tensor | float, width: float) -> Tensor:
    """Cosine taper of distances in Å; C1: the slope of a force jumps at both ends."""
    s = _taper(distance, cutoff, width).clamp(0, 1)
    return 0.5 * (1 + torch.cos(math.pi * s))


def tanh(distance: Tensor, cutoff: Tensor | float, width: Tensor | float) -> Tensor:
    """C-infinity tanh switch of distances in Å."""
    s = _taper(distance, cutoff, width).clamp(1e-3, 1 - 1e-3)
    return torch.sigmoid(1 / s - 1 / (1 - s))


def cutoff_function(name: str) -> CutoffFunction:
    """Return the cutoff function of that name."""
    try:
        return FUNCTIONS[name]
    except KeyError:
        raise ValueError(
            f"unknown cutoff function {name!r}; {did_you_mean(name, FUNCTIONS)}"
        ) from None


def curvature_jump(name: str, width: float) -> float:
    """Jump of the second derivative (1/Å²) at the cutoff: π²/(2w²) for cosine, 0 for the others."""
    return math.pi**2 / (2 * width**2) if name == "cosine" else 0.0


def _taper(distance: Tensor, cutoff: Tensor | float, width: Tensor | float) -> Tensor:
    return (distance - (cutoff - width)) / width


FUNCTIONS: dict[str, CutoffFunction] = {"bump": bump, "cosine": cosine, "tanh": tanh}
