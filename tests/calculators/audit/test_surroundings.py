"""Checks of what happens beside a calculator: threads, memory, and input that is wrong."""

import re
import signal
import time

import numpy as np
import torch
from ase.calculators.calculator import all_changes
from ase.calculators.lj import LennardJones

from pointedge.calculators.audit import Status, surroundings

from .alloy import Alloy
from .faults import failures, find


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


def test_input_that_is_never_answered(monkeypatch):
    class Endless(Alloy):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            while np.all(atoms.pbc) and not np.any(atoms.cell):
                try:
                    time.sleep(1e-3)
                except Exception:
                    continue
            super().calculate(atoms, properties, system_changes)

    monkeypatch.setattr(surroundings, "PATIENCE", 0.1)
    handler = signal.getsignal(signal.SIGALRM)
    finding = find("inputs", Endless())
    warned = [m.what for m in finding.measured if m.status is Status.WARN]
    assert finding.status is Status.WARN
    assert warned == ["silent: periodic without a cell"]
    assert any(re.match("periodic without a cell: no answer within", n) for n in finding.notes)
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
