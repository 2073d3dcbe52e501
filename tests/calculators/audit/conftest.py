import pytest

from pointedge.calculators.audit import surroundings


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Measure memory for a second instead of twenty."""
    monkeypatch.setattr(surroundings, "SECONDS", 1.0)
    monkeypatch.setattr(surroundings, "ROUNDS", 4)
