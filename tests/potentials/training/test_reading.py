"""Which frames are read, and which of their numbers are taken for labels."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from pointedge.potentials.datasets.hashes import frame_hash
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.labels import KeyCount, keys_of, read_labels, with_named_moments
from pointedge.potentials.training.reading import (
    iterate_frames,
    read_frames,
    refuse_overlap,
)
from pointedge.potentials.training.settings import Data, Frames
from pointedge.potentials.training.slices import parse_slice

FORCES = np.arange(6.0).reshape(2, 3)
STRESS = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
VOIGT = np.array([1.0, 2, 3, 4, 5, 6])


def keys(**named):
    files = {"files": ["a"]}
    return keys_of(Data(train=files, validation=files, **named))


def dimer(k=0, **info):
    return Atoms(
        "OH", [[0, 0, 0], [0, 0, 1 + 0.01 * k]], cell=[2, 3, 4], pbc=True, info={"k": k, **info}
    )


def calculated(k=0, **results):
    atoms = dimer(k)
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def ks(selection, folder):
    return [atoms.info["k"] for atoms in read_frames(selection, folder)]


@pytest.fixture
def file(tmp_path):
    """Frames 0 to 19; odd ones are of group b."""
    ase.io.write(tmp_path / "f.xyz", [dimer(k, group="ab"[k % 2]) for k in range(20)])
    return tmp_path


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({}, range(20)),
        ({"index": ":3"}, [0, 1, 2]),
        ({"index": "-2:"}, [18, 19]),
        ({"index": "4"}, [4]),
        ({"index": -1}, [19]),
        ({"where": {"group": ["b"]}, "take": "::4"}, [1, 9, 17]),
        ({"where": {"group": ["b"]}, "leave": "::4"}, [3, 5, 7, 11, 13, 15, 19]),
        ({"take": "-3:"}, [17, 18, 19]),
        ({"leave": ":-3"}, [17, 18, 19]),
        ({"files": ["f.xyz", "f.xyz"], "index": ":2", "take": "1:3"}, [1, 0]),
    ],
)
def test_selections(file, part, expected):
    assert ks(Frames(**{"files": ["f.xyz"], **part}), file) == list(expected)


def test_take_and_leave_of_one_slice_are_complementary_and_selections_add_up(file):
    parts = [Frames(files=["f.xyz"], **{word: "2::5"}) for word in ("take", "leave")]
    both = ks(parts, file)
    assert both[:4] == [2, 7, 12, 17]
    assert sorted(both) == list(range(20))


@pytest.mark.parametrize("text", ["a", "1:2:3:4", "::-1", "", "1.5:"])
def test_bad_slices(text):
    with pytest.raises(ValueError, match=r"is not a slice|step below 1"):
        parse_slice(text)


def test_one_selection_is_as_good_as_a_list_of_one_and_both_can_be_changed(tmp_path):
    one = {"files": ["a"]}
    tree = {"data": {"train": one, "validation": [one, {**one, "index": "1:"}]}}
    config = TrainingConfig.from_dict(tree)
    assert config.data.train == [Frames(files=["a"])]
    assert config.data.test == []
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert TrainingConfig.from_yaml(path) == config
    changed = TrainingConfig.from_yaml(path, ["data.validation.1.index=7", "data.train.0.take=::2"])
    assert changed.data.validation[1].index == "7"
    assert changed.data.train[0].take == "::2"
    with pytest.raises(ValueError, match=r"data.validation.1.indx'; did you mean 'index'"):
        TrainingConfig.from_yaml(path, ["data.validation.1.indx=7"])


def test_a_database_gives_its_key_value_pairs_and_results(tmp_path):
    with connect(tmp_path / "f.db") as database:
        for k in range(6):
            atoms = calculated(k, energy=-float(k), forces=FORCES)
            database.write(atoms, group="ab"[k % 2], data={"virial": -24 * STRESS})
    frames = read_frames(Frames(files=["f.db"], index="::2", where={"group": ["a"]}), tmp_path)
    assert [float(read_labels(a, keys())[0]["energy"]) for a in frames] == [0, -2, -4]
    np.testing.assert_allclose(read_labels(frames[0], keys())[0]["stress"], STRESS)


@pytest.mark.parametrize("name", ["f.traj", "f.json", "f.xyz"])
def test_results_of_other_formats_are_labels(tmp_path, name):
    ase.io.write(tmp_path / name, [calculated(energy=-3.0, forces=FORCES, stress=VOIGT)])
    (atoms,) = read_frames(Frames(files=[name]), tmp_path)
    labels, used = read_labels(atoms, keys())
    assert used == {"energy": "energy", "forces": "forces", "stress": "stress"}
    np.testing.assert_allclose(labels["forces"], FORCES)
    np.testing.assert_allclose(labels["stress"], STRESS)


@pytest.mark.parametrize("key", ["REF_energy", "energy", "dft_energy", "DFT_Energy", "TotEnergy"])
def test_usual_names_in_any_case(key):
    assert read_labels(dimer(**{key: -2.0}), keys())[1] == {"energy": key}


def test_the_energy_is_preferred_to_the_free_energy_which_stands_in_for_it():
    both = calculated(energy=-1.0, free_energy=-1.5)
    assert read_labels(both, keys())[0]["energy"] == -1.0
    assert read_labels(both, keys(energy_key="free_energy"))[0]["energy"] == -1.5
    alone = calculated(free_energy=-1.5)
    labels, _ = read_labels(alone, keys())
    assert labels["energy"] == -1.5
    count = KeyCount()
    for atoms in (both, alone):
        count.add(atoms, read_labels(atoms, keys())[1])
    with pytest.raises(ValueError, match="energy and free_energy, which are different energies"):
        count.check("training", keys())


def test_a_virial_becomes_a_stress():
    volume = 24.0
    for key in ("virial", "REF_virial"):
        labels, _ = read_labels(dimer(**{key: -volume * STRESS.ravel()}), keys())
        np.testing.assert_allclose(labels["stress"], STRESS)
    atoms = dimer(my_virial=-volume * VOIGT)
    np.testing.assert_allclose(
        read_labels(atoms, keys(stress_key="my_virial"))[0]["stress"], STRESS
    )
    molecule = dimer(stress=np.zeros(6))
    molecule.cell[:] = 0
    assert "stress" not in read_labels(molecule, keys())[0], "it has no volume"


def test_two_keys_of_one_label_may_agree_but_not_differ():
    atoms = dimer(REF_energy=-29943.90625, energy=-29943.906251)
    assert read_labels(atoms, keys())[1] == {"energy": "REF_energy"}
    atoms.info["energy"] = -29943.0
    with pytest.raises(ValueError, match=r"differ by up to 0.906 eV; name .*data.energy_key"):
        read_labels(atoms, keys(), "frame 3 of f.xyz")
    assert read_labels(atoms, keys(energy_key="energy"))[0]["energy"] == -29943.0
    assert "energy" not in read_labels(atoms, keys(energy_key=None))[0]


def beside(results, **reference):
    """A structure with REF_ keys, and a calculator's results beside them."""
    atoms = calculated(**results)
    for label, value in reference.items():
        place = atoms.arrays if label == "forces" else atoms.info
        place[f"REF_{label}"] = value
    return atoms


