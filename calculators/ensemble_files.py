"""Ensembles by name: several models, and the factors on their standard deviations.

MODEL is an ensemble where it is several models separated by commas, the name X of packaged models
X-1, X-2, ..., or a file that :func:`write_ensemble` wrote (``pointedge fit-uncertainty``), which
alone has weights and factors; so has X.json beside packaged models.

A file names models and files only: "module:callable" would run code of whoever wrote it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..potentials.files import replacing
from ..potentials.packaged import packaged_folder, packaged_models
from ..potentials.suggestions import did_you_mean
from .foreign import is_foreign

if TYPE_CHECKING:
    from ..potentials.calibration import Calibration

SUFFIX = ".json"
KIND = "pointedge ensemble"

# What has a standard deviation. Energies of single atoms have a mean, but no spread that says
# anything: how models divide an energy among atoms is arbitrary.
SPREADS = ("energy", "forces", "stress")

LEAST_WEIGHT = 1e-6  # of the largest


@dataclass(frozen=True)
class Ensemble:
    """What a MODEL of several members stands for.

    Attributes:
        members: MODELs.
        factors: on standard deviations, by "energy", "forces" and "stress".
        information: how standard deviations fitted errors, and the frames of that.
        weights: of the members in means; equal ones if there is none.
    """

    members: list[str]
    factors: dict[str, float] = field(default_factory=dict)
    information: dict[str, Any] = field(default_factory=dict)
    weights: list[float] = field(default_factory=list)


def find_ensemble(model: str) -> Ensemble | None:
    """The ensemble that a MODEL argument stands for; None if it is one model.

    Raises:
        ValueError: a file of an ensemble that cannot be read, or a member that is an ensemble.
    """
    if _is_file(model):
        return read_ensemble(Path(model).expanduser())
    if _is_list(model):
        members = [member.strip() for member in model.split(",")]
    elif model in packaged_ensembles():
        file = packaged_folder("models") / f"{model}{SUFFIX}"
        if file.is_file():
            return read_ensemble(file)
        members = [m for m in packaged_models() if re.fullmatch(rf"{re.escape(model)}-\d+", m)]
    else:
        return None
    _check_members(members)
    return Ensemble(members)


def is_ensemble(model: str) -> bool:
    """Whether a MODEL argument stands for several models."""
    return _is_file(model) or _is_list(model) or model in packaged_ensembles()


def packaged_ensembles() -> list[str]:
    """Names of packaged ensembles: X of X.json, or of models X-1, X-2, ..., without a model X."""
    packaged = packaged_models()
    numbered = (re.fullmatch(r"(.+)-\d+", model) for model in packaged)
    files = (path.stem for path in packaged_folder("models").glob(f"*{SUFFIX}"))
    return sorted({*files, *(found[1] for found in numbered if found)} - packaged.keys())


def read_ensemble(path: Path) -> Ensemble:
    """Read a file that :func:`write_ensemble` wrote; its members may have moved with it.

    Raises:
        ValueError: it is not such a file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.pop("kind", None) != KIND:
            raise ValueError(f"it is of another kind than {KIND!r}")
        found = Ensemble(**values)
        if not isinstance(found.members, list) or not isinstance(found.information, dict):
            raise ValueError("members are no list, or information no table")
        if not all(isinstance(member, str) for member in found.members):
            raise ValueError("a member is no text")
        read_factors(found.factors)
        read_weights(found.weights, len(found.members))
        _refuse_foreign(found.members)
        there = [_beside(path, member) for member in found.members]
        check_storable(there)
    except (ValueError, TypeError, RecursionError, OSError) as error:
        what = " ".join(str(error).split())[:200].rstrip(".")
        raise ValueError(
            f"{path} is no ensemble of pointedge ({what}); make one with `pointedge "
            "fit-uncertainty MODEL,MODEL,... --validation FRAMES --output FILE.json`."
        ) from None
    return replace(found, members=there)


def check_storable(members: Sequence[str]) -> None:
    """Refuse members that a file cannot have: ValueError."""
    _check_members(members)
    _refuse_foreign(members)


def _refuse_foreign(members: Sequence[str]) -> None:
    for member in members:
        if is_foreign(member):
            raise ValueError(
                f"{member} would run code of whoever wrote the file; files of ensembles have "
                "models of pointedge only, EnsembleCalculator takes any calculators and factors."
            )


