"""The front door of the neighbour lists: checks the input and calls a backend."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import Tensor

from . import cell_list, matscipy, vesin
from .checks import check_arguments, check_backend, check_cutoff, find_invalid, raise_if_invalid

Backend = Literal["auto", "vesin", "matscipy", "torch"]


@torch.no_grad()
def neighbor_list(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    cutoff: float,
    structure: Tensor,
    *,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (centers, neighbors, shifts); shapes, units and errors: see the package's docstring.

    Args:
        positions: (N, 3) float, Å.
        cell: (B, 3, 3) float, Å.
        pbc: (B, 3) bool.
        cutoff: in Å.
        structure: (N,) int64.
        backend: "vesin" and "matscipy" loop over structures on the CPU, "torch" treats the whole
            batch at once on any device; "auto" is vesin for tensors on the CPU and torch elsewhere.
    """
    cutoff = check_cutoff(cutoff)
    check_arguments(positions, cell, pbc, structure)
    name = resolve_backend(backend, positions.device)
    positions = positions.detach().to(torch.float64)
    cell = cell.detach().to(torch.float64)
    if len(positions) == 0:
        empty = torch.zeros(0, dtype=torch.int64, device=positions.device)
        return empty, empty.clone(), empty.new_zeros(0, 3)
    if positions.device.type == "cpu":
        check_structure(structure, len(cell))
    if name == "torch":
        return cell_list.search(positions, cell, pbc, cutoff, structure)
    atom, broken = find_invalid(positions, cell, pbc, structure).tolist()
    raise_if_invalid(atom, broken, len(positions), len(cell))
    search = vesin.search if name == "vesin" else matscipy.search
    return search(positions, cell, pbc, cutoff, structure)


def resolve_backend(backend: str, device: torch.device) -> str:
    """Return the name of the backend that runs on a device; ``ValueError`` for unknown names."""
    check_backend(backend, get_args(Backend))
    if backend != "auto":
        return backend
    return "vesin" if device.type == "cpu" else "torch"


def check_structure(structure: Tensor, structures: int) -> None:
    """Refuse structure indices outside the batch (checked on the CPU only)."""
    low, high = cast("tuple[int, int]", tuple(bound.item() for bound in structure.aminmax()))
    if low < 0 or high >= structures:
        raise ValueError(
            f"The structure index runs from {low} to {high}, but the batch has {structures} "
            f"cells; give indices from 0 to {structures - 1}."
        )
