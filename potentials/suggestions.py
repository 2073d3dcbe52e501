"""The nearest match for a misspelt name, for error messages."""

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
