"""Every setting of a training in words: key, type, value, unit and meaning."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..checkpoint import architecture, name_of
from .config import TrainingConfig
from .finetune import load_start
from .tree import section_of

ROLE = re.compile(r":\w+:`[.~]*([\w.]+)`")  # of reStructuredText
ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*)$")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One key of the tree, such as "loss.forces"."""

    key: str
    kind: str
    value: Any
    meaning: str


def explain(
    config: TrainingConfig | None = None, *, kind: str = "pet", folder: Path = Path()
) -> list[Setting]:
    """All settings, with their defaults or, of a configuration, their values.

    Args:
        config: whose values to give; None: defaults.
        folder: where a checkpoint that it starts from is looked for.
        kind: the architecture whose settings the section ``model`` has, without a configuration.

    Raises:
        ValueError: an unknown architecture or checkpoint, or settings that no model can be built
            from.
    """
    name, values = kind, None
    if config is not None and config.start_from is not None:
        network = load_start(config.start_from, folder, config.model).network
        name, values = name_of(network), network.to_config()  # type: ignore[operator]
    elif config is not None:
        name, values = config.architecture or kind, config.model
    shown: list[Setting] = []
    for setting in _of_model(TrainingConfig, config, ""):
        if setting.key == "model":
            shown += _of_network(name, values)
        else:
            shown.append(setting)
    return shown


def _of_model(
    model: type[BaseModel], values: BaseModel | None, prefix: str, *, optional: bool = False
) -> Iterator[Setting]:
    """Settings of a section of the tree, and of those in it; ``optional``: it may be left out."""
    for name, field in model.model_fields.items():
        value = None if values is None else getattr(values, name)
        inner = section_of(field.annotation)
        if inner is not None:
            several = value if isinstance(value, list) and value else [value or None]
            for k, one in enumerate(several):
                place = f"{name}.{k}." if len(several) > 1 else f"{name}."
                yield from _of_model(inner, one, prefix + place, optional=not field.is_required())
            continue
        if values is None:
            needed = f"(required in {prefix[:-1]}, if given)" if optional else "(required)"
            value = needed if field.is_required() else field.get_default()
        yield Setting(prefix + name, _kind(field.annotation), value, field.description or "")


def _of_network(name: str, values: dict[str, Any] | None) -> Iterator[Setting]:
    """Settings of an architecture, from its dataclass."""
    config = architecture(name).CONFIG
    meanings = attributes(config)
    built = None if values is None else config.from_dict({"species": (1,), **values})
    for field in dataclasses.fields(config):
        if field.name == "species":  # those of the data
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        value = default if built is None else getattr(built, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            texts = attributes(type(value))
            for inner in dataclasses.fields(value):
                key = f"model.{field.name}.{inner.name}"
                text = texts.get(inner.name, "")
                yield Setting(key, _kind(inner.type), getattr(value, inner.name), text)
            continue
        yield Setting(f"model.{field.name}", _kind(field.type), value, meanings[field.name])


def attributes(kind: type) -> dict[str, str]:
    """What the docstrings of a dataclass and its bases say of its attributes."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        _, _, section = (base.__doc__ or "").partition("Attributes:\n")
        name = ""
        for line in section.splitlines():
            match = ATTRIBUTE.match(line.removeprefix("    "))
            if match:
                name = match[1]
                found[name] = match[2]
            elif line.strip() and name:
                found[name] += " " + line.strip()
            else:
                name = ""
    return {name: ROLE.sub(r"\1", text) for name, text in found.items()}


def _kind(annotation: Any) -> str:
    """A type as people write it, and choices as such."""
    text = annotation if isinstance(annotation, str) else repr(annotation)
    text = re.sub(r"<class '(\w+)'>", r"\1", text).replace("typing.", "")
    text = re.sub(r"Annotated\[(\w+), [^]]*\]", r"\1", text)
    text = re.sub(r"Optional\[(.*)\]", r"\1 | None", text)
    return re.sub(r"Literal\[([^]]*)\]", lambda match: match[1].replace(", ", " or "), text)
