"""State of a running dynamics: all that it needs to go on as if it had never stopped.

It is written with every frame of the trajectory, and replaces the one before in one move: a run
that is killed at any moment has lost the steps since its last frame, and nothing else. Nor has it
where the power fails: what a state counts on is on the disk before the state is, so that no state
before it has to be kept. (A frame takes 30 ms longer for this on a busy disk; the 20 steps before
it, of 192 atoms of water, take 2 to 6 s.)
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms

from ..potentials.files import PARTIAL, UnwrittenError, replacing, sync_folder
from .dynamics import MDSettings, memory
from .recorder import LOG, TRAJECTORY

STATE, SETTINGS = "state.json", "settings.json"
UNCERTAIN = "uncertain.extxyz"  # frames that a monitor stored
FILES = (STATE, TRAJECTORY, LOG, SETTINGS, UNCERTAIN)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
UNWRITABLE = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


@dataclass(frozen=True)
class State:
    """What a run knows after a step; numbers are exact, text of Python's shortest notation.

    Attributes:
        settings: of the run, by name.
        structure: checksum of the structure that the run began with.
        drew_velocities: whether that came without velocities.
        step: number of steps taken.
        frames: number of frames in the trajectory.
        sizes: bytes of the trajectory, of the log and, if there are, of uncertain frames; what
            follows these is of later steps.
        energy: potential energy of the model, eV.
        positions: (N, 3), Å.
        momenta: (N, 3), √(eV·u).
        cell: (3, 3), Å.
        integrator: what the integrator remembers besides, see :func:`.dynamics.memory`.
        random: state of the random numbers.
        uncertain: number of uncertain frames that were stored.
        last_uncertain: step of the last of these; None: there is none.
        constraints: checksum of those that the run began with.
        inputs: charge and spin that it began with, if its model reads them. None, as of
            constraints: of a run of an earlier version, which did not look at them.
    """

    settings: dict[str, Any]
    structure: int
    drew_velocities: bool
    step: int
    frames: int
    sizes: tuple[int, ...]
    energy: float
    positions: list[list[float]]
    momenta: list[list[float]]
    cell: list[list[float]]
    integrator: dict[str, float]
    random: dict[str, Any]
    uncertain: int = 0
    last_uncertain: int | None = None
    constraints: int | None = None
    inputs: dict[str, float | str] | None = None

    @classmethod
    def of(
        cls,
        atoms: Atoms,
        rng: np.random.Generator,
        settings: MDSettings,
        origin: dict[str, Any],
        drew_velocities: bool,
    ) -> State:
        """State of a run of which nothing is written yet; see :func:`.origin.origin`."""
        return cls(
            settings=asdict(settings),
            drew_velocities=drew_velocities,
            step=0,
            frames=0,
            sizes=(0, 0),
            integrator={},
            **origin,
            **_numbers(atoms, rng),
        )

    def after(
        self,
        atoms: Atoms,
        rng: np.random.Generator,
        dynamics: Any,
        frames: int,
        sizes: tuple[int, ...],
        uncertain: tuple[int, int | None],
    ) -> State:
        """State of the same run now."""
        return replace(
            self,
            step=dynamics.nsteps,
            frames=frames,
            sizes=sizes,
            integrator=memory(dynamics),
            uncertain=uncertain[0],
            last_uncertain=uncertain[1],
            **_numbers(atoms, rng),
        )

    def keeping(self, sizes: tuple[int, ...], uncertain: tuple[int, int | None]) -> State:
        """The same state, with uncertain frames of later steps that are to stay in their file."""
        return replace(
            self,
            sizes=(*self.sizes[:2], *sizes[2:]),
            uncertain=uncertain[0],
            last_uncertain=uncertain[1],
        )

    def restore(self, atoms: Atoms, rng: np.random.Generator) -> None:
        """Set positions, momenta, cell and random numbers in place, whatever the constraints."""
        atoms.cell[:] = self.cell
        atoms.positions[:] = self.positions
        atoms.set_momenta(np.array(self.momenta), apply_constraint=False)
        rng.bit_generator.state = self.random

    def write(self, folder: Path) -> None:
        """Replace the state in a folder, all at once."""
        _write_text(folder / STATE, json.dumps(asdict(self)))


def _numbers(atoms: Atoms, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "energy": float(atoms.get_potential_energy()),
        "positions": atoms.positions.tolist(),
        "momenta": atoms.get_momenta().tolist(),
        "cell": atoms.cell.array.tolist(),
        "random": rng.bit_generator.state,
    }


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def find_state(folder: Path) -> State | None:
    """State of the run in a folder; None where there is nothing yet.

    Raises:
        ValueError: the folder holds other things, or a state that cannot be read.
    """
    if not folder.is_dir() or all(path.name.endswith(PARTIAL) for path in folder.iterdir()):
        return None
    if not (folder / STATE).is_file():
        raise ValueError(
            f"output folder {folder} is not empty, and holds no run to go on with; name another, "
            "or overwrite it."
        )
    try:
        state = State(**json.loads((folder / STATE).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise ValueError(
            f"{folder / STATE} cannot be read by this version of pointedge; name another folder, "
            "or overwrite it."
        ) from None
    for name, size in zip((TRAJECTORY, LOG, UNCERTAIN), state.sizes, strict=False):
        path = folder / name
        if size and not (path.is_file() and path.stat().st_size >= size):
            raise ValueError(
                f"{path} has lost what was written into it ({size} bytes by step {state.step}); "
                "name another folder, or overwrite this one."
            )
    return state


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Say in words that a folder cannot be written, and how to go on once it can.

    Raises:
        UnwrittenError: the disk is full, or the folder read-only.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        begun = (folder / STATE).is_file() if folder.is_dir() else False
        advice = "make room, and the same command goes on from the last frame"
        raise UnwrittenError(
            f"the run cannot be written into {folder} ({os.strerror(error.errno)}); "
            f"{advice if begun else 'name another folder'}."
        ) from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder; one that did not exist and stays empty goes again.

    Raises:
        ValueError: it is a file, or another process is writing there.
        UnwrittenError: it cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output {folder} is a file; name a folder.")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    try:
        _lock(lock, folder)
        yield
    finally:
        with suppress(OSError):  # of those that are not empty
            for path in made:
                path.rmdir()
        os.close(lock)  # and with it the lock


@contextmanager
def open_files(
    folder: Path, state: State, *, uncertain: bool = False
) -> Iterator[Sequence[TextIO]]:
    """Open files of a locked folder to go on after a state; what was written after it is dropped.

    Returns:
        Trajectory and log; and uncertain frames, if these are asked for or were stored.
    """
    try:
        # First of all: whatever happens next, the run can be asked for again.
        state.write(folder)
        _write_text(folder / SETTINGS, json.dumps(state.settings, indent=1) + "\n")
        names = [TRAJECTORY, LOG]
        if uncertain or (folder / UNCERTAIN).exists():
            names.append(UNCERTAIN)
        with ExitStack() as stack:
            files = [
                stack.enter_context(open(folder / name, "a", encoding="utf-8")) for name in names
            ]
            for file, size in zip(files, (*state.sizes, 0), strict=False):
                file.truncate(size)
            sync_folder(folder)
            yield files
    finally:
        stored = folder / UNCERTAIN
        if stored.exists() and not stored.stat().st_size:
            stored.unlink()  # readers of ASE stumble over empty files


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"another process is running in {folder}; wait for its end, or name another folder."
        ) from None
    except OSError:  # a file system without locks, as some of clusters are
        pass


def sizes(files: Sequence[TextIO]) -> tuple[int, ...]:
    """Bytes of open files, all of them on the disk."""
    for file in files:
        file.flush()
        os.fsync(file.fileno())
    return tuple(os.fstat(file.fileno()).st_size for file in files)
