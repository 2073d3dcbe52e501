"""Tests of a potential's physics, the same for every architecture.

Inherit :class:`PotentialBattery` in a class named ``Test...`` and give it one fixture,
``potential`` (float64, random weights, see :func:`lively`); the tests only read it.
"""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.potentials.graph import Graph, random_rotations
from pointedge.potentials.potential import Potential

from .. import structures
from . import numerics
from .numerics import DERIVATIVE, ENERGY, FLOAT32, FORCE, check_derivative, check_equal, predict

FRAMES = {**structures.patterns(), **structures.awkward()}
EVERY_FRAME = pytest.mark.parametrize("name", FRAMES)
SPECIES_PAIRS = list(itertools.combinations_with_replacement(structures.SPECIES, 2))
SYMMETRIC_STRAINS = [np.zeros((3, 3)) for _ in range(6)]
for strain, (i, j) in zip(
    SYMMETRIC_STRAINS, [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)], strict=True
):
    strain[i, j] = strain[j, i] = 1.0
GENERAL_STRAINS = [np.eye(9)[k].reshape(3, 3) for k in range(9)]


def lively(network: torch.nn.Module, seed: int, **options) -> Potential:
    """A float64 potential of random weights whose forces are of the order of 1 eV/Å.

    Every parameter is drawn anew, whatever the architecture's own initialisation: none (a bias, a
    norm) sits at a value for which an error would not show.
    """
    network = network.to(torch.float64)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for module in network.modules():
            norm = "Norm" in type(module).__name__
            for name, parameter in module.named_parameters(recurse=False):
                noise = torch.randn_like(parameter)
                if isinstance(module, torch.nn.Embedding):
                    parameter.copy_(noise)
                elif parameter.ndim < 2:
                    parameter.copy_(0.3 * noise + (1 if norm and name == "weight" else 0))
                else:
                    parameter.copy_(noise / parameter.shape[-1] ** 0.5)
    forces = predict(Potential(network), list(FRAMES.values())).forces
    baseline = {z: -13.6 * z**2 for z in structures.SPECIES}
    return Potential(network, baseline, scale=float(1 / forces.square().mean().sqrt()), **options)


