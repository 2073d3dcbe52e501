"""What a run says of its steps: a CSV file always, and other loggers where they are wanted."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from ..files import UnwrittenError
from .data import LABELS
from .folder import RunFolder

COLUMNS = (
    "step",  # optimiser steps done
    "epoch",  # epochs done
    "learning_rate",
    "loss",  # mean over the steps since the last row
    *(f"train_{name}" for name in LABELS),  # RMSE over these steps, in units of outputs.ERRORS
    *(f"validation_{name}" for name in LABELS),  # RMSE of the averaged weights
    "atoms_per_second",
    "minutes",  # of training, over all resumed parts
)


class Log:
    """``log/metrics.csv``, a row every few steps and for every validation, and other loggers.

    Args:
        folder: of the run.
        length: bytes of the file that belong to the state that is resumed; the rest is cut off.
        loggers: names of others, of the setting ``run.loggers``.
        report: called with a line of text if the file is not what the state knows.

    Raises:
        ValueError: the package of a logger is missing.
    """

    def __init__(
        self,
        folder: RunFolder,
        length: int = 0,
        *,
        loggers: Sequence[str] = (),
        report: Callable[[str], None] = print,
    ) -> None:
        self.path = folder.log
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found = self.path.stat().st_size if self.path.exists() else 0
        if found < length:
            report(f"{self.path} is shorter than it was; earlier rows are missing")
            length = found
        if found:
            os.truncate(self.path, length)
        rows = read_log(self.path) if loggers and length else []
        first = int(rows[-1]["step"]) + 1 if rows else 0
        self.loggers = [make_logger(name, folder.path, first) for name in loggers]
        self._file: IO[bytes] = self.path.open("ab")
        if length == 0:
            self._write(COLUMNS)

    def row(self, values: dict[str, Any]) -> None:
        """Write a row; columns without a value stay empty."""
        self._write([_text(values.get(name, "")) for name in COLUMNS])
        numbers = {name: value for name, value in values.items() if name != "step"}
        for logger in self.loggers:
            logger.log_metrics(numbers, step=values["step"])

    def length(self) -> int:
        """Bytes written, which are on the disk afterwards."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UnwrittenError.of(self.path, error) from None
        return self._file.tell()

    def close(self) -> None:
        """Let go of the files."""
        self._file.close()
        for logger in self.loggers:
            logger.finalize("success")

    def _write(self, values: Sequence[Any]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        try:
            self._file.write(line.getvalue().encode())
            self._file.flush()
        except OSError as error:
            raise UnwrittenError.of(self.path, error) from None


def read_log(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics.csv, without what is empty in them."""
    with path.open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def make_logger(name: str, folder: Path, first: int = 0) -> Any:
    """Lightning's logger of a name, of steps from ``first`` on.

    TensorBoard is told to forget these steps where a run that was killed has written them already;
    W&B has a run of its own for each part.

    Raises:
        ValueError: its package is missing.
    """
    from lightning.pytorch import loggers

    try:
        if name == "tensorboard":
            return loggers.TensorBoardLogger(
                folder / "log", name="tensorboard", version="", purge_step=first
            )
        return loggers.WandbLogger(
            name=folder.name, project="pointedge", save_dir=folder / "log", offline=True
        )
    except ModuleNotFoundError:
        raise ValueError(f"run.loggers has {name}, which needs: pip install {name}.") from None


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
