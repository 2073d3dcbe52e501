"""`pointedge fit-uncertainty`: standard deviations of a model's energies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import Model, check_output


def fit_uncertainty(
    model: Model,
    training: Annotated[
        list[str], typer.Argument(help="files of frames that the model was trained on")
    ],
    validation: Annotated[
        list[str], typer.Option(help="files of labelled frames that it was not trained on")
    ],
    output: Annotated[Path, typer.Option(help="new checkpoint")] = Path("uncertain.safetensors"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the output")] = False,
) -> None:
    """Let a PET say how sure it is of energies (last-layer prediction rigidity).

    The features of the training frames say what the model knows, the errors of the validation
    frames what that means in eV.
    """
    from ...potentials import checkpoint
    from ...potentials.rigidity import fit_rigidity
    from ...potentials.training.dataset import FrameSource
    from ...potentials.training.settings import Data, Frames
    from ..models import load_potential

    check_output(output, overwrite=overwrite)
    potential = load_potential(model)
    selections = {"training": [Frames(files=training)], "validation": [Frames(files=validation)]}
    data = Data(train=selections["training"], validation=selections["validation"])
    known, others = (
        FrameSource(name, files, data, Path()).dataset(potential.cutoff, potential.inputs)
        for name, files in selections.items()
    )
    calibration = fit_rigidity(
        potential,
        (batch.graph for batch in known),
        ((batch.graph, batch.energy) for batch in others),
    )
    checkpoint.save(potential, output)
    frames = f"energies of {calibration.count} validation frames, meV/atom"
    print(f"{frames}: {calibration}", file=sys.stderr)
    print(output)
