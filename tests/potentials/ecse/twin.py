"""Frames and weights by loops over pairs of neighbours, word for word as the method is defined."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import lambertw


def switch(x):
    """1 below -1, 0 above 1."""
    if abs(x) >= 1:
        return float(x < 0)
    return 0.5 * math.tanh(1 / (x + 1) + 1 / (x - 1)) + 0.5


def taper(r, radius, width):
    return switch(2 * (r - (radius - width / 2)) / width)


def rise(s, start, width):
    return switch(-2 * (s - (start + width / 2)) / width)


def softmax(values, weights, beta):
    shares = [p * math.exp(beta * v) for v, p in zip(values, weights, strict=True)]
    return sum(s * v for s, v in zip(shares, values, strict=True)) / sum(shares)


def sine_squared(u, v):
    return (np.cross(u / np.linalg.norm(u), v / np.linalg.norm(v)) ** 2).sum()


def frame(first, second):
    a = first / np.linalg.norm(first)
    b = np.cross(first, second)
    b /= np.linalg.norm(b)
    return np.stack([a, b, np.cross(a, b)], axis=1)


# --- within an inner radius, as in the research code ----------------------------------------------


def inner_radius(vectors, outer, s):
    """Inner radius of one environment (M, 3)."""
    values, weights = [outer], [1.0]
    lengths = np.linalg.norm(vectors, axis=1)
    for j in range(len(vectors)):
        for k in range(j + 1, len(vectors)):
            if lengths[j] > outer or lengths[k] > outer:
                continue
            bias = lambertw(1 / math.e).real / s.beta
            values.append(softmax([lengths[j], lengths[k]], [1, 1], s.beta) + bias)
            weights.append(
                taper(lengths[j], outer, s.radius_width)
                * taper(lengths[k], outer, s.radius_width)
                * rise(sine_squared(vectors[j], vectors[k]), s.sine, s.sine_width)
            )
    return softmax(values, weights, -s.beta) + s.radius_width


def pairs_within(vectors, radius, s):
    """Weights and frames of one environment, before pruning; proper ones only."""
    lengths = np.linalg.norm(vectors, axis=1)
    start = s.sine - s.sine_width
    weights, frames = [], []
    for j in range(len(vectors)):
        for k in range(len(vectors)):
            if j == k or max(lengths[j], lengths[k]) >= radius:
                continue
            angle = sine_squared(vectors[j], vectors[k])
            weight = (
                taper(lengths[j], radius, s.radius_width)
                * taper(lengths[k], radius, s.radius_width)
                * rise(angle, start, s.sine_width)
                * (angle - start)
                / s.sine_width
            )
            if weight <= s.negligible:
                continue
            weights.append(weight)
            frames.append(frame(vectors[j], vectors[k]))
    return weights, frames


def prune(largest, weights, frames, s):
    """Auxiliary weight, and what pruning leaves of weights and frames of one group."""
    if not weights:
        return 1.0, [], []
    auxiliary = taper(largest, s.auxiliary_threshold, s.auxiliary_threshold)
    off = taper(largest, s.pruning_threshold, s.pruning_threshold_width)
    for _ in range(s.pruning_rounds):
        top = softmax(weights, weights, s.beta_weights)
        factors = [rise(w, s.pruning * top, s.pruning_width * top) for w in weights]
        weights = [w * (f * (1 - off) + off) for w, f in zip(weights, factors, strict=True)]
        kept = [k for k, w in enumerate(weights) if w > s.negligible]
        weights, frames = [weights[k] for k in kept], [frames[k] for k in kept]
    return auxiliary, weights, frames


def by_radius(vectors, _species, cutoff, s):
    """Auxiliary weight, weights and frames of one environment (M, 3)."""
    weights, frames = pairs_within(vectors, inner_radius(vectors, s.outer_radius(cutoff), s), s)
    largest = softmax(weights, weights, s.beta_weights) if weights else 0.0
    auxiliary, weights, frames = prune(largest, weights, frames, s)
    if s.parity == "O3":
        frames = [f * signs for f in frames for signs in ([1, 1, 1], [1, -1, 1])]
        weights = [0.5 * w for w in weights for _ in range(2)]
    return auxiliary, weights, frames


# --- by scores ------------------------------------------------------------------------------------


def by_scores(vectors, species, cutoff, s):
    """Auxiliary weight, weights and frames of one environment (M, 3)."""
    outer = s.outer_radius(cutoff)
    lengths = np.linalg.norm(vectors, axis=1)
    mean = np.zeros(3)
    for r, v, t in zip(lengths, vectors, species, strict=True):
        mean += (1 + s.preference_species * t) * taper(r, cutoff, cutoff) * v
    mean = mean / math.sqrt(mean @ mean + s.preference_length**2)
    near = vectors[lengths < outer]
    goodness = [
        taper(r, outer, min(s.taper, outer)) * math.exp(s.decay * (outer - r))
        for r in lengths[lengths < outer]
    ]
    products = [g * h for j, g in enumerate(goodness) for k, h in enumerate(goodness) if j != k]
    weights, frames = [math.exp(-s.auxiliary) * (1 + 2 * sum(goodness) + sum(products))], [None]
    for j in range(len(near)):
        for k in range(len(near)):
            angle = sine_squared(near[j], near[k]) if j != k else 0.0
            if angle == 0.0:
                continue
            weight = goodness[j] * goodness[k] * math.exp(-s.collinearity / angle)
            for signs in ([1, 1, 1], [1, -1, 1])[: 2 if s.parity == "O3" else 1]:
                axes = frame(near[j], near[k]) * signs
                frames.append(axes)
                weights.append(weight * math.exp(s.preference * (mean @ axes).sum() / 3**0.5))
    top = sum(w**5 for w in weights) / sum(w**4 for w in weights)
    share = -math.log(s.pruning)
    weights = [w * rise(math.log(w / top), -share, share) if w else 0.0 for w in weights]
    weights = [w / sum(weights) for w in weights]
    return weights[0], weights[1:], frames[1:]
