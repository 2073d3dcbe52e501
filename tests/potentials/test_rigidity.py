"""Uncertainties of energies: against formulas written out, and where the truth is known."""

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from pointedge.potentials import checkpoint
from pointedge.potentials.equivariant.mace import MACE
from pointedge.potentials.graph import Graph
from pointedge.potentials.potential import Potential
from pointedge.potentials.rigidity import REGULARIZERS, Rigidity
from pointedge.potentials.training.uncertainty import fit_rigidity

from ..networks import tiny_pet

CUTOFF = 3.0
SETTINGS = {
    "production": {},
    "paper": {"featurizer": "residual", "transformer_type": "postln", "activation": "silu"},
    "layers": {"symmetry": "layers"},
}


def water_potential(**settings):
    return Potential(tiny_pet(0, species=(1, 8), cutoff=CUTOFF, **settings), scale=0.7)


def waters(count, seed=0, scale=0.1):
    frames = [molecule("H2O") for _ in range(count)]
    for k, atoms in enumerate(frames):
        atoms.rattle(scale, seed=seed + k)
    return frames


def graph_of(frames):
    return Graph.from_atoms(frames, CUTOFF)


@pytest.mark.parametrize("kind", SETTINGS)
def test_energies_are_linear_in_the_features(kind):
    network = tiny_pet(0, species=(1, 8), cutoff=CUTOFF, **SETTINGS[kind])
    graph = graph_of([molecule("H2O"), molecule("H2O2")])
    vectors = graph.edge_vectors()
    with torch.no_grad():
        features = network.last_layer_features(graph, vectors)
        before = network(graph, vectors)["energy"]
        weights, generator = [], torch.Generator().manual_seed(0)
        for node, edge in zip(network.node_heads, network.edge_heads, strict=True):
            for head in (node, edge):
                change = torch.randn(8, generator=generator, dtype=torch.float64)
                head[-1].weight += change
                weights.append(change)
        after = network(graph, vectors)["energy"]
    expected = features @ torch.cat(weights)
    torch.testing.assert_close(after - before, expected, rtol=1e-12, atol=1e-12)


