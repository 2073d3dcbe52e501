"""Statistics of features, and networks that have to do without some of them."""

from __future__ import annotations

import pytest
import torch

from pointedge.potentials.checkpoint import architecture
from pointedge.potentials.equivariant.convolution import ConvolutionConfig
from pointedge.potentials.equivariant.irreps import SCALAR, Irrep
from pointedge.potentials.equivariant.mace import MACEConfig
from pointedge.potentials.equivariant.usage import (
    Shuffled,
    Zeroed,
    edited,
    embeddings,
    pruned,
    statistics,
)
from pointedge.potentials.graph import Graph, random_rotations
from pointedge.potentials.potential import Potential

from ... import structures
from ...networks import tiny_pet

VECTOR, TENSOR = Irrep(1, -1), Irrep(2, 1)
ROUNDING = 1e-12
SETTINGS = {"species": structures.SPECIES, "cutoff": 3.0, "irreps": "3x0e + 2x1o", "num_layers": 2}


def potential(kind="convolution", **settings) -> Potential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = architecture(kind).from_config({**SETTINGS, "radial_width": 4, **settings})
    return Potential(network, repulsion=True).to(torch.float64)


def graph_of(*patterns: str) -> Graph:
    return Graph.from_atoms([structures.patterns()[p] for p in patterns], 3.0)


def test_edits_that_change_nothing_change_nothing():
    ours, graph = potential(), graph_of("TTT", "FFF")
    expected = ours(graph, virial=True)
    same = edited(ours, lambda graph, stage, features, atoms: features)(graph, virial=True)
    assert torch.equal(same.energies, expected.energies)
    assert torch.equal(same.forces, expected.forces)
    assert torch.equal(edited(ours, Zeroed("layer 7", SCALAR))(graph).forces, expected.forces)


@pytest.mark.parametrize("edit", [Zeroed, Shuffled])
def test_features_that_nothing_reads_can_be_done_without(edit):
    """Vectors after the first layer, once the second one's weights for them vanish."""
    ours, graph = potential(), graph_of("TTT", "FFF")
    read = ours(graph)
    assert not torch.allclose(edited(ours, edit("layer 1", VECTOR))(graph).forces, read.forces)
    with torch.no_grad():
        ours.network.layers[1].mix.weights["1o"].zero_()
    expected = ours(graph)
    found = edited(ours, edit("layer 1", VECTOR))(graph)
    assert torch.equal(found.energies, expected.energies)
    assert (found.forces - expected.forces).abs().max() < ROUNDING
    measured = {(s.stage, s.irrep): s for s in statistics(ours, [graph])}
    assert measured["layer 1", VECTOR].gradient == 0
    assert measured["layer 1", VECTOR].share > 1e-4


@pytest.mark.parametrize("edit", [Zeroed("layer 1", VECTOR), Shuffled("messages 1", TENSOR)])
def test_forces_are_those_of_the_edited_energy(edit):
    ours = edited(potential("mace", irreps="3x0e + 3x1o", lmax=2), edit)
    graph = graph_of("FFF")
    forces, step = ours(graph).forces, 1e-4
    for sign, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):  # five points
        moved = graph.positions.clone()
        moved[0, 1] += sign * step
        changed = Graph(**{**vars(graph), "positions": moved})
        forces[0, 1] += weight * ours(changed, forces=False).energy.sum() / (12 * step)
    assert forces[0, 1].abs() < 1e-9 * forces.abs().max()


def test_shuffling_keeps_to_the_species():
    graph = graph_of("TTT", "FFF")
    atoms = torch.randperm(graph.num_atoms, generator=torch.Generator().manual_seed(1))
    values = torch.arange(graph.num_atoms, dtype=torch.float64)[atoms][:, None, None]
    found = Shuffled("layer 1", SCALAR)(graph, "layer 1", {SCALAR: values}, atoms)[SCALAR]
    assert not torch.equal(found, values)
    assert torch.equal(found.flatten().sort().values, values.flatten().sort().values)
    assert torch.equal(graph.species[found.long().flatten()], graph.species[atoms])


