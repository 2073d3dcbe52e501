"""Predictions for databases and files: the numbers of one by one, and nothing lost."""

import sqlite3
import sys

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from pointedge.calculators import EnsembleCalculator, PotentialCalculator
from pointedge.calculators.cli import main
from pointedge.calculators.cli.evaluate import read_frames as read_frames_of_verbs
from pointedge.calculators.exact import exact_extxyz
from pointedge.calculators.predictions import predict_file
from pointedge.potentials.training.reading import keys_of, read_frames
from pointedge.potentials.training.settings import Frames

from .conftest import bulk, charged_potential, small_potential


@pytest.fixture(scope="module")
def calculator():
    return PotentialCalculator(small_potential())


def labelled():
    """Crystals and molecules, some with results and constraints."""
    rng = np.random.default_rng(0)
    found = [bulk(), molecule("H2O"), bulk(), molecule("H2O2", cell=[8.0, 8.0, 8.0]), bulk()]
    for k, atoms in enumerate(found):
        atoms.positions += rng.normal(scale=0.02, size=(len(atoms), 3))
        if k % 2 == 0:
            forces = rng.normal(size=(len(atoms), 3))
            results = {"energy": -7.0 - k, "forces": forces, "magmoms": np.full(len(atoms), 0.5)}
            atoms.calc = SinglePointCalculator(atoms, **results)
    found[2].set_constraint(FixAtoms([0, 3]))
    return found


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "in.db"
    with ase.db.connect(path) as db:
        for k, atoms in enumerate(labelled()):
            db.write(atoms, split="train", batch=k, data={"spectrum": np.arange(3.0) + k})
    db.metadata = {"title": "crystals"}
    del db[4]  # ids have a gap
    return path


def test_numbers_are_those_of_one_by_one(calculator, database, tmp_path):
    out = tmp_path / "out.db"
    seen = []
    found = predict_file(calculator, database, out, expect=seen.append, progress=seen.append)
    assert (found.structures, found.atoms, found.stresses) == (4, 3 * 16 + 3, 3)
    assert seen == [4, 4]
    for row in ase.db.connect(out).select():
        atoms = row.toatoms()
        atoms.set_constraint()
        results = atoms.calc.results
        expected = calculator.get_potential_energy(atoms)
        assert row.energy == row.free_energy == pytest.approx(expected, abs=1e-10)
        np.testing.assert_allclose(row.forces, calculator.get_forces(atoms), rtol=0, atol=1e-10)
        assert ("stress" in results) == (atoms.cell.rank == 3)
        if "stress" in results:
            stress = calculator.get_stress(atoms)
            np.testing.assert_allclose(results["stress"], stress, rtol=0, atol=1e-12)


def test_nothing_of_a_database_is_lost(calculator, database, tmp_path):
    before = database.read_bytes()
    out = tmp_path / "out.db"
    predict_file(calculator, database, out, model="mine")
    assert database.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.db", "out.db"]
    old, new = ase.db.connect(database), ase.db.connect(out)
    assert new.metadata == {"title": "crystals"}
    assert [row.id for row in new.select()] == [1, 2, 3, 5]
    for one, other in zip(old.select(), new.select(), strict=True):
        for name in ("id", "unique_id", "ctime", "batch", "split"):
            assert one[name] == other[name]
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.data["spectrum"], other.data["spectrum"])
        assert repr(one.constraints) == repr(other.constraints)
        settings = {**calculator.parameters, "model": "mine"}
        assert (other.calculator, other.calculator_parameters) == ("pointedge", settings)
        assert ("REF_energy" in other) == ("energy" in one)
        if "energy" in one:
            assert other.REF_energy == one.energy
            np.testing.assert_array_equal(other.data["REF_forces"], one.forces)
            np.testing.assert_array_equal(other.magmoms, one.magmoms)
    assert len(list(new.select("REF_energy<-8"))) == 2  # keys can be searched
    assert new.count(split="train") == 4


def test_reference_values_survive_a_second_model(calculator, database, tmp_path):
    first, second = tmp_path / "1.db", tmp_path / "2.db"
    predict_file(calculator, database, first)
    other = PotentialCalculator(small_potential(seed=1))
    predict_file(other, first, second)
    row = ase.db.connect(second).get(id=3)
    assert row.REF_energy == -9.0
    atoms = row.toatoms()
    assert row.energy == pytest.approx(other.get_potential_energy(atoms), abs=1e-10)


