"""Positions and velocities of a run, frame by frame, as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from .trajectories import Array


@dataclass(frozen=True)
class Motion:
    """Positions and velocities of T evenly spaced frames of one run.

    Attributes:
        symbols: (N,) chemical symbols.
        masses: (N,), u.
        cell: (3, 3), Å, the same in all frames.
        time: (T,), ps.
        positions: (T, N, 3), Å, not wrapped into the cell.
        velocities: (T, N, 3), Å/ps.
    """

    symbols: np.ndarray
    masses: Array
    cell: Array
    time: Array
    positions: Array
    velocities: Array

    @property
    def interval(self) -> float:
        """Time between frames, ps."""
        return float(self.time[1] - self.time[0])

    def after(self, time: float) -> Motion:
        """The same from a time (ps) on; ValueError where fewer than 3 frames are left."""
        late = self.time >= time
        if late.sum() < 3:
            raise ValueError(
                f"{late.sum()} frames are later than {time:g} ps, of a run until {self.time[-1]:g} "
                "ps; give an earlier time."
            )
        arrays = (self.time[late], self.positions[late], self.velocities[late])
        return Motion(self.symbols, self.masses, self.cell, *arrays)

    def blocks(self, count: int) -> list[Motion]:
        """Consecutive parts of equal length."""
        length = len(self.time) // count
        parts = (slice(k * length, (k + 1) * length) for k in range(count))
        constant = (self.symbols, self.masses, self.cell)
        return [
            Motion(*constant, self.time[p], self.positions[p], self.velocities[p]) for p in parts
        ]


def read_motion(frames: Iterable[Atoms]) -> Motion:
    """Collect frames of a run, such as of ``MDResult.iter_frames``.

    A last frame that came early, because the run ended between two, is left out.

    Args:
        frames: with momenta, and ``time_fs`` in their ``info``.

    Raises:
        ValueError: fewer than 3 frames, uneven times, a cell that changes, or wrapped positions.
    """
    time: list[float] = []
    positions: list[Array] = []
    velocities: list[Array] = []
    first: Atoms | None = None
    for frame in frames:
        first = frame if first is None else first
        if not np.allclose(frame.cell, first.cell, rtol=0, atol=1e-8):
            raise ValueError(
                f"the cell changes by frame {len(time)}, and displacements with it; give a run at "
                "constant volume."
            )
        if positions:
            moved = frame.cell.scaled_positions(frame.positions - positions[-1])
            if np.abs(moved[:, frame.pbc]).max(initial=0.0) > 0.5:
                raise ValueError(
                    f"atoms move by more than half a cell up to frame {len(time)}; give positions "
                    "that are not wrapped into the cell."
                )
        time.append(frame.info["time_fs"] / 1000)
        positions.append(frame.positions)
        velocities.append(frame.get_velocities() * units.fs * 1000)
    steps = np.diff(time)
    if len(steps) > 2 and steps[-1] < 0.999 * steps[0]:
        steps, time = steps[:-1], time[:-1]
    if first is None or len(time) < 3:
        raise ValueError(f"{len(time)} frames show no motion; give at least 3.")
    if not np.allclose(steps, steps[0], rtol=1e-3):
        raise ValueError(
            f"frames are {steps.min():g} to {steps.max():g} ps apart; give evenly spaced ones."
        )
    return Motion(
        symbols=np.array(first.get_chemical_symbols()),
        masses=first.get_masses(),
        cell=first.cell.array,
        time=np.array(time),
        positions=np.array(positions[: len(time)]),
        velocities=np.array(velocities[: len(time)]),
    )
