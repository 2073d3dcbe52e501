"""Precision: what autocast and TF32 change, what they leave alone, and the check that says so."""

from __future__ import annotations

import copy

import pytest
import torch
from ase.build import molecule

from pointedge.potentials import checkpoint
from pointedge.potentials.graph import Graph
from pointedge.potentials.potential import Potential
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.data import labelled
from pointedge.potentials.training.precision import (
    autocast,
    check_precision,
    matrix_products,
    refuse_elsewhere,
)
from pointedge.potentials.training.reading import read_frames
from pointedge.potentials.training.run import train

from ...networks import tiny_pet

SPECIES, CUTOFF = (1, 6, 7, 8), 3.0
BF16 = torch.finfo(torch.bfloat16).eps  # of a product of matrices; a network multiplies it by some


def potential(kind="pet", **settings):
    if kind == "pet":
        network = tiny_pet(1, species=SPECIES, cutoff=CUTOFF, **settings)
    else:
        torch.manual_seed(0)
        network = checkpoint.architecture(kind).from_config({"species": SPECIES, **settings})
    return Potential(network, {1: -13.0, 8: -430.0}, repulsion=True).to(torch.float32)


def weight_gradients(model, precision):
    """Gradients of a loss of forces: second derivatives."""
    graph = Graph.from_atoms([molecule("H2O"), molecule("CH4")], model.cutoff)
    with autocast(precision, "cpu"):
        prediction = model(graph, create_graph=True)
    parameters = list(model.network.parameters())
    found = torch.autograd.grad(prediction.forces.square().sum(), parameters, allow_unused=True)
    kept = [g for g in found if g is not None]
    return prediction, torch.cat([g.flatten().double() for g in kept])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("pet", {}),
        ("pet", {"symmetry": "layers", "properties": ("energy", "dipole")}),
        ("pet", {"featurizer": "residual", "transformer_type": "postln"}),
        ("mace", {"irreps": "4x0e + 4x1o", "lmax": 1, "radial_width": 8}),
        ("nequip", {"irreps": "4x0e + 4x1o", "num_layers": 2, "radial_width": 8}),
    ],
)
def test_second_derivatives_in_bfloat16_are_those_of_float64_to_its_accuracy(kind, settings):
    rough = potential(kind, **settings)
    exact = copy.deepcopy(rough).to(torch.float64)
    prediction, gradient = weight_gradients(rough, "bf16")
    reference, expected = weight_gradients(exact, "float32")
    assert prediction.forces.dtype == prediction.energy.dtype == torch.float64
    assert all(p.dtype == torch.float32 for p in rough.parameters())
    error = (prediction.forces - reference.forces).norm() / reference.forces.norm()
    assert 1e-6 < error < 20 * BF16, "it was used, and is as accurate as it can be"
    assert (gradient - expected).norm() / expected.norm() < 40 * BF16


def test_the_check_reports_what_a_precision_costs(resolved, tmp_path):
    frames = [
        labelled(a, resolved.data, CUTOFF, ()) for a in read_frames(resolved.data.train, tmp_path)
    ]
    model, lines = potential(), []
    energy, forces = check_precision(model, frames, "bf16", lines.append)
    assert "precision bf16, against float64 in 4 training frames" in lines[0]
    assert "meV/Å" in lines[0]
    single = check_precision(model, frames, "float32", lines.append)
    assert energy > 10 * single[0]
    assert forces > 10 * single[1] > 0
    assert check_precision(model, frames, "float64", lines.append) is None
    assert model.dtype == torch.float32


def test_tf32_is_refused_without_its_gpu_and_switched_on_for_a_while():
    with pytest.raises(ValueError, match="tf32 is a format of NVIDIA GPUs, and the device is cpu"):
        refuse_elsewhere("tf32", "cpu")
    refuse_elsewhere("tf32", "cuda:0")
    before = torch.get_float32_matmul_precision()
    with matrix_products("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="TF32 needs a GPU")
def test_tf32_on_a_gpu(resolved, tmp_path):
    frames = [
        labelled(a, resolved.data, CUTOFF, ()) for a in read_frames(resolved.data.train, tmp_path)
    ]
    model = potential().to("cuda")
    rough = check_precision(model, frames, "tf32", lambda line: None)
    single = check_precision(model, frames, "float32", lambda line: None)
    assert rough[1] > single[1]


@pytest.mark.parametrize("precision", ["bf16", "float64"])
def test_a_run_in_another_precision(config, tmp_path, precision):
    config["optimization"].update(precision=precision, max_epochs=3)
    before = torch.get_float32_matmul_precision(), torch.get_default_dtype()
    lines = []
    best = train(
        TrainingConfig.from_dict(config), tmp_path / "run", folder=tmp_path, report=lines.append
    )
    assert best.dtype == (torch.float64 if precision == "float64" else torch.float32)
    assert any(line.startswith("precision bf16") for line in lines) == (precision == "bf16")
    found = [float(x.split("forces ")[1].split()[0]) for x in lines if x.startswith("epoch")]
    assert found[-1] < found[0]
    assert (torch.get_float32_matmul_precision(), torch.get_default_dtype()) == before
    assert not torch.is_autocast_enabled("cpu")
