"""Runs that are killed in the middle of a write, and at any moment, end as one that was not."""

from __future__ import annotations

import os
import random
import signal
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import ase.io
import pytest

from pointedge.calculators import restart
from pointedge.calculators.cli.runs import stoppable
from pointedge.calculators.md import run_md

from .quick import argon, files, settings

LONG = settings(steps=400, interval=7, log_interval=3)
MOST = 300  # attempts; a run that makes no progress would never end


def forked(work) -> int:
    """Run a function in a child process; returns its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of torch, which sleep
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = end.code
    finally:
        os._exit(code)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Fuse:
    """Kills this process in the middle of its n-th write: half of a text is there, and no more."""

    def __init__(self, writes):
        self.left = writes

    def burn(self, file, text):
        self.left -= 1
        if self.left == 0:
            file.write(text[: len(text) // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    def arm(self):
        """Only ever called in a child, which does not come back."""
        opened = restart.open_files
        replace = Path.replace
        replacing = restart.replacing

        class Writer:
            def __init__(self, file, fuse):
                self.file, self.fuse = file, fuse

            def write(self, text):
                self.fuse.burn(self.file, text)
                return self.file.write(text)

            def __getattr__(self, name):
                return getattr(self.file, name)

        class Opened:
            def __init__(self, files, fuse):
                self.files, self.fuse = files, fuse

            def __enter__(self):
                return tuple(Writer(file, self.fuse) for file in self.files.__enter__())

            def __exit__(self, *error):
                return self.files.__exit__(*error)

        @contextmanager
        def burning_replacing(path):
            with replacing(path) as file:
                yield Writer(file, self)

        def burning_replace(path, target):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(path, target)

        from pointedge.calculators import md

        md.open_files = lambda *arguments, **options: Opened(opened(*arguments, **options), self)
        restart.replacing, Path.replace = burning_replacing, burning_replace


def check(folder, whole):
    """Equal bits, and each frame once."""
    assert files(folder) == files(whole)
    steps = [frame.info["step"] for frame in ase.io.read(folder / "trajectory.extxyz", ":")]
    assert steps == [*range(0, 400, 7), 400]


def test_a_run_that_is_killed_within_every_write(tmp_path):
    run = settings(steps=40, interval=5, log_interval=3, thermostat="langevin")
    run_md(argon(), run, tmp_path / "whole")

    def attempt(writes):
        def work():
            Fuse(writes).arm()
            run_md(argon(), run, tmp_path / "cut")

        return ended(forked(work))

    codes = []
    for writes in range(1, MOST):  # each attempt goes on from the last, and gets further
        codes.append(attempt(writes))
        if codes[-1] == 0:
            break
    assert codes[-1] == 0
    assert len(codes) > 10
    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


@pytest.mark.parametrize("change", [{"thermostat": "bussi"}, {"ensemble": "npt"}], ids=str)
def test_a_run_that_is_killed_at_random_moments(tmp_path, change):
    run = settings(**{**vars(LONG), **change})
    start = time.perf_counter()
    run_md(argon(), run, tmp_path / "whole")
    duration = time.perf_counter() - start
    moments = random.Random(0)

    def work():
        with stoppable(tmp_path / "cut"):
            run_md(argon(), run, tmp_path / "cut")

    kills = dict.fromkeys((signal.SIGKILL, signal.SIGTERM, signal.SIGINT), 0)
    code = None
    for _ in range(MOST):
        child = forked(work)
        number = moments.choice(list(kills))
        time.sleep(moments.uniform(0.0, 0.4 * duration))
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            break
        os.kill(child, number)
        code = ended(child)
        if code == 0:
            break
        kills[number] += 1
        # A signal of before the first line of the run ends the process in the usual way.
        assert code in (-number, 128 + number, 1)
    assert sum(kills.values()) >= 2
    check(tmp_path / "cut", tmp_path / "whole")
