"""Broken data: every kind gives one clear error, in one line, that names what and where."""

import json
import re
import sqlite3
from contextlib import closing

import ase.io
import numpy as np
import pytest
from ase import Atoms

from pointedge.potentials.potential import Potential
from pointedge.potentials.training import sets as sets_module
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.sets import open_sets, open_sources

from ...networks import tiny_pet

CUTOFF = 3.0


def frame(k, **info):
    atoms = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0.1], [-0.2, 0.93, 0]], cell=[6, 6, 6], pbc=True)
    atoms.rattle(0.05, seed=k)
    atoms.info |= {"REF_energy": -470.0 - 0.1 * k, "REF_stress": np.eye(3), "part": "ab"[k >= 4]}
    atoms.info |= info
    atoms.arrays["REF_forces"] = np.random.default_rng(k).normal(size=(3, 3))
    return atoms


@pytest.fixture
def tree(tmp_path):
    """A sound configuration; the tests break it, or its file of six frames."""
    write(tmp_path, [frame(k) for k in range(6)])
    one = {"files": ["f.xyz"], "where": {"part": ["a"]}}
    return {
        "model": {"cutoff": CUTOFF},
        "data": {"train": one, "validation": one | {"where": {"part": ["b"]}}},
    }


def write(folder, frames, name="f.xyz"):
    ase.io.write(folder / name, frames)


def changed(function):
    """Break frame 2 of the file."""

    def breaks(folder, tree):
        frames = [frame(k) for k in range(6)]
        function(frames[2])
        write(folder, frames)

    return breaks


def edited(old, new):
    """Break the text of the file."""

    def breaks(folder, tree):
        path = folder / "f.xyz"
        text = re.sub(old, new, path.read_text(), count=1)
        assert text != path.read_text()
        path.write_text(text)

    return breaks


def setting(**changes):
    """Break the section "data" of the configuration."""

    def breaks(folder, tree):
        for key, value in changes.items():
            part = tree["data"]
            *sections, last = key.split("__")
            for section in sections:
                part = part[section]
            part[last] = value

    return breaks


def loss(**weights):
    return lambda folder, tree: tree.update(loss=weights)


def close(atoms):
    atoms.positions[1] = atoms.positions[0] + 0.02


def flat(atoms):
    atoms.cell[2] = atoms.cell[1]


def set_position(atoms):
    atoms.positions[1, 1] = np.nan


def set_force(atoms):
    atoms.arrays["REF_forces"][1, 1] = np.inf


def no_atoms(folder, tree):
    ase.io.write(folder / "f.xyz", [frame(0), Atoms(), frame(1)], format="extxyz")


def other_database(folder, tree):
    with closing(sqlite3.connect(folder / "f.db")) as database:
        database.execute("create table systems (mass real)")
        database.commit()
    tree["data"]["train"]["files"] = ["f.db"]


def in_two_sets(folder, tree):
    tree["data"]["test"] = {"files": ["f.xyz"], "index": "3:5"}


def known_test(folder, tree, monkeypatch):
    from pointedge.potentials.datasets.hashes import frame_hash

    write(folder, [frame(k) for k in range(6)])
    first = ase.io.read(folder / "f.xyz", 1)
    monkeypatch.setattr(
        sets_module, "known_test_frames", lambda: {frame_hash(first): "a test split (a.xyz)"}
    )


def new_element(folder, tree):
    copper = Atoms("Cu", info={"REF_energy": -3.0, "part": "c"})
    write(folder, [*(frame(k) for k in range(6)), copper])
    tree["data"]["test"] = {"files": ["f.xyz"], "where": {"part": ["c"]}}


def misspelt_weight(folder, tree):
    tree["data"]["weight_key"] = "weigth"


def misspelt_unless(folder, tree):
    tree["data"]["train"]["unless"] = {"prat": ["c"]}


