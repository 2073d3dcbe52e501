"""Fuzzing of all readers: every case has to end in a clear error or a right result.

    python -m tests.fuzz --cases 10000 --seed 0

Cases run in processes of their own, with a limit of memory and of time, so that a crash, a hang or
an explosion of memory is seen and counted. Exit code 1 if there is a finding; ``--only READER:N``
runs one case again, here.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import tempfile
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from . import readers

SECONDS, MEGABYTES = 60, 4000  # of one case; address space of a worker beyond what it began with


def main() -> None:
    """Run the cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--reader", choices=readers.SHARES, help="default: all")
    parser.add_argument("--only", help="READER:NUMBER, one case in this process")
    options = parser.parse_args()
    shares = readers.SHARES if options.reader is None else {options.reader: 1.0}
    counts = {name: round(share * options.cases) for name, share in shares.items()}
    if options.only:
        name, _, number = options.only.partition(":")
        case = readers.made(name, counts[name], options.seed)[int(number)]
        with tempfile.TemporaryDirectory() as folder:
            print(case, readers.run(name, case, Path(folder)), sep="\n")
        return
    start = time.perf_counter()
    tasks: queue.Queue[tuple[str, int, Any]] = queue.Queue()
    for name, count in counts.items():
        for number, case in enumerate(readers.made(name, count, options.seed)):
            tasks.put((name, number, case))
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in counts}
    findings: list[str] = []
    threads = [
        threading.Thread(target=_drive, args=(tasks, outcomes, findings))
        for _ in range(options.workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for line in findings:
        print(line)
    print(f"{'reader':<26}{'cases':>7}{'clear errors':>14}{'right results':>15}{'findings':>10}")
    for name, found in outcomes.items():
        error, right = found["clear error"], found["right result"]
        total = found.total()
        print(f"{name:<26}{total:>7}{error:>14}{right:>15}{total - error - right:>10}")
    print(f"seed {options.seed}, {time.perf_counter() - start:.0f} s")
    raise SystemExit(bool(findings))


def _drive(
    tasks: queue.Queue[tuple[str, int, Any]],
    outcomes: dict[str, Counter[str]],
    findings: list[str],
) -> None:
    """Hand cases to one worker, and start another where it ends or hangs."""
    worker: tuple[Any, Connection] | None = None
    while True:
        try:
            name, number, case = tasks.get_nowait()
        except queue.Empty:
            break
        worker = worker or _started()
        process, connection = worker
        connection.send((name, case))
        if connection.poll(SECONDS):
            try:
                outcome = connection.recv()
            except EOFError:
                process.join()
                outcome, worker = f"the process ended with code {process.exitcode}", None
        else:
            outcome, worker = f"no end within {SECONDS} s", None
            process.kill()
        outcomes[name][outcome] += 1
        if outcome not in ("clear error", "right result"):
            findings.append(f"{name}:{number}: {outcome}")
    if worker is not None:
        worker[1].close()


def _started() -> tuple[Any, Connection]:
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=readers.work, args=(there, MEGABYTES), daemon=True)
    process.start()
    there.close()
    if not here.poll(600) or here.recv() != "ready":
        raise RuntimeError("a worker did not start")
    return process, here


if __name__ == "__main__":
    main()
