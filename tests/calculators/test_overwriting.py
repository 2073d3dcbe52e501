"""No verb writes over what it reads, --overwrite or not, by whatever name the file is given."""

import ase.io
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from pointedge.calculators.cli import app
from pointedge.calculators.models import files_of
from pointedge.potentials import checkpoint

from .conftest import small_potential

EMT = "ase.calculators.emt:EMT"


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Frames, a trajectory in a folder, models, and other names of them; with their contents."""
    monkeypatch.chdir(tmp_path)
    water = molecule("H2O")
    water.calc = SinglePointCalculator(water, energy=-14.0)
    (tmp_path / "run").mkdir()
    for name in ("f.xyz", "run/trajectory.extxyz", "f.json", "run/irreps.json"):
        ase.io.write(name, water)
    for name in ("m.safetensors", "n.safetensors", "run/md.png"):
        checkpoint.save(small_potential(), tmp_path / name)
    (tmp_path / "link.xyz").symlink_to("f.xyz")
    (tmp_path / "same.safetensors").hardlink_to("m.safetensors")
    (tmp_path / "model.ckpt").write_text("a model of some kind")
    return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "command",
    [
        "evaluate EMT f.xyz --json f.xyz",
        "evaluate EMT link.xyz --json f.xyz",
        "evaluate EMT f.xyz --json ./run/../f.xyz",
        "evaluate m.safetensors f.xyz --json m.safetensors",
        "evaluate n.safetensors,m.safetensors f.xyz --plot same.safetensors",
        "audit EMT f.xyz@0 --json f.xyz",
        "audit m.safetensors f.xyz --report m.safetensors",
        "select f.xyz --model EMT --count 1 --output f.xyz --overwrite",
        "select f.json --model EMT --count 1 --training f.xyz --output f.xyz --overwrite",
        "relax f.xyz --model EMT --output f.xyz --overwrite",
        "relax f.xyz@-1 --model EMT --trajectory f.xyz --overwrite",
        "predict EMT link.xyz f.xyz --overwrite",
        "md run/trajectory.extxyz --model EMT --output run --overwrite",
        "md f.xyz --model run/md.png --output run --overwrite",
        "irreps mace-water run/irreps.json --output run",
        "convert same.safetensors m.safetensors --overwrite",
        "export model.ckpt model.ckpt --to metatrain --overwrite",
        "distill-auxiliary m.safetensors f.xyz --output m.safetensors --overwrite",
        "distill-auxiliary m.safetensors f.xyz --output f.xyz --overwrite",
        "fit-uncertainty m.safetensors f.json --validation f.xyz --output m.safetensors "
        "--overwrite",
        "fit-uncertainty m.safetensors,n.safetensors --validation f.json --output f.json "
        "--overwrite",
    ],
)
def test_inputs_stay(inputs, tmp_path, command):
    done = CliRunner().invoke(app, command.replace("EMT", EMT).split())
    assert isinstance(done.exception, ValueError), (done.output, done.exception)
    assert "cannot be both read and written; name another output." in str(done.exception)
    now = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert now == inputs


def test_files_of_models(inputs, tmp_path):
    assert [path.name for path in files_of("pet-water")] == ["pet-water.safetensors"]
    assert [str(path) for path in files_of("m.safetensors@energy")] == ["m.safetensors"]
    assert [str(path) for path in files_of("n.safetensors,m.safetensors")] == [
        "n.safetensors",
        "m.safetensors",
    ]
    assert files_of(EMT) == []
    folder = files_of(tmp_path / "run")  # as of PET's research code
    assert {path.name for path in folder} == {"trajectory.extxyz", "irreps.json", "md.png"}
