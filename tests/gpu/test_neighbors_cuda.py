"""The neighbour lists on CUDA: the oracle suite, waits of the host, and Verlet reuse."""

import pytest
import torch
from hypothesis import given, note, settings
from hypothesis import strategies as st

from pointedge.potentials.neighbors import VerletList, neighbor_list

from ..neighbors.cases import assert_edges, batch, canonical, cases, named_cases
from ..neighbors.test_backends import properties
from ..neighbors.test_cell_list import liquid
from .waits import waits

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
NAMED = named_cases()


def check(structures, cutoff, dtype=torch.float64, backend="auto"):
    positions, cell, pbc, structure = batch(structures, "cuda", dtype)
    edges = neighbor_list(positions, cell, pbc, cutoff, structure, backend=backend)
    assert {tensor.device for tensor in edges} == {positions.device}
    assert_edges(edges, structures, cutoff, structure)


@pytest.mark.parametrize("name", NAMED)
def test_named(name):
    check([NAMED[name]], NAMED[name].cutoff)


@pytest.mark.parametrize("backend", ["vesin", "matscipy"])
def test_lists_of_the_cpu_give_tensors_on_the_device(backend):
    check([NAMED["triclinic"], NAMED["molecule"]], 4.0, backend=backend)


@given(structures=st.lists(cases(), min_size=1, max_size=4))
@settings(properties, max_examples=100)
def test_random_batch(structures):
    note(repr(structures))
    check(structures, min(case.cutoff for case in structures))


def test_batch_of_everything():
    check(list(NAMED.values()), 4.0)


def test_equals_the_cpu_on_a_liquid():
    for atoms in (3000, 30000):
        lists = []
        for device in ("cpu", "cuda"):
            positions, cell, pbc, structure = liquid(atoms, device)
            lists.append(canonical(neighbor_list(positions, cell, pbc, 5.0, structure)))
        assert (lists[0] == lists[1]).all()


def test_host_waits_twice():
    positions, cell, pbc, structure = batch(list(NAMED.values()), "cuda")
    arguments = (positions, cell, pbc, 4.0, structure)
    neighbor_list(*arguments)
    assert len(waits(neighbor_list, *arguments)) <= 2


def test_memory_is_linear():
    peaks = []
    for atoms in (20000, 80000):
        positions, cell, pbc, structure = liquid(atoms, "cuda")
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        neighbor_list(positions, cell, pbc, 5.0, structure)
        peaks.append((torch.cuda.max_memory_allocated() - before) / atoms)
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize("bad", ["position", "cell"])
def test_errors_leave_the_device_usable(bad):
    positions, cell, pbc, structure = batch([NAMED["triclinic"]], "cuda")
    (positions if bad == "position" else cell)[0, 1] = torch.nan
    with pytest.raises(ValueError, match=bad):
        neighbor_list(positions, cell, pbc, 4.0, structure)
    assert float(torch.ones(3, device="cuda").sum()) == 3.0


def test_verlet_equals_a_fresh_list():
    positions, cell, pbc, structure = liquid(2000, "cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    velocity = 0.02 * torch.randn(
        positions.shape, generator=generator, dtype=torch.float64, device="cuda"
    )
    verlet = VerletList(4.0, skin=0.8)
    for _ in range(20):
        positions = positions + velocity
        wrapped = positions - (positions @ torch.linalg.inv(cell[0])).floor() @ cell[0]
        edges = verlet.update(wrapped, cell, pbc, structure)
        fresh = neighbor_list(wrapped, cell, pbc, 4.0, structure)
        assert (canonical(edges) == canonical(fresh)).all()
    assert verlet.builds < verlet.updates
