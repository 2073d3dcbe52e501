"""The slow, readable reference of all neighbour lists: every pair, every image in reach."""

from __future__ import annotations

import itertools

import numpy as np

# Pairs this close to the cutoff (Å) may be listed or not: rounding decides.
MARGIN = 1e-9


def brute_force(positions, cell, pbc, cutoff):
    """Return {(i, j, S1, S2, S3): distance} of all pairs closer than cutoff + MARGIN.

    The difference vector r_j - r_i has coordinate f_k along the periodic vector a_k, where f is its
    product with the dual vectors (pseudo-inverse of the periodic vectors), and |f_k + S_k| is at
    most |dual_k| × cutoff for every image within the cutoff. All images in that range are tried.
    """
    positions = np.asarray(positions, dtype=np.float64)
    periodic = np.flatnonzero(pbc)
    vectors = np.asarray(cell, dtype=np.float64)[periodic].reshape(-1, 3)
    duals = np.linalg.pinv(vectors) if len(periodic) else np.zeros((3, 0))
    reach = np.linalg.norm(duals, axis=0) * (cutoff + MARGIN)
    edges = {}
    for i, j in itertools.product(range(len(positions)), repeat=2):
        difference = positions[j] - positions[i]
        coordinates = difference @ duals
        lowest = np.floor(-coordinates - reach).astype(int)
        highest = np.ceil(-coordinates + reach).astype(int)
        ranges = [np.arange(low, high + 1) for low, high in zip(lowest, highest, strict=True)]
        images = list(itertools.product(*ranges))
        images = np.array(images, dtype=int).reshape(len(images), len(periodic))
        distances = np.linalg.norm(difference + images @ vectors, axis=1)
        for image, distance in zip(images, distances, strict=True):
            shift = [0, 0, 0]
            for axis, value in zip(periodic, image, strict=True):
                shift[axis] = int(value)
            if distance < cutoff + MARGIN and (i != j or any(shift)):
                edges[(i, j, *shift)] = float(distance)
    return edges
