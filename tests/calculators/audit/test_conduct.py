"""Each check of conduct finds what it is for, in a calculator that is wrong in that alone."""

import numpy as np
import pytest
from ase.calculators.calculator import all_changes
from ase.calculators.lj import LennardJones

from pointedge.calculators import PETCalculator
from pointedge.calculators.audit import CHECKS, Status, Subject
from pointedge.calculators.audit.runner import run_check

from ..conftest import bulk, charged_potential, structures
from .alloy import Alloy
from .faults import MutatedAtoms, failures, find


class Reads(LennardJones):
    """Lennard-Jones and terms of all else that a structure may carry, each seen by its cache."""

    def __init__(self, blind=""):
        super().__init__(sigma=2.4, epsilon=0.4, rc=6.0, ro=4.0, smooth=True)
        self.blind = blind
        self.last = {}

    def notes(self, atoms):
        return {key: atoms.info.get(key, 0) for key in ("charge", "spin")}

    def check_state(self, atoms, tol=1e-15):
        changes = super().check_state(atoms, tol)
        if self.atoms is not None:
            now = self.notes(atoms)
            changes += [key for key in now if now[key] != self.last[key]]
        return [change for change in changes if change != self.blind]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, ["energy"], all_changes)
        self.last = self.notes(atoms)
        moments, charges = atoms.get_initial_magnetic_moments(), atoms.get_initial_charges()
        self.results["energy"] += 1e-3 * (
            atoms.numbers @ np.arange(1, len(atoms) + 1)
            + sum(self.last.values())
            + (moments**2).sum()
            + (charges**2).sum()
        )


def test_a_cache_that_sees_everything_passes():
    finding = find("caches", Reads())
    assert finding.status is Status.PASS
    assert "of no effect on this calculator: nothing" in finding.notes


@pytest.mark.parametrize(
    ("blind", "words"),
    [
        ("positions", "an atom moved in place"),
        ("numbers", "another species"),
        ("cell", "cell strained in place"),
        ("pbc", "opened along one axis"),
        ("initial_magmoms", "initial magnetic moments"),
        ("initial_charges", "initial charges"),
        ("charge", "info['charge']"),
        ("spin", "info['spin']"),
    ],
)
def test_a_cache_that_misses_something(blind, words):
    failed = failures(find("caches", Reads(blind)))
    assert words in failed[0]


def test_a_cache_with_a_tolerance():
    """As NumPy's allclose has it."""

    class Tolerant(Alloy):
        def check_state(self, atoms, tol=1e-15):
            return super().check_state(atoms, 1e-4)

    assert "1e-5" in failures(find("caches", Tolerant()))[0]


def test_neighbors_that_are_kept():
    """A list that serves as long as no atom moves far in one step; then each step is small."""

    class Kept(LennardJones):
        before = None

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            last, self.before = self.before, atoms.copy()
            if last is not None and len(last) == len(atoms) and all(last.pbc == atoms.pbc):
                moved = np.abs(
                    np.concatenate([(last.positions - atoms.positions), last.cell - atoms.cell])
                )
                if moved.max() < 0.25:
                    self.nl.update, system_changes = (lambda atoms: False), ["positions"]
                    return super().calculate(atoms, properties, system_changes)
            self.nl = None
            return super().calculate(atoms, properties, system_changes)

    assert (
        "all lengths shrunk"
        in failures(find("caches", Kept(sigma=2.4, epsilon=0.4, rc=6.0, smooth=True)))[0]
    )


def test_mutation():
    class Labels(Alloy):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            atoms.info.get("audit", {"of": ["", [0]]})["of"][1][0] = 7

    class Owns(Alloy):
        def get_property(self, name, atoms=None, allow_calculation=True):
            super().get_property(name, atoms, allow_calculation)
            return self.results[name]

    class Frees(Alloy):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            atoms.set_constraint()

    assert "crystal: arrays['positions']" in failures(find("mutation", MutatedAtoms()))[0]
    assert "free: constraints" in failures(find("mutation", Frees()))[0]
    assert "do not last: forces" in failures(find("mutation", Owns()))[0]
    assert "free: info" in failures(find("mutation", Labels()))[0]


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_chance(size):
    """Dropout that was left on: the noise that is measured is this, and excuses nothing."""

    class Dropout(Alloy):
        rng = np.random.default_rng(0)

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            self.results["forces"] = self.results["forces"] + size * self.rng.normal(
                size=(len(atoms), 3)
            )

    finding = find("determinism", Dropout())
    assert "forces, free again" in failures(finding)
    assert finding.notes == ("not the same to the bit",)
    assert find("determinism", Alloy()).notes == ("the same to the bit",)


def test_rounding_that_varies_is_no_chance():
    class Atomics(Alloy):
        rng = np.random.default_rng(0)

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            rounded = self.results["forces"].astype(np.float32)
            self.results["forces"] = rounded * (1 + 1e-7 * self.rng.normal(size=rounded.shape))

    finding = find("determinism", Atomics())
    assert finding.status is Status.PASS
    assert finding.notes == ("not the same to the bit",)


def test_batches():
    class Many(Alloy):
        def calculate_many(self, structures, properties):
            found = []
            for atoms in structures:
                twin = atoms.copy()
                twin.calc = Alloy()
                found.append({"energy": twin.get_potential_energy(), "forces": twin.get_forces()})
            return found

    class Padded(Many):
        def calculate_many(self, structures, properties):
            found = super().calculate_many(structures, properties)
            for result in found[1:]:
                result["forces"][-1] += 1e-6
            return found

    assert find("batch", Many()).status is Status.PASS
    assert failures(find("batch", Padded()))[0] == "forces, free in a batch"
    assert find("batch", Alloy()).status is Status.SKIP


def test_ours():
    """A PET that reads charge and spin; its inputs are among what the cache is probed with."""
    charged = charged_potential()
    known = {"free": structures()["molecule"], "crystal": bulk()[:6]}
    subject = Subject(PETCalculator(charged), known)
    findings = {name: run_check(CHECKS[name], subject) for name in ("caches", "batch")}
    assert {finding.status for finding in findings.values()} == {Status.PASS}
    (idle,) = findings["caches"].notes
    assert idle.endswith("calculator: initial magnetic moments, initial charges")
