"""The verb `evaluate`: labels, tables, files and one-line errors."""

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
from pointedge.calculators.cli.evaluate import named, read_frames
from pointedge.potentials.checkpoint import save

from .conftest import small_potential
from .labelled import with_moments

EMT_MODEL = "ase.calculators.emt:EMT"


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
    assert lines[0].startswith(f"{data}: 3 of 3 frames; energy = REF_energy (3 frames), eV; for")
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
    assert output.startswith(f"{path}: 3 of 3 frames; energy = energy (3 frames), eV; forces = ")


def chosen(tmp_path, *frames, **requested):
    file = tmp_path / "f.xyz"
    ase.io.write(file, frames)
    used = []
    list(read_frames([file], named(**requested), None, used, lambda count: None))
    return used[0].removeprefix(f"{file}: {len(frames)} of {len(frames)} frames; ")


def test_choice_of_labels(tmp_path):
    for prefix in ("", "dft_", "REF_"):
        atoms = renamed(copper(1)[0], prefix)
        stated = chosen(tmp_path, atoms)
        for label, unit in {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å³"}.items():
            assert f"{label} = {prefix}{label} (1 frames), {unit}" in stated
    atoms.info["xtb_energy"] = 0.0
    atoms.arrays["mag_forces"] = np.zeros((4, 3))
    assert chosen(tmp_path, atoms).endswith("; not labels: kind, mag_forces, xtb_energy")
    assert "energy = xtb_energy (1 frames)" in chosen(tmp_path, atoms, energy="xtb_energy")
    atoms.info["dft_energy"] = 3.0
    with pytest.raises(ValueError, match=r"REF_energy and dft_energy of frame 0 of .* differ"):
        chosen(tmp_path, atoms)
    with pytest.raises(ValueError, match=r"no .* frame has 'F', named as its forces; known: "):
        chosen(tmp_path, atoms, energy="xtb_energy", forces="F")
    with pytest.raises(ValueError, match=r"f.xyz has no label by a usual name, but "):
        chosen(tmp_path, bulk("Cu"))
    water = molecule("H2O")
    water.info["REF_energy"] = -14.0
    assert chosen(tmp_path, water, bulk("Cu")).startswith("energy = REF_energy (1 frames), eV; no")


def test_choice_of_moments(tmp_path):
    water = molecule("H2O")
    water.info.update(mu=np.zeros(3), alpha=np.zeros(9), total_dipole=np.zeros(3))
    assert "dipole = mu (1 frames), e·Å; not" in chosen(tmp_path, water, dipole="mu")
    stated = chosen(tmp_path, water, dipole="mu", polarizability="alpha")
    assert "polarizability = alpha (1 frames), any unit; not" in stated
    with pytest.raises(ValueError, match=r"label alpha of frame 0 .* has shape \(9,\)"):
        chosen(tmp_path, water, dipole="alpha")
    with pytest.raises(ValueError, match=r"but alpha, mu, .*; name one with --energy-key"):
        chosen(tmp_path, water)  # no guess: units vary


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
    assert "no stress; dipole = qm7x_mu_raw (2 frames), e·Å; polarizability = qm7x_a" in lines[0]
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
    assert "'E', named as its energy" in error(EMT_MODEL, data, "--energy-key", "E")
    text = tmp_path / "text.md"
    text.write_text("no frames\n")
    assert f"{text} holds no frames" in error(EMT_MODEL, text)
    for name, content in (("empty.xyz", ""), ("cut.xyz", "2\n\nH 0 0 0\n"), ("a.py", "pass\n")):
        (tmp_path / name).write_text(content)
        assert f"{name} cannot be read after 0 frames: " in error(EMT_MODEL, tmp_path / name)
    atoms = bulk("Fe")
    atoms.info["REF_energy"] = 0.0
    ase.io.write(tmp_path / "iron.xyz", atoms)
    message = error(EMT_MODEL, data, tmp_path / "iron.xyz")
    assert f"frame 0 of {tmp_path / 'iron.xyz'}: NotImplementedError: No EMT-potential" in message


def test_nothing_on_stderr_without_a_terminal(data):
    result = CliRunner().invoke(app, ["evaluate", EMT_MODEL, str(data)])
    assert (result.exit_code, result.stderr) == (0, "")
