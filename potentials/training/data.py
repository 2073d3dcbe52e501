"""Labelled frames as tensors, and batches of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ..graph import Graph, random_rotations
from .labels import keys_of, read_labels, with_named_moments
from .settings import Data

LABELS = ("energy", "forces", "stress", "dipole", "polarizability")


@dataclass(frozen=True)
class Batch:
    """A graph of B structures and its labels; a missing label is NaN.

    Attributes:
        graph: the structures.
        energy: (B,) eV.
        forces: (N, 3) eV/Å.
        stress: (B, 3, 3) eV/Å³.
        dipole: (B, 3) e·Å.
        polarizability: (B, 3, 3), in any unit.
        weight: (B,) of the structures in the loss.
    """

    graph: Graph
    energy: Tensor
    forces: Tensor
    stress: Tensor
    dipole: Tensor
    polarizability: Tensor
    weight: Tensor

    @classmethod
    def join(cls, batches: Sequence[Batch]) -> Batch:
        """Join batches into one."""
        return cls(
            Graph.batch([b.graph for b in batches]),
            *(torch.cat([getattr(b, name) for b in batches]) for name in (*LABELS, "weight")),
        )

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        labels = {n: getattr(self, n).to(device) for n in (*LABELS, "weight")}
        return replace(self, graph=self.graph.to(device), **labels)

    def rotated(self, rotations: Tensor) -> Batch:
        """Turn structures and labels by orthogonal matrices (B, 3, 3), r → r R."""
        return replace(
            self,
            graph=self.graph.rotated(rotations),
            forces=torch.einsum("nx,nxy->ny", self.forces, rotations[self.graph.structure]),
            stress=rotations.transpose(-1, -2) @ self.stress @ rotations,
            dipole=torch.einsum("bx,bxy->by", self.dipole, rotations),
            polarizability=rotations.transpose(-1, -2) @ self.polarizability @ rotations,
        )

    def augmented(self, seed: int) -> Batch:
        """Turn every structure by a random element of O(3), the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        rotations = random_rotations(self.graph.num_structures, generator=generator)
        return self.rotated(rotations.to(self.energy.device))


def labelled(
    atoms: Atoms, data: Data, cutoff: float, inputs: tuple[str, ...], where: str = "the frame"
) -> Batch:
    """Graph and labels of one structure, see :func:`.labels.read_labels` and ``Graph.from_atoms``.

    Raises:
        ValueError: a label is ambiguous, of wrong shape or not finite, or no graph can be built.
    """
    keys = keys_of(data)
    atoms = with_named_moments(atoms, keys, where)
    labels, _ = read_labels(atoms, keys, where)
    return with_labels([atoms], [labels], [frame_weight(atoms, data, where)], cutoff, inputs)


def with_labels(
    structures: Sequence[Atoms],
    labels: Sequence[dict[str, np.ndarray]],
    weights: Sequence[float],
    cutoff: float,
    inputs: tuple[str, ...],
) -> Batch:
    """Graph of structures with labels by name, those that are missing as NaN."""
    graph = Graph.from_atoms(structures, cutoff, inputs=inputs)
    shapes = {"energy": (1,), "dipole": (1, 3)}
    tensors = {"weight": torch.tensor(weights, dtype=torch.float64)}
    for name in LABELS:
        values = []
        for atoms, known in zip(structures, labels, strict=True):
            shape = (len(atoms), 3) if name == "forces" else shapes.get(name, (1, 3, 3))
            value = known.get(name)
            values.append(np.full(shape, np.nan) if value is None else value.reshape(shape))
        tensors[name] = torch.from_numpy(np.concatenate(values))
    return Batch(graph=graph, **tensors)


def frame_weight(atoms: Atoms, data: Data, where: str = "the frame") -> float:
    """Weight of a frame in the loss: its own times those of its groups."""
    weight = atoms.info.get(data.weight_key, 1.0) if data.weight_key else 1.0
    try:
        weight = float(weight)
    except (TypeError, ValueError):
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(
            f"weight {data.weight_key} = {atoms.info[data.weight_key]!r} of {where} is not a "
            "number from 0 on."
        )
    for key, factors in data.group_weights.items():
        weight *= factors.get(str(atoms.info.get(key)), 1.0)
    return weight


class GivenWeights:
    """Weights that a configuration gives, and those of them that no frame has had so far."""

    def __init__(self, data: Data) -> None:
        self._key = data.weight_key
        self._groups = {key: set(factors) for key, factors in data.group_weights.items()}

    def look_at(self, structures: Sequence[Atoms]) -> None:
        """Take note of what frames have."""
        for key, values in self._groups.items():
            values -= {str(atoms.info.get(key)) for atoms in structures}
        if any(self._key in atoms.info for atoms in structures):
            self._key = None

    def check(self) -> None:
        """Raise ValueError if a key of weights, or a group, was in no training frame."""
        for key, values in self._groups.items():
            if values:
                raise ValueError(
                    f"data.group_weights has {key} {', '.join(sorted(values))}, but no training "
                    "frame does; leave it out, or correct it."
                )
        if self._key is not None:
            raise ValueError(
                f"data.weight_key is {self._key!r}, which no training frame has in its info; "
                "correct it, or leave it out."
            )
