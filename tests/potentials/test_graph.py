"""Graph: building, batching, moving and rotating, against plain loops."""

import dataclasses

import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.potentials.graph import Graph, random_rotations, read_inputs
from pointedge.potentials.neighbors.cells import volume, volumes

from .. import structures

CUTOFF = 3.5
FRAMES = {**structures.patterns(), **structures.awkward()}


def tensors(graph):
    return {f.name: getattr(graph, f.name) for f in dataclasses.fields(graph)}


def assert_same(first, second):
    for name, value in tensors(first).items():
        other = getattr(second, name)
        assert (value is None) == (other is None), name
        if value is not None:
            assert value.dtype == other.dtype, name
            assert torch.equal(value, other), name


def magnetic(atoms):
    atoms = atoms.copy()
    atoms.set_initial_magnetic_moments(np.linspace(-2, 3, len(atoms)))
    return atoms


@pytest.mark.parametrize("name", FRAMES)
def test_from_atoms_copies_the_structure(name):
    atoms = FRAMES[name]
    graph = Graph.from_atoms(atoms, CUTOFF)
    n, e = len(atoms), graph.num_edges
    assert (graph.num_atoms, graph.num_structures) == (n, 1)
    assert e > 0
    np.testing.assert_array_equal(graph.positions.numpy(), atoms.positions)
    np.testing.assert_array_equal(graph.species.numpy(), atoms.numbers)
    np.testing.assert_array_equal(graph.cell[0].numpy(), np.asarray(atoms.cell))
    np.testing.assert_array_equal(graph.pbc[0].numpy(), atoms.pbc)
    assert graph.positions.dtype == graph.cell.dtype == torch.float64
    assert graph.pbc.dtype == torch.bool
    for integers, shape in (
        (graph.species, (n,)),
        (graph.structure, (n,)),
        (graph.centers, (e,)),
        (graph.neighbors, (e,)),
        (graph.shifts, (e, 3)),
    ):
        assert integers.dtype == torch.int64
        assert integers.shape == shape
    assert (graph.centers.diff() >= 0).all()
    assert not graph.shifts[:, ~graph.pbc[0]].any()
    assert graph.charge is graph.spin is graph.magmoms is None


@pytest.mark.parametrize("name", FRAMES)
def test_edge_vectors_against_a_plain_loop(name):
    atoms = FRAMES[name]
    graph = Graph.from_atoms(atoms, CUTOFF)
    vectors = graph.edge_vectors().numpy()
    cell = np.asarray(atoms.cell)
    for e in range(graph.num_edges):
        i, j = int(graph.centers[e]), int(graph.neighbors[e])
        a, b, c = graph.shifts[e].tolist()
        image = atoms.positions[j] + a * cell[0] + b * cell[1] + c * cell[2]
        np.testing.assert_allclose(vectors[e], image - atoms.positions[i], rtol=0, atol=1e-14 * 30)
        assert np.linalg.norm(vectors[e]) < CUTOFF


def test_edge_vectors_are_differentiable_in_positions_and_cell():
    graph = Graph.from_atoms([FRAMES["TTT"], FRAMES["small-cell"]], CUTOFF)
    positions = graph.positions.clone().requires_grad_()
    cell = graph.cell.clone().requires_grad_()
    vectors = dataclasses.replace(graph, positions=positions, cell=cell).edge_vectors()
    weights = torch.randn(vectors.shape, dtype=torch.float64, generator=torch.Generator())
    by_positions, by_cell = torch.autograd.grad((vectors * weights).sum(), (positions, cell))
    expected_positions, expected_cell = np.zeros((graph.num_atoms, 3)), np.zeros((2, 3, 3))
    for e in range(graph.num_edges):
        i, j = int(graph.centers[e]), int(graph.neighbors[e])
        expected_positions[j] += weights[e].numpy()
        expected_positions[i] -= weights[e].numpy()
        expected_cell[int(graph.structure[i])] += np.outer(graph.shifts[e], weights[e])
    np.testing.assert_allclose(by_positions.numpy(), expected_positions, atol=1e-12)
    np.testing.assert_allclose(by_cell.numpy(), expected_cell, atol=1e-12)


