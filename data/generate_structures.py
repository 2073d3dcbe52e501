"""Make the packaged crystals, ``structures/mno-64.xyz`` and ``structures/hea-128.xyz``.

Ideal lattices, without a frame of any data set::

    python -m pointedge.data.generate_structures
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, reference_states
from ase.io import write

FOLDER = Path(__file__).parent / "structures"
# Å: where our own DFT (PBE+U, U = 4 eV) has the minimum of type-II antiferromagnetic MnO
# (examples/6_mno.py). μ_B: nominal, as in the frames of data/mno that models are trained on.
MNO_LATTICE, MNO_MOMENT = 4.514, 5.0
HEA_ELEMENTS = ("Mo", "Nb", "Ta", "W")
HEA_SEED = 0


def mno(repeat: int = 2, lattice: float = MNO_LATTICE, moment: float = MNO_MOMENT) -> Atoms:
    """Rock-salt MnO, cubic, with moments that alternate between (111) planes of Mn (AFM-II).

    Args:
        repeat: conventional cells along each axis; even, since the order doubles them.
        lattice: Å, of the conventional cell.
        moment: of Mn, μ_B; O has none.

    Raises:
        ValueError: ``repeat`` is odd.
    """
    if repeat % 2:
        raise ValueError(f"{repeat} cells do not hold a type-II order; give an even number.")
    atoms = bulk("MnO", "rocksalt", a=lattice, cubic=True).repeat(repeat)
    # Mn is at (i, j, k) a/2 with an even sum; planes of the order have equal ones.
    plane = np.rint(atoms.positions.sum(axis=1) / lattice).astype(int)
    moments = np.where(atoms.numbers == atomic_numbers["Mn"], (-1.0) ** plane * moment, 0.0)
    atoms.set_initial_magnetic_moments(moments)
    atoms.info["source"] = (
        f"ideal rock salt, a = {lattice:g} Å, moments of type-II antiferromagnetism"
    )
    return atoms


def alloy(repeat: int = 4, seed: int = HEA_SEED) -> Atoms:
    """Equal numbers of Mo, Nb, Ta and W on the sites of a bcc lattice, at random.

    The lattice constant is the mean of the elements' at room temperature (Vegard's rule), as in
    ``ase.data.reference_states`` (Ashcroft & Mermin, Solid State Physics).

    Args:
        repeat: conventional cells along each axis; even, for equal numbers.
        seed: of the permutation of the atoms.

    Raises:
        ValueError: ``repeat`` is odd.
    """
    if repeat % 2:
        raise ValueError(f"{2 * repeat**3} sites are not four times a number; give an even repeat.")
    numbers = [atomic_numbers[symbol] for symbol in HEA_ELEMENTS]
    states: Any = reference_states  # of mixed values
    lattice = float(np.mean([states[z]["a"] for z in numbers]))
    atoms = bulk("W", "bcc", a=lattice, cubic=True).repeat(repeat)
    shuffled = np.random.default_rng(seed).permutation(np.resize(numbers, len(atoms)))
    atoms.set_atomic_numbers(shuffled)
    atoms.info["source"] = (
        f"random bcc solid solution, seed {seed}, a = {lattice:g} Å by Vegard's rule"
    )
    return atoms


def main() -> None:
    """Write both files."""
    write(FOLDER / "mno-64.xyz", mno(), format="extxyz")
    write(FOLDER / "hea-128.xyz", alloy(), format="extxyz")


if __name__ == "__main__":
    main()
