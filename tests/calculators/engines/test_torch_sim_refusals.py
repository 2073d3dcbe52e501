"""What a state of torch-sim does not carry or a model does not know, and is refused for."""

import warnings

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms

from pointedge.calculators import PotentialCalculator
from pointedge.potentials.potential import Potential

from ..conftest import MomentNetwork, bulk, charged_potential, slab

with warnings.catch_warnings():  # torch-sim scripts functions when it is imported
    warnings.simplefilter("ignore")
    pytest.importorskip(
        "torch_sim", reason="torch-sim is not installed; pip install 'pointedge[engines]'"
    )

    from pointedge.calculators.engines.torch_sim import PotentialModel

EXACT = 1e-10  # eV, eV/Å³, of one evaluation: sums in another order


def test_charge_is_that_of_all_structures():
    potential = charged_potential()
    with pytest.raises(ValueError, match=r"reads charge, which states .* give charge= for all"):
        PotentialModel(potential)
    model = PotentialModel(potential, charge=-1, spin=2)
    atoms = bulk()
    energy = model(model.state(atoms))["energy"].item()
    atoms.info.update(charge=-1, spin=2)
    expected = PotentialCalculator(potential).get_potential_energy(atoms)
    assert energy == pytest.approx(expected, abs=EXACT)
    atoms.info["charge"] = 0
    with pytest.raises(ValueError, match=r"info\['charge'\] is 0, and -1 was given"):
        model.state(atoms)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"charge": 50}, "charge is 50, and the model knows whole numbers from -3 to 3 only"),
        ({"charge": 0.5}, "charge is 0.5, and the model knows whole numbers"),
        ({"charge": 0, "spin": 0}, "spin is 0, and the model knows whole numbers from 1 to 4 only"),
    ],
    ids=str,
)
def test_charge_is_one_that_the_model_knows(given, said):
    with pytest.raises(ValueError, match=said):
        PotentialModel(charged_potential(), **{"spin": 1, **given})


def test_charge_is_refused_where_it_is_not_read(potential):
    for given in ({"charge": 3}, {"spin": 2}):
        with pytest.raises(ValueError, match=f"reads no {next(iter(given))}; leave it out"):
            PotentialModel(potential, **given)
    assert PotentialModel(potential, charge=0, spin=1).inputs == {}


def test_moments_are_refused():
    with pytest.raises(ValueError, match=r"reads magmoms, which states .* use the ASE calculator"):
        PotentialModel(Potential(MomentNetwork()))


def test_what_states_would_lose_is_refused(potential):
    model = PotentialModel(potential, compute_stress=False)
    with pytest.raises(ValueError, match=r"structure 1 is periodic along \[True, True, False\]"):
        model.state([bulk(), slab(20.0)])
    with pytest.raises(ValueError, match="structure 1 is periodic along"):
        model.state([bulk(), molecule("H2O")])
    fixed = bulk()
    fixed.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match="structure 0 has constraints"):
        model.state(fixed)
    with pytest.raises(ValueError, match="structure 1: atom 0 is Au"):
        model.state([bulk(), Atoms("Au", cell=[4] * 3, pbc=True)])
    with pytest.raises(ValueError, match="the list is empty"):
        model.state([])


def test_states_that_were_made_elsewhere_are_checked(potential):
    model = PotentialModel(potential)
    state = model.state([bulk(), bulk()])
    with pytest.raises(ValueError, match=r"the state is torch.float32 on cpu; make it with"):
        model(state.clone().to(dtype=torch.float32))  # which changes what it is called on
    gold = state.clone()
    gold.atomic_numbers[18] = 79
    with pytest.raises(ValueError, match=r"structure 1: atom 2 is Au.* it knows H, O"):
        model(gold)
    crowded = state.clone()
    crowded.positions[21] = crowded.positions[20] + 0.01
    with pytest.raises(ValueError, match=r"structure 1: atom 4 and atom 5, .* are closer than 0.1"):
        model(crowded)
    lost = state.clone()
    lost.positions[3, 0] = torch.nan
    with pytest.raises(ValueError, match=r"position of atom 3 .* is not finite"):
        model(lost)


def test_what_is_refused_once_is_refused_again(potential):
    """Neighbour lists of refused states are not taken for checked ones."""
    for spoil, said in (
        (lambda state: state.positions[21:22].copy_(state.positions[20:21] + 0.01), "closer than"),
        (lambda state: state.atomic_numbers[18:19].fill_(79), "atom 2 is Au"),
    ):
        model = PotentialModel(potential)
        good = model.state([bulk(), bulk()])
        expected = model(good)["energy"]
        spoiled = good.clone()
        spoil(spoiled)
        for _ in range(3):
            with pytest.raises(ValueError, match=said):
                model(spoiled)
        torch.testing.assert_close(model(good)["energy"], expected, rtol=0, atol=EXACT)


def test_a_cell_that_loses_its_volume_has_no_stress(potential):
    """Open axes, whose cell vectors no neighbour list depends on."""
    model = PotentialModel(potential)
    boxed = molecule("H2O")
    boxed.cell = [9, 9, 9]
    state = model.state([boxed, boxed])
    expected = model(state)["stress"]
    assert expected.isfinite().all()
    flat = state.clone()
    flat.cell[1, 2] = 0
    for _ in range(2):
        with pytest.raises(ValueError, match="structure 1 has no stress"):
            model(flat)
    torch.testing.assert_close(model(state)["stress"], expected, rtol=0, atol=EXACT)
    model.compute_stress = False
    assert model(flat)["energy"].isfinite().all()
