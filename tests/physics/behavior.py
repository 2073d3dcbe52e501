"""Floating-point types, determinism, memory and devices."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from .. import structures
from . import numerics
from .common import (
    Battery,
)
from .numerics import ENERGY, FLOAT32, FORCE, predict


class Behavior(Battery):
    """Floating-point types, determinism, memory and devices."""

    def test_float32_errors_against_the_float32_difference(self, potential, frames):
        single = copy.deepcopy(potential).to(torch.float32)
        exact, rough = predict(potential, frames), predict(single, frames)
        assert rough.energy.dtype == rough.forces.dtype == rough.virial.dtype == torch.float64
        # Of the frames as they are, and moved by thousandths of an Å: the rounding of one sum, in
        # the order of one processor, is small now and then.
        draws = [frames, *([structures.rattled(a, 1e-3, k) for a in frames] for k in range(4))]
        pairs = [(predict(single, draw), predict(potential, draw)) for draw in draws]
        energy = max((one.energy - other.energy).abs().max().item() for one, other in pairs)
        force = max((one.forces - other.forces).abs().max().item() for one, other in pairs)
        # The difference itself is bounded by the roundings of some hundred operations in a row.
        bound = 100 * torch.finfo(torch.float32).eps
        assert 0 < energy <= bound * exact.energies.abs().max()
        assert 0 < force <= bound * exact.forces.abs().max()
        rng = np.random.default_rng(2)
        orders = [rng.permutation(len(a)) for a in frames]
        changed = [a[order] for a, order in zip(frames, orders, strict=True)]
        for atoms in changed:
            images = rng.integers(-2, 3, (len(atoms), 3)) * atoms.pbc
            atoms.positions += images @ np.asarray(atoms.cell) + [0.3, -0.4, 0.5]
        starts = np.cumsum([0] + [len(a) for a in frames[:-1]])
        order = np.concatenate([s + o for s, o in zip(starts, orders, strict=True)])
        after = predict(single, changed)
        alone = torch.cat([predict(single, a).forces for a in frames])
        errors = {
            "energy": (after.energy - rough.energy).abs().max().item() / energy,
            "forces": (after.forces - rough.forces[order]).abs().max().item() / force,
            "batching": (alone - rough.forces).abs().max().item() / force,
        }
        print(
            f"[float32] minus float64: {energy:.2e} eV, {force:.2e} eV/Å; errors / that: {errors}"
        )
        assert max(errors.values()) <= FLOAT32

    def test_network_type_leaves_baseline_and_scale_in_float64(self, potential, frames):
        single = copy.deepcopy(potential).to(torch.float32)
        assert single.dtype == torch.float32
        assert single.baseline.dtype == single.scale.dtype == torch.float64
        prediction = predict(single, frames)
        assert torch.equal(prediction.baseline, predict(potential, frames).baseline)
        back = single.to(torch.float64)
        difference = predict(back, frames).energy - predict(potential, frames).energy
        assert 0 < difference.abs().max() < 1e-3 * prediction.energy.abs().max()

    def test_graph_in_float32_is_judged_by_its_rounded_positions(self, potential, frames):
        """A float32 graph is the float64 graph of the rounded positions and cell."""
        graph = numerics.graph_of(potential, frames)
        rounded = graph.to(dtype=torch.float32)
        expected = potential(rounded.to(dtype=torch.float64))
        found = potential(rounded)
        # Differences of float32 positions are rounded once more, to half an epsilon of 30 Å.
        shift = 30 * torch.finfo(torch.float32).eps
        stiffness = 1000 * expected.forces.abs().max()  # of the order of the force's slope
        assert (found.forces - expected.forces).abs().max() <= stiffness * shift
        assert found.forces.dtype == torch.float64

    def test_baseline_is_apart_from_the_energy(self, potential, frames):
        prediction = predict(potential, frames)
        richer = copy.deepcopy(potential)
        richer.baseline.fill_(-5.0)
        other = predict(richer, frames)
        assert torch.equal(other.energy, prediction.energy)
        assert torch.equal(other.forces, prediction.forces)
        sizes = torch.tensor([len(a) for a in frames], dtype=torch.float64)
        assert torch.equal(other.baseline, -5.0 * sizes)
        expected = [sum(-13.6 * float(z) ** 2 for z in a.numbers) for a in frames]
        np.testing.assert_allclose(prediction.baseline.numpy(), expected, rtol=1e-14)

    def test_energy_without_derivatives_is_the_same(self, potential, frames):
        """Without derivatives faster kernels may run; they must agree."""
        with_forces = predict(potential, frames)
        without = predict(potential, frames, forces=False, virial=False)
        assert without.forces is None
        assert without.strain_gradient is None
        difference = (without.energies - with_forces.energies).abs().max()
        assert difference <= ENERGY * with_forces.energies.abs().max() * 10

    def test_same_input_same_bits(self, potential, frames):
        first, second = predict(potential, frames), predict(potential, frames)
        for part in ("energies", "energy", "forces", "strain_gradient"):
            assert torch.equal(getattr(first, part), getattr(second, part))

    def test_prediction_changes_neither_graph_nor_weights(self, potential, frames):
        graph = numerics.graph_of(potential, frames)
        tensors = {k: v.clone() for k, v in vars(graph).items() if v is not None}
        weights = {k: v.clone() for k, v in potential.state_dict().items()}
        prediction = potential(graph, virial=True)
        assert not prediction.forces.requires_grad
        assert not prediction.energy.requires_grad
        assert all(torch.equal(getattr(graph, k), v) for k, v in tensors.items())
        assert all(torch.equal(potential.state_dict()[k], v) for k, v in weights.items())
        assert all(p.grad is None for p in potential.parameters())

    def test_memory_is_linear_in_the_number_of_atoms(self, potential):
        largest, edges = [], []
        for num_atoms in (400, 1600):
            graph = numerics.graph_of(potential, structures.dimer_gas(num_atoms))
            edges.append(graph.num_edges)
            with numerics.LargestTensor() as record:
                potential(graph, virial=True)
            largest.append(record.elements)
        assert edges == [400, 1600]
        print(f"[memory] largest tensors {largest}")
        assert largest[1] <= 4 * largest[0]

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_devices_agree(self, potential, frames):
        expected = predict(potential, frames)
        moved = predict(copy.deepcopy(potential).to("cuda"), frames)
        scale = expected.energies.abs().sum()
        assert (moved.energy.cpu() - expected.energy).abs().max() <= ENERGY * scale
        difference = (moved.forces.cpu() - expected.forces).abs().max()
        assert difference <= FORCE * expected.forces.abs().max()
