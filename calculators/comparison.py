"""Labelled frames and what a calculator predicts for them: the numbers, and their picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ..potentials.training.kinds import KINDS, checked
from ..potentials.training.labels import Keys, contents, read_labels
from .inputs import bare

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

COMMON = ("energy", "forces", "stress")  # what a calculator that says nothing is believed to give
MOMENTS = ("dipole", "polarizability")
QUANTITIES = (*KINDS,)
COMPARED_STDS = tuple(f"{name}_std" for name in COMMON)  # that a calculator may have


def _property(name: str, atoms: Atoms) -> Any:
    return atoms.calc.get_property(name, atoms)


GETTERS: dict[str, Callable[[Atoms], Any]] = {  # forces first, since they give the energy too
    "forces": Atoms.get_forces,
    "stress": partial(Atoms.get_stress, voigt=False),
    "energy": Atoms.get_potential_energy,
    "dipole": Atoms.get_dipole_moment,
    "polarizability": partial(_property, "polarizability"),
    **{name: partial(_property, name) for name in COMPARED_STDS},
}
FAILURES = (ValueError, LookupError, RuntimeError, ArithmeticError)  # what calculators raise


@dataclass(frozen=True)
class Frame:
    """A structure with labels, where it came from, for messages, and names of unusual keys."""

    atoms: Atoms
    file: str = ""
    index: int = 0
    keys: Keys = field(default_factory=dict)

    def __str__(self) -> str:
        return f"frame {self.index} of {self.file}" if self.file else f"frame {self.index}"

    def labels(self) -> dict[str, Array]:
        """Labels by quantity, see :func:`.labels.read_labels`; raises ValueError if it has none."""
        found, _ = read_labels(self.atoms, self.keys, str(self))
        if not found:
            has = ", ".join(key for key, _ in contents(self.atoms))
            raise ValueError(
                f"{self} has no label (stress is one where the cell spans a volume); it has {has}."
            )
        return found


@dataclass(frozen=True)
class Comparison:
    """Labels and predictions of F frames with N atoms in all; NaN where there is none.

    Attributes:
        files: (F,) file of each frame.
        indices: (F,) index of each frame in its file.
        groups: (F,) value of the group key, "" where a frame has none.
        sizes: (F,) atoms per frame.
        species: (N,) atomic numbers.
        energy, predicted_energy: (F,) eV.
        forces, predicted_forces: (N, 3) eV/Å.
        stress, predicted_stress: (F, 3, 3) eV/Å³.
        dipole, predicted_dipole: (F, 3) e·Å.
        polarizability, predicted_polarizability: (F, 3, 3), in the unit of the labels.
        energy_std, forces_std, stress_std: (F,) eV, (N, 3) eV/Å and (F, 3, 3) eV/Å³, standard
            deviations of predictions.
    """

    files: NDArray[np.str_]
    indices: Integers
    groups: NDArray[np.str_]
    sizes: Integers
    species: Integers
    energy: Array
    forces: Array
    stress: Array
    dipole: Array
    polarizability: Array
    predicted_energy: Array
    predicted_forces: Array
    predicted_stress: Array
    predicted_dipole: Array
    predicted_polarizability: Array
    energy_std: Array
    forces_std: Array
    stress_std: Array

    @classmethod
    def of(
        cls, frame: Frame, group: str, labels: dict[str, Array], predictions: dict[str, Array]
    ) -> Comparison:
        """Put one frame into arrays; quantities that are absent become NaN."""
        size = len(frame.atoms)
        shapes = {"energy": (1,), "forces": (size, 3), "dipole": (1, 3)}
        found = {
            **labels,
            **{
                name if name in COMPARED_STDS else f"predicted_{name}": v
                for name, v in predictions.items()
            },
        }
        columns = {}
        for name in (*QUANTITIES, *(f"predicted_{name}" for name in QUANTITIES), *COMPARED_STDS):
            shape = shapes.get(name.removeprefix("predicted_").removesuffix("_std"), (1, 3, 3))
            value_or_nan = np.broadcast_to(found.get(name, np.array(np.nan)), shape)
            columns[name] = value_or_nan.astype(np.float64)
        return cls(
            files=np.array([frame.file]),
            indices=np.array([frame.index]),
            groups=np.array([group]),
            sizes=np.array([size]),
            species=frame.atoms.numbers.astype(np.int64),
            **columns,
        )

    @classmethod
    def join(cls, parts: Sequence[Comparison]) -> Comparison:
        """Join comparisons; frames keep their order."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})

    def error(self, quantity: str) -> Array:
        """Signed errors of a quantity: prediction minus label, NaN where one of them is missing."""
        return np.asarray(getattr(self, f"predicted_{quantity}") - getattr(self, quantity))

    @property
    def frame_of_atom(self) -> Integers:
        """(N,) the frame that each atom belongs to."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @property
    def fractions(self) -> Array:
        """(F, S) fraction of each species, in ascending order of atomic number."""
        elements = np.unique(self.species)
        counts = np.zeros((len(self.sizes), len(elements)))
        np.add.at(counts, (self.frame_of_atom, np.searchsorted(elements, self.species)), 1.0)
        return np.asarray(counts / self.sizes[:, None])


def chunks(frames: Iterable[Atoms | Frame], atoms: int) -> Iterator[list[Frame]]:
    """Frames in lists of at least so many atoms; plain structures get the default keys."""
    chunk: list[Frame] = []
    size = 0
    for index, item in enumerate(frames):
        frame = item if isinstance(item, Frame) else Frame(item, index=index)
        if not len(frame.atoms):
            raise ValueError(f"{frame} has no atoms.")
        chunk.append(frame)
        size += len(frame.atoms)
        if size >= atoms:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def implements(calculator: Any, quantity: str) -> bool:
    """Whether a calculator says that it gives a quantity; one that says nothing is believed to."""
    return quantity in getattr(calculator, "implemented_properties", COMMON)


def wanted(calculator: Any, labels: dict[str, Array]) -> tuple[str, ...]:
    """What to ask of a calculator: what it gives and the frame has labels of, maybe nothing.

    With standard deviations of these, where it has them.
    """
    given = [q for q in labels if implements(calculator, q)]
    spreads = [f"{q}_std" for q in given if f"{q}_std" in COMPARED_STDS]
    return (*given, *(name for name in spreads if implements(calculator, name)))


def predict(
    calculator: Any, frames: Sequence[Frame], properties: Sequence[tuple[str, ...]]
) -> list[dict[str, Array]]:
    """Predict the properties that are asked of each frame; those that ask the same run together.

    Raises:
        ValueError: the calculator fails, or a value has a wrong shape or is not finite; the message
            names the frame.
    """
    predictions: list[dict[str, Array]] = [{} for _ in frames]
    for names in filter(None, dict.fromkeys(properties)):
        members = [k for k, asked in enumerate(properties) if asked == names]
        results = calculate(calculator, [frames[k] for k in members], names)
        for k, result in zip(members, results, strict=True):
            size = len(frames[k].atoms)
            for name in names:
                what = f"predicted {name} of {frames[k]}"
                kind = KINDS[name.removesuffix("_std")]
                predictions[k][name] = checked(result[name], kind, size, what)
    return predictions


def rotational_variances(calculator: Any, frame: Frame, matrices: Array) -> dict[str, Array]:
    """Unbiased variances over orientations r → r R of one frame, R from matrices (K, 3, 3).

    Returns:
        The variance of the energy in eV², and that of each component, turned back, of forces (n, 3)
        in (eV/Å)², dipole (3,) and polarizability (3, 3): of what the calculator gives.
    """
    names = tuple(q for q in ("energy", "forces", *MOMENTS) if implements(calculator, q))
    copies = [replace(frame, atoms=turned(frame.atoms, matrix)) for matrix in matrices]
    found = predict(calculator, copies, [names] * len(copies))
    variances = {}
    for name in names:
        back = [_turned_back(name, f[name], m) for f, m in zip(found, matrices, strict=True)]
        variances[name] = np.asarray(np.var(back, axis=0, ddof=1))
    return variances


def calculate(
    calculator: Any, frames: Sequence[Frame], properties: tuple[str, ...]
) -> list[dict[str, Any]]:
    """What a calculator gives for frames, in batches if it can.

    Raises:
        ValueError: it fails; the frame is named.
    """
    many = getattr(calculator, "calculate_many", None) or partial(_one_by_one, calculator)
    try:
        return list(many([frame.atoms for frame in frames], properties))
    except FAILURES as error:
        if len(frames) > 1:
            for frame in frames:  # to name the one that fails
                calculate(calculator, [frame], properties)
            raise
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        message = str(error).removeprefix("structure 0: ")  # its place in a list of one
        raise ValueError(f"{frames[0]}: {kind}{message}") from error


def _one_by_one(
    calculator: Any, structures: Sequence[Atoms], properties: tuple[str, ...]
) -> list[dict[str, Any]]:
    results = []
    for atoms in structures:
        twin = bare(atoms)  # ASE would zero the forces of fixed atoms
        twin.calc = calculator
        if hasattr(calculator, "reset"):
            calculator.reset()  # what is timed must be a calculation, not a memory of one
        results.append({name: get(twin) for name, get in GETTERS.items() if name in properties})
    return results


def turned(atoms: Atoms, matrix: Array) -> Any:
    """Copy of a structure with r → r R; magnetic moments, now initial, turn as axial vectors."""
    twin = bare(atoms)  # ASE would keep fixed atoms in place
    twin.set_cell(np.asarray(atoms.cell) @ matrix)
    twin.set_positions(atoms.positions @ matrix)
    moments = twin.arrays.get("initial_magmoms")
    if moments is not None and moments.shape[1:] == (3,):
        twin.set_initial_magnetic_moments(np.linalg.det(matrix) * moments @ matrix)
    return twin


def _turned_back(quantity: str, value: Array, matrix: Array) -> Array:
    """What a quantity of a structure turned by r → r R is in the original coordinates."""
    if quantity == "energy":
        return value
    return matrix @ value @ matrix.T if quantity == "polarizability" else value @ matrix.T
