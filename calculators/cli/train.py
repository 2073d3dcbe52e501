"""`pointedge train`: a potential from labelled frames."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

# Of torchrun, SLURM and Lightning; all are zero in the first process of a run.
RANKS = ("RANK", "GROUP_RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")


def train(
    config: Annotated[
        Path | None, typer.Argument(help="YAML file, see examples/train", exists=True)
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value ...")] = None,
    output: Annotated[Path, typer.Option(help="folder of the run; resumed if it holds one")] = Path(
        "runs/train"
    ),
    device: Annotated[str | None, typer.Option(help="torch device; else run.device")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="print every setting and what it means, and stop")
    ] = False,
    architecture: Annotated[
        str, typer.Option(help="whose settings --explain prints without a file")
    ] = "pet",
) -> None:
    """Train a potential; log, checkpoints and best weights go to the output folder."""
    if explain:
        print_settings(config, overrides, architecture)
        return
    if config is None:
        raise ValueError("train needs a configuration; see examples/train, or train --explain.")
    try:
        from ...potentials.training.run import RunStoppedError
        from ...potentials.training.run import train as run
    except ModuleNotFoundError as error:
        raise ValueError(f"training needs {error.name}: pip install 'pointedge[train]'.") from None
    from ...potentials.training.config import TrainingConfig

    # Lightning's announcements (accelerators it looked for, tips) are not news of this run.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    settings = TrainingConfig.from_yaml(config, overrides)
    first = not any(int(os.environ.get(name, 0)) for name in RANKS)
    try:
        run(
            settings,
            output,
            folder=config.parent,
            device=device,
            report=lambda line: print(line, file=sys.stderr, flush=True),
            progress_bar=sys.stderr.isatty(),
        )
    except RunStoppedError as stopped:
        if first:  # the others say the same, and a failure of theirs would end the first
            print(f"pointedge: {stopped}", file=sys.stderr)
            raise typer.Exit(stopped.exit_code) from None
    except (ValueError, OSError):
        if first:  # so do these
            raise
        raise typer.Exit(2) from None
    else:
        if first:
            print(output / "best.safetensors")


def print_settings(config: Path | None, overrides: list[str] | None, architecture: str) -> None:
    """Print the settings of a configuration, or the defaults, one to a line with its meaning."""
    from ...potentials.training.config import TrainingConfig
    from ...potentials.training.explain import explain

    tree = None if config is None else TrainingConfig.from_yaml(config, overrides)
    folder = Path() if config is None else config.parent
    for setting in explain(tree, kind=architecture, folder=folder):
        value = setting.value if setting.value not in ("", None) else repr(setting.value)
        print(f"{setting.key}: {value}  ({setting.kind})")
        if setting.meaning:
            print(f"    {setting.meaning}")
