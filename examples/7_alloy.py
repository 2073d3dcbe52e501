"""A high-entropy alloy: elastic constants, and how its atoms move at high temperature.

    python examples/7_alloy.py [OUTPUT] [--model pet-hea] [--picoseconds 20] [--temperature 1200]
    python examples/7_alloy.py OUTPUT --analyse        # whatever length is there already

A random Mo-Nb-Ta-W crystal of 128 atoms is relaxed with its cell. Its elastic constants are slopes
of the stress at strains of up to 0.5 %, with relaxed atoms. Then its dynamics is run at constant
temperature and at that volume. Both go on where they were cut off when the script is started again.
Writes `elastic.npz` and `alloy.png` into the folder. All errors of the dynamics are of blocks.
"""

import argparse
import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pointedge.calculators.cli.options import print_table
from pointedge.calculators.cli.runs import md_progress, read_structure, set_calculator, stoppable
from pointedge.calculators.correlations import mean_square_displacement
from pointedge.calculators.dynamics import MDSettings
from pointedge.calculators.elasticity import CUBIC, ElasticConstants, elastic_constants
from pointedge.calculators.figures import BLUE, STYLES, draw_rdf, draw_temperature
from pointedge.calculators.md import run_md
from pointedge.calculators.models import make_calculator
from pointedge.calculators.motion import Motion, read_motion
from pointedge.calculators.relaxation import RelaxationSettings, relax
from pointedge.calculators.results import MDResult, read_run
from pointedge.calculators.trajectories import (
    ALL,
    block_average,
    block_radial_distribution,
)
from pointedge.potentials.files import replacing

RELAXED, ELASTIC, PICTURE = "relaxed.xyz", "elastic.npz", "alloy.png"
FRAME_FS = 10.0
BLOCKS = 8


def relaxed_crystal(structure: str | None, model: str, folder: Path) -> Atoms:
    """The structure at rest, cell and atoms, in float64; made once, and then read."""
    calculator = make_calculator(model, dtype=None if ":" in model else "float64")
    if not (folder / RELAXED).is_file():
        atoms = read_structure(structure, calculator)
        set_calculator(atoms, calculator)
        settings = RelaxationSettings(cell=True, fmax=0.002, smax=20.0, steps=2000)
        result = relax(atoms, settings)
        if not result.converged:
            raise SystemExit(f"the crystal is not at rest after {result.steps} steps of relaxation")
        ase.io.write(folder / RELAXED, result.atoms)
    atoms = ase.io.read(folder / RELAXED)
    set_calculator(atoms, calculator)
    return atoms


def constants(atoms: Atoms, folder: Path) -> ElasticConstants:
    """Elastic constants of the crystal; made once, and then read."""
    path = folder / ELASTIC
    if not path.is_file():

        def progress(done: int, all_: int) -> None:
            print(f"strained and relaxed: {done} of {all_}", file=sys.stderr, flush=True)

        found = elastic_constants(atoms, progress=progress)
        with replacing(path) as file:
            np.savez(file, **vars(found))
    with np.load(path) as stored:
        return ElasticConstants(**{k: v if v.shape else float(v) for k, v in stored.items()})


def vibrations(motion: Motion, symbol: str) -> tuple[float, float]:
    """Mean square displacement (Å²) of an element from its sites, and its error from blocks."""
    chosen = motion.symbols == symbol
    sites = motion.positions[:, chosen].mean(axis=0)
    squares = ((motion.positions[:, chosen] - sites) ** 2).sum(axis=2).mean(axis=1)
    return block_average(squares)


def farthest(motion: Motion) -> float:
    """Farthest way of an atom from its mean position, Å: over 1 Å it has left its site."""
    return float(np.linalg.norm(motion.positions - motion.positions.mean(axis=0), axis=2).max())


def report(result: MDResult, elastic: ElasticConstants, motion: Motion, start: float) -> None:
    """Print what came out, and of how much."""
    cubic = elastic.cubic()
    lattice = (2 * elastic.volume / len(result.atoms)) ** (1 / 3)
    rows = [("lattice constant, at rest", f"{lattice:.3f}", "", "", "Å")]
    for name, (value, fit, spread) in cubic.items():
        rows.append((name, f"{value:.1f}", f"± {fit:.1f}", f"± {spread:.1f}", "GPa"))
    zener = 2 * cubic["C44"][0] / (cubic["C11"][0] - cubic["C12"][0])
    rows.append(("bulk modulus", f"{elastic.bulk_modulus:.1f}", "", "", "GPa"))
    rows.append(("anisotropy 2 C44/(C11 - C12)", f"{zener:.2f}", "", "", ""))
    rows.append(("stress left without strain", f"{elastic.residual_stress:.3f}", "", "", "GPa"))
    print_table(("elastic constants", "value", "fit", "directions", "unit"), rows)
    print()
    late = result.thermo["time_ps"] >= start
    drift = result.energy_drift()
    asked = result.settings.steps * result.settings.timestep / 1000
    rows = [
        ("length reached", f"{result.picoseconds:.3f}", "", "ps"),
        ("asked for", f"{asked:g}", "", "ps"),
        ("left out at the start", f"{start:g}", "", "ps"),
        ("temperature", *numbers(*block_average(result.thermo["temperature_K"][late]), 1), "K"),
        ("pressure", *numbers(*block_average(result.thermo["pressure_bar"][late] / 1e4), 2), "GPa"),
        ("drift of conserved quantity", *numbers(*drift, 4), "meV/atom/ps"),
    ]
    for symbol in dict.fromkeys(sorted(motion.symbols)):
        rows.append(
            (f"mean square vibration of {symbol}", *numbers(*vibrations(motion, symbol), 4), "Å²")
        )
    rows.append(("farthest from its site", f"{farthest(motion):.2f}", "", "Å"))
    rows.append(("wall time", f"{result.milliseconds_per_step:.0f}", "", "ms/step"))
    print_table(("dynamics", "value", "error", "unit"), rows)


