"""Weights of members: means and spreads, files that keep them, and those of the least error."""

import json

import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.lj import LennardJones
from scipy.optimize import minimize
from typer.testing import CliRunner

from pointedge.calculators import EnsembleCalculator, PETCalculator, ensemble_files
from pointedge.calculators.cli import app
from pointedge.calculators.ensemble_files import find_ensemble, packaged_ensembles
from pointedge.calculators.evaluation import evaluate
from pointedge.calculators.models import make_calculator
from pointedge.calculators.weights import least_error
from pointedge.potentials import checkpoint

from .conftest import bulk, small_potential


@pytest.fixture(scope="module")
def members():
    return [small_potential(seed=k) for k in range(3)]


@pytest.fixture
def files(members, tmp_path):
    for k, member in enumerate(members):
        checkpoint.save(member, tmp_path / f"tiny-{k}.safetensors")
    return [str(tmp_path / f"tiny-{k}.safetensors") for k in range(3)]


def test_means_and_spreads_are_weighted(members):
    atoms = bulk()
    weights = np.array([0.5, 0.3, 0.2])
    atoms.calc = EnsembleCalculator(members, weights=10 * weights, factors={"forces": 2.0})
    each = np.stack([PETCalculator(member).get_forces(atoms) for member in members])
    mean = sum(w * x for w, x in zip(weights, each, strict=True))
    variance = sum(w * (x - mean) ** 2 for w, x in zip(weights, each, strict=True))
    std = 2 * np.sqrt(variance / (1 - (weights**2).sum()))
    np.testing.assert_allclose(atoms.calc.weights, weights, rtol=1e-14)
    np.testing.assert_allclose(atoms.get_forces(), mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(atoms.calc.results["forces_std"], std, rtol=1e-10, atol=1e-12)
    forces = atoms.get_forces()
    step = 1e-4
    energies = []
    for sign in (1, -1):
        atoms.positions[0, 0] += sign * step
        energies.append(atoms.get_potential_energy())
        atoms.positions[0, 0] -= sign * step
    slope = (energies[0] - energies[1]) / (2 * step)
    assert forces[0, 0] == pytest.approx(-slope, abs=1e-6)


def test_weights_go_with_their_members_in_any_order(members):
    """Calculators of other packages are asked after ours, wherever they stand."""
    atoms = bulk()
    other, ours = LennardJones(rc=4.0), PETCalculator(members[0])
    mean = 0.9 * other.get_potential_energy(atoms) + 0.1 * ours.get_potential_energy(atoms)
    for order, weights in (((other, ours), (9, 1)), ((ours, other), (1, 9))):
        for given in (weights, torch.tensor(weights)):
            found = EnsembleCalculator(order, weights=given).get_potential_energy(atoms)
            assert found == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], "2 weights for 3 members; give one each, or none"),
        ([1.0, 0.0, 1.0], r"the weight 0.0 of a member is not positive; leave it out"),
        ([1.0, -1.0, 1.0], "is not positive"),
        ([1.0, float("nan"), 1.0], "is not positive"),
        ([1.0, float("inf"), 1.0], "is not positive"),
        ([1.0, True, 1.0], "is not positive"),
        (["1", "1", "1"], "is not positive"),
        ([1.0, 1e-12, 1.0], "the weight 1e-12 of a member is too small to count"),
    ],
)
def test_other_weights_are_refused(members, weights, message):
    with pytest.raises(ValueError, match=message):
        EnsembleCalculator(members, weights=weights)
    with pytest.raises(AttributeError):
        EnsembleCalculator(members).weights = [1, 2, 3]  # would change nothing else


@pytest.mark.parametrize("count", [2, 3, 5])
def test_least_error_is_that_of_a_general_minimiser(count):
    rng = np.random.default_rng(count)
    shared = rng.normal(size=4_000)
    errors = [shared + rng.uniform(0.3, 2.0) * rng.normal(size=4_000) for _ in range(count)]
    found = np.array(least_error([1e-3 * e for e in errors]))
    products = np.array(errors) @ np.array(errors).T / 4_000
    slow = minimize(
        lambda w: w @ products @ w,
        np.full(count, 1 / count),
        jac=lambda w: 2 * products @ w,
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-15},
    )
    assert found.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found, slow.x, atol=1e-6)


