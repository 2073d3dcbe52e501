"""Labelled frames: reading, checking and batching."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ..graph import Graph, random_rotations
from .config import Data, Frames

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


class EpochSampler(Sampler[int]):
    """A random order that depends on seed and epoch alone, so that a resumed run repeats it."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls this at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.size).tolist())


def read_frames(frames: Frames, folder: Path) -> list[Atoms]:
    """Read the selected frames; files are looked for in ``folder``, then in ``POINTEDGE_DATA``."""
    selected: list[Atoms] = []
    for name in frames.files:
        read = ase.io.read(find_file(name, folder), frames.index)
        several = read if isinstance(read, list) else [read]
        selected += [atoms for atoms in several if _is_selected(atoms, frames.where)]
    if not selected:
        raise ValueError(
            f"no frame {frames.index} of {', '.join(frames.files)} has {frames.where}."
        )
    return selected


def _is_selected(atoms: Atoms, where: dict[str, list[str]]) -> bool:
    return all(str(atoms.info.get(key)) in values for key, values in where.items())


def find_file(name: str, folder: Path) -> Path:
    """Return the path of a data file; raises FileNotFoundError with the places tried."""
    places = [folder / name]
    if "POINTEDGE_DATA" in os.environ:
        places.append(Path(os.environ["POINTEDGE_DATA"]) / name)
    for place in places:
        if place.is_file():
            return place
    tried = " and ".join(str(place) for place in places)
    raise FileNotFoundError(
        f"data file {name} not found at {tried}; give a path relative to {folder}, or set "
        "POINTEDGE_DATA to the folder that holds it."
    )


def refuse_overlap(train: Sequence[Atoms], validation: Sequence[Atoms]) -> None:
    """Raise ValueError if a frame is in both sets."""
    seen = {frame_hash(atoms): k for k, atoms in enumerate(train)}
    for k, atoms in enumerate(validation):
        if (twin := seen.get(frame_hash(atoms))) is not None:
            raise ValueError(
                f"validation frame {k} is training frame {twin}: errors would look too small; "
                "split the data by source."
            )


def frame_hash(atoms: Atoms) -> str:
    """Hash of species, positions (to 1e-6 Å) and cell; labels do not enter."""
    digest = hashlib.sha256(atoms.numbers.astype(np.int64).tobytes())
    digest.update(np.round(atoms.positions, 6).tobytes())
    digest.update(np.round(np.asarray(atoms.cell), 6).tobytes())
    return digest.hexdigest()


def labelled(atoms: Atoms, data: Data, cutoff: float, inputs: tuple[str, ...]) -> Batch:
    """Graph and labels of one frame; raises ValueError for a label of wrong shape or not finite."""
    n = len(atoms)
    energy = _label(atoms.info.get(data.energy_key), data.energy_key, [()])
    forces = _label(atoms.arrays.get(data.forces_key), data.forces_key, [(n, 3)])
    stress = _label(atoms.info.get(data.stress_key), data.stress_key, [(3, 3), (6,), (9,)])
    dipole = _label(atoms.info.get(data.dipole_key), data.dipole_key, [(3,)])
    key = data.polarizability_key
    polarizability = _label(atoms.info.get(key), key, [(3, 3), (9,)])
    if polarizability is not None:
        polarizability = polarizability.reshape(3, 3)
    if stress is not None:
        full = voigt_6_to_full_3x3_stress(stress) if stress.shape == (6,) else stress
        stress = full.reshape(3, 3)
    return Batch(
        graph=Graph.from_atoms(atoms, cutoff, inputs=inputs),
        energy=_or_nan(energy, ()).reshape(1),
        forces=_or_nan(forces, (n, 3)),
        stress=_or_nan(stress, (3, 3)).reshape(1, 3, 3),
        dipole=_or_nan(dipole, (3,)).reshape(1, 3),
        polarizability=_or_nan(polarizability, (3, 3)).reshape(1, 3, 3),
        weight=torch.tensor([frame_weight(atoms, data)], dtype=torch.float64),
    )


def frame_weight(atoms: Atoms, data: Data) -> float:
    """Weight of a frame in the loss: its own times those of its groups."""
    weight = atoms.info.get(data.weight_key, 1.0) if data.weight_key else 1.0
    try:
        weight = float(weight)
    except (TypeError, ValueError):
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(
            f"weight {data.weight_key} = {atoms.info[data.weight_key]!r} of a frame is not a number"
            " from 0 on."
        )
    for key, factors in data.group_weights.items():
        weight *= factors.get(str(atoms.info.get(key)), 1.0)
    return weight


def loader(batches: Sequence[Batch], batch_size: int, seed: int | None = None) -> DataLoader[Batch]:
    """Batches of structures, in random order if a seed is given."""
    sampler = None if seed is None else EpochSampler(len(batches), seed)
    return DataLoader(batches, batch_size, sampler=sampler, collate_fn=Batch.join)  # type: ignore[arg-type]


def fit_baseline(
    species: Sequence[int], batches: Sequence[Batch], offset: Tensor
) -> dict[int, float]:
    """Energy of each species in eV: least squares of energies minus ``offset`` on composition.

    Where compositions are linearly dependent (pure water, say) the solution of least norm is
    taken: only the sum over a structure then has a meaning.
    """
    numbers = torch.tensor(species)
    counts = torch.stack([(b.graph.species[:, None] == numbers).sum(0) for b in batches]).double()
    energies = torch.cat([b.energy for b in batches]) - offset
    known = ~torch.isnan(energies)
    solution = np.linalg.lstsq(counts[known].numpy(), energies[known].numpy(), rcond=1e-10)[0]
    return dict(zip(species, solution.tolist(), strict=True))


def _label(value: object, key: str, shapes: list[tuple[int, ...]]) -> np.ndarray | None:
    if value is None:
        return None
    array = np.asarray(value, dtype=float)
    if array.shape not in shapes:
        raise ValueError(f"label {key} has shape {array.shape}; expected {shapes[0]}.")
    if not np.isfinite(array).all():
        raise ValueError(f"label {key} holds a value that is not finite.")
    return array


def _or_nan(value: np.ndarray | None, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.full(shape, np.nan) if value is None else value.copy())