def test_charge_and_spin_of_a_row_are_read_and_kept(tmp_path):
    """As keys or data; ASE's own class shows a key "charge" as the sum of initial charges."""
    calculator = PotentialCalculator(charged_potential())
    water = molecule("H2O")
    rows = [({}, {}), ({"spin": 3}, {}), ({"charge": 2}, {}), ({}, {"charge": 2, "spin": 3})]
    with ase.db.connect(tmp_path / "in.db") as db:
        for keys, data in rows:
            db.write(water, keys, data)
    predict_file(calculator, tmp_path / "in.db", tmp_path / "out.db")
    found = list(ase.db.connect(tmp_path / "out.db").select())
    energies = []
    for row, (keys, data) in zip(found, rows, strict=True):
        assert keys_of(row) == keys
        assert dict(row.data) == data
        atoms = water.copy()
        atoms.info.update(keys, **data)
        energies.append(calculator.get_potential_energy(atoms))
        assert row.energy == pytest.approx(energies[-1], abs=1e-10)
    assert len({round(e, 6) for e in energies}) == 4
    read = read_frames(Frames(files=["in.db"]), tmp_path)
    assert [atoms.info for atoms in read] == [keys | data for keys, data in rows]


def test_extended_xyz(calculator, tmp_path):
    source, out = tmp_path / "in.xyz", tmp_path / "out.extxyz"
    structures = labelled()
    for k, atoms in enumerate(structures):
        atoms.info["name"] = f"structure {k}"
        atoms.arrays["site"] = np.arange(len(atoms))
    ase.io.write(source, structures, format="extxyz")
    found = predict_file(calculator, source, out)
    assert (found.structures, found.stresses) == (5, 4)
    for one, other in zip(ase.io.iread(source), ase.io.iread(out), strict=True):
        assert other.info["name"] == one.info["name"]
        np.testing.assert_array_equal(other.arrays["site"], one.arrays["site"])
        assert repr(other.constraints) == repr(one.constraints)
        if one.calc is not None:
            assert other.info["REF_energy"] == one.calc.results["energy"]
            np.testing.assert_array_equal(other.arrays["REF_forces"], one.calc.results["forces"])
            np.testing.assert_array_equal(
                other.calc.results["magmoms"], one.calc.results["magmoms"]
            )
        one.set_constraint()
        forces = calculator.get_forces(one)
        np.testing.assert_allclose(other.calc.results["forces"], forces, rtol=0, atol=1e-8)
        expected = calculator.get_potential_energy(one)
        assert other.calc.results["energy"] == pytest.approx(expected, abs=1e-8)


def test_every_number_of_a_text_is_kept_to_its_last_bit(calculator, tmp_path):
    rng = np.random.default_rng(1)
    structures = labelled()
    for atoms in structures:
        n = len(atoms)
        atoms.arrays["hess"] = np.append(1.2345e-11 * rng.normal(size=n - 1), np.nan)
        atoms.arrays["tensor"] = rng.normal(size=(n, 9)) * 10.0 ** rng.integers(-300, 300, (n, 9))
        atoms.arrays["site"] = np.arange(n) + 2**30
        atoms.arrays["name"] = np.array(["a", "bcd"] * n)[:n]
        atoms.info["shift"] = rng.normal()
    source, out = tmp_path / "in.xyz", tmp_path / "out.xyz"
    source.write_text("".join(exact_extxyz(atoms) for atoms in structures))
    predict_file(calculator, source, out)
    copies = list(ase.io.iread(out))
    for one, copy in zip(structures, copies, strict=True):
        assert (copy.info["shift"], copy.cell.tolist()) == (one.info["shift"], one.cell.tolist())
        for name, values in one.arrays.items():
            np.testing.assert_array_equal(copy.arrays[name], values)
        if one.calc is not None:
            forces = one.calc.results["forces"]
            np.testing.assert_array_equal(copy.arrays["REF_forces"], forces)
    # What was read is computed with, so that even predictions agree with those of the originals.
    expected = calculator.calculate_many(structures, ("forces",))
    for copy, prediction in zip(copies, expected, strict=True):
        np.testing.assert_allclose(
            copy.calc.results["forces"], prediction["forces"], rtol=0, atol=1e-12
        )


