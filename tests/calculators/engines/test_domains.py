"""Parts of a box, without LAMMPS: what owned energies depend on, and what is noticed as missing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule

from pointedge.calculators.engines.domains import Domain
from pointedge.calculators.engines.lammps_input import read_elements, read_script
from pointedge.calculators.engines.parts import differentiate, field
from pointedge.potentials.ecse.symmetrize import symmetrized
from pointedge.potentials.graph import Graph

from ..conftest import bulk, small_potential


class Alone:
    """A communicator of one rank; with ``others``, what a second rank would have gathered."""

    size = 1

    def __init__(self, others=()):
        self.others = list(others)

    def allgather(self, value):
        return [value, *self.others]

    def alltoall(self, values):
        return [values[0], *(np.zeros(0, dtype=int) for _ in values[1:])]

    def Allgather(self, value, found):  # noqa: N802, the name in mpi4py
        found[:] = value


class Ranks:
    """Communicators of ranks that are threads; ``on_all`` calls a function with each of them."""

    def __init__(self, size):
        self.size, self.rank, self.slots = size, None, [None] * size
        self.barrier = threading.Barrier(size, timeout=10)

    def on_all(self, function):
        ranks = [copy(self) for _ in range(self.size)]
        for number, comm in enumerate(ranks):
            comm.rank = number
        with ThreadPoolExecutor(self.size) as pool:
            return list(pool.map(function, ranks))

    def allgather(self, value):
        self.slots[self.rank] = value
        self.barrier.wait()
        found = list(self.slots)
        self.barrier.wait()
        return found

    def alltoall(self, values):
        return [sent[self.rank] for sent in self.allgather(values)]

    def Allgather(self, value, found):  # noqa: N802, the name in mpi4py
        found[:] = self.allgather(value)


SETTINGS = [
    {},
    {"featurizer": "residual"},
    {"num_neighbors_adaptive": 6.0},
    {"symmetry": "layers"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_parts_add_up(settings):
    """Energies of owned atoms alone, each part in the smallest graph that it needs."""
    potential = small_potential(cutoff=2.2, scale=2.0, **settings)
    atoms = bulk().repeat((4, 1, 1))
    graph = Graph.from_atoms(atoms, potential.cutoff)
    whole = potential(graph, virial=True)
    owner = np.floor(atoms.get_scaled_positions()[:, 0] * 4).astype(int)
    forces, virial = torch.zeros_like(whole.forces), torch.zeros_like(whole.virial[0])
    for rank in range(4):
        owned = torch.tensor(owner == rank)
        part, used = field(graph, owned, potential.network.hops)
        if potential.network.hops < 4:
            assert part.num_atoms < graph.num_atoms
        energies, on_all, strain = differentiate(potential, part)
        expected = (whole.energies + whole.atomic_baseline)[owned]
        # Sums in another order, in float64: some hundred eps here, and below of forces and virials.
        torch.testing.assert_close(energies, expected, rtol=1e-13, atol=0)
        forces[used] += on_all
        virial += 0.5 * (strain + strain.mT).sum(0)
    torch.testing.assert_close(forces, whole.forces, rtol=0, atol=1e-12)
    torch.testing.assert_close(virial, whole.virial[0], rtol=0, atol=1e-11)


def test_symmetrised_parts_have_frames_of_owned_atoms_alone():
    """Environments of the others are cut: they would cost, or ask for an auxiliary network."""
    chain = molecule("H2O")
    for k in range(1, 6):
        chain += molecule("H2O")
        chain.positions[-3:] += [2.4 * k, 0.3 * (k % 2), 0.1 * k]
    potential = symmetrized(small_potential(cutoff=3.0, num_gnn_layers=1, scale=2.0), "ecse")
    graph = Graph.from_atoms(chain, potential.cutoff)
    whole = potential(graph)
    forces = torch.zeros_like(whole.forces)
    for half in (torch.arange(18) < 9, torch.arange(18) >= 9):
        part, used = field(graph, half, potential.network.hops)
        assert part.num_edges < graph.num_edges
        energies, on_all, _ = differentiate(potential, part)
        torch.testing.assert_close(
            energies, (whole.energies + whole.atomic_baseline)[half], rtol=1e-13, atol=0
        )
        forces[used] += on_all
        cost, cost_of_all = (
            potential.network.edges_evaluated(one, part.edge_vectors())
            for one in (part, replace(part, owned=None))
        )
        assert cost < 0.75 * cost_of_all
    torch.testing.assert_close(forces, whole.forces, rtol=0, atol=1e-12)


CELL = np.array([[20.0, 0, 0], [0, 5.0, 0], [0, 1.0, 5.0]])
ALL = np.ones(3, dtype=bool)


def domain(seen, own=2, pbc=ALL, reach=3.0):
    """Of atoms 0, 1, ... every 2 Å along the first axis, ``seen`` are seen; the first are owned."""
    positions = np.stack([2.0 * np.arange(10), np.full(10, 1.0), np.full(10, 1.0)], axis=1)
    rest = np.arange(own, 10)
    seen = np.array(seen)
    return Domain(
        Alone([(rest, positions[rest])]), seen, own, positions[seen], CELL, pbc, reach
    ), positions[seen]


def test_clearance_is_the_distance_to_the_nearest_hidden_atom():
    """Owned atoms at 0 and 2 Å; hidden ones from 6 Å, and from -4 Å across the boundary."""
    made, _ = domain([0, 1, 2, 9])
    assert made.clearance == pytest.approx(4.0 - 3.0)
    made, _ = domain([0, 1, 2, 3, 4, 5, 6, 7, 9])
    assert made.clearance == pytest.approx(4.0 - 3.0)  # atom 8, 4 Å to the left of atom 0
    made, _ = domain([0, 1, 9])
    assert made.clearance == pytest.approx(2.0 - 3.0)
    made, _ = domain([0, 1, 2], pbc=np.array([False, True, True]))
    assert made.clearance == pytest.approx(4.0 - 3.0)
    made, _ = domain(list(range(10)))
    assert made.clearance == np.inf


def test_a_domain_holds_until_a_hidden_atom_can_have_come_near():
    made, positions = domain([0, 1, 2, 9])
    tags = np.array([0, 1, 2, 9])
    assert made.holds(tags, 2, positions, CELL)
    for length, holds in ((0.49, True), (0.51, False)):  # twice that is the clearance, 1 Å
        moved = positions.copy()
        moved[1, 2] += length
        assert made.holds(tags, 2, moved, CELL) is holds
    # Strain of everything uses up (reach + clearance) times itself.
    for strain, holds in ((0.1, True), (0.3, False)):
        scaled = np.diag([1 - strain, 1, 1])
        assert made.holds(tags, 2, positions @ scaled, CELL @ scaled) is holds
    assert not made.holds(tags, 1, positions, CELL)
    assert not made.holds(tags[::-1], 2, positions, CELL)
    assert not made.holds(tags[:3], 2, positions[:3], CELL)


LONG = np.diag([60.0, 5.0, 5.0])
OPEN = np.zeros(3, dtype=bool)
# Of each rank: what it sees, and how many of these are its own. Tag 1 is 15 Å from tag 0, and more
# from what else rank 0 owns; rank 2 is empty.
PLACES = np.array([[20.0, 1, 1], [35.0, 1, 1], [12.0, 1, 1], [50.0, 1, 1]])
SEEN = (([0, 2], 2), ([1, 3, 0, 2], 2), ([], 0))


def ask(change, ranks=3):
    """What all ranks say of their domains after a change of (rank, tags, positions, cell)."""
    seen = SEEN[:ranks] if ranks > 1 else (([0, 1, 2, 3], 4),)

    def of(comm):
        tags, own = np.array(seen[comm.rank][0], dtype=int), seen[comm.rank][1]
        made = Domain(comm, tags, own, PLACES[tags], LONG, OPEN, 10.0)
        assert made.clearance == (pytest.approx(5.0) if comm.rank == 0 and ranks > 1 else np.inf)
        places, cell = PLACES.copy(), LONG.copy()
        tags = change(comm.rank, tags, places, cell)
        return made.holds(tags, own, places[tags], cell)

    return Ranks(ranks).on_all(of)


@pytest.mark.parametrize(("length", "holds"), [(2.4, True), (2.6, False), (8.0, False)])
def test_paths_of_hidden_atoms_count(length, holds):
    """Rank 0 does not see atom 1 come; its owner sees all, and may go as far as it likes."""

    def approach(rank, tags, places, cell):
        places[1, 0] -= length
        return tags

    assert ask(approach, 2) == [holds] * 2
    assert ask(approach) == [holds] * 3
    assert ask(approach, 1) == [True]


def test_ranks_agree_whether_domains_hold():
    """Whatever one of them has met; the others wait for its word."""

    def nothing(rank, tags, places, cell):
        return tags

    def exchanged(rank, tags, places, cell):
        return tags[::-1] if rank == 1 else tags

    def lost(rank, tags, places, cell):
        if rank == 1:
            places[3] = np.nan
        return tags

    def compressed(rank, tags, places, cell):
        places[:, 0] *= 0.5
        cell[0, 0] *= 0.5
        return tags

    for change, holds in ((nothing, True), (exchanged, False), (lost, False), (compressed, False)):
        assert ask(change) == [holds] * 3, change


def test_images_of_an_atom_count_once():
    tags = np.array([3, 7, 7, 3, 3, 5])
    positions = np.arange(18.0).reshape(6, 3)
    other = (np.array([5]), positions[5:])
    made = Domain(Alone([other]), tags, 2, positions, CELL, ALL, 3.0)
    assert made.rows.tolist() == [0, 5, 1]  # of tags 3, 5, 7
    assert made.owned.tolist() == [True, False, True]


def test_elements():
    assert read_elements(["O", "H", "O"], 3, [1, 8]).tolist() == [0, 8, 1, 8]
    for elements, said in (
        (["O"], "2 atom types, and 1 elements"),
        (["O", "X"], "type 2 is X"),
        (["C", "H"], "type 1 is C, which the model does not know; it knows H, O"),
    ):
        with pytest.raises(ValueError, match=said):
            read_elements(elements, 2, [1, 8])


def test_script():
    text = """units metal
# pair_style pointedge none
pair_style pointedge "my model.safetensors"  # best
mass 1 16
pair_coeff * * O H # types
run 1
"""
    script = read_script(text)
    assert script.model == "my model.safetensors"
    assert script.elements == ["O", "H"]
    assert script.before == "units metal\n# pair_style pointedge none\npair_style none\nmass 1 16\n"
    assert script.after == "run 1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("units metal\n", "one line `pair_style pointedge MODEL`.*has 0"),
        ("pair_style pointedge\n", "one line"),
        ("pair_style pointedge a\npair_style pointedge b\n", "has 2"),
        ("pair_style pointedge a\nrun 1\n", "pair_coeff"),
        ("pair_style pointedge a\npair_coeff 1 1 O\n", "pair_coeff"),
        ("pair_style pointedge a\npair_coeff * * O\nclear\n", "clear"),
        ("pair_style pointedge a\npair_coeff * * O\npair_style none\n", "another `pair_style`"),
    ],
)
def test_broken_scripts(text, said):
    with pytest.raises(ValueError, match=said):
        read_script(text)
