"""Runs that are killed, stopped or without room on the disk go on as if nothing had happened."""

import random
import signal
import time
from contextlib import suppress

import ase.io
import pytest
import torch

from pointedge.potentials import checkpoint
from pointedge.potentials.training import run as training
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.logs import read_log
from pointedge.potentials.training.run import RunStoppedError, train

from . import apart

TIMING = ("atoms_per_second", "minutes")


@pytest.fixture
def tree(config):
    """A run of 18 steps that are all in its log, some of them in the middle of batches by atoms."""
    del config["optimization"]["batch_size"]
    config["optimization"] |= {"batch_atoms": 24, "max_epochs": 3}
    config["run"] = {"log_every": 1, "plot": False}
    return config


def steps(folder):
    return [
        {name: value for name, value in row.items() if name not in TIMING}
        for row in read_log(folder / "log" / "metrics.csv")
    ]


def same_run(one, other):
    """Whether two folders hold the same losses and weights, bit for bit."""
    assert steps(one) == steps(other)
    states = [torch.load(f / "last.pt", weights_only=True) for f in (one, other)]
    for name in ("module", "average", "optimizer"):
        torch.testing.assert_close(states[0][name], states[1][name], rtol=0, atol=0)
    best = [checkpoint.load(f / "best.safetensors") for f in (one, other)]
    for name, tensor in best[0].state_dict().items():
        assert torch.equal(tensor, best[1].state_dict()[name]), name
    assert best[0].information["validation_rmse"] == best[1].information["validation_rmse"]


def quiet(line):
    pass


@pytest.fixture
def straight(tree, tmp_path):
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(TrainingConfig.from_dict(tree), tmp_path / "straight", folder=tmp_path, report=quiet)
    torch.set_num_threads(torch_threads)
    rows = steps(tmp_path / "straight")
    trained = [row["step"] for row in rows if "loss" in row]
    assert trained == list(range(1, len(trained) + 1))
    assert len({row["loss"] for row in rows if "loss" in row}) == len(trained)
    assert all(row["train_forces"] > 0 for row in rows if "loss" in row)
    assert sum("validation_forces" in row for row in rows) == 3
    return tmp_path / "straight"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_is_killed_again_and_again_is_the_same_run(tree, tmp_path, straight, workers):
    """SIGKILL at random: in steps, in the middle of an epoch, while files are written."""
    tree["run"] |= {"workers": workers, "checkpoint_minutes": 1e-3}
    rng = random.Random(workers)
    # The first kill is before any checkpoint; a run without interruption has more than 60 events.
    for events in (5, rng.randint(8, 22), rng.randint(8, 22)):
        assert apart.finish(apart.killed, tree, tmp_path, "killed", events) == -signal.SIGKILL
    assert apart.finish(apart.run, tree, tmp_path, "killed") == 0
    same_run(straight, tmp_path / "killed")


