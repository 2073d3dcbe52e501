"""Sets of frames: the same numbers from memory, a cache and frame by frame; and their table."""

import pickle
import subprocess
import sys
from dataclasses import fields

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from torch.utils.data import DataLoader
from typer.testing import CliRunner

from pointedge.calculators.cli import app
from pointedge.potentials.datasets import hashes
from pointedge.potentials.datasets.hashes import frame_hash
from pointedge.potentials.graph import Graph
from pointedge.potentials.training import storage
from pointedge.potentials.training.baseline import composition_fit
from pointedge.potentials.training.data import LABELS, Batch, labelled
from pointedge.potentials.training.dataset import FrameSource
from pointedge.potentials.training.settings import Data
from pointedge.potentials.training.summary import Summary
from pointedge.potentials.training.table import table_lines

CUTOFF = 3.5


def settings(**more) -> Data:
    files = {"files": ["f.xyz"]}
    return Data(train=files, validation=files, **more)


def frames():
    """Molecules, crystals and an atom without neighbours; some lack labels."""
    rng = np.random.default_rng(0)
    structures = [molecule("H2O"), bulk("Cu", cubic=True) * (2, 1, 1), Atoms("O"), bulk("Al")]
    labelled_frames = []
    for k in range(12):
        atoms = structures[k % 4].copy()
        atoms.rattle(0.05, rng=rng)
        atoms.info["REF_energy"] = -10.0 * len(atoms) + rng.normal()
        if k % 3:
            atoms.arrays["REF_forces"] = rng.normal(size=(len(atoms), 3))
        if atoms.cell.rank == 3:
            atoms.info["REF_stress"] = rng.normal(size=(3, 3))
        atoms.info["weight"] = float(k)
        labelled_frames.append(atoms)
    return labelled_frames


@pytest.fixture
def folder(tmp_path):
    ase.io.write(tmp_path / "f.xyz", frames())
    return tmp_path


def source(folder, **more) -> FrameSource:
    data = settings(weight_key="weight", **more)
    return FrameSource("training", data.train, data, folder)


def assert_same(one: Batch, other: Batch):
    """To the same bits and types."""
    for names, a, b in (
        ([f.name for f in fields(Graph)], one.graph, other.graph),
        ([*LABELS, "weight"], one, other),
    ):
        for name in names:
            x, y = getattr(a, name), getattr(b, name)
            assert (x is None) == (y is None), name
            if x is not None:
                assert x.dtype == y.dtype, name
                assert torch.equal(torch.nan_to_num(x, 7e77), torch.nan_to_num(y, 7e77)), name


@pytest.mark.parametrize("inputs", [(), ("charge", "spin")])
def test_memory_cache_and_single_frames_have_the_same_bits(folder, inputs):
    memory = source(folder).dataset(CUTOFF, inputs)
    cached = source(folder, cache="cache").dataset(CUTOFF, inputs)
    again = source(folder, cache="cache").dataset(CUTOFF, inputs)
    assert isinstance(again._columns["positions"], np.memmap)
    data = settings(weight_key="weight")
    for k, atoms in enumerate(ase.io.read(folder / "f.xyz", ":")):
        for found in (memory[k], cached[k], again[k]):
            assert_same(found, labelled(atoms, data, CUTOFF, inputs))
        assert memory.hashes[k] == again.hashes[k] == frame_hash(atoms)
    assert len(memory) == len(again) == 12
    assert memory.atoms.tolist() == [b.graph.num_atoms for b in again]
    assert memory.edges.tolist() == [b.graph.num_edges for b in again]
    assert 0 in memory.edges
    assert again.summary == memory.summary
    assert again.digest == cached.digest == memory.digest
    assert again.species == memory.species == (1, 8, 13, 29)
    assert len(again[2:5]) == 3
    with pytest.raises(IndexError):
        again[12]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
def test_workers_map_the_cache_and_are_not_sent_it(folder):
    cached = source(folder, cache="cache").dataset(CUTOFF, ())
    sent = pickle.dumps(cached)
    assert b"positions" not in sent
    assert_same(pickle.loads(sent)[3], cached[3])
    loader = DataLoader(cached, 5, collate_fn=Batch.join, num_workers=2)
    for k, batch in enumerate(loader):
        assert_same(batch, Batch.join(cached[5 * k : 5 * k + 5]))


