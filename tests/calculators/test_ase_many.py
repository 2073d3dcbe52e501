"""Many structures at once: the numbers of one by one."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from pointedge.calculators import PETCalculator

from .conftest import bulk, charged_potential, structures

ALL = ("energy", "free_energy", "energies", "forces")


def frames():
    """Every kind of structure, and displaced copies of one."""
    rng = np.random.default_rng(5)
    moved = [bulk() for _ in range(4)]
    for atoms in moved:
        atoms.positions += rng.normal(scale=0.05, size=(16, 3))
    return [*structures().values(), *moved]


@pytest.mark.parametrize("max_edges", [1, 700, 10**6])
def test_equals_one_by_one(potential, max_edges):
    calculator = PETCalculator(potential)
    single = PETCalculator(potential)
    results = calculator.calculate_many(frames(), ALL, max_edges=max_edges)
    assert len(results) == len(frames())
    for atoms, result in zip(frames(), results, strict=True):
        assert tuple(result) == ALL
        for name in ALL:
            expected = single.get_property(name, atoms)
            np.testing.assert_allclose(result[name], expected, rtol=0, atol=1e-10)
            assert np.shape(result[name]) == np.shape(expected)


def test_runs_are_as_large_as_the_budget_allows(calculator, monkeypatch):
    sizes = []
    forward = calculator.potential.forward

    def counted(graph, **options):
        sizes.append((graph.num_structures, graph.num_edges + graph.num_atoms))
        return forward(graph, **options)

    monkeypatch.setattr(calculator.potential, "forward", counted)
    calculator.calculate_many(frames(), max_edges=1500)
    assert sum(count for count, _ in sizes) == len(frames())
    assert 1 < len(sizes) < len(frames())
    assert all(size <= 1500 or count == 1 for count, size in sizes)


def test_stress(calculator):
    periodic = [atoms for atoms in frames() if atoms.cell.rank == 3]
    results = calculator.calculate_many(periodic, ("stress",))
    for atoms, result in zip(periodic, results, strict=True):
        expected = calculator.get_property("stress", atoms)
        np.testing.assert_allclose(result["stress"], expected, rtol=0, atol=1e-12)


def test_stress_without_volume_names_the_structure(calculator):
    with pytest.raises(PropertyNotImplementedError, match="structure 1 has no stress"):
        calculator.calculate_many([bulk(), Atoms("O")], ("energy", "stress"))


def test_energy_only_needs_no_gradient(calculator, monkeypatch):
    forward = calculator.potential.forward
    seen = []
    monkeypatch.setattr(
        calculator.potential, "forward", lambda g, **o: seen.append(o) or forward(g, **o)
    )
    (result,) = calculator.calculate_many([bulk()], ["energy"])
    assert result["energy"] == pytest.approx(calculator.get_potential_energy(bulk()), abs=1e-10)
    assert seen[0] == {"forces": False, "virial": False}


def test_charges_of_a_batch():
    calculator = PETCalculator(charged_potential())
    batch = [bulk() for _ in range(3)]
    for k, atoms in enumerate(batch):
        atoms.info.update(charge=k - 1, spin=k + 1)
    energies = [result["energy"] for result in calculator.calculate_many(batch)]
    np.testing.assert_allclose(
        energies, [calculator.get_potential_energy(a) for a in batch], rtol=0, atol=1e-10
    )
    assert len({round(energy, 6) for energy in energies}) == 3


def test_generators_and_empty_lists(calculator):
    assert len(calculator.calculate_many(atoms for atoms in frames())) == len(frames())
    assert calculator.calculate_many([]) == []


def test_results_own_their_memory(calculator):
    first, second = calculator.calculate_many([bulk(), bulk()])
    first["forces"][:] = 0
    assert np.abs(second["forces"]).max() > 0


def test_one_structure_is_refused(calculator):
    with pytest.raises(ValueError, match=r"takes a list of structures; give \[atoms\]"):
        calculator.calculate_many(bulk())


def test_errors_name_the_structure(calculator):
    with pytest.raises(ValueError, match="structure 1: atom 0 is Au"):
        calculator.calculate_many([bulk(), Atoms("Au")])
    with pytest.raises(ValueError, match=r"structure 1: atoms 0 and 1 are 0\.02 Å apart"):
        calculator.calculate_many([bulk(), Atoms("OH", positions=[[0, 0, 0], [0, 0, 0.02]])])


def test_misspelt_property(calculator):
    with pytest.raises(PropertyNotImplementedError, match="did you mean 'forces'"):
        calculator.calculate_many([bulk()], ["force"])
