"""In what precision a network computes while it is trained, and what that costs in accuracy.

Edge vectors, baselines and sums are float64 in any case, and so are weights' updates float32 at
least; "tf32" and "bf16" are about products of matrices alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch

from ..potential import Potential
from .data import Batch

CHECKED_FRAMES = 4


def weight_type(precision: str) -> torch.dtype:
    """Type of the weights."""
    return torch.float64 if precision == "float64" else torch.float32


def refuse_elsewhere(precision: str, device: torch.device | str) -> None:
    """Raise ValueError if a device does not have a precision."""
    kind = torch.device(device).type
    if precision == "tf32" and kind != "cuda":
        raise ValueError(
            f"optimization.precision tf32 is a format of NVIDIA GPUs, and the device is {kind}; use"
            " --device cuda, or float32."
        )


@contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """Let products of float32 matrices run in TF32, for "tf32"; afterwards all is as it was."""
    before = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def autocast(precision: str, device: torch.device | str) -> AbstractContextManager[None]:
    """Let matrices be multiplied in bfloat16, for "bf16"; float64 values are left alone."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16")


def check_precision(
    potential: Potential,
    frames: Sequence[Batch],
    precision: str,
    report: Callable[[str], None],
) -> tuple[float, float] | None:
    """Report how far energies and forces are from float64.

    Args:
        potential: on the device of the training; it is left as it is.
        frames: some of which are tried.
        precision: of the training.
        report: called with one line.

    Returns:
        The root mean squares in meV/atom and meV/Å; None without an energy, or in float64.
    """
    if precision == "float64" or "energy" not in potential.properties or not frames:
        return None
    chosen = range(0, len(frames), -(-len(frames) // CHECKED_FRAMES))
    double = copy.deepcopy(potential).to(torch.float64)
    energies, forces = [], []
    for batch in (frames[k].to(potential.device) for k in chosen):
        exact = double(batch.graph)
        with matrix_products(precision), autocast(precision, potential.device):
            # as in training: what is differentiated once more takes other kernels
            rough = potential(batch.graph, create_graph=True)
        assert rough.forces is not None
        assert exact.forces is not None
        energies.append((rough.energy - exact.energy).detach() / batch.graph.num_atoms)
        forces.append((rough.forces - exact.forces).detach().flatten())
    energy, force = (
        1000 * torch.cat(errors).square().mean().sqrt().item() for errors in (energies, forces)
    )
    report(
        f"precision {precision}, against float64 in {len(chosen)} training frames:"
        f" energies {energy:.2g} meV/atom, forces {force:.2g} meV/Å"
    )
    return energy, force
