"""Calculators of other packages by name: ``module:callable``."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..potentials.packaged import split_target
from ..potentials.suggestions import did_you_mean


class UnknownOptionError(ValueError):
    """A callable does not take an option."""


def is_foreign(model: str) -> bool:
    """Whether a MODEL argument is ``module:callable``, which runs code, and no file."""
    return ":" in model and not os.path.exists(split_target(model)[0])


def foreign_calculator(model: str, options: dict[str, Any]) -> Any:
    """Call ``module:callable`` with the options given.

    Raises:
        UnknownOptionError: it does not take an option.
        ValueError: there is no such module or callable, or it returns something else.
    """
    name, _, attribute = model.partition(":")
    with _importable_here():
        function = _attribute(_import(name, model), attribute, model)
        for option in options:
            if not _takes(function, option):
                raise UnknownOptionError(
                    f"{model} has no parameter {option!r}; leave it out, or give a callable that "
                    "names it."
                )
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
    """Whether an option is a parameter by name: what ``**kwargs`` takes may end nowhere."""
    try:
        return option in inspect.signature(function).parameters
    except ValueError:  # compiled code without a signature
        return True


@contextmanager
def _importable_here() -> Iterator[None]:
    """Let the current directory be imported from, and leave the search path as it was."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before