def test_a_run_that_is_terminated_and_has_no_room_is_the_same_run(tree, tmp_path, straight):
    """SIGTERM in the middle of an epoch; a full disk; a checkpoint that was cut off."""
    folder = tmp_path / "stopped"

    def said():
        return (tmp_path / "stopped.txt").read_text().splitlines()[-1]

    code = apart.finish(apart.signalled, tree, tmp_path, "stopped", 7, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert said() == (
        "stopped at epoch 1.4 of 3, step 7 (SIGTERM); run the same command again to resume."
    )
    whole = (folder / "last.pt").read_bytes()
    assert apart.finish(apart.without_room, tree, tmp_path, "stopped", len(whole) // 2) == 2
    assert "could not be written (File too large)" in said()
    assert said().endswith("make room, and run the same command again to resume.")
    assert (folder / "last.pt").read_bytes() == whole
    assert not list(folder.glob("*.partial"))
    (folder / "previous.pt").write_bytes(whole)
    (folder / "last.pt").write_bytes(whole[: len(whole) // 3])
    assert apart.finish(apart.run, tree, tmp_path, "stopped") == 0
    assert "going back to previous.pt" in (tmp_path / "stopped.txt").read_text()
    same_run(straight, folder)


def trained(settings, folder):
    """Train in ``folder / "run"``, and return what was reported."""
    lines = []
    train(TrainingConfig.from_dict(settings), folder / "run", folder=folder, report=lines.append)
    return lines


def test_a_time_limit_stops_with_a_state_and_other_settings_are_refused(tree, tmp_path):
    def again(**changes):
        return trained(tree | changes, tmp_path)

    tree["optimization"]["max_epochs"] = 1
    with pytest.raises(
        RunStoppedError, match=r"step 1 \(the time of run.max_time is over\)"
    ) as stop:
        again(run=tree["run"] | {"max_time": 1e-9})
    assert stop.value.exit_code == 0
    message = r"optimization.seed: 0 there, 1 here; zbl: True there, False here"
    with pytest.raises(ValueError, match=message):
        again(optimization=tree["optimization"] | {"seed": 1}, zbl=False)
    lines = again(optimization=tree["optimization"] | {"max_epochs": 2})
    assert any("resuming at epoch 0.2 of 2, step 1" in line for line in lines)
    finished = again(optimization=tree["optimization"] | {"max_epochs": 2})
    assert not any(line.startswith("epoch") for line in finished), "nothing is left to do"
    frames = (tmp_path / "frames.xyz").read_text().replace("0.96", "0.97").replace("0.11", "0.12")
    (tmp_path / "frames.xyz").write_text(frames)
    with pytest.raises(ValueError, match="the training and validation frames, or"):
        again(optimization=tree["optimization"] | {"max_epochs": 2})


def test_the_time_limit_counts_what_comes_before_the_first_step(tree, tmp_path, monkeypatch):
    """Frames that take an hour to be read, by a clock that jumps then."""
    clock, late, open_sets = time.monotonic, 0.0, training.open_sets

    def slowly(*arguments):
        nonlocal late
        late = 3600.0
        return open_sets(*arguments)

    monkeypatch.setattr(time, "monotonic", lambda: clock() + late)
    monkeypatch.setattr(training, "open_sets", slowly)
    tree["run"]["max_time"] = 1.0
    with pytest.raises(RunStoppedError, match=r"step 1 \(the time of run.max_time is over\)"):
        train(TrainingConfig.from_dict(tree), tmp_path / "run", folder=tmp_path, report=quiet)


def test_a_time_limit_that_is_over_at_once_lets_a_run_get_on(tree, tmp_path):
    """A step, or a whole validation, each time."""
    tree["run"]["max_time"] = 1e-9
    settings = TrainingConfig.from_dict(tree)
    stopped = 0
    while not (tmp_path / "run" / "results.json").exists():
        with suppress(RunStoppedError):
            train(settings, tmp_path / "run", folder=tmp_path, report=quiet)
        stopped += 1
        assert stopped < 60
    assert stopped > 5


def ten_times_the_energies(frames):
    for atoms in frames:
        atoms.info["REF_energy"] *= 10


# What is changed of 24 training and 8 validation frames, and the sets that the refusal names.
OTHER_DATA = [
    (ten_times_the_energies, "training and validation"),
    (lambda frames: frames.reverse(), "training and validation"),
    (lambda frames: frames[0].info.update(weight=2.0), "training"),
    (lambda frames: frames[0].set_pbc([True, False, False]), "training"),
    (lambda frames: frames.pop(0), "training"),
    (lambda frames: frames[30].arrays["REF_forces"].__imul__(10), "validation"),
    (lambda frames: frames.pop(), "validation"),
]


@pytest.mark.parametrize("cache", [None, "cache"])
def test_a_run_does_not_go_on_with_other_data(tree, tmp_path, cache):
    def again(frames, **run):
        ase.io.write(tmp_path / "frames.xyz", frames)
        return trained(tree | {"run": tree["run"] | run}, tmp_path)

    tree["optimization"]["max_epochs"] = 1
    tree["data"] |= {"cache": cache, "weight_key": "weight"}
    frames = ase.io.read(tmp_path / "frames.xyz", ":")
    for atoms in frames:
        atoms.info["weight"] = 1.0
        atoms.cell = [9, 9, 9]
    with pytest.raises(RunStoppedError):
        again(frames, max_time=1e-9)
    for change, names in OTHER_DATA:
        other = [atoms.copy() for atoms in frames]
        change(other)
        with pytest.raises(ValueError, match=f"^the {names} frames, or their order, labels or wei"):
            again(other)
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    del state["digests"]  # as states were that know which training frames there are, and no more
    torch.save(state, tmp_path / "run" / "last.pt")
    with pytest.raises(
        ValueError, match=r"^the training frames, or their order, labels or weights"
    ):
        again(frames[1:])
    with pytest.raises(RunStoppedError):
        again(frames[:-1], max_time=1e-9)
    assert "digests" in torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert any(line.startswith("resuming") for line in again(frames[:-1]))
