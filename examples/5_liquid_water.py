"""Liquid water for long: structure, vibrations and diffusion of 64 molecules, with errors.

    python examples/5_liquid_water.py [OUTPUT] [--model pet-water] [--picoseconds 50]
    python examples/5_liquid_water.py OUTPUT --analyse        # whatever length is there already
    python examples/5_liquid_water.py FIRST SECOND --analyse  # runs with a --seed each, together

Runs for hours, and goes on where it was cut off when it is started again. Where cores are few, two
shorter runs, one on each, are done sooner than a long one on both. Writes `liquid-water.png` into
the (first) folder: radial distribution functions with errors, the vibrational density of states
from the velocity autocorrelation function, the mean square displacement, and the temperature. All
errors are of blocks: of what parts of the trajectory disagree on.
"""

import argparse
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path

import numpy as np
from ase.geometry import find_mic
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pointedge.calculators.cli.options import print_table
from pointedge.calculators.cli.runs import md_progress, read_structure, stoppable
from pointedge.calculators.correlations import (
    DensityOfStates,
    Diffusion,
    density_of_states,
    finite_size_correction,
    self_diffusion,
)
from pointedge.calculators.dynamics import MDSettings
from pointedge.calculators.figures import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    STYLES,
    YELLOW,
    draw_rdf,
    draw_temperature,
)
from pointedge.calculators.md import run_md
from pointedge.calculators.models import make_calculator
from pointedge.calculators.motion import Motion, read_motion
from pointedge.calculators.results import MDResult, read_run
from pointedge.calculators.trajectories import RDF, block_average, block_radial_distribution

PAIRS = [("O", "O"), ("O", "H"), ("H", "H")]
FRAME_FS = 2.5  # between frames; vibrations up to 6,670 1/cm are told apart
RDF_FRAMES = 1000
VISCOSITY = 0.896  # mPa·s, of water at 25 °C (Kestin et al., J. Phys. Chem. Ref. Data 7, 941, 1978)


def longest_bond(motion: Motion) -> float:
    """Longest distance (Å) of an H from the O that it was bound to in the first frame."""
    hydrogen, oxygen = (np.flatnonzero(motion.symbols == s) for s in "HO")
    first = motion.positions[0]
    pairs = (first[oxygen][None] - first[hydrogen][:, None]).reshape(-1, 3)
    distances = find_mic(pairs, motion.cell)[1].reshape(len(hydrogen), len(oxygen))
    owners = oxygen[distances.argmin(axis=1)]
    bonds = motion.positions[:, hydrogen] - motion.positions[:, owners]
    images = np.rint(bonds[0] @ np.linalg.inv(motion.cell))  # an O across the cell; never wrapped
    return float(np.linalg.norm(bonds - images @ motion.cell, axis=2).max())


def diffusion(motions: list[Motion]) -> Diffusion | None:
    """Self-diffusion of O from lags of 1 to 4 ps or less; None where there are not 4 ps in all."""
    length = min(motion.time[-1] - motion.time[0] for motion in motions)
    return self_diffusion(motions, "O", fit=(1.0, min(4.0, length / 2.1))) if length > 4 else None


def spectra(motions: list[Motion]) -> list[DensityOfStates]:
    """Vibrational density of states of H and O, with a window of 1 ps or what there is."""
    window = min(1.0, min(motion.time[-1] - motion.time[0] for motion in motions) / 2.1)
    return [density_of_states(motions, symbol, window=window) for symbol in "HO"]


