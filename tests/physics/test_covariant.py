"""Dipoles and polarizabilities turn with the atoms, under rotations and reflections."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from pointedge.potentials.ecse.averages import RotationAverage, octahedral_group
from pointedge.potentials.ecse.model import ECSE
from pointedge.potentials.ecse.scores import ScoreSettings
from pointedge.potentials.graph import Graph, random_rotations
from pointedge.potentials.pet import PET, PETConfig
from pointedge.potentials.potential import Potential

from .. import structures
from .test_pet import PRODUCTION

ALL = ("energy", "dipole", "polarizability")
ROUNDING = 1e-12  # of sums of a dozen terms of order 1
LINEAR = {
    "atom": Atoms("O"),
    "dimer": Atoms("CO", positions=[(0, 0, 0), (0.3, -0.8, 0.7)]),
    "CO2": molecule("CO2"),
}
FRAMES = {
    **{name: molecule(name) for name in ("H2O", "CH3OH", "C2H6CHOH")},
    **LINEAR,
    "slab": structures.patterns()["TTF"],
}


def pet(**changes) -> PET:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        network = PET(PETConfig(**{**PRODUCTION, "cutoff": 2.8, "properties": ALL, **changes}))
    return network.to(torch.float64).requires_grad_(False)


def potentials():
    frames = ScoreSettings(preference=6.0)
    auxiliary = pet(edge_input="length", num_gnn_layers=1)
    return {
        "length-only": pet(edge_input="length"),
        "layers": pet(symmetry="layers", frames=frames),
        "paper-layers": pet(symmetry="layers", featurizer="residual", frames=frames),
        "ecse": ECSE(pet(), auxiliary=auxiliary),
        "ecse-structure": ECSE(pet(), "structure", auxiliary=auxiliary),
    }


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("kind", potentials())
def test_moments_turn_with_the_atoms(kind, name):
    potential = Potential(potentials()[kind])
    graph = Graph.from_atoms(FRAMES[name], potential.cutoff)
    before = potential(graph, forces=False).moments
    assert before["polarizability"].abs().max() > 1e-3
    for turn in random_rotations(6, generator=torch.Generator().manual_seed(2)):
        after = potential(graph.rotated(turn[None]), forces=False).moments
        for found, expected in (
            (after["dipole"], before["dipole"] @ turn),
            (after["polarizability"], turn.T @ before["polarizability"] @ turn),
        ):
            torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)


def test_symmetry_forbids_a_dipole():
    """Of an atom, and of CO2; that of CO lies along its axis."""
    for kind, network in potentials().items():
        potential = Potential(network)
        moments = {
            name: potential(Graph.from_atoms(atoms, potential.cutoff), forces=False).moments
            for name, atoms in LINEAR.items()
        }
        axis = LINEAR["dimer"].positions[1]
        dipole = moments["dimer"]["dipole"][0].numpy()
        assert np.abs(moments["atom"]["dipole"].numpy()).max() < ROUNDING, kind
        assert np.abs(moments["CO2"]["dipole"].numpy()).max() < ROUNDING, kind
        assert np.abs(np.cross(axis, dipole)).max() < ROUNDING, kind
        assert np.linalg.norm(dipole) > 1e-3, kind


def test_plain_networks_do_not_turn_and_averages_turn_back():
    plain, group = pet(), octahedral_group()
    graph = Graph.from_atoms(FRAMES["CH3OH"], plain.cutoff)
    turn = group[0][17]
    expected, off = {}, {}
    for name, network in (("plain", plain), ("average", RotationAverage(plain, *group))):
        potential = Potential(network)
        before, after = (
            potential(g, forces=False).moments["dipole"] for g in (graph, graph.rotated(turn[None]))
        )
        expected[name] = before
        off[name] = (after - before @ turn).abs().max().item()
    assert off["plain"] > 1e-3
    assert off["average"] < ROUNDING
    assert expected["average"].abs().max() > 1e-4


def test_a_model_without_energy_has_no_forces():
    potential = Potential(pet(properties=("dipole",)))
    graph = Graph.from_atoms(FRAMES["H2O"], potential.cutoff)
    found = potential(graph, forces=False)
    assert found.moments["dipole"].shape == (1, 3)
    assert found.energy.isnan().all()
    with pytest.raises(ValueError, match="predicts dipole, and no energy to differentiate"):
        potential(graph)
    with pytest.raises(ValueError, match="unknown property 'dipol'; did you mean 'dipole'"):
        pet(properties=("dipol",))