def test_energies_of_mace_are_linear_in_the_features():
    settings = {"species": (1, 8), "cutoff": CUTOFF, "irreps": "4x0e + 4x1o", "lmax": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MACE.from_config({**settings, "average_neighbors": 3.0}).to(torch.float64)
    graph = graph_of([molecule("H2O2"), molecule("H2O")])
    vectors = graph.edge_vectors()
    weights, generator = [], torch.Generator().manual_seed(0)
    with torch.no_grad():
        features = network.last_layer_features(graph, vectors)
        before = network(graph, vectors)["energy"]
        for readout in network.readouts:
            last = readout.weights[-1]
            change = torch.randn(len(last), generator=generator, dtype=torch.float64)
            last += change[:, None]
            weights.append(change / len(last) ** 0.5)
        after = network(graph, vectors)["energy"]
    assert features.shape == (7, 4 + 16)
    expected = features @ torch.cat(weights)
    torch.testing.assert_close(after - before, expected, rtol=1e-12, atol=1e-12)


def fitted():
    potential = water_potential()
    known, others = graph_of(waters(40)), graph_of(waters(12, seed=100))
    truth = potential(others, forces=False).energy
    errors = 0.01 * torch.randn(12, generator=torch.Generator().manual_seed(0)).double()
    calibration = fit_rigidity(potential, [known], [(others, truth + 3 * errors)])
    return potential, known, others, 3 * errors, calibration


def test_standard_deviations_are_those_of_the_formula():
    potential, known, others, errors, calibration = fitted()

    def means(graph):
        features = potential.network.last_layer_features(graph, graph.edge_vectors()).detach()
        return np.stack([features[graph.structure == k].mean(0) for k in range(len(graph.cell))])

    training, validation = means(known), means(others)
    residuals = errors.numpy() / 3  # of energies per atom, three of them
    likely = []
    for regularizer in REGULARIZERS:
        matrix = training.T @ training
        matrix += regularizer * np.diag(matrix).mean() * np.eye(len(matrix))
        raw = np.einsum("ni,ij,nj->n", validation, np.linalg.inv(matrix), validation)
        variance = np.mean(residuals**2 / raw) * raw
        likely.append((np.sum(np.log(variance) + residuals**2 / variance), variance))
    expected = 3 * np.sqrt(min(likely, key=lambda pair: pair[0])[1])
    found, of_atoms = potential.standard_deviations(others)
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # H is nearly singular
    assert of_atoms.shape == (36,)
    assert calibration.count == 12
    assert calibration.error == pytest.approx(1000 * np.sqrt(np.mean(residuals**2)))
    assert calibration.std == pytest.approx(1000 / 3 * np.sqrt(np.mean(expected**2)), rel=1e-5)
    assert potential.information["uncertainty"]["count"] == 12


def test_where_errors_are_normal_two_thirds_are_within_one_standard_deviation():
    """Linear models fitted to noisy data by least squares: their errors have these widths."""
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(40):
        training, validation, others = (rng.normal(size=(n, 100)) for n in (300, 100, 100))
        training[:, :50] *= 0.1  # hardly known: most of the errors
        wrong = np.linalg.lstsq(training, rng.normal(size=300), rcond=None)[0]
        rigidity = Rigidity(100)
        rigidity.fit(*(torch.tensor(x) for x in (training, validation, validation @ wrong)))
        ratios.append(others @ wrong / rigidity(torch.tensor(others)).numpy())
    within = np.mean(np.abs(ratios) < 1), np.mean(np.abs(ratios) < 2)
    assert within == pytest.approx((0.683, 0.954), abs=0.03)


def test_a_strange_structure_is_less_sure():
    potential, *_ = fitted()
    near, far = (potential.standard_deviations(graph_of(waters(8, 7, s)))[0] for s in (0.1, 0.4))
    assert torch.all(far > 1.5 * near)


def test_twice_the_crystal_is_twice_as_unsure_and_batches_change_nothing():
    potential, *_ = fitted()
    cell = bulk("MgO", "rocksalt", a=3.5)
    cell.numbers[:] = (1, 8)
    (one, two, _), atoms = potential.standard_deviations(
        graph_of([cell, cell.repeat((2, 1, 1)), molecule("H2O")])
    )
    assert two.item() == pytest.approx(2 * one.item(), rel=1e-12)
    assert atoms[0].item() == pytest.approx(atoms[2].item(), rel=1e-12)


def test_a_checkpoint_keeps_it_in_float64(tmp_path):
    potential, _, others, *_ = fitted()
    potential.to(torch.float32)
    assert potential.rigidity.whitening.dtype == torch.float64
    path = tmp_path / "m.safetensors"
    checkpoint.save(potential, path)
    again = checkpoint.load(path)
    for one, two in zip(
        potential.standard_deviations(others), again.standard_deviations(others), strict=True
    ):
        assert torch.equal(one, two)


def test_what_cannot_be_fitted():
    known = graph_of(waters(3))
    with pytest.raises(ValueError, match="does not know how sure it is"):
        water_potential().standard_deviations(known)
    for energies in (torch.full((3,), torch.nan), torch.tensor([0.0, torch.nan, torch.nan])):
        with pytest.raises(ValueError, match="give two validation frames with energies"):
            fit_rigidity(water_potential(), [known], [(known, energies.double())])
    energies = torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)
    for weight in (0.0, torch.nan):
        without = water_potential()
        for heads in (without.network.node_heads, without.network.edge_heads):
            torch.nn.init.constant_(heads[0][-3].weight, weight)
            torch.nn.init.constant_(heads[0][-3].bias, weight)
        with pytest.raises(ValueError, match="zero or not finite"):
            fit_rigidity(without, [known], [(known, energies)])
    dipoles = water_potential(properties=("dipole",))
    with pytest.raises(ValueError, match="uncertainty of a PET is not known"):
        fit_rigidity(dipoles, [known], [])
