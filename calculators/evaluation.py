"""Errors of a calculator against labelled frames: the only place where errors are defined.

With Δ = prediction − label, everything in float64:

- *mae* is the mean of |Δ|, *rmse* the root of the mean of Δ²: over frames for the energy per atom,
  over single components for forces (three per atom) and stress (nine per frame, so that the figure
  does not depend on the axes). Errors of vector norms would be larger by about √3.
- *offset_corrected* energies: what an atom of each species has for its zero of energy is a
  convention, so the offsets δ_s that minimize Σ_f (Δ_f/N_f − Σ_s x_fs δ_s)² are removed, where x_fs
  is the fraction of species s in frame f. Where all frames have one composition, that removes the
  mean error per atom. One fit over all frames serves the groups too. With no more frames than
  independent compositions it would vanish for any model, and is None.
- *relative_rmse*: percent of the root mean square of the reference components (about zero, so that
  predicting no force at all has 100 %); None where the reference vanishes.
- *p95* and *max*: 95th percentile (interpolated linearly) and maximum of |Δ| over components.

What has no label is None, and counts nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ..potentials.graph import random_rotations
from .comparison import (
    Array,
    Comparison,
    Frame,
    chunks,
    predict,
    rotational_variances,
    wanted,
)

MILLI = 1e3  # eV -> meV
NO_GROUP = "(none)"

Selection = NDArray[np.bool_]


@dataclass(frozen=True)
class Errors:
    """Mean absolute and root-mean-square error, in meV/atom or meV/Å³."""

    mae: float
    rmse: float


@dataclass(frozen=True)
class EnergyErrors(Errors):
    """Errors of the energy per atom in meV/atom, raw and without the best offsets of species."""

    offset_corrected: Errors | None


@dataclass(frozen=True)
class ComponentErrors(Errors):
    """Errors of force components in meV/Å; ``relative_rmse`` in percent."""

    p95: float
    max: float
    relative_rmse: float | None


@dataclass(frozen=True)
class ForceErrors(ComponentErrors):
    """Errors of all force components, and of those of each element."""

    per_element: dict[str, ComponentErrors]


@dataclass(frozen=True)
class Block:
    """Errors of some frames; None where nothing is labelled."""

    frames: int
    atoms: int
    energy_per_atom: EnergyErrors | None
    forces: ForceErrors | None
    stress: Errors | None


@dataclass(frozen=True)
class RotationalDiscrepancy:
    """Spread over orientations, in meV/atom and in meV/Å per component (None: no forces).

    Unbiased standard deviation over random elements of O(3), forces turned back, as root mean
    square over frames or components; zero to rounding for an exactly invariant model.
    """

    energy_per_atom: float
    forces: float | None


@dataclass(frozen=True)
class WorstFrame:
    """Force errors of one frame in meV/Å per component; signed raw energy error in meV/atom.

    ``max_force_error_atom`` is an index within the frame, ``max_force_error_element`` its symbol.
    """

    file: str
    index: int
    force_rmse: float | None
    energy_error: float | None
    max_force_error: float | None
    max_force_error_atom: int | None
    max_force_error_element: str | None


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    ``microseconds_per_atom`` is the wall time inside the calculator (neighbor list, model, those
    derivatives that have labels, copies to and from a device) over the number of atoms. The first
    frame runs once uncounted; reading files and turned frames do not count.
    """

    model: str
    overall: Block
    rotational_discrepancy: RotationalDiscrepancy | None
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
            "groups": {name: asdict(block) for name, block in self.groups.items()},
            "worst": [asdict(frame) for frame in self.worst],
            "microseconds_per_atom": self.microseconds_per_atom,
        }

    def plot(self, path: str | Path) -> None:
        """Write the parity plot; the suffix of ``path`` gives the format."""
        block = self.overall
        found = {
            "energy": (block.energy_per_atom, "meV/atom"),
            "forces": (block.forces, "meV/Å"),
            "stress": (block.stress, "meV/Å³"),
        }
        captions = {
            name: f"RMSE {e.rmse:.4g} {unit}\nMAE {e.mae:.4g} {unit}"
            for name, (e, unit) in found.items()
            if e is not None
        }
        if block.energy_per_atom is not None and block.energy_per_atom.offset_corrected is not None:
            rmse = block.energy_per_atom.offset_corrected.rmse
            captions["energy"] += f"\noffset-corrected RMSE {rmse:.4g}"
        from .parity import parity_plot

        parity_plot(self.comparison, captions, path, title=self.model)


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
            predicts a value that is not finite (the message names frame and file), there is no
            frame, or no frame has ``group_by``.
    """
    if rotations < 0 or rotations == 1:
        raise ValueError(f"a spread over orientations takes 2 rotations or more, not {rotations}.")
    generator = torch.Generator().manual_seed(0)
    parts: list[Comparison] = []
    variances: list[tuple[float, float, int]] = []
    seconds = 0.0
    for chunk in chunks(frames, chunk_atoms):
        labels = [frame.labels() for frame in chunk]
        asked = [wanted(calculator, *pair) for pair in zip(chunk, labels, strict=True)]
        if not parts:
            predict(calculator, chunk[:1], asked[:1])  # warm-up
        start = time.perf_counter()
        predictions = predict(calculator, chunk, asked)
        seconds += time.perf_counter() - start
        for frame, label, prediction in zip(chunk, labels, predictions, strict=True):
            group = frame.atoms.info.get(group_by, "") if group_by is not None else ""
            parts.append(Comparison.of(frame, str(group), label, prediction))
            if rotations:
                matrices = random_rotations(rotations, generator=generator).numpy()
                energy, forces = rotational_variances(calculator, frame, matrices)
                variances.append((energy / len(frame.atoms) ** 2, forces.sum(), forces.size))
        if progress is not None:
            progress(len(chunk))
    if not parts:
        raise ValueError("there is no frame to evaluate.")
    c = Comparison.join(parts)
    return Evaluation(
        model=model,
        overall=errors(c),
        rotational_discrepancy=_discrepancy(variances),
        groups={} if group_by is None else _groups(c, group_by),
        worst=worst_frames(c),
        microseconds_per_atom=1e6 * seconds / len(c.species),
        notes=_notes(c),
        comparison=c,
    )


def errors(c: Comparison, chosen: Selection | None = None) -> Block:
    """Errors of all frames, or of the chosen ones (a boolean per frame)."""
    chosen = np.ones(len(c.sizes), dtype=bool) if chosen is None else chosen
    raw = _errors(energy_error(c)[chosen])
    corrected = _errors(corrected_energy_error(c)[0][chosen])
    return Block(
        frames=int(chosen.sum()),
        atoms=int(c.sizes[chosen].sum()),
        energy_per_atom=None if raw is None else EnergyErrors(raw.mae, raw.rmse, corrected),
        forces=_force_errors(c, chosen[c.frame_of_atom]),
        stress=_errors((c.predicted_stress - c.stress)[chosen]),
    )


def energy_error(c: Comparison) -> Array:
    """Raw energy errors (F,) in eV/atom."""
    return np.asarray((c.predicted_energy - c.energy) / c.sizes)


def corrected_energy_error(c: Comparison) -> tuple[Array, int]:
    """Energy errors (F,) in eV/atom without the best offsets of species, and how many were fitted.

    NaN throughout where the offsets could take up any error.
    """
    error, fractions = energy_error(c), c.fractions
    known = ~np.isnan(error)
    if not known.any():
        return error, 0
    offsets, _, rank, _ = np.linalg.lstsq(fractions[known], error[known], rcond=1e-10)
    corrected = error - fractions @ offsets
    return (corrected if known.sum() > rank else np.full_like(error, np.nan)), int(rank)


def worst_frames(c: Comparison, count: int = 5) -> list[WorstFrame]:
    """The frames of largest force RMSE; after them, those without forces by |energy error|."""
    forces = np.abs(c.predicted_forces - c.forces)
    starts = np.cumsum(c.sizes) - c.sizes
    rmse = np.sqrt(np.add.reduceat((forces**2).mean(axis=1), starts) / c.sizes)
    energy, corrected = energy_error(c), corrected_energy_error(c)[0]
    ranked = energy if np.isnan(corrected).all() else corrected
    no_forces = np.isnan(rmse)
    size = np.nan_to_num(np.where(no_forces, np.abs(ranked), rmse))
    worst = []
    for k in np.lexsort((-size, no_forces))[:count]:
        within = forces[starts[k] : starts[k] + c.sizes[k]].max(axis=1)
        atom = None if no_forces[k] else int(within.argmax())
        worst.append(
            WorstFrame(
                file=str(c.files[k]),
                index=int(c.indices[k]),
                force_rmse=None if atom is None else MILLI * float(rmse[k]),
                energy_error=None if np.isnan(energy[k]) else MILLI * float(energy[k]),
                max_force_error=None if atom is None else MILLI * float(within[atom]),
                max_force_error_atom=atom,
                max_force_error_element=None
                if atom is None
                else chemical_symbols[c.species[starts[k] + atom]],
            )
        )
    return worst


def _force_errors(c: Comparison, atoms: Selection) -> ForceErrors | None:
    known = atoms & ~np.isnan(c.predicted_forces - c.forces).any(axis=1)
    if not known.any():
        return None
    elements = {
        chemical_symbols[number]: _component_errors(c, known & (c.species == number))
        for number in np.unique(c.species[known])
    }
    return ForceErrors(**vars(_component_errors(c, known)), per_element=elements)


def _component_errors(c: Comparison, atoms: Selection) -> ComponentErrors:
    error = np.abs(c.predicted_forces[atoms] - c.forces[atoms])
    rmse, size = np.sqrt(np.mean(error**2)), np.sqrt(np.mean(c.forces[atoms] ** 2))
    return ComponentErrors(
        mae=MILLI * float(error.mean()),
        rmse=MILLI * float(rmse),
        p95=MILLI * float(np.percentile(error, 95)),
        max=MILLI * float(error.max()),
        relative_rmse=float(100 * rmse / size) if size > 0 else None,
    )


def _errors(error: Array) -> Errors | None:
    known = error[~np.isnan(error)]
    if not known.size:
        return None
    return Errors(MILLI * float(np.abs(known).mean()), MILLI * float(np.sqrt(np.mean(known**2))))


def _groups(c: Comparison, key: str) -> dict[str, Block]:
    names = sorted(set(c.groups.tolist()))
    if names == [""]:
        raise ValueError(f"no frame has {key!r} in its info, so errors cannot be grouped by it.")
    return {name or NO_GROUP: errors(c, c.groups == name) for name in names}


def _discrepancy(variances: list[tuple[float, float, int]]) -> RotationalDiscrepancy | None:
    if not variances:
        return None
    energy, forces, components = np.array(variances).T
    return RotationalDiscrepancy(
        energy_per_atom=MILLI * float(np.sqrt(energy.mean())),
        forces=MILLI * float(np.sqrt(forces.sum() / components.sum()))
        if components.any()
        else None,
    )


def _notes(c: Comparison) -> list[str]:
    """What looks wrong, or is left out; a sentence each."""
    notes = []
    if (~np.isnan(c.forces) & np.isnan(c.predicted_forces)).any():
        notes.append("force labels are left out: the calculator gives no forces.")
    stress, predicted = c.stress[:, 0, 0], c.predicted_stress[:, 0, 0]
    if skipped := int((~np.isnan(stress) & np.isnan(predicted)).sum()):
        notes.append(
            f"{skipped} stress labels are left out: the cell spans no volume, or the calculator "
            "gives no stress."
        )
    both = ~np.isnan(c.predicted_stress - c.stress)
    ours, theirs = c.predicted_stress[both], c.stress[both]
    if ours @ theirs < -0.5 * np.sqrt((ours @ ours) * (theirs @ theirs)):
        notes.append("stress labels look flipped in sign: ASE's is negative under compression.")
    corrected, offsets = corrected_energy_error(c)
    frames = int((~np.isnan(corrected)).sum())
    if not frames:
        return notes
    raw, rest = _errors(energy_error(c)), _errors(corrected)
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
