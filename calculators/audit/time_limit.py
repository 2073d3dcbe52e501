"""An end for calculations that come to none."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class OverdueError(BaseException):
    """A calculation took too long; no Exception, which a calculator may take for one of its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`OverdueError` in what takes longer, as soon as it runs Python code again.

    There is no limit outside of the main thread, on systems without alarms, and where somebody
    else has set one already.
    """
    alarms = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not alarms or signal.getitimer(signal.ITIMER_REAL)[0] > 0:
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise OverdueError(f"no end within {seconds:.0f} s")

    earlier = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, earlier)
