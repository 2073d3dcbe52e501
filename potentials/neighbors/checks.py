"""Input checks of the neighbour lists, written so that a GPU need not wait for them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ..suggestions import did_you_mean

# Periodic cell vectors, scaled to unit length, must span more than the square root of this.
_SMALLEST_GRAM_DETERMINANT = 1e-13
# Shortest cell vectors from the origin; images are counted in 21 bits where edges are paired.
_FARTHEST = 2.0**16


def check_cutoff(cutoff: float) -> float:
    """Return the cutoff (Å) as a float, or refuse it."""
    value = float(cutoff)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"The cutoff is {cutoff} Å; give a positive finite length in Å.")
    return value


def check_backend(backend: str, known: Iterable[str]) -> None:
    """Refuse a backend that does not exist and name the nearest that does."""
    if backend not in known:
        raise ValueError(
            f"Unknown neighbour-list backend {backend!r}; {did_you_mean(backend, known)}"
        )


def check_arguments(positions: Tensor, cell: Tensor, pbc: Tensor, structure: Tensor) -> None:
    """Refuse arguments whose shapes, types or devices do not fit together (no look at values)."""
    atoms, structures = len(positions), len(cell)
    expected = (
        ("positions", positions, (atoms, 3), positions.is_floating_point(), "float"),
        ("cell", cell, (structures, 3, 3), cell.is_floating_point(), "float"),
        ("pbc", pbc, (structures, 3), pbc.dtype == torch.bool, "bool"),
        ("structure", structure, (atoms,), structure.dtype == torch.int64, "int64"),
    )
    for name, tensor, shape, right_type, type_name in expected:
        if tuple(tensor.shape) != shape or not right_type:
            raise ValueError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; "
                f"give {type_name} of shape {shape} for {atoms} atoms in {structures} structures."
            )
        if tensor.device != positions.device:
            raise ValueError(
                f"{name} is on {tensor.device} and positions are on {positions.device}; "
                "move all four tensors to one device."
            )


def find_invalid(positions: Tensor, cell: Tensor, pbc: Tensor, structure: Tensor) -> Tensor:
    """Find what no list can be built from, without leaving the device.

    Returns (2,) int64: the first atom whose position is not finite or 65536 cells away (or N), and
    the first structure whose periodic cell vectors are zero, not finite or linearly dependent (or
    B).
    """
    lengths = torch.linalg.vector_norm(cell, dim=-1).masked_fill(~pbc, torch.inf)
    limits = (_FARTHEST * lengths.amin(dim=1)).nan_to_num(nan=torch.inf, posinf=torch.inf)
    near = torch.isfinite(positions).all(dim=1)
    near &= positions.abs().amax(dim=1) <= limits.clamp_min(_FARTHEST)[structure]
    unit = torch.where(pbc.unsqueeze(-1), cell, 0.0)
    unit = unit / torch.linalg.vector_norm(unit, dim=-1, keepdim=True).clamp_min(1e-12)
    gram = unit @ unit.mT
    # Open axes count as orthogonal to everything; the diagonal of periodic ones is 1, or 0 if zero.
    one, two, three = torch.where(pbc, torch.diagonal(gram, dim1=-2, dim2=-1), 1.0).unbind(-1)
    xy, yz, zx = gram[:, 0, 1], gram[:, 1, 2], gram[:, 2, 0]
    determinant = one * two * three + 2 * xy * yz * zx - one * yz**2 - two * zx**2 - three * xy**2
    regular = determinant > _SMALLEST_GRAM_DETERMINANT
    return torch.stack([first(~near), first(~regular)])


def raise_if_invalid(atom: int, structure: int, atoms: int, structures: int) -> None:
    """Raise the error that belongs to the two indices of :func:`find_invalid`, if any."""
    if atom < atoms:
        raise ValueError(
            f"The position of atom {atom} (of {atoms} in the batch) is not finite, or more "
            "than 65536 cells away; check the step or file that it came from."
        )
    if structure < structures:
        raise ValueError(
            f"The periodic cell vectors of structure {structure} (of {structures} in the batch) "
            "are zero, not finite or linearly dependent; give independent vectors along the "
            "periodic axes, or set pbc to False along axes that are open."
        )


def first(flags: Tensor) -> Tensor:
    """Index of the first True of (n,) flags, or n, without leaving the device."""
    index = torch.arange(len(flags) + 1, device=flags.device)
    return torch.where(torch.nn.functional.pad(flags, (0, 1), value=True), index, len(flags)).amin()
