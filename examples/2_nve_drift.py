"""How well is energy conserved? Microcanonical dynamics of water at several time steps.

    python examples/2_nve_drift.py [STRUCTURE] [--model pet-water] [--picoseconds 2]
        [--timesteps 0.5 0.25 1.0] [--symmetrize ecse]

For every time step: the fitted slope of the total energy with its error, and the rms fluctuation
around the line. Velocity Verlet conserves a shadow Hamiltonian, so that the fluctuation must fall
with the square of the step; a slope that does not vanish means forces that are not the derivative
of the energy, or an energy that jumps (at a cutoff, say).
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms

from pointedge.calculators import PotentialCalculator
from pointedge.calculators.cli.runs import read_structure
from pointedge.calculators.dynamics import MDSettings
from pointedge.calculators.md import run_md


def drift(
    atoms: Atoms, timestep: float, picoseconds: float, temperature: float, folder: Path
) -> tuple[float, ...]:
    """Slope and its error (meV/atom/ps), rms fluctuation (meV/atom) and mean temperature (K)."""
    settings = MDSettings(
        ensemble="nve",
        temperature=temperature,
        timestep=timestep,
        steps=round(1000 * picoseconds / timestep),
        interval=10**9,
        log_interval=max(1, round(1 / timestep)),
    )
    result = run_md(atoms, settings, folder / f"{timestep}")
    time, energy = result.thermo["time_ps"], result.thermo["conserved_eV"]
    residual = energy - np.polyval(np.polyfit(time, energy, 1), time)
    fluctuation = 1000 * residual.std() / len(atoms)
    return *result.energy_drift(), fluctuation, result.thermo["temperature_K"].mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structure", nargs="?", help="default: 64 packaged H2O")
    parser.add_argument("--model", default="pet-water")
    parser.add_argument("--symmetrize")
    parser.add_argument("--temperature", type=float, default=300.0, help="K, of drawn velocities")
    parser.add_argument("--picoseconds", type=float, default=2.0)
    parser.add_argument("--timesteps", type=float, nargs="+", default=[0.5, 0.25, 1.0])
    parser.add_argument("--dtype", default="float64")
    arguments = parser.parse_args()
    atoms = read_structure(arguments.structure)
    atoms.calc = PotentialCalculator(
        arguments.model, dtype=arguments.dtype, symmetrize=arguments.symmetrize
    )
    print(f"{'step fs':>8}{'slope':>10}{'± error':>10}  {'fluctuation':>12}{'T':>8}")
    print(f"{'':>8}{'meV/atom/ps':>20}  {'meV/atom':>12}{'K':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for timestep in arguments.timesteps:
            slope, error, fluctuation, temperature = drift(
                atoms, timestep, arguments.picoseconds, arguments.temperature, Path(folder)
            )
            print(
                f"{timestep:8.2f}{slope:10.4f}{error:10.4f}  {fluctuation:12.4f}{temperature:8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
