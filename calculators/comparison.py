"""Labelled frames and what a calculator predicts for them: the numbers, and their picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .inputs import volume

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # place of xx ... in xx, yy, zz, yz, xz, xy
COMMON = ("energy", "forces", "stress")  # what a calculator that says nothing is believed to give
MOMENTS = ("dipole", "polarizability")
QUANTITIES = (*COMMON, *MOMENTS)
GETTERS: dict[str, Callable[[Atoms], Any]] = {  # forces first, since they give the energy too
    "forces": Atoms.get_forces,
    "stress": partial(Atoms.get_stress, voigt=False),
    "energy": Atoms.get_potential_energy,
    "dipole": Atoms.get_dipole_moment,
    "polarizability": lambda atoms: atoms.calc.get_property("polarizability", atoms),
}
FAILURES = (ValueError, LookupError, RuntimeError, ArithmeticError)  # what calculators raise


@dataclass(frozen=True)
class Keys:
    """Where labels stand: names in ``atoms.info``, ``atoms.arrays`` or the results of a calculator.

    Units are eV, eV/Å and eV/Å³ in ASE's sign (negative = compressed); stress as 3×3, 9 or Voigt.
    Dipoles are in e·Å, polarizabilities, 3×3 or 9, in any unit, which has to be the calculator's.
    """

    energy: str = "REF_energy"
    forces: str = "REF_forces"
    stress: str = "REF_stress"
    dipole: str = "REF_dipole"
    polarizability: str = "REF_polarizability"


@dataclass(frozen=True)
class Frame:
    """A structure with labels, and where it came from, for messages."""

    atoms: Atoms
    file: str = ""
    index: int = 0
    keys: Keys = Keys()

    def __str__(self) -> str:
        return f"frame {self.index} of {self.file}" if self.file else f"frame {self.index}"

    def labels(self) -> dict[str, Array]:
        """Labels by quantity, tensors as (3, 3); raises ValueError for none or a bad one."""
        found = {}
        for quantity, key in asdict(self.keys).items():
            places = label_places(self.atoms, quantity)
            value = next((p[key] for p in places.values() if p.get(key) is not None), None)
            if value is not None:
                found[quantity] = checked(
                    value, quantity, len(self.atoms), f"label {key} of {self}"
                )
        if not found:
            wanted = ", ".join(key for key in asdict(self.keys).values() if key)
            has = "; ".join(f"{n} {', '.join(p)}" for n, p in label_places(self.atoms).items() if p)
            raise ValueError(f"{self} has no label: looked for {wanted}; it has {has}.")
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

    @classmethod
    def of(
        cls, frame: Frame, group: str, labels: dict[str, Array], predictions: dict[str, Array]
    ) -> Comparison:
        """Put one frame into arrays; quantities that are absent become NaN."""
        size = len(frame.atoms)
        columns = {}
        for prefix, values in (("", labels), ("predicted_", predictions)):
            for name in QUANTITIES:
                shape = (size, 3) if name == "forces" else (1, *label_shapes(name, size)[0])
                value_or_nan = np.broadcast_to(values.get(name, np.array(np.nan)), shape)
                columns[prefix + name] = value_or_nan.astype(np.float64)
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


def label_places(atoms: Atoms, quantity: str = "forces") -> dict[str, dict[str, Any]]:
    """The dictionaries in which a structure may carry labels of a quantity, by name."""
    results = {} if atoms.calc is None else atoms.calc.results
    arrays = {"arrays": atoms.arrays} if quantity == "forces" else {}  # numbers of every atom
    return {"info": atoms.info, **arrays, "results": results}


def label_shapes(quantity: str, atoms: int) -> list[tuple[int, ...]]:
    """Shapes that a label of a quantity may have; it is brought to the first one."""
    shapes: dict[str, list[tuple[int, ...]]] = {
        "energy": [()],
        "forces": [(atoms, 3)],
        "stress": [(3, 3), (6,), (9,)],
        "dipole": [(3,)],
        "polarizability": [(3, 3), (9,)],
    }
    return shapes[quantity]


def checked(value: Any, quantity: str, atoms: int, what: str) -> Array:
    """Return a label or prediction in float64, tensors (3, 3); raises ValueError if malformed."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what} is not a number but {value!r}.") from None
    shapes = label_shapes(quantity, atoms)
    if array.shape not in shapes:
        raise ValueError(f"{what} has shape {array.shape}; expected {shapes[0]}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds a value that is not finite.")
    return array[VOIGT] if array.shape == (6,) else array.reshape(shapes[0])


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


