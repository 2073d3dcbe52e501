"""A configuration as text: YAML, overrides, and what is wrong with them in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ..suggestions import did_you_mean
from .slices import is_slice

LONGEST = 200  # characters of an override that an error quotes
MOST_NODES = 100_000  # of a tree with its aliases written out, which may grow without bound


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML takes the last, and aliases that explode.

    Colons make no number: YAML 1.1 reads the slice 1:5 as 65, to the base 60.
    """

    def get_single_node(self) -> yaml.Node | None:
        """The tree of nodes, which is not too large."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _size(node, {}) > MOST_NODES:
            raise yaml.constructor.ConstructorError(
                problem=f"with its aliases it has more than {MOST_NODES} values",
                problem_mark=node.start_mark,
            )
        return node

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        """The tag of a value; what has a colon is a text."""
        tag = super().resolve(kind, value, implicit)
        return yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG if _base_60(tag, value) else tag


def _base_60(tag: str, value: Any) -> bool:
    number = tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    return number and isinstance(value, str) and ":" in value


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of nodes, those of an alias as often as it is used."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST_NODES  # of what holds itself
        inner = [part for x in node.value for part in (x if isinstance(x, tuple) else (x,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in inner)
    return known[id(node)]


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                problem="a list or a section stands in the place of a key",
                problem_mark=key.start_mark,
            )
        name = loader.construct_object(key, deep=True)
        if name in seen:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {name!r} is given twice", problem_mark=key.start_mark
            )
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_tree(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings; raises ValueError with the line of what cannot be read."""
    try:
        tree = _parse(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise ValueError(
            f"{path} is not a text file; a YAML file of settings is expected."
        ) from None
    if tree is None:
        raise ValueError(f"{path} is empty; see examples/train for configurations.")
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds {_named(tree)}, but settings, 'key: value', are expected.")
    return tree


def override(tree: dict[str, Any], text: str) -> None:
    """Set one "section.key=value"; entries of lists are counted from 0."""
    key, equals, value = text.partition("=")
    shown = repr(text if len(text) < LONGEST else f"{text[:LONGEST]}...")
    path = key.split(".")
    if not equals or not all(path):
        raise ValueError(f"an override reads section.key=value, not {shown}.")
    node: Any = tree
    for k, name in enumerate(path):
        where = ".".join(path[:k])
        if isinstance(node, list):
            if not (name.isdigit() and int(name) < len(node)):
                raise ValueError(
                    f"override {shown}: {where} is a list of {len(node)}; its entries are 0 to"
                    f" {len(node) - 1}."
                )
        elif not isinstance(node, dict):
            raise ValueError(f"override {shown}: {where} is {_named(node)}, and has no {name!r}.")
        place: Any = int(name) if isinstance(node, list) else name
        if k == len(path) - 1:
            plain = is_slice(value)  # ":" and "8:" are something else in YAML
            node[place] = value if plain else _parse(value, f"override {shown}")
            return
        if isinstance(node, dict) and node.get(place) is None:
            node[place] = {}
        node = node[place]


def in_a_sentence(error: ValidationError, root: type[BaseModel]) -> str:
    """The first thing that is wrong with a tree: where, what, and what would be right."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if part != 0]  # most selections are the only one
    where, found = ".".join(path), first["input"]
    section = section_at(root, path[:-1])
    if first["type"] == "extra_forbidden":
        known = [] if section is None else list(section.model_fields)
        elsewhere = [key for key in keys(root) if key.rpartition(".")[2] == path[-1]]
        nearest = did_you_mean(path[-1], known)
        if elsewhere and not nearest.startswith("did"):
            nearest = f"did you mean {elsewhere[0]!r}?"
        return f"unknown setting {where!r}; {nearest}"
    if first["type"] == "missing":
        meaning = "" if section is None else section.model_fields[path[-1]].description
        return f"{where} is missing{f': {meaning}' if meaning else ''}."
    if first["type"] in ("model_type", "dict_type"):
        return f"{where} is {_named(found)}, but a section of settings is expected."
    if first["type"] == "value_error":
        reason = first["msg"].removeprefix("Value error, ").rstrip(".")
        return f"{where}: {reason}." if where else f"{reason}."
    if first["type"] == "literal_error" and section is not None:
        options = get_args(section.model_fields[path[-1]].annotation)
        return f"{where} is {found!r}; {did_you_mean(str(found), options)}"
    reason = first["msg"].partition(", unable")[0]
    if reason.startswith("Input should be"):
        return f"{where} is {found!r}, but {reason.replace('Input should', 'it must', 1)}."
    return f"{where} is {found!r}: {reason[0].lower()}{reason[1:]}."


def section_at(root: type[BaseModel], path: list[str]) -> type[BaseModel] | None:
    """The class of the section at a path; entries of lists are of their class."""
    section: type[BaseModel] | None = root
    for name in path:
        if section is None or (not name.isdigit() and name not in section.model_fields):
            return None
        if not name.isdigit():
            section = section_of(section.model_fields[name].annotation)
    return section


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that an annotation names, be it alone, or in a list; None for values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (section_of(inner) for inner in get_args(annotation))
    return next((section for section in found if section is not None), None)


def keys(root: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings and sections."""
    for name, field in root.model_fields.items():
        yield prefix + name
        section = section_of(field.annotation)
        if section is not None:
            yield from keys(section, f"{prefix}{name}.")


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        raise ValueError(f"{source}{line}: not readable as YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: not readable as YAML: {str(error).splitlines()[0]}.") from None
    except RecursionError:
        raise ValueError(f"{source}: not readable as YAML: it is nested too deeply.") from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # a date that is none
        raise ValueError(f"{source}: not readable as YAML: {error}.") from None


def _named(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "empty" if value is None else f"the value {value!r}"
