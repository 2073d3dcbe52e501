"""Labels of frames: by which names they are found, in which units, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from ..spins import stored_moments
from .settings import AUTO, Data

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
        taken = {*used.values(), *NO_LABELS}
        if (moments := stored_moments(atoms)) is not None:
            self.taken.setdefault(MOMENTS, Counter())[moments[0]] += 1
            taken.add(moments[0])
        self.others.update({key for key, _ in _places(atoms)} - taken)

    def __str__(self) -> str:
        parts = []
        units = {**{label: kind.unit for label, kind in KINDS.items()}, MOMENTS: "μ_B, an input"}
        for label, unit in units.items():
            keys = self.taken.get(label)
            if keys:
                counts = ", ".join(f"{key} ({n} frames)" for key, n in keys.items())
                parts.append(f"{label} = {counts}, {unit}")
            elif label in ("energy", "forces", "stress"):
                parts.append(f"no {label}")
        others = ", ".join(sorted(self.others))
        return "; ".join(parts) + (f"; not labels: {others}" if others else "")

    def check(self, name: str, data: Data) -> None:
        """Raise ValueError where frames mix kinds of energies, or lack a key that was named."""
        known = sorted({*self.others, *(key for keys in self.taken.values() for key in keys)})
        for label, kind in KINDS.items():
            keys = self.taken.get(label, Counter())
            wanted = getattr(data, f"{label}_key")
            instead = [key for key in keys if key.lower() in _order(kind.instead)]
            if label == "energy" and wanted == AUTO and 0 < len(instead) < len(keys):
                raise ValueError(
                    f"some {name} frames have {' and '.join(keys)}, which are different energies; "
                    f"set data.energy_key to one of them."
                )
            if wanted not in (AUTO, None, f"REF_{label}") and not keys:
                raise ValueError(
                    f"no {name} frame has {wanted!r} for data.{label}_key; "
                    f"there are {', '.join(known)}."
                )


def read_labels(
    atoms: Atoms, data: Data, where: str = "the frame"
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Find the labels of a structure.

    Args:
        atoms: with labels in ``info``, ``arrays`` or the results of a calculator; only read.
        data: names of keys, or "auto" for the usual ones.
        where: what messages call the structure.

    Returns:
        Labels in float64 by name, in the units of :data:`KINDS`, tensors as (3, 3); and the keys
        that they were found by.

    Raises:
        ValueError: a label is ambiguous, has a wrong shape, or is not finite.
    """
    places = list(_places(atoms))
    values: dict[str, np.ndarray] = {}
    used: dict[str, str] = {}
    for label, kind in KINDS.items():
        found = _find(label, kind, getattr(data, f"{label}_key"), places, len(atoms), where)
        if found is None:
            continue
        key, value = found
        if label == "stress":
            volume = abs(np.linalg.det(atoms.cell))
            if not volume:  # some files give zeros for molecules
                continue
            value = -value / volume if "virial" in key.lower() else value
        values[label], used[label] = value, key
    return values, used


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
    checked = [(key, _checked(value, kind, n, f"{key} of {where}")) for key, value in candidates]
    for key, value in checked[1:]:
        if not np.allclose(value, checked[0][1], rtol=RELATIVE, atol=ABSOLUTE):
            difference = np.abs(value - checked[0][1]).max()
            raise ValueError(
                f"{checked[0][0]} and {key} of {where} differ by up to {difference:.3g} "
                f"{kind.unit}; set data.{label}_key to the one that is the label."
            )
    return checked[0] if checked else None


def _usual(keys: tuple[str, ...], places: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    order = _order(keys)
    known = [place for place in places if place[0].lower() in order]
    return sorted(known, key=lambda place: order[place[0].lower()])


def _places(atoms: Atoms) -> Iterator[tuple[str, Any]]:
    """All that a structure carries, by key; a key may come twice."""
    yield from ((str(key), value) for key, value in atoms.info.items())
    yield from atoms.arrays.items()
    results = {} if atoms.calc is None else getattr(atoms.calc, "results", {})
    yield from ((key, value) for key, value in results.items() if value is not None)


def _checked(value: Any, kind: Kind, n: int, what: str) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"label {what} is not a number but {value!r}.") from None
    shapes = [tuple(n if x == "n" else int(x) for x in shape) for shape in kind.shapes]
    if array.shape not in shapes:
        raise ValueError(f"label {what} has shape {array.shape}; expected {shapes[0]}.")
    if not np.isfinite(array).all():
        raise ValueError(
            f"label {what} holds a value that is not finite; leave out what is not known."
        )
    if array.shape == (6,):
        return np.asarray(voigt_6_to_full_3x3_stress(array))
    return array.reshape(shapes[0])


@cache
def _order(keys: tuple[str, ...]) -> dict[str, int]:
    return {key.lower(): k for k, key in enumerate(keys)}
