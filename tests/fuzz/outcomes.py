"""What a case may end in: a clear error or a right result. All else is a finding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ERROR, RIGHT = "clear error", "right result"
LONGEST = 2000  # characters of a clear error

Result = TypeVar("Result")


class FindingError(AssertionError):
    """A case that ended in neither."""


def read_or_refused(
    read: Callable[[], Result],
    kinds: tuple[type[Exception], ...],
    names: str = "",
) -> tuple[Result | None, str]:
    """What was read, and the text of the error that refused it.

    Raises:
        FindingError: another exception, or an error that is not one line with the name of the file.
    """
    try:
        return read(), ""
    except FindingError:
        raise
    except kinds as error:
        text = str(error)
        if "\n" in text.strip() or len(text) > LONGEST or names not in text:
            raise FindingError(f"unclear error: {type(error).__name__}: {text[:300]!r}") from error
        return None, text
    except BaseException as error:
        raise FindingError(f"{type(error).__name__}: {str(error)[:300]!r}") from error


def same(found: Any, expected: Any, what: str) -> None:
    """Raise a finding where a result is not the expected one."""
    if found != expected:
        raise FindingError(f"wrong result: {what} is {str(found)[:200]}, not {str(expected)[:200]}")


def canary_command(canary: Path) -> str:
    """What a harmful file would have run; whoever runs it leaves the file ``canary``."""
    return f"touch {canary}"
