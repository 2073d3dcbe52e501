"""Exact symmetry under 64 rotations of either sign, and energies that no distant atom changes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase.build import molecule

from pointedge.potentials.ecse.frames import Frames
from pointedge.potentials.ecse.model import ECSE
from pointedge.potentials.graph import random_rotations
from pointedge.potentials.potential import Potential, Prediction

from .exact import KINDS, exact, frames_of, molecules, periodic, water_cell, with_settings
from .numerics import (
    ENERGY,
    FLOAT32,
    FORCE,
    check_equal,
    force_scale,
    normals,
    predict,
    report,
)

TURNS = random_rotations(64, generator=torch.Generator().manual_seed(11))
STRUCTURES = {f"{a.symbols}": a for a in molecules()} | periodic()
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
EVERY_STRUCTURE = pytest.mark.parametrize("name", STRUCTURES)
LOCAL = pytest.mark.parametrize("kind", [k for k in KINDS if k != "ecse-pet"])
FAR = 60.0  # Å between structures that must not know of each other


def turned(atoms):
    """The structure under each of TURNS, r → r R; neighbours are searched anew in each."""
    frames = []
    for turn in TURNS.numpy():
        frame = atoms.copy()
        frame.set_cell(np.asarray(atoms.cell) @ turn)
        frame.positions = atoms.positions @ turn
        frames.append(frame)
    return frames


def expectation(alone: Prediction) -> Prediction:
    """What an exactly symmetric potential predicts for the turned structures."""
    return Prediction(
        energies=alone.energies.repeat(64),
        energy=alone.energy.expand(64),
        baseline=alone.baseline.expand(64),
        atomic_baseline=alone.atomic_baseline.repeat(64),
        forces=(alone.forces @ TURNS).flatten(0, 1),
        strain_gradient=TURNS.transpose(1, 2) @ alone.strain_gradient @ TURNS,
    )


def check_symmetry(what, potential, atoms):
    """Energies, forces and virial follow every rotation, and the torque vanishes."""
    alone, frames = predict(potential, atoms), turned(atoms)
    after = predict(potential, frames)
    check_equal(what, after, expectation(alone), frames, potential.cutoff)
    scale = force_scale(alone, slice(None), 0, potential.cutoff) * potential.cutoff
    torque = float(after.torque.abs().max() / scale)
    report(f"{what}, torque", torque, FORCE)
    assert torque <= FORCE


def test_rotations_are_proper_and_improper():
    signs = torch.linalg.det(TURNS)
    assert (signs > 0).sum() > 20
    assert (signs < 0).sum() > 20


@EVERY_KIND
@EVERY_STRUCTURE
def test_symmetry(kind, name):
    check_symmetry(f"{kind}, {name}", exact(kind), STRUCTURES[name])


@pytest.mark.parametrize("kind", ["ecse-toy", "ecse-pet"])
def test_a_backbone_has_no_symmetry(kind):
    """The control: the structures and limits above tell a symmetrised network from a plain one."""
    potential = exact(kind)
    plain = Potential(potential.network.backbone, scale=float(potential.scale))
    for atoms in periodic().values():
        with pytest.raises(AssertionError, match="energy of structure"):
            check_symmetry("backbone", plain, atoms)
        after = predict(plain, atoms)
        scale = force_scale(after, slice(None), 0, plain.cutoff) * plain.cutoff
        assert after.torque.abs().max() > 1e-3 * scale


@EVERY_KIND
def test_frames_of_rotations_only_know_no_reflection(kind):
    """The control of the sign: without mirror images the improper half of the turns differs."""
    atoms = water_cell()
    potential = with_settings(kind, parity="SO3")
    energy = predict(potential, turned(atoms), forces=False, virial=False).energy
    difference = (energy - predict(potential, atoms).energy).abs()
    total = predict(potential, atoms).energies.abs().sum()
    proper = torch.linalg.det(TURNS) > 0
    assert difference[proper].max() <= ENERGY * total
    assert difference[~proper].min() > 1e-6 * total


@EVERY_KIND
def test_symmetry_in_float32(kind):
    """A rotation changes no more than float32 does: the largest of 64 errors of either sort.

    Atoms in 64 orders round as many times differently. Of one order alone the largest error is a
    matter of luck: 64 rotations of symmetric layers exceed it threefold.
    """
    potential, rng = exact(kind), np.random.default_rng(3)
    single = copy.deepcopy(potential).to(torch.float32)
    errors = {"energy": 0.0, "forces": 0.0}
    rounding = dict(errors)
    for atoms in (molecule("CH3OH"), STRUCTURES["water"], STRUCTURES["slab"]):
        precise, alone = predict(potential, atoms), predict(single, atoms)
        orders = np.array([rng.permutation(len(atoms)) for _ in TURNS])
        shuffled = predict(single, [atoms[order] for order in orders])
        true = {"energy": precise.energy, "forces": precise.forces[orders].flatten(0, 1)}
        after, expected = predict(single, turned(atoms)), expectation(alone)
        for part in errors:
            error = (getattr(after, part) - getattr(expected, part)).abs().max().item()
            errors[part] = max(errors[part], error)
            difference = (getattr(shuffled, part) - true[part]).abs().max().item()
            rounding[part] = max(rounding[part], difference)
    for part, error in errors.items():
        report(f"{kind}, {part} in float32 / its rounding", error / rounding[part], FLOAT32)
        assert error <= FLOAT32 * rounding[part]


@LOCAL
def test_two_far_apart_are_twice_one(kind):
    """Twice the energy, the same forces, and each copy's atomic energies as if it were alone."""
    potential = exact(kind)
    for atoms in STRUCTURES.values():
        if atoms.pbc.all():
            continue
        other = atoms.copy()
        other.positions += FAR * normals(atoms)[0]
        one, two = predict(potential, atoms), predict(potential, atoms + other)
        total = one.energies.abs().sum()
        assert (two.energy - 2 * one.energy).abs() <= 2 * ENERGY * total
        assert (two.energies - one.energies.repeat(2)).abs().max() <= ENERGY * total
        scale = force_scale(one, slice(None), 0, potential.cutoff)
        assert (two.forces - one.forces.repeat(2, 1)).abs().max() <= FORCE * scale


