"""Models by name or file: packaged weights, checkpoints, calculators of other packages."""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..potentials.packaged import SUFFIX, packaged_folder
from ..potentials.packaged import packaged_models as packaged_models
from ..potentials.suggestions import did_you_mean

if TYPE_CHECKING:
    from ..potentials.potential import Potential

STRUCTURES = ("water-64", "mno-64", "hea-128")  # packaged; the first of known elements is chosen


def default_structure(calculator: Any = None) -> Path:
    """Return the packaged structure that suits a calculator: all its elements are known to it.

    Calculators of other packages, which do not say what they know, get the first one: water.

    Raises:
        ValueError: the calculator knows the elements of none.
    """
    import ase.io
    from ase.data import chemical_symbols

    folder = packaged_folder("structures")
    paths = [folder / f"{name}.xyz" for name in STRUCTURES]
    potential = getattr(calculator, "potential", None)
    if potential is None:
        return paths[0]
    found: list[str] = []
    for path in paths:
        structure = next(ase.io.iread(path, index=0))
        if set(structure.numbers) <= set(potential.species):
            return path
        found.append(structure.symbols.formula.reduce()[0].format("hill"))
    known = ", ".join(chemical_symbols[z] for z in potential.species)
    raise ValueError(
        f"the model knows {known}, and no packaged structure consists of these "
        f"({', '.join(found)}); give a STRUCTURE."
    )


def find_model(model: str | Path) -> Path:
    """Return the file of a packaged model, or the path of a file; raises ValueError for others."""
    packaged = packaged_models()
    if str(model) in packaged:
        return packaged[str(model)]
    path = Path(model).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise ValueError(f"{model} is a folder; give a {SUFFIX} file in it.")
    if not packaged:
        raise ValueError(
            f"there is no file {model}, and no model is packaged; give a {SUFFIX} file."
        )
    nearest = difflib.get_close_matches(str(model), packaged, n=1)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ValueError(
        f"there is no packaged model and no file {str(model)!r}; {guess}"
        f"packaged: {', '.join(packaged)}."
    )


def committee(model: str) -> list[str]:
    """Return the members that a MODEL argument stands for, itself if it is none."""
    if "," in model and not Path(model).is_file():
        return [member.strip() for member in model.split(",")]
    packaged = packaged_models()
    members = [name for name in packaged if re.fullmatch(rf"{re.escape(model)}-\d+", name)]
    return [model] if model in packaged or not members else members


def load_potential(
    model: str | Path | Potential,
    *,
    architecture: str | None = None,
    symmetrize: str | None = None,
) -> Potential:
    """Return a potential of the caller's own, on the CPU if it comes from a file.

    Args:
        model: name of a packaged model, a file, or a potential, which is copied.
        architecture: registered name of what the network has to be; None: anything.
        symmetrize: a name of :func:`pointedge.potentials.ecse.symmetrize.symmetrized`.

    Raises:
        ValueError: there is no such model or symmetrisation, the file cannot be read
            (CheckpointError), or it holds another architecture.
    """
    from ..potentials import checkpoint

    if isinstance(model, str | Path):
        potential = checkpoint.load(find_model(model))
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
    if symmetrize is not None:
        from ..potentials.ecse.symmetrize import symmetrized

        return symmetrized(potential, symmetrize)
    return potential


def make_calculator(
    model: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    symmetrize: str | None = None,
) -> Any:
    """Return the ASE calculator of a MODEL argument of the command line.

    Args:
        model: a packaged name, a file, or ``module:callable`` returning an ASE calculator (the
            module may lie in the current directory); several, separated by commas, or the name of
            packaged models that end in -1, -2, ... are a committee.
        device: torch device; default: the CPU, or the callable's own.
        dtype: "float32" or "float64"; default: the model's own.
        symmetrize: exact symmetrisation, for potentials of this package.

    Raises:
        ValueError: there is no such model, module or callable, or it does not take an option.
    """
    from .ase import PotentialCalculator
    from .ensemble import CommitteeCalculator

    if len(members := committee(model)) > 1:
        options = {"device": device, "dtype": dtype, "symmetrize": symmetrize}
        return CommitteeCalculator([make_calculator(member, **options) for member in members])
    if ":" in model and not Path(model).is_file():
        if symmetrize is not None:
            raise ValueError(f"symmetrize works on potentials of pointedge only, not on {model}.")
        given = {"device": device, "dtype": dtype}
        return _foreign_calculator(model, {k: v for k, v in given.items() if v is not None})
    return PotentialCalculator(model, device=device, dtype=dtype, symmetrize=symmetrize)


