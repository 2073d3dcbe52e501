"""What a potential reads of a structure: snapshots, and checks made before the model runs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from ase.data import chemical_symbols

from ..potentials.graph import DEFAULT_INPUTS, Graph, input_range
from ..potentials.neighbors.cells import SMALLEST_SPAN, volume
from ..potentials.spins import keep_moments, magnetic_moments, stored_moments

if TYPE_CHECKING:
    from ase import Atoms

    from ..potentials.potential import Potential

# Å. The shortest bond is 0.74 (H2). At this distance even two H atoms repel with about 100 eV
# (ZBL), so that closer ones are duplicates, or the work of a broken step or cell.
CLOSEST_DISTANCE = 0.1


class InputError(ValueError):
    """A structure that the model cannot be asked about."""


def check_structure(
    atoms: Atoms, potential: Potential, properties: Sequence[str], where: str = "the structure"
) -> None:
    """Refuse a structure that the potential cannot treat.

    Args:
        atoms: the structure; only read.
        potential: tells species, inputs and their ranges.
        properties: names of what is asked for.
        where: what the message calls the structure.

    Raises:
        InputError: no atoms, an unknown element, a number that is not finite, periodic cell vectors
            that are too short or dependent, an input (charge, spin, magmoms) of the wrong kind or
            outside the model's range.
        PropertyNotImplementedError: stress is asked for, but the cell has no volume.
    """
    if len(atoms) == 0:
        raise InputError(f"{where} has no atoms; give at least one.")
    _check_species(atoms, potential.species, where)
    _check_finite(np.asarray(atoms.positions), f"{where}: the position of atom", "Å")
    _check_cell(np.asarray(atoms.cell), np.asarray(atoms.pbc, dtype=bool), where)
    for name in potential.inputs:
        _check_input(atoms, name, potential, where)
    if "stress" in properties and volume(np.asarray(atoms.cell)) == 0:
        raise PropertyNotImplementedError(
            f"{where} has no stress, because its cell vectors span no volume "
            f"({_rows(np.asarray(atoms.cell))}); set a cell with three independent vectors."
        )


def check_distances(
    graph: Graph, where: str = "the structure", names: Sequence[int] | np.ndarray | None = None
) -> None:
    """Refuse a graph of one structure with atoms on top of each other; raises InputError.

    The message calls atoms by their indices, or by the ``names`` (N,) given.
    """
    if graph.num_edges == 0:
        return
    shortest, edge = torch.linalg.vector_norm(graph.edge_vectors(), dim=-1).min(dim=0)
    if shortest >= CLOSEST_DISTANCE:
        return
    i, j = int(graph.centers[edge]), int(graph.neighbors[edge])
    shift = " ".join(str(k) for k in graph.shifts[edge].tolist())
    image = "" if shift == "0 0 0" else f" (image {shift})"
    if names is not None:
        i, j = int(names[i]), int(names[j])
    pair = f"atom {i} and its own{image}" if i == j else f"atoms {i} and {j}{image}"
    raise InputError(
        f"{where}: {pair} are {shortest.item():.3g} Å apart, closer than {CLOSEST_DISTANCE} Å; "
        "remove duplicate atoms, or check cell and time step."
    )


def check_energy(potential: Potential) -> None:
    """Refuse a potential of other quantities for dynamics: ValueError."""
    if "energy" not in potential.properties:
        raise ValueError(f"the model predicts {', '.join(potential.properties)}, and no energy.")


def bare(atoms: Atoms) -> Atoms:
    """A copy without calculator and constraints, which calculators of ASE may look at.

    Moments that its file had as results, as ASE's readers have it, are initial ones of the copy.
    """
    twin = atoms.copy()
    keep_moments(twin, atoms)
    twin.set_constraint()
    return twin


def snapshot(atoms: Atoms, inputs: Sequence[str]) -> dict[str, np.ndarray]:
    """Return copies of everything that results depend on: geometry, numbers and model inputs."""
    state = {name: np.array(getattr(atoms, name)) for name in ("positions", "numbers", "pbc")}
    state["cell"] = np.array(atoms.cell)
    for name in inputs:
        if name == "magmoms":
            stored = stored_moments(atoms)
            state[name] = np.array([] if stored is None else stored[1])
        else:
            state[name] = np.array(atoms.info.get(name, DEFAULT_INPUTS[name]))
    return state


def _check_species(atoms: Atoms, species: tuple[int, ...], where: str) -> None:
    unknown = ~np.isin(atoms.numbers, species)
    if unknown.any():
        atom = int(unknown.argmax())
        known = ", ".join(symbol(z) for z in species)
        raise InputError(
            f"{where}: atom {atom} is {symbol(int(atoms.numbers[atom]))}, which the model does "
            f"not know; it knows {known}."
        )


def _check_finite(array: np.ndarray, what: str, unit: str) -> None:
    """Refuse an array (n,) or (n, 3) with a row that is not finite."""
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        row = int((~finite).argmax())
        raise InputError(
            f"{what} {row} is {array[row].tolist()} {unit}, which is not finite; check the step or "
            "file that it came from."
        )


def _check_cell(cell: np.ndarray, pbc: np.ndarray, where: str) -> None:
    _check_finite(cell, f"{where}: cell vector", "Å")
    vectors = cell[pbc]
    lengths = np.linalg.norm(vectors, axis=1)
    for axis, length in zip(np.flatnonzero(pbc), lengths, strict=True):
        if length < CLOSEST_DISTANCE:
            raise InputError(
                f"{where}: cell vector {axis} is {length:.3g} Å long, but periodic, which needs at "
                f"least {CLOSEST_DISTANCE} Å; set the cell, or pbc to False along this axis."
            )
    if len(vectors) and _span(vectors / lengths[:, None]) < SMALLEST_SPAN:
        raise InputError(
            f"{where}: the cell vectors of the periodic axes are linearly dependent "
            f"({_rows(vectors)}); set independent ones, or pbc to False along open axes."
        )


def _span(unit_vectors: np.ndarray) -> float:
    """Smallest singular value: how far unit vectors are from being linearly dependent."""
    return float(np.linalg.svd(unit_vectors, compute_uv=False)[-1])


def warn_of_unread(atoms: Atoms, inputs: Sequence[str]) -> None:
    """Say that a charge or spin of a structure changes nothing, if it is not among the inputs."""
    for name in DEFAULT_INPUTS.keys() - set(inputs):
        value = atoms.info.get(name, DEFAULT_INPUTS[name])
        if isinstance(value, Real) and value != DEFAULT_INPUTS[name]:
            warnings.warn(
                f"the model reads no {name}, and gives what it would for {DEFAULT_INPUTS[name]}, "
                f"not for the {value} of atoms.info.",
                UserWarning,
                stacklevel=3,
            )


def _check_input(atoms: Atoms, name: str, potential: Potential, where: str) -> None:
    if name == "magmoms":
        try:
            magnetic_moments(atoms)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from None
        return
    value = np.asarray(atoms.info.get(name, DEFAULT_INPUTS[name]))
    number = value.shape == () and value.dtype.kind in "iufb" and np.isfinite(value)
    if not number or value != np.round(value):
        raise InputError(
            f"{where}: atoms.info[{name!r}] must be a whole number, not {atoms.info[name]!r}."
        )
    low, high = input_range(potential.network, name)
    if not low <= value <= high:
        raise InputError(
            f"{where}: atoms.info[{name!r}] is {value}, but the model knows {name} from {low} to "
            f"{high} only; correct it, or use a model trained for it."
        )


def constant_inputs(potential: Potential, given: Mapping[str, float]) -> dict[str, int]:
    """Charge and spin that are given for all structures, of those that the potential reads.

    Raises:
        ValueError: another value than the default for a potential that does not read it, or one
            that is not whole or outside of its range.
    """
    found = {}
    for name, value in given.items():
        if name not in potential.inputs:
            if value != DEFAULT_INPUTS[name]:
                raise ValueError(f"the model reads no {name}; leave it out.")
            continue
        low, high = input_range(potential.network, name)
        if not low <= value <= high or value % 1 != 0:
            raise ValueError(
                f"{name} is {value}, and the model knows whole numbers from {low} to {high} only."
            )
        found[name] = int(value)
    return found


def symbol(number: int) -> str:
    """Symbol of an element, for messages, also where there is no such element."""
    known = 0 < number < len(chemical_symbols)
    return chemical_symbols[number] if known else f"no element (atomic number {number})"


def _rows(vectors: np.ndarray) -> str:
    return "; ".join(" ".join(f"{x + 0:.6g}" for x in row) for row in vectors) + " Å"
