"""One structure from files of many frames, and from databases."""

import ase.db
import ase.io
import pytest
from ase.build import molecule
from typer.testing import CliRunner

from pointedge.calculators.cli import app
from pointedge.calculators.structures import read_last
from pointedge.potentials.training.reading import read_file

from .quick import SoftSpheres, argon


@pytest.fixture
def files(tmp_path):
    found = []
    with ase.db.connect(tmp_path / "a.db") as db:
        for charge in range(3):
            atoms = molecule("H2O")
            atoms.info["charge"] = charge
            found.append(atoms)
            db.write(atoms, charge=charge, data={"spin": 1})
    ase.io.write(tmp_path / "a.xyz", found)
    return tmp_path


@pytest.mark.parametrize("name", ["a.db", "a.xyz"])
@pytest.mark.parametrize(("part", "charge"), [("", 2), ("@0", 0), ("@-1", 2), ("@:2", 1)])
def test_frames_of_files_and_databases_are_chosen_alike(files, name, part, charge):
    atoms = read_last(files / f"{name}{part}")
    assert atoms.info["charge"] == charge
    assert atoms.info.get("spin") == (1 if name == "a.db" else None)


@pytest.mark.parametrize("suffix", [".db", ".xyz"])
@pytest.mark.parametrize(("part", "charge"), [("", 2), ("@0", 0), ("@:2", 1)])
def test_an_at_sign_in_the_name_of_a_file(files, suffix, part, charge):
    name = f"water@300K{suffix}"
    (files / f"a{suffix}").rename(files / name)
    assert read_last(files / f"{name}{part}").info["charge"] == charge
    assert len(list(read_file(files / name))) == 3


def test_verbs_read_files_with_an_at_sign_in_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fluid = argon()
    fluid.calc = SoftSpheres()
    fluid.get_forces()
    (tmp_path / "us@er").mkdir()
    for name in ("us@er/a@1.xyz", "us@er/fluid.xyz"):
        ase.io.write(name, fluid)
    model = f"{SoftSpheres.__module__}:SoftSpheres"
    for arguments in (
        ("evaluate", model, "us@er/a@1.xyz"),
        ("predict", model, "us@er/a@1.xyz", "us@er/b@1.xyz"),
        ("relax", "us@er/a@1.xyz", "--model", model, "--output", "relaxed@1.xyz", "--fmax", "9"),
        ("md", "us@er/fluid.xyz", "--model", model, "--steps", "2"),
        ("md", "us@er/a@1.xyz", "--model", model, "--steps", "2"),
        ("md", "us@er/fluid.xyz@0", "--model", model, "--steps", "2"),
    ):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (arguments, done.output, done.exception)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"us@er", "relaxed@1.xyz", "fluid-md", "a@1-md"}
    assert len(list(read_file(tmp_path / "us@er" / "b@1.xyz"))) == 1


@pytest.mark.parametrize("name", ["none.xyz", "@3", "none@300K.xyz", "none.db", "none.db@1"])
def test_no_file(files, name):
    with pytest.raises(ValueError, match="there is no structure file"):
        read_last(files / name)
    assert not (files / "none.db").exists()


@pytest.mark.parametrize("name", ["a.db@7", "a.db@x", "a.xyz@7", "empty.xyz"])
def test_no_structure(files, name):
    (files / "empty.xyz").touch()
    with pytest.raises(ValueError, match="no structure"):
        read_last(files / name)
