"""The readers, how many cases each gets, and how a case is made and run."""

from __future__ import annotations

import random
import resource
import tempfile
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.strategies import SearchStrategy

from . import checkpoints, configurations, ensembles, frames, published
from .outcomes import FindingError

# Reader -> share of all cases.
SHARES = {
    "checkpoints": 0.3,
    "published checkpoints": 0.3,
    "extended XYZ": 0.15,
    "other files of frames": 0.1,
    "configurations": 0.1,
    "ensembles": 0.05,
}
STRATEGIES: dict[str, SearchStrategy[Any]] = {
    "extended XYZ": frames.texts(),
    "configurations": configurations.cases(),
}
RUN: dict[str, Any] = {
    "checkpoints": checkpoints.case,
    "published checkpoints": published.case,
    "extended XYZ": frames.text_case,
    "other files of frames": frames.file_case,
    "configurations": configurations.case,
    "ensembles": ensembles.case,
}


def made(name: str, count: int, seed: int) -> list[Any]:
    """Cases of a reader: what hypothesis draws, or seeds for damage to files."""
    if name not in STRATEGIES:
        return [f"{seed} {name} {number}" for number in range(count)]
    found: list[Any] = []

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(STRATEGIES[name])
    def collect(case: Any) -> None:
        found.append(case)

    while len(found) < count:  # it stops early where it sees nothing new
        collect()
        seed += 1
    return found[:count]


def run(name: str, case: Any, folder: Path) -> str:
    """The outcome of a case.

    Raises:
        FindingError: it is neither a clear error nor a right result.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = random.Random(case) if name not in STRATEGIES else case
        outcome: str = RUN[name](given, folder)
        return outcome


def work(connection: Connection, megabytes: int) -> None:
    """Run the cases that come through a pipe, with a limit of memory, and send their outcomes."""
    import torch

    torch.set_num_threads(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send("ready")
    while True:
        try:
            name, case = connection.recv()
        except EOFError:
            return
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = run(name, case, Path(folder))
            except FindingError as finding:
                outcome = str(finding)
            except Exception as error:
                outcome = f"in the test itself: {type(error).__name__}: {error}"
        connection.send(outcome)
