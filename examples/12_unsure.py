"""When does a simulation leave what its model has learned? Water that is heated until it does.

    python examples/12_unsure.py [OUTPUT] [--model mace-water-ensemble] [--limit 0.3]

Four models that were trained on different frames, all near 300 K, move the liquid together while
Langevin dynamics heats it by 2 K per fs; the largest standard deviation of a force component tells
when they cease to agree. Frames above the limit go to `unsure.xyz`, without labels: a reference
calculation of the few that `pointedge select` picks is what the models lack. Prints a table, and
writes `unsure.png`.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from matplotlib.figure import Figure

from pointedge.calculators.cli.options import print_table
from pointedge.calculators.cli.runs import read_structure
from pointedge.calculators.dynamics import draw_velocities
from pointedge.calculators.figures import BLUE, GRAY, ORANGE
from pointedge.calculators.models import make_calculator
from pointedge.calculators.monitor import Limits, UncertaintyMonitor

START, RATE = 300.0, 2.0  # K, K/fs
TIMESTEP, REST = 0.5, 100.0  # fs; the first of these at the start's temperature
FRICTION = 0.02  # 1/fs
BINS = 6


def heat(atoms: Atoms, last: float, limits: Limits, output: Path) -> np.ndarray:
    """Heat to a last temperature, K; rows of time (fs), temperature, mean and largest std."""
    random = np.random.default_rng(0)
    draw_velocities(atoms, START, random)
    atoms.set_constraint(FixCom())
    dynamics = Langevin(
        atoms,
        TIMESTEP * units.fs,
        temperature_K=START,
        friction=FRICTION / units.fs,
        fixcm=False,
        rng=random,
    )
    dynamics.attach(UncertaintyMonitor(dynamics, limits, output))
    rows = []

    def look() -> None:
        time = dynamics.nsteps * TIMESTEP
        dynamics.set_temperature(temperature_K=START + RATE * max(0.0, time - REST))
        stds = atoms.calc.results["forces_std"]
        rows.append((time, atoms.get_temperature(), np.sqrt(np.mean(stds**2)), stds.max()))

    dynamics.attach(look)
    dynamics.run(round((REST + (last - START) / RATE) / TIMESTEP))
    return np.array(rows)


def figure(rows: np.ndarray, limit: float) -> Figure:
    """Temperature, and standard deviations of forces, against time."""
    canvas = Figure(figsize=(7.0, 4.6), layout="constrained")
    above, below = canvas.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    time = rows[:, 0] / 1000
    above.plot(time, rows[:, 1], color=GRAY, linewidth=1.0)
    above.set(ylabel="temperature (K)", xlim=(0, time[-1]))
    below.semilogy(time, rows[:, 3], color=ORANGE, linewidth=1.0, label="largest")
    below.semilogy(time, rows[:, 2], color=BLUE, linewidth=1.4, label="root mean square")
    below.axhline(limit, color="black", linewidth=0.8, linestyle="--", label="limit")
    below.set(xlabel="time (ps)", ylabel="standard deviation of\nforce components (eV/Å)")
    below.legend(frameon=False, ncols=3, loc="upper left")
    for panel in canvas.axes:
        panel.spines[["top", "right"]].set_visible(False)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", type=Path, default=Path("unsure"))
    parser.add_argument("--model", default="mace-water-ensemble", help="an ensemble")
    parser.add_argument("--structure", help="default: 64 packaged H2O")
    parser.add_argument("--limit", type=float, default=0.3, help="eV/Å")
    parser.add_argument("--last", type=float, default=1200.0, help="temperature, K")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    frames = arguments.output / "unsure.xyz"
    frames.unlink(missing_ok=True)
    atoms = read_structure(arguments.structure)
    atoms.calc = make_calculator(arguments.model)
    limits = Limits(forces=arguments.limit, action="store", spacing=50)
    rows = heat(atoms, arguments.last, limits, frames)
    table = [
        (f"{part[0, 0]:.0f}-{part[-1, 0]:.0f}", *(f"{x:.4g}" for x in part[:, 1:].mean(axis=0)))
        for part in np.array_split(rows, BINS)
    ]
    print_table(("fs", "temperature, K", "force std, eV/Å: rms", "largest"), table)
    passed = np.flatnonzero(rows[:, 3] > arguments.limit)
    where = "never" if not len(passed) else f"first at {rows[passed[0], 0]:.0f} fs"
    print(f"above {arguments.limit:g} eV/Å: {where}, in {len(passed) / len(rows):.0%} of all steps")
    figure(rows, arguments.limit).savefig(arguments.output / "unsure.png", dpi=150)
    print(arguments.output / "unsure.png")


if __name__ == "__main__":
    main()