def test_results_that_differ_from_a_reference_are_no_labels():
    """As those of a model in a file of `predict`; not even a stress that the reference lacks."""
    model = {"energy": -1.5, "free_energy": -1.5, "forces": FORCES + 0.1, "stress": VOIGT}
    atoms = beside(model, energy=-1.0, forces=FORCES)
    labels, used = read_labels(atoms, keys())
    assert used == {"energy": "REF_energy", "forces": "REF_forces"}
    np.testing.assert_array_equal(labels["forces"], FORCES)
    count = KeyCount()
    count.add(atoms, used)
    assert str(count) == (
        "energy = REF_energy (1 frames), eV; forces = REF_forces (1 frames), eV/Å; no stress; set "
        "aside, results beside REF_ keys: energy (1 frames), forces (1 frames), free_energy "
        "(1 frames), stress (1 frames); not labels: k"
    )
    named = read_labels(atoms, keys(energy_key="energy", stress_key="stress"))[1]
    assert named == {"energy": "energy", "forces": "REF_forces", "stress": "stress"}
    for reference in ({"free_energy": -1.0}, {"energy": -1.5 * (1 + 1e-9)}):
        _, used = read_labels(beside(model, **reference), keys())
        assert list(used) == ["energy"]
        assert used["energy"].startswith("REF_")
    _, used = read_labels(beside(model, virial=-24 * STRESS), keys())
    assert used["stress"] == "REF_virial"


