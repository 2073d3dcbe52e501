"""Sound forces keep energy and angular momentum; those that are no gradient do not."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from pointedge.calculators.audit import Status, dynamics

from .pairs import Pair, audit, shifted, smooth, structures

FREE = {"structures": {"free": structures()["free"]}}


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(dynamics, "STEPS", 30)


def _left(found, kind):
    (measured,) = [
        m for m in found.measured if kind in m.what and "not conserved" in m.what and not m.soft
    ]
    return measured


def test_energy_stays_and_fluctuates_with_the_square_of_the_step():
    found = audit("drift", Pair(smooth))
    assert found.status is Status.PASS, found.worst
    powers = [note for note in found.notes if "powers" in note]
    assert len(powers) == 2
    (order,) = [m for m in found.measured if "power of" in m.what and "free" in m.what]
    assert order.value < 0.1
    assert len(found.curves) == 6


@pytest.mark.parametrize(("symbol", "step"), [("H", 0.5), ("C", 1.7), ("Au", 2.0)])
def test_steps_are_tenths_of_fs(symbol, step):
    assert dynamics._largest_step(Atoms(symbol)) == step


def test_emt_passes():
    for check in ("drift", "angular_momentum"):
        found = audit(check, EMT(), **FREE)
        assert found.status is Status.PASS, found.worst


@pytest.mark.parametrize("fault", [{"scale": 1.1}, {"swirl": 0.5}])
def test_forces_that_are_no_gradient_fail(fault):
    found = audit("drift", Pair(smooth, **fault), **FREE)
    assert found.status is Status.FAIL
    assert "not conserved" in found.worst.what


def test_what_is_left_is_the_work_of_the_wrong_part():
    """With forces of 1.1 E the energy K + 1.1 E is kept, and K + E falls by a tenth of the gain."""
    right, wrong = (audit("drift", Pair(smooth, scale=scale), **FREE) for scale in (1.0, 1.1))
    assert _left(wrong, "free").value > 1e4 * _left(right, "free").value


def test_friction_fails():
    class Friction(Pair):
        """Forces against where atoms went since the call before."""

        last = None

        def calculate(self, atoms=None, *args, **kwargs):
            super().calculate(atoms, *args, **kwargs)
            last, self.last = self.last, self.atoms.positions.copy()
            if last is not None and last.shape == self.last.shape:
                self.results["forces"] -= np.clip(0.5 * (self.last - last), -0.01, 0.01)

    assert audit("drift", Friction(smooth), **FREE).status is Status.FAIL


def test_a_wall_that_no_step_resolves_fails():
    """Its extrapolation to no step is so uncertain that it excuses anything."""
    moving = FREE["structures"]["free"].copy()
    dynamics.draw_velocities(moving, dynamics.TEMPERATURE, np.random.default_rng(0))
    way = np.sign(moving.get_momenta()[0, 0])
    place, width, depth = moving.positions[0, 0] + 0.02 * way, 1e-3, 100.0  # Å, Å, eV

    class Wall(Pair):
        """The first atom falls deep as it passes a place."""

        def calculate(self, atoms=None, *args, **kwargs):
            super().calculate(atoms, *args, **kwargs)
            x = way * (self.atoms.positions[0, 0] - place) / width
            self.results["energy"] -= depth * (1 + np.tanh(x)) / 2
            self.results["forces"][0, 0] += way * depth / (2 * width * np.cosh(x) ** 2)

    found = audit("drift", Wall(smooth), **FREE)
    assert found.status is Status.FAIL
    assert [m.what for m in found.measured if m.status is Status.FAIL] == [
        f"change of the total energy, free, {dynamics._largest_step(moving) / 4:g} fs"
    ]


def test_a_hard_cutoff_shows_in_the_crystal():
    found = audit("drift", Pair(shifted))
    assert found.status is not Status.PASS
    assert "crystal" in found.worst.what


def test_angular_momentum_stays_without_torque_only():
    assert audit("angular_momentum", Pair(smooth), **FREE).status is Status.PASS
    assert audit("angular_momentum", Pair(smooth, scale=1.1), **FREE).status is Status.PASS
    turning = Pair(smooth, swirl=1e-6)
    assert audit("angular_momentum", turning, **FREE).status is Status.FAIL
    assert audit("angular_momentum", turning, exact=False, **FREE).status is Status.WARN
