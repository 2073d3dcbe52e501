"""Finite differences, comparisons and tolerances of the physics tests (design.md, Numbers)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from ase import Atoms
from torch.utils._python_dispatch import TorchDispatchMode

from pointedge.potentials.graph import Graph
from pointedge.potentials.potential import Potential, Prediction
from pointedge.potentials.spins import stored_moments

DERIVATIVE = 1e-7  # max|finite difference - derivative| / max|derivative|, float64
ENERGY = 1e-12  # |ΔE| / Σ|E_i| of two energies that should be equal, float64
FORCE = 1e-10  # |ΔF| / max|F| of two forces that should be equal, float64
FLOAT32 = 3  # error in float32, in units of the float32-minus-float64 difference
STEPS = (1e-4, 5e-5, 2e-4, 2e-5, 5e-4, 1e-5, 5e-6)  # Å, or strain; the best one counts


def predict(potential: Potential, atoms: Atoms | Sequence[Atoms], **options: bool) -> Prediction:
    return potential(graph_of(potential, atoms), **{"virial": True, **options})


def graph_of(potential: Potential, atoms: Atoms | Sequence[Atoms]) -> Graph:
    """Graph of structures; those without magnetic moments get some of their species'."""
    frames = [atoms] if isinstance(atoms, Atoms) else list(atoms)
    if "magmoms" in potential.inputs:
        frames = [a if stored_moments(a) else _magnetic(a) for a in frames]
    return Graph.from_atoms(
        frames, potential.cutoff, device=potential.device, inputs=potential.inputs
    )


def _magnetic(atoms: Atoms) -> Atoms:
    atoms = atoms.copy()
    moments = np.stack([np.cos(atoms.numbers), np.sin(atoms.numbers), 0.1 * atoms.numbers], axis=1)
    atoms.set_initial_magnetic_moments(moments)
    return atoms


def energies_of(potential: Potential, frames: Sequence[Atoms]) -> np.ndarray:
    return predict(potential, frames, forces=False, virial=False).energy.numpy()


# --- finite differences ---------------------------------------------------------------------------


def five_point(
    potential: Potential, frames: Callable[[float], list[Atoms]], step: float
) -> np.ndarray:
    """dE/dx of each structure that ``frames(x)`` lists, at x = 0 (error of order step⁴)."""
    displaced = [atoms for k in (-2, -1, 1, 2) for atoms in frames(k * step)]
    energy = energies_of(potential, displaced).reshape(4, -1)
    return (energy[0] - 8 * energy[1] + 8 * energy[2] - energy[3]) / (12 * step)


def moved(atoms: Atoms, x: float) -> list[Atoms]:
    """The structure with each coordinate in turn displaced by x."""
    frames = []
    for k in range(len(atoms)):
        for axis in range(3):
            frame = atoms.copy()
            frame.positions[k, axis] += x
            frames.append(frame)
    return frames


def strained(atoms: Atoms, directions: Iterable[np.ndarray], x: float) -> list[Atoms]:
    """The structure under the strain x · direction of positions and cell, for each direction."""
    frames = []
    for direction in directions:
        frame = atoms.copy()
        deformation = np.eye(3) + x * direction
        frame.set_cell(np.asarray(atoms.cell) @ deformation)
        frame.positions = atoms.positions @ deformation
        frames.append(frame)
    return frames


def check_derivative(
    what: str,
    potential: Potential,
    frames: Callable[[float], list[Atoms]],
    expected: np.ndarray,
    scale: float | None = None,
) -> None:
    """Compare derivatives with finite differences at the best of several steps."""
    scale = np.abs(expected).max() if scale is None else scale
    errors = {}
    for step in STEPS:
        numeric = five_point(potential, frames, step)
        errors[step] = np.abs(numeric - expected.ravel()).max() / scale
        if errors[step] <= DERIVATIVE / 10:
            break
    report(what, min(errors.values()), DERIVATIVE)
    assert min(errors.values()) <= DERIVATIVE, f"{what}: relative errors by step {errors}"


def panel_errors(values: np.ndarray, slopes: np.ndarray, step: float) -> np.ndarray:
    """Error of the slopes on panels of four steps, by Boole's rule (order step⁶).

    A jump J of the value inside a panel adds J / (4 step); a jump of the slope adds J / 13 or more.
    """
    rise = (values[4::4] - values[:-4:4]) / (4 * step)
    ends = 7 * (slopes[:-4:4] + slopes[4::4])
    inner = 32 * (slopes[1:-3:4] + slopes[3:-1:4]) + 12 * slopes[2:-2:4]
    return rise - (ends + inner) / 90


