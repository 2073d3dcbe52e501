"""Pairs and fragments of the alloy, and what models that learned them make of others."""

import numpy as np
import pytest

from pointedge.calculators import PotentialCalculator
from pointedge.data.generate_hea_fragments import ELEMENTS, NEAREST, fragments, pairs


def test_structures_are_what_they_are_called():
    rng = np.random.default_rng(3)
    found = fragments(20, rng)
    assert {len(atoms) for atoms in found} <= set(range(3, 16))
    for atoms in [*pairs(5), *found]:
        assert not atoms.pbc.any()
        assert set(atoms.symbols) <= set(ELEMENTS)
        distances = atoms.get_all_distances()[np.triu_indices(len(atoms), 1)]
        assert distances.min() >= NEAREST
    assert len(pairs(5)) == 10 * 5


@pytest.mark.parametrize("model", ["pet-hea", "mace-hea"])
def test_packaged_models_have_no_hills_in_vacuum(model):
    """The fourth stage of pet-hea had 3,000 eV between two atoms, and 20,000 eV/Å."""
    apart = [atoms for atoms in pairs(37) if atoms.get_distance(0, 1) > 1.9]
    others = fragments(30, np.random.default_rng(4))  # none that was trained on
    results = PotentialCalculator(model).calculate_many([*apart, *others])
    energies = np.array([r["energy"] for r in results]) / [len(a) for a in [*apart, *others]]
    forces = np.array([np.abs(r["forces"]).max() for r in results])
    assert -11 < energies.min() < energies.max() < 0  # eV per atom
    assert forces[: len(apart)].max() < 60  # eV/Å; repulsion at 1.9 Å
    assert forces.max() < 200
