"""The physics battery on PET in its variants, and what only PET can show."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from pointedge.potentials.cutoff import curvature_jump
from pointedge.potentials.ecse.scores import ScoreSettings
from pointedge.potentials.ecse.weights import RadiusSettings
from pointedge.potentials.pet import PET, PETConfig
from pointedge.potentials.potential import Potential

from .. import structures
from . import numerics
from .battery import FRAMES, SPECIES_PAIRS, PotentialBattery, lively
from .numerics import predict

SMALL = {
    "species": structures.SPECIES,
    "cutoff": 3.5,
    "cutoff_width": 0.5,
    "d_pet": 16,
    "d_node": None,
    "d_head": 16,
    "d_feedforward": 24,
    "num_heads": 2,
    "num_attention_layers": 1,
}
PAPER = {
    **SMALL,
    "featurizer": "residual",
    "transformer_type": "postln",
    "activation": "silu",
    "normalization": "layernorm",
    "cutoff_function": "cosine",
    # Without a norm before it, random attention has logits of 10 and more; e^10 f varies within
    # 1e-3 Å of the cutoff, finer than the grids here.
    "attention_temperature": 4.0,
}
PRODUCTION = {**SMALL, "d_node": 24}
VARIANTS = {
    "paper": PAPER,
    "paper-tanh": {**PAPER, "cutoff_function": "tanh", "cutoff_width": 1.0},
    "production": {**PRODUCTION, "num_attention_layers": 2},
    "adaptive-solver": {**PRODUCTION, "num_neighbors_adaptive": 8.0},
    "adaptive-grid": {
        **PRODUCTION,
        "num_neighbors_adaptive": 8.0,
        "adaptive_cutoff_method": "grid",
    },
    "length-only": {**PRODUCTION, "edge_input": "length"},
    "conditioned": {**PRODUCTION, "system_conditioning": True, "edge_input": "vector"},
    "magnetic": {**PRODUCTION, "typical_moment": 1.5},
    "repulsion": PRODUCTION,
    # The research code's pruning takes effect within some thousandths of an Å, finer than the
    # grids here.
    "symmetric-layers": {
        **PRODUCTION,
        "symmetry": "layers",
        "frames": RadiusSettings(pruning_rounds=1, pruning=0.4, pruning_width=0.6),
    },
    "preferred-frame": {
        **PRODUCTION,
        "symmetry": "layers",
        "frames": ScoreSettings(preference=6.0, reach=3.0),
    },
    "no-preference": {
        **PAPER,
        "cutoff_function": "tanh",
        "cutoff_width": 1.0,
        "symmetry": "layers",
        "frames": ScoreSettings(),
    },
}


@cache
def variant(name: str) -> Potential:
    with torch.random.fork_rng():
        torch.manual_seed(sorted(VARIANTS).index(name))
        network = PET(PETConfig(**VARIANTS[name]))
    return lively(network, seed=17, repulsion=name == "repulsion")


class PETBattery(PotentialBattery):
    name = ""

    @pytest.fixture
    def potential(self):
        return variant(self.name)


class TestPaper(PETBattery):
    name = "paper"
    smooth = False

    @pytest.mark.parametrize("pair", SPECIES_PAIRS, ids=str)
    def test_force_slope_jumps_by_its_formula(self, potential, pair, monkeypatch):
        """The curvature just inside the cutoff is dE/df · π²/(2w²), and 0 beyond it."""
        offsets = np.array([-1e-6, -2e-6, -1e-9, 1e-9])
        frames = structures.dimers(pair, potential.cutoff + offsets)
        direction = frames[3].positions[1] / np.linalg.norm(frames[3].positions[1])
        _, _, curvature = numerics.along(potential, frames, direction)
        jump = 2 * curvature[0] - curvature[1]  # extrapolated to the cutoff
        expected = _influence(potential, frames[2], monkeypatch) * curvature_jump("cosine", 0.5)
        assert abs(expected) > 1e-2
        assert curvature[3] == 0
        numerics.report(f"jump of {pair}", abs(jump / expected - 1), numerics.DERIVATIVE)
        assert jump == pytest.approx(expected, rel=numerics.DERIVATIVE)


def _influence(potential, atoms, monkeypatch) -> float:
    """dE/df at f = 0 of a dimer: how its energy answers to the cutoff factor of both its edges."""
    factor = torch.tensor(1e-12, dtype=torch.float64, requires_grad=True)
    with monkeypatch.context() as patch:
        patch.setattr(
            potential.network, "smooth", lambda length, cutoff, width: factor.expand(len(length))
        )
        graph = numerics.Graph.from_atoms(atoms, potential.cutoff)
        energy = potential.atomic_properties(graph, graph.edge_vectors())["energy"].sum()
        (slope,) = torch.autograd.grad(energy, factor)
    return slope.item()


class TestPaperTanh(PETBattery):
    name = "paper-tanh"


class TestProduction(PETBattery):
    name = "production"


class TestMagnetic(PETBattery):
    name = "magnetic"


class TestAdaptiveSolver(PETBattery):
    name = "adaptive-solver"
    curvature = False  # the solver's last Newton step carries first derivatives only

    def test_cutoffs_do_adapt(self, potential):
        _assert_adapts(potential, "production")


class TestAdaptiveGrid(PETBattery):
    name = "adaptive-grid"
    inward = 1.0  # the average over the grid leaves an atom with one neighbour a radius of 3 Å

    def test_cutoffs_do_adapt(self, potential):
        _assert_adapts(potential, "production")


def _assert_adapts(potential, fixed):
    """Far neighbours of a crowded atom have no influence, though they are within the cutoff."""
    network = potential.network
    radii = []
    original = network.smooth
    try:
        network.smooth = lambda length, cutoff, width: (
            radii.append(cutoff) or original(length, cutoff, width)
        )
        predict(potential, list(FRAMES.values()))
    finally:
        network.smooth = original
    assert radii[0].min() < 0.9 * potential.cutoff
    assert radii[0].max() <= potential.cutoff


class TestLengthOnly(PETBattery):
    name = "length-only"
    invariant = True


class TestSymmetricLayers(PETBattery):
    name = "symmetric-layers"
    invariant = True


class TestPreferredFrame(PETBattery):
    name = "preferred-frame"
    invariant = True


class TestUnpreferredFrames(PETBattery):
    """Frames by scores, none preferred, and the paper's featuriser."""

    name = "no-preference"
    invariant = True


