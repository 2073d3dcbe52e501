"""Frames that teach most: against a slow twin, against chance, and the command."""

import ase.db
import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from pointedge.calculators import EnsembleCalculator, PETCalculator
from pointedge.calculators.cli import app
from pointedge.calculators.comparison import Frame
from pointedge.calculators.exact import exact_extxyz
from pointedge.calculators.selection import (
    RIDGE,
    Described,
    describe,
    greedy,
    metric,
    select,
    without_results,
)
from pointedge.potentials import checkpoint

from .conftest import small_potential
from .labelled import Told

EPS = np.finfo(float).eps


def posterior(features, chosen, noise):
    """Conditional standard deviations of all frames, with the matrices written out."""
    prior = features @ features.T
    if not chosen:
        return np.sqrt(prior.diagonal())
    observed = prior[np.ix_(chosen, chosen)] + noise**2 * np.eye(len(chosen))
    explained = prior[:, chosen] @ np.linalg.inv(observed) @ prior[chosen]
    return np.sqrt(np.clip((prior - explained).diagonal(), 0, None))


def slow_greedy(features, noise, count):
    chosen, left = [], []
    for _ in range(count):
        stds = posterior(features, chosen, noise)
        stds[chosen] = -1
        chosen.append(int(stds.argmax()))
        left.append(stds.max())
    return chosen, left


@pytest.mark.parametrize(("frames", "width"), [(40, 6), (12, 30)])
def test_the_greedy_algorithm_is_its_slow_twin(frames, width):
    features = np.random.default_rng(frames).normal(size=(frames, width))
    order, left = greedy(features, 0.1, 10)
    expected, stds = slow_greedy(features, 0.1, 10)
    assert order == expected
    # A condition number of (largest variance / noise²) amplifies rounding of the matrices.
    np.testing.assert_allclose(left, stds, rtol=EPS * frames * (features**2).sum() / 0.01)


def test_a_copy_is_not_chosen_before_anything_new():
    features = np.eye(4)[[0, 0, 0, 1, 2]] * [[3], [3], [3], [1], [1.0]]
    order, left = greedy(features, 0.1, 5)
    assert order[:3] == [0, 3, 4]
    assert left[3] < 0.11


def crowded(seed):
    """Features of 60 frames of one dynamics, alike, and of 15 others; uncertainties that differ."""
    rng = np.random.default_rng(seed)
    crowd = rng.normal(size=8) + 0.1 * rng.normal(size=(60, 8))
    features = np.concatenate([crowd, rng.normal(size=(15, 8))])
    return features * rng.uniform(0.5, 1.5, size=(75, 1))


def test_the_rest_is_surer_than_after_a_choice_by_chance():
    """Standard deviations (root mean square) of frames that were not chosen."""
    rng = np.random.default_rng(0)
    for seed in range(5):
        features = crowded(seed)

        def rest(chosen, features=features):
            others = np.setdiff1d(np.arange(75), chosen)
            return np.sqrt(np.mean(posterior(features, list(chosen), 0.1)[others] ** 2))

        found = rest(greedy(features, 0.1, 8)[0])
        chance = [rest(rng.choice(75, 8, replace=False)) for _ in range(20)]
        assert found < min(chance)


def test_training_frames_tell_the_metric():
    rng = np.random.default_rng(0)
    features, training = rng.normal(size=(5, 3)), rng.normal(size=(50, 3)) * [10, 1, 1]
    points, known = metric(features, training, None)
    products = training.T @ training
    np.testing.assert_allclose(
        points @ points.T, features @ np.linalg.inv(products) @ features.T, rtol=1e-4
    )
    assert known.shape == training.shape
    plain, _ = metric(features, np.zeros((0, 3)), None)
    np.testing.assert_allclose(plain.mean(axis=0), 0, atol=1e-15)


def waters(count, seed=0, scale=0.05):
    frames = [molecule("H2O") for _ in range(count)]
    for k, atoms in enumerate(frames):
        atoms.rattle(scale, seed=seed + k)
    return frames


def test_a_network_that_learned_them_is_surer_of_the_rest():
    """Its rigidity with the chosen frames among the training frames, written out."""
    frames = [*waters(20, 20), *waters(8, 60, 0.25)]
    found = describe(
        PETCalculator(small_potential()),
        [Frame(atoms, index=k) for k, atoms in enumerate(frames)],
        [Frame(atoms, index=k) for k, atoms in enumerate(waters(10))],
    )

    def rest(chosen):
        known = np.concatenate([found.training, found.features[chosen]])
        products = known.T @ known
        products += RIDGE * np.diag(products).mean() * np.eye(len(products))
        others = np.delete(found.features, chosen, axis=0)
        return np.sqrt(
            np.mean(np.einsum("fi,fi->f", others, np.linalg.solve(products, others.T).T))
        )

    rng = np.random.default_rng(0)
    chance = [rest(rng.choice(28, 5, replace=False)) for _ in range(20)]
    assert rest([one.index for one in select(found, 5)]) < min(chance)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("select")
    for k in (1, 2):
        checkpoint.save(small_potential(seed=k), folder / f"m-{k}.safetensors")
    known = waters(6)
    near, far = waters(8, 20), waters(3, 40, 0.3)
    frames = [*known[:2], *near, near[0], *far]
    for atoms in frames:
        atoms.info.update(REF_energy=1.0, config="a")
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((3, 3)))
    ase.io.write(folder / "known.xyz", known)
    (folder / "frames.xyz").write_text("".join(exact_extxyz(atoms) for atoms in frames))
    with ase.db.connect(folder / "frames.db") as database:
        for atoms in frames:
            database.write(atoms)
    return folder


