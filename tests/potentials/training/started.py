"""Small potentials that fine-tuning starts from."""

from __future__ import annotations

import torch
from ase.build import molecule

from pointedge.potentials import checkpoint
from pointedge.potentials.graph import Graph
from pointedge.potentials.potential import Potential

from ...networks import tiny_pet

SPECIES, CUTOFF = (1, 6, 7, 8), 3.0
EQUIVARIANT = {
    "convolution": {"irreps": "4x0e + 4x1o", "num_layers": 2, "radial_width": 8},
    "nequip": {"irreps": "4x0e + 4x1o", "num_layers": 2, "radial_width": 8, "lmax": 1},
    "mace": {"irreps": "4x0e + 4x1o", "radial_width": 8, "lmax": 1, "correlation": 2},
}


def pet(**settings) -> Potential:
    network = tiny_pet(1, species=SPECIES, cutoff=CUTOFF, num_gnn_layers=2, **settings)
    baseline = {1: -3.0, 6: -5.0, 7: -7.0, 8: -11.0}
    return Potential(network, baseline, scale=0.7, repulsion=True)


def potential_of(kind: str) -> Potential:
    if kind == "pet":
        return pet()
    torch.manual_seed(1)
    settings = {"species": SPECIES, "cutoff": CUTOFF, **EQUIVARIANT[kind]}
    network = checkpoint.architecture(kind).from_config(settings)
    return Potential(network, {1: -3.0}, repulsion=True).to(torch.float64)


def molecules() -> Graph:
    return Graph.from_atoms([molecule(n) for n in ("CH3OH", "NH3", "H2O", "N2")], CUTOFF)


def assert_same(one, other):
    for name in ("energies", "energy", "baseline", "forces"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
