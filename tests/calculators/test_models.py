"""Models by name, by file and from other packages; the commands that describe them."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from typer import Typer
from typer.testing import CliRunner

from pointedge.calculators import (
    PETCalculator,
    PotentialCalculator,
    ensemble_files,
    loading,
    models,
)
from pointedge.calculators.cli.info import info as info_command
from pointedge.calculators.cli.models import models as models_command
from pointedge.potentials import checkpoint

from .conftest import BASELINE, bulk, small_potential


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pet-water.safetensors"
    potential = small_potential(cutoff_function="cosine", cutoff_width=0.5)
    potential.information.update(
        training={"data": {"train": {"files": ["water/train.xyz"]}}},
        validation_rmse={"energy": 1.25, "forces": 42.125},
        test_rmse={"forces": 57.5},
        training_data_sha256="abc",
        steps=7,
    )
    checkpoint.save(potential, path)
    return path


@pytest.fixture
def packaged(monkeypatch, file, tmp_path):
    """Two packaged models: pet-water, pet-ice."""
    other = tmp_path / "pet-ice.safetensors"
    checkpoint.save(small_potential(dtype=torch.float32), other)
    paths = {"pet-water": file, "pet-ice": other}
    for module in (ensemble_files, loading, models):
        monkeypatch.setattr(module, "packaged_models", lambda: paths)
    monkeypatch.setattr(ensemble_files, "packaged_folder", lambda name: tmp_path)
    return paths


def test_packaged_models_are_checkpoints_of_pointedge():
    for name, path in models.packaged_models().items():
        assert path.name == f"{name}.safetensors"
        assert models.model_card(path)["format_version"] == 1


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_file(file, kind):
    atoms = bulk()
    atoms.calc = PETCalculator(kind(file))
    expected = PETCalculator(small_potential(cutoff_function="cosine", cutoff_width=0.5))
    assert atoms.get_potential_energy() == expected.get_potential_energy(atoms)
    assert atoms.calc.parameters["model"] == str(file)


def test_packaged_name(packaged):
    assert PETCalculator("pet-ice").parameters["dtype"] == "float32"
    assert isinstance(models.make_calculator("pet-water", dtype="float32"), PotentialCalculator)


def test_given_potential_is_copied():
    potential = small_potential()
    loaded = loading.load_potential(potential)
    loaded.baseline.zero_()
    assert potential.baseline[8] == BASELINE[8]


def test_misspelt_name(packaged):
    message = (
        "there is no packaged model and no file 'pet-watr'; did you mean 'pet-water'? "
        "packaged: pet-water, pet-ice."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        PETCalculator("pet-watr")
    with pytest.raises(ValueError, match=r"no file 'run/best\.safetensors'; packaged: pet-water"):
        PETCalculator("run/best.safetensors")


def test_nothing_packaged(monkeypatch):
    monkeypatch.setattr(loading, "packaged_models", dict)
    with pytest.raises(ValueError, match="there is no file pet-water, and no model is packaged"):
        PETCalculator("pet-water")


def test_unreadable_files(file, tmp_path):
    whole = file.read_bytes()
    for content in (b"", b"energy forces", whole[:100], whole[: len(whole) // 2]):
        path = tmp_path / "broken.safetensors"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.safetensors cannot be read"):
            PETCalculator(path)
    with pytest.raises(ValueError, match=r"is a folder; give .* such as .*broken\.safetensors"):
        PETCalculator(tmp_path)


MODULE = """
from ase.calculators.lj import LennardJones
EXTRA

def make(device="cpu", sigma=1.0):
    import found_late as helper
    return LennardJones(sigma=sigma, epsilon=helper.EPSILON[device])

def number():
    return 3

constant = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current directory with two modules: one of them needs a package that is not there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "healthy_module.py").write_text(MODULE.replace("EXTRA", ""))
    (tmp_path / "found_late.py").write_text("EPSILON = {'cpu': 1.0, 'cuda': 2.0}")
    (tmp_path / "needy_module.py").write_text(MODULE.replace("EXTRA", "import absent_dependency"))
    yield tmp_path
    for name in ("healthy_module", "needy_module", "found_late"):
        sys.modules.pop(name, None)


def test_callable_of_a_module_here(here):
    path = list(sys.path)
    assert isinstance(models.make_calculator("healthy_module:make"), LennardJones)
    assert sys.path == path
    calculator = models.make_calculator("healthy_module:make", device="cuda")
    assert calculator.parameters["epsilon"] == 2.0


