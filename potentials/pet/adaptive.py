"""Adaptive cutoffs: a radius for every atom that holds about a given number of neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from ..cutoff import bump
from .config import PETConfig

NEWTON_STEPS = 20  # ten reach rounding in every environment tried


def adaptive_cutoffs(
    config: PETConfig, centers: Tensor, distances: Tensor, num_atoms: int
) -> Tensor:
    """Radii (N,) in Å of atoms whose edges have the given centres (E,) and distances (E,)."""
    assert config.num_neighbors_adaptive is not None
    method = _grid if config.adaptive_cutoff_method == "grid" else _solver
    return method(
        centers,
        distances,
        num_atoms,
        target=config.num_neighbors_adaptive,
        largest=config.cutoff,
        width=config.cutoff_width_adaptive,
    )


def _solver(
    centers: Tensor,
    distances: Tensor,
    num_atoms: int,
    *,
    target: float,
    largest: float,
    width: float,
) -> Tensor:
    """Root R of N(r) = Σ_j f(r_ij; r) + K (r/R_max)³ = K, found by bracketed Newton steps.

    The cubic term guarantees a root. A last Newton step carries the gradient (implicit function
    theorem); its point and slope are constants.
    """
    fixed = distances.detach()
    low = torch.zeros(num_atoms, dtype=fixed.dtype, device=fixed.device)
    high = torch.full_like(low, largest)
    radius = torch.full_like(low, largest / 2)
    for _ in range(NEWTON_STEPS):
        excess, slope = _count(centers, fixed, radius, target, largest, width)
        low = torch.where(excess < 0, radius, low)
        high = torch.where(excess < 0, high, radius)
        newton = radius - excess / slope
        # On an end of the bracket, which is no root, it would go from end to end for ever.
        inside = ((newton > low) & (newton < high)) | (newton == radius)  # a root found is kept
        radius = torch.where(inside, newton, 0.5 * (low + high))
    _, slope = _count(centers, fixed, radius, target, largest, width)
    excess, _ = _count(centers, distances, radius, target, largest, width)
    return (radius - excess / slope).clamp(largest / 16, largest)


def _count(
    centers: Tensor, distances: Tensor, radius: Tensor, target: float, largest: float, width: float
) -> tuple[Tensor, Tensor]:
    """N(r) - K and dN/dr (at least 1e-6) at the radii (N,), with gradients in the distances."""
    with torch.enable_grad():
        edge_radius = radius.detach()[centers].requires_grad_()
        factors = bump(distances.detach(), edge_radius, width)
        (slopes,) = torch.autograd.grad(factors.sum(), edge_radius)
    factors = bump(distances, radius[centers], width)
    count = torch.zeros_like(radius).index_add(0, centers, factors)
    slope = torch.zeros_like(radius).index_add(0, centers, slopes)
    excess = count + target * (radius / largest) ** 3 - target
    slope = slope + 3 * target * radius**2 / largest**3
    return excess, slope.clamp(min=1e-6)


def _grid(
    centers: Tensor,
    distances: Tensor,
    num_atoms: int,
    *,
    target: float,
    largest: float,
    width: float,
) -> Tensor:
    """Average of probe radii, weighted towards a neighbour count of K (older checkpoints)."""
    probes = torch.arange(0.5, largest, width / 4, dtype=distances.dtype, device=distances.device)
    factors = bump(distances[:, None], probes, width)
    counts = torch.zeros(
        num_atoms, len(probes), dtype=factors.dtype, device=factors.device
    ).index_add(0, centers, factors)
    baseline = torch.linspace(0, 1, len(probes), dtype=probes.dtype, device=probes.device) ** 3
    excess = counts - target + target * baseline
    if len(probes) > 1:
        (gradient,) = torch.gradient(excess, dim=1)
        spread = gradient.abs().clamp(min=1e-12)
    else:
        spread = 0.5 * excess.abs() + 1e-12
    exponent = -0.5 * (excess / spread) ** 2
    weights = torch.exp(exponent - exponent.max())  # one maximum for all atoms, as metatrain has it
    weights = weights / weights.sum(dim=1, keepdim=True)
    return weights @ probes
