"""The examples run, and the configurations are ones that a model can be built from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pointedge.potentials import checkpoint
from pointedge.potentials.training.config import TrainingConfig

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
    ],
)
def test_scripts(script, arguments, found, tmp_path):
    command = [sys.executable, "-W", "error", str(EXAMPLES / script), *arguments]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # beside other tests, threads wait for threads
    done = subprocess.run(
        command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert found in done.stdout
