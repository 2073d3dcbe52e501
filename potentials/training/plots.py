"""The picture of a run: learning curves, and predictions against labels."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import replacing
from ..outputs import ERRORS
from ..potential import Prediction
from .data import LABELS, Batch
from .folder import RunFolder
from .logs import read_log
from .settings import Loss

COLORS = dict(zip(LABELS, ("#2166ac", "#d6604d", "#1b7837", "#762a83", "#8c510a"), strict=True))
AXES = {
    "energy": "energy − baseline (eV/atom)",
    "forces": "force components (eV/Å)",
    "stress": "stress components (eV/Å³)",
    "dipole": "dipole components (e·Å)",
    "polarizability": "polarizability components (label unit)",
}
ENOUGH = 200_000  # values of a label that a picture is made of
CROWD = 3000  # points that can still be told apart
SHARE = 0.05  # of the time that drawing may take


class Picture:
    """``progress.png`` of a run.

    Args:
        folder: of the run, whose log is drawn.
        loss: what is trained; two of its labels get a parity plot.
    """

    def __init__(self, folder: RunFolder, loss: Loss) -> None:
        self.folder = folder
        self.labels = loss.labels
        self.relative = loss.normalization != "fixed"
        self._pairs: dict[str, list[NDArray[np.float64]]] = {}
        self._last, self._cost = -np.inf, 0.0

    def add(self, batch: Batch, prediction: Prediction) -> None:
        """Take note of the predictions of a validation."""
        for name in self.labels:
            pairs = self._pairs.setdefault(name, [])
            if sum(p.shape[1] for p in pairs) < ENOUGH:
                pairs.append(_pairs(name, batch, prediction))

    def draw(self, *, final: bool = False) -> str | None:
        """Draw, unless that has taken too much of the run's time; returns what went wrong.

        A picture that cannot be drawn is no reason to end a run.
        """
        start = time.monotonic()
        pairs = {name: np.concatenate(found, axis=1) for name, found in self._pairs.items()}
        self._pairs = {}
        if not final and start - self._last < self._cost / SHARE:
            return None
        try:
            rows = read_log(self.folder.log)
            figure = progress_figure(rows, pairs, relative=self.relative)
            with replacing(self.folder.plot) as file:
                figure.savefig(file, format="png", dpi=130)
        except (OSError, ValueError) as error:
            return f"{self.folder.plot.name} could not be drawn: {error}"
        self._last = time.monotonic()
        self._cost = self._last - start
        return None


def progress_figure(
    rows: list[dict[str, float]], pairs: dict[str, NDArray[np.float64]], *, relative: bool = True
) -> Any:
    """Draw the log of a run above predictions against labels of its last validation.

    Args:
        rows: of the log.
        pairs: labels and predictions (2, n), by name.
        relative: whether the loss divides errors by their own scale, and so need not fall.
    """
    from matplotlib.figure import Figure

    known = [name for name in sorted(pairs, key=_importance) if pairs[name].size][:2]
    figure = Figure(figsize=(9.6, 8.2 if known else 4.2), layout="constrained")
    grid = figure.subplots(2 if known else 1, 2, squeeze=False)
    _losses(grid[0, 0], rows, relative)
    _errors(grid[0, 1], rows)
    for k in range(2 if known else 0):
        if k < len(known):
            _parity(grid[1, k], known[k], *pairs[known[k]])
        else:
            grid[1, k].set_axis_off()
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _losses(axes: Any, rows: list[dict[str, float]], relative: bool) -> None:
    trained = [row for row in rows if "loss" in row]
    steps, losses = (np.array([row[key] for row in trained]) for key in ("step", "loss"))
    axes.plot(steps, losses, color="0.75", linewidth=0.8, label="loss")
    width = max(len(losses) // 50, 1)
    if width > 1:
        smooth = np.convolve(losses, np.full(width, 1 / width), mode="valid")
        middle = np.convolve(steps, np.full(width, 1 / width), mode="valid")
        axes.plot(middle, smooth, color="black", linewidth=1.6, label=f"mean of {width} rows")
    rates = axes.twinx()
    rates.plot(steps, [row["learning_rate"] for row in trained], "--", color="#b2182b", lw=1.0)
    rates.set_ylabel("learning rate", color="#b2182b")
    rates.tick_params(axis="y", colors="#b2182b")
    rates.set_ylim(bottom=0)
    rates.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    rates.spines["top"].set_visible(False)
    _logarithmic(axes, losses)
    title = "loss: errors relative to their scale" if relative else "loss"
    axes.set(xlabel="optimiser steps", ylabel="loss", title=title)
    axes.legend(frameon=False, loc="lower left", fontsize=9)


def _errors(axes: Any, rows: list[dict[str, float]]) -> None:
    shown: list[float] = []
    styles: dict[str, dict[str, Any]] = {
        "train": {"linewidth": 0.8, "alpha": 0.5},
        "validation": {"linewidth": 1.6, "marker": "o", "markersize": 3.5},
    }
    for name in LABELS:
        for kind, style in styles.items():
            points = [(r["step"], r[f"{kind}_{name}"]) for r in rows if f"{kind}_{name}" in r]
            if points:
                x, y = np.array(points).T
                last = f", last {y[-1]:.3g}" if kind == "validation" else ""
                label = f"{name}, {kind}{last} ({ERRORS[name]})"
                axes.plot(x, y, color=COLORS[name], label=label, **style)
                shown += y.tolist()
    _logarithmic(axes, np.array(shown))
    axes.set(xlabel="optimiser steps", ylabel="RMSE (units in the legend)", title="errors")
    axes.legend(frameon=False, fontsize=8)


def _parity(axes: Any, name: str, label: NDArray[np.float64], value: NDArray[np.float64]) -> None:
    parity_panel(axes, label, value, color=COLORS[name])
    rmse = 1000 * np.sqrt(np.mean((value - label) ** 2))
    text = f"RMSE {rmse:.3g} {ERRORS[name]}"
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=10)
    axes.set(title=f"{name}, last validation")
    axes.set(xlabel=f"label: {AXES[name]}", ylabel=f"prediction: {AXES[name]}")


def parity_panel(
    axes: Any, label: NDArray[np.float64], value: NDArray[np.float64], *, color: str | None = None
) -> None:
    """Predictions against labels (n,) on equal axes, with the diagonal.

    More than :data:`CROWD` points are drawn as a density, on a logarithmic scale.
    """
    low, high = min(label.min(), value.min()), max(label.max(), value.max())
    margin = 0.05 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.axline((low, low), slope=1, color="0.5", linewidth=0.8, zorder=0)
    if label.size > CROWD:
        axes.hexbin(
            label, value, gridsize=80, extent=limits * 2, bins="log", cmap="viridis", mincnt=1
        )
    else:
        axes.scatter(label, value, s=6, alpha=0.6, linewidths=0, color=color)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.locator_params(nbins=4)
    axes.ticklabel_format(useOffset=False)


def _logarithmic(axes: Any, values: NDArray[np.float64]) -> None:
    """A logarithmic y axis whose ticks are plain numbers, also within one decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if not (values > 0).any():
        return
    axes.set_yscale("log")
    narrow = np.nanmax(values) < 30 * np.nanmin(values[values > 0])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="0.9", linewidth=0.6)


def _pairs(name: str, batch: Batch, prediction: Prediction) -> NDArray[np.float64]:
    """Labels and predictions (2, n) of a batch, where there is a label."""
    label = getattr(batch, name)
    if name == "energy":
        atoms = batch.graph.structure.bincount(minlength=batch.graph.num_structures)
        label = (label - prediction.baseline) / atoms
        value = prediction.energy / atoms
    elif name == "forces":
        assert prediction.forces is not None  # validations always have them
        value = prediction.forces
    elif name == "stress":
        value = prediction.virial / batch.graph.volume()[:, None, None]
    else:
        value = prediction.moments[name]
    known = ~label.isnan()
    return np.stack([label[known].double().cpu().numpy(), value[known].double().cpu().numpy()])


def _importance(name: str) -> int:
    return ("forces", "energy", "dipole", "polarizability", "stress").index(name)
