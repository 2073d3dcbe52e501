#!/usr/bin/env python3
"""Make reference frames of rock-salt MnO with GPAW (Debian packages gpaw and gpaw-data).

    python generate.py random OUT FIRST LAST [STEP]   # numbers FIRST, FIRST + STEP, ... < LAST
    python generate.py pairs OUT A [A ...]            # lattice constants in Å
    python generate.py ideal OUT A [A ...]            # of these the undistorted ones
    python generate.py check NUMBER [NUMBER ...]      # labels of random frames, see check()
    python generate.py join FILE OUT [OUT ...]        # all frames of folders into one file

Spin-polarised PBE+U (Dudarev's form, U = 4 eV on Mn d), plane waves to 800 eV with an estimated
Pulay correction of the stress, 3x3x3 k-points, Fermi-Dirac smearing of 0.05 eV.

A random frame is drawn from its own number: a distortion of the 4-atom rhombohedral cell (type-II
antiferromagnetic, the ground state, or ferromagnetic) or of the 8-atom cubic cell (ferromagnetic,
type-I antiferromagnetic, or one of four moments reversed), lattice constant 4.30-4.65 Å, strains of
1.5 %, displacements of 0.02-0.15 Å. Pairs are both orders of the 4-atom cell in the same geometry,
ideal and distorted, so that their energies may be compared.

Each frame has REF_energy (eV, the free energy that the forces belong to), REF_forces (eV/Å),
REF_stress (eV/Å³, ASE's sign), initial_magmoms (nominal, 5 μ_B on Mn), REF_magmoms (found, μ_B),
spin_order, lattice_constant (Å, before strain), kind, frame and split. One whose moments changed
sign or collapsed has spin_order=other. Frames that exist are skipped; one that does not converge is
left out, with a message.
"""

import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import iread, write

ORDERS = {
    4: {"AFM-II": [1, -1], "FM": [1, 1]},
    8: {"FM": [1, 1, 1, 1], "AFM-I": [1, -1, -1, 1], "flip": [1, 1, 1, -1]},
}
PROBABILITIES = {4: [0.7, 0.3], 8: [0.3, 0.5, 0.2]}
MOMENT = 5.0  # μ_B, of Mn to start from
HELD_OUT, WINDOW = (4.35, 4.45, 4.55), 0.0125  # lattice constants, Å, and half a width about them
DISPLACEMENT, STRAIN = 0.01, 0.004  # Å, and a number: of finite differences


def rhombohedral(a: float) -> Atoms:
    """Mn2O2 with lattice constant a in Å."""
    cell = a / 2 * np.array([[2, 1, 1], [1, 2, 1], [1, 1, 2]], float)
    places = [[0, 0, 0], [0.5] * 3, [0.25] * 3, [0.75] * 3]
    return Atoms("Mn2O2", cell=cell, pbc=True, scaled_positions=places)


def cubic(a: float) -> Atoms:
    """Mn4O4 with lattice constant a in Å."""
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    places = np.vstack([fcc, fcc + np.full(3, 0.5)])
    return Atoms("Mn4O4", cell=a * np.eye(3), pbc=True, scaled_positions=places)


