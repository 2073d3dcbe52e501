"""YAML that explodes, never ends, is no tree of settings or reads slices as numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.tree import override, read_tree

LAUGHS = "a: &a [x]\n" + "".join(f"{b}: &{b} [{f'*{a}, ' * 9}]\n" for a, b in pairwise("abcdefghi"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "line 1: not readable as YAML: with its aliases it has more than 100000 values"),
        ("model: &m [*m]", "with its aliases it has more than"),
        ("model: &m {frames: *m}", "with its aliases it has more than"),
        ("[" * 1500, "it is nested too deeply"),
        ("? [a, b]\n: c", "line 1: .* a list or a section stands in the place of a key"),
        ("x: 1\n? {a: b}\n: c", "line 2: .* stands in the place of a key"),
        ("run: 2024-02-31", "not readable as YAML: day"),
        ("run: " + "9" * 5000, "not readable as YAML: Exceeds the limit"),
        ("!!python/object/apply:os.system ['true']", "line 1: .*could not determine a constructor"),
    ],
    ids=["laughs", "itself", "in itself", "deep", "list", "section", "date", "digits", "code"],
)
def test_harmful_yaml(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_tree(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_anchors_of_ordinary_use_are_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("train: &these {files: [a.xyz]}\ntest: *these\n")
    assert read_tree(path) == {key: {"files": ["a.xyz"]} for key in ("train", "test")}


def test_long_overrides_are_not_quoted_in_full():
    with pytest.raises(ValueError, match=r"override 'a=\[+\.\.\.'.* nested too deeply") as error:
        override({}, "a=" + "[" * 1500)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("text", ["1:5", "6:9", "1:20:30", "::10", ":", "8:", "-10:"])
def test_colons_of_slices(tmp_path, text):
    """YAML 1.1 takes 1:5 for 65, to the base 60; only what ends in a colon needs quotes."""
    tree = {"data": {"train": {"files": ["a"]}, "validation": {"files": ["b"]}}}
    path = tmp_path / "config.yaml"
    path.write_text(TrainingConfig.from_dict(tree).to_yaml())
    found = TrainingConfig.from_yaml(path, [f"data.train.0.index={text}"])
    assert found.data.train[0].index == text
    lines = ["data:", "  validation: {files: [b]}", "  train:", "    files: [a]"]
    path.write_text("\n".join([*lines, f"    index: {text}\n"]))
    if text.endswith(":"):
        with pytest.raises(ValueError, match=r"in quotes, ':8'|line 5"):
            TrainingConfig.from_yaml(path)
    else:
        assert TrainingConfig.from_yaml(path).data.train[0].index == text
