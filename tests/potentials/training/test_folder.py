"""Files of a run: whole at any moment, whatever happens while they are written."""

import errno
import multiprocessing
import os
from pathlib import Path

import pytest
import torch

from pointedge.potentials.files import UnwrittenError, replacing
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.folder import RunFolder
from pointedge.potentials.training.logs import Log, make_logger, read_log


def quiet(line):
    pass


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def test_states_come_back_and_the_one_before_is_kept(folder):
    assert folder.load(quiet) is None
    for step in (1, 2):
        folder.save({"step": step, "weights": torch.full((1000,), float(step))})
    state = folder.load(quiet)
    assert state["step"] == 2
    assert torch.equal(state["weights"], torch.full((1000,), 2.0))
    folder.last.unlink()  # killed between the two renamings
    assert folder.load(quiet)["step"] == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "zeros"])
def test_a_damaged_state_gives_way_to_the_one_before(folder, damage):
    for step in (1, 2):
        folder.save({"step": step, "weights": torch.zeros(1000)})
    whole = folder.last.read_bytes()
    middle = len(whole) // 2
    folder.last.write_bytes(
        {
            "cut": whole[:middle],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "empty": b"",
            "zeros": bytes(len(whole)),
        }[damage]
    )
    lines = []
    assert folder.load(lines.append)["step"] == 1
    assert len(lines) == 1
    assert "last.pt is damaged" in lines[0]
    assert "going back to previous.pt" in lines[0]
    folder.previous.write_bytes(b"no zip file")
    with pytest.raises(ValueError, match=r"previous.pt is damaged .*remove them to start afresh"):
        folder.load(quiet)


@pytest.mark.parametrize("operation", ["fsync", "replace", "write"])
def test_a_disk_that_is_full_at_any_point_leaves_the_old_file(tmp_path, monkeypatch, operation):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if operation == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif operation == "replace":
        monkeypatch.setattr(Path, "replace", full)

    def write():
        with replacing(path) as file:
            file.write(b"new")
            if operation == "write":
                full()

    with pytest.raises(UnwrittenError, match=r"file could not be written \(No space left"):
        write()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_runs_of_other_versions_are_refused(folder, resolved):
    folder.path.mkdir()
    (folder.path / "last.ckpt").touch()
    with pytest.raises(ValueError, match=r"another version of pointedge.*choose another folder"):
        folder.load(quiet)
    torch.save({"version": 1}, folder.last)
    with pytest.raises(ValueError, match="another version of pointedge"):
        folder.load(quiet)
    folder.config.write_text("no_such_setting: 1")
    with pytest.raises(ValueError, match="another version of pointedge"):
        folder.keep_config(resolved)


def write(folder, *names):
    for name in names:
        path = folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")


@pytest.mark.parametrize(
    "names",
    [
        ["best.safetensors", "config.yaml"],
        ["config.yaml"],
        ["best.safetensors"],
        ["log/metrics.csv"],
        ["results.json", "progress.png"],
    ],
)
def test_what_is_of_no_run_is_not_replaced(folder, resolved, names):
    write(folder, *names)
    with pytest.raises(ValueError, match=rf"holds .*{names[0]}.* no state of a run to go on from"):
        folder.keep_config(resolved)
    assert {(folder.path / name).read_text() for name in names} == {"precious"}
    assert len([p for p in folder.path.rglob("*") if p.is_file()]) == len(names)


@pytest.mark.parametrize(
    ("names", "goes_on", "with_others"),
    [
        ([], True, True),  # the data could not be read, say
        (["log/metrics.csv"], True, True),  # killed in the first epoch
        (
            ["log/metrics.csv", "best.safetensors"],
            True,
            False,
        ),  # killed just before its first state
        (["best.safetensors"], False, False),  # a model and its settings, to keep
        (["log/metrics.csv", "best.safetensors", "results.json"], False, False),  # a whole run
        (["results.json"], False, False),
    ],
)
def test_a_run_without_a_state(folder, config, names, goes_on, with_others):
    """Begins anew if there is nothing to lose."""
    same = TrainingConfig.from_dict(config)
    folder.keep_config(same)
    write(folder, *names)
    others = TrainingConfig.from_dict({**config, "zbl": False})
    for settings, allowed in ((same, goes_on), (others, with_others)):
        if allowed:
            folder.keep_config(settings)
            assert folder.config.read_text() == settings.to_yaml()
        else:
            with pytest.raises(ValueError, match="training would replace"):
                folder.keep_config(settings)
            assert folder.config.read_text() != others.to_yaml()


def try_lock(path, answers):
    try:
        with RunFolder(path).locked():
            answers.put("mine")
    except ValueError as error:
        answers.put(str(error))


def test_one_process_at_a_time(folder):
    processes = multiprocessing.get_context("fork")
    answers = processes.SimpleQueue()
    for expected in ("another process trains in", "mine"):
        other = processes.Process(target=try_lock, args=(folder.path, answers))
        if expected == "mine":
            other.start()
        else:
            with folder.locked():
                other.start()
                other.join()
        other.join()
        assert answers.get().startswith(expected)


def test_the_log_is_cut_to_the_length_that_a_state_knows(folder):
    log = Log(folder)
    log.row({"step": 1, "loss": 0.1 + 0.2})
    length = log.length()
    log.row({"step": 2, "loss": 1.0})
    log.close()
    with folder.log.open("a") as file:
        file.write("3,0,torn")
    log = Log(folder, length)
    log.row({"step": 2, "validation_forces": 7.5})
    log.close()
    assert read_log(folder.log) == [
        {"step": 1, "loss": 0.1 + 0.2},
        {"step": 2, "validation_forces": 7.5},
    ]
    lines = []
    folder.log.unlink()
    Log(folder, length, report=lines.append).close()
    assert "shorter than it was" in lines[0]
    assert read_log(folder.log) == []


def test_tensorboard_forgets_the_steps_that_are_done_again(folder):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    first = Log(folder, loggers=["tensorboard"])
    first.row({"step": 1, "loss": 4.0})
    length = first.length()
    first.row({"step": 2, "loss": 3.0})
    first.row({"step": 3, "loss": 2.0})
    first.close()
    second = Log(folder, length, loggers=["tensorboard"])
    second.row({"step": 2, "loss": 1.0})
    second.close()
    found = events.EventAccumulator(str(folder.log.parent / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(1, 4.0), (2, 1.0)]


def test_loggers_that_are_not_installed_are_one_sentence(tmp_path, monkeypatch):
    for name, needed in (("tensorboard", "TensorBoardLogger"), ("wandb", "WandbLogger")):

        def missing(*arguments, **named):
            raise ModuleNotFoundError("no such package")

        monkeypatch.setattr(f"lightning.pytorch.loggers.{needed}", missing)
        with pytest.raises(ValueError, match=f"needs: pip install {name}"):
            make_logger(name, tmp_path)