def model_card(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself, as plain values.

    Keys: name, file, bytes, architecture, config, species, inputs, cutoff (Å), cutoff_function,
    cutoff_width (Å), curvature_jump (1/Å²), baseline (eV by symbol), scale (eV), repulsion, dtype,
    parameters, units, information (data and errors, as training left them), code_version,
    format_version. Raises ValueError for a file that is no checkpoint.
    """
    from ase.data import chemical_symbols

    from ..potentials import checkpoint
    from ..potentials.cutoff import curvature_jump

    description = checkpoint.describe(path)
    potential = checkpoint.load(path)
    tensors = potential.state_dict()
    config = description["config"]
    function, width = config.get("cutoff_function"), config.get("cutoff_width")
    return {
        "name": path.name.removesuffix(SUFFIX),
        "file": str(path),
        "bytes": path.stat().st_size,
        **description,
        "species": [chemical_symbols[z] for z in potential.species],
        "inputs": list(potential.inputs),
        "cutoff": potential.cutoff,
        "cutoff_function": function,
        "cutoff_width": width,
        "curvature_jump": None if function is None else curvature_jump(function, width),
        "baseline": {chemical_symbols[z]: tensors["baseline"][z].item() for z in potential.species},
        "scale": tensors["scale"].item(),
        "dtype": str(potential.dtype).removeprefix("torch."),
        "parameters": sum(p.numel() for p in potential.parameters()),
    }


def _foreign_calculator(model: str, options: dict[str, Any]) -> Any:
    """Call ``module:callable`` with the options given."""
    name, _, attribute = model.partition(":")
    with _importable_here():
        function = _attribute(_import(name, model), attribute, model)
        for option in options:
            if not _takes(function, option):
                raise ValueError(f"{model} takes no {option}=; leave it out.")
        calculator = function(**options)
    if not hasattr(calculator, "get_potential_energy"):
        kind = type(calculator).__name__
        raise ValueError(f"{model} returned a {kind}; it has to return an ASE calculator.")
    return calculator


def _import(name: str, model: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(
                f"there is no module {error.name!r} for {model}, neither here nor installed; give "
                "a packaged name, a file, or module:callable."
            ) from None
        raise ValueError(f"{model} needs {error.name}, which is not installed.") from None
    except (ValueError, TypeError):
        # Empty and relative names; an error of the module's own code keeps its traceback below.
        if not name.strip(".") or name.startswith("."):
            raise ValueError(f"{model!r} is not of the form module:callable.") from None
        raise


def _attribute(module: Any, attribute: str, model: str) -> Callable[..., Any]:
    if not hasattr(module, attribute):
        names = [n for n in vars(module) if not n.startswith("_") and callable(vars(module)[n])]
        hint = did_you_mean(attribute, names) if names else "it has no callables."
        raise ValueError(f"module {module.__name__} has no {attribute!r} for {model}; {hint}")
    function = getattr(module, attribute)
    if not callable(function):
        raise ValueError(
            f"{model} is a {type(function).__name__}; it has to be a callable that returns an ASE "
            "calculator."
        )
    return function


def _takes(function: Callable[..., Any], option: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # compiled code without a signature
        return True
    return option in parameters or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )


@contextmanager
def _importable_here() -> Iterator[None]:
    """Let the current directory be imported from, and leave the search path as it was."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before