def numbers(value: float, error: float, digits: int) -> tuple[str, str]:
    """A value and its error for a table; errors that are not known stay empty."""
    return f"{value:.{digits}f}", f"± {error:.{digits}f}" if error == error else ""


def figure(result: MDResult, elastic: ElasticConstants, motion: Motion, start: float) -> Figure:
    """Four panels: stress against strain, g(r), mean square displacement, temperature."""
    canvas = Figure(figsize=(9.0, 6.6), layout="constrained")
    (stress, structure), (moves, temperature) = canvas.subplots(2, 2)
    _draw_stress(stress, elastic)
    stride = -(-len(motion.time) // 500)
    frames = list(result.iter_frames(result.frames - len(motion.time), stride))
    (rdf,) = block_radial_distribution(frames, [ALL], blocks=min(BLOCKS, len(frames)))
    draw_rdf(structure, rdf, BLUE)
    structure.set(xlim=(1.5, rdf.r[-1]), ylim=(0, None))
    lags = max(2, min(round(2.0 / motion.interval), len(motion.time) // 2))
    for symbol, (color, style) in zip(sorted(set(motion.symbols)), STYLES, strict=False):
        moved = mean_square_displacement(motion.positions[:, motion.symbols == symbol], lags)
        time = motion.interval * np.arange(lags)
        moves.plot(time, moved, color=color, linestyle=style, label=symbol)
    moves.set(xlabel="time (ps)", ylabel="mean square displacement (Å$^2$)")
    moves.set(xlim=(0, motion.interval * (lags - 1)), ylim=(0, None))
    for panel in (stress, structure, moves):
        panel.legend(frameon=False, loc="best")
    draw_temperature(temperature, result, start)
    for panel in canvas.axes:
        panel.spines[["top", "right"]].set_visible(False)
    canvas.suptitle(
        f"{len(result.atoms)} atoms of Mo-Nb-Ta-W: at rest under strain; at "
        f"{result.settings.temperature:g} K, {result.picoseconds:.1f} ps",
        fontsize=11,
    )
    return canvas


def _draw_stress(axes: Axes, elastic: ElasticConstants) -> None:
    """Stresses of equivalent directions, and the straight line of their mean constant."""
    percent = 100 * elastic.strains
    for (name, entries), (color, style) in zip(CUBIC.items(), STYLES, strict=False):
        slope = elastic.cubic()[name][0]
        line = slope * elastic.strains
        axes.plot(percent, line, color=color, linestyle=style, label=f"{name} = {slope:.0f} GPa")
        for component, direction in entries[:3]:
            axes.plot(percent, elastic.stresses[direction, :, component], ".", color=color)
    axes.set(xlabel="strain (%)", ylabel="stress (GPa)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", type=Path, default=Path("alloy"))
    parser.add_argument("--model", default="pet-hea")
    parser.add_argument("--structure", help="default: the packaged Mo-Nb-Ta-W crystal")
    parser.add_argument("--picoseconds", type=float, default=20.0)
    parser.add_argument("--timestep", type=float, default=2.0, help="fs")
    parser.add_argument("--temperature", type=float, default=1200.0, help="K")
    parser.add_argument("--equilibration", type=float, default=2.0, help="ps to leave out")
    parser.add_argument("--analyse", action="store_true", help="only what the folder holds")
    arguments = parser.parse_args()
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    with stoppable(folder):
        atoms = relaxed_crystal(arguments.structure, arguments.model, folder)
        elastic = constants(atoms, folder)
        if not arguments.analyse:
            settings = MDSettings(
                temperature=arguments.temperature,
                timestep=arguments.timestep,
                steps=round(1000 * arguments.picoseconds / arguments.timestep),
                interval=max(1, round(FRAME_FS / arguments.timestep)),
            )
            set_calculator(atoms, make_calculator(arguments.model))
            with md_progress(settings.steps, settings.timestep) as progress:
                run_md(atoms, settings, folder / "md", progress=progress)
    result = read_run(folder / "md")
    start = min(arguments.equilibration, result.picoseconds / 2)
    motion = read_motion(result.iter_frames()).after(start)
    report(result, elastic, motion, start)
    figure(result, elastic, motion, start).savefig(folder / PICTURE, dpi=150)
    print(folder / PICTURE)


if __name__ == "__main__":
    main()
