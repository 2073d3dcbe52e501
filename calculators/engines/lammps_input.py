"""What LAMMPS knows and its users write: atoms of a rank, scripts, elements of atom types."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from torch import Tensor

from ...potentials.potential import Potential
from ..inputs import constant_inputs

NAME = "pointedge"  # of the pair style in scripts, and of the fix, for `fix_modify` and `unfix`


@dataclass(frozen=True)
class RankAtoms:
    """Copies or views of what LAMMPS knows on a rank: owned atoms, then ghosts (r rows in all).

    ``tags`` (r,), ``types`` (r,), ``positions`` (r, 3) in Å, ``cell`` (3, 3) in Å, ``pbc`` (3,).
    """

    num_owned: int
    tags: np.ndarray
    types: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray

    @classmethod
    def of(cls, lmp: Any, num_owned: int) -> RankAtoms:
        """Those of a ``lammps.lammps`` in a callback."""
        rows = num_owned + lmp.extract_setting("nghost")
        extract = lmp.numpy.extract_atom
        low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
        cell = np.diag(np.subtract(high, low))
        cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
        if rows == 0:  # there are no arrays to extract
            none = np.zeros(0, dtype=np.int64)
            return cls(0, none, none, np.zeros((0, 3)), cell, np.array(periodic, dtype=bool))
        return cls(
            num_owned,
            extract("id", nelem=rows),
            extract("type", nelem=rows),
            extract("x", nelem=rows),
            cell,
            np.array(periodic, dtype=bool),
        )


@dataclass(frozen=True)
class Script:
    """A LAMMPS script with a model: commands before and after it, the model, its elements."""

    before: str
    model: str
    elements: list[str]
    after: str


SAME_MASS = 0.3  # u


def read_script(text: str) -> Script:
    """Take `pair_style pointedge MODEL` and `pair_coeff * * ELEMENT ...` out of a script.

    The model belongs where `pair_coeff` stands, after the box.

    Raises:
        ValueError: the lines are missing, occur twice, or read otherwise; or `clear` follows.
    """
    lines = text.splitlines()
    words = [line.split("#")[0].split() for line in lines]
    styles = [k for k, line in enumerate(words) if line[:2] == ["pair_style", NAME]]
    model = shlex.split(lines[styles[0]], comments=True)[2:] if styles else []
    if len(styles) != 1 or len(model) != 1:
        raise ValueError(
            f"the script needs one line `pair_style {NAME} MODEL`, with the name of a packaged "
            f"model or a file; it has {len(styles)} that begin so."
        )
    style = styles[0]
    coefficients = [k for k in range(style, len(words)) if words[k][:1] == ["pair_coeff"]]
    if not coefficients or words[coefficients[0]][1:3] != ["*", "*"]:
        raise ValueError(
            f"`pair_style {NAME}` needs a line `pair_coeff * * O H` after it, with the element of "
            "each atom type in their order."
        )
    last = coefficients[0]
    if any(line[:1] in (["clear"], ["pair_style"]) for line in words[last:]):
        raise ValueError(
            f"`clear` or another `pair_style` after `pair_style {NAME}` would leave its forces "
            "out, or add others; use Python (pointedge.calculators.engines.lammps.attach)."
        )
    return Script(
        # As LAMMPS has it, a style replaces the one before.
        before="\n".join([*lines[:style], "pair_style none", *lines[style + 1 : last], ""]),
        model=model[0],
        elements=words[last][3:],
        after="\n".join([*lines[last + 1 :], ""]),
    )


def check_simulation(lmp: Any) -> None:
    """Refuse, with ValueError, a simulation that a model cannot be attached to."""
    units = lmp.extract_global("units")
    if units != "metal":
        raise ValueError(
            f"the simulation has units {units}, and the model metal; set `units metal`."
        )
    if not lmp.extract_setting("box_exist"):
        raise ValueError("the simulation has no box yet; attach a model after read_data or such.")
    if lmp.extract_setting("dimension") != 3:
        raise ValueError("the simulation has two dimensions, and the model three.")
    if lmp.has_id("fix", NAME):
        raise ValueError(f"the simulation has a model already; `unfix {NAME}` first.")


def check_masses(lmp: Any, elements: Sequence[str]) -> None:
    """Refuse, with ValueError, elements that are those of other types by their masses.

    Other isotopes, and masses that were made heavier for longer steps, are nobody else's.
    """
    masses = lmp.numpy.extract_atom("mass")
    if masses is None:  # of atoms, not of types
        return
    usual = {element: atomic_masses[atomic_numbers[element]] for element in elements}
    for k, element in enumerate(elements, 1):
        mass = float(np.ravel(masses)[k])
        for other, its in usual.items():
            if other != element and abs(mass - its) < SAME_MASS < abs(mass - usual[element]):
                raise ValueError(
                    f"atom type {k} is named {element}, and has the mass of {other}, {mass:g} u; "
                    "name the elements in the order of the types, or correct `mass`."
                )


def read_elements(elements: Sequence[str], types: int, known: Sequence[int]) -> Tensor:
    """Return the atomic numbers (types + 1,) of atom types, which count from 1.

    Raises:
        ValueError: not one element for each type, no such element, or one that is not ``known``.
    """
    if len(elements) != types:
        raise ValueError(
            f"the simulation has {types} atom types, and {len(elements)} elements are given "
            f"({' '.join(elements)}); give one for each type, in their order."
        )
    names = ", ".join(chemical_symbols[z] for z in known)
    for k, element in enumerate(elements, 1):
        if atomic_numbers.get(element, 0) not in known or element == "X":
            raise ValueError(
                f"atom type {k} is {element}, which the model does not know; it knows {names}."
            )
    return torch.tensor([0, *(atomic_numbers[element] for element in elements)])


def read_inputs(
    potential: Potential, types: int, moments: Sequence[float] | None, values: dict[str, int]
) -> dict[str, Tensor]:
    """Inputs that the potential reads; refuses those that it lacks or does not read."""
    if moments is not None and "magmoms" not in potential.inputs:
        raise ValueError("the model reads no magnetic moments; leave moments out.")
    inputs: dict[str, Tensor] = {}
    if "magmoms" in potential.inputs:
        if moments is None or np.shape(moments) != (types,) or not np.isfinite(moments).all():
            raise ValueError(
                "the model reads magnetic moments; give moments=[...], one signed number in μ_B "
                f"for each of the {types} atom types (sublattices of an antiferromagnet have "
                "types of their own)."
            )
        table = torch.zeros(types + 1, 3, dtype=torch.float64)
        table[1:, 2] = torch.tensor(moments, dtype=torch.float64)
        inputs["magmoms"] = table
    constants = constant_inputs(potential, values)
    return inputs | {name: torch.tensor([value]) for name, value in constants.items()}
