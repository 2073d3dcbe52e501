"""Every backend against the brute-force oracle, on the cases that break neighbour lists."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from pointedge.potentials.neighbors import neighbor_list

from .cases import Case, assert_edges, batch, cases, named_cases, rows_of

BACKENDS = ("vesin", "matscipy", "torch")
NAMED = named_cases()
properties = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def check(structures, cutoff, backend, dtype=torch.float64):
    positions, cell, pbc, structure = batch(structures, dtype=dtype)
    given_values = [tensor.clone() for tensor in (positions, cell, pbc, structure)]
    edges = neighbor_list(positions, cell, pbc, cutoff, structure, backend=backend)
    assert_edges(edges, structures, cutoff, structure)
    for tensor, value in zip((positions, cell, pbc, structure), given_values, strict=True):
        assert torch.equal(tensor, value), "an argument was changed"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMED)
def test_named(name, backend):
    check([NAMED[name]], NAMED[name].cutoff, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=cases())
@properties
def test_random(backend, case):
    note(repr(case))
    check([case], case.cutoff, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@given(structures=st.lists(cases(largest=6), min_size=2, max_size=5))
@settings(properties, max_examples=20)
def test_random_batch(backend, structures):
    note(repr(structures))
    check(structures, min(case.cutoff for case in structures), backend)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@given(structures=st.lists(cases(largest=14), min_size=1, max_size=4))
@settings(properties, max_examples=500)
def test_random_many(backend, structures):
    note(repr(structures))
    check(structures, min(case.cutoff for case in structures), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_of_everything(backend):
    check(list(NAMED.values()), 4.0, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_in_any_order(backend):
    structures = [NAMED[name] for name in ("triclinic", "molecule", "slab-zero-vector")]
    positions, cell, pbc, structure = batch(structures)
    order = torch.randperm(len(structure), generator=torch.Generator().manual_seed(0))
    edges = neighbor_list(positions[order], cell, pbc, 4.0, structure[order], backend=backend)
    rows = rows_of(edges)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    plain = neighbor_list(positions, cell, pbc, 4.0, structure, backend=backend)
    back = order.tolist()
    assert {(back[i], back[j], *shift) for i, j, *shift in rows} == set(rows_of(plain))


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
@settings(properties, max_examples=25)
def test_images_of_atoms(backend, case, seed):
    """Moving atoms by lattice vectors changes the shifts and nothing else."""
    images = np.random.default_rng(seed).integers(-3, 4, case.positions.shape) * case.pbc
    moved = Case(case.positions + images @ case.cell, case.cell, case.pbc, case.cutoff - 1e-6)
    note(f"{case!r} moved by {images.tolist()}")
    rows = {}
    for key, one in (("moved", moved), ("plain", case)):
        positions, cell, pbc, structure = batch([one])
        rows[key] = rows_of(
            neighbor_list(positions, cell, pbc, moved.cutoff, structure, backend=backend)
        )
    back = {(i, j, *(np.array(s) - images[i] + images[j]).tolist()) for i, j, *s in rows["moved"]}
    assert back == set(rows["plain"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_single_precision_positions(backend):
    """Distances are decided in float64 for the positions that float32 can hold."""
    case = NAMED["outside-slab"]
    rounded = Case(
        case.positions.astype(np.float32), case.cell.astype(np.float32), case.pbc, case.cutoff
    )
    check([rounded], case.cutoff, backend, torch.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_search(backend):
    empty = torch.zeros(0, 3)
    none = neighbor_list(
        empty, torch.eye(3)[None], torch.ones(1, 3, dtype=torch.bool), 5.0,
        torch.zeros(0, dtype=torch.int64), backend=backend,
    )  # fmt: skip
    assert rows_of(none) == []
    positions, cell, pbc, structure = batch([NAMED["triclinic"], NAMED["molecule"]])
    wide = cell.repeat_interleave(2, dim=0), pbc.repeat_interleave(2, dim=0)
    with_gaps = neighbor_list(positions, *wide, 3.0, structure * 2 + 1, backend=backend)
    assert rows_of(with_gaps) == rows_of(
        neighbor_list(positions, cell, pbc, 3.0, structure, backend=backend)
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_positions_that_require_gradients(backend):
    positions, cell, pbc, structure = batch([NAMED["triclinic"]])
    edges = neighbor_list(
        positions.requires_grad_(), cell.requires_grad_(), pbc, 3.0, structure, backend=backend
    )
    assert not any(tensor.requires_grad for tensor in edges)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cutoff": 0.0}, "cutoff is 0.0"),
        ({"cutoff": float("inf")}, "positive finite"),
        ({"cutoff": float("nan")}, "positive finite"),
        ({"positions": torch.tensor([[0.0, 0, 0], [0, float("nan"), 0]])}, "position of atom 1"),
        ({"positions": torch.tensor([[0.0, 0, 0], [0, float("inf"), 0]])}, "position of atom 1"),
        ({"positions": torch.tensor([[0.0, 0, 0], [0, -3e5, 0]])}, "more than 65536 cells away"),
        ({"cell": torch.diag(torch.tensor([4.0, 0.0, 4.0]))[None]}, "structure 0"),
        ({"cell": torch.ones(1, 3, 3)}, "linearly dependent"),
        ({"cell": torch.full((1, 3, 3), float("nan"))}, "not finite"),
        ({"structure": torch.tensor([0, 1])}, "structure index"),
        ({"structure": torch.tensor([0])}, "shape"),
        ({"pbc": torch.ones(1, 3)}, "bool"),
        ({"positions": torch.zeros(2, 3, dtype=torch.int64)}, "float"),
    ],
)
def test_errors(change, message, backend):
    arguments = {
        "positions": torch.tensor([[0.0, 0, 0], [1, 1, 1]]),
        "cell": 4 * torch.eye(3)[None],
        "pbc": torch.ones(1, 3, dtype=torch.bool),
        "cutoff": 3.0,
        "structure": torch.zeros(2, dtype=torch.int64),
    }
    with pytest.raises(ValueError, match=message):
        neighbor_list(**(arguments | change), backend=backend)


def test_unknown_backend():
    positions, cell, pbc, structure = batch([NAMED["triclinic"]])
    with pytest.raises(ValueError, match="did you mean 'vesin'"):
        neighbor_list(positions, cell, pbc, 3.0, structure, backend="vessin")


def test_import_loads_no_backend():
    code = (
        "import sys, pointedge.potentials.neighbors; "
        "sys.exit(any(name in sys.modules for name in ('vesin', 'matscipy', 'ase', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
