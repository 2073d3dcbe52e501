"""The padded layout of neighbourhoods against a naive twin, and its invisibility in results."""

import numpy as np
import pytest
import torch

from pointedge.potentials.graph import Graph
from pointedge.potentials.layout import Layout, reverse_edges
from pointedge.potentials.pet import model

from .. import structures
from ..physics.numerics import ENERGY, FORCE

FRAMES = [
    *structures.patterns().values(),
    *structures.awkward().values(),
    structures.isolated_atom(),
]
CHUNK_TOKENS = [1, 2, 7, 40, 100, 10**6]


def graph_of(frames=FRAMES, cutoff=3.5):
    return Graph.from_atoms(frames, cutoff)


def build(graph, chunk_tokens):
    return Layout.build(graph.centers, graph.neighbors, graph.shifts, graph.num_atoms, chunk_tokens)


def naive_reverse(centers, neighbors, shifts):
    images = map(tuple, shifts.tolist())
    edges = list(zip(centers.tolist(), neighbors.tolist(), images, strict=True))
    position = {edge: k for k, edge in enumerate(edges)}
    assert len(position) == len(edges)
    return [position[j, i, (-a, -b, -c)] for i, j, (a, b, c) in edges]


@pytest.mark.parametrize("chunk_tokens", CHUNK_TOKENS)
def test_every_edge_is_in_the_block_of_its_centre(chunk_tokens):
    graph = graph_of()
    layout = build(graph, chunk_tokens)
    assert sorted(layout.atom_order.tolist()) == list(range(graph.num_atoms))
    assert sorted(layout.edge_order.tolist()) == list(range(graph.num_edges))
    # Edges keep their original centres under the renumbering.
    original = graph.centers[layout.edge_order]
    assert torch.equal(layout.atom_order[layout.centers], original)
    marks = torch.arange(graph.num_edges)[:, None]
    for chunk in layout.chunks:
        atoms = range(chunk.atoms.start, chunk.atoms.stop)
        padded = chunk.pad(marks[chunk.edges])[..., 0]
        assert padded.shape == chunk.mask.shape
        for row, atom in enumerate(atoms):
            mine = torch.nonzero(layout.centers == atom)[:, 0].tolist()
            assert padded[row][chunk.mask[row]].tolist() == mine


@pytest.mark.parametrize("chunk_tokens", CHUNK_TOKENS)
def test_chunks_cover_everything_and_keep_to_their_size(chunk_tokens):
    graph = graph_of()
    layout = build(graph, chunk_tokens)
    atom = edge = 0
    for chunk in layout.chunks:
        assert (chunk.atoms.start, chunk.edges.start) == (atom, edge)
        atom, edge = chunk.atoms.stop, chunk.edges.stop
        num_atoms, width = chunk.mask.shape
        assert num_atoms == chunk.atoms.stop - chunk.atoms.start >= 1
        assert num_atoms == 1 or num_atoms * (width + 1) <= chunk_tokens
    assert (atom, edge) == (graph.num_atoms, graph.num_edges)
    counts = torch.bincount(graph.centers, minlength=graph.num_atoms)
    expected_widths = torch.sort(counts).values[[c.atoms.stop - 1 for c in layout.chunks]]
    assert [c.mask.shape[1] for c in layout.chunks] == expected_widths.tolist()
    if chunk_tokens == 10**6:
        assert len(layout.chunks) == 1


@pytest.mark.parametrize("chunk_tokens", CHUNK_TOKENS)
def test_padding_and_back(chunk_tokens):
    graph = graph_of()
    layout = build(graph, chunk_tokens)
    values = torch.randn(graph.num_edges, 3, generator=torch.Generator().manual_seed(0))
    kinds = set()
    for chunk in layout.chunks:
        mine = values[chunk.edges]
        padded = chunk.pad(mine)
        assert torch.equal(chunk.unpad(padded), mine)
        # What stands in a padded slot never comes back.
        spoilt = torch.where(chunk.mask[..., None], padded, torch.nan)
        assert torch.equal(chunk.unpad(spoilt), mine)
        kinds.add(chunk.slots is None)
    if chunk_tokens in (7, 40):  # these make chunks with and without padding
        assert kinds == {True, False}


def test_reverse_is_the_edge_back():
    for frames in (FRAMES, *([a] for a in FRAMES)):
        graph = graph_of(frames, 5.0)
        layout = build(graph, 50)
        centers = layout.centers
        rank = torch.argsort(layout.atom_order)
        neighbors = rank[graph.neighbors[layout.edge_order]]
        shifts = graph.shifts[layout.edge_order]
        assert layout.reverse.tolist() == naive_reverse(centers, neighbors, shifts)
        assert torch.equal(layout.reverse[layout.reverse], torch.arange(graph.num_edges))