def command(files, source, *more):
    model = ",".join(str(files / f"m-{k}.safetensors") for k in (1, 2))
    arguments = [files / source, "--model", model, *more]
    return CliRunner().invoke(app, ["select", *map(str, arguments)])


def test_command(files):
    chosen = {}
    for source in ("frames.xyz", "frames.db"):
        target = files / f"{source}.chosen.xyz"
        known = ("--training", files / "known.xyz")
        done = command(files, source, "--count", 4, *known, "--output", target)
        assert done.exit_code == 0, done.output
        lines = done.stdout.splitlines()
        assert lines[-1].startswith("14 frames read, 2 of the training and 1 copies left out; 4 of")
        assert "uncertainty of forces / eV/Å  given those above  distance" in lines[0]
        chosen[source] = frames = ase.io.read(target, index=":")
        assert len(lines) == 6
        for line, atoms in zip(lines[1:5], frames, strict=True):
            assert line.split()[:2] == [str(files / source), str(atoms.info["source_index"])]
            assert atoms.calc is None
            assert set(atoms.info) == {
                "source_file",
                "source_index",
                "energy_std",
                "max_forces_std",
            }
    assert all(a == b for a, b in zip(*chosen.values(), strict=True))
    with ase.db.connect(files / "frames.db") as database:
        for atoms in chosen["frames.db"]:
            original = database.get(id=int(atoms.info["source_index"]) + 1)
            np.testing.assert_array_equal(atoms.positions, original.positions)  # to the last bit
    one = chosen["frames.xyz"][0]
    calculator = EnsembleCalculator([files / f"m-{k}.safetensors" for k in (1, 2)])
    assert one.info["max_forces_std"] == pytest.approx(
        calculator.get_property("forces_std", one).max(), rel=1e-6
    )
    again = command(files, "frames.xyz", "--count", 4, "--output", target)
    assert "exists; choose another output, or give --overwrite" in str(again.exception)
    many = command(files, "frames.xyz", "--count", 99, "--output", files / "new.xyz")
    assert "99 frames cannot be chosen of 13" in str(many.exception)
    assert not (files / "new.xyz").exists()


def test_chosen_frames_keep_moments_of_a_column_called_magmoms():
    """Which ASE's reader of extended XYZ takes for results, as those that go."""
    frame, moments = waters(1)[0], [2.0, -1.0, 0.5]
    frame.calc = SinglePointCalculator(frame, energy=-1.0, magmoms=np.array(moments))
    none = np.zeros((1, 0))
    found = Described([Frame(frame)], {"energy": np.ones(1)}, none, none[:0], 1, 0, 0)
    (chosen,) = select(found, 1)
    atoms = without_results(chosen, found)
    assert atoms.calc is None
    np.testing.assert_array_equal(atoms.get_initial_magnetic_moments(), moments)


def test_what_a_model_has_to_know():
    frames = [Frame(atoms, index=k) for k, atoms in enumerate(waters(5))]
    plain = describe(PETCalculator(small_potential()), frames)
    assert not plain.stds
    by_features = select(plain, 3)
    assert by_features[0].left == by_features[0].uncertainty > by_features[1].left
    assert np.isnan(by_features[0].distance)
    assert by_features[1].distance > 0
    with pytest.raises(ValueError, match="does not know how sure it is of forces"):
        select(plain, 3, by="forces")
    for atoms in (frame.atoms for frame in frames):
        atoms.info["told_energy"] = 0.0
    nothing = describe(Told(), frames)
    with pytest.raises(ValueError, match="does not know how sure it is; take an ensemble"):
        select(nothing, 3)


def test_without_features_the_least_sure_come_first():
    stds = np.array([0.1, 0.5, 0.3])
    frames = [Frame(atoms, index=k) for k, atoms in enumerate(waters(3))]
    none = np.zeros((3, 0))
    chosen = select(Described(frames, {"energy": stds}, none, none[:0], 3, 0, 0), 3)
    assert [one.frame.index for one in chosen] == [1, 2, 0]
    assert [one.left for one in chosen] == pytest.approx([0.5, 0.3, 0.1])


def test_a_frame_that_the_model_refuses_is_named():
    frames = [Frame(atoms, "new.xyz", k) for k, atoms in enumerate(waters(3))]
    frames[2].atoms.numbers[0] = 79
    calculator = PETCalculator(small_potential())
    with pytest.raises(ValueError, match=r"^frame 2 of new\.xyz: atom 0 is Au"):
        describe(calculator, frames)
    with pytest.raises(ValueError, match=r"^frame 2 of new\.xyz: atom 0 is Au"):
        describe(calculator, frames[:2], frames)
