"""A few of the cases of ``python -m tests.fuzz``, in this process; the same ones each time."""

from __future__ import annotations

import pytest

from . import readers

CASES = {
    "checkpoints": 60,
    "published checkpoints": 60,
    "extended XYZ": 80,
    "other files of frames": 40,
    "configurations": 80,
    "ensembles": 60,
}


@pytest.mark.parametrize("name", CASES)
def test_every_case_ends_in_a_clear_error_or_a_right_result(name, tmp_path):
    outcomes = set()
    for number, case in enumerate(readers.made(name, CASES[name], seed=0)):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcomes.add(readers.run(name, case, folder))
    assert outcomes == {"clear error", "right result"}


def test_all_readers_have_their_cases():
    assert set(CASES) == set(readers.SHARES) == set(readers.RUN)
    assert sum(readers.SHARES.values()) == pytest.approx(1.0)