def impossible_charge(folder, tree):
    write(folder, [frame(k, charge=99 if k == 2 else 0) for k in range(6)])
    tree["model"]["system_conditioning"] = True


def moment_that_is_no_number(folder, tree):
    frames = [frame(k) for k in range(6)]
    for atoms in frames:
        atoms.set_initial_magnetic_moments([1.0, 0.5, np.nan if atoms is frames[2] else 0.0])
    write(folder, frames)
    tree["model"]["typical_moment"] = 1.0


def damaged_cache(folder, tree):
    tree["data"]["cache"] = "cache"
    run(folder, tree)
    (cache,) = folder.glob("cache/training-frames-*")
    content = (cache / "positions.npy").read_bytes()
    (cache / "positions.npy").write_bytes(content[:-8])


def damaged_index(folder, tree):
    tree["data"]["cache"] = "cache"
    run(folder, tree)
    (cache,) = folder.glob("cache/training-frames-*")
    (cache / "index.json").write_text(json.dumps({"columns": {}}))


def run(folder, tree):
    config = TrainingConfig.from_dict(tree)
    potential = Potential(tiny_pet(0, species=(1, 8, 29), **tree["model"]))
    return open_sets(open_sources(config.data, folder), config, potential)


BROKEN = {
    "missing file": (setting(train__files=["g.xyz"]), "g.xyz not found at", "POINTEDGE_DATA"),
    "misspelt name of the registry": (
        setting(train__files=["water/trian.xyz"]),
        "did you mean 'water/train.xyz' of the registry",
    ),
    "misspelt key of weights": (misspelt_weight, "'weigth', which no training frame has"),
    "misspelt key of unless": (misspelt_unless, "no selected frame of f.xyz has prat"),
    "charge out of range": (impossible_charge, "charge of", "frame", "is 99", "from -10 to 10"),
    "moment that is not finite": (moment_that_is_no_number, "of atom 2 is nan μ_B", "not finite"),
    "empty file": (lambda f, t: (f / "f.xyz").write_text(""), "f.xyz", "cannot be read"),
    "text that is no structure": (
        lambda f, t: (f / "f.xyz").write_text("dear diary\n"),
        "f.xyz cannot be read",
    ),
    "file cut short": (
        lambda f, t: (f / "f.xyz").write_text((f / "f.xyz").read_text()[:-150]),
        "f.xyz cannot be read",
    ),
    "database of another kind": (
        other_database,
        "f.db",
        "cannot be read",
    ),
    "no frame selected": (
        setting(train__where={"part": ["c"]}),
        "no frame : of f.xyz has part c",
        "it is a, b",
    ),
    "unknown key in where": (setting(train__where={"prat": ["a"]}), "has prat a", "it is None"),
    "slice past the end": (setting(train__take="7:"), "no frame of f.xyz is selected", "7:"),
    "label that is not read": (
        setting(energy_key=None),
        "the loss has energy, but data.energy_key is null",
    ),
    "bad slice": (setting(train__index="::x"), "data.train.index", "is not a slice"),
    "take and leave": (setting(train__take=":1", train__leave=":1"), "either take or leave"),
    "unknown setting": (setting(train__indx=":1"), "data.train.indx", "did you mean 'index'"),
    "frame without atoms": (no_atoms, "frame 1 of f.xyz has no atoms"),
    "energy NaN": (
        changed(lambda a: a.info.update(REF_energy=np.nan)),
        "REF_energy of frame 2 of f.xyz",
        "not finite",
    ),
    "force infinite": (changed(set_force), "REF_forces of frame 2 of f.xyz", "not finite"),
    "position NaN": (changed(set_position), "frame 2 of f.xyz", "position of atom", "not finite"),
    "energy as text": (
        changed(lambda a: a.info.update(REF_energy="low")),
        "REF_energy of frame 2",
        "not a number but 'low'",
    ),
    "stress of 5 numbers": (
        changed(lambda a: a.info.update(REF_stress=np.zeros(5))),
        "REF_stress of frame 2 of f.xyz has shape (5,); expected (3, 3)",
    ),
    "forces of one number per atom": (
        edited("REF_forces:R:3", "REF_forces:R:1:rest:R:2"),
        "REF_forces of frame 0 of f.xyz has shape (3,); expected (3, 3)",
    ),
    "forces of another number of atoms": (
        lambda f, t: (
            changed(lambda a: a.info.update(f=np.zeros((4, 3))))(f, t),
            setting(forces_key="f")(f, t),
        ),
        "f of frame 2 of f.xyz has shape (4, 3); expected (3, 3)",
    ),
    "atoms at one place": (changed(close), "atoms 0 and 1 of frame 2 of f.xyz are", "Å apart"),
    "flat periodic cell": (changed(flat), "frame 2 of f.xyz", "cell vectors", "dependent"),
    "keys that disagree": (
        changed(lambda a: a.info.update(dft_energy=-1.0)),
        "REF_energy and dft_energy of frame 2 of f.xyz differ",
        "data.energy_key, or --energy-key",
    ),
    "energies of two kinds": (
        lambda f, t: edited("REF_energy", "free_energy")(f, t),
        "free_energy and REF_energy, which are different energies",
    ),
    "key that no frame has": (
        setting(dipole_key="mu"),
        "no training frame has 'mu', named as its dipole; known: REF_energy",
    ),
    "label of the loss that no frame has": (
        loss(energy=0, forces=0, stress=1),
        "the loss has stress, but no",
        "loss.stress=0",
    ),
    "label that the model lacks": (loss(dipole=1), "the loss has dipole, but the model predicts"),
    "weight that is no number": (
        lambda f, t: (
            changed(lambda a: a.info.update(w="heavy"))(f, t),
            setting(weight_key="w")(f, t),
        ),
        "weight w = 'heavy' of frame 2 of f.xyz",
    ),
    "frame to train on and to choose with": (
        setting(validation__where={}),
        "validation frame 0 is training frame 0",
        "split the data by source",
    ),
    "frame to train on and to test with": (in_two_sets, "test frame 0 is training frame 3"),
    "element of test frames alone": (new_element, "the test frames have Cu, which no training"),
    "cache cut short": (damaged_cache, "the cache", "is damaged", "remove it"),
    "index of the cache changed": (damaged_index, "the cache", "is damaged", "remove it"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_one_clear_error(tree, tmp_path, monkeypatch, kind):
    monkeypatch.delenv("POINTEDGE_DATA", raising=False)
    breaks, *words = BROKEN[kind]
    if kind == "label of the loss that no frame has":
        frames = [frame(k) for k in range(6)]
        for atoms in frames:
            del atoms.info["REF_stress"]
        write(tmp_path, frames)
    breaks(tmp_path, tree)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        run(tmp_path, tree)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert message.endswith((".", "?"))
    assert "\n" not in message
    assert len(message) < 500, message


def test_sound_data(tree, tmp_path):
    """What the others are variations of; stress in every form."""
    frames = [frame(k, REF_stress=s) for k, s in enumerate([np.eye(3), np.ones(6), np.ones(9)])]
    write(tmp_path, [*frames, *(frame(k) for k in range(3, 6))])
    found = run(tmp_path, tree)
    assert len(found["training"]) == 4
    assert found["training"].summary.labels["stress"].frames == 4
    np.testing.assert_array_equal(found["training"][1].stress[0], np.ones((3, 3)))


def test_a_training_frame_of_a_known_test_split(tree, tmp_path, monkeypatch):
    known_test(tmp_path, tree, monkeypatch)
    with pytest.raises(ValueError, match=r"frame 1 is in a test split \(a\.xyz\); leave them out"):
        run(tmp_path, tree)
    tree["data"]["train_on_test_splits"] = True
    assert len(run(tmp_path, tree)["training"]) == 4
