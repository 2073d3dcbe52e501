"""Cases for training configurations: trees of odd values, harmful YAML and overrides."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.tree import keys

from .outcomes import ERROR, RIGHT, FindingError, read_or_refused, same

SOUND: dict[str, Any] = {
    "architecture": "pet",
    "model": {"cutoff": 4.0, "d_pet": 16, "frames": {"reach": 3.0}},
    "data": {"train": {"files": ["a.xyz"], "index": ":8"}, "validation": {"files": ["b.xyz"]}},
    "loss": {"kind": {"forces": "huber"}},
    "optimization": {"learning_rate": 1e-3, "max_epochs": 10},
    "run": {"device": "cpu"},
}
NAMES = sorted(keys(TrainingConfig))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**20),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(("pet", "mace", "cpu", "huber", "1:2", "::0", "pet-water")),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.dates(),
)
# Aliases that grow without bound, nesting without end, tags that run code, odd keys and numbers.
TRAPS = (
    "model: {a: &a [x, x], b: &b [*a, *a], c: &c [*b, *b]}",
    "a: &a [lol]\n"
    + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "model: &m {frames: *m}",
    "model: &m [*m]",
    "[" * 5000,
    "{a: " * 5000,
    "!!python/object/apply:os.system ['touch {canary}']",
    "model: !!python/name:os.system",
    "? [a, b]\n: c",
    "? {a: b}\n: c",
    "run: !!timestamp 2024-13-45",
    "run: 2024-02-31",
    "optimization: {max_epochs: " + "9" * 5000 + "}",
    "optimization: {learning_rate: !!float x}",
    "optimization: {max_epochs: !!int x}",
    "model: !!binary x",
    "model: !!set {a, b}",
    "model: !!omap [a]",
    "model: !!pairs [a]",
    "<<: 3",
    "<<: {architecture: pet}",
    "<<: [1, 2]",
    "=: 3",
    "%YAML 9.9\n---\na: 1",
    "--- a\n--- b",
    "\ufeffmodel: {}",
    "a: b: c",
    "\t- a",
    "@a",
    "model: {cutoff: .nan}",
    "1: 2",
    "null: 2",
    ".nan: 2",
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A text and overrides."""
    tree = copy.deepcopy(SOUND)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.one_of(st.sampled_from(NAMES), st.text("abc._", max_size=8)))
        _set(tree, name.split("."), draw(VALUES))
    text = yaml.safe_dump(tree, allow_unicode=True)
    kind = draw(st.integers(0, 5))
    if kind == 0:
        text = text + draw(st.sampled_from(TRAPS)) + "\n"
    elif kind == 1:
        text = draw(st.sampled_from(TRAPS))
    elif kind == 2:
        place = draw(st.integers(0, len(text)))
        text = (
            text[:place]
            + draw(st.text("[]{}:,&*!|>'\"%@`#-? \n\ta1é\x00", max_size=6))
            + text[place:]
        )
    overrides = draw(
        st.lists(
            st.one_of(
                st.text(max_size=12),
                st.builds(
                    "{}={}".format,
                    st.sampled_from((*NAMES, "data.train.files.0", "data.train.9", "model.x.y")),
                    st.one_of(st.text(max_size=6), st.sampled_from(TRAPS), st.integers()),
                ),
            ),
            max_size=draw(st.integers(0, 1)),
        )
    )
    return text, overrides


def _set(tree: Any, path: list[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {}) if isinstance(tree, dict) else {}
    if isinstance(tree, dict):
        tree[path[-1]] = value


def case(given: tuple[str, list[str]], folder: Path) -> str:
    """One case: a configuration has what was given, and survives being written."""
    text, overrides = given
    path, canary = folder / "config.yaml", folder / "canary"
    path.write_text(text.replace("{canary}", str(canary)), encoding="utf-8", newline="")
    config, _ = read_or_refused(lambda: TrainingConfig.from_yaml(path, overrides), (ValueError,))
    if canary.exists():
        raise FindingError("code in the file was run")
    if config is None:
        return ERROR
    again = TrainingConfig.from_dict(yaml.safe_load(config.to_yaml()))
    same(again, config, "what was written of it")
    if not overrides:
        _judge(yaml.safe_load(path.read_text(encoding="utf-8")), config.model_dump(), "")
    return RIGHT


def _judge(given: Any, found: Any, where: str) -> None:
    """Whether all that was given is found: sections by their keys, one as a list of one."""
    if isinstance(found, list) and isinstance(given, dict):
        given = [given]
    if isinstance(given, dict) and isinstance(found, dict):
        for key, value in given.items():
            _judge(value, found[key], f"{where}.{key}")
    elif isinstance(given, list | tuple) and isinstance(found, list | tuple):
        same(len(found), len(given), where)
        for one, other in zip(given, found, strict=True):
            _judge(one, other, where)
    elif given is None and where in (".architecture", ".zbl"):
        return  # which means the default
    elif type(given) is int and isinstance(found, str):  # slices are texts
        same(found, str(given), where)
    else:
        same(found, given, where)
