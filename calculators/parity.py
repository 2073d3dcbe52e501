"""The parity plot: predictions against labels, and errors against standard deviations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..potentials.calibration import Calibration
from ..potentials.files import replacing
from ..potentials.training.plots import CROWD, parity_panel
from .comparison import Comparison


def parity_plot(
    comparison: Comparison,
    captions: dict[str, str],
    path: str | Path,
    *,
    calibrations: dict[str, Calibration] | None = None,
    title: str = "",
) -> None:
    """Draw predictions against labels, a panel for each captioned quantity.

    Energies are per atom; all others are components. What has a calibration gets a panel of errors
    against standard deviations beside them.
    """
    from matplotlib.figure import Figure

    c = comparison
    texts = {
        "energy": "energy (eV/atom)",
        "forces": "force components (eV/Å)",
        "stress": "stress components (eV/Å³)",
        "dipole": "dipole components (e·Å)",
        "polarizability": "polarizability components (label unit)",
    }
    calibrations = calibrations or {}
    panels = len(captions) + len(calibrations)
    figure = Figure(figsize=(4.2 * panels, 4.4), layout="constrained", dpi=150)
    figure.suptitle(title)
    left, right = np.split(figure.subplots(1, panels, squeeze=False)[0], [len(captions)])
    for axes, (name, caption) in zip(left, captions.items(), strict=True):
        per = c.sizes if name == "energy" else 1
        label, prediction = getattr(c, name) / per, getattr(c, f"predicted_{name}") / per
        known, text = ~np.isnan(prediction - label), texts[name]
        parity_panel(axes, label[known], prediction[known])
        axes.set(xlabel=f"label: {text}", ylabel=f"prediction: {text}")
        _caption(axes, caption)
    for axes, (name, found) in zip(right, calibrations.items(), strict=True):
        _errors_against_stds(axes, c, name, texts[name])
        _caption(axes, str(found).replace("; ", "\n"), low=True)
    path = Path(path)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower())


def _caption(axes: Any, text: str, *, low: bool = False) -> None:
    height, align = (0.04, "bottom") if low else (0.96, "top")
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
    axes.text(0.04, height, text, transform=axes.transAxes, va=align, fontsize=9, bbox=box)


def _errors_against_stds(axes: Any, c: Comparison, name: str, text: str) -> None:
    """Sizes of errors over standard deviations, with lines of one and two of these.

    And root mean squares of tenths of them, from the smallest standard deviations to the largest:
    on the line of one standard deviation where a model knows how sure it is.
    """
    per = c.sizes if name == "energy" else 1
    x, y = getattr(c, f"{name}_std") / per, np.abs(c.error(name) / per)
    shown = (x > 0) & (y > 0)
    x, y = x[shown], y[shown]
    axes.set(xscale="log", yscale="log")
    if x.size > CROWD:
        axes.hexbin(
            x, y, gridsize=80, xscale="log", yscale="log", bins="log", cmap="viridis", mincnt=1
        )
    else:
        axes.scatter(x, y, s=6, alpha=0.6, linewidths=0)
    if x.size:
        ends = np.array([x.min(), x.max()])
        for factor, style in ((1, "-"), (2, "--")):
            axes.plot(ends, factor * ends, style, color="0.3", linewidth=0.8, label=f"{factor} std")
        if x.size >= 100:  # the mean of squares is what a standard deviation speaks of
            tenths = np.array_split(np.argsort(x), 10)
            roots = [np.sqrt([np.mean(v[t] ** 2) for t in tenths]) for v in (x, y)]
            axes.plot(*roots, "o-", color="#d6604d", markersize=3, label="rms of tenths")
        axes.set_ylim(bottom=0.01 * x.min())  # smaller errors tell nothing
        axes.legend(loc="upper left", fontsize=9)
    axes.set(xlabel=f"standard deviation: {text}", ylabel=f"error: {text}")
