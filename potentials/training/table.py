"""The table before a training: what the sets of frames are, and what is suspicious about them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from .kinds import KINDS
from .summary import Range, Summary

SHORTEST = 4  # pairs of elements that are shown, the closest by their atoms' size


def table(summaries: Sequence[Summary]) -> list[tuple[str, ...]]:
    """Rows of the table: a quantity with its unit, and one cell for each set."""
    labels = [n for n in KINDS if any(n in s.labels for s in summaries) or n in list(KINDS)[:3]]
    pairs = _pairs(summaries)
    rows = [
        ("", *(s.name for s in summaries)),
        ("frames", *(f"{s.frames:,}" for s in summaries)),
        ("atoms", *(_atoms(s) for s in summaries)),
        ("elements", *(_counts(s.elements, s.atoms) for s in summaries)),
        ("periodic axes", *(_periodic(s) for s in summaries)),
        ("copies of others", *(f"{s.duplicates:,}" for s in summaries)),
        *((_title(n), *(_range(n, s.labels.get(n)) for s in summaries)) for n in labels),
    ]
    if any(s.net_force for s in summaries):
        cells = [f"up to {s.net_force.value:.2g}" if s.net_force else "" for s in summaries]
        rows.append(("sum of a frame's forces, eV/Å", *cells))
    if any(s.stress_check for s in summaries):
        cells = [s.stress_check.verdict if s.stress_check else "" for s in summaries]
        rows.append(("sign of the stress", *cells))
    for pair in pairs:
        cells = [f"{s.shortest[pair].value:.3f}" if pair in s.shortest else "" for s in summaries]
        rows.append((f"shortest {pair}, Å", *cells))
    return rows


def table_lines(summaries: Sequence[Summary]) -> list[str]:
    """The table as aligned text, the keys of labels, the baseline and warnings below it."""
    rows = table(summaries)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines += [f"{s.name} labels: {s.keys}" for s in summaries]
    lines += [
        f"{s.name} energies as sums over elements: {s.baseline}"
        for s in summaries[:1]
        if s.baseline
    ]
    return lines + [f"warning: {line}" for line in warnings(summaries)]


def warnings(summaries: Sequence[Summary]) -> list[str]:
    """What is suspicious: about each set, and about the others beside the first."""
    lines = [f"{s.name}: {line}" for s in summaries for line in s.warnings]
    first, *others = summaries
    return lines + [
        f"{other.name}: {', '.join(sorted(new))} is in no {first.name} frame"
        for other in others
        if (new := other.elements.keys() - first.elements.keys())
    ]


def common_frames(sets: dict[str, Sequence[str]]) -> list[str]:
    """A line for each two sets of frame hashes that share frames."""
    return [
        f"{len(both)} frames of {name} are in {other} too"
        for (name, hashes), (other, others) in combinations(sets.items(), 2)
        if (both := set(hashes) & set(others))
    ]


def _title(label: str) -> str:
    return f"{label}, {KINDS[label].unit}" + ("/atom" if label == "energy" else "")


def _range(label: str, found: Range | None) -> str:
    if found is None:
        return "none"
    text = f"{found.lowest:.6g} to {found.highest:.6g}"
    return f"{found.frames:,}: {text}" + ("" if label == "energy" else f", rms {found.rms:.3g}")


def _atoms(summary: Summary) -> str:
    low, high = summary.smallest, summary.largest
    each = f"{low} each" if low == high else f"{low} to {high} each"
    return f"{summary.atoms:,} ({each}, {summary.edges / max(summary.atoms, 1):.0f} neighbors)"


def _counts(elements: dict[str, int], atoms: int) -> str:
    if len(elements) > 8:
        return f"{len(elements)}: {' '.join(elements)}"
    return ", ".join(f"{symbol} {100 * n / atoms:.3g} %" for symbol, n in elements.items())


def _periodic(summary: Summary) -> str:
    names = {"TTT": "all", "FFF": "none"}
    return ", ".join(
        f"{names.get(axes, axes)}{f' ({n:,})' if len(summary.periodic) > 1 else ''}"
        for axes, n in summary.periodic.items()
    )


def _pairs(summaries: Sequence[Summary]) -> list[str]:
    """Pairs of elements whose atoms come closest, in the first set that has them."""
    found: dict[str, float] = {}
    for summary in summaries:
        for pair, close in summary.shortest.items():
            found[pair] = min(close.value, found.get(pair, close.value))
    return sorted(found, key=lambda pair: found[pair])[:SHORTEST]
