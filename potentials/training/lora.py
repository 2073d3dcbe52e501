"""Updates of frozen weights: low-rank ones (LoRA, arXiv 2106.09685), and rows of new species.

Both are parametrisations of torch: a weight is put together where it is used, so that networks do
not know of them, and :func:`..checkpoint.save` writes it as a plain one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """W + (α / r) B A; B is 0 at first, so that a model starts bit for bit where it was.

    Args:
        weight: W (m, n), of whose type and device A (r, n) and B (m, r) are.
        rank: r.
        alpha: α.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(weight.new_empty(rank, columns))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        self.factor = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight (m, n)."""
        return weight + self.factor * (self.up @ self.down)


class NewRows(nn.Module):
    """Some rows of a table (K, d), to be trained while the others rest.

    Args:
        weight: the table, which has first values of these rows.
        rows: which ones.
    """

    index: Tensor

    def __init__(self, weight: Tensor, rows: list[int]) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor(rows, device=weight.device), persistent=False)
        self.rows = nn.Parameter(weight.detach()[self.index].clone())

    def forward(self, weight: Tensor) -> Tensor:
        """The table with these rows in their places."""
        return weight.index_copy(0, self.index, self.rows)


def add_low_rank(network: nn.Module, modules: list[nn.Linear], rank: int, alpha: float) -> None:
    """Give linear maps of a network, all else of which is frozen, low-rank updates."""
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for module in modules:
        update = LowRank(module.weight, min(rank, *module.weight.shape), alpha)
        parametrize.register_parametrization(module, "weight", update)


def train_new_rows(network: nn.Module, rows: list[int]) -> None:
    """Train these rows of the frozen embeddings of a network."""
    for module in list(network.modules()):
        if isinstance(module, nn.Embedding) and not module.weight.requires_grad:
            parametrize.register_parametrization(module, "weight", NewRows(module.weight, rows))