def wanted(calculator: Any, frame: Frame, labels: dict[str, Array]) -> tuple[str, ...]:
    """What to ask of a calculator: what it gives and the frame has labels of, maybe nothing."""
    missing = () if volume(np.asarray(frame.atoms.cell)) else ("stress",)
    return tuple(q for q in labels if implements(calculator, q) and q not in missing)


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
        results = _run(calculator, [frames[k] for k in members], names)
        for k, result in zip(members, results, strict=True):
            size = len(frames[k].atoms)
            for name in names:
                what = f"predicted {name} of {frames[k]}"
                predictions[k][name] = checked(result[name], name, size, what)
    return predictions


def rotational_variances(calculator: Any, frame: Frame, matrices: Array) -> dict[str, Array]:
    """Unbiased variances over orientations r → r R of one frame, R from matrices (K, 3, 3).

    Returns:
        The variance of the energy in eV², and that of each component, turned back, of forces (n, 3)
        in (eV/Å)², dipole (3,) and polarizability (3, 3): of what the calculator gives.
    """
    names = tuple(q for q in ("energy", "forces", *MOMENTS) if implements(calculator, q))
    turned = [replace(frame, atoms=_turned(frame.atoms, matrix)) for matrix in matrices]
    found = predict(calculator, turned, [names] * len(turned))
    variances = {}
    for name in names:
        back = [_turned_back(name, f[name], m) for f, m in zip(found, matrices, strict=True)]
        variances[name] = np.asarray(np.var(back, axis=0, ddof=1))
    return variances


def _run(
    calculator: Any, frames: Sequence[Frame], properties: tuple[str, ...]
) -> list[dict[str, Any]]:
    many = getattr(calculator, "calculate_many", None) or partial(_one_by_one, calculator)
    try:
        return list(many([frame.atoms for frame in frames], properties))
    except FAILURES as error:
        if len(frames) > 1:
            for frame in frames:  # to name the one that fails
                _run(calculator, [frame], properties)
            raise
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        message = str(error).removeprefix("structure 0: ")  # its place in a list of one
        raise ValueError(f"{frames[0]}: {kind}{message}") from error


def _one_by_one(
    calculator: Any, structures: Sequence[Atoms], properties: tuple[str, ...]
) -> list[dict[str, Any]]:
    results = []
    for atoms in structures:
        twin = atoms.copy()
        twin.set_constraint()  # ASE would zero the forces of fixed atoms
        twin.calc = calculator
        if hasattr(calculator, "reset"):
            calculator.reset()  # what is timed must be a calculation, not a memory of one
        results.append({name: get(twin) for name, get in GETTERS.items() if name in properties})
    return results


def _turned(atoms: Atoms, matrix: Array) -> Any:
    """Copy of a structure with r → r R; magnetic moments turn as axial vectors."""
    twin = atoms.copy()
    twin.set_constraint()  # or ASE would keep fixed atoms in place
    twin.set_cell(np.asarray(atoms.cell) @ matrix)
    twin.set_positions(atoms.positions @ matrix)
    moments = twin.arrays.get("initial_magmoms")
    if moments is not None and moments.ndim == 2:
        twin.set_initial_magnetic_moments(np.linalg.det(matrix) * moments @ matrix)
    return twin


def _turned_back(quantity: str, value: Array, matrix: Array) -> Array:
    """What a quantity of a structure turned by r → r R is in the original coordinates."""
    if quantity == "energy":
        return value
    return matrix @ value @ matrix.T if quantity == "polarizability" else value @ matrix.T
