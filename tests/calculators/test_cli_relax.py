"""The command `relax`: its table and files, its refusals, and that no run is lost."""

import os
import signal

import ase.io
import numpy as np
import pytest
import typer
from ase.build import molecule
from ase.calculators.emt import EMT as EMT  # a model, by name
from ase.constraints import FixAtoms
from typer.testing import CliRunner

from pointedge.calculators.cli.relax import relax
from pointedge.potentials import checkpoint

from .conftest import MomentNetwork, small_potential
from .quick import SoftSpheres, argon
from .test_relaxation import BreaksDown as BreaksDown  # a model, by name
from .test_relaxation import crystal


class Interrupted(SoftSpheres):
    """Gets a signal in the middle of the eighth evaluation."""

    calls, number = 0, signal.SIGINT

    def calculate(self, *args, **kwargs):
        self.calls += 1
        if self.calls == 8:
            os.kill(os.getpid(), self.number)
        super().calculate(*args, **kwargs)


class Terminated(Interrupted):
    number = signal.SIGTERM


def repulsion():
    from pointedge.calculators import PotentialCalculator
    from pointedge.potentials.potential import Potential

    return PotentialCalculator(Potential(MomentNetwork()))


@pytest.fixture
def command(tmp_path, monkeypatch):
    app = typer.Typer()
    app.command()(relax)
    monkeypatch.chdir(tmp_path)

    def run(*arguments, model="SoftSpheres"):
        options = ("--model", f"{__name__}:{model}") if model else ()
        return CliRunner().invoke(app, [str(a) for a in (*arguments, *options)])

    return run


@pytest.fixture
def structure(tmp_path):
    fluid = argon()
    fluid.calc = None
    fluid.info["energy"] = 3.0
    fluid.set_constraint(FixAtoms([0, 5]))
    ase.io.write(tmp_path / "fluid.xyz", fluid)
    return "fluid.xyz"


def table(outcome):
    lines = (line.split("  ") for line in outcome.stdout.splitlines())
    return {words[0]: [w.strip() for w in words[1:] if w.strip()] for words in lines}


def test_command(command, structure, tmp_path):
    outcome = command(structure, "--fmax", 0.02, "--trajectory", "steps.xyz")
    assert outcome.exit_code == 0, outcome.output
    assert not outcome.stderr
    rows = table(outcome)
    assert rows["converged"] == ["yes"]
    assert rows["energy change"][0].startswith("-")
    assert float(rows["largest force after"][0]) < 0.02 < float(rows["largest force before"][0])
    assert outcome.stdout.endswith("relaxed.xyz: the last structure; steps.xyz: every step\n")
    assert {p.name for p in tmp_path.iterdir()} == {"fluid.xyz", "relaxed.xyz", "steps.xyz"}
    start, last = ase.io.read(structure), ase.io.read("relaxed.xyz")
    energy, forces = last.get_potential_energy(), last.get_forces(apply_constraint=False)
    assert float(rows["energy after"][0]) == pytest.approx(energy, abs=1e-6)
    stress = last.get_stress()
    last.calc = SoftSpheres()
    np.testing.assert_allclose(last.get_forces(apply_constraint=False), forces, atol=1e-6)
    np.testing.assert_allclose(last.get_stress(), stress, atol=1e-7)
    np.testing.assert_array_equal(last.constraints[0].index, [0, 5])
    np.testing.assert_array_equal(last.positions[[0, 5]], start.positions[[0, 5]])
    frames = ase.io.read("steps.xyz", ":")
    assert [f.info["step"] for f in frames] == list(range(int(rows["steps"][0]) + 1))
    np.testing.assert_allclose(frames[0].positions, start.positions, atol=1e-8)
    np.testing.assert_array_equal(frames[-1].positions, last.positions)


@pytest.mark.parametrize("name", ["POSCAR", "a.cif", "a.traj", "a.json", "a.xyz.gz"])
def test_formats(command, structure, tmp_path, name):
    outcome = command(structure, "--fmax", 0.5, "--output", name)
    assert outcome.exit_code == 0, outcome.output
    assert {p.name for p in tmp_path.iterdir()} == {"fluid.xyz", name}
    relaxed = ase.io.read(name)
    relaxed.calc, relaxed.constraints = SoftSpheres(), []
    energy = float(table(outcome)["energy after"][0])
    assert relaxed.get_potential_energy() == pytest.approx(energy, abs=1e-4)


def test_cell(command):
    atoms = crystal()
    atoms.calc = None
    ase.io.write("crystal.xyz", atoms)
    outcome = command("crystal.xyz", "--cell", "--pressure", 2e5, model="repulsion")
    assert outcome.exit_code == 0, outcome.output
    rows = table(outcome)
    assert float(rows["enthalpy change"][0]) < -0.1
    growth = ase.io.read("relaxed.xyz").get_volume() / atoms.get_volume() - 1
    assert float(rows["volume change"][0]) == pytest.approx(100 * growth, abs=0.01)
    assert float(rows["largest stress beyond the pressure, before"][0]) > 1e4
    assert float(rows["largest stress beyond the pressure, after"][0]) < 100


