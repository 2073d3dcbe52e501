"""Several processes make the same steps as one."""

import socket
import subprocess
import sys

import ase.io
import pytest
import torch

from pointedge.potentials.training.logs import read_log
from pointedge.potentials.training.ranks import launch

from . import apart

STEPS = 20
# Sums are taken in another order, and 20 steps of AdamW divide by roots of squared gradients.
TOLERANCE = 1e-10


def free_port():
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        return connection.getsockname()[1]


def test_two_ranks_with_unequal_frames_and_missing_labels_match_one(config, tmp_path):
    """Steps have one to three frames, so that a rank may have none, or none with a label."""
    frames = ase.io.read(tmp_path / "frames.xyz", ":")
    for k, atoms in enumerate(frames):
        atoms.calc = None
        if k % 3 == 0:
            del atoms.info["REF_energy"]
        if k % 4 != 1:
            del atoms.arrays["REF_forces"]
    ase.io.write(tmp_path / "frames.xyz", frames)
    del config["optimization"]["batch_size"]
    config["optimization"] |= {"batch_atoms": 9, "max_epochs": 2}
    config["run"] = {"log_every": 1, "plot": False}
    port = free_port()
    cached = config | {"data": config["data"] | {"cache": "cache"}}  # written by the first rank
    processes = [
        apart.start(apart.in_float64, cached, tmp_path, "two", rank, 2, port) for rank in range(2)
    ]
    assert apart.finish(apart.in_float64, config, tmp_path, "one") == 0
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    one, two = (read_log(tmp_path / name / "log" / "metrics.csv") for name in ("one", "two"))
    assert len({row["loss"] for row in one if "loss" in row}) >= STEPS
    for row, other in zip(one, two, strict=True):
        assert row.keys() == other.keys()
        for name in row.keys() - {"minutes", "atoms_per_second"}:
            assert other[name] == pytest.approx(row[name], rel=TOLERANCE, abs=TOLERANCE), name
    states = [torch.load(tmp_path / n / "last.pt", weights_only=True) for n in ("one", "two")]
    for name, tensor in states[0]["module"].items():
        difference = (states[1]["module"][name] - tensor).abs().max().item()
        assert difference <= TOLERANCE * max(1.0, tensor.abs().max().item()), name


def test_mpi_is_left_alone():
    """Lightning would initialise it where mpi4py is installed, as LAMMPS needs it."""
    code = (
        "import sys; from pointedge.potentials.training.ranks import launch;"
        "launch('cpu', 1, 1); print('mpi4py.MPI' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_a_device_that_is_not_there_is_one_sentence():
    with pytest.raises(ValueError, match="one device, not 2"):
        launch("cuda:1", 2, 1)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="finds no NVIDIA GPU"):
            launch("cuda", 1, 1)