@pytest.mark.parametrize(
    ("kind", "changes", "stages"),
    [("convolution", {}, 2), ("convolution", {"properties": ("dipole",)}, 2), ("mace", {}, 4)],
)
def test_shares_of_a_stage_add_up(kind, changes, stages):
    channels = {"irreps": "3x0e + 3x1o", "lmax": 1}
    measured = statistics(potential(kind, **channels, **changes), [graph_of("TTT", "FFF")])
    names = {s.stage for s in measured}
    assert len(names) == stages
    for name in names:
        for figure in ("share", "variance", "gradient"):
            total = sum(getattr(s, figure) for s in measured if s.stage == name)
            assert total == pytest.approx(1, abs=ROUNDING)


def test_statistics_of_features_that_are_known():
    """After the first layer, by hand."""
    ours, graph = potential(), graph_of("TTT")
    seen = {}

    def keep(stage, features, atoms):
        seen[stage] = {k: v.detach() for k, v in features.items()}, graph.species[atoms]
        return features

    ours.network(graph, graph.edge_vectors(), keep)
    features, species = seen["layer 1"]
    total = sum(x.square().sum() for x in features.values())
    spread = features[SCALAR].clone()
    for kind in species.unique():
        spread[species == kind] -= spread[species == kind].mean(0)
    variance = spread.square().sum() + features[VECTOR].square().sum()
    (measured,) = (
        s for s in statistics(ours, [graph]) if (s.stage, s.irrep) == ("layer 1", VECTOR)
    )
    square = features[VECTOR].square()
    assert measured.channels == 2
    assert measured.norm == pytest.approx(float(square.mean().sqrt()))
    assert measured.share == pytest.approx(float(square.sum() / total))
    assert measured.variance == pytest.approx(float(square.sum() / variance))


def test_batches_do_not_matter():
    ours = potential()
    together = statistics(ours, [graph_of("TTT", "FFF")])
    apart = statistics(ours, [graph_of("TTT"), graph_of("FFF")])
    for one, other in zip(together, apart, strict=True):
        assert (one.stage, one.irrep, one.channels) == (other.stage, other.irrep, other.channels)
        for figure in ("norm", "share", "variance", "gradient"):
            assert getattr(one, figure) == pytest.approx(getattr(other, figure), abs=ROUNDING)


def test_embeddings_do_not_turn():
    ours, graph = potential(), graph_of("TTT", "FFF")
    turns = random_rotations(2, generator=torch.Generator().manual_seed(2))
    before, after = embeddings(ours, graph), embeddings(ours, graph.rotated(turns))
    assert list(before) == [("layer 1", SCALAR), ("layer 1", VECTOR), ("layer 2", SCALAR)]
    for stage, value in before.items():
        assert value.shape == (2, 2 if stage[1] == VECTOR else 3)
        assert (after[stage] - value).abs().max() < ROUNDING * value.abs().max()


def test_what_is_unused_everywhere_is_pruned():
    config = ConvolutionConfig((1, 8), irreps="8x0e + 4x1o + 2x2e", lmax=3, num_layers=3)
    everywhere = {("layer 1", TENSOR), ("layer 2", TENSOR)}
    found = pruned(config, everywhere)
    assert (found.irreps, found.lmax) == ("8x0e + 4x1o", 2)
    assert pruned(config, {("layer 1", TENSOR)}) == config
    vectors = {("layer 1", VECTOR), ("layer 2", VECTOR)}
    assert pruned(config, everywhere | vectors | {("layer 1", SCALAR)}).irreps == "8x0e"
    mace = MACEConfig((1, 8), irreps="8x0e + 8x1o", lmax=3)
    octupoles = {(f"messages {k}", Irrep.harmonic(3)) for k in (1, 2)}
    assert pruned(mace, octupoles).lmax == 2
    assert pruned(mace, octupoles | {("layer 1", VECTOR)}).irreps == "8x0e"
    assert pruned(mace, {("messages 1", Irrep.harmonic(3))}) == mace


def test_a_network_without_irreps_is_refused():
    with pytest.raises(ValueError, match="a PET has no irreps; take a model whose architecture"):
        statistics(Potential(tiny_pet(0, species=(1, 8))), [graph_of("FFF")])
