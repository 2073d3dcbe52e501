"""Ensembles by name: several models, and the factors on their standard deviations.

MODEL is an ensemble where it is several models separated by commas, the name X of packaged models
X-1, X-2, ..., or a file that :func:`write_ensemble` wrote (``pointedge fit-uncertainty``), which
alone has factors; so has X.json beside packaged models.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..potentials.files import replacing
from ..potentials.packaged import packaged_folder, packaged_models

if TYPE_CHECKING:
    from ..potentials.calibration import Calibration

SUFFIX = ".json"
KIND = "pointedge ensemble"


@dataclass(frozen=True)
class Ensemble:
    """What a MODEL of several members stands for.

    Attributes:
        members: MODELs.
        factors: on standard deviations, by "energy" and "forces".
        information: how standard deviations fitted errors, and the frames of that.
    """

    members: list[str]
    factors: dict[str, float] = field(default_factory=dict)
    information: dict[str, Any] = field(default_factory=dict)


def find_ensemble(model: str) -> Ensemble | None:
    """The ensemble that a MODEL argument stands for; None if it is one model.

    Raises:
        ValueError: a file of an ensemble that cannot be read.
    """
    if Path(model).suffix == SUFFIX and Path(model).is_file():
        return read_ensemble(Path(model))
    if "," in model and not Path(model).is_file():
        return Ensemble([member.strip() for member in model.split(",")])
    packaged = packaged_models()
    members = [name for name in packaged if re.fullmatch(rf"{re.escape(model)}-\d+", name)]
    if model in packaged or not members:
        return None
    file = packaged_folder("models") / f"{model}{SUFFIX}"
    return read_ensemble(file) if file.is_file() else Ensemble(members)


def read_ensemble(path: Path) -> Ensemble:
    """Read a file that :func:`write_ensemble` wrote; its members may have moved with it.

    Raises:
        ValueError: it is not such a file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("kind") != KIND:
            raise ValueError("it is of another kind")
        found = Ensemble(**values)
        factors = {str(name): float(value) for name, value in found.factors.items()}
        members = [str(member) for member in found.members]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is no ensemble of pointedge ({error}); make one with `pointedge "
            "fit-uncertainty MODEL,MODEL,... --validation FRAMES --output FILE.json`."
        ) from None
    beside = [path.parent / member for member in members]
    there = [str(b) if b.is_file() else m for b, m in zip(beside, members, strict=True)]
    return Ensemble(there, factors, found.information)


def write_ensemble(
    path: Path,
    members: Sequence[str],
    calibrations: Mapping[str, Calibration],
    frames: Sequence[str],
) -> Ensemble:
    """Write an ensemble whose standard deviations are as large as errors on some frames.

    Args:
        path: ends in .json. Members that are files are named relative to its folder.
        members: MODELs.
        calibrations: of "energy_per_atom" and "forces", of the members without factors.
        frames: names of the files.

    Raises:
        ValueError: there is nothing to calibrate with.
        UnwrittenError: the disk is full, or the like.
    """
    factors = {
        name.removesuffix("_per_atom"): found.factor
        for name, found in calibrations.items()
        if found.factor
    }
    if not factors:
        raise ValueError(
            "the frames cannot calibrate the ensemble: none has a label of energy or forces about "
            "which members differ; give labelled frames that no member was trained on."
        )
    folder = path.absolute().parent
    names = [
        os.path.relpath(Path(m).absolute(), folder) if Path(m).is_file() else m for m in members
    ]
    information = {
        "validation": list(frames),
        "before": {name: asdict(found) for name, found in calibrations.items()},
    }
    ensemble = Ensemble(names, factors, information)
    with replacing(path) as file:
        file.write((json.dumps({"kind": KIND, **asdict(ensemble)}, indent=1) + "\n").encode())
    return ensemble