def read_factors(factors: Mapping[str, float]) -> dict[str, float]:
    """Factors on all standard deviations, 1 where none is given; refuses others: ValueError."""
    if not isinstance(factors, Mapping):
        raise ValueError(f"factors are a {type(factors).__name__}, and have to be a table.")
    for name, factor in factors.items():
        if name not in SPREADS:
            raise ValueError(f"there is no factor on {name!r}; {did_you_mean(name, SPREADS)}")
        if not _is_positive(factor):
            raise ValueError(f"the factor on the std of {name} is {factor}; it must be positive.")
    return {name: float(factors.get(name, 1.0)) for name in SPREADS}


def read_weights(weights: Sequence[float], count: int) -> list[float]:
    """Weights of sum 1, equal where none is given; refuses others: ValueError."""
    if not isinstance(weights, Sequence) or isinstance(weights, str):
        raise ValueError(f"weights are a {type(weights).__name__}, and have to be a list.")
    if len(weights) not in (0, count):
        raise ValueError(f"{len(weights)} weights for {count} members; give one each, or none.")
    for weight in weights:
        if not _is_positive(weight):
            raise ValueError(f"the weight {weight} of a member is not positive; leave it out.")
    each = [float(weight) / max(weights) for weight in weights] or [1.0] * count
    if min(each) < LEAST_WEIGHT:  # one of 1e-16 would make standard deviations 0 / 0
        raise ValueError(
            f"the weight {min(weights)} of a member is too small to count; leave it out."
        )
    return [weight / sum(each) for weight in each]


def _is_positive(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


def _check_members(members: Sequence[str]) -> None:
    if len(members) < 2:
        raise ValueError(f"an ensemble has at least two members, not {len(members)}.")
    for member in members:
        if not member:
            raise ValueError("a member has no name; is there a comma too many?")
        if members.count(member) > 1:
            raise ValueError(f"{member} is named twice, and would always agree with itself.")
        if is_ensemble(member):
            raise ValueError(f"member {member!r} is an ensemble itself; name its members.")


def _is_file(model: str) -> bool:
    return Path(model).suffix == SUFFIX and os.path.isfile(Path(model).expanduser())


def _beside(path: Path, member: str) -> str:
    """Where a member of a file is: beside it, and nowhere else, if it is no packaged model."""
    if member in packaged_models():
        return member
    return str(path.resolve().parent / Path(member).expanduser())


def _relative(member: str, folder: Path) -> str:
    """A member as a file in a (resolved) ``folder`` names it: packaged, or relative to that."""
    if member in packaged_models():
        return member
    file = Path(member).expanduser()  # with "@ENERGY", where that is given
    return os.path.relpath(file.parent.resolve() / file.name, folder)


def _is_list(model: str) -> bool:
    return "," in model and not os.path.isfile(Path(model).expanduser())


def write_ensemble(
    path: Path,
    members: Sequence[str],
    calibrations: Mapping[str, Calibration],
    frames: Sequence[str],
    weights: Sequence[float] = (),
) -> Ensemble:
    """Write an ensemble whose standard deviations are as large as errors on some frames.

    Args:
        path: ends in .json. Members that are files are named relative to its folder.
        members: MODELs.
        calibrations: of "energy_per_atom", "forces" and "stress", of the members without factors.
        frames: names of the files.
        weights: of the members; none for equal ones.

    Raises:
        ValueError: there is nothing to calibrate with, or a member that a file cannot have.
        UnwrittenError: the disk is full, or the like.
    """
    check_storable(members)
    factors = {
        name.removesuffix("_per_atom"): found.factor
        for name, found in calibrations.items()
        if found.factor
    }
    if not factors:
        raise ValueError(
            "the frames cannot calibrate the ensemble: none has a label of energy, forces or "
            "stress about which members differ; give labelled frames that no member was trained on."
        )
    names = [_relative(member, path.resolve().parent) for member in members]
    information = {
        "validation": list(frames),
        "before": {name: asdict(found) for name, found in calibrations.items()},
    }
    ensemble = Ensemble(names, factors, information, list(weights))
    with replacing(path) as file:
        file.write((json.dumps({"kind": KIND, **asdict(ensemble)}, indent=1) + "\n").encode())
    return ensemble
