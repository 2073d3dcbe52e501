"""How sure a calculator is, and the command that lets it know."""

import re
import warnings

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from typer.testing import CliRunner

from pointedge.calculators import EnsembleCalculator, PETCalculator
from pointedge.calculators.cli import app
from pointedge.calculators.dynamics import MDSettings
from pointedge.calculators.md import run_md
from pointedge.calculators.monitor import Limits
from pointedge.potentials import checkpoint
from pointedge.potentials.potential import Potential

from ..networks import tiny_pet
from ..potentials.test_rigidity import CUTOFF, waters


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uncertain")
    plain, found = folder / "plain.safetensors", folder / "found.safetensors"
    checkpoint.save(Potential(tiny_pet(0, species=(1, 8), cutoff=CUTOFF)), plain)
    calculator = PETCalculator(plain)
    for name, frames in (("known", waters(30)), ("others", waters(8, seed=50))):
        for k, atoms in enumerate(frames):
            error = 0.01 * np.sin(10.0 * k)
            atoms.info["REF_energy"] = calculator.get_potential_energy(atoms) + error
        ase.io.write(folder / f"{name}.xyz", frames)
    arguments = [plain, folder / "known.xyz", "--validation", folder / "others.xyz"]
    command = ["fit-uncertainty", *map(str, arguments), "--output", str(found)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "energies of 8 validation frames, meV/atom: rms error" in result.output
    again = CliRunner().invoke(app, command)
    assert "give --overwrite" in str(again.exception)
    return found


def test_frames_of_the_training_calibrate_nothing(model, tmp_path):
    known = str(model.with_name("known.xyz"))
    plain, output = str(model.with_name("plain.safetensors")), str(tmp_path / "o.safetensors")
    arguments = ["fit-uncertainty", plain, known, "--validation", known, "--output", output]
    found = CliRunner().invoke(app, arguments)
    assert "validation frame 0 is training frame 0" in str(found.exception)


@pytest.mark.parametrize("place", ["known", "others"])
def test_an_element_that_the_model_does_not_know(model, tmp_path, place):
    files = {name: model.with_name(f"{name}.xyz") for name in ("known", "others")}
    strange = molecule("NH3")
    strange.info["REF_energy"] = -1.0
    ase.io.write(tmp_path / "f.xyz", [*ase.io.read(files[place], ":"), strange])
    files[place] = tmp_path / "f.xyz"
    arguments = [model.with_name("plain.safetensors"), files["known"], "--validation"]
    arguments += [files["others"], "--output", tmp_path / "o.safetensors"]
    found = CliRunner().invoke(app, ["fit-uncertainty", *map(str, arguments)])
    assert re.search(
        r"(training|validation) frames have N, and .* knows H, O only", str(found.exception)
    )


def test_labels_by_another_name(model, tmp_path):
    names = {}
    for name in ("known", "others"):
        frames = ase.io.read(model.with_name(f"{name}.xyz"), ":")
        for atoms in frames:
            atoms.info["mine"] = atoms.info.pop("REF_energy")
            atoms.info["theirs"] = 7.0
        names[name] = tmp_path / f"{name}.xyz"
        ase.io.write(names[name], frames)
    arguments = [model.with_name("plain.safetensors"), names["known"], "--validation"]
    arguments += [names["others"], "--energy-key", "mine", "--output", tmp_path / "o.safetensors"]
    found = CliRunner().invoke(app, ["fit-uncertainty", *map(str, arguments)])
    assert found.exit_code == 0, found.output
    assert checkpoint.load(tmp_path / "o.safetensors").rigidity is not None


def test_results(model):
    calculator = PETCalculator(model)
    frames = waters(2, seed=9)
    many = calculator.calculate_many(frames, ("energy_std", "energies_std", "energy"))
    for atoms, result in zip(frames, many, strict=True):
        atoms.calc = calculator
        assert calculator.get_property("energy_std", atoms) == pytest.approx(result["energy_std"])
        np.testing.assert_allclose(
            calculator.get_property("energies_std", atoms), result["energies_std"]
        )
        assert result["energy_std"] > 0
        assert result["energies_std"].shape == (3,)
        atoms.get_forces()
        calculator.reset()
        atoms.get_forces()
        assert "energy_std" not in calculator.results  # costs a forward pass, and was not asked for


def test_a_watched_dynamics_takes_one_more_forward_pass_per_step(model, tmp_path, monkeypatch):
    (atoms,) = waters(1, seed=9)
    atoms.calc = PETCalculator(model)
    counts = {"forces": 0, "energies": 0, "features": 0}
    potential = atoms.calc.potential
    forward, features = potential.forward, potential.last_layer_features

    def counted(graph, *, forces, virial):
        counts["forces" if forces else "energies"] += 1
        return forward(graph, forces=forces, virial=virial)

    def counted_features(graph):
        counts["features"] += 1
        return features(graph)

    monkeypatch.setattr(potential, "forward", counted)
    monkeypatch.setattr(potential, "last_layer_features", counted_features)
    run = MDSettings(ensemble="nve", steps=20, interval=5, log_interval=2)
    run_md(atoms, run, tmp_path / "run", limits=Limits(energy=1e9))
    assert counts == {"forces": 21, "energies": 0, "features": 21}


def test_features_are_what_energies_are_linear_in(model):
    """Other weights of the last layers change energies by features · weights, and a constant."""
    plain = checkpoint.load(model.with_name("plain.safetensors"))
    frames = waters(2, seed=3)
    calculator = PETCalculator(plain)
    (alone,) = calculator.calculate_many(frames[1:], ("last_layer_features", "energies"))
    calculator.calculate(frames[1], ("last_layer_features",))
    found = calculator.results["last_layer_features"]
    np.testing.assert_allclose(found, alone["last_layer_features"], rtol=1e-12, atol=1e-14)
    last = [heads[0][-1] for heads in (plain.network.node_heads, plain.network.edge_heads)]
    change = [torch.randn_like(linear.weight[0]) for linear in last]
    assert found.shape == (3, sum(map(len, change)))
    with torch.no_grad():
        for linear, vector in zip(last, change, strict=True):
            linear.weight[0] += vector
    (after,) = PETCalculator(plain).calculate_many(frames[1:], ("energies",))
    expected = found @ torch.cat(change).double().numpy() * plain.scale.item()
    np.testing.assert_allclose(after["energies"] - alone["energies"], expected, atol=1e-5)


def test_warnings(model):
    near, far = molecule("H2O"), molecule("H2O")
    far.positions *= 1.4
    sure, unsure = (PETCalculator(model).get_property("energies_std", a).max() for a in (near, far))
    limit = 0.5 * (sure + unsure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        near.calc = PETCalculator(model, warn_above=limit)
        near.get_forces()
    far.calc = near.calc
    with pytest.warns(UserWarning, match=r"uncertain by more than .* eV, that of atom \d \([HO]\)"):
        far.get_forces()


def test_where_there_is_none(model):
    plain = model.with_name("plain.safetensors")
    for options in ({}, {"symmetrize": "octahedral"}):
        path = model if options else plain
        assert "energy_std" not in PETCalculator(path, **options).implemented_properties
        with pytest.raises(ValueError, match="warn_above needs a model that knows how sure"):
            PETCalculator(path, warn_above=0.1, **options)


def test_a_committee_gives_its_own(model):
    atoms = waters(1)[0]
    members = [PETCalculator(model), PETCalculator(model)]
    atoms.calc = EnsembleCalculator(members)
    assert atoms.calc.get_property("energy_std", atoms) == 0
    assert "energies_std" not in atoms.calc.implemented_properties
