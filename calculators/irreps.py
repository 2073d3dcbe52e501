"""Which irreps a model uses: errors without each of them, statistics and embeddings of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..potentials.equivariant.irreps import Irrep
from ..potentials.equivariant.usage import (
    Shuffled,
    Statistics,
    Zeroed,
    edited,
    embeddings,
    equivariant,
    pruned,
    statistics,
)
from ..potentials.graph import Graph
from ..potentials.potential import Potential
from .ase import PotentialCalculator
from .comparison import Array, Frame, chunks
from .errors import Block
from .evaluation import evaluate
from .inputs import check_structure

EDITS = {"zeroed": Zeroed, "shuffled": Shuffled}
CHUNK_ATOMS = 2_000  # of a batch whose features are kept with their gradients
Stage = tuple[str, Irrep]


@dataclass(frozen=True)
class Usage:
    """One irrep of one stage: its statistics, and errors of the model without it.

    ``zeroed`` and ``shuffled`` are root-mean-square errors by quantity, in the units of
    :data:`.errors.UNITS`; that of energies has the best offsets of species removed.
    """

    statistics: Statistics
    zeroed: dict[str, float]
    shuffled: dict[str, float]


@dataclass(frozen=True)
class IrrepUsage:
    """What :func:`irrep_usage` found.

    Attributes:
        model: its name.
        frames: how many were used.
        errors: of the model as it is, by quantity.
        stages: every irrep of every stage, in order.
        embeddings: (frames, channels) of every irrep of every stage.
        threshold: an irrep is unused if no error grows by this fraction without it, or None.
        pruned: settings of the network without unused irreps, if asked for.
    """

    model: str
    frames: int
    errors: dict[str, float]
    stages: list[Usage]
    embeddings: dict[Stage, Array]
    threshold: float | None = None
    pruned: dict[str, Any] | None = None

    def growth(self, usage: Usage) -> float:
        """Largest relative growth of an error, without the irrep; nan counts as unlimited."""
        grown = [
            edit[name] / max(error, np.finfo(float).tiny) - 1
            for edit in (usage.zeroed, usage.shuffled)
            for name, error in self.errors.items()
        ]
        return float(max(np.nan_to_num(grown, nan=np.inf)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; embeddings are left out."""
        return {
            "model": self.model,
            "frames": self.frames,
            "errors": self.errors,
            "stages": [
                {
                    **asdict(u.statistics),
                    "irrep": str(u.statistics.irrep),
                    "zeroed": u.zeroed,
                    "shuffled": u.shuffled,
                    "growth": growth if np.isfinite(growth := self.growth(u)) else None,
                }
                for u in self.stages
            ],
            "threshold": self.threshold,
            "pruned": self.pruned,
        }


def irrep_usage(
    calculator: PotentialCalculator,
    frames: Sequence[Frame],
    *,
    model: str = "",
    threshold: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> IrrepUsage:
    """Measure which irreps an equivariant model uses on labelled frames.

    Args:
        calculator: of a potential whose network has irreps.
        frames: with labels; all of them are evaluated once for every irrep, stage and edit.
        model: name for the report.
        threshold: see :class:`IrrepUsage`.
        progress: called with 1 after each evaluation.

    Raises:
        ValueError: the network has no irreps, or whatever :func:`.evaluation.evaluate` raises.
    """
    potential = calculator.potential
    network = equivariant(potential)
    tick = progress or (lambda count: None)
    errors = _errors(calculator, frames)
    tick(1)
    graphs = [_graph(potential, chunk) for chunk in chunks(frames, CHUNK_ATOMS)]
    found = []
    for measured in statistics(potential, graphs):
        without = {}
        for name, edit in EDITS.items():
            other = edited(potential, edit(measured.stage, measured.irrep))
            changed = PotentialCalculator(other, device=potential.device, dtype=potential.dtype)
            without[name] = _errors(changed, frames)
            tick(1)
        found.append(Usage(measured, **without))
    parts = [embeddings(potential, graph) for graph in graphs]
    seen = {place: torch.cat([p[place] for p in parts]).cpu().numpy() for place in parts[0]}
    report = IrrepUsage(model, len(frames), errors, found, seen)
    if threshold is None:
        return report
    unused = {
        (u.statistics.stage, u.statistics.irrep) for u in found if report.growth(u) < threshold
    }
    smaller = asdict(pruned(network.config, unused))
    return IrrepUsage(model, len(frames), errors, found, seen, threshold, smaller)


def number_of_evaluations(calculator: PotentialCalculator, frames: Sequence[Frame]) -> int:
    """How often the frames will be evaluated; raises InputError if the first cannot be."""
    potential = calculator.potential
    check_structure(frames[0].atoms, potential, (), str(frames[0]))
    with torch.no_grad():
        return 1 + len(EDITS) * len(embeddings(potential, _graph(potential, frames[:1])))


def _graph(potential: Potential, frames: Sequence[Frame]) -> Graph:
    atoms = [frame.atoms for frame in frames]
    return Graph.from_atoms(
        atoms, potential.cutoff, device=potential.device, inputs=potential.inputs
    )


def _errors(calculator: PotentialCalculator, frames: Sequence[Frame]) -> dict[str, float]:
    return rmse(evaluate(calculator, frames).overall)


def rmse(block: Block) -> dict[str, float]:
    """Root-mean-square errors by quantity, of energies with the best offsets removed."""
    found = {}
    for name, value in vars(block).items():
        error = getattr(value, "offset_corrected", None) or value
        if getattr(error, "rmse", None) is not None:
            found[name] = float(error.rmse)
    return found
