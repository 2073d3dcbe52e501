"""Labels of frames: by which names they are found, in which units, and what is refused."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from ..neighbors.cells import volume
from ..spins import MOMENT_KEYS, stored_moments
from .settings import AUTO, Data, Key

# Values of two keys are one label if they agree to the digits of a float32.
RELATIVE, ABSOLUTE = 2e-7, 1e-6
NO_LABELS = {"numbers", "positions"}
MOMENTS = "magnetic moments"


@dataclass(frozen=True)
class Kind:
    """A kind of label.

    Attributes:
        unit: of its numbers.
        shapes: that it may have, "n" for the number of atoms; it is brought to the first.
        keys: usual names, in any case, the preferred first.
        instead: names of what stands in where none of ``keys`` is there.
    """

    unit: str
    shapes: tuple[tuple[int | str, ...], ...]
    keys: tuple[str, ...]
    instead: tuple[str, ...] = ()

    @property
    def of_atoms(self) -> bool:
        """Whether it has a row for each atom; only then it may stand in ``arrays``."""
        return "n" in self.shapes[0]


TENSOR = ((3, 3), (9,))
KINDS = {
    # Forces are derivatives of the free energy, but what codes call the energy (extrapolated to no
    # smearing) is what other packages train on and compare with, and differs by little.
    "energy": Kind(
        "eV",
        ((),),
        ("REF_energy", "energy", "dft_energy", "total_energy", "TotEnergy"),
        ("REF_free_energy", "free_energy", "dft_free_energy"),
    ),
    "forces": Kind(
        "eV/Å",
        (("n", 3),),
        ("REF_forces", "forces", "dft_forces", "REF_force", "force", "dft_force"),
    ),
    # ASE's sign: negative if compressed. A virial is -stress · volume, eV, as in libAtoms.
    "stress": Kind(
        "eV/Å³",
        (*TENSOR, (6,)),
        ("REF_stress", "stress", "dft_stress"),
        ("REF_virial", "virial", "dft_virial", "REF_virials", "virials"),
    ),
    "dipole": Kind("e·Å", ((3,),), ("REF_dipole", "dipole", "dft_dipole")),
    "polarizability": Kind("any unit", TENSOR, ("REF_polarizability", "polarizability")),
}
MOMENT = Kind("μ_B", (("n",), ("n", 3)), MOMENT_KEYS)
# Names of labels and of "magmoms": None reads no label, what is left out has a usual name.
Keys = Mapping[str, Key]


def keys_of(data: Data) -> dict[str, Key]:
    """The names that a configuration gives."""
    return {name: getattr(data, f"{name}_key") for name in (*KINDS, "magmoms")}


@dataclass
class KeyCount:
    """Which keys gave the labels of some frames, and which others there are.

    Attributes:
        frames: how many frames.
        taken: frames by key, for each label and for MOMENTS, which models may read.
        others: frames by key that gave no label.
    """

    frames: int = 0
    taken: dict[str, Counter[str]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)

    def add(self, atoms: Atoms, used: dict[str, str]) -> None:
        """Count a frame whose labels were found by these keys."""
        self.frames += 1
        for label, key in used.items():
            self.taken.setdefault(label, Counter())[key] += 1
        self.others.update({key for key, _ in contents(atoms)} - {*used.values(), *NO_LABELS})

    def __str__(self) -> str:
        parts = []
        units = {label: kind.unit for label, kind in KINDS.items()}
        units[MOMENTS] = f"{MOMENT.unit}, an input"
        for label, unit in units.items():
            keys = self.taken.get(label)
            if keys:
                counts = ", ".join(f"{key} ({n} frames)" for key, n in keys.items())
                parts.append(f"{label} = {counts}, {unit}")
            elif label in ("energy", "forces", "stress"):
                parts.append(f"no {label}")
        others = ", ".join(sorted(self.others))
        return "; ".join(parts) + (f"; not labels: {others}" if others else "")

    def check(self, name: str, given: Keys) -> None:
        """Raise ValueError where frames mix kinds of energies, or lack a key that was named."""
        known = sorted({*self.others, *(key for keys in self.taken.values() for key in keys)})
        for label, kind in KINDS.items():
            keys = self.taken.get(label, Counter())
            wanted = given.get(label, AUTO)
            instead = [key for key in keys if key.lower() in _order(kind.instead)]
            if label == "energy" and wanted == AUTO and 0 < len(instead) < len(keys):
                raise ValueError(
                    f"some {name} frames have {' and '.join(keys)}, which are different energies; "
                    f"{_name_one(label)}."
                )
            if wanted not in (AUTO, None, f"REF_{label}") and not keys:
                raise ValueError(
                    f"no {name} frame has {wanted!r}, named as its {label}; there are "
                    f"{', '.join(known)}."
                )


def read_labels(
    atoms: Atoms, keys: Keys, where: str = "the frame"
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Find the labels of a structure.

    Args:
        atoms: with labels in ``info``, ``arrays`` or the results of a calculator; only read.
        keys: names, where not the usual ones.
        where: what messages call the structure.

    Returns:
        Labels in float64 by name, in the units of :data:`KINDS`, tensors as (3, 3); and the keys
        that they, and MOMENTS, were found by.

    Raises:
        ValueError: a label is ambiguous, has a wrong shape, or is not finite.
    """
    of_frame, everything = list(contents(atoms, arrays=False)), list(contents(atoms))
    values: dict[str, np.ndarray] = {}
    used: dict[str, str] = {}
    for label, kind in KINDS.items():
        places = everything if kind.of_atoms else of_frame
        found = _find(label, kind, keys.get(label, AUTO), places, len(atoms), where)
        if found is None:
            continue
        key, value = found
        if label == "stress":
            size = volume(np.asarray(atoms.cell))
            if not size:  # some files give zeros for molecules
                continue
            value = -value / size if "virial" in key.lower() else value
        values[label], used[label] = value, key
    if (moments := stored_moments(atoms)) is not None:
        used[MOMENTS] = _named(keys) or moments[0]
    return values, used


