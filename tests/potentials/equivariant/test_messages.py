"""The convolution against loops over edges and paths, whatever the chunks."""

from __future__ import annotations

import math

import pytest
import torch
from e3nn import o3

from pointedge.potentials.checkpoint import architecture
from pointedge.potentials.equivariant import messages
from pointedge.potentials.equivariant.irreps import Irreps
from pointedge.potentials.equivariant.messages import Convolution, Edges, RadialBasis, envelope
from pointedge.potentials.equivariant.tables import Tables
from pointedge.potentials.graph import Graph
from pointedge.potentials.potential import Potential

from ... import structures

CUTOFF, LMAX, FACTOR = 3.0, 2, 0.3
IRREPS = Irreps.parse("3x0e + 2x1o + 2x1e")
TARGETS = Irreps.parse("1x0e + 1x1o + 1x2e + 1x2o")
ROUNDING = 1e-13  # of the largest message


def convolution() -> tuple[Convolution, Tables]:
    torch.manual_seed(0)
    layer = Convolution(IRREPS, list(TARGETS), LMAX, [4, 8], FACTOR).to(torch.float64)
    return layer, Tables(LMAX, {path.degrees for path in layer.paths})


def naive(layer, features, graph, vectors):
    """Messages, one edge and one path at a time."""
    found = {
        irrep: torch.zeros(graph.num_atoms, irrep.dim, 0, dtype=torch.float64)
        for irrep in layer.irreps_out
    }
    basis = RadialBasis(CUTOFF, 4, 6)
    start = 0
    for path in layer.paths:
        n = IRREPS[path.source]
        total = torch.zeros(graph.num_atoms, path.target.dim, n, dtype=torch.float64)
        symbol = o3.wigner_3j(*path.degrees, dtype=torch.float64)
        for i, j, vector in zip(
            graph.centers.tolist(), graph.neighbors.tolist(), vectors, strict=True
        ):
            length = vector.norm()
            if length >= CUTOFF:
                continue
            radial = layer.radial(basis(length[None]))[0, start : start + n]
            harmonic = o3.spherical_harmonics(path.degree, vector, True, "component")
            product = torch.einsum("abc,an,b->cn", symbol, features[path.source][j], harmonic)
            total[i] += FACTOR * math.sqrt(path.target.dim) * radial * product
        found[path.target] = torch.cat([found[path.target], total], dim=-1)
        start += n
    return found


@pytest.mark.parametrize("values", [1, 300, 2**18])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("pattern", ["TTT", "FFF"])
@torch.no_grad()
def test_messages_are_the_sums_over_edges(monkeypatch, pattern, recompute, values):
    monkeypatch.setitem(messages.CHUNK_VALUES, "cpu", values)
    monkeypatch.setattr(messages, "RECOMPUTE_ABOVE", 0 if recompute else 10**9)
    layer, tables = convolution()
    graph = Graph.from_atoms(structures.patterns()[pattern], CUTOFF + 0.5)
    vectors = graph.edge_vectors()
    generator = torch.Generator().manual_seed(1)
    features = {
        irrep: torch.randn(graph.num_atoms, irrep.dim, n, dtype=torch.float64, generator=generator)
        for irrep, n in IRREPS.items()
    }
    edges = Edges.build(graph, vectors, RadialBasis(CUTOFF, 4, 6), tables, layer.width)
    order = edges.layout.atom_order
    found = layer({irrep: value[order] for irrep, value in features.items()}, edges)
    expected = naive(layer, features, graph, vectors)
    assert found.keys() == expected.keys()
    for irrep, value in expected.items():
        assert value.abs().max() > 0
        assert (found[irrep] - value[order]).abs().max() < ROUNDING * value.abs().max()


@pytest.mark.parametrize("kind", ["nequip", "mace"])
def test_gradients_do_not_depend_on_chunks_or_recomputation(monkeypatch, kind):
    torch.manual_seed(0)
    settings = {"species": structures.SPECIES, "cutoff": CUTOFF, "irreps": "3x0e + 3x1o"}
    network = architecture(kind).from_config({**settings, "radial_width": 4, "num_layers": 2})
    potential = Potential(network).to(torch.float64)
    graph = Graph.from_atoms(structures.patterns()["TTT"], CUTOFF)

    def derivatives():
        prediction = potential(graph, create_graph=True)
        loss = prediction.forces.square().sum() + prediction.energy.square().sum()
        return prediction.forces, *torch.autograd.grad(loss, list(network.parameters()))

    expected = derivatives()
    monkeypatch.setitem(messages.CHUNK_VALUES, "cpu", 300)
    monkeypatch.setattr(messages, "RECOMPUTE_ABOVE", 0)
    for one, other in zip(derivatives(), expected, strict=True):
        assert (one - other).abs().max() < 1e-11 * other.abs().max().clamp(min=1e-3)


def test_atoms_without_neighbors_have_no_messages():
    layer, tables = convolution()
    atoms = structures.patterns()["FFF"][:2]
    atoms.positions[:] = [[0, 0, 0], [20, 0, 0]]
    graph = Graph.from_atoms(atoms, CUTOFF)
    edges = Edges.build(graph, graph.edge_vectors(), RadialBasis(CUTOFF, 4, 6), tables, 10)
    features = {i: torch.ones(2, i.dim, n, dtype=torch.float64) for i, n in IRREPS.items()}
    for irrep, value in layer(features, edges).items():
        assert value.shape == (2, irrep.dim, layer.irreps_out[irrep])
        assert not value.any()


@pytest.mark.parametrize("power", [2, 5, 6])
def test_the_envelope_falls_to_zero_smoothly(power):
    x = torch.tensor([0.0, 1 - 1e-4, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    value = envelope(x, power)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    assert value[0] == 1
    third = power * (power + 1) * (power + 2) / 2  # of the derivative at 1, which is negative
    assert value[1].item() == pytest.approx(third * 1e-12 / 3, rel=1e-2)
    assert not torch.stack([value, slope, curvature])[:, 2:].any()
