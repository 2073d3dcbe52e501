"""Averages of a network over fixed rotations, for comparison: approximate, or exact for a few.

Production calculators of orientation-dependent models average over a Lebedev grid times angles in
the plane; energies then vary less with orientation, not by nothing. The octahedral group is exactly
a group: what is left is invariant under its 48 elements, and no other.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from scipy.integrate import lebedev_rule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..graph import Graph
from ..outputs import RANKS, Outputs, to_laboratory

ALREADY_INVARIANT = "the network is invariant already; use it as it is."
LEBEDEV_ORDERS = (*range(3, 32, 2), *range(35, 132, 6))


class RotationAverage(nn.Module):
    """A network that averages a backbone over orthogonal matrices; itself a :class:`Network`.

    Forces need no turning back: they are the gradient of the averaged energy. Vectors and tensors
    that the network predicts are turned back.

    Args:
        backbone: what is averaged.
        matrices: (K, 3, 3), of either sign; the backbone sees ``edge_vectors @ matrix``.
        weights: (K,), of sum 1.

    Raises:
        ValueError: the backbone is invariant already.
    """

    def __init__(self, backbone: Any, matrices: Tensor, weights: Tensor) -> None:
        super().__init__()
        if backbone.invariant:
            raise ValueError(ALREADY_INVARIANT)
        self.backbone = backbone
        self.cutoff, self.hops, self.inputs = backbone.cutoff, backbone.hops, backbone.inputs
        self.invariant, self.properties = False, backbone.properties
        # No buffers: these stay in float64 whatever the network's type.
        self.matrices, self.weights = matrices.to(torch.float64), weights.to(torch.float64)

    def to_config(self) -> dict[str, Any]:
        """Return the settings of the backbone."""
        return self.backbone.to_config()

    def forward(self, graph: Graph, edge_vectors: Tensor) -> Outputs:
        """Properties of atoms in float64 from edge vectors (E, 3) in Å, a rotation at a time."""
        vectors = edge_vectors.to(torch.float64)
        keep = torch.is_grad_enabled() and vectors.requires_grad
        total: Outputs = {}
        matrices, weights = self.matrices.to(vectors.device), self.weights.to(vectors.device)
        for matrix, weight in zip(matrices, weights, strict=True):
            arguments = (graph, vectors, matrix)
            turned: Outputs = (
                checkpoint(self._turned, *arguments, use_reentrant=False, preserve_rng_state=False)
                if keep
                else self._turned(*arguments)
            )
            for name, value in turned.items():
                total[name] = total.get(name, 0) + weight * value
        return total

    def _turned(self, graph: Graph, vectors: Tensor, matrix: Tensor) -> Outputs:
        turn = matrix.to(graph.positions.dtype).expand(graph.num_structures, 3, 3)
        outputs = self.backbone(graph.rotated(turn), vectors @ matrix)
        return {
            name: to_laboratory(value.to(torch.float64), RANKS[name], matrix[None])
            for name, value in outputs.items()
        }


def octahedral_group() -> tuple[Tensor, Tensor]:
    """The 48 signed permutation matrices (48, 3, 3), and equal weights."""
    matrices = [
        np.diag(signs)[list(order)]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    ]
    return torch.tensor(np.array(matrices)), torch.full((48,), 1 / 48, dtype=torch.float64)


def lebedev_rotations(order: int) -> tuple[Tensor, Tensor]:
    """Rotations and inversions (K, 3, 3) of a Lebedev grid of at least this order, and weights.

    Nodes times 2 order + 1 angles about them times 2, as metatomic's SymmetrizedCalculator has it:
    order 3 takes 84.

    Raises:
        ValueError: the order is not between 1 and 131.
    """
    if not 1 <= order <= LEBEDEV_ORDERS[-1]:
        raise ValueError(f"lebedev:{order} does not exist; orders are 1 to {LEBEDEV_ORDERS[-1]}.")
    nodes, weights = lebedev_rule(next(n for n in LEBEDEV_ORDERS if n >= order))
    angles = 2 * np.pi * np.arange(2 * order + 1) / (2 * order + 1)
    azimuth, polar = np.arctan2(nodes[1], nodes[0]), np.arccos(nodes[2].clip(-1, 1))
    turns = _about_z(azimuth) @ _about_y(polar)
    matrices = (turns[:, None] @ _about_z(angles)[None]).reshape(-1, 3, 3)
    weights = np.repeat(weights / weights.sum() / len(angles), len(angles))
    return (
        torch.tensor(np.concatenate([matrices, -matrices])),
        torch.tensor(np.concatenate([weights, weights]) / 2),
    )


def _about_z(angle: np.ndarray) -> np.ndarray:
    c, s, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([c, -s, zero, s, c, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3)


def _about_y(angle: np.ndarray) -> np.ndarray:
    c, s, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([c, zero, s, zero, one, zero, -s, zero, c], axis=-1).reshape(-1, 3, 3)
