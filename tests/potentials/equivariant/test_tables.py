"""Irreps as text, harmonics and coupling coefficients against e3nn, and checkpoints without it."""

from __future__ import annotations

import sys

import pytest
import torch
from e3nn import o3

from pointedge.potentials import checkpoint
from pointedge.potentials.equivariant.convolution import ConvolutionConfig, EquivariantConvolution
from pointedge.potentials.equivariant.irreps import SCALAR, Irrep, Irreps
from pointedge.potentials.equivariant.tables import Tables
from pointedge.potentials.graph import Graph
from pointedge.potentials.potential import Potential

from ... import structures

PATHS = [(0, 0, 0), (1, 1, 2), (2, 1, 1), (2, 2, 3), (3, 2, 1)]
ROUNDING = 1e-14


def tables() -> Tables:
    return Tables(3, PATHS)


def small(**changes) -> EquivariantConvolution:
    settings = {"species": structures.SPECIES, "cutoff": 3.0, "irreps": "4x0e+2x1o", "lmax": 1}
    return EquivariantConvolution(ConvolutionConfig(**{**settings, **changes}))


def test_irreps_are_read_and_written():
    irreps = Irreps.parse("16x1o + 8x0e+2e + 8x0e")
    assert str(irreps) == "16x0e + 16x1o + 1x2e"
    assert (irreps.dim, irreps.lmax, irreps[SCALAR]) == (16 + 48 + 5, 2, 16)
    assert Irreps.parse(str(irreps)) == irreps
    assert [str(x) for x in Irrep.parse("1o") * Irrep.parse("2e")] == ["1o", "2o", "3o"]


@pytest.mark.parametrize(
    ("text", "part"), [("8x0e + 4x1", "4x1"), ("8*0e", "8*0e"), ("", ""), ("3x-1o", "3x-1o")]
)
def test_misspelt_irreps_are_quoted(text, part):
    with pytest.raises(ValueError, match="is no irrep") as error:
        Irreps.parse(text)
    assert repr(part) in str(error.value)
    with pytest.raises(ValueError, match="have no feature"):
        Irreps.parse("0x0e")


def test_harmonics_are_those_of_e3nn():
    points = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = points / points.norm(dim=1, keepdim=True)
    for degree, found in enumerate(tables().harmonics(points)):
        expected = o3.spherical_harmonics(degree, points, True, "component")
        torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)


def test_symbols_are_those_of_e3nn():
    for path in PATHS:
        expected = o3.wigner_3j(*path, dtype=torch.float64)
        torch.testing.assert_close(tables().coupling(path), expected, rtol=0, atol=ROUNDING)


def test_tables_keep_their_precision():
    table = tables()
    before = table.coupling((1, 1, 2)).clone()
    assert torch.equal(table.to(torch.float32).to(torch.float64).coupling((1, 1, 2)), before)


def test_quadrupoles_are_the_harmonics_as_matrices():
    points = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    points = points / points.norm(dim=1, keepdim=True)
    matrices = tables().quadrupoles(torch.float64)
    found = torch.einsum("nx,mxy,ny->nm", points, matrices, points)
    torch.testing.assert_close(found, tables().harmonics(points)[2], rtol=0, atol=ROUNDING)
    assert matrices.diagonal(dim1=1, dim2=2).sum(-1).abs().max() < ROUNDING


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_checkpoint_keeps_the_type_of_its_weights(tmp_path, dtype):
    checkpoint.save(Potential(small().to(dtype)), tmp_path / "model.safetensors")
    found = checkpoint.load(tmp_path / "model.safetensors")
    assert {p.dtype for p in found.network.parameters()} == {dtype}
    assert found.network.tables.coupling((0, 1, 1)).dtype == torch.float64


def test_a_checkpoint_needs_no_e3nn(tmp_path, monkeypatch):
    potential = Potential(small().to(torch.float64))
    graph = Graph.from_atoms(structures.patterns()["TTT"], 3.0)
    expected = potential(graph)
    checkpoint.save(potential, tmp_path / "model.safetensors")
    monkeypatch.setitem(sys.modules, "e3nn", None)
    found = checkpoint.load(tmp_path / "model.safetensors")(graph)
    torch.testing.assert_close(found.forces, expected.forces, rtol=0, atol=ROUNDING)
    with pytest.raises(ImportError, match="which is not installed; run `pip install e3nn`"):
        Potential(small())(graph)
