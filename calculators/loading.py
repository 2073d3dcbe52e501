"""Potentials by name or file: packaged weights, checkpoints, published PETs."""

from __future__ import annotations

import copy
import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..potentials.packaged import SUFFIX, packaged_models, split_target
from .ensemble_files import is_ensemble

if TYPE_CHECKING:
    from ..potentials.potential import Potential


def find_model(model: str | Path) -> Path:
    """Return the file of a packaged model, or the path of a file; raises ValueError for others.

    A calculation folder of PET's original research code counts as a file.
    """
    packaged = packaged_models()
    if str(model) in packaged:
        return packaged[str(model)]
    path = Path(model).expanduser()
    if is_ensemble(str(model)):
        raise ValueError(f"{model} is an ensemble, and one model is needed; name a member of it.")
    if os.path.isfile(path):  # also false of a name that is too long, which Path would raise for
        return path
    if os.path.isdir(path):
        from ..potentials.pet.published import is_published

        if is_published(path):
            return path
        there = sorted(path.glob(f"*{SUFFIX}"))  # of a run: best before start
        guess = f", such as {there[0]}" if there else ""
        raise ValueError(f"{model} is a folder; give a {SUFFIX} file in it{guess}.")
    if not packaged:
        raise ValueError(
            f"there is no file {model}, and no model is packaged; give a {SUFFIX} file."
        )
    shown = str(model) if len(str(model)) < 300 else f"{str(model)[:150]}...{str(model)[-100:]}"
    nearest = difflib.get_close_matches(str(model), packaged, n=1)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ValueError(
        f"there is no packaged model and no file {shown!r}; {guess}packaged: {', '.join(packaged)}."
    )


def read_model(model: str | Path, *, direct: bool = False) -> Potential:
    """Return the potential of a packaged model, a checkpoint, or a published PET.

    Args:
        model: a name or file; "FILE@ENERGY" chooses among the energies of a checkpoint of
            metatrain, or among the weights of a folder of the original code.
        direct: of a published PET, also what it predicts of forces and stress as such.

    Raises:
        ValueError: there is no such model, or it cannot be read (CheckpointError, PublishedError).
    """
    from ..potentials import checkpoint
    from ..potentials.pet import published

    file, target = split_target(model)
    path = find_model(file)
    if published.is_published(path):
        return published.load(path, target, direct=direct)
    if target is not None:
        raise ValueError(f"{file} has one energy only; leave '@{target}' out.")
    return checkpoint.load(path)


def load_potential(
    model: str | Path | Potential,
    *,
    architecture: str | None = None,
    symmetrize: str | None = None,
    direct: bool = False,
) -> Potential:
    """Return a potential of the caller's own, on the CPU if it comes from a file.

    Args:
        model: name of a packaged model, a file (see :func:`read_model`), or a potential, which is
            copied.
        architecture: registered name of what the network has to be; None: anything.
        symmetrize: a name of :func:`pointedge.potentials.ecse.symmetrize.symmetrized`.
        direct: it has to predict forces as such.

    Raises:
        ValueError: there is no such model or symmetrisation, the file cannot be read
            (CheckpointError, PublishedError), or it holds another architecture.
    """
    from ..potentials import checkpoint
    from ..potentials.outputs import DIRECT

    if isinstance(model, str | Path):
        potential = read_model(model, direct=direct)
        origin = str(model)
    else:
        potential = copy.deepcopy(model)
        origin = "the potential"
    if architecture is not None:
        kind = checkpoint.architecture(architecture)
        if not isinstance(potential.network, kind):
            raise ValueError(
                f"{origin} holds a {type(potential.network).__name__}, not a {kind.__name__}; use "
                "PotentialCalculator, which takes any architecture."
            )
    if direct and DIRECT[0] not in potential.properties:
        raise ValueError(
            f"{origin} predicts no forces but as derivatives of its energy; leave out "
            "non_conservative=True."
        )
    if symmetrize is not None:
        from ..potentials.ecse.symmetrize import symmetrized

        return symmetrized(potential, symmetrize)
    return potential
