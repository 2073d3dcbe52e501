"""Forces are derivatives, and nothing jumps, where frames appear, vanish, are pruned or swapped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from pointedge.potentials.ecse import radius, scores
from pointedge.potentials.ecse.scores import ScoreSettings
from pointedge.potentials.potential import Potential

from .. import structures
from . import numerics, paths
from .exact import KINDS, exact, frame_settings, frames_of, periodic, with_settings
from .numerics import DERIVATIVE, STEPS, five_point, predict, report

# Å, steps of a path at first, and at the finest: a frame of many may be pruned within 1e-3 Å, and
# the inner radius move 100 times as fast as an atom. That is smooth, but no coarser grid shows it.
COARSE, FINEST = 4e-3, 2e-6
MANY = 1000  # panels; more are in error only where forces are wrong all along a path
FINER_STEPS = (*STEPS, 2e-6, 1e-6)  # Å, or strain
NOISE = 1e-2  # eV/Å: of smaller forces a finite difference of energies of some eV knows too little
SOME_SLOW = pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.slow) if k in ("ecse-pet", "layers") else k for k in KINDS],
)
PERIODIC = pytest.mark.parametrize("name", ["water", "triclinic", "slab"])


def walk(what: str, potential: Potential, path: paths.Path) -> None:
    """Energy and force along a path are the integrals of their derivatives.

    By Boole's rule on panels of four steps. Panels in error are halved, so that a sharp switch is
    resolved; one with a jump, of the energy or of the force, stays in error however short it is.
    """
    step, scales, worst = COARSE, np.zeros((2, 1)), 0.0
    starts = path.grid(4 * step)
    while len(starts):
        resolved = step >= FINEST and len(starts) < MANY
        assert resolved, f"{what}: energy or force jumps, or is wrong, at {starts} Å"
        offsets = (starts[:, None] + step * np.arange(5)).ravel()
        parts = [
            numerics.along(potential, path.at(part), path.direction)
            for part in np.array_split(offsets, 1 + len(offsets) // 400)
        ]
        columns = zip(*parts, strict=True)  # one panel each
        energy, slope, curvature = (np.concatenate(x).reshape(-1, 5).T for x in columns)
        scales = np.maximum(scales, np.abs([slope, curvature]).max((1, 2))[:, None])
        errors = [
            numerics.panel_errors(energy, slope, step)[0],
            numerics.panel_errors(slope, curvature, step)[0],
        ]
        errors = (np.abs(errors) / scales).max(0)
        bad = ~(errors <= DERIVATIVE)  # or NaN
        worst = max(worst, errors[~bad].max(initial=0))
        starts = np.concatenate([starts[bad], starts[bad] + 2 * step])
        step /= 2
    report(f"{what}, panels of steps down to {2 * step:.0e} Å", worst, DERIVATIVE)
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
    for step in FINER_STEPS:
        numeric = five_point(potential, lambda x: [bent(k, x) for k in open_], step)  # noqa: B023
        found = np.abs(numeric - slopes[open_]) / scales[open_]
        errors[open_] = np.minimum(errors[open_], found)
        open_ = np.flatnonzero(errors > DERIVATIVE / 10)
        if not len(open_):
            break
    report(what, errors.max(), DERIVATIVE)
    assert errors.max() <= DERIVATIVE, (
        f"{what}: structure {errors.argmax()} is off by {errors.max()}"
    )


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


# --- the paths ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_events_of_the_paths_happen(kind):
    """Frames vanish beyond the outer radius, on a line and by pruning alone."""
    potential, ends = exact(kind), np.array([-0.01, 0.01])
    path = paths.leaving_a_line(potential)
    inside, outside = path.at(np.array([-path.reach[0], 0.0]))
    auxiliary = frames_of(potential, [inside, outside])[1].auxiliary
    assert (auxiliary[0], auxiliary[4]) == (0, 1)
    straight, bent = paths.linear_molecule(potential).at(np.array([0.0, 0.9]))
    assert paths.number_of_frames(potential, [straight, bent]).sign().tolist() == [0, 1]
    crossing = paths.inner_radius(potential).at(ends)
    assert paths.beyond_inner_radius(potential, crossing).tolist() == [False, True]
    pair = paths.pruned(potential).at(ends)
    assert paths.number_of_frames(potential, pair).diff() != 0
    if not isinstance(frame_settings(potential)[1], ScoreSettings):  # which always prune
        assert paths.number_of_frames(potential, pair, pruning_rounds=0).diff() == 0


@SOME_SLOW
@pytest.mark.parametrize("name", paths.PATHS)
def test_path(kind, name):
    potential = exact(kind)
    path = paths.PATHS[name](potential)
    walk(f"{kind}, {name}", potential, path)
    check_forces(f"{kind}, forces along {name}", potential, samples(path))


def test_swap_of_the_preferred_frame():
    potential = exact("preferred")
    path = paths.swap(potential)
    before, after = paths.handedness(potential, path.at(np.array([-0.8, 0.8]))).tolist()
    assert before * after < -0.9
    walk("swap", potential, path)
    check_forces("forces along the swap", potential, samples(path))


@SOME_SLOW
@PERIODIC
def test_derivatives_on_a_periodic_path(kind, name):
    potential = exact(kind)
    frames = samples(paths.periodic(potential, name), 4)
    check_forces(f"{kind}, forces of {name}", potential, frames)
    check_virials(f"{kind}, strain gradients of {name}", potential, frames)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@PERIODIC
def test_periodic_path(kind, name):
    potential = exact(kind)
    walk(f"{kind}, {name}", potential, paths.periodic(potential, name))


# --- random clusters ------------------------------------------------------------------------------


def cluster(rng: np.random.Generator) -> Atoms:
    """2 to 6 atoms on a line, in a plane or in space, one of them sometimes far from the others."""
    size, rank = rng.integers(2, 7), rng.integers(1, 4)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0][:rank]
    edge = 1.6 * size ** (1 / rank)
    apart = np.zeros(1)
    while apart.min() < 0.8:
        inner = edge * rng.uniform(size=(size, rank))
        apart = np.linalg.norm(inner[:, None] - inner, axis=-1)[np.triu_indices(size, 1)]
    positions = inner @ axes
    if rng.uniform() < 0.1:
        positions[-1] += 30.0
    return Atoms(rng.choice(structures.SPECIES, size), positions=positions)


@SOME_SLOW
def test_a_thousand_random_clusters(kind):
    rng = np.random.default_rng(1000)
    check_forces(f"{kind}, clusters", exact(kind), [cluster(rng) for _ in range(1000)])


# --- what must not pass ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path", "changes", "reach"),
    [
        ("ecse-toy", paths.leaving_a_line, {"outer": "research"}, (0.03, 0.03)),
        ("ecse-toy", paths.linear_molecule, {"auxiliary_threshold": 1e-9}, (0, 0.35)),
        ("ecse-toy", paths.pruned, {"negligible": 0.03}, (0, 0.2)),
    ],
)
def test_a_jump_is_found(kind, path, changes, reach):
    """At the research code's outer radius, and where frames go that still have weight."""
    path = replace(path(exact(kind)), reach=reach)
    walk("control", exact(kind), path)
    with pytest.raises(AssertionError, match="jumps"):
        walk("control", with_settings(kind, **changes), path)


def test_a_jump_of_pruned_scores_is_found(monkeypatch):
    path = paths.swap(exact("preferred"))
    monkeypatch.setattr(scores, "rise", lambda x, start, width: (x > start + width / 2).to(x))
    with pytest.raises(AssertionError, match="jumps"):
        walk("control", exact("preferred"), path)


@pytest.mark.parametrize(
    ("kind", "module", "forgotten"),
    [
        ("ecse-toy", radius, "axes"),
        ("ecse-toy", radius, "pair_weights"),
        ("layers", radius, "axes"),
        ("layers", radius, "pair_weights"),
        ("preferred", scores, "axes"),
        ("preferred", scores, "_pruned"),
    ],
)
def test_forces_that_forget_the_frames_are_found(kind, module, forgotten, monkeypatch):
    original = getattr(module, forgotten)
    monkeypatch.setattr(module, forgotten, lambda *a: original(*a).detach())
    rng = np.random.default_rng(0)
    with pytest.raises(AssertionError, match="is off by"):
        check_forces("control", exact(kind), [cluster(rng) for _ in range(20)])
    with pytest.raises(AssertionError, match="is off by"):
        check_virials("control", exact(kind), [periodic()["slab"]])