def test_members_that_add_nothing_get_no_weight():
    rng = np.random.default_rng(0)
    good = rng.normal(size=1_000)
    worse = good + rng.normal(size=1_000)  # all that is wrong with the good one, and more
    worse -= good * ((worse - good) @ good) / (good @ good)
    assert least_error([good, worse]) == pytest.approx([1, 0], abs=1e-7)
    missing = np.append(good, np.nan), np.append(good, 1.0)
    assert least_error(missing) == least_error([good, good])
    assert sum(least_error([0 * good, 0 * good])) == pytest.approx(1)
    with pytest.raises(ValueError, match="no frame has force labels"):
        least_error([np.full(3, np.nan)] * 2)


def labelled(members, weights, folder):
    """Frames with mean forces and energies of some members, and noise."""
    truth = EnsembleCalculator(members, weights=weights)
    frames = []
    for seed in range(6):
        atoms = bulk()
        atoms.rattle(0.05, seed=seed)
        rng = np.random.default_rng(seed)
        noise = 1e-3 * rng.normal(size=(len(atoms), 3))
        atoms.info["REF_energy"] = truth.get_potential_energy(atoms) + 1e-3 * rng.normal()
        atoms.arrays["REF_forces"] = truth.get_forces(atoms) + noise
        frames.append(atoms)
    ase.io.write(folder / "others.xyz", frames)
    return str(folder / "others.xyz")


def test_fit_uncertainty_fits_weights_too(members, files, tmp_path):
    frames = labelled(members[:2], [0.8, 0.2], tmp_path)
    target = tmp_path / "two.json"
    arguments = [",".join(files), "--validation", frames, "--output", str(target)]
    done = CliRunner().invoke(app, ["fit-uncertainty", *arguments, "--weights", "fit"])
    assert done.exit_code == 0, done.output
    found = find_ensemble(str(target))
    assert found.members == files[:2]  # the third adds nothing
    assert found.weights == pytest.approx([0.8, 0.2], abs=0.01)
    assert f"tiny-0.safetensors: weight {found.weights[0]:.4g}" in done.stderr
    errors = evaluate(make_calculator(str(target)), ase.io.read(frames, ":"))
    assert errors.overall.forces.rmse < 1.1  # meV/Å, the noise
    assert errors.calibrations["forces"].factor == pytest.approx(1, abs=1e-6)
    said = CliRunner().invoke(app, ["info", str(target)]).stdout
    assert [line.split() for line in said.splitlines()][3:5] == [
        ["weight", "of", "member", "1", f"{found.weights[0]:.4g}"],
        ["weight", "of", "member", "2", f"{found.weights[1]:.4g}"],
    ]
    again = [str(target), "--validation", frames, "--output", str(tmp_path / "again.json")]
    for given, expected in (([], found.weights), (["--weights", "3,1"], [0.75, 0.25])):
        done = CliRunner().invoke(app, ["fit-uncertainty", *again, *given, "--overwrite"])
        assert done.exit_code == 0, done.output
        kept = json.loads((tmp_path / "again.json").read_text())
        assert kept["weights"] == pytest.approx(expected)


def test_weights_that_cannot_be(members, files, tmp_path):
    frames = labelled(members[:2], [1, 1e-5], tmp_path)
    for model, weights, message in (
        (files[0], "fit", "is one model; leave --weights out"),
        (",".join(files), "1,2", "--weights 1,2: 2 weights for 3 members"),
        (",".join(files), "1,2,x", "--weights 1,2,x: could not convert"),
        (",".join(files), "1,2,-1", "is not positive"),
        (",".join([files[0], files[2]]), "fit", "no mean has a smaller force error than"),
    ):
        target = tmp_path / "bad.json"
        arguments = [model, "--validation", frames, "--weights", weights]
        if "," in model:
            arguments += ["--output", str(target)]
        done = CliRunner().invoke(app, ["fit-uncertainty", *arguments])
        assert message in str(done.exception)
        assert not target.exists()


def test_a_packaged_file_alone_is_an_ensemble(files, tmp_path, monkeypatch):
    """Its members need not be called after it."""
    packaged = {"a": tmp_path / "tiny-0.safetensors", "b": tmp_path / "tiny-1.safetensors"}
    monkeypatch.setattr(ensemble_files, "packaged_models", lambda: packaged)
    monkeypatch.setattr(ensemble_files, "packaged_folder", lambda name: tmp_path)
    tree = {"kind": "pointedge ensemble", "members": ["a", "b"], "weights": [3, 1]}
    (tmp_path / "both.json").write_text(json.dumps(tree))
    assert packaged_ensembles() == ["both"]
    assert find_ensemble("both").members == ["a", "b"]
    assert find_ensemble("both").weights == [3, 1]
    (tmp_path / "both.json").write_text(json.dumps({**tree, "weights": [3]}))
    with pytest.raises(ValueError, match="1 weights for 2 members"):
        find_ensemble("both")