def test_a_cache_is_made_once_for_each_content_and_setting(folder, monkeypatch):
    made = []
    finish = storage.CacheWriter.finish
    monkeypatch.setattr(
        storage.CacheWriter, "finish", lambda self, i: (made.append(self.folder), finish(self, i))
    )
    for cutoff, more in [(3.5, {}), (3.5, {}), (3.0, {}), (3.5, {"energy_key": None})]:
        source(folder, cache="cache", **more).dataset(cutoff, ())
    assert len(made) == 3
    assert source(folder, cache="cache").species() == {1, 8, 13, 29}
    ase.io.write(folder / "f.xyz", frames()[:5])
    changed = source(folder, cache="cache")
    assert changed.species() == {1, 8, 13, 29}
    assert len(changed.dataset(3.5, ())) == 5
    assert len(set(made)) == 4


def test_a_digest_does_not_depend_on_how_columns_are_cut(folder, monkeypatch):
    whole = source(folder).dataset(CUTOFF, ()).digest
    monkeypatch.setattr(hashes, "ROWS", 5)
    assert source(folder).dataset(CUTOFF, ()).digest == whole


def test_a_cache_that_fails_leaves_nothing_behind(folder):
    bad = frames()
    bad[-1].arrays["REF_forces"] = np.full((len(bad[-1]), 3), np.nan)
    ase.io.write(folder / "f.xyz", bad)
    with pytest.raises(ValueError, match=r"REF_forces of frame 11 of f.xyz holds a value that is"):
        source(folder, cache="cache").dataset(CUTOFF, ())
    assert list((folder / "cache").iterdir()) == []


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path):
    cache, rows = tmp_path / "cache", {"numbers": np.arange(3)}
    code = "import os, sys, numpy as np; from pathlib import Path\n"
    code += "from pointedge.potentials.training.storage import CacheWriter\n"
    code += "writer = CacheWriter(Path(sys.argv[1])); writer.append({'a': np.arange(3)})\n"
    code += "os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(cache)], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".cache-")
    with storage.CacheWriter(cache) as first, storage.CacheWriter(cache) as second:
        assert not left.exists()
        for writer in (first, second):  # neither has removed the other, which lives
            writer.append(rows)
            writer.finish({"of": "both"})
    assert list(tmp_path.iterdir()) == [cache]
    columns, information = storage.open_cache(cache)
    assert columns["numbers"].tolist() == [0, 1, 2]
    assert information == {"of": "both"}
    assert sorted(file.name for file in cache.iterdir()) == ["index.json", "numbers.npy"]


def strained(sign=1.0, factor=1.0):
    """Copies of a crystal with energies and stresses of a real potential."""
    copies = []
    for strain in np.linspace(-0.03, 0.03, 7):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain * np.diag([1, 0.3, -0.2])), True)
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.info["REF_stress"] = sign * factor * atoms.get_stress(voigt=False)
        atoms.calc = None
        copies.append(atoms)
    return copies


def summary(structures, tmp_path) -> Summary:
    ase.io.write(tmp_path / "f.xyz", structures)
    data = settings()
    return FrameSource("training", data.train, data, tmp_path).dataset(CUTOFF, ()).summary


def test_the_sign_of_the_stress_is_read_off_strained_copies(tmp_path):
    check = summary(strained(), tmp_path).stress_check
    assert check.slope == pytest.approx(1.0, abs=0.02)
    assert check.verdict.startswith("right")
    assert not check.wrong
    for wrong, slope in ((strained(sign=-1), -1), (strained(factor=160.2), 1 / 160.2)):
        found = summary(wrong, tmp_path)
        assert found.stress_check.slope == pytest.approx(slope, rel=0.02)
        assert any("stress is not the derivative of the energy" in w for w in found.warnings)
    rng = np.random.default_rng(0)
    free = [a for a in frames() if a.cell.rank == 3]
    assert "cannot tell" in summary(free, tmp_path).stress_check.verdict
    noise = strained()
    for atoms in noise:
        atoms.info["REF_energy"] += rng.normal()
    assert "scatter" in summary(noise, tmp_path).stress_check.verdict


def water(k, **labels):
    atoms = molecule("H2O", cell=[6, 6, 6], pbc=True)
    atoms.rattle(0.01, seed=k)
    atoms.info["REF_energy"] = -470.0 + 0.01 * k
    atoms.arrays["REF_forces"] = np.random.default_rng(k).normal(size=(3, 3))
    atoms.arrays["REF_forces"] -= atoms.arrays["REF_forces"].mean(0)
    for key, value in labels.items():
        (atoms.arrays if key == "REF_forces" else atoms.info)[key] = value
    return atoms