def test_callable_of_an_installed_module():
    assert isinstance(models.make_calculator("ase.calculators.emt:EMT"), EMT)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("absent_module:make", {}, "there is no module 'absent_module' for absent_module:make"),
        ("ase.absent:make", {}, "there is no module 'ase.absent' for ase.absent:make"),
        ("needy_module:make", {}, "needs absent_dependency, which is not installed."),
        (
            "healthy_module:mak",
            {},
            "module healthy_module has no 'mak' for healthy_module:mak; did",
        ),
        ("healthy_module:", {}, "module healthy_module has no ''"),
        ("healthy_module:constant", {}, "is a int; it has to be a callable"),
        ("healthy_module:number", {}, "returned a int; it has to return an ASE calculator."),
        ("healthy_module:make", {"dtype": "float32"}, "healthy_module:make has no parameter"),
        ("healthy_module:make", {"symmetrize": "ecse"}, "symmetrize works on potentials of point"),
        (":make", {}, "':make' is not of the form module:callable."),
        (".a:make", {}, "'.a:make' is not of the form module:callable."),
    ],
)
def test_callables_that_do_not_work(here, model, options, message):
    path = list(sys.path)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        models.make_calculator(model, **options)
    assert "\n" not in str(caught.value)
    assert sys.path == path


def run(command, *arguments):
    app = Typer()
    app.command()(command)
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_models_command(packaged):
    header, water, ice = run(models_command).splitlines()
    assert "force RMSE / meV/Å" in header
    parameters = sum(p.numel() for p in small_potential().parameters())
    assert water.split()[:5] == ["pet-water", "pet", "H", "O", "3.5"]
    assert f"{parameters:,}" in water
    assert "water/train.xyz" in water
    assert water.split()[-3:-1] == ["42.1", "57.5"]
    assert ice.split()[-4:-1] == ["-", "-", "-"]


def test_info_command(file):
    text = run(info_command, str(file))
    for expected in (
        "3.5 Å",
        "cosine, 0.5 Å wide: C1; energy and forces are continuous, the slope of a force jumps by",
        "19.74 Å⁻²",  # π²/(2w²)
        "H -13.600000, O -432.100000",
        "energy 1.25 meV/atom, forces 42.1 meV/Å",
        "forces 57.5 meV/Å",
        "float64",
        "config.d_pet",
        "abc",
    ):
        assert expected in text


def test_info_command_as_json(file):
    card = json.loads(run(info_command, str(file), "--json"))
    assert card["species"] == ["H", "O"]
    assert card["baseline"] == {"H": -13.6, "O": -432.1}
    assert card["config"]["num_heads"] == 2
    assert card["information"]["validation_rmse"]["forces"] == 42.125
    np.testing.assert_allclose(card["curvature_jump"], np.pi**2 / 2 / 0.25)


def test_smooth_cutoffs_are_called_smooth(packaged):
    assert "bump, 0.5 Å wide: C-infinity" in run(info_command, "pet-ice")


IMPORT = """
import sys, time
import torch, ase
start = time.process_time()
from pointedge.calculators import PETCalculator
seconds = time.process_time() - start
heavy = ("e3nn", "lightning", "pydantic", "matplotlib", "matscipy", "typer", "rich", "vesin")
print(seconds, *(name for name in heavy if name in sys.modules))
"""
COMMANDS = """
import sys
import pointedge.calculators.cli.models, pointedge.calculators.cli.info
print(*(name for name in ("torch", "ase", "lightning", "matplotlib") if name in sys.modules))
"""


def python(program):
    """Standard output of a program, which must not write anything else."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return result.stdout.split()


def test_import_is_light():
    seconds, *heavy = python(IMPORT)
    assert heavy == []
    assert float(seconds) < 0.3


def test_commands_need_not_wait_for_torch():
    assert python(COMMANDS) == []


def test_names_of_the_package():
    import pointedge.calculators

    assert {"PETCalculator", "PotentialCalculator"} <= set(dir(pointedge.calculators))
    with pytest.raises(AttributeError, match="has no attribute 'PETCalculater'"):
        pointedge.calculators.PETCalculater  # noqa: B018


@pytest.mark.parametrize(
    ("species", "name"),
    [
        ((1, 8), "water-64"),
        ((1, 6, 8), "water-64"),
        ((8, 25), "mno-64"),
        ((41, 42, 73, 74), "hea-128"),
        (tuple(range(1, 93)), "water-64"),
    ],
)
def test_default_structure_consists_of_known_elements(species, name):
    calculator = SimpleNamespace(potential=small_potential(species=species))
    assert models.default_structure(calculator).stem == name


def test_default_structure_may_be_missing():
    assert models.default_structure(EMT()).stem == "water-64"  # it does not say what it knows
    carbon = SimpleNamespace(potential=small_potential(species=(1, 6)))
    with pytest.raises(ValueError, match=r"knows H, C, and no .* \(H2O, MnO, MoNbTaW\); give a"):
        models.default_structure(carbon)
