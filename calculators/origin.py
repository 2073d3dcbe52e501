"""What a run of dynamics began with, and whether one that is to go on would go on with the same."""

from __future__ import annotations

import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.jsonio import encode

from ..potentials.graph import DEFAULT_INPUTS
from ..potentials.spins import MOMENT_KEYS
from .dynamics import MDSettings
from .restart import State

# eV/atom. Rounding of float32 changes an energy by a thousandth of this, another model by more.
SAME_ENERGY = 1e-4


def check_same_run(state: State, settings: MDSettings, atoms: Atoms, folder: Path) -> None:
    """Refuse to go on with other settings or another start than a run began with: ValueError."""
    advice = "name another folder, or overwrite it."
    for name, value in asdict(settings).items():
        stored = state.settings.get(name)
        if name != "steps" and stored != value:
            raise ValueError(
                f"output folder {folder} is not empty: it holds a run with {name} {stored}, not "
                f"{value}; {advice}"
            )
    began = origin(atoms)
    for name, what in (
        ("structure", "structure"),
        ("constraints", "set of constraints"),
        ("inputs", "charge or spin"),
    ):
        if getattr(state, name) not in (None, began[name]):  # None: of an earlier version
            raise ValueError(
                f"output folder {folder} is not empty: it holds a run that began with another "
                f"{what}; {advice}"
            )
    if state.step > settings.steps:
        raise ValueError(
            f"output folder {folder} holds a run of {state.step} steps already, more than the "
            f"{settings.steps} asked for; ask for more, {advice}"
        )


def check_same_model(state: State, atoms: Atoms, folder: Path) -> None:
    """Refuse a calculator that gives the restored structure another energy: ValueError."""
    energy = atoms.get_potential_energy()
    if abs(energy - state.energy) > SAME_ENERGY * len(atoms):
        raise ValueError(
            f"output folder {folder} holds a run with another model: at step {state.step} its "
            f"energy was {state.energy:.6f} eV, and this one's is {energy:.6f} eV; name another "
            "folder, or overwrite it."
        )


def origin(atoms: Atoms) -> dict[str, Any]:
    """All of a structure with its calculator that decides on its dynamics, see :class:`State`."""
    return {
        "structure": _fingerprint(atoms),
        "constraints": zlib.crc32("\n".join(map(_text, atoms.constraints)).encode()),
        "inputs": _inputs(atoms),
    }


def _fingerprint(atoms: Atoms) -> int:
    names = ("numbers", "positions", "momenta", "masses", "initial_charges", *MOMENT_KEYS)
    parts = [atoms.arrays[name] for name in names if name in atoms.arrays]
    removed = atoms.get_number_of_degrees_of_freedom()
    parts += [atoms.cell.array, atoms.pbc, np.array([removed])]
    return zlib.crc32(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))


def _text(constraint: Any) -> str:
    """A constraint as ASE would write it; of one that it cannot write, the name and the numbers."""
    try:
        if (found := constraint.todict()) is not None:
            return str(encode(found))
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        pass
    told = {"name": type(constraint).__name__}
    for name, value in sorted(getattr(constraint, "__dict__", {}).items()):
        try:
            told[name] = encode(value)
        except (TypeError, ValueError):  # a function, or the like
            continue
    return str(encode(told))


def _inputs(atoms: Atoms) -> dict[str, float | str]:
    """Charge and spin, of models that read them; of those that do not tell, what is given."""
    reads = getattr(atoms.calc, "inputs", atoms.info)
    named = {name: atoms.info.get(name, DEFAULT_INPUTS[name]) for name in DEFAULT_INPUTS}
    return {name: _plain(value) for name, value in named.items() if name in reads}


def _plain(value: Any) -> float | str:
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)