def distorted(atoms: Atoms, rng: np.random.Generator, sizes: list[float]) -> Atoms:
    """The structure strained by some 1.5 % and displaced by one of ``sizes``, Å per component."""
    atoms = atoms.copy()
    strain = rng.normal(0, 0.015, (3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += rng.normal(0, rng.choice(sizes), atoms.positions.shape)
    return atoms


def ordered(atoms: Atoms, order: str) -> Atoms:
    """The structure with the nominal moments of a spin order."""
    atoms = atoms.copy()
    signs = np.array(ORDERS[len(atoms)][order])
    atoms.set_initial_magnetic_moments(np.concatenate([MOMENT * signs, np.zeros(len(signs))]))
    atoms.info["spin_order"] = order
    return atoms


def random_frame(number: int) -> Atoms:
    """The frame of a number, always the same."""
    rng = np.random.default_rng(20260000 + number)
    a = rng.uniform(4.30, 4.65)
    atoms = rhombohedral(a) if number % 5 < 4 else cubic(a)
    orders = list(ORDERS[len(atoms)])
    order = orders[rng.choice(len(orders), p=PROBABILITIES[len(atoms)])]
    atoms = ordered(distorted(atoms, rng, [0.02, 0.05, 0.10, 0.15]), order)
    atoms.info.update(kind="random", frame=number, lattice_constant=a)
    return atoms


def paired_frames(a: float) -> list[Atoms]:
    """Both spin orders of the ideal 4-atom cell, and of one distortion of it."""
    rng = np.random.default_rng(round(1000 * a))
    geometries = {"ideal": rhombohedral(a), "distorted": distorted(rhombohedral(a), rng, [0.05])}
    frames = []
    for kind, atoms in geometries.items():
        for order in ORDERS[4]:
            atoms = ordered(atoms, order)
            atoms.info.update(kind=kind, frame=round(1000 * a), lattice_constant=a)
            frames.append(atoms)
    return frames


def split(atoms: Atoms) -> str:
    """What a frame is for: held-out lattice constants and all pairs are for tests alone."""
    a, random = atoms.info["lattice_constant"], atoms.info["kind"] == "random"
    if not random or min(abs(a - held_out) for held_out in HELD_OUT) < WINDOW:
        return "test"
    return "validation" if atoms.info["frame"] % 8 == 3 else "train"


def calculate(atoms: Atoms, plane_waves: float = 800, kpoints: int = 3) -> Atoms:
    """The frame with its labels, from plane waves to an energy in eV and kpoints³ k-points.

    The moments that were found may be of another spin order than the nominal ones.
    """
    from gpaw import GPAW, PW, FermiDirac, MixerDif

    atoms = atoms.copy()
    atoms.calc = GPAW(
        mode=PW(plane_waves, dedecut="estimate"),
        xc="PBE",
        setups={"Mn": ":d,4.0"},
        kpts={"size": (kpoints,) * 3},
        occupations=FermiDirac(0.05),
        convergence={"energy": 2e-5, "density": 3e-5},
        mixer=MixerDif(0.1, 5, weight=50),
        maxiter=120,
        txt=None,
    )
    energy = atoms.get_potential_energy(force_consistent=True)
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    found, nominal = atoms.get_magnetic_moments(), atoms.get_initial_magnetic_moments()
    manganese = atoms.numbers == 25
    if np.any(found[manganese] * nominal[manganese] < 3.0 * MOMENT):
        atoms.info["spin_order"] = "other"
    atoms.calc = None
    atoms.info.update(REF_energy=float(energy), REF_stress=stress.reshape(9))
    atoms.arrays.update(REF_forces=forces, REF_magmoms=found)
    return atoms


def make(folder: Path, frames: list[Atoms]) -> None:
    """Calculate the frames that the folder does not hold yet, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for atoms in frames:
        kind, number, order = (atoms.info[key] for key in ("kind", "frame", "spin_order"))
        target = folder / f"{kind}-{number:04d}-{order}.xyz"
        if target.exists():
            continue
        start = time.monotonic()
        try:
            atoms = calculate(atoms)
        except Exception as error:  # GPAW's own errors: no convergence, mostly
            print(f"{target.name} left out: {error}", flush=True)
            continue
        write(target, atoms, format="extxyz", write_results=False)
        largest = abs(atoms.arrays["REF_forces"]).max()
        seconds = time.monotonic() - start
        print(
            f"{target.name} {atoms.info['REF_energy']:.4f} eV, {atoms.info['spin_order']}, "
            f"largest force {largest:.2f} eV/Å, {seconds:.0f} s",
            flush=True,
        )


def join(target: Path, folders: list[Path]) -> None:
    """Write the frames of folders into one file, random ones first, with what they are for."""
    frames = [next(iread(path)) for folder in folders for path in folder.glob("*.xyz")]
    frames.sort(key=lambda a: (a.info["kind"] != "random", a.info["kind"], a.info["frame"]))
    for atoms in frames:
        atoms.info["split"] = split(atoms)
        print(" ".join(str(atoms.info[key]) for key in ("kind", "frame", "spin_order", "split")))
    write(target, frames, format="extxyz")


def strained(atoms: Atoms, strain: float) -> Atoms:
    """The frame stretched along x."""
    atoms = atoms.copy()
    deformation = np.eye(3)
    deformation[0, 0] += strain
    atoms.set_cell(np.asarray(atoms.cell) @ deformation, scale_atoms=True)
    return atoms


def displaced(atoms: Atoms, atom: int, axis: int, step: float) -> Atoms:
    """The frame with one atom moved."""
    atoms = atoms.copy()
    atoms.positions[atom, axis] += step
    return atoms


def slope(minus: Atoms, plus: Atoms, step: float) -> float:
    """Central difference of the energy."""
    energies = [calculate(atoms).info["REF_energy"] for atoms in (minus, plus)]
    return (energies[1] - energies[0]) / (2 * step)


def check(number: int) -> None:
    """Print largest force and stress along x, analytic and by differences of the energy.

    And how energy, forces and stress change with plane waves to 1,000 eV and 4x4x4 k-points.
    """
    start = random_frame(number)
    frame = calculate(start)
    forces, stress = frame.arrays["REF_forces"], frame.info["REF_stress"].reshape(3, 3)
    atom, axis = divmod(int(abs(forces).argmax()), 3)
    d = DISPLACEMENT
    found = -slope(displaced(start, atom, axis, -d), displaced(start, atom, axis, d), d)
    print(f"{number}: force {forces[atom, axis]:.4f}, difference {found:.4f} eV/Å", flush=True)
    found = slope(strained(start, -STRAIN), strained(start, STRAIN), STRAIN) / start.get_volume()
    print(f"{number}: stress {stress[0, 0]:.5f}, difference {found:.5f} eV/Å³", flush=True)
    for what, settings in (("1,000 eV", {"plane_waves": 1000}), ("4x4x4", {"kpoints": 4})):
        other = calculate(start, **settings)
        energy = 1000 * (other.info["REF_energy"] - frame.info["REF_energy"]) / len(start)
        force = abs(other.arrays["REF_forces"] - forces).max()
        change = abs(other.info["REF_stress"].reshape(3, 3) - stress).max()
        print(
            f"{number}: {what} changes energy by {energy:.2f} meV/atom, forces by up to "
            f"{force:.4f} eV/Å, stress by up to {change:.5f} eV/Å³",
            flush=True,
        )


def main(verb: str, first: str, *rest: str) -> None:
    """Run a verb of the command line, see above."""
    if verb == "random":
        make(Path(first), [random_frame(number) for number in range(*map(int, rest))])
    elif verb == "pairs":
        make(Path(first), [atoms for a in rest for atoms in paired_frames(float(a))])
    elif verb == "ideal":
        make(Path(first), [atoms for a in rest for atoms in paired_frames(float(a))[:2]])
    elif verb == "check":
        for number in (first, *rest):
            check(int(number))
    elif verb == "join":
        join(Path(first), [Path(name) for name in rest])
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