class PotentialBattery:
    """All tests that a potential must pass.

    Attributes:
        invariant: the energy does not change under any rotation or inversion.
        smooth: the force's slope is continuous; otherwise (C1 cutoff) it may jump at
            the cutoff, where the architecture's own tests compare the jump with its formula.
        curvature: autograd's second derivative of the energy in positions is exact.
        width: of the taper inside the cutoff, Å.
        inward: how far inside the cutoff a dimer's path starts, Å.
    """

    invariant = False
    smooth = True
    curvature = True
    width = 0.5
    inward = 0.3

    @pytest.fixture
    def potential(self) -> Potential:
        raise NotImplementedError("a battery needs a fixture named potential")

    @pytest.fixture
    def frames(self) -> list[Atoms]:
        return [atoms.copy() for atoms in FRAMES.values()]

    def same(self, potential, what, frames, changed, orders=None, strain=True):
        """Assert that changed structures have the same energies, forces and strain gradients."""
        expected = predict(potential, frames)
        if orders is not None:
            starts = np.cumsum([0] + [len(a) for a in frames[:-1]])
            every = [start + order for start, order in zip(starts, orders, strict=True)]
            expected = numerics.permuted(expected, np.concatenate(every))
        check_equal(what, predict(potential, changed), expected, frames, potential.cutoff, strain)

    # --- derivatives ------------------------------------------------------------------------------

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
        graph = Graph.from_atoms(frames, potential.cutoff, inputs=potential.inputs)
        expected = potential(graph, virial=True)
        strain = torch.zeros(graph.num_structures, 3, 3, dtype=torch.float64, requires_grad=True)
        deformation = torch.eye(3, dtype=torch.float64) + strain
        positions = graph.positions.clone().requires_grad_()
        bent = copy.copy(graph)
        object.__setattr__(bent, "cell", graph.cell @ deformation)
        object.__setattr__(
            bent, "positions", torch.einsum("nx,nxy->ny", positions, deformation[graph.structure])
        )
        energy = potential.atomic_energies(bent, bent.edge_vectors()).sum()
        gradient, strain_gradient = torch.autograd.grad(energy, (positions, strain))
        tolerance = FORCE * expected.forces.abs().max()
        assert (gradient + expected.forces).abs().max() <= tolerance
        assert (strain_gradient - expected.strain_gradient).abs().max() <= (
            FORCE * expected.strain_gradient.abs().max()
        )

    def test_gradient_in_the_weights_is_the_finite_difference(self, potential, frames):
        """Training differentiates energies, forces and virials once more, in the weights."""
        graph = Graph.from_atoms(frames, potential.cutoff, inputs=potential.inputs)
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

    # --- invariances ------------------------------------------------------------------------------

    def test_translation(self, potential, frames):
        shift = np.array([0.37, -1.21, 2.93])
        changed = [a.copy() for a in frames]
        for atoms in changed:
            atoms.positions += shift
        self.same(potential, "translation", frames, changed)

    def test_permutation(self, potential, frames):
        rng = np.random.default_rng(0)
        orders = [rng.permutation(len(a)) for a in frames]
        changed = [a[order] for a, order in zip(frames, orders, strict=True)]
        self.same(potential, "permutation", frames, changed, orders)

    def test_lattice_images_of_single_atoms(self, potential, frames):
        rng = np.random.default_rng(1)
        changed = [a.copy() for a in frames]
        for atoms in changed:
            images = rng.integers(-2, 3, (len(atoms), 3)) * atoms.pbc
            atoms.positions += images @ np.asarray(atoms.cell)
        self.same(potential, "lattice images", frames, changed)

    def test_wrapping(self, potential, frames):
        changed = [a.copy() for a in frames]
        for atoms in changed:
            cell = numerics.completed_cell(atoms)
            images = np.floor(np.linalg.solve(cell.T, atoms.positions.T).T) * atoms.pbc
            atoms.positions -= images @ np.asarray(atoms.cell)
        self.same(potential, "wrapping", frames, changed)

    def test_equivalent_cells(self, potential, frames):
        """Adding periodic lattice vectors to one another describes the same crystal."""
        changed = [a.copy() for a in frames]
        for atoms in changed:
            cell = np.array(atoms.cell)
            axes = np.flatnonzero(atoms.pbc)
            for k, axis in enumerate(axes[1:]):
                cell[axis] += (2 if k else -1) * cell[axes[k]]
            atoms.set_cell(cell)
        self.same(potential, "equivalent cells", frames, changed)

    @pytest.mark.parametrize("vector", [(0, 0, 0), (0.3, 0.1, 0.2), (40, 1, -7)])
    def test_vectors_of_open_axes_do_not_matter(self, potential, frames, vector):
        changed = [a.copy() for a in frames]
        for atoms in changed:
            cell = np.array(atoms.cell)
            cell[~atoms.pbc] = vector
            atoms.set_cell(cell)
        self.same(potential, "open axes", frames, changed)

    def test_supercells(self, potential, frames):
        frames = [a for a in frames if a.pbc.any()]
        repeats = [tuple(np.where(a.pbc, (2, 1, 3), 1)) for a in frames]
        large = [a.repeat(r) for a, r in zip(frames, repeats, strict=True)]
        small = predict(potential, frames)
        total = predict(potential, large)
        at_small = at_large = 0
        for b, atoms in enumerate(frames):
            copies = int(np.prod(repeats[b]))
            mine = slice(at_small, at_small + len(atoms))
            theirs = total.forces[at_large : at_large + copies * len(atoms)]
            at_small, at_large = mine.stop, at_large + copies * len(atoms)
            difference = (total.energy[b] - copies * small.energy[b]).abs()
            assert difference <= ENERGY * copies * small.energies[mine].abs().sum()
            scale = numerics.force_scale(small, mine, b, potential.cutoff)
            expected = small.forces[mine].repeat(copies, 1)
            assert (theirs - expected).abs().max() <= FORCE * scale
            strain = total.strain_gradient[b] - copies * small.strain_gradient[b]
            assert strain.abs().max() <= FORCE * copies * scale * potential.cutoff

    def test_copies_far_apart_add_up(self, potential, frames):
        frames = [a for a in frames if not a.pbc.all()]
        pairs = []
        for atoms in frames:
            other = atoms.copy()
            other.positions += 50 * numerics.normals(atoms)[0]
            pairs.append(atoms + other)
        one = predict(potential, frames)
        two = predict(potential, pairs)
        start = 0
        for b, atoms in enumerate(frames):
            mine = slice(start, start + len(atoms))
            theirs = two.forces[2 * start : 2 * mine.stop]
            start = mine.stop
            total = one.energies[mine].abs().sum()
            assert (two.energy[b] - 2 * one.energy[b]).abs() <= ENERGY * 2 * total
            scale = numerics.force_scale(one, mine, b, potential.cutoff)
            assert (theirs - one.forces[mine].repeat(2, 1)).abs().max() <= FORCE * scale

    def test_batch_equals_each_alone(self, potential, frames):
        together = predict(potential, frames)
        start = 0
        for b, atoms in enumerate(frames):
            alone = predict(potential, atoms)
            mine = slice(start, start + len(atoms))
            start = mine.stop
            total = alone.energies.abs().sum()
            scale = numerics.force_scale(alone, slice(None), 0, potential.cutoff)
            assert (together.energy[b] - alone.energy[0]).abs() <= ENERGY * total
            assert (together.forces[mine] - alone.forces).abs().max() <= FORCE * scale
            strain = together.strain_gradient[b] - alone.strain_gradient[0]
            assert strain.abs().max() <= FORCE * scale * potential.cutoff

    def test_no_force_on_another_structure_of_the_batch(self, potential, frames):
        frames.insert(0, frames.pop(list(FRAMES).index("TTT")))
        moved = [a.copy() for a in frames]
        moved[0].positions[0] += 0.1
        before, after = predict(potential, frames), predict(potential, moved)
        first = len(frames[0])
        scale = before.forces[first:].abs().max()
        assert (after.forces[:first] - before.forces[:first]).abs().max() > 1e-3 * scale
        assert (after.forces[first:] - before.forces[first:]).abs().max() <= FORCE * scale

    def test_total_force_vanishes(self, potential, frames):
        prediction = predict(potential, frames)
        total = torch.zeros(len(frames), 3, dtype=torch.float64)
        sizes = torch.tensor([len(a) for a in frames])
        total.index_add_(0, torch.repeat_interleave(sizes), prediction.forces)
        assert total.abs().max() <= FORCE * prediction.forces.abs().max()

    # --- rotations --------------------------------------------------------------------------------

    def test_rotation(self, potential, frames):
        """An invariant model does not feel a rotation; any other one must show that it does."""
        graph = Graph.from_atoms(frames, potential.cutoff, inputs=potential.inputs)
        generator = torch.Generator().manual_seed(7)
        turn = random_rotations(len(frames), generator=generator)
        assert (torch.linalg.det(turn) < 0).any()
        assert (torch.linalg.det(turn) > 0).any()
        before = potential(graph, virial=True)
        after = potential(graph.rotated(turn), virial=True)
        back = torch.einsum("nx,nyx->ny", after.forces, turn[graph.structure])
        strain = turn @ after.strain_gradient @ turn.transpose(1, 2)
        energy = (after.energy - before.energy).abs().max() / before.energies.abs().sum()
        force = (back - before.forces).abs().max() / before.forces.abs().max()
        virial = before.strain_gradient.abs().max()
        stress = (strain - before.strain_gradient).abs().max() / virial
        torque = before.torque.abs().max() / virial
        print(f"[rotation] energy {energy:.1e} forces {force:.1e} torque {torque:.1e}")
        if self.invariant:
            assert energy <= ENERGY
            assert max(force, stress, torque) <= FORCE
        else:
            assert energy > 1e-6
            assert min(force, stress, torque) > 1e-3

    # --- few or no neighbours ---------------------------------------------------------------------

    def test_isolated_atoms_feel_nothing(self, potential):
        for number in structures.SPECIES:
            prediction = predict(potential, structures.isolated_atom(number))
            assert torch.isfinite(prediction.energy).all()
            assert torch.equal(prediction.forces, torch.zeros(1, 3, dtype=torch.float64))
            assert torch.equal(prediction.virial, torch.zeros(1, 3, 3, dtype=torch.float64))

    def test_a_batch_without_any_edge(self, potential):
        alone = [structures.isolated_atom(z) for z in structures.SPECIES]
        alone += structures.dimers((6, 8), np.array([2 * potential.cutoff]))
        alone.append(Atoms("C", cell=3 * potential.cutoff * np.eye(3), pbc=True))
        prediction = predict(potential, alone)
        assert Graph.from_atoms(alone, potential.cutoff).num_edges == 0
        assert not prediction.forces.any()
        assert not prediction.strain_gradient.any()
        single = [predict(potential, a).energy for a in alone]
        assert (prediction.energy - torch.cat(single)).abs().max() <= (
            ENERGY * prediction.energies.abs().max()
        )

    def test_an_isolated_atom_beside_others_in_a_batch(self, potential, frames):
        self.same(potential, "reference", frames, frames)
        both = predict(potential, [structures.isolated_atom(14), *frames])
        expected = predict(potential, frames)
        assert torch.equal(both.forces[0], torch.zeros(3, dtype=torch.float64))
        difference = (both.forces[1:] - expected.forces).abs().max()
        assert difference <= FORCE * expected.forces.abs().max()

    # --- smoothness at the cutoff -----------------------------------------------------------------

    def check_path(self, potential, frames_at, reach, what):
        """Energy, slope and curvature along a path belong together and do not jump.

        ``frames_at(offsets)`` gives structures whose last atom moves along a line; at offset 0 a
        pair lies on the cutoff. The finest of several steps counts, as in a scan of differences.
        """
        for step in (1e-3, 5e-4, 2.5e-4):
            inside, outside = (4 * round(r / step / 4) for r in reach)
            offsets = step * np.arange(-inside, outside + 1)
            frames = frames_at(offsets)
            direction = frames[-1].positions[-1] - frames[0].positions[-1]
            direction /= np.linalg.norm(direction)
            energy, slope, curvature = numerics.along(potential, frames, direction)
            if not self.curvature:
                curvature = numerics.numeric_slope(slope, step)
            middle = offsets[2::4]
            first = np.abs(numerics.panel_errors(energy, slope, step)) / np.abs(slope).max()
            second = numerics.panel_errors(slope[4:-4], curvature[4:-4], step)
            second = np.abs(second) / np.abs(curvature[4:-4]).max()
            if not self.smooth:
                second[np.abs(middle[1:-1]) < 2.5 * step] = 0  # the panels that meet at the cutoff
            if max(first.max(), second.max()) <= DERIVATIVE:
                break
        numerics.report(f"energy along {what}", first.max(), DERIVATIVE)
        numerics.report(f"force along {what}", second.max(), DERIVATIVE)
        assert first.max() <= DERIVATIVE, (
            f"energy jumps or force is wrong at {middle[first.argmax()]}"
        )
        assert second.max() <= DERIVATIVE, (
            f"force or its slope jumps at {middle[second.argmax() + 1]}"
        )
        return offsets, energy, slope, curvature

    @pytest.mark.parametrize("pair", SPECIES_PAIRS, ids=str)
    def test_dimer_pulled_through_the_cutoff(self, potential, pair):
        def frames_at(offsets):
            return structures.dimers(pair, potential.cutoff + offsets)

        offsets, energy, slope, curvature = self.check_path(
            potential, frames_at, (self.inward, 0.2), f"dimer {pair}"
        )
        beyond = offsets > 1e-9
        assert not slope[beyond].any()
        assert not curvature[beyond][4:].any()
        alone = sum(predict(potential, structures.isolated_atom(z)).energies.abs() for z in pair)
        assert np.ptp(energy[beyond]) <= ENERGY * float(alone)
        assert np.abs(slope).max() > 1e-2  # eV/Å: there is something to be smooth
        # Just inside the cutoff nothing is left either, for f and f' vanish there.
        edge = frames_at(1e-9 * np.array([-1, 1]))
        near, force, _ = numerics.along(potential, edge, edge[0].positions[1] / potential.cutoff)
        assert abs(near[0] - near[1]) <= ENERGY * float(alone)
        assert np.abs(force).max() <= DERIVATIVE * np.abs(slope).max()

    def test_a_neighbour_crosses_the_cutoff_in_a_dense_environment(self, potential):
        clear = () if self.smooth else (potential.cutoff, potential.cutoff - self.width)
        reach = 0.06 if self.smooth else 0.02

        def frames_at(offsets):
            return structures.crossing(potential.cutoff, offsets, clear)

        ends = frames_at(np.array([-reach, reach]))
        edges = [Graph.from_atoms(a, potential.cutoff).num_edges for a in ends]
        assert edges[0] > edges[1] > 40
        self.check_path(potential, frames_at, (reach, reach), "a crossing neighbour")

    # --- numbers ----------------------------------------------------------------------------------

    def test_float32_errors_against_the_float32_difference(self, potential, frames):
        single = copy.deepcopy(potential).with_dtype(torch.float32)
        exact, rough = predict(potential, frames), predict(single, frames)
        assert rough.energy.dtype == rough.forces.dtype == rough.virial.dtype == torch.float64
        energy = (rough.energy - exact.energy).abs().max().item()
        force = (rough.forces - exact.forces).abs().max().item()
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
        single = copy.deepcopy(potential).with_dtype(torch.float32)
        assert single.dtype == torch.float32
        assert single.baseline.dtype == single.scale.dtype == torch.float64
        prediction = predict(single, frames)
        assert torch.equal(prediction.baseline, predict(potential, frames).baseline)
        back = single.with_dtype(torch.float64)
        difference = predict(back, frames).energy - predict(potential, frames).energy
        assert 0 < difference.abs().max() < 1e-3 * prediction.energy.abs().max()

    def test_graph_in_float32_is_judged_by_its_rounded_positions(self, potential, frames):
        """A float32 graph is the float64 graph of the rounded positions and cell."""
        graph = Graph.from_atoms(frames, potential.cutoff, inputs=potential.inputs)
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
        graph = Graph.from_atoms(frames, potential.cutoff, inputs=potential.inputs)
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
            graph = Graph.from_atoms(
                structures.dimer_gas(num_atoms), potential.cutoff, inputs=potential.inputs
            )
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
