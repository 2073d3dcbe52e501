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


def frames_of(vectors, radius, s):
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
            a = vectors[j] / lengths[j]
            b = np.cross(vectors[j], vectors[k])
            b /= np.linalg.norm(b)
            weights.append(weight)
            frames.append(np.stack([a, b, np.cross(a, b)], axis=1))
    return weights, frames


def prefer(vectors, weights, frames, cutoff, s):
    """Weights of one environment shared out anew by the direction of its mean vector."""
    lengths = np.linalg.norm(vectors, axis=1)
    mean = sum(taper(r, cutoff, cutoff) * v for r, v in zip(lengths, vectors, strict=True))
    mean = mean / math.sqrt(mean @ mean + s.preference_length**2)
    diagonal = np.ones(3) / math.sqrt(3)
    factors = [math.exp(s.preference * (mean @ frame) @ diagonal) for frame in frames]
    preferred = [w * f for w, f in zip(weights, factors, strict=True)]
    return [p * sum(weights) / sum(preferred) for p in preferred]


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
