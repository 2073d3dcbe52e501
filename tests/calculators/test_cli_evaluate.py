"""The verb `evaluate`: labels, tables, files and one-line errors."""

import io
import json
import sys

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from pointedge.calculators.cli import app, main
from pointedge.calculators.cli.evaluate import find_keys
from pointedge.potentials.checkpoint import save

from .conftest import small_potential
from .labelled import with_moments

EMT_MODEL = "ase.calculators.emt:EMT"
NO_KEYS = dict.fromkeys(("energy", "forces", "stress", "dipole", "polarizability"))


def copper(count=3):
    """Frames with labels of EMT, in the results of a calculator; forces are off by 0.1 eV/Å."""
    frames = []
    for seed in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces() + 0.1}
        atoms.calc = SinglePointCalculator(atoms, **results, stress=atoms.get_stress())
        atoms.info["kind"] = "ab"[seed % 2]
        frames.append(atoms)
    return frames


def renamed(atoms, prefix):
    """The same labels under other names."""
    results, atoms.calc = atoms.calc.results, None
    atoms.info[f"{prefix}energy"] = results["energy"]
    atoms.arrays[f"{prefix}forces"] = results["forces"]
    atoms.info[f"{prefix}stress"] = results["stress"]
    return atoms


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "copper.xyz"
    ase.io.write(path, [renamed(atoms, "REF_") for atoms in copper()])
    return path


