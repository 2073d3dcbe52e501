"""How a run is asked to stop before its end: by a signal, or by the time it was given."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # the last: what queues send in advance


class RunStoppedError(Exception):
    """A run stopped before its end, and left a state to resume from.

    Attributes:
        exit_code: 0 if it stopped because its time was over, else 128 + number of the signal.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interruption:
    """While it is entered, signals do not end the process but are kept for the run to see.

    A second Ctrl-C ends the process at once.

    Args:
        max_time: hours from now after which the run should stop; None: never.
    """

    def __init__(self, max_time: float | None = None) -> None:
        self.end = None if max_time is None else time.monotonic() + 3600 * max_time
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def wanted(self) -> bool:
        """Whether the run should stop."""
        return self.signal is not None or (self.end is not None and time.monotonic() >= self.end)

    def error(self, where: str) -> RunStoppedError:
        """What to raise once the state is saved."""
        if self.signal is None:
            reason, code = "the time of run.max_time is over", 0
        else:
            reason, code = self.signal.name, 128 + self.signal
        return RunStoppedError(
            f"stopped at {where} ({reason}); run the same command again to resume.", code
        )

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._keep)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        if self.signal is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
