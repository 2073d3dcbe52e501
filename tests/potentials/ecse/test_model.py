"""The symmetrised network: reference numbers, a slow twin, both scopes, the auxiliary network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from pointedge.potentials.ecse import model as ecse_module
from pointedge.potentials.ecse.frames import make_frames
from pointedge.potentials.ecse.model import ECSE, MissingAuxiliaryError, within
from pointedge.potentials.ecse.scores import ScoreSettings
from pointedge.potentials.ecse.weights import RadiusSettings
from pointedge.potentials.graph import Graph, random_rotations
from pointedge.potentials.outputs import RANKS
from pointedge.potentials.pet import PET
from pointedge.potentials.potential import Potential

from ... import structures
from ...networks import tiny_pet
from ..published.cases import metatrain_case
from .test_frames import NAMES, REFERENCE

CUTOFF = 2.8
FRAMES = {**structures.patterns(), **structures.awkward(), "atom": structures.isolated_atom()}
# As the research code averages: no mirror images, no auxiliary network, whatever the weights.
RESEARCH = RadiusSettings(
    parity="SO3",
    outer="research",
    negligible=1e-10,
    auxiliary_threshold=1e-9,
    pruning_rounds=4,
)


def pet(**changes) -> PET:
    settings = {"species": structures.SPECIES, "cutoff": CUTOFF, **changes}
    return tiny_pet(5, **settings).requires_grad_(False)


def symmetrized(**options) -> ECSE:
    shape = {name: options.pop(name) for name in ("featurizer", "properties") if name in options}
    auxiliary = pet(edge_input="length", **{**shape, "featurizer": "feedforward"})
    return ECSE(pet(**shape), auxiliary=auxiliary, **options)


def energies(network, atoms):
    graph = Graph.from_atoms(atoms, network.cutoff)
    return network(graph, graph.edge_vectors())["energy"]


@pytest.mark.parametrize("name", [n for n in NAMES if f"{n}/energy_sym_noaux" in REFERENCE])
def test_reference_of_the_research_code(name):
    case = {k.split("/")[1]: v for k, v in REFERENCE.items() if k.startswith(f"{name}/")}
    atoms = Atoms(case["numbers"], case["positions"], cell=case["cell"], pbc=case["pbc"])
    plain = metatrain_case("case1_default_small_f64")
    baseline = {z: float(plain.baseline[z]) for z in plain.species}
    averaged = Potential(ECSE(plain.network, "structure", RESEARCH), baseline, float(plain.scale))
    found = averaged(Graph.from_atoms(atoms, averaged.cutoff))
    energy = float(found.energy + found.baseline)
    assert energy == pytest.approx(float(case["energy_sym_noaux"]), rel=1e-12)
    np.testing.assert_allclose(found.forces.numpy(), case["forces_sym_noaux"], atol=1e-9)


@pytest.mark.parametrize("featurizer", ["feedforward", "residual"])
@pytest.mark.parametrize("name", FRAMES)
def test_slow_twin(name, featurizer):
    """Every frame turns the whole structure; of its properties only those of its atom are used."""
    network = symmetrized(featurizer=featurizer, properties=tuple(RANKS))
    graph = Graph.from_atoms(FRAMES[name], CUTOFF)
    vectors = graph.edge_vectors()
    frames = make_frames(vectors, graph.centers, graph.num_atoms, CUTOFF, ScoreSettings())
    alone, none = within(graph, vectors, 0.0)
    auxiliary = network.auxiliary(graph, vectors)
    shift = network.backbone(alone, none), network.auxiliary(alone, none)
    found = network(graph, vectors)
    turned = [network.backbone(graph, vectors @ matrix) for matrix in frames.matrices]
    for i in range(graph.num_atoms):
        weight = frames.auxiliary[i].clone()
        energy, other = (s["energy"][i] for s in shift)
        total = {
            "energy": weight * (auxiliary["energy"][i] + energy - other),
            "dipole": weight * auxiliary["dipole"][i],
            "polarizability": weight * auxiliary["polarizability"][i],
        }
        backbone, other = (s["polarizability"][i].trace() / 3 for s in shift)
        total["polarizability"] += weight * (backbone - other) * torch.eye(3, dtype=torch.float64)
        for k in torch.nonzero(frames.atoms == i)[:, 0].tolist():
            w, f = frames.weights[k], frames.matrices[k]
            weight += w
            total["energy"] += w * turned[k]["energy"][i]
            total["dipole"] += w * f @ turned[k]["dipole"][i]
            total["polarizability"] += w * f @ turned[k]["polarizability"][i] @ f.T
        for name, value in total.items():
            torch.testing.assert_close(found[name][i], value / weight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("parity", ["O3", "SO3"])
@pytest.mark.parametrize("scope", ["atom", "structure"])
def test_energies_are_invariant(scope, parity):
    network = symmetrized(scope=scope, frames=ScoreSettings(parity=parity))
    graph = Graph.from_atoms(list(FRAMES.values()), CUTOFF)
    generator = torch.Generator().manual_seed(0)
    turn = random_rotations(graph.num_structures, generator=generator)
    improper = torch.linalg.det(turn)[graph.structure] < 0
    before = network(graph, graph.edge_vectors())["energy"]
    turned = graph.rotated(turn)
    difference = (network(turned, turned.edge_vectors())["energy"] - before).abs()
    assert difference[~improper].max() < 1e-12
    assert (difference[improper].max() < 1e-12) == (parity == "O3")
    plain = network.backbone
    raw = plain(turned, turned.edge_vectors())["energy"]
    assert (raw - plain(graph, graph.edge_vectors())["energy"]).abs().max() > 1e-3


def test_structure_scope_pools_the_frames_of_all_atoms():
    """Not extensive, as the research code is: another molecule far away changes the average."""
    one, two = molecule("CH3OH"), molecule("H2O")
    two.positions += 50
    both = energies(symmetrized(scope="structure"), one + two)
    alone = energies(symmetrized(scope="structure"), one)
    assert (both[: len(one)] - alone).abs().max() > 1e-6
    local = energies(symmetrized(), one + two)
    torch.testing.assert_close(local[: len(one)], energies(symmetrized(), one), rtol=0, atol=1e-13)


@pytest.mark.parametrize("scope", ["atom", "structure"])
def test_chunks_change_nothing(monkeypatch, scope):
    potential = Potential(symmetrized(scope=scope))
    graph = Graph.from_atoms(list(FRAMES.values()), CUTOFF)
    found = []
    for edges in (1, 3000, 2**30):
        monkeypatch.setitem(ecse_module.CHUNK_EDGES, "cpu", edges)
        found.append(potential(graph, virial=True))
    for other in found[1:]:
        torch.testing.assert_close(other.energies, found[0].energies, rtol=0, atol=1e-13)
        torch.testing.assert_close(other.forces, found[0].forces, rtol=0, atol=1e-12)
        strain = (other.strain_gradient, found[0].strain_gradient)
        torch.testing.assert_close(*strain, rtol=0, atol=1e-11)


def test_devices_without_a_chunk_of_their_own(monkeypatch):
    """Of other accelerators, that of a GPU."""
    network = symmetrized()
    expected = energies(network, FRAMES["TTT"])
    monkeypatch.delitem(ecse_module.CHUNK_EDGES, "cpu")
    torch.testing.assert_close(energies(network, FRAMES["TTT"]), expected, rtol=0, atol=1e-13)


def test_isolated_atoms_have_the_energy_of_the_backbone():
    network = symmetrized()
    for number in structures.SPECIES:
        atom = structures.isolated_atom(number)
        torch.testing.assert_close(
            energies(network, atom), energies(network.backbone, atom), rtol=0, atol=1e-14
        )


def test_a_list_beyond_the_cutoff_changes_nothing():
    """As a Verlet list has it; neither frames nor receptive fields may see the longer edges."""
    network = symmetrized()
    expected = energies(network, FRAMES["TTT"])
    longer = Graph.from_atoms(FRAMES["TTT"], CUTOFF + 1)
    found = network(longer, longer.edge_vectors())["energy"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_without_an_auxiliary_network_the_atom_is_named():
    network = ECSE(pet())
    assert energies(network, FRAMES["TTT"]).isfinite().all()
    with pytest.raises(MissingAuxiliaryError, match="environment of atom 0 is empty, collinear"):
        energies(network, structures.isolated_atom())
    far = Atoms("O", positions=[(500, 0, 0)])
    with pytest.raises(MissingAuxiliaryError, match=r"environment of atom 3 .* weight 1"):
        energies(network, molecule("H2O") + far)


def test_refused():
    with pytest.raises(ValueError, match="unknown scope 'atoms'; did you mean 'atom'"):
        ECSE(pet(), "atoms")
    with pytest.raises(ValueError, match="invariant already"):
        ECSE(pet(edge_input="length"))
    with pytest.raises(ValueError, match="invariant already"):
        ECSE(pet(symmetry="layers"))
    # Layers that know rotations only leave the reflections to be averaged.
    chiral = pet(symmetry="layers", frames=ScoreSettings(parity="SO3"))
    assert ECSE(chiral).invariant


def test_preference_by_species_is_for_layers():
    with pytest.raises(ValueError, match="preference_species is for symmetric layers"):
        symmetrized(frames=ScoreSettings(preference=6.0, preference_species=1.0))
