"""Graph: the one data structure that carries atoms through training, evaluation and simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from .neighbors import Backend, neighbor_list
from .neighbors.cells import volumes
from .spins import magnetic_moments
from .suggestions import did_you_mean

if TYPE_CHECKING:
    from ase import Atoms

# The value that an optional per-structure input takes where the user gives none (neutral singlet).
DEFAULT_INPUTS = {"charge": 0, "spin": 1}


@dataclass(frozen=True)
class Graph:
    """A batch of B structures with N atoms and E directed edges in all.

    Every edge points from a centre i to an image of a neighbour j, whose position relative to the
    centre is ``positions[j] - positions[i] + shifts @ cell``. The list is full (both directions),
    periodic images are separate edges, and edges are sorted by centre.

    Attributes:
        positions: (N, 3) float, Å.
        species: (N,) int64, atomic numbers.
        cell: (B, 3, 3) float, Å; rows are lattice vectors.
        pbc: (B, 3) bool.
        structure: (N,) int64, index of the structure that each atom belongs to, ascending.
        centers: (E,) int64.
        neighbors: (E,) int64.
        shifts: (E, 3) int64, periodic images; 0 along open axes.
        charge: (B,) int64, total charge in e, or None.
        spin: (B,) int64, spin multiplicity 2S+1, or None.
        magmoms: (N, 3) float, magnetic moments in μ_B, or None.
        owned: (N,) bool, the atoms whose properties are asked for, of a part of a structure, or
            None: all. A network may return anything finite for others, whose edges may lack.
    """

    positions: Tensor
    species: Tensor
    cell: Tensor
    pbc: Tensor
    structure: Tensor
    centers: Tensor
    neighbors: Tensor
    shifts: Tensor
    charge: Tensor | None = None
    spin: Tensor | None = None
    magmoms: Tensor | None = None
    owned: Tensor | None = None

    @classmethod
    def from_atoms(
        cls,
        atoms: Atoms | Sequence[Atoms],
        cutoff: float,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
        backend: Backend = "auto",
        inputs: Sequence[str] = (),
    ) -> Graph:
        """Build the graph of one or several ASE structures, which are only read.

        Args:
            atoms: one structure or a sequence of structures.
            cutoff: radius of the neighbour list in Å.
            device: where the tensors live; the list is built there.
            dtype: floating-point type of positions and cell.
            backend: neighbour-list backend, see :func:`neighbor_list`.
            inputs: names of further inputs to read: "charge" and "spin" from ``atoms.info``
                (default 0 and 1), "magmoms" from :func:`.spins.magnetic_moments`.

        Raises:
            ValueError: no structure, or inputs that are missing or malformed.
        """
        structures = cast("list[Atoms]", [atoms] if hasattr(atoms, "positions") else list(atoms))
        if not structures:
            raise ValueError("Graph.from_atoms needs at least one structure; the list is empty.")
        sizes = [len(a) for a in structures]
        positions = _tensor(np.concatenate([a.positions for a in structures]), device)
        cell = _tensor(np.stack([np.asarray(a.cell) for a in structures]), device)
        pbc = _tensor(np.stack([np.asarray(a.pbc) for a in structures]), device)
        species = np.concatenate([a.numbers for a in structures]).astype(np.int64)
        structure = _tensor(np.repeat(np.arange(len(sizes)), sizes), device)
        centers, neighbors, shifts = neighbor_list(
            positions, cell, pbc, cutoff, structure, backend=backend
        )
        return cls(
            positions=positions.to(dtype),
            species=_tensor(species, device),
            cell=cell.to(dtype),
            pbc=pbc,
            structure=structure,
            centers=centers,
            neighbors=neighbors,
            shifts=shifts,
            **read_inputs(structures, inputs, device=device, dtype=dtype),
        )

    @classmethod
    def batch(cls, graphs: Sequence[Graph]) -> Graph:
        """Join graphs into one; atoms and structures keep their order."""
        if not graphs:
            raise ValueError("Graph.batch needs at least one graph; the list is empty.")
        joined: dict[str, Tensor | None] = {}
        for field in fields(cls):
            values = [getattr(g, field.name) for g in graphs]
            if any(v is None for v in values):
                if not all(v is None for v in values):
                    raise ValueError(f"{field.name!r} is given for some graphs of a batch only.")
                joined[field.name] = None
                continue
            if field.name in ("centers", "neighbors"):
                values = _offset(values, [g.num_atoms for g in graphs])
            elif field.name == "structure":
                values = _offset(values, [g.num_structures for g in graphs])
            joined[field.name] = torch.cat(values)
        return cls(**joined)  # type: ignore[arg-type]

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Graph:
        """Return the graph on another device or with another floating-point type."""
        moved = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                moved[field.name] = value.to(
                    device=device, dtype=dtype if value.is_floating_point() else None
                )
        return replace(self, **moved)

    @property
    def num_atoms(self) -> int:
        """Number of atoms N."""
        return len(self.species)

    @property
    def num_structures(self) -> int:
        """Number of structures B."""
        return len(self.cell)

    @property
    def num_edges(self) -> int:
        """Number of directed edges E."""
        return len(self.centers)

    def edge_vectors(self) -> Tensor:
        """Vectors (E, 3) in Å from each centre to its neighbour, differentiable."""
        # index_select is several times faster than x[index] for rows of three numbers.
        cell = self.cell.index_select(0, self.structure.index_select(0, self.centers))
        offset = torch.einsum("ek,ekx->ex", self.shifts.to(cell.dtype), cell)
        ends = self.positions.index_select(0, self.neighbors)
        return ends - self.positions.index_select(0, self.centers) + offset

    def rotated(self, rotations: Tensor) -> Graph:
        """Return the graph with structure b turned by ``rotations[b]`` (B, 3, 3), r → r R.

        Orthogonal matrices of either sign; magnetic moments turn as axial vectors.
        """
        per_atom = rotations[self.structure]
        turned = {
            "positions": torch.einsum("nx,nxy->ny", self.positions, per_atom),
            "cell": self.cell @ rotations,
        }
        if self.magmoms is not None:
            sign = torch.linalg.det(per_atom)[:, None]
            turned["magmoms"] = sign * torch.einsum("nx,nxy->ny", self.magmoms, per_atom)
        return replace(self, **turned)

    def volume(self) -> Tensor:
        """Volumes (B,) in Å³ of the cells as given; 0 where a cell spans none."""
        return volumes(self.cell)


def random_rotations(count: int, *, generator: torch.Generator) -> Tensor:
    """Random elements of O(3), (count, 3, 3) float64, half of them improper (Haar measure)."""
    q, r = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64, generator=generator))
    # The signs of R's diagonal make the factorisation unique, and Q uniformly distributed.
    return q * torch.diagonal(r, dim1=-2, dim2=-1).sign()[:, None, :]


def read_inputs(
    structures: Sequence[Atoms],
    names: Sequence[str],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:
    """Read the optional inputs of a model from ASE structures, as tensors of a :class:`Graph`."""
    tensors: dict[str, Tensor] = {}
    for name in names:
        if name == "magmoms":
            moments = np.concatenate([magnetic_moments(a) for a in structures])
            tensors[name] = _tensor(moments, device).to(dtype)
        elif name in DEFAULT_INPUTS:
            values = [_whole_number(a, name) for a in structures]
            tensors[name] = torch.tensor(values, dtype=torch.int64, device=device)
        else:
            known = (*DEFAULT_INPUTS, "magmoms")
            raise ValueError(f"unknown input {name!r}; {did_you_mean(name, known)}")
    return tensors


def input_range(network: Any, name: str) -> tuple[float, float]:
    """Smallest and largest charge (e) or spin (2S + 1) that a network takes."""
    config: dict[str, Any] = network.to_config()
    if name == "charge":
        limit = config.get("max_charge", np.inf)
        return -limit, limit
    return 1, config.get("max_spin_multiplicity", np.inf)


def _whole_number(atoms: Atoms, name: str) -> int:
    value: Any = atoms.info.get(name, DEFAULT_INPUTS[name])
    try:
        whole = int(value) == float(value)
    except (TypeError, ValueError, OverflowError):  # text, None, NaN or infinite
        whole = False
    if not whole:
        raise ValueError(f"atoms.info[{name!r}] must be a whole number, not {value!r}.")
    return int(value)


def _tensor(array: np.ndarray, device: torch.device | str) -> Tensor:
    return torch.tensor(array, device=device)


def _offset(values: list[Tensor], counts: list[int]) -> list[Tensor]:
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return [v + int(start) for v, start in zip(values, starts, strict=True)]