def test_atoms_are_only_read():
    for atoms in FRAMES.values():
        mine = magnetic(atoms)
        mine.info.update(charge=1, spin=2)
        before = mine.copy()
        graph = Graph.from_atoms(mine, CUTOFF, inputs=("charge", "spin", "magmoms"))
        graph.positions.fill_(7.0)
        graph.cell.fill_(7.0)
        graph.species.fill_(7)
        graph.pbc.fill_(True)
        assert mine == before
        assert mine.info == before.info
        assert mine.arrays.keys() == before.arrays.keys()


def test_batch_equals_a_list_of_atoms():
    frames = [magnetic(atoms) for atoms in FRAMES.values()]
    together = Graph.from_atoms(frames, CUTOFF, inputs=("charge", "magmoms"))
    joined = Graph.batch(
        [Graph.from_atoms(a, CUTOFF, inputs=("charge", "magmoms")) for a in frames]
    )
    assert_same(joined, together)
    assert together.num_structures == len(frames)
    assert (together.structure[together.centers] == together.structure[together.neighbors]).all()
    assert together.structure.tolist() == [b for b, a in enumerate(frames) for _ in a]


def test_batch_of_batches():
    parts = [Graph.from_atoms(a, CUTOFF) for a in FRAMES.values()]
    nested = Graph.batch([Graph.batch(parts[:3]), parts[3], Graph.batch(parts[4:])])
    assert_same(nested, Graph.batch(parts))


def test_batch_refuses_mixed_inputs_and_nothing():
    with_charge = Graph.from_atoms(FRAMES["dimer"], CUTOFF, inputs=("charge",))
    without = Graph.from_atoms(FRAMES["dimer"], CUTOFF)
    with pytest.raises(ValueError, match="'charge' is given for some"):
        Graph.batch([with_charge, without])
    with pytest.raises(ValueError, match="at least one graph"):
        Graph.batch([])
    with pytest.raises(ValueError, match="at least one structure"):
        Graph.from_atoms([], CUTOFF)


def test_to_changes_floating_point_tensors_only():
    graph = Graph.from_atoms(magnetic(FRAMES["TTT"]), CUTOFF, inputs=("charge", "magmoms"))
    single = graph.to(dtype=torch.float32)
    for name, value in tensors(graph).items():
        if value is None:
            continue
        expected = torch.float32 if value.is_floating_point() else value.dtype
        assert getattr(single, name).dtype == expected, name
    assert graph.positions.dtype == torch.float64
    assert_same(graph.to("cpu"), graph)
    assert_same(graph.to(torch.device("cpu"), torch.float64), graph)
    meta = graph.to("meta")
    assert all(v.device.type == "meta" for v in tensors(meta).values() if v is not None)


def test_float32_graph_has_the_edges_of_the_float64_positions():
    double = Graph.from_atoms(FRAMES["TTT"], CUTOFF)
    single = Graph.from_atoms(FRAMES["TTT"], CUTOFF, dtype=torch.float32)
    assert_same(single, double.to(dtype=torch.float32))


def test_rotated_turns_everything_that_has_a_direction():
    frames = [a.copy() for a in (FRAMES["TTT"], FRAMES["TTF"], FRAMES["FFF"])]
    for atoms in frames:
        rng = np.random.default_rng(len(atoms))
        atoms.set_initial_magnetic_moments(rng.normal(size=(len(atoms), 3)))
    graph = Graph.from_atoms(frames, CUTOFF, inputs=("magmoms",))
    turn = random_rotations(3, generator=torch.Generator().manual_seed(2))
    turn[1] *= -turn[1].det().sign()  # at least one improper rotation
    turn[2] *= turn[2].det().sign()
    rotated = graph.rotated(turn)
    for v, w, b in zip(
        graph.edge_vectors(), rotated.edge_vectors(), graph.structure[graph.centers], strict=True
    ):
        torch.testing.assert_close(w, v @ turn[b], rtol=0, atol=1e-14 * 30)
    torch.testing.assert_close(rotated.volume(), graph.volume())
    for n, b in enumerate(graph.structure):
        axial = torch.linalg.det(turn[b]) * graph.magmoms[n] @ turn[b]
        torch.testing.assert_close(rotated.magmoms[n], axial)
    for name in ("species", "centers", "neighbors", "shifts", "pbc", "structure"):
        assert getattr(rotated, name) is getattr(graph, name)


