"""Atoms with few neighbours or none, and smoothness where one crosses the cutoff."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.potentials.graph import Graph

from .. import structures
from . import numerics
from .common import (
    SPECIES_PAIRS,
    Battery,
)
from .numerics import DERIVATIVE, ENERGY, FORCE, predict


class Locality(Battery):
    """Atoms with few neighbours or none, and smoothness where one crosses the cutoff."""

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
        assert edges[0] > edges[1] > 30
        self.check_path(potential, frames_at, (reach, reach), "a crossing neighbour")
