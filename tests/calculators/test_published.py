"""Published PETs where users meet them: calculators and commands."""

from __future__ import annotations

import json
import re
import shutil
import sys

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from pointedge.calculators import PETCalculator
from pointedge.calculators.cli import app, main
from pointedge.calculators.models import make_calculator
from pointedge.potentials.packaged import split_target

from ..potentials.published.cases import CASES, original_folder, unpacked
from ..potentials.test_pet_reference import structures

CASE = "case1_default_small_f64"


@pytest.fixture
def file(tmp_path):
    """A checkpoint of metatrain under a name that says something else."""
    path = tmp_path / "model.safetensors"
    shutil.copy(CASES / f"{CASE}.ckpt", path)
    return path


def invoke(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def labelled(case, folder):
    """The reference structures with the labels of a case, as a file."""
    reference = np.load(CASES / f"{case}.npz")
    frames = []
    for name, atoms in structures().items():
        results = {k: reference[f"{name}/{k}"] for k in ("energy", "forces")}
        atoms.calc = SinglePointCalculator(
            atoms, energy=float(results["energy"]), forces=results["forces"]
        )
        frames.append(atoms)
    ase.io.write(folder / "frames.traj", frames)
    return folder / "frames.traj"


def test_calculator(file):
    reference = np.load(CASES / f"{CASE}.npz")
    for name, atoms in structures().items():
        atoms.calc = PETCalculator(file)
        assert atoms.get_potential_energy() == pytest.approx(
            float(reference[f"{name}/energy"]), rel=1e-9
        )
        np.testing.assert_allclose(atoms.get_forces(), reference[f"{name}/forces"], atol=1e-8)
        if f"{name}/stress" in reference:
            stress = reference[f"{name}/stress"]
            np.testing.assert_allclose(
                atoms.get_stress(voigt=False), 0.5 * (stress + stress.T), rtol=0, atol=1e-9
            )


def test_folder_of_the_research_code(tmp_path):
    folder = original_folder(tmp_path / "calculation")
    reference = np.load(CASES / "orig1_default_like_f64.npz")
    atoms = structures()["ethanol_molecule"]
    for model in (folder, f"{folder}@best_val_rmse_both_model"):
        atoms.calc = PETCalculator(model)
        expected = float(reference["ethanol_molecule/energy"])
        assert atoms.get_potential_energy() == pytest.approx(expected, rel=1e-9)


def test_one_of_several_energies(tmp_path):
    path = unpacked("several.ckpt.gz", tmp_path)
    calculator = make_calculator(f"{path}@energy/pbe")
    assert float(calculator.potential.scale) == 1.25
    assert calculator.parameters["model"] == f"{path}@energy/pbe"
    with pytest.raises(ValueError, match="no energy 'mtt::U'; it has energy, energy/pbe"):
        make_calculator(f"{path}@mtt::U")
    strange = tmp_path / "a@b"
    shutil.copy(path, strange)
    assert split_target(strange) == (str(strange), None)
    assert split_target(f"{strange}@pbe") == (str(strange), "pbe")


def test_evaluate(file, tmp_path):
    frames = labelled(CASE, tmp_path)
    invoke("evaluate", file, frames, "--json", tmp_path / "errors.json")
    errors = json.loads((tmp_path / "errors.json").read_text())
    assert errors["frames"] == 6
    assert errors["forces"]["max"] < 1e-5  # meV/Å
    assert errors["energy_per_atom"]["rmse"] < 1e-6


def test_info(file, tmp_path):
    shown = invoke("info", file)
    assert re.search(r"origin +metatrain PET, model version 16, target energy", shown)
    assert re.search(r"baseline / eV +H -0.600000, C -38.100000, O -75.2", shown)
    path = unpacked("several.ckpt.gz", tmp_path)
    shown = invoke("info", f"{path}@pbe")
    assert re.search(r"note +Its direct predictions \(non_conservative_forces\) are not", shown)
    assert re.search(r"note +Of its targets energy/pbe is read, and not energy\.", shown)
    assert "arxiv.org/abs/2305.19302" in shown


def test_convert(file, tmp_path):
    output = tmp_path / "converted.safetensors"
    assert invoke("convert", file, output) == f"{output}\n"
    atoms = structures()["water4_periodic_triclinic"]
    energies = [PETCalculator(model).get_potential_energy(atoms) for model in (file, output)]
    assert energies[0] == energies[1]
    assert "metatrain PET, model version 16" in invoke("info", output)
    for arguments, message in (
        ((file, output), "exists; choose another output"),
        ((file, tmp_path / "a.ckpt"), r"has to end in \.safetensors"),
        ((output, tmp_path / "b.safetensors"), "is a checkpoint of pointedge already"),
        ((__file__, tmp_path / "b.safetensors"), "cannot be read as a safetensors file"),
        ((f"{output}@pbe", tmp_path / "b.safetensors"), "checkpoint of pointedge already"),
    ):
        with pytest.raises(ValueError, match=message):
            invoke("convert", *arguments)


def test_an_energy_of_a_checkpoint_of_ours():
    with pytest.raises(ValueError, match="pet-water has one energy only; leave '@pbe' out"):
        PETCalculator("pet-water@pbe")


@pytest.mark.filterwarnings("always::UserWarning")
def test_warnings_and_errors_are_one_line(tmp_path, monkeypatch, capsys):
    path = unpacked("several.ckpt.gz", tmp_path)
    output = tmp_path / "a.safetensors"
    monkeypatch.setattr(sys, "argv", ["pointedge", "convert", str(path), str(output)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    shown = capsys.readouterr()
    assert shown.out == f"{output}\n"
    assert shown.err.startswith(f"pointedge: warning: {path}: Its direct predictions (non_cons")
    assert shown.err.count("\n") == 1
    path.write_bytes(path.read_bytes()[:5000])
    monkeypatch.setattr(sys, "argv", ["pointedge", "info", str(path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"pointedge: {path} cannot be opened as a file of torch.save")
    assert shown.count("\n") == 1


def test_export(tmp_path):
    output = tmp_path / "pet-water.ckpt"
    invoke("export", "pet-water", output, "--to", "metatrain")
    atoms = structures()["water4_periodic_triclinic"]
    energies = [PETCalculator(model).get_potential_energy(atoms) for model in ("pet-water", output)]
    assert energies[0] == pytest.approx(energies[1], rel=1e-12)  # the repulsion is in float32 there
    invoke("export", "pet-water", output, "--to", "metatrain", "--overwrite", "--dtype", "float64")
    assert PETCalculator(output).parameters["dtype"] == "float64"
    for arguments, message in (
        (("pet-water", output, "--to", "metatrain"), "exists; choose another output"),
        (("pet-water", output, "--to", "metatrian"), "unknown format 'metatrian'; did you mean"),
        (("pet-water", tmp_path / "a.pt", "--to", "metatrain"), r"has to end in \.ckpt"),
        (("pet-water", tmp_path / "b" / "a.ckpt", "--to", "metatrain"), "there is no folder"),
        (("pet-water-o3", tmp_path / "a.ckpt", "--to", "metatrain"), "no symmetry = 'layers'"),
    ):
        with pytest.raises(ValueError, match=message):
            invoke("export", *arguments)
