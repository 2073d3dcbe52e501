"""Make the packaged water box, ``structures/water-64.xyz``: packing, then our own dynamics.

No frame of a reference data set enters, so that a simulation started from the box is a test of the
model and not of its training set. Molecules are packed at random, equilibrated with a flexible
TIP3P model, and finally with the model that the box is packaged for. The first two stages take
minutes; ``--model`` continues from the stored box, or packs a new one with ``--pack``::

    python -m pointedge.data.generate_water_box --pack
    python -m pointedge.data.generate_water_box --model pet-water --picoseconds 5
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import all_changes
from ase.calculators.tip3p import TIP3P, angleHOH, rOH
from ase.constraints import FixCom
from ase.io import iread, write
from ase.md.langevin import Langevin
from ase.optimize import FIRE

BOX = Path(__file__).parent / "structures" / "water-64.xyz"
MOLECULES = 64
# 64 × 18.015 g/mol in (12.42 Å)³ is 0.999 g/cm³, water's density near room temperature.
EDGE = 12.42
TEMPERATURE = 300.0  # K


class FlexibleTIP3P(TIP3P):
    """TIP3P with harmonic bonds and angles, so that rigid molecules need no constraints.

    E = TIP3P + Σ k_b (r_OH - r_0)² + Σ k_a (θ - θ_0)², with the force constants of the CHARMM
    water model. Atoms are ordered O, H, H; molecules are whole.
    """

    bond_constant = 450 * units.kcal / units.mol  # eV/Å²
    angle_constant = 55 * units.kcal / units.mol  # eV/rad²

    def calculate(
        self,
        atoms: Any = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Add the springs to energy (eV) and forces (eV/Å) between rigid molecules."""
        super().calculate(atoms, properties, system_changes)
        positions = atoms.positions.reshape(-1, 3, 3)
        bonds = positions[:, 1:] - positions[:, :1]
        lengths = np.linalg.norm(bonds, axis=2)
        units_ = bonds / lengths[:, :, None]
        cosine = np.einsum("mx,mx->m", units_[:, 0], units_[:, 1])
        stretch = lengths - rOH
        bend = np.arccos(cosine) - np.radians(angleHOH)
        on_hydrogens = -2 * self.bond_constant * stretch[:, :, None] * units_
        # dθ/dr_a = -(u_b - u_a cos θ) / (|r_a| sin θ)
        slope = 2 * self.angle_constant * bend / np.sqrt(1 - cosine**2)
        across = units_[:, ::-1] - units_ * cosine[:, None, None]
        on_hydrogens += slope[:, None, None] * across / lengths[:, :, None]
        forces = self.results["forces"].reshape(-1, 3, 3)
        forces[:, 1:] += on_hydrogens
        forces[:, 0] -= on_hydrogens.sum(axis=1)
        self.results["energy"] += self.bond_constant * (stretch**2).sum()
        self.results["energy"] += self.angle_constant * (bend**2).sum()


def pack(rng: np.random.Generator, closest: float = 2.4) -> Atoms:
    """Insert water molecules at random, no two oxygen atoms closer than ``closest`` (Å).

    Positions are drawn uniformly and orientations over all rotations; a draw that comes too close
    to an earlier molecule is dropped. The result is a box of random, not yet relaxed, water.
    """
    single = molecule("H2O")
    single.positions -= single.positions[0]
    centers: list[np.ndarray] = []
    box = Atoms(cell=[EDGE] * 3, pbc=True)
    while len(centers) < MOLECULES:
        center = rng.uniform(0, EDGE, 3)
        offset = np.array(centers).reshape(-1, 3) - center
        offset -= EDGE * np.round(offset / EDGE)
        if (np.linalg.norm(offset, axis=1) < closest).any():
            continue
        turned = single.copy()
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turned.positions = turned.positions @ rotation + center
        centers.append(center)
        box += turned
    return box


def equilibrate(
    atoms: Atoms,
    picoseconds: float,
    rng: np.random.Generator,
    *,
    timestep: float = 0.5,
    friction: float = 0.01,
    report: Callable[[str], None] = print,
) -> None:
    """Run Langevin dynamics at 300 K in place; timestep in fs, friction in 1/fs."""
    atoms.set_constraint(FixCom())
    if not atoms.has("momenta"):
        spread = np.sqrt(atoms.get_masses() * units.kB * TEMPERATURE)
        atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * spread[:, None])
    dynamics = Langevin(
        atoms,
        timestep * units.fs,
        temperature_K=TEMPERATURE,
        friction=friction / units.fs,
        fixcm=False,
        rng=rng,
    )
    steps = round(1000 * picoseconds / timestep)
    for _ in dynamics.irun(steps):
        if dynamics.nsteps % max(steps // 20, 1) == 0:
            time = dynamics.nsteps * timestep / 1000
            energy = atoms.get_potential_energy() / MOLECULES
            report(f"{time:8.3f} ps {energy:14.4f} eV/molecule {atoms.get_temperature():7.1f} K")
    atoms.set_constraint()


def classical_box(picoseconds: float, rng: np.random.Generator) -> Atoms:
    """Pack a box and equilibrate it with flexible TIP3P."""
    atoms = pack(rng)
    # ASE's TIP3P cuts off whole molecules, at no more than half the edge.
    atoms.calc = FlexibleTIP3P(rc=EDGE / 2)
    FIRE(atoms, logfile=None, maxstep=0.05).run(fmax=1.0, steps=300)
    # Strong friction first: the packed box sheds several eV while hydrogen bonds form.
    equilibrate(atoms, 0.1 * picoseconds, rng, friction=0.05)
    equilibrate(atoms, 0.9 * picoseconds, rng)
    atoms.info["source"] = f"random packing, {picoseconds:g} ps flexible TIP3P NVT at 300 K"
    return atoms


def store(atoms: Atoms, path: Path) -> None:
    """Write positions and momenta, without the energies of the model that made them."""
    plain = atoms.copy()
    plain.calc = None
    write(path, plain, format="extxyz", columns=["symbols", "positions", "momenta"])


def main() -> None:
    """Pack a box or continue from the stored one, and store the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", action="store_true", help="pack a new box with TIP3P first")
    parser.add_argument("--classical-picoseconds", type=float, default=10, help="TIP3P stage, ps")
    parser.add_argument("--model", help="equilibrate with this model afterwards")
    parser.add_argument("--picoseconds", type=float, default=5, help="stage of the model, ps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--box", type=Path, default=BOX, help="file that is read and written")
    arguments = parser.parse_args()
    if not (arguments.pack or arguments.model):
        parser.error("give --pack, --model NAME, or both")
    rng = np.random.default_rng(arguments.seed)
    if arguments.pack:
        atoms = classical_box(arguments.classical_picoseconds, rng)
        store(atoms, arguments.box)
    if arguments.model:
        from pointedge.calculators.models import make_calculator

        atoms = next(iread(arguments.box, index=-1))
        atoms.calc = make_calculator(arguments.model)
        # The other model's molecules have other lengths and angles: a start from there is a shock.
        FIRE(atoms, logfile=None, maxstep=0.05).run(fmax=0.3, steps=80)
        equilibrate(atoms, arguments.picoseconds, rng)
        stage = f"{arguments.picoseconds:g} ps {arguments.model} NVT at 300 K"
        atoms.info["source"] = f"{atoms.info.get('source', 'unknown')}, {stage}"
        store(atoms, arguments.box)


if __name__ == "__main__":
    main()
