"""Dynamics that stops, or stores frames, where its model is not sure enough."""

import json
from dataclasses import replace

import ase.io
import numpy as np
import pytest
import typer
from ase.md.verlet import VelocityVerlet
from ase.units import fs
from typer.testing import CliRunner

from pointedge.calculators.cli.md import md
from pointedge.calculators.dynamics import draw_velocities
from pointedge.calculators.md import run_md
from pointedge.calculators.monitor import Limits, UncertainError, UncertaintyMonitor
from pointedge.calculators.results import read_run

from .quick import SoftSpheres, argon, settings


class Doubtful(SoftSpheres):
    """The larger a force, the less sure of it; a function of the structure alone."""

    implemented_properties = (*SoftSpheres.implemented_properties, "energy_std", "forces_std")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results["forces_std"] = 0.1 * np.abs(self.results["forces"])
        self.results["energy_std"] = 0.01 * self.results["energy"]


def fluid():
    atoms = argon()
    atoms.calc = Doubtful()
    return atoms


def largest_stds(steps):
    """The largest standard deviation of a force at every step of an undisturbed run."""
    atoms = moving()
    dynamics = VelocityVerlet(atoms, 2 * fs)
    steps = dynamics.irun(steps)
    return np.array([atoms.calc.get_property("forces_std", atoms).max() for _ in steps])


def moving():
    atoms = fluid()
    draw_velocities(atoms, 300.0, np.random.default_rng(0))
    return atoms


def read(path):
    return ase.io.read(path, index=":") if path.exists() else []


def test_any_dynamics_of_ase_stores_frames(tmp_path):
    path = tmp_path / "uncertain.extxyz"
    stds = largest_stds(60)
    limit = float(np.median(stds))
    atoms = moving()
    dynamics = VelocityVerlet(atoms, 2 * fs)
    limits = Limits(forces=limit, action="store", spacing=7)
    monitor = UncertaintyMonitor(dynamics, limits, path)
    dynamics.attach(monitor)
    dynamics.run(60)
    expected: list[int] = []
    for step in np.flatnonzero(stds > limit):
        if not expected or step - expected[-1] >= 7:
            expected.append(int(step))
    frames = read(path)
    assert 2 < len(expected) == monitor.stored
    assert [frame.info["step"] for frame in frames] == expected
    for frame, step in zip(frames, expected, strict=True):
        assert frame.calc is None  # an energy of the model is no label
        assert frame.info["max_forces_std"] == pytest.approx(stds[step], rel=1e-7)
        assert frame.arrays["forces_std"].max() == pytest.approx(stds[step], rel=1e-6)
        assert frame.info["energy_std"] > 0
        assert np.any(frame.get_momenta())


def test_a_stop_says_where_and_why(tmp_path):
    stds = largest_stds(60)
    limit = float(np.sort(stds)[-3])
    atoms = moving()
    dynamics = VelocityVerlet(atoms, 2 * fs)
    dynamics.attach(UncertaintyMonitor(dynamics, Limits(forces=limit), tmp_path / "u.extxyz"))
    step = int(np.argmax(stds > limit))
    message = rf"stopped at step {step}: the standard deviation of a force is .* eV/Å, on atom \d+ "
    with pytest.raises(UncertainError, match=message):
        dynamics.run(60)
    assert dynamics.nsteps == step
    assert [frame.info["step"] for frame in read(tmp_path / "u.extxyz")] == [step]


RUN = settings(ensemble="nve", steps=60, interval=10)


def limit_of_run(tmp_path, rank):
    """A limit that some steps of RUN exceed, the first of them not at once."""
    path = tmp_path / "all"
    run_md(fluid(), RUN, path, limits=Limits(forces=1e-9, action="store", spacing=1))
    stds = [frame.info["max_forces_std"] for frame in read(path / "uncertain.extxyz")]
    assert len(stds) == 61
    return np.array(stds), float(np.sort(stds)[-rank])


@pytest.mark.parametrize("cut", [4, 20, 33])
def test_an_interrupted_run_stores_every_frame_once(tmp_path, cut):
    _, limit = limit_of_run(tmp_path, 30)
    limits = Limits(forces=limit, action="store", spacing=4)

    def stop(step, temperature):
        if step == cut:
            raise KeyboardInterrupt

    whole = run_md(fluid(), RUN, tmp_path / "whole", limits=limits)
    with pytest.raises(KeyboardInterrupt):
        run_md(fluid(), RUN, tmp_path / "cut", limits=limits, progress=stop)
    run_md(fluid(), RUN, tmp_path / "cut", limits=limits)
    found, expected = (
        (tmp_path / name / "uncertain.extxyz").read_bytes() for name in ("cut", "whole")
    )
    assert found == expected
    assert whole.uncertain == len(read(tmp_path / "whole" / "uncertain.extxyz")) > 3