def test_results_that_are_copies_of_the_reference_are_labels():
    results = {"energy": -1.0, "forces": FORCES, "stress": VOIGT}
    for reference in ({"energy": -1.0}, {"forces": FORCES}, {"stress": STRESS}):
        labels, used = read_labels(beside(results, **reference), keys())
        assert list(used) == ["energy", "forces", "stress"]
        np.testing.assert_array_equal(labels["stress"], STRESS)


def test_other_keys_than_those_of_a_reference_may_not_differ_from_results():
    atoms = calculated(energy=-1.5)
    atoms.info["dft_energy"] = -1.0
    with pytest.raises(ValueError, match=r"energy and dft_energy of .* differ by up to 0.5 eV"):
        read_labels(atoms, keys())
    two = dimer(REF_energy=-1.0, dft_energy=-1.5)
    with pytest.raises(ValueError, match=r"REF_energy and dft_energy of .* differ"):
        read_labels(two, keys())


def test_the_statement_of_keys():
    count = KeyCount()
    for atoms in (dimer(REF_energy=-1.0, qm9_gap=2.0), dimer(energy=-1.0)):
        count.add(atoms, read_labels(atoms, keys())[1])
    assert str(count) == (
        "energy = REF_energy (1 frames), energy (1 frames), eV; no forces; no stress; "
        "not labels: k, qm9_gap"
    )
    with pytest.raises(ValueError, match="no training frame has 'gap', named as its dip"):
        count.check("training", keys(dipole_key="gap"))


def test_the_statement_names_the_moments():
    """Which are an input of some models, and no label."""
    count = KeyCount()
    atoms = Atoms("Mn", magmoms=[5.0])
    atoms.arrays["REF_magmoms"] = np.array([4.6])
    count.add(atoms, read_labels(atoms, {})[1])
    assert "magnetic moments = initial_magmoms (1 frames), μ_B, an input" in str(count)
    assert str(count).endswith("not labels: REF_magmoms")


def test_frames_of_two_sets(file):
    hashes = {
        name: [frame_hash(f.atoms) for f in iterate_frames(Frames(files=["f.xyz"], index=i), file)]
        for name, i in (("training", ":10"), ("validation", "10:15"), ("test", "14:"))
    }
    with pytest.raises(ValueError, match="test frame 0 is validation frame 4"):
        refuse_overlap(hashes)
    refuse_overlap({name: hashes[name] for name in ("training", "validation")})


def test_values_of_atoms_are_no_labels_of_frames():
    atoms = Atoms("OHH", np.eye(3))
    atoms.arrays["polarizability"] = np.eye(3)
    atoms.info["REF_dipole"] = np.zeros(3)
    assert list(read_labels(atoms, keys())[0]) == ["dipole"]


def test_moments_by_another_name():
    atoms = calculated(energy=-1.0)
    atoms.arrays["spins"] = np.array([[0, 0, 1.0], [0, 1.0, 0]])
    assert with_named_moments(atoms, keys()) is atoms
    found = with_named_moments(atoms, keys(magmoms_key="spins"))
    np.testing.assert_array_equal(found.get_initial_magnetic_moments(), atoms.arrays["spins"])
    assert "initial_magmoms" not in atoms.arrays
    labels, used = read_labels(found, keys(magmoms_key="spins"))
    assert (float(labels["energy"]), used["magnetic moments"]) == (-1.0, "spins")
    with pytest.raises(ValueError, match=r"frame 3 has no 'm', named as its moments; it has .*spi"):
        with_named_moments(atoms, keys(magmoms_key="m"), "frame 3")
    atoms.set_initial_magnetic_moments([1.0, -1.0])  # numbers, where the named ones are vectors
    found = with_named_moments(atoms, keys(magmoms_key="spins"))
    np.testing.assert_array_equal(found.get_initial_magnetic_moments(), atoms.arrays["spins"])
    atoms.info["m"] = 2.0
    with pytest.raises(ValueError, match=r"m of the frame has shape \(\); expected \(2,\)"):
        with_named_moments(atoms, keys(magmoms_key="m"))
