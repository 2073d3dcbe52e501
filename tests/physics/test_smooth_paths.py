"""Forces are derivatives, and nothing jumps, where frames appear, vanish, are pruned or swapped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.potentials.ecse import frames as frames_module
from pointedge.potentials.potential import Potential

from .. import structures
from . import numerics, paths
from .exact import KINDS, exact, with_settings
from .numerics import DERIVATIVE, STEPS, five_point, force_scale, predict, report

# Å, steps of a path at first, and at the finest. A pair that leaves a shrinking inner radius is
# pruned within 1e-3 Å where preferred frames compete: smooth, but no coarser grid shows it.
COARSE, FINEST = 4e-3, 2e-6
NOISE = 1e-2  # eV/Å: of smaller forces a finite difference of energies of some eV knows too little
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
LOCAL = pytest.mark.parametrize("kind", ["ecse-toy", "layers", "preferred"])
SLOW = pytest.mark.slow


def walk(what: str, potential: Potential, path: paths.Path) -> None:
    """Energy and force along a path are the integrals of their derivatives.

    By Boole's rule on panels of four steps. Panels in error are halved, so that a sharp switch is
    resolved; one with a jump, of the energy or of the force, stays in error however short it is.
    """
    step, scales = COARSE, np.zeros((2, 1))
    starts = path.grid(4 * step)
    while len(starts):
        assert step >= FINEST, f"{what}: energy or force jumps, or is wrong, at {starts} Å"
        offsets = (starts[:, None] + step * np.arange(5)).ravel()
        parts = [
            numerics.along(potential, path.at(part), path.direction)
            for part in np.array_split(offsets, 1 + len(offsets) // 400)
        ]
        # Energies, slopes and curvatures, one panel per column.
        energy, slope, curvature = (np.concatenate(x).reshape(-1, 5).T for x in zip(*parts))
        scales = np.maximum(scales, np.abs([slope, curvature]).max((1, 2))[:, None])
        errors = np.concatenate(
            [
                numerics.panel_errors(energy, slope, step),
                numerics.panel_errors(slope, curvature, step),
            ]
        )
        errors = np.abs(errors) / scales
        bad = (errors > DERIVATIVE).any(0)
        starts = np.concatenate([starts[bad], starts[bad] + 2 * step])
        step /= 2
    report(f"{what}, last of all at {2 * step:.0e} Å", errors.max(), DERIVATIVE)
    assert scales[0] > NOISE


def check_slopes(
    what: str,
    potential: Potential,
    bent: Callable[[int, float], Atoms],
    slopes: np.ndarray,
    scales: np.ndarray,
) -> None:
    """Derivatives (B,) are finite differences of the energies of ``bent(k, x)``, step by step.

    Each structure counts at the best of its steps, as in a scan: a wrong derivative, or a jump of
    the energy within a stencil, has none.
    """
    errors, open_ = np.full(len(slopes), np.inf), np.arange(len(slopes))
    for step in STEPS:
        numeric = five_point(potential, lambda x: [bent(k, x) for k in open_], step)  # noqa: B023
        found = np.abs(numeric - slopes[open_]) / scales[open_]
        errors[open_] = np.minimum(errors[open_], found)
        open_ = np.flatnonzero(errors > DERIVATIVE / 10)
        if not len(open_):
            break
    report(what, errors.max(), DERIVATIVE)
    assert errors.max() <= DERIVATIVE, f"{what}: structure {errors.argmax()} is off by {errors.max()}"


def check_forces(what: str, potential: Potential, frames: list[Atoms], seed: int = 0) -> None:
    """Forces of structures are finite differences, each along one random direction of all atoms."""
    rng = np.random.default_rng(seed)
    directions = [rng.normal(size=(len(atoms), 3)) for atoms in frames]
    directions = [d / np.linalg.norm(d) for d in directions]
    prediction = predict(potential, frames)
    parts = prediction.forces.split([len(atoms) for atoms in frames])
    slopes = [-(f.numpy() * d).sum() for f, d in zip(parts, directions, strict=True)]
    scales = [float(f.abs().max()) for f in parts]

    def bent(k, x):
        atoms = frames[k].copy()
        atoms.positions += x * directions[k]
        return atoms

    check_slopes(what, potential, bent, np.array(slopes), np.maximum(scales, NOISE))


def check_virials(what: str, potential: Potential, frames: list[Atoms], seed: int = 0) -> None:
    """Strain gradients are finite differences, each under one random strain."""
    rng = np.random.default_rng(seed)
    strains = rng.normal(size=(len(frames), 3, 3))
    strains /= np.linalg.norm(strains, axis=(1, 2), keepdims=True)
    gradient = predict(potential, frames).strain_gradient.numpy()
    slopes, scales = (gradient * strains).sum((1, 2)), np.abs(gradient).max((1, 2))

    def bent(k, x):
        return numerics.strained(frames[k], [strains[k]], x)[0]

    check_slopes(what, potential, bent, slopes, scales)


def samples(path: paths.Path, count: int = 12) -> list[Atoms]:
    """Structures of a path, dense about its event."""
    fractions = (np.arange(count + 1) / count) ** 3
    before, after = path.reach
    return path.at(np.concatenate([-before * fractions[:0:-1], after * fractions]))


# --- molecules ------------------------------------------------------------------------------------


@EVERY_KIND
@pytest.mark.parametrize("name", paths.PATHS)
def test_path(kind, name):
    potential = exact(kind)
    path = paths.PATHS[name](potential)
    walk(f"{kind}, {name}", potential, path)
    check_forces(f"{kind}, forces along {name}", potential, samples(path))


def test_swap_of_the_preferred_frame():
    potential = exact("preferred")
    path = paths.swap(potential)
    before, after = paths.handedness(potential, path.at(np.array([-0.3, 0.3]))).tolist()
    assert before * after < -0.9
    walk("swap", potential, path)
    check_forces("forces along the swap", potential, samples(path))


@EVERY_KIND
@pytest.mark.parametrize("name", ["water", "triclinic", "slab"])
def test_periodic_path(kind, name):
    potential = exact(kind)
    path = paths.periodic(potential, name)
    check_forces(f"{kind}, forces of {name}", potential, samples(path, 6))
    check_virials(f"{kind}, strain gradients of {name}", potential, samples(path, 6))
    walk(f"{kind}, {name}", potential, path)


# --- random clusters ------------------------------------------------------------------------------


def cluster(rng: np.random.Generator) -> Atoms:
    """2 to 6 atoms on a line, in a plane or in space, one of them sometimes far from the others."""
    size, rank = rng.integers(2, 7), rng.integers(1, 4)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0][:rank]
    edge = 1.6 * size ** (1 / rank)
    while True:
        inner = edge * rng.uniform(size=(size, rank))
        apart = np.linalg.norm(inner[:, None] - inner, axis=-1)[np.triu_indices(size, 1)]
        if apart.min() > 0.8:
            break
    positions = inner @ axes
    if rng.uniform() < 0.1:
        positions[-1] += 30.0
    return Atoms(rng.choice(structures.SPECIES, size), positions=positions)


@LOCAL
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=SLOW)])
def test_random_clusters(kind, count):
    rng = np.random.default_rng(count)
    frames = [cluster(rng) for _ in range(count)]
    check_forces(f"{kind}, {count} random clusters", exact(kind), frames)
