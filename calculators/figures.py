"""Pictures of simulations, drawn without any global state of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.formula import Formula
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .results import MDResult
from .trajectories import ALL, RDF, block_average, is_water

BLUE, ORANGE, GREEN, YELLOW, GRAY = "#2166ac", "#d6604d", "#1b7837", "#dfa729", "0.45"
# Dashes tell curves apart where colours do not.
STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (YELLOW, (0, (5, 1, 1, 1, 1, 1))))
# Å; longer than any O-H bond and shorter than any hydrogen bond
LONGEST_OH_BOND = 1.3


def md_figure(result: MDResult, rdfs: Sequence[RDF]) -> Figure:
    """Draw radial distribution functions above temperature and energy against time.

    Args:
        result: a finished run.
        rdfs: as of :meth:`MDResult.rdfs`; the first gets a panel of its own, the others share one.
            Empty for structures without a density, which show temperature and energy alone.
    """
    mosaic: list[Any] = [["temperature", "energy"]]
    if rdfs:
        mosaic.insert(0, ["first", "others" if len(rdfs) > 1 else "first"])
    figure = Figure(figsize=(9.0, 6.6 if rdfs else 3.5), layout="constrained")
    panels = figure.subplot_mosaic(mosaic)
    if rdfs:
        _draw_rdfs(panels["first"], rdfs[:1], is_water(result.atoms))
    if len(rdfs) > 1:
        _draw_rdfs(panels["others"], rdfs[1:], is_water(result.atoms))
    draw_temperature(panels["temperature"], result)
    _draw_energy(panels["energy"], result)
    formula = Formula(result.atoms.get_chemical_formula()).format("latex")
    if is_water(result.atoms):
        formula = f"{len(result.atoms) // 3} H$_2$O"
    settings = result.settings
    title = f"{formula}, {settings.ensemble.upper()}"
    if settings.ensemble != "nve":
        title += f" at {settings.temperature:g} K"
    if settings.ensemble == "npt":
        title += f" and {settings.pressure:g} bar"
    duration = result.thermo["time_ps"][-1]
    figure.suptitle(f"{title}, {duration:g} ps in steps of {settings.timestep:g} fs", fontsize=11)
    for panel in panels.values():
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_rdfs(axes: Axes, rdfs: Sequence[RDF], water: bool) -> None:
    """Curves g(r), with the first peak marked where it stands alone in its panel."""
    highest = 0.0
    for rdf, (color, style) in zip(rdfs, STYLES, strict=False):
        draw_rdf(axes, rdf, color, style)
        bonded = water and set(rdf.pair) == {"O", "H"}
        shown = rdf.g[rdf.r > LONGEST_OH_BOND] if bonded else rdf.g
        highest = max(highest, float(shown.max(initial=0.0)))
        if bonded:
            label = "covalent O–H peak\nexceeds this scale"
            axes.text(1.12, 0.97, label, transform=axes.get_xaxis_transform(), va="top", fontsize=8)
    axes.set_ylim(0, 1.3 * max(highest, 1.0))
    if len(rdfs) == 1 and not (water and rdfs[0].pair != ("O", "O")):
        _mark_peak(axes, rdfs[0])
    axes.set_xlim(0, rdfs[0].r[-1])
    axes.legend(frameon=False, loc="upper right")


def draw_rdf(axes: Axes, rdf: RDF, color: str, style: Any = "-") -> None:
    """Draw g(r), with its errors where they are known."""
    name = "$g$, all atoms" if rdf.pair == ALL else rf"$g_\mathrm{{{''.join(rdf.pair)}}}$"
    axes.axhline(1.0, color=GRAY, linewidth=0.8, linestyle=":")
    axes.plot(rdf.r, rdf.g, color=color, linestyle=style, linewidth=1.6, label=name)
    if rdf.error is not None:
        low, high = rdf.g - rdf.error, rdf.g + rdf.error
        axes.fill_between(rdf.r, low, high, color=color, alpha=0.3, linewidth=0)
    axes.set_xlabel("distance r (Å)")
    axes.set_ylabel("g(r)")


def _mark_peak(axes: Axes, rdf: RDF) -> None:
    try:
        position, height = rdf.first_peak()
    except ValueError:  # a gas, or too few frames: nothing to mark
        return
    axes.plot(position, height, "o", color=ORANGE, markersize=4)
    axes.annotate(
        f"{position:.2f} Å, {height:.2f}",
        (position, height),
        xytext=(14, 4),  # beside the falling flank, where even a noisy curve is low
        textcoords="offset points",
        fontsize=9,
    )


def draw_temperature(
    axes: Axes,
    result: MDResult,
    start: float | None = None,
    colors: tuple[str, str] = (BLUE, ORANGE),
) -> None:
    """Draw the temperature, and its mean from a time in ps on; default: of the second half."""
    color, color_of_mean = colors
    time, temperature = result.thermo["time_ps"], result.thermo["temperature_K"]
    axes.plot(time, temperature, color=color, linewidth=1.0 if len(time) < 2000 else 0.4)
    first = time[len(time) // 2] if start is None else start
    mean, error = block_average(temperature[time >= first])
    label = f"mean {mean:.1f} ± {error:.1f} K" if np.isfinite(error) else f"mean {mean:.1f} K"
    axes.plot([first, time[-1]], [mean, mean], color=color_of_mean, linewidth=2.0, label=label)
    if result.settings.ensemble != "nve":
        target = result.settings.temperature
        axes.axhline(target, color=GRAY, linestyle="--", linewidth=1.0, label="target")
    _frame_time(axes, time, "temperature (K)")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.25 * (high - low))  # room for the legend
    axes.legend(frameon=False, loc="upper right", ncols=2, fontsize=9)


def _draw_energy(axes: Axes, result: MDResult) -> None:
    time, count = result.thermo["time_ps"], len(result.atoms)
    total, conserved = result.thermo["total_eV"], result.thermo["conserved_eV"]
    axes.plot(time, 1e3 * (total - total[0]) / count, color=BLUE, linewidth=1.0, label="total")
    if result.settings.ensemble != "nve" and np.isfinite(conserved).all():
        change = 1e3 * (conserved - conserved[0]) / count
        axes.plot(time, change, color=ORANGE, linewidth=1.4, label="conserved quantity")
    _frame_time(axes, time, "energy since start (meV/atom)")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.25 * (high - low))
    axes.legend(frameon=False, loc="upper right", ncols=2, fontsize=9)


def _frame_time(axes: Axes, time: np.ndarray, ylabel: str) -> None:
    axes.set_xlim(time[0], time[-1])
    axes.set_xlabel("time (ps)")
    axes.set_ylabel(ylabel)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.locator_params(axis="x", nbins=5)