def numeric_slope(values: np.ndarray, step: float) -> np.ndarray:
    """Derivative on a grid by the seven-point stencil; the four values at either end are zero."""
    slope = np.zeros_like(values)
    for k, weight in ((1, 45), (2, -9), (3, 1)):
        slope[4:-4] += weight * (values[4 + k : len(values) - 4 + k] - values[4 - k : -4 - k])
    return slope / (60 * step)


def along(
    potential: Potential, frames: Sequence[Atoms], direction: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energy, its slope and curvature when the last atom of each structure moves in a direction."""
    graph = graph_of(potential, frames)
    last = torch.tensor([len(atoms) for atoms in frames]).cumsum(0) - 1
    x = torch.zeros(len(frames), dtype=torch.float64, requires_grad=True)
    moving = torch.zeros_like(graph.positions).index_add(
        0, last, x[:, None] * torch.tensor(direction)
    )
    edges = graph.edge_vectors() + moving[graph.neighbors] - moving[graph.centers]
    energies = potential.atomic_properties(graph, edges)["energy"]
    energy = torch.zeros(len(frames), dtype=torch.float64).index_add(0, graph.structure, energies)
    (slope,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    return energy.detach().numpy(), slope.detach().numpy(), curvature.numpy()


# --- comparisons ----------------------------------------------------------------------------------


def force_scale(prediction: Prediction, atoms: slice, structure: int, cutoff: float) -> float:
    """max|F| of a structure, or what its edges exert where forces vanish by symmetry."""
    virial = prediction.strain_gradient[structure].abs().max().item() / cutoff
    return max(prediction.forces[atoms].abs().max().item(), virial)


def check_equal(
    what: str,
    found: Prediction,
    expected: Prediction,
    frames: Sequence[Atoms],
    cutoff: float,
    strain: bool = True,
) -> None:
    """Compare energies, forces and (optionally) strain gradients of each structure in float64."""
    worst = {"energy": 0.0, "forces": 0.0, "strain gradient": 0.0}
    start = 0
    for b, atoms in enumerate(frames):
        mine = slice(start, start + len(atoms))
        start += len(atoms)
        total = expected.energies[mine].abs().sum()
        scale = force_scale(expected, mine, b, cutoff)
        differences = {
            "energy": (found.energy[b] - expected.energy[b]).abs() / total / ENERGY,
            "forces": (found.forces[mine] - expected.forces[mine]).abs().max() / scale / FORCE,
        }
        if strain:
            both = found.strain_gradient[b] - expected.strain_gradient[b]
            differences["strain gradient"] = both.abs().max() / (scale * cutoff) / FORCE
        for name, value in differences.items():
            worst[name] = max(worst[name], float(value))
            assert value <= 1, f"{what}: {name} of structure {b} differs by {value:.3g} × tolerance"
    report(f"{what}, energy", worst["energy"] * ENERGY, ENERGY)
    report(f"{what}, forces", worst["forces"] * FORCE, FORCE)


def report(what: str, error: float, tolerance: float) -> None:
    print(f"[{what}] {error:.2e} of {tolerance:.0e}")


# --- changes of description that leave the physics alone ------------------------------------------


def permuted(prediction: Prediction, order: np.ndarray) -> Prediction:
    """The prediction of the same structure with its atoms in another order."""
    return Prediction(
        energies=prediction.energies[order],
        energy=prediction.energy,
        baseline=prediction.baseline,
        atomic_baseline=prediction.atomic_baseline[order],
        forces=prediction.forces[order],
        strain_gradient=prediction.strain_gradient,
    )


def completed_cell(atoms: Atoms) -> np.ndarray:
    """The cell with the vectors of open axes replaced by unit vectors normal to the rest."""
    cell = np.where(atoms.pbc[:, None], np.asarray(atoms.cell), 0.0)
    cell[~atoms.pbc] = normals(atoms)
    return cell


def normals(atoms: Atoms) -> np.ndarray:
    """Orthonormal directions (number of open axes, 3) normal to all periodic cell vectors."""
    periodic = np.asarray(atoms.cell)[atoms.pbc]
    if len(periodic) == 0:
        return np.eye(3)
    return np.linalg.svd(periodic)[2][len(periodic) :]


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                # A view that repeats elements without storing them (expand) is no memory.
                elements = min(
                    tensor.numel(), tensor.untyped_storage().nbytes() // tensor.element_size()
                )
                self.elements = max(self.elements, elements)
        return result
