"""Each check of conduct finds what it is for, in a calculator that is wrong in that alone."""

import time

import numpy as np
import pytest
import torch
from ase.calculators.calculator import all_changes
from ase.calculators.lj import LennardJones

from pointedge.calculators import PETCalculator
from pointedge.calculators.audit import CHECKS, Status, Subject, surroundings
from pointedge.calculators.audit.runner import run_check

from ..conftest import bulk, charged_potential, structures
from . import faults
from .alloy import Alloy


def find(name, calculator, **known):
    return run_check(CHECKS[name], faults.subject(calculator, **known))


def failures(finding):
    return [m.what for m in finding.measured if m.status is Status.FAIL]


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

    assert "crystal: arrays['positions']" in failures(find("mutation", faults.MutatedAtoms()))[0]
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


def test_threads():
    class Shared(Alloy):
        """Hands the structure over in a variable of the module."""

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            Shared.current = atoms
            time.sleep(1e-3)
            super().calculate(atoms, properties, system_changes)
            self.results["energy"] += 1e-3 * Shared.current.positions[0, 0]
            self.results["forces"] = self.results["forces"] + 1e-3 * Shared.current.cell[0, 0]

    class Offset(Shared):
        """Another precision."""

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            twin = atoms.copy()
            twin.positions += 1e-3
            super().calculate(twin, properties, system_changes)
            self.atoms = atoms.copy()

    def build(precision):
        return {"float32": Offset, "float64": Shared}[precision]()

    assert failures(find("threads", Shared(), build=build))
    assert find("threads", Shared()).status is Status.SKIP
    assert find("threads", Alloy(), build=lambda p: Alloy()).status is Status.PASS


def test_the_default_type_of_torch():
    def build(precision):
        torch.set_default_dtype(getattr(torch, precision))
        return Alloy()

    before = torch.get_default_dtype()
    assert failures(find("threads", Alloy(), build=build)) == ["changes of torch's default type"]
    assert torch.get_default_dtype() is before


def test_memory():
    class Leaks(Alloy):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            self.kept = [getattr(self, "kept", None), np.ones(200_000)]  # 1.6 MB

    finding = find("memory", Leaks())
    assert finding.status is Status.FAIL
    assert 1000 < finding.measured[0].value < 2500
    assert find("memory", Alloy()).status is Status.PASS


def test_what_an_allocator_takes_at_once_is_no_leak(monkeypatch):
    """0.3 MB in 40 calls at most, of a calculator that is too slow for more, tell no rate."""
    sizes = iter(100 + 0.015 * np.arange(surroundings.SAMPLES))
    monkeypatch.setattr(surroundings, "resident_memory", lambda: lambda: next(sizes))
    monkeypatch.setattr(surroundings, "CALLS", 40)
    finding = find("memory", Alloy())
    assert finding.measured[0].value > surroundings.LEAK
    assert finding.status is Status.PASS


class Silent(LennardJones):
    """Answers everything: NaN is 0, and distances are never below 1 Å."""

    def __init__(self):
        super().__init__(sigma=2.4, epsilon=1e-3, rc=6.0, smooth=True)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        tame = atoms.copy()
        tame.positions = np.nan_to_num(tame.positions) + np.arange(len(atoms))[:, None]
        tame.set_cell(tame.cell.complete())
        super().calculate(tame, properties, system_changes)
        self.results["energy"] += 1e-3 * atoms.numbers.sum()
        self.results.setdefault("stress", np.zeros(6))


def test_silent_nonsense():
    finding = find("inputs", Silent())
    assert failures(finding) == ["silent: a NaN position"]
    warned = [m.what for m in finding.measured if m.status is Status.WARN]
    assert warned == [
        "silent: two atoms in one place",
        "silent: an unknown element",
        "silent: periodic without a cell",
        "silent: stress of a molecule",
    ]
    assert "a NaN position: an energy of " in finding.notes[0]


def test_forces_that_show_a_nan_save_half():
    class Half(Silent):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            if not np.isfinite(atoms.positions).all():
                self.results["forces"] = np.full((len(atoms), 3), np.nan)

    finding = find("inputs", Half())
    assert finding.status is Status.WARN
    assert "silent: a NaN position" in [m.what for m in finding.measured if m.status != "pass"]


def test_words_of_a_refusal():
    finding = find("inputs", Alloy())
    assert finding.status is Status.PASS
    assert "an unknown element: ValueError: elements [118] are not known here." in finding.notes


def test_input_that_leaves_something_behind():
    class Poisoned(Alloy):
        worst = 0.0

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            try:
                super().calculate(atoms, properties, system_changes)
            except ValueError:
                self.worst = 1.0
                raise
            self.results["energy"] += self.worst

    assert failures(find("inputs", Poisoned())) == ["energy, free, after all of these"]


def test_ours():
    """A PET that reads charge and spin; its inputs are among what the cache is probed with."""
    charged = charged_potential()
    known = {"free": structures()["molecule"], "crystal": bulk()[:6]}
    subject = Subject(PETCalculator(charged), known)
    findings = {name: run_check(CHECKS[name], subject) for name in ("caches", "batch")}
    assert {finding.status for finding in findings.values()} == {Status.PASS}
    (idle,) = findings["caches"].notes
    assert idle.endswith("calculator: initial magnetic moments, initial charges")
