"""Tests of a potential's physics, the same for every architecture.

Inherit :class:`PotentialBattery` in a class named ``Test...`` and give it one fixture,
``potential`` (float64, random weights, see :func:`lively`); the tests only read it.
"""

from .behavior import Behavior
from .common import FRAMES, SPECIES_PAIRS, lively
from .derivatives import Derivatives
from .locality import Locality
from .symmetries import Symmetries

__all__ = ["FRAMES", "SPECIES_PAIRS", "PotentialBattery", "lively"]


class PotentialBattery(Derivatives, Symmetries, Locality, Behavior):
    """All tests that a potential must pass."""
