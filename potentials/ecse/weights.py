r"""Smooth weights of ECSE: switches, softmax, pruning and the auxiliary weight (arXiv 2305.19302).

Every function here has all derivatives, and the weights of frames vanish with all of them where a
frame appears, disappears or degenerates. With the switch :math:`f_c` of :mod:`..cutoff` ("tanh"),

.. math:: \mathrm{SM}_b(v, p) = \sum_m p_m v_m e^{b v_m} / \sum_m p_m e^{b v_m}

is a smooth maximum of the values v (b > 0) or minimum (b < 0) in which an entry of weight 0 does
not count. The arithmetic is float64 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..cutoff import tanh
from ..plain import refuse_out_of_range
from ..suggestions import refuse_misspelt

# W(1/e) of Lambert's function: SM_b([x, y]) + BIAS / b >= max(x, y) for any two values.
BIAS = 0.2784645427610738
# Below this a weight is zero: its square underflows, and beside any sum of weights, the auxiliary
# one included, it is lost to rounding more than a hundred orders of magnitude earlier.
UNDERFLOW = 1e-150
POSITIVE = (
    "beta",
    "radius_width",
    "sine_width",
    "beta_weights",
    "auxiliary_threshold",
    "pruning_width",
    "pruning_threshold",
    "pruning_threshold_width",
)


@dataclass(frozen=True)
class RadiusSettings:
    """Parameters of frames within an inner radius; the defaults are those of the research code.

    But for pruning, which is off: a pruned frame takes its disagreement with the others away within
    a few hundredths of an Å.

    Attributes:
        method: "radius".
        parity: "O3" adds the mirror image of every frame, so that the average is invariant under
            improper rotations too; "SO3" does not.
        outer: where neighbours stop making frames. "smooth": at ``cutoff - radius_width - BIAS /
            beta``, so that the inner radius never exceeds the cutoff and nothing jumps; "research":
            at the cutoff, as in the research code, which is discontinuous there.
        beta: sharpness of the smooth extrema of lengths, 1/Å.
        radius_width: width of the taper at the inner radius, Å.
        sine: a pair counts for the inner radius above this squared sine of its angle ...
        sine_width: ... and fully this much above it. Frames have weight from ``sine - sine_width``.
        beta_weights: sharpness of the smooth maximum of weights.
        auxiliary_threshold: the auxiliary weight is 0 where the largest weight exceeds this.
        pruning_rounds: how often frames far below the largest weight are pruned; 0: never, 4 in the
            research code.
        pruning: frames below this fraction of the largest weight are pruned away ...
        pruning_width: ... and those this fraction of it above that are kept whole.
        pruning_threshold: pruning is complete where the largest weight exceeds this ...
        pruning_threshold_width: ... and absent this much below it.
        negligible: frames of no more weight are dropped; 1e-10 in the research code.
    """

    method: Literal["radius"] = "radius"
    parity: Literal["O3", "SO3"] = "O3"
    outer: Literal["smooth", "research"] = "smooth"
    beta: float = 5.0
    radius_width: float = 0.15
    sine: float = 0.2
    sine_width: float = 0.15
    beta_weights: float = 1.0
    auxiliary_threshold: float = 0.5
    pruning_rounds: int = 0
    pruning: float = 0.9
    pruning_width: float = 0.1
    pruning_threshold: float = 0.5
    pruning_threshold_width: float = 0.25
    negligible: float = UNDERFLOW

    def __post_init__(self) -> None:
        """Refuse misspelt names and values out of range."""
        refuse_misspelt("parity", self.parity, ("O3", "SO3"))
        refuse_misspelt("outer", self.outer, ("smooth", "research"))
        refuse_out_of_range(self, positive=POSITIVE, not_negative=("pruning_rounds", "negligible"))
        if not self.sine_width <= self.sine <= 1:
            raise ValueError(f"sine = {self.sine} must lie between sine_width and 1.")
        if not 0 < self.pruning < 1:
            raise ValueError(f"pruning = {self.pruning} must lie between 0 and 1.")

    def outer_radius(self, cutoff: float) -> float:
        """Radius in Å beyond which a neighbour makes no frame."""
        if self.outer == "research":
            return cutoff
        return cutoff - self.radius_width - BIAS / self.beta


def rise(value: Tensor, start: Tensor | float, width: Tensor | float) -> Tensor:
    """Smooth step: 0 below ``start``, 1 above ``start + width``."""
    return tanh(-value, -start, width)


def smooth_maximum_of_pairs(first: Tensor, second: Tensor, beta: float) -> Tensor:
    """SM_beta of two values each, plus its bias: nowhere below the larger one, and close to it."""
    share = torch.sigmoid(beta * (first - second))
    return second + share * (first - second) + BIAS / beta


def smooth_maximum(weights: Tensor, group: Tensor, num_groups: int, beta: float) -> Tensor:
    """SM_beta(w, w) of the weights (F,) of each group (G,); 0 for a group without any."""
    # Relative to the largest weight, so that no exponential overflows.
    with torch.no_grad():
        largest = weights.new_zeros(num_groups).scatter_reduce(0, group, weights, "amax")
    share = weights * torch.exp(beta * (weights - largest[group]))
    zeros = weights.new_zeros(num_groups)
    denominator = zeros.index_add(0, group, share)
    empty = denominator == 0
    return zeros.index_add(0, group, share * weights) / (denominator + empty)


def pair_weights(
    first: Tensor, second: Tensor, sine_squared: Tensor, radius: Tensor, settings: RadiusSettings
) -> Tensor:
    """Weights (F,) of frames from the lengths of their two edges and the inner radius, all (F,)."""
    start = settings.sine - settings.sine_width
    width = settings.radius_width
    angular = rise(sine_squared, start, settings.sine_width) * (sine_squared - start)
    weights = tanh(first, radius, width) * tanh(second, radius, width) * angular
    return weights / settings.sine_width


def auxiliary_weight(largest: Tensor, settings: RadiusSettings) -> Tensor:
    """Weights (G,) of the auxiliary model from the smooth maxima (G,): 1 where no frame is."""
    return tanh(largest, settings.auxiliary_threshold, settings.auxiliary_threshold)


def prune(weights: Tensor, largest: Tensor, group: Tensor, settings: RadiusSettings) -> Tensor:
    """Weights (F,) without those far below the smooth maximum (G,) of their group.

    The largest of a group always survives, since a smooth maximum is no larger.
    """
    off = tanh(largest, settings.pruning_threshold, settings.pruning_threshold_width)[group]
    for _ in range(settings.pruning_rounds):
        maximum = smooth_maximum(weights, group, len(largest), settings.beta_weights)[group]
        # Where all weights are small nothing is pruned, and nothing may be divided by them.
        scale = torch.where(off < 1, maximum, 1.0)
        kept = rise(weights, settings.pruning * scale, settings.pruning_width * scale)
        weights = weights * (kept * (1 - off) + off)
    return weights
