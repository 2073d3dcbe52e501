"""Auxiliary networks: fitted to a potential where ECSE asks for them, and kept with it."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from typer.testing import CliRunner

from pointedge.calculators.cli import app
from pointedge.potentials import checkpoint
from pointedge.potentials.ecse.frames import make_frames
from pointedge.potentials.ecse.scores import ScoreSettings
from pointedge.potentials.ecse.symmetrize import symmetrized
from pointedge.potentials.graph import Graph
from pointedge.potentials.outputs import RANKS
from pointedge.potentials.potential import Potential
from pointedge.potentials.training.clusters import sparse_clusters
from pointedge.potentials.training.distill import distill_auxiliary

from ...networks import tiny_pet
from ...physics import numerics

SPECIES, CUTOFF = (1, 8), 3.0
LONELY = {
    "atom": Atoms("O"),
    "dimer": Atoms("OH", positions=[(0, 0, 0), (0.5, -0.6, 0.7)]),
    "line": Atoms("HOH", positions=[(-1.1, 0, 0), (0, 0, 0), (1.2, 0, 0)]),
}


def plain(**changes) -> Potential:
    settings = {"num_gnn_layers": 1, "properties": tuple(RANKS), **changes}
    network = tiny_pet(4, species=SPECIES, cutoff=CUTOFF, **settings)
    return Potential(network, {1: -13.0, 8: -430.0}, scale=0.5, repulsion=True)


@pytest.fixture(scope="module")
def distilled():
    lines = []
    potential = distill_auxiliary(
        plain(), [molecule("H2O")], steps=80, clusters=200, report=lines.append
    )
    assert lines[0].startswith("auxiliary network, on held-out clusters")
    return potential


def test_clusters_are_of_the_kind_that_is_asked_for():
    """Most atoms need the auxiliary network, in part or wholly; a few do not."""
    rng = np.random.default_rng(0)
    clusters = list(sparse_clusters(SPECIES, CUTOFF, [molecule("H2O")], 600, rng))
    graph = Graph.from_atoms(clusters, CUTOFF)
    weight = make_frames(
        graph.edge_vectors(), graph.centers, graph.num_atoms, CUTOFF, ScoreSettings()
    ).auxiliary
    assert (weight == 1).double().mean() > 0.5
    assert ((weight > 0) & (weight < 1)).sum() > 10
    assert {len(a) for a in clusters} >= {2, 3, 4}


def test_it_is_fitted(distilled):
    """Held-out errors against those of random weights."""
    rmse = distilled.information["auxiliary"]["rmse"]
    assert set(rmse) == {*RANKS, "forces"}
    untrained = distill_auxiliary(
        plain(), [molecule("H2O")], steps=1, clusters=200, report=lambda line: None
    ).information["auxiliary"]["rmse"]
    assert rmse["energy"] < 0.5 * untrained["energy"]
    assert rmse["forces"] < 0.7 * untrained["forces"]


@pytest.mark.parametrize("name", LONELY)
def test_lonely_atoms_have_exact_symmetry_and_the_atoms_own_energy(distilled, name):
    potential = symmetrized(distilled, "ecse").double()
    graph = Graph.from_atoms(LONELY[name], potential.cutoff)
    before = potential(graph)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double())[
        0
    ]
    after = potential(graph.rotated(turn[None]))
    torch.testing.assert_close(after.energy, before.energy, rtol=0, atol=1e-12)
    torch.testing.assert_close(after.moments["dipole"], before.moments["dipole"] @ turn)
    if name == "atom":
        own = distilled.double()(graph, forces=False)
        torch.testing.assert_close(before.energy, own.energy, rtol=0, atol=1e-12)


def test_a_dimer_dissociates_smoothly(distilled):
    """Energy and force run into those of two atoms; the force is the energy's slope."""
    potential = symmetrized(distilled, "ecse").double()
    lengths = np.linspace(2.0, CUTOFF + 0.1, 1101)
    graph = Graph.from_atoms(
        [Atoms("OH", positions=[(0, 0, 0), (x, 0, 0)]) for x in lengths], potential.cutoff
    )
    found = potential(graph)
    energy, slope = found.energy.numpy(), -found.forces[1::2, 0].numpy()
    step = lengths[1] - lengths[0]
    panels = np.abs(numerics.panel_errors(energy, slope, step)) / np.abs(slope).max()
    assert panels.max() <= numerics.DERIVATIVE
    apart = potential(Graph.from_atoms([Atoms("O"), Atoms("H")], potential.cutoff), forces=False)
    assert energy[-1] == pytest.approx(apart.energy.sum().item(), abs=1e-13)
    assert np.abs(slope[lengths > CUTOFF]).max() == 0


def test_the_potential_itself_is_left_as_it_was(distilled):
    before = plain()
    state = {k: v.clone() for k, v in before.state_dict().items()}
    generator = torch.random.get_rng_state()
    distill_auxiliary(before, steps=1, clusters=10, report=lambda line: None)
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert before.auxiliary is None
    assert all(torch.equal(v, state[k]) for k, v in before.state_dict().items())
    assert distilled.dtype in (torch.float32, torch.float64)


def test_refused():
    with pytest.raises(ValueError, match="invariant already"):
        distill_auxiliary(plain(edge_input="length"))
    with pytest.raises(ValueError, match=r"does not know species \[6\]"):
        distill_auxiliary(plain(), [molecule("CH4")])


def test_command(tmp_path):
    source, output = tmp_path / "plain.safetensors", tmp_path / "both.safetensors"
    checkpoint.save(plain().to(torch.float32), source)
    command = ["distill-auxiliary", str(source), "--steps", "2", "--clusters", "20"]
    done = CliRunner().invoke(app, [*command, "--output", str(output)])
    assert done.exit_code == 0, done.output
    again = checkpoint.load(output)
    assert again.auxiliary is not None
    assert again.dtype == torch.float32
    refused = CliRunner().invoke(app, [*command, "--output", str(output)])
    assert "exists" in str(refused.exception)


def test_clusters_of_a_magnetic_model_have_moments():
    """Those of its frames; without frames of every species there are none to take."""
    potential = plain(properties=("energy",), typical_moment=1.5)
    frame = molecule("H2O")
    frame.set_initial_magnetic_moments([2.0, 0.1, -0.3])
    fitted = distill_auxiliary(potential, [frame], steps=2, clusters=20, report=lambda line: None)
    assert fitted.auxiliary.inputs == ("magmoms",)
    atom = Atoms("O", magmoms=[2.0])
    energy = numerics.predict(symmetrized(fitted, "ecse"), atom).energy
    assert energy == pytest.approx(numerics.predict(fitted, atom).energy, rel=1e-12)
    with pytest.raises(ValueError, match="no frame has a magnetic moment of species"):
        distill_auxiliary(potential, [], steps=2, clusters=20, report=lambda line: None)
