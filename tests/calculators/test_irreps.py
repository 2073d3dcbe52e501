"""The use of irreps on labelled frames: figures, projections, pictures and the command."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule
from typer.testing import CliRunner

from pointedge.calculators import PotentialCalculator
from pointedge.calculators.cli import app, main
from pointedge.calculators.comparison import Frame
from pointedge.calculators.inputs import InputError
from pointedge.calculators.irreps import irrep_usage, number_of_evaluations
from pointedge.calculators.projections import project, spacial_scores
from pointedge.potentials.checkpoint import architecture, save
from pointedge.potentials.equivariant.irreps import Irrep
from pointedge.potentials.potential import Potential

SETTINGS = {"species": (1, 6, 8), "cutoff": 3.0, "irreps": "3x0e + 2x1o", "num_layers": 2}


@pytest.fixture
def potential():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = architecture("convolution").from_config({**SETTINGS, "radial_width": 4})
    network.layers[1].mix.weights["1o"].data.zero_()  # nothing reads the vectors
    return Potential(network)


@pytest.fixture
def frames():
    """Rattled molecules with labels off the model by nothing in particular."""
    found = []
    for seed, name in enumerate(("H2O", "CH4", "CH3OH", "CO2")):
        atoms = molecule(name)
        atoms.rattle(0.05, seed=seed)
        rng = np.random.default_rng(seed)
        atoms.info["REF_energy"] = float(rng.normal())
        atoms.arrays["REF_forces"] = rng.normal(size=(len(atoms), 3))
        found.append(atoms)
    return found


def test_errors_without_what_is_not_used_are_as_they_were(potential, frames):
    calculator = PotentialCalculator(potential, dtype="float64")
    labelled = [Frame(atoms) for atoms in frames]
    ticks = []
    found = irrep_usage(calculator, labelled, threshold=1e-6, progress=ticks.append)
    assert sum(ticks) == number_of_evaluations(calculator, labelled) == 7
    assert set(found.errors) == {"energy_per_atom", "forces"}
    by_place = {(u.statistics.stage, str(u.statistics.irrep)): u for u in found.stages}
    assert found.growth(by_place["layer 1", "1o"]) == pytest.approx(0, abs=1e-9)
    without = by_place["layer 2", "0e"].zeroed  # of a network that is zero
    norms = np.concatenate([a.arrays["REF_forces"] for a in frames])
    assert without["forces"] == pytest.approx(1000 * np.sqrt((norms**2).mean()))
    assert found.pruned is not None
    assert found.pruned["irreps"] == "3x0e"
    assert found.embeddings["layer 1", Irrep(1, -1)].shape == (4, 2)


def test_a_model_that_reads_moments(frames):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = architecture("nequip").from_config(
            {**SETTINGS, "radial_width": 4, "lmax": 1, "typical_moment": 1.0}
        )
    for k, atoms in enumerate(frames):
        atoms.set_initial_magnetic_moments(np.linspace(-1, 1 + k, len(atoms)))
    labelled = [Frame(atoms) for atoms in frames]
    calculator = PotentialCalculator(Potential(network), dtype="float64")
    assert number_of_evaluations(calculator, labelled) == 7
    assert len(irrep_usage(calculator, labelled).stages) == 3


def test_an_element_that_the_model_does_not_know(potential, frames):
    calculator = PotentialCalculator(potential)
    with pytest.raises(InputError, match="frame 0: atom 0 is N, which the model does not know"):
        number_of_evaluations(calculator, [Frame(molecule("N2")), *map(Frame, frames)])


def test_the_command_writes_table_pictures_and_smaller_settings(potential, frames, tmp_path):
    save(potential, tmp_path / "model.safetensors")
    ase.io.write(tmp_path / "data.xyz", frames)
    arguments = [str(tmp_path / "model.safetensors"), str(tmp_path / "data.xyz")]
    output = tmp_path / "out"
    result = CliRunner().invoke(
        app, ["irreps", *arguments, "--output", str(output), "--prune", "1e-3"]
    )
    assert result.exit_code == 0, result.output
    assert "layer 1, 1o" in result.stdout
    assert "irreps 3x0e + 2x1o -> 3x0e, lmax 1 -> 0" in result.stdout
    written = json.loads((output / "irreps.json").read_text())
    assert [s["irrep"] for s in written["stages"]] == ["0e", "1o", "0e"]
    assert {p.name for p in output.iterdir()} == {
        "irreps.json",
        "irreps.png",
        "embeddings.png",
        "pruned.yaml",
    }
    tree = yaml.safe_load((output / "pruned.yaml").read_text())
    smaller = architecture(tree["architecture"]).from_config({"species": [1], **tree["model"]})
    assert smaller.config.irreps == "3x0e"


def test_a_model_without_irreps_is_one_line(frames, tmp_path, monkeypatch, capsys):
    ase.io.write(tmp_path / "data.xyz", frames[:1])
    words = ["irreps", "pet-water", str(tmp_path / "data.xyz"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["pointedge", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "a PET has no irreps" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_principal_components_keep_distances_in_a_plane():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(20, 2)) @ np.array([[1.0, 0.3, -1.0, 0.5], [0.0, 1.0, 2.0, -0.4]])
    scaled = (plane - plane.mean(0)) / plane.std(0)
    found = project(plane)
    before = np.linalg.norm(scaled[:, None] - scaled[None], axis=-1)
    after = np.linalg.norm(found[:, None] - found[None], axis=-1)
    np.testing.assert_allclose(after, before, atol=1e-12)
    np.testing.assert_array_equal(project(np.ones((3, 1))), np.zeros((3, 2)))


def test_projections_that_cannot_be_made_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="unknown projection 'pcs'; did you mean 'pca'"):
        project(np.zeros((5, 2)), "pcs")
    with pytest.raises(ValueError, match="takes 3 structures or more, not 2"):
        project(np.zeros((2, 2)))
    monkeypatch.setitem(__import__("sys").modules, "phate", None)
    with pytest.raises(ValueError, match=r"GPL-2.*pip install 'pointedge\[analysis\]'"):
        project(np.random.default_rng(0).normal(size=(8, 3)), "phate")


def test_phate_gives_two_coordinates():
    pytest.importorskip("phate", reason="needs the extra `analysis`")
    values = np.random.default_rng(0).normal(size=(20, 4))
    assert project(values, "phate").shape == (20, 2)


def test_spacial_scores_are_those_of_the_graph():
    pytest.importorskip("rdkit", reason="needs the extra `analysis`")
    from rdkit import Chem
    from rdkit.Chem.SpacialScore import SPS

    methanol = molecule("CH3OH")
    named = methanol.copy()
    named.info["smiles"] = "CO"
    expected = SPS(Chem.MolFromSmiles("CO"), normalize=True)
    assert spacial_scores([methanol, named]) == pytest.approx([expected, expected])
    crystal = methanol.copy()
    crystal.pbc = True
    assert np.isnan(spacial_scores([methanol, crystal])).tolist() == [False, True]
    assert spacial_scores([crystal]) is None
