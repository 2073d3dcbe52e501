"""Kinds of labels: their names, shapes and units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from ..spins import MOMENT_KEYS


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
# Labels by their usual names, in small letters.
LABEL_OF = {
    key.lower(): label for label, kind in KINDS.items() for key in (*kind.keys, *kind.instead)
}


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
