"""Molecular dynamics of a structure with any ASE calculator: one run fills one folder.

The integrators are ASE's. Around them stand the things a run needs: velocities, a trajectory and a
log that stay readable when a run is cut off, and a stop when the dynamics becomes unstable.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom

from .dynamics import (
    MDSettings,
    check_structure,
    conserved_energy,
    draw_velocities,
    make_dynamics,
    recall,
    stop_center_of_mass,
)
from .ends import go_on
from .inputs import InputError
from .monitor import Limits, UncertainError, UncertaintyMonitor
from .origin import check_same_model, check_same_run, origin
from .recorder import Recorder
from .restart import (
    UNCERTAIN,
    State,
    find_state,
    locked,
    open_files,
    sizes,
    writable,
)
from .results import MDResult, read_run

# Above all of these the integration has failed, whatever the material.
HOT_FACTOR, HOT_FLOOR, LONGEST_STEP = 10.0, 3000.0, 0.5  # -, K, Å


class UnstableDynamicsError(ValueError):
    """The dynamics became unphysical and was stopped; the files written so far remain."""


def run_md(
    atoms: Atoms,
    settings: MDSettings,
    output: str | Path,
    *,
    limits: Limits | None = None,
    overwrite: bool = False,
    progress: Callable[[int, float], None] | None = None,
) -> MDResult:
    """Run molecular dynamics; the structure is only read, and its calculator used.

    A structure without velocities gets Maxwell-Boltzmann ones. The centre of mass is kept at rest
    in "nve" and "nvt" where the structure has no constraints of its own, and temperatures count
    the degrees of freedom that are left; in "npt" the thermostat moves it too.

    A run that was cut off, at whatever moment, goes on from its last frame when it is asked for
    again with the same arguments, or with more steps; the frame and line of an old last step stay
    only where the intervals have one there. Where the calculator's forces are a function
    of the structure alone, and the same to the last bit when asked for twice (ours are on a CPU
    with the same number of threads), it ends as if it had never stopped, in every ensemble.

    Args:
        atoms: structure with a calculator, and with velocities where they are to be kept.
        settings: see :class:`MDSettings`.
        output: folder for the files. Every line and frame is written at once.
        limits: where the model is too uncertain, the run stops, or the frame is stored in
            ``uncertain.extxyz``; they may change when a run goes on.
        overwrite: begin anew, and replace the files of an earlier run in that folder.
        progress: called after every step with its number and the temperature in K.

    Raises:
        ValueError: the structure does not suit the ensemble, or the folder holds other things: no
            run, one with other settings, another start, another model, or one that still runs.
        UnwrittenError: the disk is full, or the folder cannot be written.
        UnstableDynamicsError: energies are not finite, the temperature is 10 times too high (and
            above 3000 K), or an atom moves by more than 0.5 Å in a step.
        UncertainError: the model is less sure than ``limits``; the run is whole up to its last
            frame, and goes on from there when it is asked for with other ones.
    """
    check_structure(atoms, settings)
    if limits is not None:
        limits.check(atoms.calc)
    system = atoms.copy()
    system.calc = atoms.calc
    folder = Path(output)
    # Positions enter the seed, so that a run from the end of another does not repeat its noise,
    # which would correlate the two.
    rng = np.random.default_rng([settings.seed, zlib.crc32(system.positions.tobytes())])
    hottest = _hottest(atoms, settings)
    with locked(folder):  # what is found stays true
        found = None if overwrite else find_state(folder)
        state, there = _begin(atoms, system, settings, rng, hottest, found, folder)
        with writable(folder), open_files(folder, state, uncertain=limits is not None) as files:
            trajectory, log = files[:2]
            recorder = Recorder(
                trajectory,
                log,
                settings,
                constraints=atoms.constraints,
                step=state.step,
                frames=state.frames,
                there=there,
            )
            _integrate(
                system, settings, rng, hottest, recorder, state, folder, files, limits, progress
            )
        system.set_constraint([c.copy() for c in atoms.constraints])
        return replace(read_run(folder), atoms=system)


def _begin(
    atoms: Atoms,
    system: Atoms,
    settings: MDSettings,
    rng: np.random.Generator,
    hottest: float,
    found: State | None,
    folder: Path,
) -> tuple[State, set[str]]:
    """Bring a system, a copy of ``atoms``, to where a run goes on or begins; see :func:`go_on`.

    An unsuitable structure is refused before anything is written.
    """
    if found is None:
        drew_velocities = _prepare_velocities(system, settings, rng)
    else:
        check_same_run(found, settings, atoms, folder)
        found.restore(system, rng)
    if not system.constraints and settings.ensemble != "npt":
        system.set_constraint(FixCom())
    if problem := _instability(system, settings.timestep, hottest):
        raise UnstableDynamicsError(f"the dynamics cannot start: {problem}; {_advice(settings)}.")
    if found is None:
        return State.of(system, rng, settings, origin(atoms), drew_velocities), set()
    check_same_model(found, system, folder)
    now = replace(found, settings=asdict(settings), **origin(atoms))  # longer, perhaps
    return go_on(now, settings, folder)


def _prepare_velocities(atoms: Atoms, settings: MDSettings, rng: np.random.Generator) -> bool:
    """Draw velocities where there are none, and say whether; bring the centre of mass to rest."""
    if not np.any(atoms.get_momenta()):
        draw_velocities(atoms, settings.temperature, rng)
        return True
    if not atoms.constraints:
        stop_center_of_mass(atoms)
    return False


def _integrate(
    atoms: Atoms,
    settings: MDSettings,
    rng: np.random.Generator,
    hottest: float,
    recorder: Recorder,
    state: State,
    folder: Path,
    files: Sequence[TextIO],
    limits: Limits | None,
    progress: Callable[[int, float], None] | None,
) -> None:
    """Take all steps, record them, and stop where the dynamics becomes unstable or uncertain."""
    problem, step = None, state.step
    dynamics = make_dynamics(atoms, settings, rng)
    dynamics.nsteps = state.step
    recall(dynamics, state.integrator)
    conserved = partial(conserved_energy, atoms, settings, dynamics)
    stored = state.uncertain, state.last_uncertain
    latest, monitor = state, None
    if limits is not None:
        monitor = UncertaintyMonitor(dynamics, limits, files[2], stored=stored[0], last=stored[1])
    try:
        for _ in dynamics.irun(settings.steps - state.step):
            step = dynamics.nsteps
            again = step == state.step and state.frames  # recorded before the run was cut off
            if not again and (problem := _instability(atoms, settings.timestep, hottest)):
                break
            due = recorder.record(step, atoms, conserved)
            doubt = None
            if monitor is not None:
                doubt, stored = monitor.look(), (monitor.stored, monitor.last)
            if due:  # the state knows of all that is in the files
                written = sizes(files)
                latest = state.after(atoms, rng, dynamics, recorder.frames, written, stored)
                latest.write(folder)
            if doubt is not None:
                latest.keeping(sizes(files), stored).write(folder)
                raise UncertainError(_stopped(step, settings, doubt, folder))
            if progress is not None and not again:
                progress(step, atoms.get_temperature())
    except InputError as error:  # of our calculators: atoms on top of each other, or lost
        if not recorder.frames:
            raise
        problem = str(error).rstrip(".")
        step += 1
    if problem:
        raise UnstableDynamicsError(
            f"the dynamics became unstable at step {step} "
            f"({step * settings.timestep / 1000:.4f} ps): {problem}; {_advice(settings)}. What was "
            f"written before is in {folder}."
        )


def _stopped(step: int, settings: MDSettings, doubt: str, folder: Path) -> str:
    return (
        f"stopped at step {step} ({step * settings.timestep / 1000:.4f} ps): {doubt}. That frame "
        f"is the last of {folder / UNCERTAIN}; with a higher limit the run goes on."
    )


def _hottest(atoms: Atoms, settings: MDSettings) -> float:
    """Temperature (K) above which a dynamics of ``atoms``, as they were given, has failed."""
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