@LOCAL
def test_frames_of_one_molecule_leave_another_alone(kind):
    """A neighbourhood rich in frames, or one with poor frames only, far away changes no energy."""
    potential = exact(kind)
    alone = molecules()
    together = alone[0].copy()
    for k, atoms in enumerate(alone[1:], 1):
        other = atoms.copy()
        other.positions += FAR * k * np.array([0.6, 0.0, 0.8])
        together += other
    # One call for each molecule: a batch could mix them as well as a structure.
    energies = torch.cat([predict(potential, atoms).energies for atoms in alone])
    errors = (predict(potential, together).energies - energies).abs() / energies.abs().max()
    report(f"{kind}, atomic energies beside other molecules", float(errors.max()), ENERGY)
    assert errors.max() <= ENERGY
    separate = [frames_of(potential, [atoms])[1] for atoms in alone]
    joined = frames_of(potential, [together])[1]
    starts = np.cumsum([0] + [len(atoms) for atoms in alone[:-1]])
    expected = np.concatenate([sorted_weights(f, k) for f, k in zip(separate, starts, strict=True)])
    np.testing.assert_allclose(sorted_weights(joined), expected, rtol=0, atol=1e-12)
    auxiliary = torch.cat([f.auxiliary for f in separate])
    torch.testing.assert_close(joined.auxiliary, auxiliary, rtol=0, atol=1e-12)


def sorted_weights(frames: Frames, start: int = 0) -> np.ndarray:
    """Atoms of frames, counted from ``start``, and weights, (F, 2), whatever the order of edges."""
    pairs = np.stack([frames.atoms + start, frames.weights], axis=1)
    return pairs[np.lexsort(pairs.T[::-1])]


def test_frames_of_a_whole_structure_are_not_extensive():
    """The control: pooled over the structure, frames of one molecule turn the other's energies."""
    network = exact("ecse-toy").network
    pooled = Potential(ECSE(network.backbone, "structure", network.frames, network.auxiliary))
    one, other = molecules()[0], molecules()[2]
    alone = predict(pooled, one).energies
    other.positions += FAR
    both = predict(pooled, one + other).energies[: len(one)]
    assert (both - alone).abs().max() > 1e-6 * alone.abs().max()
