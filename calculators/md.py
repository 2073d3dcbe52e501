"""Molecular dynamics of a structure with any ASE calculator: one run fills one folder.

The integrators are ASE's. Around them stand the things a run needs: velocities, a trajectory and a
log that stay readable when a run is cut off, and a stop when the dynamics becomes unstable.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom

from .dynamics import (
    MDSettings,
    check_structure,
    conserved_energy,
    draw_velocities,
    make_dynamics,
    stop_center_of_mass,
)
from .inputs import InputError
from .recorder import COLUMNS, Recorder
from .trajectories import (
    RDF,
    Array,
    block_average,
    linear_drift,
    radial_distribution,
    telling_pairs,
)

TRAJECTORY, LOG, SETTINGS = "trajectory.extxyz", "thermo.csv", "settings.json"
MAX_RDF_FRAMES = 500
# Above all of these the integration has failed, whatever the material.
HOT_FACTOR, HOT_FLOOR, LONGEST_STEP = 10.0, 3000.0, 0.5  # -, K, Å


class UnstableDynamicsError(ValueError):
    """The dynamics became unphysical and was stopped; the files written so far remain."""


@dataclass(frozen=True)
class MDResult:
    """A finished run.

    Attributes:
        settings: what was asked for.
        folder: holds ``trajectory.extxyz``, ``thermo.csv`` and ``settings.json``.
        atoms: the last structure, with velocities.
        thermo: columns of the log by name (the names end in units), each (lines,).
        frames: number of frames in the trajectory.
        milliseconds_per_step: wall time.
        drew_velocities: whether the structure came without velocities.
    """

    settings: MDSettings
    folder: Path
    atoms: Atoms
    thermo: dict[str, Array]
    frames: int
    milliseconds_per_step: float
    drew_velocities: bool

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
        frames = ase.io.iread(self.folder / TRAJECTORY, index=f"{start}::{stride}")
        return radial_distribution(list(frames), telling_pairs(self.atoms))


def run_md(
    atoms: Atoms,
    settings: MDSettings,
    output: str | Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, float], None] | None = None,
) -> MDResult:
    """Run molecular dynamics; the structure is only read, and its calculator used.

    A structure without velocities gets Maxwell-Boltzmann ones. The centre of mass is kept at rest
    in "nve" and "nvt" where the structure has no constraints of its own, and temperatures count
    the degrees of freedom that are left; in "npt" the thermostat moves it too.

    Args:
        atoms: structure with a calculator, and with velocities where they are to be kept.
        settings: see :class:`MDSettings`.
        output: folder for the files. Every line and frame is written at once, so that a run that
            is cut off can be continued from the last frame of its trajectory.
        overwrite: replace the files of an earlier run in that folder.
        progress: called after every step with its number and the temperature in K.

    Raises:
        ValueError: the structure does not suit the ensemble, or the folder is not empty.
        UnstableDynamicsError: energies are not finite, the temperature is 10 times too high (and
            above 3000 K), or an atom moves by more than 0.5 Å in a step.
    """
    check_structure(atoms, settings)
    system = atoms.copy()
    system.calc = atoms.calc
    folder = Path(output)
    _check_output(folder, overwrite)
    # Positions enter the seed, so that a continued run does not repeat the noise of the first one,
    # which would correlate the two.
    rng = np.random.default_rng([settings.seed, zlib.crc32(system.positions.tobytes())])
    drew_velocities = not np.any(system.get_momenta())
    if drew_velocities:
        draw_velocities(system, settings.temperature, rng)
    elif not system.constraints:
        stop_center_of_mass(system)
    if not system.constraints and settings.ensemble != "npt":
        system.set_constraint(FixCom())
    # An unsuitable structure is refused before anything is written.
    if problem := _instability(system, settings.timestep, _hottest(system, settings)):
        raise UnstableDynamicsError(f"the dynamics cannot start: {problem}; {_advice(settings)}.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).write_text(json.dumps(asdict(settings), indent=1) + "\n", encoding="utf-8")
    with (
        open(folder / TRAJECTORY, "w", encoding="utf-8") as trajectory,
        open(folder / LOG, "w", encoding="utf-8") as log,
    ):
        recorder = Recorder(
            trajectory,
            log,
            timestep=settings.timestep,
            steps=settings.steps,
            interval=settings.interval,
            log_interval=settings.log_interval,
            constraints=atoms.constraints,
        )
        _integrate(system, settings, rng, recorder, folder, progress)
    system.set_constraint([c.copy() for c in atoms.constraints])
    return MDResult(
        settings=settings,
        folder=folder,
        atoms=system,
        thermo=dict(zip(COLUMNS, np.array(recorder.rows).T, strict=True)),
        frames=recorder.frames,
        milliseconds_per_step=1e3 * recorder.seconds / settings.steps,
        drew_velocities=drew_velocities,
    )


def _check_output(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output {folder} is a file; name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ValueError(f"output folder {folder} is not empty; name another, or overwrite it.")


def _integrate(
    atoms: Atoms,
    settings: MDSettings,
    rng: np.random.Generator,
    recorder: Recorder,
    folder: Path,
    progress: Callable[[int, float], None] | None,
) -> None:
    """Take all steps, record them, and stop where the dynamics becomes unstable."""
    hottest = _hottest(atoms, settings)
    problem, step = None, 0
    dynamics = make_dynamics(atoms, settings, rng)
    conserved = partial(conserved_energy, atoms, settings, dynamics)
    try:
        for _ in dynamics.irun(settings.steps):
            step = dynamics.nsteps
            problem = _instability(atoms, settings.timestep, hottest)
            if problem:
                break
            recorder.record(step, atoms, conserved)
            if progress is not None:
                progress(step, atoms.get_temperature())
    except InputError as error:  # of our calculators: atoms on top of each other, or lost
        if not recorder.rows:
            raise
        problem = str(error).rstrip(".")
        step += 1
    if problem:
        raise UnstableDynamicsError(
            f"the dynamics became unstable at step {step} "
            f"({step * settings.timestep / 1000:.4f} ps): {problem}; {_advice(settings)}. What was "
            f"written before is in {folder}."
        )


def _hottest(atoms: Atoms, settings: MDSettings) -> float:
    """Temperature (K) above which a dynamics that starts from ``atoms`` has failed."""
    temperature = float(atoms.get_temperature())
    return max(HOT_FACTOR * max(settings.temperature, temperature), HOT_FLOOR)


def _advice(settings: MDSettings) -> str:
    return (
        f"relax the structure first, take a timestep below {settings.timestep:g} fs, or check that "
        "the model knows such structures"
    )


def _instability(atoms: Atoms, timestep: float, hottest: float) -> str | None:
    """Say what is wrong with the state of a dynamics; timestep in fs, hottest in K."""
    forces = atoms.get_forces(apply_constraint=False)
    energy = getattr(atoms.calc, "results", {}).get("energy", 0.0)  # came with the forces
    if not (np.isfinite(forces).all() and np.isfinite(energy)):
        return "energy or forces are not finite"
    temperature = atoms.get_temperature()
    if not temperature <= hottest:
        return f"the temperature of {temperature:.0f} K exceeds {hottest:.0f} K"
    farthest = timestep * units.fs * np.linalg.norm(atoms.get_velocities(), axis=1).max()
    if farthest > LONGEST_STEP:
        return f"an atom moves by {farthest:.2f} Å in one step, more than {LONGEST_STEP} Å"
    return None
