"""What a rank of LAMMPS does for test_lammps.py: python -m ...lammps_runs OUT.

Runs every case, and writes the numbers to OUT (npz) from rank 0, by "case quantity".
"""

from __future__ import annotations

import sys

import numpy as np
from ase import Atoms
from ase.build import molecule

from pointedge.calculators.engines.lammps import attach, start

from ..conftest import charged_potential, small_potential

ELEMENTS = ["O", "H"]
MASSES = (15.999, 1.008)
VOIGT = (0, 1, 2, 5, 4, 3)  # of ASE, in LAMMPS's order
LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR = 0, 1
PRESSURES = ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")
STEPS = {"long": 40}  # of dynamics at constant energy; of the others 5


def potential(case):
    """Long: a cutoff so small that two ranks see parts of the box only, three steps of messages."""
    return small_potential(cutoff=2.0 if case == "long" else 3.5, scale=2.0)


def cases() -> dict[str, Atoms]:
    """Triclinic: 5.4 Å wide, so that ghosts are many images of the 16 atoms of a rank, or of 4."""
    rng = np.random.default_rng(3)
    cell = np.array([[5.4, 0, 0], [0.9, 5.6, 0], [-0.7, 0.4, 5.9]])
    grid = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1, 2, 3], indexing="ij"), -1).reshape(-1, 3)
    places = (grid / [2, 2, 4]) @ cell + rng.normal(scale=0.12, size=(16, 3))
    triclinic = Atoms("OH" * 8, positions=places, cell=cell, pbc=True)
    triclinic.wrap()
    # In a corner of the box: the other ranks are empty.
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += [2.5, 0.8, 0.3]
    pair.positions += 3.0
    clumped = Atoms(pair, cell=[16.0, 17.0, 18.0], pbc=True)
    slab = Atoms(pair, cell=[12.0, 5.0, 9.0], pbc=(False, True, False))
    grid = np.stack(np.meshgrid(np.arange(20), [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    places = grid * [2.0, 2.2, 2.2] + rng.normal(scale=0.15, size=(80, 3))
    long = Atoms("OH" * 40, positions=places, cell=[40.0, 4.4, 4.4], pbc=True)
    long.wrap()
    return {"triclinic": triclinic, "clumped": clumped, "slab": slab, "long": long}


def velocities(atoms):
    """In Å/ps, about 1,500 K."""
    masses = np.where(atoms.numbers == 8, *MASSES)
    drawn = np.random.default_rng(0).normal(size=(len(atoms), 3)) * 35 / np.sqrt(masses)[:, None]
    return drawn - (masses[:, None] * drawn).sum(axis=0) / masses.sum()


def simulation(atoms, settings="atom_modify map array"):
    """LAMMPS with the atoms of a case, whose cells are triangular, and no model."""
    lmp = start(["-log", "none", "-screen", "none"])
    periodic = " ".join("p" if axis else "f" for axis in atoms.pbc)
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = atoms.cell
    lmp.commands_string(
        f"units metal\natom_style atomic\nboundary {periodic}\n{settings}\n"
        + (
            f"region box prism 0 {lx} 0 {ly} 0 {lz} {xy} {xz} {yz}\n"
            if np.any([xy, xz, yz])
            else f"region box block 0 {lx} 0 {ly} 0 {lz}\n"
        )
        + f"create_box 2 box\nmass 1 {MASSES[0]}\nmass 2 {MASSES[1]}\n"
    )
    if len(atoms) == 0:
        return lmp
    types = [1 if z == 8 else 2 for z in atoms.numbers]
    speeds = velocities(atoms).ravel().tolist()
    ids = list(range(1, len(atoms) + 1))
    lmp.create_atoms(len(atoms), ids, types, atoms.positions.ravel().tolist(), speeds)
    lmp.commands_string(
        "compute e all pe/atom\ncompute s all stress/atom NULL virial\n"
        "compute sums all reduce sum c_e c_s[*]\n"
        "compute virial all pressure NULL virial\n"
        f"thermo_style custom step pe etotal {' '.join(PRESSURES)} vol c_sums[*] c_virial[*]\n"
    )
    return lmp


def state(lmp) -> dict[str, np.ndarray]:
    """Positions and forces by atom ID, and what is printed."""
    sums = lmp.extract_compute("sums", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR)
    virial = lmp.extract_compute("virial", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR)
    low, high, xy, yz, xz, _, _ = lmp.extract_box()
    return {
        "positions": np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3),
        "forces": np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3),
        "energy": np.array(lmp.get_thermo("pe")),
        "total": np.array(lmp.get_thermo("etotal")),
        "pressure": np.array([lmp.get_thermo(name) for name in PRESSURES]),
        "virial": np.array([virial[k] for k in VOIGT]),
        "energies of atoms": np.array(sums[0]),
        "stresses of atoms": np.array([sums[1 + k] for k in VOIGT]),
        "box": np.array([*low, *high, xy, yz, xz]),
    }


def run_case(case, atoms):
    """Numbers at rest, after dynamics at constant energy, and then at constant pressure."""
    lmp = simulation(atoms)
    attached = attach(lmp, potential(case), ELEMENTS)
    lmp.command("run 0 post no")
    found = {f"rest {name}": value for name, value in state(lmp).items()}
    found["rest atoms"] = np.array(lmp.get_mpi_comm().allgather(lmp.extract_setting("nlocal")))
    found["rest clearance"] = np.array(attached._domain.clearance)
    lmp.commands_string("timestep 0.0005\nfix move all nve\n")
    energies = []
    for _ in range(STEPS.get(case, 5) // 5):
        lmp.command("run 5 post no")
        energies.append(lmp.get_thermo("etotal"))
    found["nve energies"] = np.array(energies)
    found |= {f"nve {name}": value for name, value in state(lmp).items()}
    if case in ("triclinic", "long"):
        kind = "tri" if case == "triclinic" else "aniso"
        npt = f"fix move all npt temp 1500 1500 0.05 {kind} 1e4 1e4 0.2"
        lmp.commands_string(f"unfix move\n{npt}\nrun 10 post no\n")
        found |= {f"npt {name}": value for name, value in state(lmp).items()}
    lmp.close()
    return found


MOMENTS = (1.5, -0.5)


def spin_potential():
    """One that reads moments, with embeddings of them that matter."""
    return small_potential(typical_moment=1.0, scale=2.0)


def run_beside():
    """Newton's third law off; inputs; symmetrised; beside another pair style; a minimisation."""
    atoms = cases()["triclinic"]
    found = {}
    off = simulation(atoms, "newton off\natom_modify map array")
    attach(off, potential("triclinic"), ELEMENTS)
    off.command("run 0 post no")
    found |= {f"newton off {name}": value for name, value in state(off).items()}
    off.close()
    spins = simulation(atoms)
    attach(spins, spin_potential(), ELEMENTS, moments=MOMENTS)
    spins.command("run 0 post no")
    found |= {f"spins {name}": value for name, value in state(spins).items()}
    spins.close()
    charged = simulation(atoms)
    attach(charged, charged_potential(), ELEMENTS, charge=-2, spin=3)
    charged.command("run 0 post no")
    found |= {f"charged {name}": value for name, value in state(charged).items()}
    charged.close()
    symmetric = simulation(cases()["clumped"])
    attach(symmetric, potential("clumped"), ELEMENTS, symmetrize="ecse")
    symmetric.command("run 0 post no")
    found |= {f"symmetric {name}": value for name, value in state(symmetric).items()}
    symmetric.close()
    both = simulation(atoms)
    both.commands_string("pair_style lj/cut 3\npair_coeff * * 0.01 1.5\nrun 0 post no")
    found["pair energy"] = np.array(both.get_thermo("pe"))
    attach(both, potential("triclinic"), ELEMENTS)
    both.command("run 0 post no")
    found |= {f"both {name}": value for name, value in state(both).items()}
    both.command("minimize 0 1e-3 10 30")
    found |= {f"minimised {name}": value for name, value in state(both).items()}
    both.close()
    return found


def refusals():
    """What is said about bad input, by name; and whether a run works after one that failed."""
    atoms = cases()["long"]
    said = {}

    def refused(name, action):
        try:
            action()
            said[name] = ""
        except ValueError as error:
            said[name] = str(error)

    bare = start(["-log", "none", "-screen", "none"])
    refused("units", lambda: attach(bare, potential("long"), ELEMENTS))
    bare.command("units metal")
    refused("box", lambda: attach(bare, potential("long"), ELEMENTS))
    bare.close()
    nameless = simulation(Atoms(cell=[9, 9, 9], pbc=True), "atom_modify id no")
    nameless.command("create_atoms 1 random 4 1 NULL")
    attach(nameless, potential("long"), ELEMENTS)
    refused("names", lambda: nameless.command("run 0 post no"))
    nameless.close()
    lmp = simulation(atoms)
    refused("types", lambda: attach(lmp, potential("long"), ["O"]))
    refused("unknown", lambda: attach(lmp, potential("long"), ["O", "Xy"]))
    refused("foreign", lambda: attach(lmp, potential("long"), ["O", "Si"]))
    refused("moments", lambda: attach(lmp, potential("long"), ELEMENTS, moments=[1, 1]))
    refused("no moments", lambda: attach(lmp, "pet-mno", ["O", "Mn"]))
    attach(lmp, potential("long"), ELEMENTS)
    refused("twice", lambda: attach(lmp, potential("long"), ELEMENTS))
    lmp.command("run 0 post no")
    before = lmp.get_thermo("pe")
    lmp.command("comm_modify cutoff 4.0")
    refused("ghosts", lambda: lmp.command("run 0 post no"))
    lmp.command("comm_modify cutoff 10.0")
    x, y, z = atoms.positions[1] - atoms.positions[0] - [0.01, 0, 0]
    lmp.commands_string(f"group first id 1\ndisplace_atoms first move {x} {y} {z}\n")
    refused("overlap", lambda: lmp.command("run 3 post no"))
    lmp.command(f"displace_atoms first move {-x} {-y} {-z}")
    lmp.command("run 0 post no")
    said["after failures"] = "" if abs(lmp.get_thermo("pe") - before) < 1e-8 else "energies differ"
    texts = lmp.get_mpi_comm().allgather(list(said.values()))
    lmp.close()
    return {name: np.array([text[k] for text in texts]) for k, name in enumerate(said)}


def main(output):
    found = {}
    for case, atoms in cases().items():
        found |= {f"{case} {name}": value for name, value in run_case(case, atoms).items()}
    found |= {f"triclinic beside {name}": value for name, value in run_beside().items()}
    found |= {f"refusal {name}": texts for name, texts in refusals().items()}
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == 0:
        np.savez(output, **found)


if __name__ == "__main__":
    main(sys.argv[1])
