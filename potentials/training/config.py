"""The training configuration: one tree, strict, with defaults and units in one place."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ..checkpoint import ARCHITECTURES, architecture
from ..suggestions import refuse_misspelt
from .settings import Data, FineTuning, Loss, Optimization, Run, Strict
from .tree import in_a_sentence, override, read_tree


class TrainingConfig(Strict):
    """A training run. ``model`` holds the settings of the architecture, see its own class."""

    architecture: str | None = Field(
        None,
        description="pet, convolution, nequip or mace; default: pet, or that of start_from",
    )
    model: dict[str, Any] = Field({}, description="settings of the architecture, without species")
    zbl: bool | None = Field(
        None,
        description="add ZBL repulsion at short range; default: yes, or as start_from has it",
    )
    start_from: str | list[str] | None = Field(
        None,
        description="checkpoint whose weights to start from, a packaged model (pet-water) or a"
        " file, of ours or a published PET (pet-mad-s.ckpt); or several that were trained on from"
        " one and the same, whose mean is often better than each; `model` may then change settings"
        " that leave the shapes of its weights alone, such as `symmetry` and `frames`, and let a"
        " PET grow (`num_attention_layers`, `d_feedforward`)",
    )
    fine_tuning: FineTuning = Field(FineTuning(), description="what start_from begins")
    auxiliary: bool = Field(
        False, description="fit an auxiliary network at the end, which ECSE needs for lone atoms"
    )
    uncertainty: bool = Field(
        False,
        description="fit standard deviations of energies at the end (PET, MACE); validation"
        " frames calibrate them",
    )
    data: Data
    loss: Loss = Loss()
    optimization: Optimization = Optimization()
    run: Run = Run()

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, tree: Any) -> Any:
        """Settings that have a default unless a checkpoint has them."""
        if not isinstance(tree, dict) or tree.get("start_from") is not None:
            return tree
        defaults = {"architecture": "pet", "zbl": True}
        return tree | {key: value for key, value in defaults.items() if tree.get(key) is None}

    @field_validator("start_from", mode="before")
    @classmethod
    def _names_checkpoints(cls, value: Any) -> Any:
        names = value if isinstance(value, list) else [value]
        if value is not None and not (names and all(isinstance(name, str) for name in names)):
            raise ValueError(f"{value} is no checkpoint; give a packaged model, a file, or a list")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "species" in self.model:
            raise ValueError("model.species is read from the data; leave it out")
        if self.architecture is not None:
            refuse_misspelt("architecture", self.architecture, ARCHITECTURES)
        if self.start_from is None and self.fine_tuning != FineTuning():
            raise ValueError("fine_tuning has a meaning with start_from only; give a checkpoint")
        return self

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: list[str] | None = None) -> TrainingConfig:
        """Read a YAML file, with "section.key=value" overrides; raises ValueError in one line."""
        tree = read_tree(Path(path))
        for text in overrides or []:
            override(tree, text)
        return cls.from_dict(tree)

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> TrainingConfig:
        """Check plain values; an unknown key is answered with the nearest known one.

        The section ``model`` is completed with the architecture's defaults, unless a checkpoint
        has them.
        """
        try:
            config = cls.model_validate(tree)
        except ValidationError as error:
            raise ValueError(in_a_sentence(error, cls)) from None
        if config.start_from is not None:
            return config
        try:
            built = architecture(config.architecture or "").CONFIG.from_dict(
                {"species": (1,), **config.model}
            )
        except ValueError as error:
            raise ValueError(f"model: {error}") from None
        model = dict(list(_plain(asdict(built)).items())[1:])  # without species
        return config.model_copy(update={"model": model})

    def to_yaml(self) -> str:
        """The resolved configuration, every default written out."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    """Values as YAML has them: lists for tuples."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
