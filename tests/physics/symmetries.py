"""What must not change an energy, and how forces go along."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pointedge.potentials.graph import random_rotations

from . import numerics
from .common import (
    FRAMES,
    Battery,
)
from .numerics import ENERGY, FORCE, predict


class Symmetries(Battery):
    """What must not change an energy, and how forces go along."""

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

    def test_rotation(self, potential, frames):
        """An invariant model does not feel a rotation; any other one must show that it does."""
        graph = numerics.graph_of(potential, frames)
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
