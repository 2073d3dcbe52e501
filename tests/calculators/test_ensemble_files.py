"""Ensembles by name and by file."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from typer.testing import CliRunner

from pointedge.calculators import (
    EnsembleCalculator,
    PETCalculator,
    ensemble_files,
    loading,
)
from pointedge.calculators.cli import app
from pointedge.calculators.ensemble_files import (
    find_ensemble,
    packaged_ensembles,
    write_ensemble,
)
from pointedge.calculators.evaluation import evaluate
from pointedge.calculators.models import files_of, make_calculator
from pointedge.potentials import checkpoint
from pointedge.potentials.calibration import Calibration
from pointedge.potentials.packaged import packaged_folder, packaged_models, split_target

from .conftest import bulk, small_potential

NAMES = ("energy", "forces", "stress")


@pytest.fixture(scope="module")
def members():
    return [small_potential(seed=k) for k in range(3)]


def saved(members, folder):
    files = []
    for k, member in enumerate(members, start=1):
        files.append(folder / f"tiny-{k}.safetensors")
        checkpoint.save(member, files[-1])
    return files


def test_names(members, tmp_path, monkeypatch):
    files = saved(members[:2], tmp_path)
    by_files = make_calculator(",".join(map(str, files)))
    assert len(by_files.members) == 2
    packaged = {path.stem: path for path in files}
    monkeypatch.setattr(loading, "packaged_models", lambda: packaged)
    monkeypatch.setattr(ensemble_files, "packaged_models", lambda: packaged)
    monkeypatch.setattr(ensemble_files, "packaged_folder", lambda name: tmp_path)
    assert find_ensemble("tiny").members == ["tiny-1", "tiny-2"]
    assert find_ensemble("tiny-1") is None
    assert find_ensemble("tin") is None
    by_name = make_calculator("tiny", dtype="float64")
    atoms = bulk()
    assert by_name.get_potential_energy(atoms) == by_files.get_potential_energy(atoms)
    half = Calibration(1, 0.5, 1.0, 1.0, 1.0, 0.0, 0.5)
    write_ensemble(tmp_path / "tiny.json", ["tiny-1", "tiny-2"], {"forces": half}, ["f.xyz"])
    assert find_ensemble("tiny").factors == {"forces": 0.5}
    said = CliRunner().invoke(app, ["info", "tiny"]).stdout
    assert [line.split() for line in said.splitlines()] == [
        ["tiny"],
        ["member", "1", "tiny-1"],
        ["member", "2", "tiny-2"],
        ["factor", "on", "the", "std", "of", "forces", "0.5"],
        ["not", "calibrated", "std", "of", "energy,", "stress"],
        ["calibrated", "on", "f.xyz"],
    ]
    kept = json.loads((tmp_path / "tiny.json").read_text())
    said = json.loads(CliRunner().invoke(app, ["info", "tiny", "--json"]).stdout)
    assert {"kind": kept["kind"], **said} == kept


def test_the_packaged_ensemble_knows_the_liquid():
    """Its standard deviations are small there, and grow where it is squeezed or drawn out."""
    ensemble = EnsembleCalculator("mace-water-ensemble")
    assert len(ensemble.members) == 4
    assert ensemble.factors["forces"] > 1
    assert set(EnsembleCalculator("mace-water-ensemble", factors={}).factors.values()) == {1.0}
    liquid = ase.io.read(packaged_folder("structures") / "water-64.xyz")
    found = []
    for scale in (1.0, 0.9, 1.1):
        atoms = liquid.copy()
        atoms.set_cell(scale * liquid.cell, scale_atoms=True)
        found.append(np.sqrt(np.mean(ensemble.get_property("forces_std", atoms) ** 2)))
    assert 0.02 < found[0] < 0.1  # eV/Å
    assert min(found[1:]) > 2 * found[0]


def test_packaged_ensembles_have_cards_and_members_that_are_packaged():
    assert packaged_ensembles() == ["hea-ensemble", "mace-water-ensemble"]
    for name in packaged_ensembles():
        ensemble = find_ensemble(name)
        assert (packaged_folder("models") / f"{name}.md").is_file()
        assert set(ensemble.members) <= packaged_models().keys()
        assert set(ensemble.factors) <= set(NAMES)
    assert find_ensemble("hea-ensemble").weights == pytest.approx([0.709, 0.291], abs=1e-3)


def test_a_file_keeps_members_and_factors(members, tmp_path):
    """Fitted to frames, standard deviations are as large as errors there, in root mean square."""
    files = saved(members, tmp_path)
    frames = []
    for seed in range(6):
        atoms = bulk()
        atoms.rattle(0.05, seed=seed)
        results = {name: PETCalculator(members[0]).get_property(name, atoms) for name in NAMES}
        rng = np.random.default_rng(seed)
        atoms.info["REF_energy"] = results["energy"] + 0.3 * rng.normal()
        atoms.arrays["REF_forces"] = results["forces"] + 0.1 * rng.normal(size=(16, 3))
        atoms.info["REF_stress"] = results["stress"] + 0.01 * rng.normal(size=6)
        frames.append(atoms)
    ase.io.write(tmp_path / "others.xyz", frames)
    target = tmp_path / "made" / "all.json"
    target.parent.mkdir()
    model = ",".join(map(str, files))
    arguments = [model, "--validation", tmp_path / "others.xyz", "--output", target]
    done = CliRunner().invoke(app, ["fit-uncertainty", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert "forces, 288 errors, meV/Å: rms error" in done.stderr
    before = evaluate(make_calculator(model), frames).calibrations
    after = evaluate(make_calculator(str(target)), frames).calibrations
    for name, found in after.items():
        assert found.factor == pytest.approx(1, abs=1e-6)
        assert found.error == pytest.approx(before[name].error)
    with pytest.raises(ValueError, match=r"all.json is an ensemble, and one model is needed"):
        PETCalculator(target)
    kept = json.loads(target.read_text())
    assert kept["members"] == [f"../{file.name}" for file in files]
    assert kept["factors"]["forces"] == pytest.approx(before["forces"].factor)
    assert kept["information"]["before"]["forces"]["count"] == 288
    for bad, message in (
        ([files[0], "--validation", tmp_path / "others.xyz"], "is one model; name files"),
        ([model, tmp_path / "others.xyz", "--validation", "f.xyz"], "needs no training frames"),
        ([model, "--validation", "f.xyz", "--output", "all.yaml"], "has to end in .json"),
        ([model], "give --validation"),
    ):
        done = CliRunner().invoke(app, ["fit-uncertainty", *map(str, bad)])
        assert message in str(done.exception)


def described(**changes):
    tree = {"kind": "pointedge ensemble", "members": ["a", "b"], "factors": {}, "information": {}}
    return json.dumps({**tree, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "another kind"),
        ("[" * 100_000, "recursion"),
        (described(kind="other"), "another kind"),
        (described(size=3), "unexpected keyword argument 'size'"),
        (described(members="ab"), "members are no list"),
        (described(members=["a"]), "at least two members, not 1"),
        (described(members=["a", 1]), "a member is no text"),
        (described(members=["a", "bad.json"]), "is an ensemble itself; name its members"),
        (described(members=["a", "os:abort"]), "os:abort would run code"),
        (described(factors={"force": 1.0}), "there is no factor on 'force'"),
        (described(factors={"forces": float("nan")}), "it must be positive"),
        (described(factors={"forces": "1"}), "it must be positive"),
        (described(factors=[]), "have to be a table"),
        (described(information=None), "information no table"),
        (described(weights=[1.0]), "1 weights for 2 members"),
        (described(weights=[1.0, 0.0]), "the weight 0.0 of a member is not positive"),
        (described(weights={"a": 1}), "weights are a dict, and have to be a list"),
    ],
)
def test_files_that_are_no_ensemble(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"bad.json is no ensemble of pointedge \(.*{message}"):
        make_calculator(str(path))


def test_members_that_are_not_there(tmp_path):
    path = tmp_path / "good.json"
    path.write_text(described())
    with pytest.raises(ValueError, match=r"a member of .*good.json: .* no file '.*a'"):
        make_calculator(str(path))
    with pytest.raises(ValueError, match=r"would run code .* takes any calculators"):
        write_ensemble(tmp_path / "new.json", ["a", "os:abort"], {}, [])
    with pytest.raises(ValueError, match=r"good.json' is an ensemble itself"):
        make_calculator(f"{path},pet-water")


def test_members_of_one_energy_are_named_relative_to_the_file_too(members, tmp_path, monkeypatch):
    files = saved(members[:2], tmp_path)
    (tmp_path / "ensembles").mkdir()
    monkeypatch.chdir(tmp_path)
    names = [f"{file.name}@energy" for file in files]
    file = tmp_path / "ensembles" / "two.json"
    half = Calibration(1, 0.5, 1.0, 1.0, 1.0, 0.0, 0.5)
    write_ensemble(file, names, {"forces": half}, ["f.xyz"])
    monkeypatch.chdir(tmp_path.parent)
    found = [split_target(member) for member in find_ensemble(str(file)).members]
    assert [(Path(path).resolve(), energy) for path, energy in found] == [
        (path.resolve(), "energy") for path in files
    ]


def test_members_that_are_gone_are_not_looked_for_elsewhere(members, tmp_path, monkeypatch):
    """A file of the same name in the current folder is another model."""
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    files = saved(members[:2], home)
    saved(members[1:], other)
    half = Calibration(1, 0.5, 1.0, 1.0, 1.0, 0.0, 0.5)
    write_ensemble(home / "two.json", [str(file) for file in files], {"forces": half}, ["f.xyz"])
    files[0].unlink()
    monkeypatch.chdir(other)
    with pytest.raises(ValueError, match=r"no file '.*home/tiny-1.safetensors'"):
        make_calculator("../home/two.json")


def test_files_in_folders_that_are_links(members, tmp_path, monkeypatch):
    far = tmp_path / "scratch" / "user"
    far.mkdir(parents=True)
    near = tmp_path / "near"
    near.mkdir()
    (near / "out").symlink_to(far)
    names = [file.name for file in saved(members[:2], near)]
    monkeypatch.chdir(near)
    half = Calibration(1, 0.5, 1.0, 1.0, 1.0, 0.0, 0.5)
    write_ensemble(Path("out/two.json"), names, {"forces": half}, ["f.xyz"])
    assert len(make_calculator("out/two.json").members) == 2
    (near / "link.json").symlink_to(far / "two.json")
    assert len(make_calculator("link.json").members) == 2


def test_lists_longer_than_a_name_of_a_file(members, tmp_path, monkeypatch):
    long = tmp_path / f"{'x' * 150}-1.safetensors"
    checkpoint.save(members[0], long)
    checkpoint.save(members[1], long.with_stem(f"{'x' * 150}-2"))
    monkeypatch.chdir(tmp_path)
    model = ",".join(sorted(file.name for file in tmp_path.iterdir()))
    assert len(make_calculator(model).members) == 2
    assert len(files_of(model)) == 2
    with pytest.raises(ValueError, match="a comma too many"):
        make_calculator(f"{model},")


def test_a_member_that_is_there_twice_is_refused(members, tmp_path):
    (file, _) = saved(members[:2], tmp_path)
    with pytest.raises(ValueError, match="is named twice, and would always agree with itself"):
        make_calculator(f"{file},{file}")