def test_step_limit(command, structure):
    outcome = command(structure, "--steps", 4)
    assert outcome.exit_code == 1
    assert table(outcome)["converged"] == ["no"]
    assert table(outcome)["steps"] == ["4"]
    assert outcome.stderr == "pointedge: not converged after 4 steps; go on from relaxed.xyz.\n"
    more = command("relaxed.xyz", "--fmax", 0.02, "--output", "relaxed-2.xyz")
    assert more.exit_code == 0, more.output
    assert table(more)["energy before"] == table(outcome)["energy after"]


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal; a shell's background jobs, CI's too, are started deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("model", ["Interrupted", "Terminated"])
def test_a_stopped_run_is_not_lost(command, structure, model):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    outcome = command(structure, "--trajectory", "steps.xyz", model=model)
    assert outcome.exit_code == 1, outcome.output
    assert table(outcome)["converged"] == ["no"]
    assert outcome.stderr.startswith("pointedge: stopped by a signal after 6 steps")
    last, frames = ase.io.read("relaxed.xyz"), ase.io.read("steps.xyz", ":")
    assert len(frames) == 7
    np.testing.assert_array_equal(last.positions, frames[-1].positions)
    assert float(table(outcome)["energy after"][0]) == pytest.approx(
        last.get_potential_energy(), abs=1e-6
    )
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_failed_run_leaves_its_last_good_structure(command, structure):
    outcome = command(structure, model="BreaksDown")
    assert isinstance(outcome.exception, ValueError)
    assert "failed at step 4: forces not finite" in str(outcome.exception)
    assert outcome.stderr == "pointedge: the structure of step 3 is in relaxed.xyz.\n"
    assert np.isfinite(ase.io.read("relaxed.xyz").get_forces()).all()


def test_symmetrisation_and_doubts_are_announced(command):
    checkpoint.save(small_potential(seed=3, scale=0.2), "m.safetensors")
    water = molecule("H2O")
    water.rotate(40, (1, 2, 3))
    ase.io.write("water.xyz", water)
    options = ("water.xyz", "--model", "m.safetensors", "--overwrite")
    outcome = command(
        *options, "--symmetrize", "octahedral", "--steps", 1, "--fmax", 1e-6, model=None
    )
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("symmetrize octahedral: a step costs about 48 plain ones\n")
    outcome = command(*options, "--optimizer", "lbfgs", model=None)
    assert outcome.exit_code == 0, outcome.output
    assert "the energy rose by 0.016 eV" in outcome.stderr


def test_refusals_come_before_the_run(command, structure, tmp_path):
    (tmp_path / "folder.xyz").mkdir()
    (tmp_path / "old.xyz").write_text("precious")
    for arguments, message in (
        (("--output", "old.xyz"), "old.xyz exists; choose another output, or give --overwrite"),
        (("--trajectory", "old.xyz"), "old.xyz exists"),
        (("--output", "folder.xyz", "--overwrite"), "is a folder"),
        (("--output", "none/a.xyz"), "there is no folder none"),
        (("--output", "a.xyzz"), "cannot write a structure into a.xyzz; its suffix has to be"),
        (("--output", "noname"), "cannot write a structure into noname"),
        (("--output", "a.png"), "cannot write a structure into a.png"),
        (("--output", "a.xtl"), "cannot be written to a.xtl in ASE's format mustem"),
        (("--trajectory", "a.cif"), "its suffix has to be .xyz or .extxyz"),
        (("--trajectory", "relaxed.xyz"), "name two files"),
        (("--pressure", 3), "acts on the cell only"),
        (("--fmax", -1), "fmax is -1.0"),
    ):
        outcome = command(structure, *arguments, model="does_not_exist")
        assert isinstance(outcome.exception, ValueError)
        assert message in str(outcome.exception)
    ase.io.write("molecule.xyz", molecule("H2O"))
    outcome = command("molecule.xyz", "--cell")
    assert "periodic along all three axes" in str(outcome.exception)
    outcome = command(structure, "--optimizer", "newton")
    assert outcome.exit_code == 2
    assert "'newton' is not one of" in outcome.output
    assert (tmp_path / "old.xyz").read_text() == "precious"
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"fluid.xyz", "folder.xyz", "old.xyz", "molecule.xyz"}


def test_old_steps_stay_where_nothing_could_be_computed(command, structure, tmp_path):
    (tmp_path / "steps.xyz").write_text("precious")
    arguments = ("--trajectory", "steps.xyz", "--overwrite")
    outcome = command(structure, *arguments, model="EMT")
    assert isinstance(outcome.exception, NotImplementedError)
    assert (tmp_path / "steps.xyz").read_text() == "precious"