def with_named_moments(atoms: Atoms, keys: Keys, where: str = "the frame") -> Atoms:
    """A structure whose initial moments are those of ``keys["magmoms"]``; itself if none is named.

    Raises:
        ValueError: the structure does not have them, or they are not of its atoms.
    """
    name = _named(keys)
    if name is None:
        return atoms
    values = dict(contents(atoms))
    if name not in values:
        raise ValueError(
            f"{where} has no {name!r}, named as its moments; it has {', '.join(sorted(values))}."
        )
    twin = atoms.copy()
    twin.calc = atoms.calc
    moments = checked(values[name], MOMENT, len(atoms), f"{name} of {where}")
    twin.set_initial_magnetic_moments(None)  # they may be numbers where these are vectors
    twin.set_initial_magnetic_moments(moments)
    return twin


def _named(keys: Keys) -> str | None:
    """The key of moments, if one was named."""
    name = keys.get("magmoms")
    return None if name == AUTO else name


def _find(
    label: str,
    kind: Kind,
    wanted: str | None,
    places: list[tuple[str, Any]],
    n: int,
    where: str,
) -> tuple[str, np.ndarray] | None:
    """Key and value of a label, or None."""
    if wanted is None:
        return None
    if wanted != AUTO:
        candidates = [(key, value) for key, value in places if key == wanted]
    else:
        candidates = _usual(kind.keys, places) or _usual(kind.instead, places)
    found = [(key, checked(value, kind, n, f"label {key} of {where}")) for key, value in candidates]
    for key, value in found[1:]:
        if not np.allclose(value, found[0][1], rtol=RELATIVE, atol=ABSOLUTE):
            difference = np.abs(value - found[0][1]).max()
            raise ValueError(
                f"{found[0][0]} and {key} of {where} differ by up to {difference:.3g} "
                f"{kind.unit}; {_name_one(label)}."
            )
    return found[0] if found else None


def _name_one(label: str) -> str:
    return f"name the one to take (data.{label}_key, or --{label}-key, or --key {label}=NAME)"


def _usual(keys: tuple[str, ...], places: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    order = _order(keys)
    known = [place for place in places if place[0].lower() in order]
    return sorted(known, key=lambda place: order[place[0].lower()])


def contents(atoms: Atoms, arrays: bool = True) -> Iterator[tuple[str, Any]]:
    """All that a structure carries, with or without arrays of its atoms; a key may come twice."""
    yield from ((str(key), value) for key, value in atoms.info.items())
    if arrays:
        yield from atoms.arrays.items()
    results = {} if atoms.calc is None else getattr(atoms.calc, "results", {})
    yield from ((key, value) for key, value in results.items() if value is not None)


def checked(value: Any, kind: Kind, n: int, what: str) -> np.ndarray:
    """A label or prediction in float64, in the first shape of its kind; ValueError if malformed."""
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{what} is not a number but {value!r}.") from None
    shapes = [tuple(n if x == "n" else int(x) for x in shape) for shape in kind.shapes]
    if array.shape not in shapes:
        raise ValueError(f"{what} has shape {array.shape}; expected {shapes[0]}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds a value that is not finite; leave out what is not known.")
    if array.shape == (6,):
        return np.asarray(voigt_6_to_full_3x3_stress(array))
    return array.reshape(shapes[0]) if array.size == math.prod(shapes[0]) else array


@cache
def _order(keys: tuple[str, ...]) -> dict[str, int]:
    return {key.lower(): k for k, key in enumerate(keys)}