def test_a_run_that_was_stopped_is_whole_and_goes_on_with_a_higher_limit(tmp_path):
    stds, limit = limit_of_run(tmp_path, 3)
    step = int(np.argmax(stds > limit))
    assert step > 10
    for _ in range(2):  # the same again stops at the same step
        with pytest.raises(UncertainError, match=f"stopped at step {step} .* above"):
            run_md(fluid(), RUN, tmp_path / "run", limits=Limits(forces=limit))
        assert [f.info["step"] for f in read(tmp_path / "run" / "uncertain.extxyz")] == [step]
        part = read_run(tmp_path / "run")
        assert part.frames == len(list(part.iter_frames())) == step // 10 + 1
        assert part.thermo["step"][-1] == step // 10 * 10
    run_md(fluid(), RUN, tmp_path / "run", limits=Limits(forces=10 * limit))
    run_md(fluid(), RUN, tmp_path / "whole")
    ends = [(tmp_path / n / "trajectory.extxyz").read_bytes() for n in ("run", "whole")]
    assert ends[0] == ends[1]
    assert [f.info["step"] for f in read(tmp_path / "run" / "uncertain.extxyz")] == [step]
    assert read_run(tmp_path / "run").uncertain == 1
    assert not (tmp_path / "whole" / "uncertain.extxyz").exists()


def test_runs_of_earlier_versions_go_on(tmp_path):
    run_md(fluid(), replace(RUN, steps=20), tmp_path / "old")
    path = tmp_path / "old" / "state.json"
    state = json.loads(path.read_text())
    del state["uncertain"], state["last_uncertain"]
    path.write_text(json.dumps(state))
    assert run_md(fluid(), RUN, tmp_path / "old").frames == 7


def test_a_calculator_that_is_unsure_of_forces_alone(tmp_path):
    class Partial(Doubtful):
        implemented_properties = (*SoftSpheres.implemented_properties, "forces_std")

        def calculate(self, *arguments, **options):
            super().calculate(*arguments, **options)
            del self.results["energy_std"]

    atoms = argon()
    atoms.calc = Partial()
    result = run_md(atoms, settings(steps=10), tmp_path, limits=Limits(forces=9.0))
    frames = list(result.iter_frames())
    assert all("energy_std" not in frame.info for frame in frames)
    expected = 0.1 * np.abs(frames[-1].get_forces())
    np.testing.assert_allclose(frames[-1].arrays["forces_std"], expected, atol=1e-7)


def test_the_energy_of_the_structure(tmp_path):
    with pytest.raises(UncertainError, match=r"deviation of the energy is .* eV, above 0.001 eV"):
        run_md(fluid(), RUN, tmp_path / "run", limits=Limits(energy=1e-3))


def test_refusals(tmp_path):
    for values, message in (
        ({}, "give a limit of uncertainty"),
        ({"forces": 0.0}, "limit of uncertain forces is 0"),
        ({"energy": 0.1, "action": "halt"}, "unknown action 'halt'; known: stop, store"),
        ({"energy": 0.1, "spacing": 0}, "spacing is 0 steps"),
    ):
        with pytest.raises(ValueError, match=message):
            Limits(**values)
    with pytest.raises(ValueError, match="the model gives no forces_std, which the limit is for"):
        run_md(argon(), RUN, tmp_path / "run", limits=Limits(forces=0.1))
    assert not (tmp_path / "run").exists()


def test_command(tmp_path):
    app = typer.Typer()
    app.command()(md)
    start = argon()
    start.calc = None
    ase.io.write(tmp_path / "fluid.xyz", start)
    options = ["--model", f"{__name__}:Doubtful", "--timestep", 2, "--steps", 30, "--interval", 5]

    def run(name, *more):
        command = [tmp_path / "fluid.xyz", *options, "--output", tmp_path / name, *more]
        return CliRunner().invoke(app, [str(a) for a in command])

    stopped = run("stopped", "--uncertain-forces", 1e-6)
    assert stopped.exit_code == 1
    assert "stopped at step 0 (0.0000 ps): the standard deviation of a force" in stopped.stderr
    assert "steps" in stopped.stdout
    more = ("--uncertain-forces", 1e-6, "--uncertain-action", "store", "--uncertain-spacing", 10)
    stored = run("stored", *more)
    assert stored.exit_code == 0, stored.output
    assert "uncertain frames" in stored.stdout
    frames = read(tmp_path / "stored" / "uncertain.extxyz")
    assert [frame.info["step"] for frame in frames] == [0, 10, 20, 30]