def test_clean_frames_give_no_warning(tmp_path):
    found = summary([water(k) for k in range(12)], tmp_path)
    assert found.warnings == []
    assert found.elements == {"H": 24, "O": 12}
    assert found.labels["forces"].frames == 12
    assert "these compositions leave -0.5 H +1 O free" in found.baseline


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ([water(3)], "1 frames are copies of others: frame 12 of f.xyz of frame 3 of f.xyz"),
        ([water(20, REF_energy=-500.0)], "1 frames have energies beyond 20 standard deviations"),
        ([water(20, REF_forces=np.ones((3, 3)))], "frame 12 of f.xyz sum to 3 eV/Å"),
        ([water(20, REF_forces=np.zeros((3, 3)))], "all forces are exactly zero in 1 frames"),
        (
            [water(20, REF_forces=900.0 * np.array([[1, 0, 0], [-1, 0, 0], [0, 0, 0]]))]
            + [water(k) for k in range(30, 400)],
            "a force of 900 eV/Å in frame 12 of f.xyz",
        ),
        ([Atoms("OH", [[0, 0, 0], [0, 0, 0.3]], info={"REF_energy": -440.0})], "0.300 Å apart"),
        (
            [water(20, REF_stress=np.triu(np.ones((3, 3))))],
            "1 tensors are not symmetric: stress of frame 12",
        ),
        ([water(20, REF_stress=np.eye(3))], "1 of 13 frames have stress"),
    ],
)
def test_suspicious_frames(tmp_path, odd, words):
    found = summary([water(k) for k in range(12)] + odd, tmp_path)
    assert any(words in line for line in found.warnings), found.warnings


def test_the_command_prints_a_table_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("a.xyz", [water(k) for k in range(4)])
    ase.io.write("b.xyz", [water(3), bulk("Cu")])
    done = CliRunner().invoke(app, ["data", "table", "a.xyz", "b.xyz"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[1].split() == ["frames", "4", "2"]
    assert "warning: b.xyz: Cu is in no a.xyz frame" in lines
    assert "warning: 1 frames of a.xyz are in b.xyz too" in lines
    assert any(
        line.startswith("a.xyz labels: energy = REF_energy (4 frames), eV;") for line in lines
    )
    wrong = CliRunner().invoke(app, ["data", "table", "a.xyz", "--key", "energy=E"])
    assert "no a.xyz frame has 'E', named as its energy; known: REF_energy" in str(wrong.exception)
    assert "label=name" in str(
        CliRunner().invoke(app, ["data", "table", "a.xyz", "--key", "E"]).exception
    )


def test_the_table_has_a_column_for_each_set(folder):
    one = source(folder).dataset(CUTOFF, ()).summary
    lines = table_lines([one, one.model_copy(update={"name": "validation"})])
    assert lines[0].split() == ["training", "validation"]
    forces = next(line for line in lines if line.startswith("forces, eV/Å"))
    assert forces.count("8: ") == 2


def test_baseline_of_frames_of_different_sizes_and_an_outlier():
    """Sums over species are found exactly beside one energy that is far off."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 40, size=(60, 3)).astype(float)
    exact = np.array([-13.6, -1000.0, -2e4])
    energies = counts @ exact + 1e-4 * rng.normal(size=60)
    energies[7] += 5000.0
    fit = composition_fit(counts, energies)
    np.testing.assert_allclose(fit.energies, exact, atol=1e-2)
    assert len(fit.undetermined) == 0
    assert fit.rms > 1
    plain = np.linalg.lstsq(counts, energies, rcond=None)[0]
    assert np.abs(plain - exact).max() > 1


def test_a_baseline_says_which_combinations_are_undetermined():
    counts = np.array([[2.0, 1, 0, 4], [4, 2, 0, 8], [2, 1, 1, 4]])
    fit = composition_fit(counts, counts @ [-13.0, -430.0, -5.0, -2.0])
    np.testing.assert_allclose(counts @ fit.undetermined.T, 0, atol=1e-12)
    assert fit.undetermined.shape == (2, 4)
    np.testing.assert_allclose(counts @ fit.energies, counts @ [-13.0, -430.0, -5.0, -2.0])
    assert " and " in fit.in_words((1, 8, 9, 14)).split("these compositions leave")[1]
