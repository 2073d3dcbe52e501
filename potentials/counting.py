"""Counting indices without waiting for a GPU."""

from __future__ import annotations

import torch
from torch import Tensor


def count(index: Tensor, number: int) -> Tensor:
    """How often (number,) each of 0 to number - 1 is in an index (n,); both int64.

    ``torch.bincount`` asks a GPU for the smallest and the largest index first, and waits for both.

    Raises:
        RuntimeError: an index is out of range (on a GPU not in this call).
    """
    return index.new_zeros(number).scatter_add_(0, index, torch.ones_like(index))
