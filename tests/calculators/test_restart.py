"""Runs that were cut off go on as if they had never stopped, or say why they cannot."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from pointedge.calculators import PETCalculator, md
from pointedge.calculators.md import run_md
from pointedge.calculators.restart import State, find_state
from pointedge.calculators.results import read_run

from .conftest import small_potential
from .quick import argon, files, settings

KINDS = [
    {"ensemble": "nve"},
    {"ensemble": "nvt", "thermostat": "bussi"},
    {"ensemble": "nvt", "thermostat": "langevin"},
    {"ensemble": "npt", "pressure": 8000.0},
]


@pytest.fixture
def fluid():
    return argon()


def stop_at(number):
    def stop(step, temperature):
        if step == number:
            raise KeyboardInterrupt

    return stop


def iread(folder):
    return ase.io.iread(folder / "trajectory.extxyz", index=":")


@pytest.mark.parametrize("change", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
@pytest.mark.parametrize("step", [4, 27, 30, 40])
def test_an_interrupted_run_ends_as_one_that_was_not(fluid, tmp_path, change, step):
    run = settings(**change, interval=10, log_interval=3, steps=43)
    whole = run_md(fluid, run, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_md(fluid, run, tmp_path / "cut", progress=stop_at(step))
    fresh = argon()  # another process would know nothing of the first calculator
    resumed = run_md(fresh, run, tmp_path / "cut")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    np.testing.assert_array_equal(resumed.atoms.positions, whole.atoms.positions)
    np.testing.assert_array_equal(resumed.atoms.get_momenta(), whole.atoms.get_momenta())
    assert resumed.frames == whole.frames == 6
    assert resumed.drew_velocities


@pytest.mark.parametrize(
    ("dtype", "change"),
    [
        ("float32", {"thermostat": "langevin"}),
        ("float64", {"thermostat": "bussi"}),
        ("float64", {"ensemble": "npt", "barostat_time": 100.0}),
    ],
)
def test_our_calculator_goes_on_to_the_same_bits(tmp_path, dtype, change):
    """The neighbour list of a resumed run was built elsewhere; its order must not matter."""
    atoms = molecule("H2O")
    atoms.set_cell([4.0, 4.2, 4.4])  # less than the skin and cutoff: atoms see several images
    atoms.pbc = True
    atoms = atoms.repeat((2, 1, 1))
    atoms.rattle(0.05, seed=1)
    potential = small_potential()
    run = settings(**change, temperature=2000.0, timestep=1.0)
    for name in ("whole", "cut"):
        atoms.calc = PETCalculator(potential, dtype=dtype)
        if name == "cut":
            with pytest.raises(KeyboardInterrupt):
                run_md(atoms, run, tmp_path / name, progress=stop_at(27))
            atoms.calc = PETCalculator(potential, dtype=dtype)
        run_md(atoms, run, tmp_path / name)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


@pytest.mark.parametrize("call", range(1, 6))
def test_a_disk_that_is_full_at_any_write_loses_nothing(fluid, tmp_path, monkeypatch, call):
    run = settings(thermostat="langevin")
    run_md(fluid, run, tmp_path / "whole")
    written = []
    write = State.write

    def failing(self, folder):
        if len(written) == call:
            (folder / "state.json.partial").write_text("{")  # as far as it came
            raise OSError(28, "No space left on device")
        written.append(self.step)
        write(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(State, "write", failing)
        with pytest.raises(OSError, match="No space left"):
            run_md(fluid, run, tmp_path / "cut")
    for name in ("trajectory.extxyz", "thermo.csv"):  # a frame and a line that were cut in two
        with open(tmp_path / "cut" / name, "a") as file:
            file.write("32\nLatt")
    run_md(fluid, run, tmp_path / "cut")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_a_state_counts_on_nothing_that_is_not_on_the_disk(fluid, tmp_path, monkeypatch):
    """Or a power failure could leave a state that is newer than its files."""
    safe, states = {}, []  # bytes on the disk, by inode
    fsync, rename = os.fsync, Path.replace

    def synced(descriptor):
        fsync(descriptor)
        safe[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    def replaced(part, target):
        if target.name == "state.json":
            state = json.loads(part.read_text())
            assert safe[part.stat().st_ino] == part.stat().st_size
            for name, size in zip(("trajectory.extxyz", "thermo.csv"), state["sizes"], strict=True):
                assert not size or safe[(tmp_path / name).stat().st_ino] >= size
            states.append(state["step"])
        return rename(part, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    run_md(fluid, settings(), tmp_path)
    assert states == [0, 0, 10, 20, 30, 40]
    assert tmp_path.stat().st_ino in safe


def test_a_run_that_could_not_write_anything_begins_anew(fluid, tmp_path):
    (tmp_path / "state.json.partial").write_text("{")
    assert run_md(fluid, settings(), tmp_path).frames == 5


def test_more_steps_continue_a_finished_run(fluid, tmp_path):
    whole = run_md(fluid, settings(steps=60), tmp_path / "whole")
    run_md(fluid, settings(steps=30), tmp_path / "short")
    longer = run_md(fluid, settings(steps=60), tmp_path / "short")
    assert files(tmp_path / "short") == files(tmp_path / "whole")
    assert longer.settings.steps == 60
    again = run_md(fluid, settings(steps=60), tmp_path / "short", progress=stop_at(60))
    assert files(tmp_path / "short") == files(tmp_path / "whole")
    assert again.picoseconds == whole.picoseconds == 0.12
    with pytest.raises(ValueError, match="a run of 60 steps already, more than the 30"):
        run_md(fluid, settings(steps=30), tmp_path / "short")


@pytest.mark.parametrize("change", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
@pytest.mark.parametrize(("step", "frames"), [(33, 5), (40, 5), (35, 5), (3, 2)])
def test_the_end_of_a_run_leaves_nothing_in_a_longer_one(tmp_path, change, step, frames):
    """Frames every 10 steps, lines every 7: one of them comes early, or both, in a shorter run."""
    short, long = (
        settings(**change, interval=10, log_interval=7, steps=steps) for steps in (step, 60)
    )
    run_md(argon(), long, tmp_path / "whole")
    run_md(argon(), short, tmp_path / "short")
    assert run_md(argon(), short, tmp_path / "run").frames == frames
    run_md(argon(), short, tmp_path / "run")  # which changes nothing
    assert files(tmp_path / "run") == files(tmp_path / "short")
    with pytest.raises(KeyboardInterrupt):
        run_md(argon(), long, tmp_path / "run", progress=stop_at(step + 2))
    assert read_run(tmp_path / "run").frames == sum(1 for _ in iread(tmp_path / "run"))
    run_md(argon(), short, tmp_path / "run")  # and after all no further
    assert files(tmp_path / "run") == files(tmp_path / "short")
    for last in (step + 1, 60):
        with pytest.raises(KeyboardInterrupt):
            run_md(argon(), long, tmp_path / "run", progress=stop_at(last))
    result = run_md(argon(), long, tmp_path / "run")
    assert np.isfinite(result.milliseconds_per_step)
    assert files(tmp_path / "run") == files(tmp_path / "whole")
    times = [frame.info["step"] for frame in iread(tmp_path / "run")]
    assert times == [0, 10, 20, 30, 40, 50, 60]


def test_a_run_is_read_while_it_lasts(fluid, tmp_path):
    lengths = []

    def look(step, temperature):
        if step == 27:
            part = read_run(tmp_path)
            lengths.append((part.frames, part.picoseconds, len(list(part.iter_frames()))))

    whole = run_md(fluid, settings(), tmp_path, progress=look)
    assert lengths == [(3, 0.04, 3)]
    assert read_run(tmp_path).thermo.keys() == whole.thermo.keys()
    with pytest.raises(ValueError, match="holds no run yet"):
        read_run(tmp_path / "none")


def test_two_processes_do_not_share_a_folder(fluid, tmp_path):
    run_md(fluid, settings(), tmp_path)
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match="another process is running in"):
        run_md(fluid, settings(steps=80), tmp_path)
    os.close(other)
    run_md(fluid, settings(steps=80), tmp_path)


def test_a_file_system_without_locks(fluid, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert run_md(fluid, settings(), tmp_path).thermo["step"][-1] == settings().steps


def test_the_state_is_read_when_no_other_process_can_write(fluid, tmp_path, monkeypatch):
    """A first process that runs between reading and locking would be overwritten by a second."""
    run_md(fluid, settings(steps=30), tmp_path / "run")
    refusals = []

    def find(folder):
        state = find_state(folder)
        with pytest.raises(ValueError, match="another process is running in") as refused:
            run_md(argon(), settings(steps=80), tmp_path / "run")
        refusals.append(refused)
        return state

    with monkeypatch.context() as patch:
        patch.setattr(md, "find_state", lambda folder: patch.undo() or find(folder))
        assert run_md(fluid, settings(steps=60), tmp_path / "run").frames == 7
    assert len(refusals) == 1


def test_damaged_files_are_told(fluid, tmp_path):
    run_md(fluid, settings(), tmp_path)
    with open(tmp_path / "trajectory.extxyz", "a") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match=r"trajectory.extxyz has lost what was written"):
        run_md(fluid, settings(), tmp_path)
    (tmp_path / "state.json").write_text('{"step": 3}')
    with pytest.raises(ValueError, match=r"state.json cannot be read"):
        run_md(fluid, settings(), tmp_path)
    assert run_md(fluid, settings(), tmp_path, overwrite=True).frames == 5
