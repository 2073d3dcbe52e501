"""Settings from plain values, as a YAML file has them: names, types and ranges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from .suggestions import refuse_misspelt


def checked(kind: type, values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Values for the fields of a dataclass, converted to their types.

    Args:
        kind: the dataclass.
        values: by name of the field; an instance of a dataclass is taken as it is.
        what: a word for errors, such as "PET setting".

    Raises:
        ValueError: a name that the class does not have, with the nearest one, or a value of another
            type.
    """
    known = [field.name for field in fields(kind)]
    hints = _hints(kind)
    result = {}
    for key, value in values.items():
        refuse_misspelt(what, key, known)
        result[key] = (
            value if hasattr(value, "__dataclass_fields__") else _typed(hints[key], value, key)
        )
    return result


def refuse_out_of_range(
    settings: object,
    *,
    positive: Iterable[str] = (),
    not_negative: Iterable[str] = (),
    at_least_one: Iterable[str] = (),
) -> None:
    """Raise ValueError with the first number that is out of its range; None is in any."""
    for names, fits, words in (
        (positive, lambda x: x > 0, "be positive"),
        (not_negative, lambda x: x >= 0, "not be negative"),
        (at_least_one, lambda x: x >= 1, "be at least 1"),
    ):
        for name in names:
            value = getattr(settings, name)
            if value is not None and not fits(value):
                raise ValueError(f"{name} = {value} must {words}.")


def _typed(hint: Any, value: Any, key: str) -> Any:
    options = {hint, *get_args(hint)}
    if isinstance(value, str) and any(isinstance(option, str) for option in options):
        return value  # one of several words, which the class checks and names
    reason = "it must be a number" if isinstance(value, bool) and bool not in options else None
    if reason is None:
        try:
            return _adapter(hint).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            reason = first.replace("Input should be", "it must be").partition(",")[0]
    raise ValueError(f"{key} = {value!r}: {reason}.")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False))
