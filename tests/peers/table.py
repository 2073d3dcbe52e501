"""The page of the peers' audits, made of their JSON: ``python -m tests.peers.table``.

Writes tests/peers/audits.md. What did not pass has a note in notes.yaml, by somebody who looked at
why; without one nothing is written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from .audits import FOLDER, PEERS, RANDOM

PAGE = Path(__file__).parent / "audits.md"
WORDS = Path(__file__).parent / "notes.yaml"
# Of dimers, which networks with random weights have never been told of.
OF_WEIGHTS = ("depth of a second minimum", "force spike")
TITLES = {
    "pointedge": "PET here",
    "mace": "MACE",
    "nequip": "NequIP",
    "metatrain": "PET of metatrain",
    "chgnet": "CHGNet",
    "emt": "EMT",
    "lennard_jones": "LJ",
    "lennard_jones_smooth": "LJ, smooth",
    "morse": "Morse",
    "tersoff": "Tersoff",
}
SIGNS = {"pass": "pass", "warn": "warn", "fail": "**fail**", "skip": "–"}


def load() -> dict[str, dict[str, Any]]:
    """Audits that were kept, by peer, in the order of the table."""
    files = {name: FOLDER / f"{name}.json" for name in TITLES}
    return {name: json.loads(path.read_text()) for name, path in files.items() if path.exists()}


def judged(audit: dict[str, Any], check: dict[str, Any]) -> list[dict[str, Any]]:
    """Numbers beyond their limits, without those that random weights decide."""
    return [
        number
        for number in check["numbers"]
        if number["status"] in ("warn", "fail")
        and not (audit["weights"] == RANDOM and number["what"].startswith(OF_WEIGHTS))
    ]


def status(audit: dict[str, Any], check: dict[str, Any]) -> str:
    """The worst of the numbers that are judged."""
    found = {number["status"] for number in judged(audit, check)}
    if check["status"] == "skip" or not check["numbers"]:
        return str(check["status"])
    return next((s for s in ("fail", "warn") if s in found), "pass")


def page() -> str:
    """The page as Markdown.

    Raises:
        ValueError: something that did not pass has no note, or a note is of what passed.
    """
    words = yaml.safe_load(WORDS.read_text())
    notes = {(name, check): t for name, said in words["notes"].items() for check, t in said.items()}
    audits = load()
    found = {
        (name, check["name"]): status(audit, check)
        for name, audit in audits.items()
        for check in audit["checks"]
    }
    told = {key for key, value in found.items() if value in ("warn", "fail")}
    if told != set(notes):
        raise ValueError(f"notes and audits differ in {sorted(told ^ set(notes))}.")
    parts = [words["introduction"], _made_of(audits), words["reading"], _results(audits, found)]
    for name, audit in audits.items():
        rows = [(check, notes.get((name, check["name"]), "")) for check in audit["checks"]]
        if lines := [_note(audit, check, note) for check, note in rows if note]:
            parts.append(f"## {TITLES[name]}\n\n" + "\n".join(lines))
    return "\n".join(f"{part.strip()}\n" for part in parts)


def _made_of(audits: dict[str, dict[str, Any]]) -> str:
    rows = [
        (
            TITLES[name],
            ", ".join(f"{package} {number}" for package, number in audit["versions"].items()),
            audit["weights"],
            audit["dtype"],
            "not said" if audit["cutoff"] is None else f"{audit['cutoff']:.2f}",
            ", ".join(audit["structures"]) or "none",
        )
        for name, audit in audits.items()
    ]
    return _markdown(("", "versions", "weights", "type", "cutoff, Å", "structures taken"), rows)


def _results(audits: dict[str, dict[str, Any]], found: dict[tuple[str, str], str]) -> str:
    checks = list(dict.fromkeys(check for _, check in found))
    order = [c["name"] for c in next(a for n, a in audits.items() if not PEERS[n].skip)["checks"]]
    rows = [
        (check, *(SIGNS[found.get((name, check), "skip")] for name in audits))
        for check in sorted(checks, key=order.index)
    ]
    return _markdown(("check", *(TITLES[name] for name in audits)), rows)


def _note(audit: dict[str, Any], check: dict[str, Any], note: str) -> str:
    numbers = judged(audit, check)
    worst = max(numbers, key=_excess, default=None)
    text = " ".join(note.split())
    if worst is None or worst["what"].startswith("silent"):
        return f"- `{check['name']}`: {text}"
    value = f"{worst['value']:.2g} {worst['unit']}".strip() if worst["value"] else "no number"
    limit = f"; limit {worst['limit']:.2g}" if worst["limit"] else ""
    return f"- `{check['name']}` ({worst['what']}: {value}{limit}): {text}"


def _excess(number: dict[str, Any]) -> tuple[bool, float]:
    if number["value"] is None or not number["limit"]:
        return number["status"] == "fail", float("inf")
    return number["status"] == "fail", number["value"] / number["limit"]


def _markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
