"""Potentials of exact symmetry, the structures they are judged on, and their frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from pointedge.potentials.ecse.environments import Frames
from pointedge.potentials.ecse.frames import FrameSettings, make_frames
from pointedge.potentials.ecse.model import ECSE
from pointedge.potentials.ecse.scores import ScoreSettings
from pointedge.potentials.graph import Graph, random_rotations
from pointedge.potentials.pet import PET, PETConfig
from pointedge.potentials.potential import Potential

from .. import structures
from .common import lively
from .test_ecse import symmetrized
from .test_pet import PRODUCTION, variant

# One frame of few is preferred, as in the packaged model.
PREFERRED = ScoreSettings(preference=6.0, reach=3.0)
# Both methods average a network and layers: "ecse-toy" and "layers" within an inner radius, the
# others by scores.
KINDS = ("ecse-toy", "ecse-pet", "layers", "preferred")


@cache
def exact(kind: str) -> Potential:
    """One of KINDS: ECSE of a backbone, or PET with layers of exact symmetry; float64."""
    if kind == "preferred":
        return lively(layers(PREFERRED), seed=17)
    if kind == "layers":
        return variant("symmetric-layers")
    return symmetrized({"ecse-toy": "toy", "ecse-pet": "one-hop"}[kind])


def layers(settings: FrameSettings) -> PET:
    """A PET with symmetric layers, of the shape of those in the battery."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return PET(PETConfig(**{**PRODUCTION, "symmetry": "layers", "frames": settings}))


def with_settings(kind: str, **changes) -> Potential:
    """The same potential with other settings of its frames, for controls that must fail."""
    original = exact(kind)
    network, settings = original.network, replace(frame_settings(original)[1], **changes)
    if isinstance(network, ECSE):
        network = ECSE(network.backbone, network.scope, settings, network.auxiliary)
    else:
        network = layers(settings).to(torch.float64)
        network.load_state_dict(original.network.state_dict())
    return Potential(network, scale=float(original.scale))


def frame_settings(potential: Potential) -> tuple[float, FrameSettings]:
    """Cutoff and settings of the frames that a potential makes."""
    network = potential.network
    if isinstance(network, ECSE):
        return network.backbone.cutoff, network.frames
    return network.cutoff, network.config.frames


def frames_of(potential: Potential, atoms: Sequence[Atoms], **changes) -> tuple[Graph, Frames]:
    """The graph of some structures and the frames a potential makes, with settings changed."""
    cutoff, settings = frame_settings(potential)
    settings = replace(settings, **changes)
    graph = Graph.from_atoms(atoms, cutoff)
    return graph, make_frames(
        graph.edge_vectors(), graph.centers, graph.num_atoms, cutoff, settings
    )


def molecules() -> list[Atoms]:
    """Molecules of H, C, O and Si: bent, linear, planar, of high symmetry, and none of these."""
    names = ("H2O", "CO2", "CH4", "CH3OH", "OH")
    return [molecule(name) for name in names]


def water_cell() -> Atoms:
    """Four water molecules in a cube of 4.95 Å, of a liquid's density; neighbours are images too.

    Molecules sit near the sites of a face-centred lattice, turned at random.
    """
    edge = 4.95
    sites = np.array([(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]) * edge
    rng = np.random.default_rng(4)
    turns = random_rotations(len(sites), generator=torch.Generator().manual_seed(4)).numpy()
    cell = Atoms(cell=edge * np.eye(3), pbc=True)
    for site, turn in zip(sites, turns, strict=True):
        water = molecule("H2O")
        water.positions = water.positions @ turn + site + rng.normal(scale=0.1, size=3)
        cell += water
    return cell


def periodic() -> dict[str, Atoms]:
    """A liquid, a crystal in a triclinic cell and a slab whose open axis has no vector."""
    return {
        "water": water_cell(),
        "triclinic": structures.random_structure((True,) * 3, seed=7, num_atoms=5),
        "slab": structures.patterns()["TTF"],
    }
