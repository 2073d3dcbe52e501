"""Files of a running dynamics: a trajectory and a log, readable whenever the run is cut off."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Collection
from typing import Any, TextIO

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator

from ..potentials.spins import keep_moments
from .dynamics import MDSettings

# Column of the log -> how it is written. Names end in their units; "nan" stands for unknown.
COLUMNS = {
    "step": ".0f",
    "time_ps": ".6f",
    "potential_eV": ".8f",
    "kinetic_eV": ".8f",
    "total_eV": ".8f",
    "conserved_eV": ".8f",
    "temperature_K": ".4f",
    "volume_A3": ".3f",
    "pressure_bar": ".1f",
    "wall_ms_per_step": ".3f",
}
TRAJECTORY, LOG = "trajectory.extxyz", "thermo.csv"
FRAME_ARRAYS = ("numbers", "positions", "momenta", "masses", "initial_magmoms", "initial_charges")
FRAME_INFO = ("charge", "spin")


class Recorder:
    """Writes a line of the log and a frame of the trajectory whenever they are due.

    Args:
        trajectory: open text file for frames in extended XYZ: positions (Å), momenta (ASE's unit,
            √(eV·u)), energy (eV), forces (eV/Å), and stress (eV/Å³) where the calculator gave it.
        log: open text file for comma-separated columns, see ``COLUMNS``.
        settings: tell the time step, the last step, which is always written, and the intervals.
        constraints: what frames keep of the constraints, so that a run can be continued.
        step: number of the step that a run goes on from; 0 for a new one.
        frames: number of frames that are in the trajectory by then; 0 for a new one.
        there: names of files that have this step already.

    Attributes:
        frames: number of frames in the trajectory.
    """

    def __init__(
        self,
        trajectory: TextIO,
        log: TextIO,
        settings: MDSettings,
        *,
        constraints: list[Any],
        step: int = 0,
        frames: int = 0,
        there: Collection[str] = (),
    ) -> None:
        self.trajectory, self.log, self.constraints = trajectory, log, constraints
        self.settings = settings
        self.step, self.frames = step, frames
        self.begun, self.there = step, there
        self.last = time.perf_counter()
        if not frames:
            self.log.write(",".join(COLUMNS) + "\n")

    def record(self, step: int, atoms: Atoms, conserved: Callable[[], float]) -> bool:
        """Write this step where it is due, and say whether a frame, or the last line, was written.

        ``conserved`` gives the conserved energy (eV) or NaN.
        """
        last = step == self.settings.steps
        there = self.there if step == self.begun else ()
        lined = (step % self.settings.log_interval == 0 or last) and LOG not in there
        framed = (step % self.settings.interval == 0 or last) and TRAJECTORY not in there
        if lined:
            self._write_line(step, atoms, conserved())
        if framed:
            self._write_frame(step, atoms)
        if step == 0:  # all before was preparation
            self.last = time.perf_counter()
        return framed or (lined and last)

    def _write_line(self, step: int, atoms: Atoms, conserved: float) -> None:
        potential, kinetic = atoms.get_potential_energy(), atoms.get_kinetic_energy()
        taken = step - self.step
        now = time.perf_counter()
        row = [
            float(step),
            step * self.settings.timestep / 1000,
            potential,
            kinetic,
            potential + kinetic,
            conserved,
            atoms.get_temperature(),
            atoms.get_volume() if atoms.cell.rank == 3 else np.nan,
            pressure(atoms) / units.bar,
            1e3 * (now - self.last) / taken if taken else np.nan,
        ]
        self.last, self.step = now, step
        formatted = (format(v, f) for v, f in zip(row, COLUMNS.values(), strict=True))
        self.log.write(",".join(formatted) + "\n")
        self.log.flush()

    def _write_frame(self, step: int, atoms: Atoms) -> None:
        frame = without_labels(atoms, FRAME_ARRAYS)
        frame.info |= {"step": step, "time_fs": step * self.settings.timestep}
        frame.set_constraint(self.constraints)
        remember(frame, atoms)
        results = getattr(atoms.calc, "results", {})
        if "forces_std" in results:  # of an ensemble; others may know nothing of the energy's
            frame.arrays["forces_std"] = results["forces_std"]
            if "energy_std" in results:
                frame.info["energy_std"] = float(results["energy_std"])
        text = io.StringIO()
        ase.io.write(text, frame, format="extxyz")
        self.trajectory.write(text.getvalue())  # at once: a cut-off run leaves whole frames
        self.trajectory.flush()
        self.frames += 1


def without_labels(atoms: Atoms, arrays: Collection[str]) -> Atoms:
    """Return a copy with only some arrays and the inputs of models, without results.

    Labels that a structure brought from its file do not belong to it once it has moved. Magnetic
    moments do: wherever the file had them, they go on as initial moments.
    """
    frame = atoms.copy()
    frame.info = {name: frame.info[name] for name in FRAME_INFO if name in frame.info}
    keep_moments(frame, atoms)
    for name in set(frame.arrays) - set(arrays):
        del frame.arrays[name]
    return frame


def remember(frame: Atoms, atoms: Atoms) -> None:
    """Give a copy of atoms their energy (eV), forces (eV/Å), and stress (eV/Å³) if known."""
    # Without what constraints add: ASE adds it where the copy has them.
    results = {"energy": atoms.get_potential_energy(apply_constraint=False)}
    results["forces"] = atoms.get_forces(apply_constraint=False)
    if "stress" in getattr(atoms.calc, "results", {}):
        results["stress"] = atoms.get_stress(apply_constraint=False)
    frame.calc = SinglePointCalculator(frame, **results)


def pressure(atoms: Atoms) -> float:
    """Pressure in eV/Å³, -tr σ/3 + 2 E_kin/(3 V); NaN without a periodic volume or a stress."""
    if not all(atoms.pbc) or atoms.cell.rank < 3:
        return np.nan
    try:
        stress = atoms.get_stress(apply_constraint=False)
    except (PropertyNotImplementedError, NotImplementedError):
        return np.nan
    return float(-stress[:3].mean() + 2 * atoms.get_kinetic_energy() / (3 * atoms.get_volume()))
