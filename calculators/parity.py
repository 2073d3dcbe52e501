"""The parity plot: predictions against labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .comparison import Array, Comparison

CROWD = 3000  # points of a panel that can still be told apart


def parity_plot(
    comparison: Comparison, captions: dict[str, str], path: str | Path, *, title: str = ""
) -> None:
    """Draw predictions against labels, a panel for each captioned quantity, on equal axes.

    Energies are per atom; all others are components. More than :data:`CROWD` points are drawn as a
    density, on a logarithmic scale.
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
    figure = Figure(figsize=(4.2 * len(captions), 4.4), layout="constrained", dpi=150)
    figure.suptitle(title)
    all_axes = figure.subplots(1, len(captions), squeeze=False)[0]
    for axes, (name, caption) in zip(all_axes, captions.items(), strict=True):
        per = c.sizes if name == "energy" else 1
        label, prediction = getattr(c, name) / per, getattr(c, f"predicted_{name}") / per
        known, text = ~np.isnan(prediction - label), texts[name]
        _panel(axes, label[known], prediction[known])
        axes.set(xlabel=f"label: {text}", ylabel=f"prediction: {text}")
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
        axes.text(0.04, 0.96, caption, transform=axes.transAxes, va="top", fontsize=9, bbox=box)
    figure.savefig(path)


def _panel(axes: Any, x: Array, y: Array) -> None:
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    margin = 0.05 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.axline((low, low), slope=1, color="0.5", linewidth=0.8, zorder=0)
    if x.size > CROWD:
        axes.hexbin(x, y, gridsize=80, extent=limits * 2, bins="log", cmap="viridis", mincnt=1)
    else:
        axes.scatter(x, y, s=6, alpha=0.6, linewidths=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.locator_params(nbins=4)
    axes.ticklabel_format(useOffset=False)
