"""The page of the peers' audits is what their files and notes make, and nothing is unexplained."""

import pytest

from . import table


def test_the_page_is_up_to_date():
    assert table.PAGE.read_text() == table.page()


def test_what_did_not_pass_needs_a_note(monkeypatch):
    audits = table.load()
    check = next(check for check in audits["emt"]["checks"] if check["name"] == "rotation")
    check["numbers"][0]["status"] = "fail"
    monkeypatch.setattr(table, "load", lambda: audits)
    with pytest.raises(ValueError, match=r"differ in \[\('emt', 'rotation'\)\]"):
        table.page()


def test_random_weights_are_not_judged_by_their_dimers():
    bumps = {"what": "force spike, Cu-Cu", "status": "warn", "value": 1.0, "limit": 0.1}
    jump = {"what": "force jump, Cu-Cu", "status": "fail", "value": 1.0, "limit": 0.1}
    for weights, numbers, expected in (
        ("random, seeded", [bumps], "pass"),
        ("random, seeded", [bumps, jump], "fail"),
        ("no weights", [bumps], "warn"),
    ):
        check = {"name": "bonds", "status": "warn", "numbers": numbers}
        assert table.status({"weights": weights}, check) == expected