def invoke(*arguments):
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def fail(monkeypatch, capsys, *arguments):
    """Run the command as a shell does; return its one line on stderr."""
    monkeypatch.setattr(sys, "argv", ["pointedge", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("pointedge: ")
    assert error.count("\n") == 1
    return error


def test_tables(data):
    lines = invoke(EMT_MODEL, data, "--group-by", "kind", "--rotations", 2).splitlines()
    labels = "labels are energy REF_energy, forces REF_forces, stress REF_stress"
    assert lines[0] == f"{data}: 3 of 3 frames, {labels}"
    assert lines[1] == f"{EMT_MODEL}: 3 frames, 12 atoms"
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert "per component" in lines[3]
    assert rows["forces"][1:6] == ["meV/Å", "100", "100", "100", "100"]
    assert rows["Cu"] == ["Cu", *rows["forces"][1:]]
    assert rows["a"][:3] == ["a", "2", "8"]
    assert rows["b"][5] == "100"
    assert rows["stress"][1] == "meV/Å³"
    assert rows["rotational"][3] == "meV/atom,"
    assert sum(line.startswith(f"{data} ") for line in lines) == 3  # worst frames
    assert any(line.endswith("µs per atom in the calculator") for line in lines)


def test_files(data, tmp_path):
    written, plot = tmp_path / "errors.json", tmp_path / "parity.png"
    invoke(EMT_MODEL, data, data, "--json", written, "--plot", plot)
    errors = json.loads(written.read_text())
    assert (errors["model"], errors["frames"], errors["atoms"]) == (EMT_MODEL, 6, 24)
    assert errors["forces"]["mae"] == pytest.approx(100)
    assert errors["rotational_discrepancy"] is None
    assert errors["groups"] == {}
    assert {(w["file"], w["index"]) for w in errors["worst"]} <= {(str(data), k) for k in range(3)}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_limit_takes_evenly_spaced_frames(tmp_path):
    path, written = tmp_path / "many.xyz", tmp_path / "errors.json"
    ase.io.write(path, [renamed(atoms, "REF_") for atoms in copper(7)])
    invoke(EMT_MODEL, path, "--limit", 3, "--json", written)
    worst = json.loads(written.read_text())["worst"]
    assert sorted(frame["index"] for frame in worst) == [0, 3, 6]


def test_labels_of_a_calculator_are_found_and_named(tmp_path):
    path = tmp_path / "results.xyz"
    ase.io.write(path, copper())
    output = invoke(EMT_MODEL, path)
    assert output.startswith(
        f"{path}: 3 of 3 frames, labels are energy energy, forces forces, stress"
    )


def keys(*frames, **requested):
    file = io.StringIO()
    ase.io.write(file, frames, format="extxyz")
    file.seek(0)
    found = find_keys(ase.io.read(file, ":", format="extxyz"), NO_KEYS | requested, "f.xyz")
    return found.energy, found.forces, found.stress


def test_choice_of_labels():
    (atoms,) = copper(1)
    assert keys(atoms) == ("energy", "forces", "stress")
    atoms.info["REF_energy"] = 1.0
    assert keys(atoms) == ("REF_energy", "forces", "stress")
    assert keys(atoms, energy="energy") == ("energy", "forces", "stress")
    (other,) = copper(1)
    assert keys(renamed(other, "dft_")) == ("dft_energy", "dft_forces", "dft_stress")
    other.arrays["mag_forces"] = np.zeros((4, 3))
    other.info["energy_unit"] = "eV"  # no number
    assert keys(other)[:2] == ("dft_energy", "dft_forces")
    other.info["xtb_energy"] = 0.0
    with pytest.raises(ValueError, match="dft_energy, xtb_energy; choose one with --energy-key"):
        keys(other)
    assert keys(other, energy="xtb_energy")[0] == "xtb_energy"
    with pytest.raises(ValueError, match=r"f.xyz has no forces called 'F'; it has .*dft_forces"):
        keys(other, energy="xtb_energy", forces="F")
    with pytest.raises(
        ValueError, match=r"f.xyz has no energy, .* or polarizability by a usual name"
    ):
        keys(bulk("Cu"))
    water = molecule("H2O")
    water.info["REF_energy"] = -14.0
    assert keys(water, bulk("Cu")) == ("REF_energy", "", "")


def test_choice_of_moments():
    def chosen(*structures, **requested):
        found = find_keys(list(structures), NO_KEYS | requested, "f.xyz")
        return found.dipole, found.polarizability

    water = molecule("H2O")
    water.info.update(mu=np.zeros(3), alpha=np.zeros(9), total_dipole=np.zeros(3))
    assert chosen(water, dipole="mu") == ("mu", "")  # no guess: units vary
    assert chosen(water, dipole="mu", polarizability="alpha") == ("mu", "alpha")
    with pytest.raises(ValueError, match=r"f.xyz has no dipole called 'alpha'"):
        chosen(water, dipole="alpha")
    with pytest.raises(ValueError, match=r"it has mu, .*; name one with --energy-key"):
        chosen(water)
    water.info["dipole"] = np.zeros(3)
    water.arrays["polarizability"] = np.eye(3)  # of atoms
    assert chosen(water) == ("dipole", "")
    water.info.update(REF_dipole=np.zeros(3), polarizability=np.eye(3))
    assert chosen(water) == ("REF_dipole", "polarizability")


def test_moments(tmp_path, monkeypatch, capsys):
    path, model, written = (tmp_path / n for n in ("qm7x.xyz", "m.safetensors", "errors.json"))
    frames = [with_moments(molecule(name), k) for k, name in enumerate(("H2O", "H2O2"))]
    for atoms in frames:
        for old, new in (("dipole", "qm7x_mu_raw"), ("polarizability", "qm7x_alpha_raw")):
            atoms.info = {k.replace(f"REF_{old}", new): v for k, v in atoms.info.items()}
    ase.io.write(path, frames)
    save(small_potential(properties=("dipole", "polarizability")), model)
    keys = ["--dipole-key", "qm7x_mu_raw", "--polarizability-key", "qm7x_alpha_raw"]
    lines = invoke(model, path, *keys, "--rotations", 2, "--json", written).splitlines()
    assert lines[0].endswith("stress none, dipole qm7x_mu_raw, polarizability qm7x_alpha_raw")
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert not {"energy", "forces", "stress", "frame"} & rows.keys()
    found = json.loads(written.read_text())
    assert rows["dipole"][1] == "me·Å"
    assert rows["polarizability"][1:3] == ["label", "unit/1000"]
    assert float(rows["dipole"][3]) == pytest.approx(found["dipole"]["rmse"], rel=1e-2)
    assert "me·Å, " in next(line for line in lines if line.startswith("rotational"))
    assert found["rotational_discrepancy"]["energy_per_atom"] is None
    assert found["rotational_discrepancy"]["dipole"] > 0
    message = fail(monkeypatch, capsys, EMT_MODEL, path, *keys)
    assert "there is nothing to compare: the frames have labels of dipole, pol" in message


def test_errors_are_one_line(monkeypatch, capsys, data, tmp_path):
    def error(*arguments):
        return fail(monkeypatch, capsys, *arguments)

    assert "nowhere.xyz" in error(EMT_MODEL, tmp_path / "nowhere.xyz")
    assert "there is no folder" in error(EMT_MODEL, data, "--json", tmp_path / "a" / "b.json")
    assert "parity.doc" in error(EMT_MODEL, data, "--plot", tmp_path / "parity.doc")
    assert "no frame has 'sort'" in error(EMT_MODEL, data, "--group-by", "sort")
    assert "2 rotations or more" in error(EMT_MODEL, data, "--rotations", 1)
    assert "no energy called 'E'" in error(EMT_MODEL, data, "--energy-key", "E")
    text = tmp_path / "text.md"
    text.write_text("no frames\n")
    assert f"{text} holds no frames" in error(EMT_MODEL, text)
    for name, content in (("empty.xyz", ""), ("cut.xyz", "2\n\nH 0 0 0\n"), ("a.py", "pass\n")):
        (tmp_path / name).write_text(content)
        assert f"{name} cannot be read by ASE: " in error(EMT_MODEL, tmp_path / name)
    atoms = bulk("Fe")
    atoms.info["REF_energy"] = 0.0
    ase.io.write(tmp_path / "iron.xyz", atoms)
    message = error(EMT_MODEL, data, tmp_path / "iron.xyz")
    assert f"frame 0 of {tmp_path / 'iron.xyz'}: NotImplementedError: No EMT-potential" in message


def test_nothing_on_stderr_without_a_terminal(data):
    result = CliRunner().invoke(app, ["evaluate", EMT_MODEL, str(data)])
    assert (result.exit_code, result.stderr) == (0, "")
