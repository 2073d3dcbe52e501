"""The command `md`: its table and files, its refusals, and how it ends when it is told to stop."""

import os
import re
import signal

import ase.io
import numpy as np
import pytest
import typer
from ase import units
from ase.build import molecule
from typer.testing import CliRunner

from pointedge.calculators.cli.md import md, read_structure
from pointedge.potentials import checkpoint

from .conftest import small_potential
from .quick import SoftSpheres, argon


class Crasher(SoftSpheres):
    """Sends this process SIGTERM in the middle of a run, as a batch system does."""

    calls = 0

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.calls += 1
        if self.calls == 25:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def command():
    app = typer.Typer()
    app.command()(md)

    def run(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return run


@pytest.fixture
def structure(tmp_path):
    fluid = argon()
    fluid.calc = None
    ase.io.write(tmp_path / "fluid.xyz", fluid)
    return tmp_path / "fluid.xyz"


OPTIONS = ("--model", f"{__name__}:SoftSpheres", "--timestep", 2, "--steps", 60, "--interval", 5)


def test_command(command, structure, tmp_path):
    outcome = command(structure, *OPTIONS, "--output", tmp_path / "run")
    assert outcome.exit_code == 0, outcome.output
    assert "temperature, second half" in outcome.stdout
    assert "drift of conserved quantity" in outcome.stdout
    assert "meV/atom/ps" in outcome.stdout
    assert "drawn" in outcome.stdout
    files = {"md.png", "settings.json", "state.json", "thermo.csv", "trajectory.extxyz"}
    assert {p.name for p in (tmp_path / "run").iterdir()} == files
    assert not outcome.stderr
    last = tmp_path / "run" / "trajectory.extxyz"
    more = command(last, *OPTIONS, "--ensemble", "npt", "--output", tmp_path / "more")
    assert more.exit_code == 0, more.output
    assert "from the structure" in more.stdout
    assert "Å³/atom" in more.stdout


def test_a_model_runs_from_the_packaged_structure_that_it_knows(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    baseline = {8: -400.0, 25: -2000.0}
    potential = small_potential(species=(8, 25), baseline=baseline, scale=0.01)
    checkpoint.save(potential, tmp_path / "m.safetensors")
    outcome = command("--model", "m.safetensors", "--steps", 2)
    assert outcome.exit_code == 0, outcome.output
    assert "first peak of g_MnO" in outcome.stdout
    frame = ase.io.read(tmp_path / "mno-md" / "trajectory.extxyz")
    assert str(frame.symbols.formula.reduce()[0]) == "MnO"
    assert np.abs(frame.get_initial_magnetic_moments()).max() > 4  # kept for models that read them


def test_command_announces_what_symmetrisation_costs(command, tmp_path):
    checkpoint.save(small_potential(), tmp_path / "m.safetensors")
    ase.io.write(tmp_path / "water.xyz", molecule("H2O"))
    outcome = command(
        tmp_path / "water.xyz", "--model", tmp_path / "m.safetensors", "--symmetrize", "lebedev:3",
        "--steps", 1, "--output", tmp_path / "run",
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stderr == "symmetrize lebedev:3: a step costs about 84 plain ones\n"


def test_command_refuses(command, structure, tmp_path):
    (tmp_path / "bad.xyz").write_text("nonsense\n")
    for arguments, message in (
        ((structure, "--output", tmp_path), "is not empty"),
        ((tmp_path / "none.xyz", "--output", tmp_path / "new"), "there is no structure file"),
        ((tmp_path / "bad.xyz", "--output", tmp_path / "new"), "holds no structure"),
        ((structure, "--steps", 0), "steps is 0"),
    ):
        outcome = command(*arguments[:1], *OPTIONS, *arguments[1:])
        assert isinstance(outcome.exception, ValueError)
        assert message in str(outcome.exception)


def test_command_stops_on_sigterm(command, structure, tmp_path):
    previous = signal.getsignal(signal.SIGTERM)
    model = f"{__name__}:Crasher"
    outcome = command(structure, *OPTIONS, "--model", model, "--output", tmp_path / "run")
    assert outcome.exit_code == 128 + signal.SIGTERM
    assert outcome.stderr == (
        f"pointedge: stopped; the same command goes on from the last frame in {tmp_path / 'run'}.\n"
    )
    assert len(ase.io.read(tmp_path / "run" / "trajectory.extxyz", index=":")) >= 4
    assert signal.getsignal(signal.SIGTERM) is previous
    again = command(structure, *OPTIONS, "--output", tmp_path / "run")
    assert again.exit_code == 0, again.output
    assert command(structure, *OPTIONS, "--output", tmp_path / "whole").exit_code == 0
    ends = [(tmp_path / name / "trajectory.extxyz").read_bytes() for name in ("run", "whole")]
    assert ends[0] == ends[1]


def test_a_line_of_progress_where_there_is_no_terminal(command, structure, tmp_path, monkeypatch):
    monkeypatch.setattr("pointedge.calculators.cli.runs.LINE_SECONDS", 0.0)
    outcome = command(structure, *OPTIONS, "--output", tmp_path / "run")
    assert outcome.exit_code == 0, outcome.output
    lines = outcome.stderr.splitlines()
    assert len(lines) == 60
    assert re.fullmatch(r"step 60/60  0.120 ps  \S+ ns/day  \d+ K  0:00:00 left", lines[-1]), lines[
        -1
    ]


def test_packaged_box_is_liquid_water_at_rest():
    box = read_structure(None)
    assert str(box.symbols.formula.reduce()[0]) in ("OH2", "H2O")
    assert len(box) == 192
    assert all(box.pbc)
    density = box.get_masses().sum() / units.kg / (box.get_volume() * 1e-27)
    assert density == pytest.approx(0.999, abs=0.003)  # kg/L
    assert np.abs(box.get_momenta().sum(axis=0)).max() < 1e-5
    assert 200 < box.get_temperature() < 400
    distances = box.get_all_distances(mic=True)
    oxygen = box.numbers == 8
    assert distances[np.ix_(oxygen, oxygen)][~np.eye(64, dtype=bool)].min() > 2.2
    bonded = (distances[np.ix_(oxygen, ~oxygen)] < 1.3).sum(axis=1)
    assert (bonded == 2).all()
