"""Slices as text, such as "::10", in a configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator


def is_slice(text: str) -> bool:
    """Whether a text is a slice with a colon: ":", "8:" or "1:5"."""
    try:
        parse_slice(text)
    except ValueError:
        return False
    return ":" in text


def parse_slice(text: str) -> slice:
    """The slice that a text such as "::10", ":80" or "-1" means; raises ValueError for others."""
    try:
        numbers = [int(part) if part.strip() else None for part in str(text).split(":")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or numbers == [None]:
        raise ValueError(
            f"{text!r} is not a slice; write start:stop:step in quotes, ':8' or '::10'"
        )
    if len(numbers) == 1:
        (k,) = numbers
        return slice(k, None if k == -1 else k + 1)  # type: ignore[operator]
    if len(numbers) == 3 and numbers[2] is not None and numbers[2] < 1:
        raise ValueError(f"{text!r} has a step below 1; frames are read in their order")
    return slice(*numbers)


def _slice_text(text: str) -> str:
    parse_slice(text)
    return text


SliceText = Annotated[str, BeforeValidator(str), AfterValidator(_slice_text)]
