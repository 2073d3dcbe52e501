"""Pictures of the use of irreps: bars of errors and shares, and embeddings in two dimensions."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ..potentials.outputs import ERRORS
from .comparison import Array
from .figures import BLUE, GRAY, GREEN, ORANGE
from .irreps import IrrepUsage
from .projections import project

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
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}" if axes.get_ylim()[1] < 5 else NullFormatter())
    panels[0].legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    for k, (name, text) in enumerate(SHARES.items()):
        values = [getattr(u.statistics, name) for u in usage.stages]
        color = (BLUE, ORANGE, GREEN)[k]
        panels[-1].bar(place + 0.27 * (k - 1), values, 0.25, color=color, label=text)
    panels[-1].set(ylabel="share within\nthe stage", ylim=(0, 1))
    panels[-1].legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    panels[-1].set_xticks(place, labels, fontsize=8)
    figure.suptitle(f"{usage.model}: without one irrep of one stage", fontsize=11)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def embedding_figure(usage: IrrepUsage, colors: Array, meaning: str, method: str) -> Figure:
    """Embeddings of the frames, a panel for every irrep of every stage.

    Args:
        usage: with embeddings.
        colors: (F,) one number for each frame.
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
        points = axes.scatter(x, y, c=colors, s=14, cmap="viridis", linewidths=0)
        axes.set_title(f"{stage}, {irrep}", fontsize=9)
        axes.set(xticks=[], yticks=[])
    for axes in panels[len(usage.embeddings) :]:
        axes.set_axis_off()
    if points is not None:
        figure.colorbar(points, ax=panels, label=meaning)
    figure.suptitle(f"{usage.model}: embeddings of {usage.frames} frames, {method}", fontsize=11)
    return figure
