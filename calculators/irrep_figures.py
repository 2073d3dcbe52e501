"""Pictures of the use of irreps: bars of errors and shares, and embeddings in two dimensions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..potentials.outputs import ERRORS
from .comparison import Array
from .figures import BLUE, GRAY, GREEN, ORANGE
from .irreps import IrrepUsage
from .projections import project

FINE = (0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.5, 2, 3)  # ticks of multiples
COARSE = (0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
SHARES = {"share": "of the features' square", "variance": "of their variance"}
SHARES["gradient"] = "of the output's gradient"


def usage_figure(usage: IrrepUsage) -> Figure:
    """Errors without each irrep, as multiples of the model's, above shares of its features."""
    quantities = list(usage.errors)
    labels = [
        f"{u.statistics.irrep}\n{u.statistics.stage}".replace(" ", "\n") for u in usage.stages
    ]
    place = np.arange(len(labels))
    width = max(5.0, 0.75 * len(labels))
    figure = Figure(figsize=(width, 2.4 * (len(quantities) + 1)), layout="constrained", dpi=150)
    panels = figure.subplots(len(quantities) + 1, 1, sharex=True)
    for axes, name in zip(panels, quantities, strict=False):
        for k, (edit, color) in enumerate((("zeroed", BLUE), ("shuffled", ORANGE))):
            ratio = [getattr(u, edit)[name] / usage.errors[name] for u in usage.stages]
            axes.bar(place + 0.4 * (k - 0.5), ratio, 0.38, color=color, label=edit)
        axes.axhline(1.0, color=GRAY, linestyle=":", label="as it is")
        short = name.removesuffix("_per_atom")
        text = f"{short} RMSE, times\n{usage.errors[name]:.3g} {ERRORS[short]}"
        axes.set(yscale="log", ylabel=text)
        low, high = axes.get_ylim()
        axes.set_yticks([x for x in (FINE if high < 3 else COARSE) if low <= x <= high])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    panels[0].legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    for k, (name, text) in enumerate(SHARES.items()):
        values = [getattr(u.statistics, name) for u in usage.stages]
        color = (BLUE, ORANGE, GREEN)[k]
        panels[-1].bar(place + 0.27 * (k - 1), values, 0.25, color=color, label=text)
    panels[-1].set(ylabel="share within\nthe stage", ylim=(0, 1))
    panels[-1].legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    panels[-1].set_xticks(place, labels, fontsize=8)
    figure.suptitle(f"{_name(usage)}: without one irrep of one stage", fontsize=11)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def embedding_figure(usage: IrrepUsage, colors: Array, meaning: str, method: str) -> Figure:
    """Embeddings of the frames, a panel for every irrep of every stage.

    Args:
        usage: with embeddings.
        colors: (F,) one number for each frame; NaN: grey.
        meaning: of these, for the colour bar.
        method: see :func:`.projections.project`.
    """
    columns = min(4, len(usage.embeddings))
    rows = math.ceil(len(usage.embeddings) / columns)
    figure = Figure(figsize=(2.7 * columns + 0.8, 2.6 * rows + 0.4), layout="constrained", dpi=150)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    points = None
    for axes, ((stage, irrep), values) in zip(panels, usage.embeddings.items(), strict=False):
        x, y = project(values, method).T
        known = ~np.isnan(colors)
        axes.scatter(x[~known], y[~known], color="0.8", s=14, linewidths=0)
        points = axes.scatter(
            x[known], y[known], c=colors[known], s=14, cmap="viridis", linewidths=0
        )
        axes.set_title(f"{stage}, {irrep}", fontsize=9)
        axes.set(xticks=[], yticks=[])
    for axes in panels[len(usage.embeddings) :]:
        axes.set_axis_off()
    if points is not None:
        figure.colorbar(points, ax=panels, label=meaning)
    figure.suptitle(f"{_name(usage)}: embeddings of {usage.frames} frames, {method}", fontsize=11)
    return figure


def _name(usage: IrrepUsage) -> str:
    """What a title has room for."""
    return Path(usage.model).name or "model"
