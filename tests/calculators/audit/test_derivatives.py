"""Finite differences that know how wrong they are, and noise that hides behind coarse rounding."""

import numpy as np
import pytest

from pointedge.calculators.audit import CHECKS, Status
from pointedge.calculators.audit.derivatives import REACHES, TRUST, _slope
from pointedge.calculators.audit.runner import run_check

from . import faults

NOISE = 5e-7  # eV, of a network in float32


def test_sequences_of_steps_have_no_step_in_common():
    ratios = np.log2([REACHES[0] / REACHES[1], REACHES[1] / REACHES[2], REACHES[0] / REACHES[2]])
    assert np.abs(ratios - np.rint(ratios)).min() > 0.1


@pytest.mark.parametrize("seed", [32, *range(8)])
def test_errors_of_slopes_are_known(seed):
    """Details of 0.003 to 0.3 Å under noise: steps are too coarse for them, or too fine for it."""
    rng = np.random.default_rng(seed)
    width, place = 10 ** rng.uniform(-2.5, -0.5), rng.uniform(-0.1, 0.1)
    size = 10 ** rng.uniform(-4, -2)

    def energy(x):
        noise = np.random.default_rng(abs(hash((seed, x))) % 2**32).normal()
        return -500 + 1.3 * x + 5 * x**2 + size * np.tanh((x - place) / width) + NOISE * noise

    slope, error = _slope(energy, NOISE, 1.0)
    assert abs(slope - 1.3 - size / width / np.cosh(place / width) ** 2) <= TRUST * error
    assert error < 0.01


def test_rounding_that_hides_a_motion_is_noise():
    """Thousands of eV in float32 are the same all along a line of 1e-4 Å."""
    subject = faults.subject(faults.SinglePrecisionSum())
    quantum = np.spacing(np.float32(subject.energy(subject.structures["free"])))
    assert subject.noise("free").energy > 0.2 * abs(quantum)
    finding = run_check(CHECKS["resolution"], subject)
    assert finding.status is Status.FAIL
    assert all(m.status is Status.FAIL for m in finding.measured)
