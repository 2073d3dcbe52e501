"""Structures to audit a calculator with: given ones, or small ones of elements that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from ase.optimize import FIRE

from ...data.generate_structures import MNO_LATTICE, MNO_MOMENT, alloy
from ..inputs import bare
from ..models import potentials_of

LARGEST_FRAGMENT = 9  # atoms
VACUUM = 20.0  # Å
WATERS, WATER_EDGE = 8, 6.21  # molecules, Å: 1 g/cm³
QUENCH_STEPS, QUENCH_FORCE = 60, 0.5  # at most; eV/Å


def audit_structures(
    calculator: Any, given: Sequence[Atoms] = (), elements: Sequence[str] = (), seed: int = 0
) -> tuple[dict[str, Atoms], dict[str, str]]:
    """Structures by what they are: "free", "crystal" and "slab"; and what was said of the others.

    Of given structures the first of each kind; what is missing is made of these: a slab is the
    crystal with vacuum, a free structure a fragment of it. Without any, small ones are built of
    elements: water, MnO or a Mo-Nb-Ta-W alloy if the calculator knows their elements, else a random
    packing of the elements given. What is built is relaxed a little by the calculator itself, so
    that no atom sits where it would not go.

    Raises:
        ValueError: neither structures nor elements are known, or the calculator refuses them all.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Atoms] = {}
    for atoms in given:
        found.setdefault(_kind(atoms), bare(atoms))
    made: dict[str, Atoms] = {}
    if not found:
        made["crystal"] = _small_crystal(calculator, elements, rng)
        if set(made["crystal"].numbers) == {1, 8}:
            made["free"] = _waters(3, 3.0, rng)
    crystal = (found | made).get("crystal")
    if crystal is not None and "free" not in found | made:
        made["free"] = _fragment(crystal)
    refused: dict[str, str] = {}
    for name, atoms in made.items():
        try:
            found[name] = _quenched(atoms, calculator)
        except Exception as error:  # whatever a calculator says
            refused[name] = f"{type(error).__name__}: {error}"
    if "crystal" in found:
        found.setdefault("slab", _slab(found["crystal"]))
    for name in list(found):
        try:
            _probe(found[name], calculator)
        except Exception as error:  # whatever a calculator says
            refused[name] = f"{type(error).__name__}: {error}"
            del found[name]
    if not found:
        said = "; ".join(f"{name}: {text}" for name, text in refused.items())
        raise ValueError(f"the calculator takes none of the structures ({said}); give others.")
    order = [name for name in ("free", "crystal", "slab") if name in found]
    return {name: found[name] for name in order}, refused


def _probe(atoms: Atoms, calculator: Any) -> None:
    """Raise what the calculator raises, and ValueError for forces that are no numbers."""
    twin = atoms.copy()
    twin.calc = calculator
    if not np.isfinite(twin.get_forces()).all():
        raise ValueError("its forces are not finite")


def _kind(atoms: Atoms) -> str:
    periodic = int(np.sum(atoms.pbc))
    return {0: "free", 3: "crystal"}.get(periodic, "slab")


def _small_crystal(calculator: Any, elements: Sequence[str], rng: np.random.Generator) -> Atoms:
    species = [set(potential.species) for potential in potentials_of(calculator)]
    known = set.intersection(*species) if species else {_number(e) for e in elements}
    if not known:
        raise ValueError(
            "the calculator does not say which elements it knows; give structures, or --elements "
            "such as Cu,Au."
        )
    if {1, 8} <= known:
        return _waters(WATERS, WATER_EDGE / 2, rng, cell=True)
    if {25, 8} <= known:
        atoms = bulk("MnO", "rocksalt", a=MNO_LATTICE, cubic=True)
        signs = np.where(np.rint(2 * atoms.positions[:, 2] / MNO_LATTICE) % 2, -1.0, 1.0)
        atoms.set_initial_magnetic_moments(np.where(atoms.numbers == 25, signs * MNO_MOMENT, 0.0))
    elif {atomic_numbers[symbol] for symbol in ("Mo", "Nb", "Ta", "W")} <= known:
        atoms = alloy(2)
    else:
        atoms = _packing(sorted(known)[:4], rng)
    atoms.positions += rng.normal(scale=0.06, size=atoms.positions.shape)
    return atoms


def _number(symbol: str) -> int:
    """Atomic number of an element; ValueError for what is none."""
    if symbol not in chemical_symbols[1:]:
        raise ValueError(f"there is no element {symbol!r}; give symbols such as Cu,Au.")
    return atomic_numbers[symbol]


def _waters(count: int, spacing: float, rng: np.random.Generator, *, cell: bool = False) -> Atoms:
    """Molecules with random orientations on a cubic grid."""
    atoms = Atoms()
    side = int(np.ceil(count ** (1 / 3)))
    for site in list(np.ndindex(side, side, side))[:count]:
        water = molecule("H2O")
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        water.positions = (water.positions - water.positions[0]) @ rotation + spacing * np.array(
            site
        )
        atoms += Atoms(water.symbols, water.positions)
    if cell:
        atoms.set_cell(side * spacing * np.eye(3))
        atoms.pbc = True
    return atoms


def _packing(numbers: Sequence[int], rng: np.random.Generator) -> Atoms:
    """Eight atoms of these elements on a bcc lattice of touching neighbours, skewed a little."""
    chosen = rng.permutation(np.resize(numbers, 8))
    diameter = 2 * float(np.mean(covalent_radii[chosen]))
    atoms = bulk("W", "bcc", a=2 * diameter / np.sqrt(3), cubic=True).repeat((2, 2, 1))
    atoms.set_atomic_numbers(chosen)
    skew = np.eye(3) + 0.03 * rng.uniform(-1, 1, size=(3, 3))
    atoms.set_cell(np.asarray(atoms.cell) @ skew, scale_atoms=True)
    return atoms


def _fragment(crystal: Atoms) -> Atoms:
    """The atoms of a crystal that are nearest to the first one, as a free structure."""
    large = crystal.repeat(2) if len(crystal) < 64 else crystal.copy()
    center = np.asarray(large.cell).sum(axis=0) / 2
    first = int(np.linalg.norm(large.positions - center, axis=1).argmin())
    distances = np.linalg.norm(large.positions - large.positions[first], axis=1)
    fragment = large[np.sort(np.argsort(distances, kind="stable")[:LARGEST_FRAGMENT])]
    fragment.set_cell(None)
    fragment.pbc = False
    return fragment


def _slab(crystal: Atoms) -> Atoms:
    slab = crystal.copy()
    slab.pbc = (True, True, False)
    slab.center(vacuum=VACUUM / 2, axis=2)
    return slab


def _quenched(atoms: Atoms, calculator: Any) -> Atoms:
    """A few steps downhill."""
    twin = atoms.copy()
    twin.calc = calculator
    FIRE(twin, logfile=None, maxstep=0.1).run(fmax=QUENCH_FORCE, steps=QUENCH_STEPS)
    if hasattr(calculator, "reset"):
        calculator.reset()
    return bare(twin)
