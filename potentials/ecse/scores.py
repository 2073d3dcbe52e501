r"""Frames of pairs of neighbours by graded scores, which change over tenths of an Å in a liquid.

An ordered pair (j, j') of an atom's neighbours scores

.. math:: S = \rho_j + \rho_{j'} - \frac{\alpha}{\sin^2\theta} + \kappa \; \hat m \cdot
              \frac{a + b + c}{\sqrt 3}, \qquad
          \rho_j = \ln f_c(r_j) + \gamma (R - r_j)

with the taper :math:`f_c` to the outer radius R: near neighbours that are not collinear make the
best frames. Of frames of like pairs, and of a frame and its mirror image, that is preferred in
whose axes a, b, c the mean of the neighbours' vectors, :math:`m`, points along (1, 1, 1); since it
is a mean it turns slowly. The auxiliary network competes as one more entry: as all these pairs
without the cost of their angles, and with one more neighbour at R, but e^A times poorer. So it is
needed where all pairs are nearly collinear, or where there are none:

.. math:: S_\mathrm{aux} = \ln\Big(1 + 2 \sum_j e^{\rho_j} + \sum_{j \ne j'} e^{\rho_j + \rho_{j'}}
              \Big) - A

Weights are e^S, but zero below a fraction p of their smooth maximum, :math:`M = \sum w^5 /
\sum w^4`, by a switch in ln w from ln pM to ln M. Frames then change roles over tenths of an Å,
since the slope of S is some 10/Å between frames of near neighbours; it is steepest, some 100/Å,
where the auxiliary network takes over (nearly collinear neighbours, the last one leaving). The
method of the paper (:mod:`.radius`) has the same frames and other weights: there a frame is born
within the taper of its inner radius, of 0.15 Å, and what is multiplied by a weight that grows by
e^5 within 0.005 Å, as in the tail of the taper, does so suddenly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..counting import count
from ..cutoff import tanh
from ..plain import refuse_out_of_range
from ..suggestions import refuse_misspelt
from .environments import Environments, Frames, axes, pairs, sine_squared, with_mirror_images
from .weights import rise

CHUNK_PAIRS = 2**18  # pairs of neighbours whose scores are found at once
POWER = 4  # of weights in their smooth maximum


@dataclass(frozen=True)
class ScoreSettings:
    """Parameters of frames by graded scores.

    Attributes:
        method: "scores".
        parity: "O3" adds the mirror image of every frame, so that the average is invariant under
            improper rotations too; "SO3" does not.
        reach: outer radius R in Å beyond which neighbours make no frame; 0: the cutoff.
        taper: width in Å over which they fade before it (at most R).
        decay: γ, what 1 Å of distance costs, 1/Å.
        collinearity: α, what an angle costs.
        preference: κ; 0: no frame is preferred for its orientation. Only layers that are trained
            with their frames profit from it.
        preference_species: weigh neighbours in that mean by species, from 1 to 1 + this, evenly in
            the order of atomic numbers; it tells sites of an ideal lattice apart by what is there.
        preference_length: a mean shorter than this, in Å, prefers little.
        pruning: p, the share of the largest weights below which there is none.
        auxiliary: A, how far the auxiliary network is below a good frame.
    """

    method: Literal["scores"] = "scores"
    parity: Literal["O3", "SO3"] = "O3"
    reach: float = 0.0
    taper: float = 2.0
    decay: float = 6.0
    collinearity: float = 0.4
    preference: float = 0.0
    preference_species: float = 0.0
    preference_length: float = 2.0
    pruning: float = 0.25
    auxiliary: float = 10.0

    def __post_init__(self) -> None:
        """Refuse misspelt names and values out of range."""
        refuse_misspelt("parity", self.parity, ("O3", "SO3"))
        if not 0 < self.pruning < 1:
            raise ValueError(f"pruning = {self.pruning} must lie between 0 and 1.")
        refuse_out_of_range(
            self,
            positive=("taper", "collinearity", "preference_length"),
            not_negative=("reach", "decay", "preference", "preference_species"),
        )

    def outer_radius(self, cutoff: float) -> float:
        """Radius in Å beyond which a neighbour makes no frame."""
        return min(self.reach, cutoff) if self.reach > 0 else cutoff


def frames_by_scores(environments: Environments, settings: ScoreSettings) -> Frames:
    """Frames with weights that add up, with the auxiliary one, to 1 in every group."""
    rho = _radial_scores(environments, settings)
    near = pairs(rho > -torch.inf, environments.centers, environments.num_atoms)
    blind = _auxiliary_scores(environments, rho, *near, settings)
    first, second = _candidates(environments, rho, *near, blind, settings)
    unit = environments.unit
    before, behind = unit.index_select(0, first), unit.index_select(0, second)
    score = rho[first] + rho[second] - settings.collinearity / sine_squared(before, behind)
    matrices = axes(before, behind)
    if settings.parity == "O3":
        first, second, score = (x.repeat_interleave(2) for x in (first, second, score))
        matrices = with_mirror_images(matrices)
    atoms = environments.centers[first]
    if settings.preference > 0:
        mean = _mean_vectors(environments, settings).index_select(0, atoms)
        seen = torch.einsum("fx,fxy->f", mean, matrices) / math.sqrt(3)
        score = score + settings.preference * seen
    group, num_groups = environments.group, environments.num_groups
    entries = torch.cat([group[atoms], group])
    weights = _pruned(torch.cat([score, blind]), entries, num_groups, settings)
    weights, auxiliary = weights.split([len(score), len(blind)])
    auxiliary = auxiliary.new_zeros(num_groups).index_add(0, group, auxiliary)
    return Frames(atoms, first, second, matrices, weights, auxiliary).where(weights > 0)


def _radial_scores(environments: Environments, settings: ScoreSettings) -> Tensor:
    """ρ (E,) of neighbours; minus infinity beyond the outer radius."""
    outer = settings.outer_radius(environments.cutoff)
    width = min(settings.taper, outer)
    lengths = environments.lengths
    # As `cutoff.tanh`, whose logarithm this is.
    s = ((lengths - (outer - width)) / width).clamp(1e-3, 1 - 1e-3)
    rho = logsigmoid(1 / s - 1 / (1 - s)) + settings.decay * (outer - lengths)
    return torch.where(lengths < outer, rho, -torch.inf)


def _auxiliary_scores(
    environments: Environments, rho: Tensor, first: Tensor, second: Tensor, settings: ScoreSettings
) -> Tensor:
    """Scores (N,) of the auxiliary network."""
    centers = environments.centers
    ends, both = centers[first], rho[first] + rho[second]
    # log(1 + Σ 2 exp ρ + Σ exp(ρ + ρ')), its largest term taken out, or a wide cutoff overflows.
    largest = rho.new_zeros(environments.num_atoms)
    largest = largest.scatter_reduce(0, centers, rho.detach(), "amax")
    largest = largest.scatter_reduce(0, ends, both.detach(), "amax")
    total = (-largest).exp().index_add(0, centers, 2 * (rho - largest[centers]).exp())
    total = total.index_add(0, ends, (both - largest[ends]).exp())
    return largest + total.log() - settings.auxiliary


@torch.no_grad()
def _candidates(
    environments: Environments,
    rho: Tensor,
    first: Tensor,
    second: Tensor,
    blind: Tensor,
    settings: ScoreSettings,
) -> tuple[Tensor, Tensor]:
    """Those of the ordered pairs (P,), (P,) whose weight may survive, found without gradients."""
    group, num_groups = environments.group, environments.num_groups
    score = rho[first] + rho[second]
    parts = [
        settings.collinearity / sine_squared(environments.unit[j], environments.unit[k])
        for j, k in zip(first.split(CHUNK_PAIRS), second.split(CHUNK_PAIRS), strict=True)
    ]
    score = score - torch.cat(parts)
    owner = group[environments.centers[first]]
    entries, score = torch.cat([owner, group]), torch.cat([score, blind])
    best = score.new_zeros(num_groups).scatter_reduce(0, entries, score, "amax", include_self=False)
    # Together the others change no digit of M, which is at least the largest weight over the number
    # of entries. Preference may bring two entries 2 κ nearer to one another.
    number = 2 * count(entries, num_groups)
    far = max(-math.log(settings.pruning), -math.log(1e-17) / POWER)
    margin = 2 * settings.preference + far + number.log()
    (chosen,) = torch.nonzero(score[: len(first)] > (best - margin)[owner], as_tuple=True)
    return first[chosen], second[chosen]


def _mean_vectors(environments: Environments, settings: ScoreSettings) -> Tensor:
    """Means (N, 3) of the neighbours' vectors, over a length so that none exceeds 1."""
    cutoff = environments.cutoff
    weight = 1 + settings.preference_species * environments.species
    near = (weight * tanh(environments.lengths, cutoff, cutoff))[:, None] * environments.vectors
    mean = near.new_zeros(environments.num_atoms, 3).index_add(0, environments.centers, near)
    soft = mean.square().sum(-1, keepdim=True) + settings.preference_length**2
    return mean / soft.sqrt()


def _pruned(score: Tensor, group: Tensor, num_groups: int, settings: ScoreSettings) -> Tensor:
    """Weights (F,) of sum 1 in each group, zero far below its largest."""
    with torch.no_grad():  # a common factor, which the last line takes out
        zeros = score.new_zeros(num_groups)
        largest = zeros.scatter_reduce(0, group, score, "amax", include_self=False)

    def total(values: Tensor) -> Tensor:
        return zeros.index_add(0, group, values)[group]

    score = score - largest[group]
    weights, powers = score.exp(), (POWER * score).exp()
    maximum = total(powers * weights) / total(powers)
    share = -math.log(settings.pruning)
    weights = weights * rise(score - maximum.log(), -share, share)
    return weights / total(weights)