def together(measured: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Mean of independent values, and its error."""
    values, errors = np.transpose(list(measured))
    return float(values.mean()), float(np.sqrt((errors**2).sum()) / len(errors))


def report(
    results: list[MDResult],
    starts: list[float],
    motions: list[Motion],
    rdfs: list[RDF],
    diffused: Diffusion | None,
) -> None:
    """Print what came out, and of how much."""
    temperatures = [
        block_average(result.thermo["temperature_K"][result.thermo["time_ps"] >= start])
        for result, start in zip(results, starts, strict=True)
    ]
    temperature, error = together(temperatures)
    drift, drift_error = together(result.energy_drift() for result in results)
    asked = [result.settings.steps * result.settings.timestep / 1000 for result in results]
    rows = [
        ("length reached", " + ".join(f"{result.picoseconds:.3f}" for result in results), "", "ps"),
        ("asked for", " + ".join(f"{length:g}" for length in asked), "", "ps"),
        ("left out at the start", " + ".join(f"{start:g}" for start in starts), "", "ps"),
        ("temperature", f"{temperature:.1f}", f"± {error:.1f}", "K"),
        ("drift of conserved quantity", f"{drift:.4f}", f"± {drift_error:.4f}", "meV/atom/ps"),
    ]
    for rdf in rdfs:
        beyond = 1.3 if set(rdf.pair) == {"O", "H"} else 1.8 if rdf.pair == ("H", "H") else 0.0
        position, height = rdf.first_peak(r_min=beyond)
        spread = rdf.error[np.argmin(abs(rdf.r - position))]
        rows.append((f"first peak of {rdf.name}", f"{position:.2f}", "", "Å"))
        rows.append(("its height", f"{height:.2f}", f"± {spread:.2f}", ""))
    rows.append(("longest O-H bond", f"{max(map(longest_bond, motions)):.2f}", "", "Å"))
    if diffused is not None:
        edge = np.linalg.det(motions[0].cell) ** (1 / 3)
        missing = finite_size_correction(temperature, VISCOSITY, edge)
        value, spread = 10 * diffused.coefficient, 10 * diffused.error
        known = f"± {spread:.2f}" if spread == spread else ""
        rows.append(("self-diffusion in this cell", f"{value:.2f}", known, "1e-9 m²/s"))
        rows.append(("what its size takes, about", f"{10 * missing:.2f}", "", "1e-9 m²/s"))
    wall = np.mean([result.milliseconds_per_step for result in results])
    rows.append(("wall time", f"{wall:.0f}", "", "ms/step"))
    print_table(("quantity", "value", "error", "unit"), rows)
    if diffused is not None:
        print(
            f"Diffusion: slope between lags of {diffused.fit[0]:.2g} and {diffused.fit[1]:.2g} ps, "
            f"{diffused.blocks} blocks. A periodic cell slows it down; the correction (Yeh & "
            f"Hummer) takes the viscosity of real water, {VISCOSITY} mPa·s, not the model's."
        )


def figure(
    results: list[MDResult],
    starts: list[float],
    rdfs: list[RDF],
    states: list[DensityOfStates],
    diffused: Diffusion | None,
) -> Figure:
    """Four panels: g(r), density of states, mean square displacement, temperature."""
    canvas = Figure(figsize=(9.0, 6.6), layout="constrained")
    (structure, vibrations), (motion, temperature) = canvas.subplots(2, 2)
    for rdf, (color, style) in zip(rdfs, STYLES, strict=False):
        draw_rdf(structure, rdf, color, style)
    structure.set(xlim=(1.2, rdfs[0].r[-1]), ylim=(0, 3.6))
    _draw_vibrations(vibrations, states)
    if diffused is None:
        motion.set_axis_off()
        motion.text(0.5, 0.5, "too short for diffusion", ha="center", color=GRAY)
    else:
        _draw_diffusion(motion, diffused)
    for panel in (structure, vibrations, motion):
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False, loc="upper right")
    _draw_temperatures(temperature, results, starts)
    for panel in canvas.axes:
        panel.spines[["top", "right"]].set_visible(False)
    first, length = results[0], " + ".join(f"{result.picoseconds:.1f}" for result in results)
    canvas.suptitle(
        f"{len(first.atoms) // 3} H$_2$O at {first.settings.temperature:g} K, {length} ps in steps "
        f"of {first.settings.timestep:g} fs",
        fontsize=11,
    )
    return canvas


def _draw_vibrations(axes: Axes, states: list[DensityOfStates]) -> None:
    for dos, (color, style), many in zip(states, STYLES, (2, 1), strict=False):
        low, high = (many * (dos.density + s * dos.error) for s in (-1, 1))
        axes.plot(
            dos.wavenumbers,
            many * dos.density,
            color=color,
            linestyle=style,
            linewidth=1.4,
            label=dos.symbol,
        )
        if np.isfinite(low).all():
            axes.fill_between(dos.wavenumbers, low, high, color=color, alpha=0.3, linewidth=0)
    axes.set(xlim=(0, 4400), ylim=(0, None))
    axes.set(xlabel="wavenumber (cm$^{-1}$)")
    axes.set_ylabel("vibrations per molecule and cm$^{-1}$")


def _draw_temperatures(axes: Axes, results: list[MDResult], starts: list[float]) -> None:
    pairs = cycle(((BLUE, ORANGE), (GREEN, YELLOW)))
    for result, start, colors in zip(results, starts, pairs, strict=False):
        draw_temperature(axes, result, start, colors)
    low, high = axes.dataLim.intervaly
    axes.set_ylim(low, high + 0.25 * (high - low))  # room for the legend, once
    axes.set_xlim(0, max(result.picoseconds for result in results))
    drawn, names = axes.get_legend_handles_labels()
    once = dict(zip(names, drawn, strict=True))
    axes.legend(once.values(), once.keys(), frameon=False, loc="upper right", ncols=2, fontsize=9)


def _draw_diffusion(axes: Axes, diffused: Diffusion) -> None:
    axes.plot(diffused.lags, diffused.displacement, color=BLUE, label="O atoms")
    fitted = diffused.lags >= diffused.fit[0]
    line = np.polyfit(diffused.lags[fitted], diffused.displacement[fitted], 1)
    value = f"D = {10 * diffused.coefficient:.2f}"
    if diffused.error == diffused.error:
        value += f" ± {10 * diffused.error:.2f}"
    axes.plot(
        diffused.lags[fitted],
        np.polyval(line, diffused.lags[fitted]),
        "--",
        color=ORANGE,
        label=value + r" $\times 10^{-9}$ m$^2$/s, this cell",
    )
    axes.set(xlim=(0, diffused.lags[-1]), xlabel="time (ps)")
    axes.set_ylabel("mean square displacement (Å$^2$)")
    axes.set_ylim(0, 1.25 * diffused.displacement.max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("outputs", nargs="*", type=Path, default=[Path("liquid-water")])
    parser.add_argument("--model", default="pet-water")
    parser.add_argument("--picoseconds", type=float, default=50.0)
    parser.add_argument("--timestep", type=float, default=0.5, help="fs")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--seed", type=int, default=0, help="of velocities and thermostat")
    parser.add_argument("--equilibration", type=float, default=2.0, help="ps to leave out")
    parser.add_argument("--analyse", action="store_true", help="only what the folder holds")
    arguments = parser.parse_args()
    folder, *others = arguments.outputs
    if arguments.analyse:
        results = [read_run(output) for output in arguments.outputs]
    elif others:
        parser.error("run one folder at a time, each with a --seed, and --analyse them together")
    else:
        settings = MDSettings(
            temperature=arguments.temperature,
            timestep=arguments.timestep,
            steps=round(1000 * arguments.picoseconds / arguments.timestep),
            interval=max(1, round(FRAME_FS / arguments.timestep)),
            seed=arguments.seed,
        )
        calculator = make_calculator(arguments.model)
        atoms = read_structure(None, calculator)
        atoms.calc = calculator
        progress = md_progress(settings.steps, settings.timestep)
        with stoppable(folder), progress as report_step:
            results = [run_md(atoms, settings, folder, progress=report_step)]
    starts = [min(arguments.equilibration, result.picoseconds / 2) for result in results]
    motions, frames = [], []
    for result, start in zip(results, starts, strict=True):
        motions.append(read_motion(result.iter_frames()).after(start))
        stride = -(-len(motions[-1].time) // RDF_FRAMES)
        frames += list(result.iter_frames(result.frames - len(motions[-1].time), stride))
    rdfs = block_radial_distribution(frames, PAIRS)
    diffused = diffusion(motions)
    report(results, starts, motions, rdfs, diffused)
    path = folder / "liquid-water.png"
    figure(results, starts, rdfs, spectra(motions), diffused).savefig(path, dpi=150)
    print(path)


if __name__ == "__main__":
    main()
