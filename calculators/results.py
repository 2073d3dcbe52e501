"""What a run of molecular dynamics has come to, read from its folder."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from .dynamics import MDSettings
from .recorder import COLUMNS, LOG, TRAJECTORY
from .restart import find_state
from .trajectories import (
    RDF,
    Array,
    block_average,
    linear_drift,
    radial_distribution,
    telling_pairs,
)

MAX_RDF_FRAMES = 500


@dataclass(frozen=True)
class MDResult:
    """A run, finished or as far as it has come.

    Attributes:
        settings: what was asked for.
        folder: holds ``trajectory.extxyz``, ``thermo.csv``, ``settings.json`` and ``state.json``.
        atoms: the last structure, with velocities.
        thermo: columns of the log by name (the names end in units), each (lines,).
        frames: number of frames in the trajectory.
        drew_velocities: whether the structure came without velocities.
        uncertain: number of frames in ``uncertain.extxyz``.
    """

    settings: MDSettings
    folder: Path
    atoms: Atoms
    thermo: dict[str, Array]
    frames: int
    drew_velocities: bool
    uncertain: int = 0

    @property
    def picoseconds(self) -> float:
        """Length of the run, ps."""
        return float(self.thermo["time_ps"][-1])

    @property
    def milliseconds_per_step(self) -> float:
        """Wall time, without that of preparations; NaN before the second line of the log."""
        taken, each = np.diff(self.thermo["step"]), self.thermo["wall_ms_per_step"][1:]
        known = np.isfinite(each)  # not of a line that a run which goes on begins with
        if not known.any():
            return float("nan")
        return float(taken[known] @ each[known] / taken[known].sum())

    def mean(self, column: str) -> tuple[float, float]:
        """Mean of a column over the second half of the run, and its block-averaged error."""
        values = self.thermo[column]
        return block_average(values[len(values) // 2 :])

    def energy_drift(self) -> tuple[float, float]:
        """Fitted slope of the conserved energy (meV/atom/ps), and its error; NaN if unknown."""
        slope, error = linear_drift(self.thermo["time_ps"], self.thermo["conserved_eV"])
        return 1e3 * slope / len(self.atoms), 1e3 * error / len(self.atoms)

    def rdfs(self) -> list[RDF]:
        """Radial distribution functions of the most telling pairs over the second half of the run.

        Raises:
            ValueError: the structure is not periodic along all axes, or too small.
        """
        start = self.frames // 2
        stride = -(-(self.frames - start) // MAX_RDF_FRAMES)
        frames = list(self.iter_frames(start, stride))
        return radial_distribution(frames, telling_pairs(self.atoms))

    def iter_frames(self, start: int = 0, stride: int = 1) -> Iterator[Atoms]:
        """Frames of the trajectory from number ``start`` on, one in ``stride``."""
        selection = slice(start, self.frames, stride)
        frames: Iterator[Atoms] = ase.io.iread(self.folder / TRAJECTORY, index=selection)
        return frames


def read_run(folder: str | Path) -> MDResult:
    """Return what the run in a folder has come to; it may still be running.

    Raises:
        ValueError: there is no run.
    """
    folder = Path(folder)
    state = find_state(folder)
    if state is None or not state.frames:
        raise ValueError(f"{folder} holds no run yet; begin one with run_md or pointedge md.")
    with open(folder / LOG, "rb") as log:
        table = np.genfromtxt(
            io.BytesIO(log.read(state.sizes[1])), delimiter=",", names=True, ndmin=1
        )
    atoms = next(ase.io.iread(folder / TRAJECTORY, index=0))
    state.restore(atoms, np.random.default_rng())
    return MDResult(
        settings=MDSettings(**state.settings),
        folder=folder,
        atoms=atoms,
        thermo={name: np.array(table[name]) for name in COLUMNS},
        frames=state.frames,
        drew_velocities=state.drew_velocities,
        uncertain=state.uncertain,
    )
