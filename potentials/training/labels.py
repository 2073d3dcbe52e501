"""Labels of frames: by which names they are found, in which units, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms

from ..neighbors.cells import volume
from ..spins import stored_moments
from ..suggestions import did_you_mean
from .kinds import KINDS, LABEL_OF, MOMENT, Kind, checked
from .settings import AUTO, Data, Key

# Values of two keys are one label if they agree to the digits of a float32.
RELATIVE, ABSOLUTE = 2e-7, 1e-6
NO_LABELS = {"numbers", "positions"}
MOMENTS = "magnetic moments"


REFERENCE = "ref_"  # how keys of a reference begin, in any case
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
        aside: of these, results of a calculator beside keys of a reference.
    """

    frames: int = 0
    taken: dict[str, Counter[str]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    aside: Counter[str] = field(default_factory=Counter)

    def add(self, atoms: Atoms, used: dict[str, str]) -> None:
        """Count a frame whose labels were found by these keys."""
        self.frames += 1
        for label, key in used.items():
            self.taken.setdefault(label, Counter())[key] += 1
        self.others.update({key for key, _ in contents(atoms)} - {*used.values(), *NO_LABELS})
        if any(_is_reference(key) for key in used.values()):
            self.aside.update(_results(atoms).keys() & LABEL_OF.keys() - {*used.values()})

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
        if self.aside:
            counts = ", ".join(f"{key} ({n} frames)" for key, n in sorted(self.aside.items()))
            parts.append(f"set aside, results beside REF_ keys: {counts}")
        others = ", ".join(sorted(self.others.keys() - self.aside.keys()))
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
                    f"no {name} frame has {wanted!r}, named as its {label}; "
                    f"{did_you_mean(wanted, known) if known else 'it has nothing else.'}"
                )


def read_labels(
    atoms: Atoms, keys: Keys, where: str = "the frame"
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Find the labels of a structure.

    Where a label has a REF_ key, that is the reference, and what a calculator says beside it is not
    compared with it. If the two differ, no result of that calculator is a label (it is a model's,
    as in files of ``pointedge predict``), unless ``keys`` name it.

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
    results = list(_results(atoms).items())
    trusted = [] if _contradicted(atoms) else results
    values: dict[str, np.ndarray] = {}
    used: dict[str, str] = {}
    for label, kind in KINDS.items():
        own = list(_own(atoms, arrays=kind.of_atoms))
        wanted = keys.get(label, AUTO)
        if wanted is None:
            continue
        if wanted == AUTO:
            known = any(_is_reference(k) and LABEL_OF.get(k.lower()) == label for k, _ in own)
            places = own if known else own + trusted
            candidates = _usual(kind.keys, places) or _usual(kind.instead, places)
        else:
            candidates = [(key, value) for key, value in own + results if key == wanted]
        found = _agreed(label, kind, candidates, len(atoms), where)
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


def _agreed(
    label: str, kind: Kind, candidates: list[tuple[str, Any]], n: int, where: str
) -> tuple[str, np.ndarray] | None:
    """The first key and value of those that may be a label, or None; ValueError if they differ."""
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


def contents(atoms: Atoms) -> Iterator[tuple[str, Any]]:
    """All that a structure carries; a key may come twice."""
    yield from _own(atoms)
    yield from _results(atoms).items()


def _own(atoms: Atoms, arrays: bool = True) -> Iterator[tuple[str, Any]]:
    """What a structure carries itself, with or without arrays of its atoms."""
    yield from ((str(key), value) for key, value in atoms.info.items())
    if arrays:
        yield from atoms.arrays.items()


def _results(atoms: Atoms) -> dict[str, Any]:
    """What its calculator says of it."""
    results = {} if atoms.calc is None else getattr(atoms.calc, "results", {})
    return {key: value for key, value in results.items() if value is not None}


def _is_reference(key: str) -> bool:
    return key.lower().startswith(REFERENCE)


def _contradicted(atoms: Atoms) -> bool:
    """Whether a REF_ key has another value than the calculator, down to the last digit.

    Copies agree so far, while a good model's energy may agree with the reference to seven digits.
    """
    results = _results(atoms)
    for key, value in _own(atoms) if results else ():
        name = key.lower().removeprefix(REFERENCE)
        if _is_reference(key) and name in results and name in LABEL_OF:
            kind = KINDS[LABEL_OF[name]]
            try:
                one, other = (checked(v, kind, len(atoms), key) for v in (value, results[name]))
            except ValueError:  # one of them is no label
                return True
            if not np.array_equal(one, other):
                return True
    return False


@cache
def _order(keys: tuple[str, ...]) -> dict[str, int]:
    return {key.lower(): k for k, key in enumerate(keys)}
