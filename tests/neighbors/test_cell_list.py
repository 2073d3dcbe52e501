"""The torch cell list: waits of the host and memory, both counted on the CPU."""

import numpy as np
import pytest
import torch

from pointedge.potentials.neighbors import neighbor_list

from .cases import batch, canonical, named_cases
from .probes import SyncCounter, TensorMemory

NAMED = named_cases()
DENSITY = 0.1  # atoms per Å^3, liquid water


def liquid(atoms, device="cpu"):
    """A periodic box of random atoms at the density of water."""
    length = (atoms / DENSITY) ** (1 / 3)
    generator = torch.Generator().manual_seed(atoms)
    positions = torch.rand(atoms, 3, generator=generator, dtype=torch.float64) * length
    cell = torch.eye(3, dtype=torch.float64)[None] * length
    pbc = torch.ones(1, 3, dtype=torch.bool)
    structure = torch.zeros(atoms, dtype=torch.int64)
    return tuple(tensor.to(device) for tensor in (positions, cell, pbc, structure))


def build(positions, cell, pbc, structure, cutoff=5.0, backend="torch"):
    return neighbor_list(positions, cell, pbc, cutoff, structure, backend=backend)


def measure(system, cutoff=5.0):
    """Edges, and peak bytes and largest tensor while they were found."""
    from pointedge.potentials.neighbors import cell_list

    positions, cell, pbc, structure = system
    with TensorMemory() as memory:
        edges = cell_list.search(positions, cell, pbc, cutoff, structure)
    return edges, memory


@pytest.mark.parametrize("name", ["one", "batch"])
def test_waits_at_most_twice(name):
    from pointedge.potentials.neighbors import cell_list

    cases = [NAMED["triclinic"]] if name == "one" else list(NAMED.values())
    positions, cell, pbc, structure = batch(cases)
    with SyncCounter() as counter:
        cell_list.search(positions, cell, pbc, 4.0, structure)
    assert counter.waits == ["tolist", "nonzero"]


def test_the_counter_counts():
    values = torch.arange(4)
    with SyncCounter() as counter:
        values[values > 1]
        values.sum().item()
        bool(values.sum() > 1)
        torch.repeat_interleave(values)
        torch.repeat_interleave(values, output_size=6)
        values[values]
        torch.unique(values)
    assert len(counter.waits) == 5


def test_several_blocks_and_chunks():
    system = liquid(3000)
    vesin = build(*system, backend="vesin")
    assert np.array_equal(canonical(build(*system)), canonical(vesin))


def test_memory_is_linear():
    peaks = [measure(liquid(atoms))[1].peak / atoms for atoms in (3000, 12000)]
    assert peaks[1] < 1.15 * peaks[0]


def test_no_tensor_outgrows_the_edges():
    """Candidates are about twice the pairs in a box, and each has three components."""
    (centers, _, _), memory = measure(liquid(6000))
    assert memory.largest < 8 * len(centers) + 75 * 6000


def test_cells_of_all_sizes_in_one_batch():
    """A one-atom cell and a 10-degree cell beside a liquid cost their own candidates only."""
    positions, cell, pbc, structure = liquid(4000)
    small = batch([NAMED["fcc-copper-one-atom"], NAMED["rhombohedral-10-degrees"]])
    system = (
        torch.cat([positions, small[0]]),
        torch.cat([cell, small[1]]),
        torch.cat([pbc, small[2]]),
        torch.cat([structure, small[3] + 1]),
    )
    (_, _, _), alone = measure(liquid(4000), 6.0)
    (centers, _, _), memory = measure(system, 6.0)
    assert memory.largest < 1.2 * alone.largest
    assert (centers == 4000).sum() == 78  # the copper atom
    expected = build(*small, cutoff=6.0, backend="vesin")
    assert int((centers >= 4000).sum()) == len(expected[0])


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("size", [1e3, 1e7])
def test_cluster_in_a_huge_box(size, periodic):
    positions, cell, pbc, structure = liquid(1500)
    positions = torch.cat([positions, torch.full((1, 3), 0.7 * size, dtype=torch.float64)])
    structure = torch.zeros(1501, dtype=torch.int64)
    cell = torch.eye(3, dtype=torch.float64)[None] * size
    pbc = torch.full((1, 3), periodic)
    (centers, neighbors, _), memory = measure((positions, cell, pbc, structure))
    distance = torch.linalg.vector_norm(positions[:1500, None] - positions[None, :1500], dim=-1)
    inside = (distance < 5.0) & ~torch.eye(1500, dtype=torch.bool)
    if not periodic:
        assert len(centers) == int(inside.sum())
    assert memory.largest < 8 * len(centers) + 75 * 1501
    assert bool((neighbors < 1501).all())


def test_dense_cluster_in_a_batch():
    """Structures of very different density do not pad each other."""
    generator = torch.Generator().manual_seed(1)
    dense = torch.rand(400, 3, generator=generator, dtype=torch.float64)
    sparse = torch.rand(4000, 3, generator=generator, dtype=torch.float64) * 300
    system = (
        torch.cat([dense, sparse]),
        torch.zeros(2, 3, 3, dtype=torch.float64),
        torch.zeros(2, 3, dtype=torch.bool),
        torch.tensor([0] * 400 + [1] * 4000),
    )
    (centers, _, _), memory = measure(system)
    assert int((centers < 400).sum()) == 400 * 399
    assert memory.largest < 8 * len(centers) + 75 * 4400
