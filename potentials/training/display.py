"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

LINE_EVERY = 60.0  # s without any line of the run, after which one says how far it is


class Display:
    """Shows the progress of a run between the lines of its report.

    Args:
        report: prints a line.
        bar: whether to draw a bar on stderr, which has to be a terminal.
    """

    def __init__(self, report: Callable[[str], None], *, bar: bool = False) -> None:
        self._report = report
        self._bar = _bar() if bar else None
        self._task = self._bar.add_task("", total=1.0, speed="") if self._bar else None
        self._start: tuple[float, float] | None = None  # time and progress of the first update
        self._last = time.monotonic()  # line
        self._progress = 0.0
        self._window = (self._last, 0)  # its start, and atoms in it
        self.atoms_per_second = 0.0

    def update(self, progress: float, atoms: int, where: str) -> None:
        """Take note of a step.

        Args:
            progress: of the run, 0 to 1.
            atoms: of the step, on all ranks.
            where: epoch and step in words.
        """
        now = time.monotonic()
        self._start = self._start or (now, progress)
        self._progress = progress
        since, before = self._window
        self._window = since, before + atoms
        if now - since >= 1 and before:
            self.atoms_per_second = (before + atoms) / (now - since)
            self._window = now, 0
        if self._bar is not None:
            speed = f"{where}  {self.speed()}"
            self._bar.update(self._task, completed=progress, speed=speed)
        elif now - self._last > LINE_EVERY:
            self.line(f"{where} ({100 * progress:.1f} %): {self.speed()}")

    def line(self, text: str) -> None:
        """Print a line of the report."""
        self._last = time.monotonic()
        self._report(text)

    def speed(self) -> str:
        """Atoms per second and the time left, as far as they are known."""
        parts = [f"{_rounded(self.atoms_per_second)} atoms/s"] if self.atoms_per_second else []
        if self._start is not None and self._progress > self._start[1]:
            spent = time.monotonic() - self._start[0]
            rate = (self._progress - self._start[1]) / spent
            parts.append(f"{duration((1 - self._progress) / rate)} left")
        return ", ".join(parts)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def duration(seconds: float) -> str:
    """A time in words: "40 s", "12 min", "3.5 h" or "2.1 days"."""
    for unit, length, limit in (("s", 1, 100), ("min", 60, 6000), ("h", 3600, 172800)):
        if seconds < limit:
            value = seconds / length
            return f"{value:.1f} {unit}" if unit == "h" and value < 10 else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def _rounded(value: float) -> str:
    """Two significant digits, without an exponent."""
    return f"{float(f'{value:.2g}'):,.0f}"


def _bar():  # type: ignore[no-untyped-def]  # noqa: ANN202
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}"),
        console=Console(stderr=True),
        transient=True,
    )