class TestRepulsion(PETBattery):
    name = "repulsion"

    def test_close_contacts_repel(self, potential):
        for pair in SPECIES_PAIRS:
            dimer = structures.dimers(pair, np.array([0.1]))[0]
            forces = predict(potential, dimer).forces[0]
            outward = -torch.tensor(dimer.positions[1]) / 0.1
            assert forces @ outward > 100


class TestConditioned(PETBattery):
    name = "conditioned"

    @pytest.mark.parametrize(("key", "value"), [("charge", -1), ("charge", 3), ("spin", 2)])
    def test_charge_and_spin_matter_to_their_own_structure_only(self, potential, key, value):
        frames = [a.copy() for a in FRAMES.values()]
        before = predict(potential, frames)
        frames[3].info[key] = value
        after = predict(potential, frames)
        difference = (after.energy - before.energy).abs()
        assert difference[3] > 1e-3
        others = torch.arange(len(frames)) != 3
        assert difference[others].max() <= numerics.ENERGY * before.energies.abs().sum()

    def test_neutral_singlet_is_the_default(self, potential):
        atoms = FRAMES["TTF"].copy()
        before = predict(potential, atoms)
        atoms.info.update(charge=0, spin=1)
        assert torch.equal(predict(potential, atoms).energy, before.energy)

    @pytest.mark.parametrize(
        ("key", "value"), [("charge", 11), ("charge", -11), ("spin", 0), ("spin", 11)]
    )
    def test_values_out_of_range_are_refused(self, potential, key, value):
        """The calculator says so in words; the potential itself must at least not answer."""
        atoms = FRAMES["TTF"].copy()
        atoms.info[key] = value
        with pytest.raises((IndexError, ValueError)):
            predict(potential, atoms)


@pytest.mark.parametrize("name", ["production", "paper", "repulsion"])
def test_an_unknown_species_is_refused(name):
    for atom in (0, -1):
        atoms = FRAMES["TTF"].copy()
        atoms.numbers[atom] = 79
        with pytest.raises((IndexError, ValueError)):
            predict(variant(name), atoms)
