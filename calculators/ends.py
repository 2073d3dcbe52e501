"""Where a run ended: what its files have of that step, and what of it a longer run keeps."""

from __future__ import annotations

import re
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from pathlib import Path

from .dynamics import MDSettings
from .recorder import LOG, TRAJECTORY
from .restart import State


def go_on(state: State, settings: MDSettings, folder: Path) -> tuple[State, set[str]]:
    """Return the state to go on from, and the names of files that have its step already.

    Frame and line of a last step come even where the intervals have none. A longer run goes on
    without these, as if it had never ended there, so that its frames are evenly spaced.
    """
    if not state.frames:
        return state, set()
    last, frames, sizes, there = state.step == settings.steps, state.frames, [*state.sizes], set()
    start, text = _tail(folder / TRAJECTORY, sizes[0], len(state.positions) + 2)
    if (told := re.search(rb"\bstep=(\d+)", text)) and int(told[1]) == state.step:
        if last or state.step % settings.interval == 0:
            there.add(TRAJECTORY)
        else:
            frames, sizes[0] = frames - 1, start
    start, text = _tail(folder / LOG, sizes[1], 1)
    if text.startswith(f"{state.step},".encode()):
        if last or state.step % settings.log_interval == 0:
            there.add(LOG)
        else:
            sizes[1] = start
    return replace(state, frames=frames, sizes=tuple(sizes)), there


def _tail(path: Path, size: int, lines: int) -> tuple[int, bytes]:
    """Where the last lines begin of a text file's first bytes, and these lines."""
    with open(path, "rb") as file, mmap(file.fileno(), size, access=ACCESS_READ) as text:
        newline = size - 1
        for _ in range(lines):
            newline = text.rfind(b"\n", 0, newline)
        return newline + 1, text[newline + 1 : size]
