"""One structure from files of many frames, and from databases."""

import ase.db
import ase.io
import pytest
from ase.build import molecule

from pointedge.calculators.structures import read_last


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


@pytest.mark.parametrize("name", ["none.xyz", "none.db", "none.db@1"])
def test_no_file(files, name):
    with pytest.raises(ValueError, match="there is no structure file"):
        read_last(files / name)
    assert not (files / "none.db").exists()


@pytest.mark.parametrize("name", ["a.db@7", "a.db@x", "a.xyz@7", "empty.xyz"])
def test_no_structure(files, name):
    (files / "empty.xyz").touch()
    with pytest.raises(ValueError, match="no structure"):
        read_last(files / name)
