"""Misspelt names: refused, with the nearest match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a clause that names the nearest known word, or lists all known words."""
    options = sorted(known)
    nearest = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if nearest:
        return f"did you mean {nearest[0]!r}?"
    return f"known: {', '.join(options)}."


def refuse_misspelt(what: str, word: str, known: Iterable[str]) -> None:
    """Raise ValueError unless the word is one of the known ones."""
    known = tuple(known)
    if word not in known:
        raise ValueError(f"unknown {what} {word!r}; {did_you_mean(word, known)}")
