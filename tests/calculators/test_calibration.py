"""Standard deviations against errors: the numbers, the tables and the picture."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import spearmanr

from pointedge.calculators import EnsembleCalculator, PETCalculator
from pointedge.calculators.cli.evaluate import print_evaluation
from pointedge.calculators.evaluation import evaluate
from pointedge.potentials.calibration import Calibration

from .conftest import small_potential
from .labelled import VOIGT, Told, frame

FULL = (0, 5, 4, 5, 1, 3, 4, 3, 2)  # of ASE's order, the nine components


class Unsure(Told):
    """Says how sure it is, too, as the structure tells."""

    implemented_properties = [  # noqa: RUF012
        *Told.implemented_properties,
        *(f"{name}_std" for name in ("energy", "forces", "stress")),
    ]

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results["energy_std"] = atoms.info["told_energy_std"]
        self.results["forces_std"] = atoms.arrays["told_forces_std"]
        self.results["stress_std"] = atoms.info["told_stress_std"][VOIGT]


def unsure_frames(count=50, size=4):
    """Errors of frames are normal, of standard deviations that differ and are told."""
    rng = np.random.default_rng(1)
    data = []
    for seed in range(count):
        std = 0.01 * (seed + 1)
        atoms = frame(f"H{size}", seed, energy=std * rng.normal())
        atoms.info["told_energy_std"] = std
        stds = rng.uniform(0.01, 0.3, size=(size, 3))
        atoms.arrays["told_forces_std"] = stds
        atoms.arrays["told_forces"] = atoms.arrays["REF_forces"] + stds * rng.normal(size=(size, 3))
        stds = np.full((3, 3), rng.uniform(0.01, 0.3))  # one random number: as symmetric as stress
        atoms.info["told_stress_std"] = stds
        atoms.info["told_stress"] = atoms.info["REF_stress"] + stds * rng.normal()
        data.append(atoms)
    return data


def test_numbers_against_scipy():
    rng = np.random.default_rng(0)
    stds = rng.integers(1, 5, size=200).astype(float)  # with ties
    errors = stds * rng.normal(size=200)
    found = Calibration.of(stds, errors)
    assert found.count == 200
    assert_allclose(found.correlation, spearmanr(stds, np.abs(errors))[0], rtol=1e-12)
    assert_allclose([found.error, found.std], np.sqrt(np.mean([errors**2, stds**2], axis=1)))
    # Binomial: 3 standard deviations of 200 draws.
    assert found.within_one == pytest.approx(0.683, abs=0.1)
    assert found.within_two == pytest.approx(0.954, abs=0.05)
    assert Calibration.of(np.ones(3), np.ones(3)).correlation == 0


def test_of_a_calculator_that_knows(capsys, tmp_path):
    data = unsure_frames()
    found = evaluate(Unsure(), data, model="m")
    energies, forces, stress = found.calibrations.values()
    assert (energies.count, forces.count, stress.count) == (50, 600, 450)
    assert_allclose(energies.error, found.overall.energy_per_atom.rmse, rtol=1e-12)
    assert_allclose(forces.error, found.overall.forces.rmse, rtol=1e-12)
    assert_allclose(stress.error, found.overall.stress.rmse, rtol=1e-12)
    mean_square = np.mean([(10 * (k + 1) / 4) ** 2 for k in range(50)])
    assert_allclose(energies.std, np.sqrt(mean_square), rtol=1e-12)  # meV/atom
    assert forces.within_one == pytest.approx(0.683, abs=0.06)
    assert forces.within_two == pytest.approx(0.954, abs=0.03)
    assert forces.correlation > 0.4
    assert stress.factor == pytest.approx(1, abs=0.3)  # 50 draws
    assert found.to_dict()["calibration"]["forces"]["count"] == 600
    print_evaluation(found)
    lines = capsys.readouterr().out.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("Standard deviations"))
    assert lines[start + 2].split()[:3] == ["energy", "meV/atom", "50"]
    assert lines[start + 3].split()[:3] == ["forces", "meV/Å", "600"]
    assert lines[start + 4].split()[:3] == ["stress", "meV/Å³", "450"]
    found.plot(tmp_path / "parity.png")
    assert (tmp_path / "parity.png").read_bytes().startswith(b"\x89PNG")


def test_of_one_that_does_not():
    found = evaluate(Told(), unsure_frames(3))
    assert found.calibrations == {}
    assert found.to_dict()["calibration"] == {}


def test_of_a_committee():
    """Its standard deviations reach the table; those without labels do not."""
    members = [PETCalculator(small_potential(seed=k)) for k in range(2)]
    atoms = unsure_frames(1)[0]
    atoms.numbers[:] = 8
    found = evaluate(EnsembleCalculator(members), [atoms])
    energies = [member.get_potential_energy(atoms) for member in members]
    assert_allclose(
        found.calibrations["energy_per_atom"].std, 1000 * np.std(energies, ddof=1) / 4, rtol=1e-9
    )
    del atoms.info["REF_energy"]
    found = evaluate(EnsembleCalculator(members), [atoms])
    assert list(found.calibrations) == ["forces", "stress"]
    stress = [member.get_stress(atoms)[list(FULL)] for member in members]
    expected = 1000 * np.sqrt(np.mean(np.var(stress, axis=0, ddof=1)))
    assert_allclose(found.calibrations["stress"].std, expected, rtol=1e-9)