def test_random_rotations_are_orthogonal_and_of_both_signs():
    turns = random_rotations(2000, generator=torch.Generator().manual_seed(0))
    identity = torch.eye(3, dtype=torch.float64).expand(2000, 3, 3)
    torch.testing.assert_close(turns @ turns.transpose(1, 2), identity, rtol=0, atol=1e-14)
    improper = (torch.linalg.det(turns) < 0).double().mean()
    assert abs(improper - 0.5) < 5 * 0.5 / 2000**0.5
    # Uniform: every element has mean 0 and mean square 1/3 (variance 4/45), to 5 standard errors.
    assert turns.mean(0).abs().max() < 5 * (1 / 3 / 2000) ** 0.5
    assert (turns.square().mean(0) - 1 / 3).abs().max() < 5 * (4 / 45 / 2000) ** 0.5
    again = random_rotations(2000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again, turns)


def test_volume_is_that_of_the_given_cell():
    frames = [FRAMES["TTT"], FRAMES["left-handed"], FRAMES["TTF"], FRAMES["dimer"]]
    volumes = Graph.from_atoms(frames, CUTOFF).volume().tolist()
    assert volumes == pytest.approx([a.cell.volume for a in frames], rel=1e-14)
    assert volumes[1] > 0
    assert volumes[2] == volumes[3] == 0


def test_volume_has_one_meaning_on_host_and_device():
    """Between angles and rounding, whatever the lengths."""
    cells = [np.diag([5.0, 5.0, 5.0]) * scale for scale in (1e-3, 1.0)]
    cells += [np.array([[5.0, 0, 0], [0, 5, 0], [0, 5, gap]]) for gap in (1e-5, 1e-6, 0.0)]
    found = volumes(torch.tensor(np.stack(cells))).tolist()
    assert found == pytest.approx([volume(cell) for cell in cells], rel=1e-9)
    assert [size > 0 for size in found] == [True, True, True, False, False]
    atoms = Atoms("H", cell=cells[3])
    assert Graph.from_atoms(atoms, CUTOFF).volume().item() == 0


def test_inputs_are_read_with_their_defaults():
    plain, charged = FRAMES["dimer"].copy(), FRAMES["TTF"].copy()
    charged.info.update(charge=-2, spin=3.0)
    graph = Graph.from_atoms([plain, charged], CUTOFF, inputs=("charge", "spin"))
    assert graph.charge.tolist() == [0, -2]
    assert graph.spin.tolist() == [1, 3]
    assert graph.charge.dtype == graph.spin.dtype == torch.int64
    assert graph.magmoms is None


def test_collinear_and_vector_moments():
    collinear, vectors = FRAMES["dimer"].copy(), FRAMES["dimer"].copy()
    collinear.set_initial_magnetic_moments([1.5, -2.0])
    vectors.set_initial_magnetic_moments([[1, 2, 3], [4, 5, 6]])
    moments = read_inputs([collinear, vectors], ("magmoms",))["magmoms"]
    assert moments.tolist() == [[0, 0, 1.5], [0, 0, -2], [1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("key", ["charge", "spin"])
@pytest.mark.parametrize("value", [0.5, "one", None, float("nan")])
def test_inputs_that_are_no_whole_number_are_refused(key, value):
    atoms = FRAMES["dimer"].copy()
    atoms.info[key] = value
    with pytest.raises(ValueError, match=key):
        Graph.from_atoms(atoms, CUTOFF, inputs=(key,))


def test_an_unknown_input_is_refused():
    with pytest.raises(ValueError, match="chrage"):
        Graph.from_atoms(FRAMES["dimer"], CUTOFF, inputs=("chrage",))


def test_an_isolated_atom_has_no_edges():
    graph = Graph.from_atoms([structures.isolated_atom(), FRAMES["dimer"]], CUTOFF)
    assert graph.num_edges == 2
    assert graph.centers.tolist() == [1, 2]
    assert Graph.from_atoms(structures.isolated_atom(), CUTOFF).edge_vectors().shape == (0, 3)


def test_graph_is_frozen():
    graph = Graph.from_atoms(Atoms("H"), CUTOFF)
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.positions = torch.zeros(1, 3)