def test_standard_deviations(tmp_path):
    """Those of an ensemble, in both formats, and beside ones that the file had from elsewhere."""
    ensemble = EnsembleCalculator([small_potential(seed=k) for k in range(3)])
    expected = ensemble.calculate_many([bulk()], ("energy_std", "forces_std", "stress_std"))[0]
    expected["max_forces_std"] = expected["forces_std"].max()
    earlier = bulk()
    earlier.info["energy_std"] = 7.0
    ase.io.write(tmp_path / "in.db", bulk())
    ase.io.write(tmp_path / "in.xyz", earlier)
    for suffix in (".db", ".xyz"):
        predict_file(ensemble, tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    row, frame = ase.db.connect(tmp_path / "out.db").get(), ase.io.read(tmp_path / "out.xyz")
    assert frame.info["REF_energy_std"] == 7.0
    for found, tolerance in (
        ({**row.key_value_pairs, **row.data}, 1e-10),
        ({**frame.info, **frame.arrays}, 1e-6),  # texts have positions of eight digits
    ):
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance)


@pytest.mark.parametrize("suffix", [".db", ".xyz"])
def test_evaluate_finds_the_reference_in_what_predict_wrote(calculator, tmp_path, suffix):
    source, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    structures = labelled()[::2]
    ase.io.write(source, structures)
    predict_file(calculator, source, out)
    used = []
    frames = list(read_frames_of_verbs([out], {}, None, used, lambda count: None))
    assert "energy = REF_energy (3 frames), eV; forces = REF_forces (3 frames)" in used[0]
    assert "; no stress; " in used[0]
    assert "set aside, results beside REF_ keys: energy (3 frames), forces (3 fra" in used[0]
    for frame, atoms in zip(frames, structures, strict=True):
        labels = frame.labels()
        assert labels.keys() == {"energy", "forces"}
        assert labels["energy"] == atoms.calc.results["energy"]
        forces = atoms.calc.results["forces"]
        np.testing.assert_allclose(labels["forces"], forces, rtol=0, atol=1e-8)


@pytest.mark.parametrize("suffix", [".db", ".xyz"])
def test_a_bad_structure_leaves_nothing(calculator, tmp_path, suffix):
    source, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    ase.io.write(source, [bulk(), Atoms("Au", cell=[4.0] * 3, pbc=True)])
    with pytest.raises(ValueError, match=rf"frame [12] of .*in{suffix}: atom 0 is Au"):
        predict_file(calculator, source, out)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_cut_off_run_leaves_the_old_file(calculator, database, tmp_path):
    out = tmp_path / "out.db"
    out.write_bytes(b"precious")

    def stop(count):
        raise KeyboardInterrupt

    with pytest.raises(ValueError, match="exists; name another file"):
        predict_file(calculator, database, out)
    with pytest.raises(KeyboardInterrupt):
        predict_file(calculator, database, out, overwrite=True, progress=stop)
    assert out.read_bytes() == b"precious"
    predict_file(calculator, database, out, overwrite=True)
    assert ase.db.connect(out).count() == 4


def test_files_that_cannot_be(calculator, database, tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        predict_file(calculator, tmp_path / "none.db", tmp_path / "out.db")
    with pytest.raises(ValueError, match=r"has to end in \.db as .* so that nothing of it is lost"):
        predict_file(calculator, database, tmp_path / "out.xyz")
    with pytest.raises(ValueError, match="cannot be both read and written"):
        predict_file(calculator, database, database, overwrite=True)
    with pytest.raises(ValueError, match="there is no folder"):
        predict_file(calculator, database, tmp_path / "nowhere" / "out.db")
    text = tmp_path / "text.db"
    text.write_text("this is not a database, but it is long enough to have a header")
    with pytest.raises(ValueError, match=r"text\.db cannot be read as a database of ASE"):
        predict_file(calculator, text, tmp_path / "out.db")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (id INTEGER)")
    connection.close()
    with pytest.raises(ValueError, match=r"other\.db"):
        predict_file(calculator, other, tmp_path / "out.db")
    trajectory = tmp_path / "in.traj"
    ase.io.write(trajectory, bulk())
    with pytest.raises(ValueError, match="convert it with `ase convert`"):
        predict_file(calculator, trajectory, tmp_path / "out.traj")


def test_the_verb(database, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pointedge", "predict", "pet-water", "in.db", "out.db"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code in (0, None)
    printed = " ".join(capsys.readouterr().out.split())
    assert "structures with a stress 3 " in printed
    assert "out.db: all of in.db" in printed
    settings = ase.db.connect("out.db").get(id=1).calculator_parameters
    assert settings == PotentialCalculator("pet-water").parameters
