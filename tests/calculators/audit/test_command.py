"""`pointedge audit`: structures that are made, the table, the page, the exit code."""

import json

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from typer.testing import CliRunner

from pointedge.calculators import EnsembleCalculator, PotentialCalculator
from pointedge.calculators.audit import CHECKS, audit, runner
from pointedge.calculators.audit.runner import select
from pointedge.calculators.audit.structures import audit_structures
from pointedge.calculators.cli import app
from pointedge.potentials.potential import Potential

from ..conftest import MomentNetwork, small_potential
from ..conftest import bulk as crystal_of_moments

EMT_MODEL = "ase.calculators.emt:EMT"
QUICK = ["--only", "translation,permutation,resolution"]


class Tilted(EMT):
    """Its energy depends on how the first atom lies in the axes."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms, properties, ["positions", "numbers", "cell", "pbc"])
        self.results["energy"] += 1e-3 * (self.atoms.positions[1, 0] - self.atoms.positions[0, 0])


def invoke(*arguments):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_table_numbers_and_page(tmp_path):
    numbers, page, picture = (tmp_path / name for name in ("a.json", "a.html", "a.png"))
    done = invoke(
        EMT_MODEL, "--elements", "Cu,Au", "--only", "rotation", "--json", numbers, "--report", page
    )
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith(f"{EMT_MODEL}: free ")
    assert lines[3].split()[:2] == ["rotation", "pass"]
    assert "ml-peg rotation walk, |ΔE|, mean" in done.output
    found = json.loads(numbers.read_text())
    assert [check["name"] for check in found["checks"]] == ["rotation"]
    assert all(number["status"] == "pass" for number in found["checks"][0]["numbers"])
    text = page.read_text()
    assert "data:image/png;base64," in text
    assert "spin by themselves" in text
    assert invoke(EMT_MODEL, "--elements", "Cu,Au", *QUICK, "--report", picture).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_failures_end_with_1_and_name_the_first(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from tests.calculators.audit.test_command import Tilted\ndef make(): return Tilted()\n"
    )
    monkeypatch.chdir(tmp_path)
    done = invoke("mine:make", "--elements", "Cu", "--only", "rotation,translation")
    assert done.exit_code == 1, done.output
    assert "first failure: rotation" in done.output
    assert "Where that fails: Free clusters start to spin" in done.output


def test_a_calculator_of_one_precision(tmp_path, monkeypatch):
    """Threads are tried with two of them."""
    (tmp_path / "single.py").write_text(
        "from ase.calculators.emt import EMT\ndef make(): return EMT()\n"
    )
    monkeypatch.chdir(tmp_path)
    done = invoke("single:make", "--elements", "Cu", "--only", "threads")
    assert done.exit_code == 0, done.output
    refused = invoke("single:make", "--elements", "Cu", "--only", "threads", "--dtype", "float32")
    assert "has no parameter 'dtype'" in str(refused.exception)


def test_structures_are_taken_or_made(tmp_path):
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.05)
    write(tmp_path / "crystal.xyz", crystal)
    done = invoke(EMT_MODEL, tmp_path / "crystal.xyz", *QUICK)
    assert "free Cu9, crystal Cu4, slab Cu4" in done.output
    found, refused = audit_structures(EMT(), [crystal])
    np.testing.assert_array_equal(found["crystal"].positions, crystal.positions)
    assert found["slab"].pbc.tolist() == [True, True, False]
    assert found["slab"].cell.volume > 2 * crystal.cell.volume
    assert not refused
    only, _ = audit_structures(EMT(), [molecule("CO")])
    assert list(only) == ["free"]


def test_moments_that_a_file_had_as_results_reach_the_model():
    atoms = crystal_of_moments()
    moments = np.linspace(-1, 1, len(atoms))
    atoms.calc = SinglePointCalculator(atoms, magmoms=moments)
    found, refused = audit_structures(PotentialCalculator(Potential(MomentNetwork())), [atoms])
    assert not refused
    np.testing.assert_array_equal(found["crystal"].get_initial_magnetic_moments(), moments)


def test_what_a_calculator_refuses_is_told():
    class NoMolecules(EMT):
        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            if not atoms.pbc.any():
                raise RuntimeError("molecules are not for me")
            super().calculate(atoms, properties, ["positions", "numbers", "cell", "pbc"])

    found, refused = audit_structures(NoMolecules(), elements=["Cu"])
    assert list(found) == ["crystal", "slab"]
    assert refused == {"free": "RuntimeError: molecules are not for me"}
    report = audit(NoMolecules(), elements=["Cu"], checks=select(["torque", "locality"]))
    assert [f.status for f in report.findings][-1] == "skip"
    assert "molecules are not for me" in report.findings[-1].notes[0]


def test_a_budget_leaves_checks_out():
    report = audit(EMT(), elements=["Cu"], checks=select(["symmetry"]), budget=1e-9)
    assert {f.status for f in report.findings} == {"skip"}
    assert not report.failed


def test_a_calculator_that_raises_fails_that_check():
    class Fragile(EMT):
        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            if len(atoms) > 9:
                raise RuntimeError("too large")
            super().calculate(atoms, properties, ["positions", "numbers", "cell", "pbc"])

    report = audit(Fragile(), elements=["Cu"], checks=select(["supercell", "permutation"]))
    assert [(f.check.name, str(f.status)) for f in report.findings] == [
        ("permutation", "pass"),
        ("supercell", "fail"),
    ]
    assert "the calculator raised RuntimeError: too large" in report.findings[1].notes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([EMT_MODEL], "does not say which elements it knows"),
        ([EMT_MODEL, "--only", "rotatoin"], "no check 'rotatoin'; did you mean 'rotation'"),
        ([EMT_MODEL, "--elements", "Cu", "--symmetry", "yes"], "'exact' or 'approximate'"),
        ([EMT_MODEL, "--elements", "Cu", "--report", "a.gif"], "its suffix has to be"),
        ([EMT_MODEL, "nothing.xyz"], "there is no structure file nothing.xyz"),
        ([EMT_MODEL, "--elements", "U"], "takes none of the structures"),
        ([EMT_MODEL, "--elements", "cu"], "there is no element 'cu'; give symbols such as"),
        ([EMT_MODEL, "--elements", "Cu", "--cutoff", "-5"], "--cutoff is -5; it must be positive"),
        ([EMT_MODEL, "--force-error", "nan"], "--force-error is nan; it must be positive"),
        ([EMT_MODEL, "--dtype", "float32", "--elements", "Cu"], "has no parameter 'dtype'"),
        ([EMT_MODEL, "--json", "a.html", "--report", "a.html"], "a.html is named for two outputs"),
    ],
)
def test_errors_are_one_sentence(arguments, message):
    error = str(invoke(*arguments).exception)
    assert message in error
    assert "\n" not in error


def test_every_check_explains_itself():
    done = invoke(EMT_MODEL, "--explain")
    for check in CHECKS.values():
        assert f"{check.group}: {check.name}" in done.output
        assert check.statement.endswith(".")
        assert check.consequence.endswith(".")


def test_an_ensemble_is_judged_by_its_members(monkeypatch):
    """As exact as the least of them, and by the smallest known error; cutoffs may differ."""
    first, second = small_potential(cutoff=3.0), small_potential(cutoff=3.5)
    first.information["validation_rmse"] = {"forces": 40.0}
    second.information["test_rmse"] = {"forces": 30.0}
    monkeypatch.setattr(runner, "run", lambda subject, **options: subject)
    subject = runner.audit(EnsembleCalculator([first, second]))
    assert (subject.exact, subject.force_error, subject.cutoff) == (False, 0.03, 3.5)
    assert set(subject.structures["crystal"].numbers) == {1, 8}
    foreign = runner.audit(EMT(), elements=["Cu"])
    assert (foreign.exact, foreign.force_error, foreign.cutoff) == (True, None, None)


def test_what_applies_to_one_structure_alone_does_not_hide_a_failure():
    """A wire has no other cell vectors to choose; the crystal before it has been judged."""

    class Tipped(EMT):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            if self.atoms.pbc.all():
                self.results["energy"] += 1e-3 * self.atoms.cell.lengths().sum()

    wire = bulk("Cu", cubic=True)
    wire.set_cell(np.diag([0.0, 0.0, 3.6]))
    wire.pbc = (False, False, True)
    structures = [bulk("Cu", cubic=True), wire]
    found = audit(Tipped(), structures, checks=select(["cell_choice", "extensivity"]))
    verdicts = {finding.check.name: str(finding.status) for finding in found.findings}
    assert verdicts == {"cell_choice": "fail", "extensivity": "pass"}


def test_numbers_that_are_none_are_written():
    class Lost(EMT):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results["stress"] = np.full(6, np.nan)

    found = audit(Lost(), [bulk("Cu", cubic=True)], checks=select(["stress", "cell_choice"]))
    assert found.failed
    json.dumps(found.to_dict(), allow_nan=False)
