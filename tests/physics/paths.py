"""Straight paths of one atom through the events that make, prune and swap frames.

A path moves the last atom of a structure; its event happens at offset 0. An event that is no matter
of geometry alone is searched for in the frames that the potential makes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from torch import Tensor

from pointedge.potentials.ecse.environments import Environments
from pointedge.potentials.ecse.radius import inner_radii
from pointedge.potentials.ecse.scores import ScoreSettings
from pointedge.potentials.potential import Potential

from . import exact
from .exact import frame_settings, frames_of

SCAN = 5e-3  # Å, grid of the search for events
Y = np.array([0.0, 1.0, 0.0])
OBLIQUE = np.array([0.2, 0.95, -0.24]) / np.linalg.norm([0.2, 0.95, -0.24])


@dataclass(frozen=True)
class Path:
    """A structure at the event, the direction of its last atom, and its reach both ways in Å."""

    atoms: Atoms
    direction: np.ndarray
    reach: tuple[float, float]

    def at(self, offsets: np.ndarray) -> list[Atoms]:
        """The structure with its last atom at each offset."""
        frames = [self.atoms.copy() for _ in offsets]
        for frame, offset in zip(frames, offsets, strict=True):
            frame.positions[-1] += offset * self.direction
        return frames

    def grid(self, step: float) -> np.ndarray:
        """Offsets of the whole path."""
        return np.arange(-self.reach[0], self.reach[1] + step / 2, step)

    def centred(self, states: Tensor, reach: tuple[float, float]) -> Path:
        """The same line about the point of the grid SCAN where the states (B,) change first."""
        (changes,) = torch.nonzero(states[1:] != states[:-1], as_tuple=True)
        return Path(self.at(self.grid(SCAN)[changes[:1].numpy()])[0], self.direction, reach)


# --- states of B structures of n atoms, which change at events ------------------------------------


def beyond_inner_radius(potential: Potential, atoms: list[Atoms]) -> Tensor:
    """Whether the last atom is outside the inner radius of the first, or in none of its frames."""
    graph, frames = frames_of(potential, atoms)
    cutoff, settings = frame_settings(potential)
    n = len(atoms[0])
    (edges,) = torch.nonzero((graph.centers % n == 0) & (graph.neighbors % n == n - 1)).T
    if isinstance(settings, ScoreSettings):
        return ~torch.isin(edges, torch.cat([frames.first, frames.second]))
    environments = Environments.of(graph.edge_vectors(), graph.centers, graph.num_atoms, cutoff)
    return environments.lengths[edges] > inner_radii(environments, settings)[::n]


def number_of_frames(potential: Potential, atoms: list[Atoms], **changes) -> Tensor:
    """How many frames a structure has, with settings changed, (B,)."""
    graph, frames = frames_of(potential, atoms, **changes)
    return torch.bincount(graph.structure[frames.atoms], minlength=len(atoms))


def handedness(potential: Potential, atoms: list[Atoms]) -> Tensor:
    """Weight of proper less that of improper frames of the first atom, of all its frames, (B,)."""
    graph, frames = frames_of(potential, atoms)
    first = frames.atoms % len(atoms[0]) == 0
    weights, signs = frames.weights[first], torch.linalg.det(frames.matrices[first])
    owner, zeros = graph.structure[frames.atoms[first]], weights.new_zeros(len(atoms))
    return zeros.index_add(0, owner, weights * signs) / zeros.index_add(0, owner, weights)


# --- the paths ------------------------------------------------------------------------------------


def water() -> Atoms:
    """A good pair of neighbours: oxygen at the origin, hydrogens in the plane y = 0."""
    return Atoms("OHH", positions=[(0, 0, 0), (0.76, 0, 0.59), (-0.76, 0, 0.59)])


def through(near: Atoms, point: np.ndarray, direction: np.ndarray, reach: tuple) -> Path:
    """A carbon atom that passes a point beside some atoms."""
    return Path(near + Atoms("C", positions=[point]), direction, reach)


def leaving(potential: Potential, near: Atoms) -> Path:
    """An atom leaves through the outer radius and the cutoff; at offset 0 it is at the cutoff."""
    cutoff, settings = frame_settings(potential)
    width = 1.3 if isinstance(settings, ScoreSettings) else 0.35  # of the tapers
    before = cutoff - settings.outer_radius(cutoff) + width
    return through(near, cutoff * OBLIQUE, OBLIQUE, (before, 0.1))


def leaving_a_pair(potential: Potential) -> Path:
    return leaving(potential, water())


def leaving_a_line(potential: Potential) -> Path:
    """Without the atom that leaves there is no good pair, and no frame."""
    return leaving(potential, Atoms("OHH", positions=[(0, 0, 0), (0, 0, 0.96), (0, 0, -0.96)]))


def collinear(potential: Potential) -> Path:
    """The angle of two neighbours goes through 180°, beside a third one in general position."""
    near = Atoms("OHSi", positions=[(0, 0, 0), (0, 0, -0.96), (1.5, 0.6, 0.4)])
    return through(near, np.array([0, 0, 1.2]), Y, (0.7, 0.7))


def linear_molecule(potential: Potential) -> Path:
    """CO2 bends through 180°: no atom has a frame there."""
    return Path(molecule("CO2"), Y, (0.2, 0.9))


def inner_radius(potential: Potential) -> Path:
    start = through(water(), 1.2 * OBLIQUE, OBLIQUE, (0.2, 0.6))
    states = beyond_inner_radius(potential, start.at(start.grid(SCAN)))
    return start.centred(states, (0.35, 0.1))


def pruned(potential: Potential) -> Path:
    """A pair opens from a line, until its frames are no longer far below the others."""
    start = through(water(), np.array([-0.59, 0.25, -0.46]), Y, (0.0, 0.5))
    states = number_of_frames(potential, start.at(start.grid(SCAN)))
    return start.centred(states, (0.1, 0.3))


def swap(potential: Potential) -> Path:
    """The mean vector passes the plane of a pair: a frame and its mirror image change roles."""
    near = water() + Atoms("Si", positions=[(1.3, 0.3, -1.3)])
    start = through(near, np.array([-0.5, 0, -1.1]), Y, (0.6, 0.6))
    states = handedness(potential, start.at(start.grid(SCAN)))
    return start.centred(states > 0, (0.8, 0.8))


def dimer(potential: Potential) -> Path:
    cutoff = potential.cutoff
    atoms = Atoms("OH", positions=[np.zeros(3), cutoff * OBLIQUE])
    return Path(atoms, OBLIQUE, (cutoff - 0.8, 0.1))


def trimer(potential: Potential) -> Path:
    """Water loses a hydrogen."""
    atoms = water()
    direction = atoms.positions[2] / np.linalg.norm(atoms.positions[2])
    atoms.positions[2] = potential.cutoff * direction
    return Path(atoms, direction, (potential.cutoff - 0.8, 0.1))


def periodic(potential: Potential, name: str) -> Path:
    """An atom of a periodic structure moves until the number of all frames changes."""
    start = Path(exact.periodic()[name], OBLIQUE, (0.0, 0.9))
    states = number_of_frames(potential, start.at(start.grid(SCAN)))
    return start.centred(states, (0.06, 0.06))


PATHS = {
    f.__name__: f
    for f in (
        leaving_a_pair,
        leaving_a_line,
        collinear,
        linear_molecule,
        inner_radius,
        pruned,
        dimer,
        trimer,
    )
}
