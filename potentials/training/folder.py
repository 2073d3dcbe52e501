"""The folder of a run: what is in it, who may write to it, and how its state survives."""

from __future__ import annotations

import fcntl
import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from ..files import replacing
from .config import TrainingConfig

State = dict[str, Any]
# What may differ between a run and its continuation; "run." stands for the whole section.
CHANGEABLE = (
    "optimization.max_epochs",
    "optimization.max_hours",
    "data.description",
    "data.cache",
    "run.",
)
VERSION = 2  # of states


class RunFolder:
    """The files of a run.

    ======================  ========================================================================
    config.yaml             the resolved configuration, every default written out
    start.safetensors       what start_from was when the run began, should that file change
    log/metrics.csv         losses, errors and learning rates by step
    best.safetensors        the averaged weights of the best validation so far: the trained model
    last.pt                 the state to resume from: everything that decides the steps to come
    previous.pt             the state before it, for the case that last.pt was damaged
    progress.png            learning curves, and predictions against labels at the last validation
    results.json            errors of the best weights, once the run is complete
    log/tensorboard, wandb  what those loggers write, if they were asked for
    .lock                   held by the process that trains here, empty
    ======================  ========================================================================

    Every file is complete at any moment: a new one is written beside it, brought to the disk and
    renamed. The log alone is appended to; a state knows its length at that step, and what was
    written later is cut off when the run is resumed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.start = path / "start.safetensors"
        self.log = path / "log" / "metrics.csv"
        self.best = path / "best.safetensors"
        self.last = path / "last.pt"
        self.previous = path / "previous.pt"
        self.plot = path / "progress.png"
        self.results = path / "results.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out; raises ValueError if one trains here."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            try:
                # Not flock: workers would inherit that lock, and outlive a kill for seconds.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise ValueError(
                    f"another process trains in {self.path}; wait for it, or choose another folder."
                ) from None
            except OSError:  # a file system without locks
                pass
            yield

    def keep_config(self, config: TrainingConfig, *, write: bool = True) -> None:
        """Write the configuration, where nothing but a run that goes on is in the way of it.

        Args:
            config: of the run.
            write: False on all ranks but the first, which only look.

        Raises:
            ValueError: the folder holds a run with other settings, which are named; or files that
                would be replaced, and no state of a run.
        """
        if not self.has_state():
            self._refuse_to_replace(config)
        elif self.config.exists():
            changed = self._changes(config)
            if changed:
                raise ValueError(
                    f"{self.path} holds a run with other settings ({'; '.join(changed)}); choose "
                    "another folder, or the settings of that run."
                )
        if write:
            with replacing(self.config) as file:
                file.write(config.to_yaml().encode())

    def save(self, state: State) -> None:
        """Write a state; the one before is kept until this one is complete, and beside it then."""
        buffer = io.BytesIO()  # torch's own writer turns a full disk into an unclear error
        torch.save({"version": VERSION, **state}, buffer)
        with replacing(self.last, keep=self.previous) as file:
            file.write(buffer.getbuffer())

    def load(self, report: Callable[[str], None]) -> State | None:
        """Return the last complete state, or None if there is none.

        Raises:
            ValueError: there are states, but none can be read, or by another version only.
        """
        if (self.path / "last.ckpt").exists() and not self.has_state():
            raise self._other_version()
        problems = []
        for path in (self.last, self.previous):
            if path.exists():
                try:
                    state = _read(path)
                except ValueError as error:
                    problems.append(str(error))
                    continue
                if state.get("version") != VERSION:
                    raise self._other_version()
                for problem in problems:
                    report(f"{problem}; going back to {path.name}")
                return state
        if problems:
            raise ValueError(f"{'; '.join(problems)}; remove them to start afresh.")
        return None

    def gentler(self, *, from_best: bool = True) -> str:
        """How to train with a lower learning rate, which a run that goes on cannot have."""
        if not self.has_state():
            return "lower optimization.learning_rate"
        good = from_best and self.best.exists()
        start = f"start_from={self.best.absolute()} and " if good else ""
        return (
            f"begin a run in another folder, with {start}a lower optimization.learning_rate: this"
            " one can only go on with its own"
        )

    def _refuse_to_replace(self, config: TrainingConfig) -> None:
        """Refuse a folder without a state, if training would replace what took work to make.

        A run that ended before its first state leaves its configuration, and perhaps a log; one
        that was killed just before it, weights, which the same run makes again.
        """
        if (self.path / "last.ckpt").exists():
            raise self._other_version()
        files = [self.config, self.best, self.results, self.plot, self.log]
        found = [path for path in files if path.exists()]
        if not found or self._begun(config):
            return
        names = ", ".join(str(path.relative_to(self.path)) for path in found)
        raise ValueError(
            f"{self.path} holds {names}, which training would replace, and no state of a run to go "
            "on from; choose another folder, or move them (start_from trains weights on)."
        )

    def _begun(self, config: TrainingConfig) -> bool:
        """Whether what is here is of a run that did not get as far as a state."""
        try:
            text = self.config.read_text()
            ours = TrainingConfig.model_validate(yaml.safe_load(text)).to_yaml() == text
        except (OSError, ValueError, yaml.YAMLError):  # not there, or of somebody else
            return False
        if not ours or self.results.exists():
            return False
        return not self.best.exists() or (self.log.exists() and not self._changes(config))

    def _other_version(self) -> ValueError:
        return ValueError(
            f"{self.path} holds a run of another version of pointedge, which this one cannot "
            "resume; choose another folder (start_from trains its best.safetensors on)."
        )

    def has_state(self) -> bool:
        """Whether there is a run to go on from."""
        return self.last.exists() or self.previous.exists()

    def _changes(self, config: TrainingConfig) -> list[str]:
        """Settings that may not differ from those of the folder, and do."""
        tree = yaml.safe_load(self.config.read_text())
        try:
            found = TrainingConfig.from_dict(tree)  # with the defaults of settings that are new
        except ValueError:
            raise self._other_version() from None
        old, new = _flat(found.model_dump()), _flat(config.model_dump())
        return [
            f"{key}: {old.get(key)!r} there, {new.get(key)!r} here"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key) and not key.startswith(CHANGEABLE)
        ]


def _read(path: Path) -> State:
    """Read a state; tensors and plain values only, nothing that could run code."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not look at the checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} has a wrong checksum")
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged file makes torch, pickle and zipfile raise what they like.
        raise ValueError(f"{path} is damaged ({error})") from None
    return state


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            leaves |= _flat(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves
