"""Evaluation of a calculator on labelled frames; :mod:`.errors` says what its figures mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from ..potentials.calibration import Calibration
from ..potentials.graph import random_rotations
from .comparison import (
    QUANTITIES,
    Array,
    Comparison,
    Frame,
    chunks,
    implements,
    predict,
    rotational_variances,
    wanted,
)
from .errors import (
    UNITS,
    Block,
    RotationalDiscrepancy,
    WorstFrame,
    calibrations,
    corrected_energy_error,
    discrepancy,
    energy_error,
    errors,
    mean_errors,
    worst_frames,
)

NO_GROUP = "(none)"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    ``microseconds_per_atom`` is the wall time inside the calculator (neighbor list, model, those
    derivatives that have labels, copies to and from a device) over the number of atoms in frames
    with something to compare. The first of these runs once uncounted; reading files and turned
    frames do not count.
    """

    model: str
    overall: Block
    rotational_discrepancy: RotationalDiscrepancy | None
    calibrations: dict[str, Calibration]
    groups: dict[str, Block]
    worst: list[WorstFrame]
    microseconds_per_atom: float
    notes: list[str]
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Return what ``pointedge evaluate --json`` writes: plain values, None for no label."""
        turned = self.rotational_discrepancy
        return {
            "model": self.model,
            **asdict(self.overall),
            "rotational_discrepancy": None if turned is None else asdict(turned),
            "calibration": {name: asdict(found) for name, found in self.calibrations.items()},
            "groups": {name: asdict(block) for name, block in self.groups.items()},
            "worst": [asdict(frame) for frame in self.worst],
            "microseconds_per_atom": self.microseconds_per_atom,
        }

    def plot(self, path: str | Path) -> None:
        """Write the parity plot; the suffix of ``path`` gives the format."""
        block = self.overall
        captions = {
            name.removesuffix("_per_atom"): f"RMSE {e.rmse:.4g} {unit}\nMAE {e.mae:.4g} {unit}"
            for name, unit in UNITS.items()
            if (e := getattr(block, name)) is not None
        }
        if block.energy_per_atom is not None and block.energy_per_atom.offset_corrected is not None:
            rmse = block.energy_per_atom.offset_corrected.rmse
            captions["energy"] += f"\noffset-corrected RMSE {rmse:.4g}"
        from .parity import parity_plot

        found = {name.removesuffix("_per_atom"): c for name, c in self.calibrations.items()}
        parity_plot(self.comparison, captions, path, calibrations=found, title=self.model)


def evaluate(
    calculator: Any,
    frames: Iterable[Atoms | Frame],
    *,
    model: str = "",
    group_by: str | None = None,
    rotations: int = 0,
    chunk_atoms: int = 4_000,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Compare a calculator with labelled frames, which are only read.

    Frames are taken from the iterable in chunks, and only their numbers are kept.

    Args:
        calculator: an ASE calculator; its ``calculate_many`` is used where it has one.
        frames: structures with the default label keys, or :class:`Frame` objects.
        model: name for the report.
        group_by: key of ``atoms.info``; errors are also given for each of its values.
        rotations: random orientations of each frame for the rotational discrepancy; 0 for none.
        chunk_atoms: how many atoms are handed to the calculator at once.
        progress: called with the number of frames after each chunk.

    Raises:
        ValueError: a frame has no label or a malformed one, the calculator fails on a frame or
            predicts a value that is not finite (the message names frame and file), it gives
            nothing that the frames have labels of, there is no frame, or none has ``group_by``.
    """
    if rotations < 0 or rotations == 1:
        raise ValueError(f"a spread over orientations takes 2 rotations or more, not {rotations}.")
    generator = torch.Generator().manual_seed(0)
    parts: list[Comparison] = []
    variances: list[dict[str, Array]] = []
    sizes: list[int] = []  # of the frames with something to compare
    seconds = 0.0
    for chunk in chunks(frames, chunk_atoms):
        labels = [frame.labels() for frame in chunk]
        asked = [wanted(calculator, label) for label in labels]
        if not sizes:  # warm-up
            first = next((k for k, names in enumerate(asked) if names), 0)
            predict(calculator, chunk[first : first + 1], asked[first : first + 1])
        start = time.perf_counter()
        predictions = predict(calculator, chunk, asked)
        seconds += time.perf_counter() - start
        for frame, label, prediction in zip(chunk, labels, predictions, strict=True):
            group = frame.atoms.info.get(group_by, "") if group_by is not None else ""
            parts.append(Comparison.of(frame, str(group), label, prediction))
            sizes += [len(frame.atoms)] if prediction else []
            if rotations and prediction:
                matrices = random_rotations(rotations, generator=generator).numpy()
                variances.append(rotational_variances(calculator, frame, matrices))
        if progress is not None:
            progress(len(chunk))
    if not parts:
        raise ValueError("there is no frame to evaluate.")
    c = Comparison.join(parts)
    if not sizes:
        raise ValueError(_nothing(calculator, c))
    return Evaluation(
        model=model,
        overall=errors(c),
        rotational_discrepancy=discrepancy(variances, sizes),
        calibrations=calibrations(c),
        groups={} if group_by is None else _groups(c, group_by),
        worst=worst_frames(c),
        microseconds_per_atom=1e6 * seconds / sum(sizes),
        notes=_notes(c),
        comparison=c,
    )


def _nothing(calculator: Any, c: Comparison) -> str:
    """Why nothing can be compared; a sentence."""
    labels = [name for name in QUANTITIES if not np.isnan(getattr(c, name)).all()]
    given = [name for name in QUANTITIES if implements(calculator, name)]
    return (
        f"there is nothing to compare: the frames have labels of {', '.join(labels)}, and the "
        f"calculator gives {', '.join(given) or 'none of these'}; take frames with such "
        "labels, or give their names."
    )


def _groups(c: Comparison, key: str) -> dict[str, Block]:
    names = sorted(set(c.groups.tolist()))
    if names == [""]:
        raise ValueError(f"no frame has {key!r} in its info, so errors cannot be grouped by it.")
    return {name or NO_GROUP: errors(c, c.groups == name) for name in names}


def _notes(c: Comparison) -> list[str]:
    """What looks wrong, or is left out; a sentence each."""
    notes = [
        f"{label} labels are left out: the calculator gives no {name}."
        for name, label in zip(QUANTITIES, ("energy", "force", *QUANTITIES[2:]), strict=True)
        if (~np.isnan(getattr(c, name)) & np.isnan(getattr(c, f"predicted_{name}"))).any()
    ]
    if _flipped(c, "forces"):
        notes.append("force labels look flipped in sign: forces are minus the energy's gradient.")
    if _flipped(c, "stress"):
        notes.append("stress labels look flipped in sign: ASE's is negative under compression.")
    corrected, offsets = corrected_energy_error(c)
    frames = int((~np.isnan(corrected)).sum())
    if not frames:
        return notes
    raw, rest = mean_errors(energy_error(c)), mean_errors(corrected)
    if raw and rest and raw.rmse > max(10 * rest.rmse, 1.0):
        notes.append(
            "energies differ by a constant per species: the labels have another reference."
        )
    if offsets > 1 and frames < 3 * offsets:
        notes.append(
            f"{offsets} offsets were fitted to {frames} energies, which makes the offset-corrected "
            "error too small."
        )
    return notes


def _flipped(c: Comparison, name: str) -> bool:
    """Whether labels are rather the negative of what is predicted."""
    both = ~np.isnan(c.error(name))
    ours, theirs = getattr(c, f"predicted_{name}")[both], getattr(c, name)[both]
    return bool(ours @ theirs < -0.5 * np.sqrt((ours @ ours) * (theirs @ theirs)))
