"""An audit on one page: the table, what its failures mean, and the curves."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ...potentials.files import replacing
from .findings import COLUMNS, Curve, Finding, Status
from .runner import Report

COLOURS = {
    Status.PASS: "#1b7837",
    Status.WARN: "#b8860b",
    Status.FAIL: "#b2182b",
    Status.SKIP: "#777777",
}
PANELS = 3  # in a row
CROWD = 12  # curves of a panel that a legend can name
STYLE = (
    "body{font-family:sans-serif;max-width:70em;margin:2em auto;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.15em .7em;text-align:left;vertical-align:top}"
    "tr{border-top:1px solid #ddd}td.n{text-align:right;font-family:monospace}img{max-width:100%}"
)


def write_report(report: Report, path: Path) -> None:
    """Write a page (.html), or the table and curves alone (.png, .pdf, .svg)."""
    if path.suffix.lower() == ".html":
        content = _page(report).encode()
    else:
        buffer = io.BytesIO()
        curves_figure(report, table=True).savefig(buffer, format=path.suffix[1:].lower())
        content = buffer.getvalue()
    with replacing(path) as file:
        file.write(content)


def curves_figure(report: Report, *, table: bool) -> Figure:
    """Draw all curves, a panel for each name of one; below a table of the checks, if asked for."""
    panels: dict[str, list[Curve]] = {}
    for finding in report.findings:
        for curve in finding.curves:
            panels.setdefault(curve.panel, []).append(curve)
    rows = -(-len(panels) // PANELS)
    height = 0.24 * (len(report.findings) + 4) if table else 0.0
    figure = Figure(figsize=(13, max(height + 3.6 * rows, 1.0)), layout="constrained", dpi=120)
    parts: Any = figure
    if table:
        ratios = [height, 3.6 * rows] if rows else [height]
        upper, *rest = figure.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
        _draw_table(upper, report)
        parts = rest[0] if rest else None
    if rows:
        axes = parts.subplots(rows, PANELS, squeeze=False).ravel()
        for panel, (name, curves) in zip(axes, panels.items(), strict=False):
            _draw(panel, name, curves)
        for panel in axes[len(panels) :]:
            panel.set_axis_off()
    return figure


def _draw(axes: Any, name: str, curves: list[Curve]) -> None:
    for curve in curves:
        axes.plot(curve.x, curve.y, label=curve.label, linewidth=1.1)
    first = curves[0]
    axes.set(xlabel=first.x_label, ylabel=first.y_label)
    axes.set_title(name, fontsize=10)
    if "x" in first.log:
        axes.set_xscale("log")
    if "y" in first.log:
        axes.set_yscale("log")
    if 1 < len(curves) <= CROWD or first.label:
        axes.legend(fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_table(figure: Any, report: Report) -> None:
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_title(f"{report.model}: {_structures(report)}", fontsize=11, loc="left")
    lines = len(report.findings) + 1
    places = (0.0, 0.12, 0.2, 0.3, 0.4, 0.47)
    rows = [COLUMNS, *(finding.cells() for finding in report.findings)]
    for k, row in enumerate(rows):
        status = report.findings[k - 1].status if k else None
        for place, text in zip(places, row, strict=True):
            colour = COLOURS[status] if status is not None and text == status else "black"
            height = 1 - (k + 0.5) / lines
            axes.text(
                place, height, text, color=colour, fontsize=8, va="center", family="monospace"
            )


def _page(report: Report) -> str:
    """The whole page; its picture is inside, so that it is one file."""
    parts = [
        f"<!doctype html><meta charset='utf-8'><title>Audit of {html.escape(report.model)}</title>",
        f"<style>{STYLE}</style><h1>Audit of {html.escape(report.model)}</h1>",
        f"<p>{html.escape(_structures(report))}; {report.seconds:.0f} s.</p>",
        *(f"<p>Not taken: {html.escape(f'{k} ({v})')}</p>" for k, v in report.refused.items()),
        "<table><tr><th>check<th><th>found<th>limit<th>unit<th>of</tr>",
        *map(_html_row, report.findings),
        "</table>",
    ]
    if any(finding.curves for finding in report.findings):
        picture = io.BytesIO()
        curves_figure(report, table=False).savefig(picture, format="png")
        data = base64.b64encode(picture.getvalue()).decode()
        parts.append(f"<h2>Curves</h2><img alt='curves' src='data:image/png;base64,{data}'>")
    parts.append("<h2>What each check says</h2>")
    for finding in report.findings:
        check = finding.check
        notes = "".join(f"<br><small>{html.escape(note)}</small>" for note in finding.notes)
        parts.append(
            f"<p><b>{check.name}</b> (<span style='color:{COLOURS[finding.status]}'>"
            f"{finding.status}</span>): {html.escape(check.statement)} "
            f"<i>If not:</i> {html.escape(check.consequence)}{notes}</p>"
        )
    return "\n".join(parts) + "\n"


def _html_row(finding: Finding) -> str:
    name, status, value, limit, unit, what = (html.escape(text) for text in finding.cells())
    return (
        f"<tr><td>{name}<td style='color:{COLOURS[finding.status]}'>{status}<td class='n'>{value}"
        f"<td class='n'>{limit}<td>{unit}<td>{what}</tr>"
    )


def _structures(report: Report) -> str:
    return ", ".join(f"{name} {formula}" for name, formula in report.structures.items())
