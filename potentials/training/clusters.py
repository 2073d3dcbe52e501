"""Small clusters whose atoms have no frame: lone, in a line, or nearly so."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from ase import Atoms
from ase.data import covalent_radii

from ..graph import Graph
from ..spins import magnetic_moments

CLOSEST = 0.75  # of the sum of covalent radii


def sparse_clusters(
    species: Sequence[int],
    cutoff: float,
    frames: Sequence[Atoms],
    count: int,
    rng: np.random.Generator,
) -> Iterator[Atoms]:
    """Clusters with empty, collinear and nearly collinear environments, about the origin.

    Dimers and lines of any species at any distance; and atoms of the frames with up to three of
    their nearest neighbours, squeezed towards a line.
    """
    for kind in rng.choice(3, size=count, p=(0.3, 0.3, 0.4) if len(frames) else (0.5, 0.5, 0)):
        if kind == 2:
            numbers, vectors = _excerpt(frames[int(rng.integers(len(frames)))], cutoff, rng)
        else:
            numbers = rng.choice(species, size=2 if kind == 0 else rng.integers(3, 5))
            vectors = _line(numbers, cutoff, rng)
        axis = vectors[0] / np.linalg.norm(vectors[0]) if len(vectors) else np.zeros(3)
        sideways = rng.choice([0.0, rng.uniform(0, 0.3), rng.uniform(0, 1.0)])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors @ axis[:, None] * axis + sideways * (
            vectors - vectors @ axis[:, None] * axis
        )
        vectors *= lengths / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
        positions = np.concatenate([np.zeros((1, 3)), vectors])
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        atoms = Atoms(numbers, positions @ turn)
        if len(atoms) == 1 or not _clash(atoms):
            yield atoms


def _line(numbers: np.ndarray, cutoff: float, rng: np.random.Generator) -> np.ndarray:
    """Vectors from the first atom to others near an axis, on either side."""
    radii = covalent_radii[numbers]
    shortest = CLOSEST * (radii[0] + radii[1:])
    lengths = rng.uniform(shortest, np.maximum(cutoff + 0.2, shortest + 0.5))
    vectors = rng.normal(scale=0.3, size=(len(lengths), 3))
    vectors[:, 2] = rng.choice([-1.0, 1.0], size=len(lengths))
    return vectors * (lengths / np.linalg.norm(vectors, axis=1))[:, None]


def _excerpt(
    atoms: Atoms, cutoff: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """An atom's species and those of a few of its nearest neighbours, and vectors to them."""
    graph = Graph.from_atoms(atoms, cutoff)
    center = int(rng.integers(len(atoms)))
    (mine,) = torch.nonzero(graph.centers == center, as_tuple=True)
    vectors = graph.edge_vectors()[mine].numpy()
    nearest = np.argsort(np.linalg.norm(vectors, axis=1))[: rng.integers(1, 4)]
    neighbors = graph.neighbors[mine].numpy()[nearest]
    stretch = rng.uniform(0.9, 1.3, size=(len(nearest), 1))
    return atoms.numbers[np.concatenate([[center], neighbors])], stretch * vectors[nearest]


def _clash(atoms: Atoms) -> bool:
    radii = covalent_radii[atoms.numbers]
    return any(
        atoms.get_distance(i, j) < CLOSEST * (radii[i] + radii[j])
        for i, j in itertools.combinations(range(len(atoms)), 2)
    )


def magnetize(clusters: Sequence[Atoms], frames: Sequence[Atoms], rng: np.random.Generator) -> None:
    """Give atoms moments as long as one of their species in the frames, in any direction."""
    numbers = np.concatenate([atoms.numbers for atoms in frames]) if frames else np.zeros(0)
    lengths = [np.linalg.norm(magnetic_moments(atoms), axis=1) for atoms in frames]
    for atoms in clusters:
        moments = rng.normal(size=(len(atoms), 3))
        for moment, number in zip(moments, atoms.numbers, strict=True):
            known = np.concatenate(lengths)[numbers == number] if frames else []
            if not len(known):
                raise ValueError(
                    f"no frame has a magnetic moment of species {number}, which the model reads; "
                    "give frames with all its species."
                )
            moment *= rng.choice(known) / np.linalg.norm(moment)
        atoms.set_initial_magnetic_moments(moments)
