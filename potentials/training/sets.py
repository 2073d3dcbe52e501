"""The sets of frames of a run: opened, checked against each other and what the loss asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from ..datasets.hashes import data_hash
from ..datasets.registry import known_test_frames
from ..graph import DEFAULT_INPUTS, input_range
from ..outputs import DIRECT
from ..potential import Potential
from .config import TrainingConfig
from .data import LABELS
from .dataset import FrameDataset, FrameSource
from .labels import keys_of
from .reading import refuse_known_tests, refuse_overlap
from .settings import Data, Loss

TRAINING, VALIDATION, TEST = "training", "validation", "test"
Sets = dict[str, FrameDataset]


def open_sources(data: Data, folder: Path) -> dict[str, FrameSource]:
    """The frames of each set that the configuration names, by its name; see :class:`FrameSource`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file cannot be read, a selection has no frame, or the test frames have
            elements that no other frame has.
    """
    selections = {TRAINING: data.train, VALIDATION: data.validation, TEST: data.test}
    sources = {n: FrameSource(n, some, data, folder) for n, some in selections.items() if some}
    if TEST in sources and (new := sources[TEST].species() - set(species_of(sources))):
        raise ValueError(
            f"the test frames have {', '.join(chemical_symbols[z] for z in sorted(new))}, which no "
            "training or validation frame has; leave those frames out of data.test."
        )
    return sources


def species_of(sources: Mapping[str, FrameSource]) -> list[int]:
    """Atomic numbers of the training and validation frames, ascending."""
    return sorted(sources[TRAINING].species() | sources[VALIDATION].species())


def open_sets(
    sources: Mapping[str, FrameSource],
    config: TrainingConfig,
    potential: Potential,
) -> Sets:
    """Labels and neighbour lists of all sets, checked.

    Args:
        sources: the frames.
        config: tells labels and the loss.
        potential: whose cutoff, inputs and properties they have to suit.

    Raises:
        ValueError: a frame or label is unusable, two sets share a frame, or the loss has a label
            that no frame of a set has, or none with a weight, or that the model does not predict;
            or a charge or spin is out of the model's range.
    """
    _require_predicted(config.loss, potential.properties)
    cutoff, inputs = potential.cutoff, potential.inputs
    sets = {name: source.dataset(cutoff, inputs) for name, source in sources.items()}
    for name, frames in sets.items():
        _refuse_unknown_inputs(potential, name, frames)
    refuse_overlap({name: frames.hashes for name, frames in sets.items()})
    if not config.data.train_on_test_splits:
        refuse_known_tests(sets[TRAINING].hashes, known_test_frames())
    for name, frames in sets.items():
        frames.summary.keys.check(name, keys_of(config.data))
        if name != TEST:
            _require_labels(config, name, frames)
    return sets


def _refuse_unknown_inputs(potential: Potential, name: str, frames: FrameDataset) -> None:
    for key in set(potential.inputs) & set(DEFAULT_INPUTS):
        low, high = input_range(potential.network, key)
        values = frames.inputs(key)
        beyond = np.flatnonzero((values < low) | (values > high))
        if len(beyond):
            raise ValueError(
                f"{key} of {name} frame {beyond[0]} is {values[beyond[0]]}, and the model knows it "
                f"from {low} to {high} only; correct it, or set model.max_charge or "
                "model.max_spin_multiplicity."
            )


def _require_predicted(loss: Loss, properties: Sequence[str]) -> None:
    if direct := [name for name in properties if name in DIRECT]:
        raise ValueError(
            f"the model predicts {' and '.join(direct)}, which can be used, but not trained; leave "
            "them out of its properties, or convert the published model without them."
        )
    derivatives = ("forces", "stress") if "energy" in properties else ()
    for label in LABELS:
        if getattr(loss, label) > 0 and label not in (*properties, *derivatives):
            raise ValueError(
                f"the loss has {label}, but the model predicts {', '.join(properties)}; "
                f"set model.properties, or loss.{label}=0."
            )


def _require_labels(config: TrainingConfig, name: str, frames: FrameDataset) -> None:
    labels = frames.summary.labels
    for label in LABELS:
        if getattr(config.loss, label) == 0:
            continue
        if label in labels:
            if labels[label].weight == 0:
                raise ValueError(
                    f"the loss has {label}, but every {name} frame with one has weight 0; correct"
                    f" the weights of frames, groups or selections, or set loss.{label}=0."
                )
            continue
        if getattr(config.data, f"{label}_key") is None:
            raise ValueError(
                f"the loss has {label}, but data.{label}_key is null, so that none is read; "
                f"name its key, or set loss.{label}=0."
            )
        others = ", ".join(sorted(frames.summary.keys.others)) or "nothing else"
        raise ValueError(
            f"the loss has {label}, but no {name} frame has one by a usual name (there is "
            f"{others}); set data.{label}_key to its name, or loss.{label}=0."
        )


def data_of(sets: Mapping[str, FrameDataset]) -> dict[str, Any]:
    """What the state of a run says of its data."""
    return {
        "data": data_hash(sets[TRAINING].hashes),
        "digests": {name: sets[name].digest for name in (TRAINING, VALIDATION)},
    }


def refuse_other_data(state: Mapping[str, Any], found: Mapping[str, Any], folder: Path) -> None:
    """Raise ValueError if a state is not of the data that were found, see :func:`data_of`."""
    # States of before there were digests know which training frames there are, and no more.
    old = state.get("digests", {TRAINING: state["data"]})
    new = found["digests"] if "digests" in state else {TRAINING: found["data"]}
    if changed := [name for name in old if old[name] != new[name]]:
        raise ValueError(
            f"the {' and '.join(changed)} frames, or their order, labels or weights, are not those"
            f" of the run in {folder}; bring the old files back, or choose another folder."
        )