def test_reverse_of_edges_to_own_images():
    """An atom alone in a small cell has only edges to itself: i == j, and never its own reverse."""
    graph = graph_of(structures.awkward()["one-atom-cell"], 6.0)
    assert (graph.centers == graph.neighbors).all()
    assert graph.num_edges > 60
    reverse = reverse_edges(graph.centers, graph.neighbors, graph.shifts, 1)
    assert torch.equal(graph.shifts[reverse], -graph.shifts)
    assert (reverse != torch.arange(graph.num_edges)).all()


@pytest.mark.parametrize("size", [1, 1000, 2**20 - 1])
def test_reverse_with_large_shifts(size):
    """Shifts of atoms far outside their cell are packed into 21 bits each."""
    rng = np.random.default_rng(size)
    num_atoms = 5
    pairs = rng.integers(0, num_atoms, (400, 2))
    shifts = rng.integers(-size, size + 1, (400, 3))
    shifts[0] = size
    shifts[1] = (-size, size, -size)
    one_way = np.concatenate([pairs, shifts], axis=1)
    one_way = one_way[~((one_way[:, 0] == one_way[:, 1]) & ~one_way[:, 2:].any(axis=1))]
    back = np.concatenate([one_way[:, [1, 0]], -one_way[:, 2:]], axis=1)
    edges = torch.tensor(np.unique(np.concatenate([one_way, back]), axis=0))
    centers, neighbors, shifts = edges[:, 0], edges[:, 1], edges[:, 2:]
    reverse = reverse_edges(centers, neighbors, shifts, num_atoms)
    assert reverse.tolist() == naive_reverse(centers, neighbors, shifts)


def test_no_edges_at_all():
    empty = torch.zeros(0, dtype=torch.int64)
    layout = Layout.build(empty, empty, empty.view(0, 1).expand(0, 3), 4, 10)
    assert layout.reverse.shape == (0,)
    assert sum(c.mask.shape[0] for c in layout.chunks) == 4
    assert all(c.mask.shape[1] == 0 for c in layout.chunks)
    assert layout.chunks[0].pad(torch.zeros(0, 3)).shape == (layout.chunks[0].mask.shape[0], 0, 3)


# --- a result does not depend on the layout -------------------------------------------------------


def weight_gradients(potential, graph):
    prediction = potential(graph, virial=True, create_graph=True)
    loss = prediction.forces.square().sum() + prediction.energy.sum() + prediction.virial.sum()
    return torch.autograd.grad(loss, list(potential.parameters()), allow_unused=True)


def assert_equal_results(found, expected):
    total = expected.energies.abs().sum()
    assert (found.energy - expected.energy).abs().max() <= ENERGY * total
    scale = expected.forces.abs().max()
    assert (found.forces - expected.forces).abs().max() <= FORCE * scale
    strain = expected.strain_gradient.abs().max()
    assert (found.strain_gradient - expected.strain_gradient).abs().max() <= FORCE * strain


@pytest.mark.parametrize("tokens", [1, 5, 60, 10**7])
def test_results_do_not_depend_on_the_chunk_size(tiny, monkeypatch, tokens):
    graph = graph_of(FRAMES[5:])
    monkeypatch.setitem(model.CHUNK_VALUES, "cpu", 300 * tiny.network.config.d_pet)
    expected = tiny(graph, virial=True)
    gradients = weight_gradients(tiny, graph)
    monkeypatch.setitem(model.CHUNK_VALUES, "cpu", tokens * tiny.network.config.d_pet)
    assert_equal_results(tiny(graph, virial=True), expected)
    for mine, theirs in zip(weight_gradients(tiny, graph), gradients, strict=True):
        if theirs is not None:
            assert (mine - theirs).abs().max() <= FORCE * theirs.abs().max().clamp(min=1e-6)


def test_results_do_not_depend_on_recomputation(tiny, monkeypatch):
    graph = graph_of()
    monkeypatch.setitem(model.CHUNK_VALUES, "cpu", 60 * tiny.network.config.d_pet)
    expected = tiny(graph, virial=True)
    gradients = weight_gradients(tiny, graph)
    calls = count_recomputations(monkeypatch)
    monkeypatch.setattr(model, "RECOMPUTE_ABOVE", 0)
    assert_equal_results(tiny(graph, virial=True), expected)
    for mine, theirs in zip(weight_gradients(tiny, graph), gradients, strict=True):
        if theirs is not None:
            assert (mine - theirs).abs().max() <= FORCE * theirs.abs().max().clamp(min=1e-6)
    assert calls


def count_recomputations(monkeypatch):
    from pointedge.potentials import layout

    calls = []
    original = layout.checkpoint

    def counted(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(layout, "checkpoint", counted)
    return calls
