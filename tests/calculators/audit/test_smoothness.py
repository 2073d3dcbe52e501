"""The search for jumps finds what is there, and the checks fail for what they are to find."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from pointedge.calculators.audit import Status, smoothness
from pointedge.calculators.audit.lines import find_jumps

from .pairs import CUTOFF, Pair, audit, cosine, shifted, smooth, structures, truncated, with_well

PLACE = 1.987654


def _noise(x):
    return np.array([1e-14, 1e-13])


def _line(jump_of_energy=0.0, jump_of_force=0.0, jump_of_slope=0.0):
    """A wall that is steep and smooth, with something hidden in its tail."""

    def function(x):
        beyond = max(x - PLACE, 0.0)
        energy = x**-12 + jump_of_energy * (x > PLACE)
        energy -= jump_of_force * beyond + 0.5 * jump_of_slope * beyond**2
        force = 12 * x**-13 + jump_of_force * (x > PLACE) + jump_of_slope * beyond
        return np.array([energy, force])

    return function


def _worst(jumps):
    return max(jumps, key=lambda jump: jump.excess)


@pytest.mark.parametrize(("energy", "force"), [(1e-4, 0.0), (0.0, 1e-3), (0.3, -2.0), (1e-2, 0.5)])
def test_a_jump_is_found_where_it_is(energy, force):
    _, jumps = find_jumps(_line(energy, force), np.linspace(0.7, 2.5, 64), _noise)
    found = _worst(jumps)
    assert found.excess > 100
    assert found.place == pytest.approx(PLACE, abs=1e-8)
    np.testing.assert_allclose(found.sizes, np.abs([energy, force]), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("slope", [0.0, 5.0])
def test_smooth_functions_and_kinks_are_no_jumps(slope):
    _, jumps = find_jumps(_line(jump_of_slope=slope), np.linspace(0.7, 2.5, 64), _noise)
    assert jumps
    assert max(jump.excess for jump in jumps) <= 1


def test_noise_is_no_jump():
    rng = np.random.default_rng(0)
    line = _line()

    def noisy(x):
        return line(x) + rng.normal(size=2) * 1e-4

    _, jumps = find_jumps(noisy, np.linspace(0.9, 2.5, 64), lambda x: np.full(2, 1e-4))
    assert max(jump.excess for jump in jumps) <= 1


def test_a_small_jump_is_found_where_one_knows_to_look():
    grid = np.linspace(0.7, 2.5, 64)
    function = _line(1e-7)
    assert max(j.excess for j in find_jumps(function, grid, _noise)[1]) <= 1
    found = _worst(find_jumps(function, grid, _noise, near=(PLACE,))[1])
    assert found.sizes[0] == pytest.approx(1e-7, rel=1e-2)


@pytest.mark.parametrize("check", ["bonds", "crossing", "curvature"])
def test_what_is_smooth_passes(check):
    found = audit(check, Pair(smooth), cutoff=CUTOFF)
    assert found.status is Status.PASS, found.worst


def test_emt_has_a_sharp_cutoff_and_no_jump():
    found = audit("bonds", EMT(), structures={"free": structures()["free"]})
    assert found.status is Status.WARN
    assert {m.what for m in found.measured if m.status is not Status.PASS} == {"force spike, Cu-Cu"}
    assert audit("curvature", EMT(), structures={"free": structures()["free"]}).status == "pass"


@pytest.mark.parametrize("check", ["bonds", "crossing", "curvature"])
@pytest.mark.parametrize(("potential", "energies"), [(truncated, True), (shifted, False)])
def test_hard_cutoffs_fail(check, potential, energies):
    found = audit(check, Pair(potential))
    failed = {m.what.split(",")[0] for m in found.measured if m.status is Status.FAIL}
    assert failed == ({"energy jump", "force jump"} if energies else {"force jump"})


def test_a_hard_cutoff_is_named_with_its_place_and_size():
    found = audit("bonds", Pair(truncated))
    (energy,) = [m for m in found.measured if m.what.startswith("energy jump") and not m.soft]
    assert f"at {CUTOFF:.4f} Å" in energy.what
    assert energy.value == pytest.approx(abs(truncated(np.array(CUTOFF - 1e-9))), rel=1e-4)


def test_lennard_jones_of_ase():
    only = {"structures": {"free": structures()["free"]}}
    smooth_one = LennardJones(sigma=2.3, epsilon=0.5, rc=5.0, smooth=True)
    assert audit("bonds", smooth_one, **only).status is Status.PASS
    assert audit("bonds", LennardJones(sigma=2.3, epsilon=0.5, rc=5.0), **only).status == "fail"


def test_a_slope_that_jumps_only_warns():
    assert audit("bonds", Pair(cosine), cutoff=CUTOFF).status is Status.PASS
    assert audit("crossing", Pair(cosine), cutoff=CUTOFF).status is Status.PASS
    found = audit("curvature", Pair(cosine))
    assert found.status is Status.WARN
    assert "slope" in found.worst.what


def test_a_second_minimum_warns_with_its_depth_and_place():
    found = audit("bonds", Pair(with_well))
    assert found.status is Status.WARN
    assert any("second minima of Cu-Cu at 4.0" in note for note in found.notes)
    (depth,) = [m for m in found.measured if m.what.startswith("depth")]
    assert 0.01 < depth.value < 0.05


def test_wrong_forces_are_not_the_slope_of_the_energy():
    found = audit("curvature", Pair(smooth, scale=1.01))
    assert "curvature of the energy" in found.worst.what
    assert found.status is Status.WARN  # that forces are wrong is for another check to say


def test_refused_dimers_are_told_and_nan_fails():
    class Refusing(Pair):
        def calculate(self, atoms=None, *args, **kwargs):
            if len(atoms) == 2:
                raise ValueError("no dimers here.")
            super().calculate(atoms, *args, **kwargs)

    found = audit("bonds", Refusing(smooth))
    assert found.status is Status.SKIP
    assert "no Cu-Cu dimer: no dimers here." in found.notes[0]
    nan = Pair(lambda r: np.where(r.real > 4, np.nan, smooth(r)))
    assert audit("bonds", nan).status is Status.FAIL


def test_many_species_are_capped_with_a_note(monkeypatch):
    monkeypatch.setattr(smoothness, "BOND_POINTS", 12)
    atoms = Atoms("CuNiPdPtAg", positions=np.diag([3.0, 6, 9])[[0, 1, 2, 0, 1]] + np.eye(5, 3))
    found = audit("bonds", Pair(smooth), structures={"free": atoms})
    assert found.notes[0] == "10 of 15 pairs of species were looked at"
    assert len(found.curves) == 10
