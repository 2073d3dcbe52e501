"""Forces, strain derivatives and weight gradients against finite differences."""

from __future__ import annotations

import copy

import numpy as np
import torch

from . import numerics
from .common import (
    EVERY_FRAME,
    FRAMES,
    GENERAL_STRAINS,
    SYMMETRIC_STRAINS,
    Battery,
)
from .numerics import DERIVATIVE, FORCE, check_derivative, predict


class Derivatives(Battery):
    """Forces, strain derivatives and weight gradients against finite differences."""

    @EVERY_FRAME
    def test_forces_are_the_finite_difference(self, potential, name):
        atoms = FRAMES[name]
        prediction = predict(potential, atoms)
        scale = numerics.force_scale(prediction, slice(None), 0, potential.cutoff)
        check_derivative(
            f"forces of {name}",
            potential,
            lambda x: numerics.moved(atoms, x),
            -prediction.forces.numpy(),
            scale,
        )

    @EVERY_FRAME
    def test_strain_gradient_is_the_finite_difference(self, potential, name):
        check_derivative(
            f"strain gradient of {name}",
            potential,
            lambda x: numerics.strained(FRAMES[name], GENERAL_STRAINS, x),
            predict(potential, FRAMES[name]).strain_gradient.numpy(),
        )

    @EVERY_FRAME
    def test_virial_is_the_finite_difference(self, potential, name):
        virial = predict(potential, FRAMES[name]).virial[0].numpy()
        # A symmetric strain moves both off-diagonal elements, and so meets both halves.
        expected = np.array([(virial * strain).sum() for strain in SYMMETRIC_STRAINS])
        check_derivative(
            f"virial of {name}",
            potential,
            lambda x: numerics.strained(FRAMES[name], SYMMETRIC_STRAINS, x),
            expected,
        )

    def test_forces_and_strain_by_autograd_through_positions_and_cell(self, potential, frames):
        graph = numerics.graph_of(potential, frames)
        expected = potential(graph, virial=True)
        strain = torch.zeros(graph.num_structures, 3, 3, dtype=torch.float64, requires_grad=True)
        deformation = torch.eye(3, dtype=torch.float64) + strain
        positions = graph.positions.clone().requires_grad_()
        bent = copy.copy(graph)
        object.__setattr__(bent, "cell", graph.cell @ deformation)
        object.__setattr__(
            bent, "positions", torch.einsum("nx,nxy->ny", positions, deformation[graph.structure])
        )
        energy = potential.atomic_properties(bent, bent.edge_vectors())["energy"].sum()
        gradient, strain_gradient = torch.autograd.grad(energy, (positions, strain))
        tolerance = FORCE * expected.forces.abs().max()
        assert (gradient + expected.forces).abs().max() <= tolerance
        assert (strain_gradient - expected.strain_gradient).abs().max() <= (
            FORCE * expected.strain_gradient.abs().max()
        )

    def test_gradient_in_the_weights_is_the_finite_difference(self, potential, frames):
        """Training differentiates energies, forces and virials once more, in the weights."""
        graph = numerics.graph_of(potential, frames)
        generator = torch.Generator().manual_seed(3)
        weights = {k: p.detach().clone() for k, p in potential.named_parameters()}
        direction = {
            k: torch.randn(p.shape, dtype=p.dtype, generator=generator) for k, p in weights.items()
        }
        first = potential(graph, virial=True)
        parts = ("energies", "forces", "strain_gradient")
        probes = {
            k: torch.randn(getattr(first, k).shape, dtype=torch.float64, generator=generator)
            for k in parts
        }

        def loss(values):
            prediction = torch.func.functional_call(
                potential, values, (graph,), {"virial": True, "create_graph": True}
            )
            return sum((getattr(prediction, k) * probes[k]).sum() for k in parts)

        leaves = {k: w.clone().requires_grad_() for k, w in weights.items()}
        gradients = torch.autograd.grad(loss(leaves), list(leaves.values()), allow_unused=True)
        exact = sum(
            (g * d).sum().item()
            for g, d in zip(gradients, direction.values(), strict=True)
            if g is not None
        )
        errors = []
        for step in (1e-4, 3e-5, 3e-4):
            value = {
                k: loss({n: weights[n] + k * step * direction[n] for n in weights}).item()
                for k in (-2, -1, 1, 2)
            }
            numeric = (value[-2] - 8 * value[-1] + 8 * value[1] - value[2]) / (12 * step)
            errors.append(abs(numeric - exact) / abs(exact))
        numerics.report("gradient in the weights", min(errors), DERIVATIVE)
        assert min(errors) <= DERIVATIVE
