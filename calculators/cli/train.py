"""`pointedge train`: a potential from labelled frames."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="YAML file, see examples/train", exists=True)],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value ...")] = None,
    output: Annotated[Path, typer.Option(help="folder of the run; resumed if it holds one")] = Path(
        "runs/train"
    ),
    device: Annotated[str, typer.Option(help="torch device")] = "cpu",
) -> None:
    """Train a potential; log, checkpoints and best weights go to the output folder."""
    try:
        from ...potentials.training.run import train as run
    except ModuleNotFoundError as error:
        raise ValueError(f"training needs {error.name}: pip install 'pointedge[train]'.") from None
    from ...potentials.training.config import TrainingConfig

    # Lightning's announcements (accelerators it looked for, tips) are not news of this run.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    settings = TrainingConfig.from_yaml(config, overrides)
    run(
        settings,
        output,
        folder=config.parent,
        device=device,
        report=lambda line: print(line, file=sys.stderr, flush=True),
        progress_bar=sys.stderr.isatty(),
    )
    print(output / "best.safetensors")
