"""What verbs share that run a model on one structure: reading it, the model, progress, an end."""

from __future__ import annotations

import functools
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms

LINE_SECONDS = 600.0  # between lines of progress where there is no terminal


def read_structure(structure: str | None, calculator: Any = None) -> Atoms:
    """Last frame of a file; without one, the packaged structure that suits the calculator.

    Raises:
        ValueError: the file cannot be read, or no packaged structure suits.
    """
    from ..models import default_structure
    from ..structures import read_last

    return read_last(structure or default_structure(calculator))


def set_model(
    atoms: Atoms, model: str, device: str | None, dtype: str | None, symmetrize: str | None
) -> None:
    """Give the structure the calculator of a model; what symmetrisation costs goes to stderr."""
    from ..models import make_calculator

    calculator = make_calculator(model, device=device, dtype=dtype, symmetrize=symmetrize)
    set_calculator(atoms, calculator, symmetrize)


def set_calculator(atoms: Atoms, calculator: Any, symmetrize: str | None = None) -> None:
    """The same with a calculator that is there already."""
    from ...potentials.spins import keep_moments

    keep_moments(atoms)
    atoms.calc = calculator
    if symmetrize is not None:
        print(f"symmetrize {symmetrize}: {_cost(atoms)}", file=sys.stderr)


def _cost(atoms: Atoms) -> str:
    from ...potentials.ecse.symmetrize import relative_cost
    from ...potentials.graph import Graph
    from ..models import potentials_of

    costs = []
    for potential in potentials_of(atoms.calc):
        graph = Graph.from_atoms(
            atoms, potential.cutoff, device=potential.device, inputs=potential.inputs
        )
        costs.append(relative_cost(potential, graph))
    return f"a step costs about {sum(costs) / len(costs):.0f} plain ones"


@contextmanager
def progress_bar(steps: int) -> Iterator[Callable[[int, str], None] | None]:
    """Show a bar on stderr, if that is a terminal; yields what takes the step and a text."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), Remaining())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("preparing", total=steps)
        begun = False

        def show(step: int, text: str) -> None:
            nonlocal begun
            if not begun:  # of a run that goes on, the first step is not the speed
                bar.reset(task, completed=step)
            begun = True
            bar.update(task, completed=step, description=text)

        yield show


@contextmanager
def md_progress(steps: int, timestep: float) -> Iterator[Callable[[int, float], None]]:
    """Show how far a dynamics is on stderr; yields what takes the step and the temperature (K).

    On a terminal this is a bar; elsewhere, as in the log of a batch system, a line every ten
    minutes. The time step is in fs.
    """
    with progress_bar(steps) as show:
        first: tuple[int, float] | None = None
        printed = time.perf_counter()

        def report(step: int, temperature: float) -> None:
            nonlocal first, printed
            now = time.perf_counter()
            if first is None or step == first[0]:
                first = (step, now)
                return
            seconds = (now - first[1]) / (step - first[0])  # of one step
            text = f"{0.0864 * timestep / seconds:.3g} ns/day  {temperature:.0f} K"
            if show is not None:
                show(step, text)
            elif now - printed > LINE_SECONDS:
                printed = now
                left = timedelta(seconds=round(seconds * (steps - step)))
                done = f"{step * timestep / 1000:.3f} ps"
                print(
                    f"step {step}/{steps}  {done}  {text}  {left} left", file=sys.stderr, flush=True
                )

        yield report


@contextmanager
def stoppable(output: Path) -> Iterator[None]:
    """End on Ctrl-C or SIGTERM between two writes, with one line that says how to go on."""
    try:
        with terminable():
            yield
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        advice = f"the same command goes on from the last frame in {output}"
        print(f"pointedge: stopped; {advice}.", file=sys.stderr, flush=True)
        raise SystemExit(128 + int(number)) from None


def interruptible(verb: Callable[..., None]) -> Callable[..., None]:
    """End a verb that has no words of its own for Ctrl-C with one line, and the usual exit code."""

    @functools.wraps(verb)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            verb(*arguments, **options)
        except KeyboardInterrupt as error:
            number = int(error.args[0]) if error.args else signal.SIGINT
            kept = "files that were complete are kept; the same command can be given again"
            print(f"pointedge: stopped; {kept}.", file=sys.stderr, flush=True)
            raise SystemExit(128 + number) from None

    return run


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM, by which batch systems end a job, do what Ctrl-C does, with its number."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt(number)

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
