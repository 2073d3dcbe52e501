"""Domains: which atoms a rank sees, who owns them, and the way of gradients to their owners.

A rank of a domain-decomposed simulation owns some atoms, and sees copies of others, its ghosts.
Here every atom that it sees counts once, by its tag, whatever the number of its images: periodic
images are found again by the neighbour list.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Domain:
    """The n atoms that a rank sees, ascending in tag; making one is collective.

    Positions of all N atoms are gathered to see whether a ghost is missing. That takes memory for
    them on every rank, but happens only when a simulation exchanges atoms.

    Args:
        comm: communicator of the simulation (mpi4py).
        tags: (rows,) int, distinct names of the ``num_owned`` atoms of this rank, then of ghosts,
            which may repeat.
        num_owned: number of this rank's own atoms.
        positions: (rows, 3) Å.
        cell: (3, 3) Å, rows are box vectors, all three independent.
        pbc: (3,) bool.
        reach: distance in Å up to which an owned atom's energy depends on others.

    Attributes:
        rows: (n,) index of each atom among the rows; of an owned one, the owned row.
        owned: (n,) bool.
        clearance: Å by which all atoms within ``reach`` of owned ones are seen, and more; inf if
            all atoms are, negative if one may be missing.
    """

    def __init__(
        self,
        comm: Any,
        tags: np.ndarray,
        num_owned: int,
        positions: np.ndarray,
        cell: np.ndarray,
        pbc: np.ndarray,
        reach: float,
    ) -> None:
        self.comm, self.reach = comm, reach
        self._tags, self._num_owned = tags.copy(), num_owned
        seen, self.rows = np.unique(tags, return_index=True)
        self.owned = self.rows < num_owned
        gathered = comm.allgather((tags[:num_owned], positions[:num_owned]))
        self._plan(seen, [part for part, _ in gathered])
        self._positions, self._cell = positions[:num_owned].copy(), cell.copy()
        hidden = [places[~np.isin(part, seen)] for part, places in gathered]
        gap = _gaps(np.concatenate(hidden), positions[:num_owned], cell, pbc)
        self.clearance = float(gap.min(initial=np.inf)) - reach

    def _plan(self, seen: np.ndarray, parts: list[np.ndarray]) -> None:
        """Who owns each ghost, and of which atoms the other ranks send gradients."""
        tags = np.concatenate(parts)
        order = np.argsort(tags, kind="stable")
        owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[order]
        (ghosts,) = np.nonzero(~self.owned)
        owner = owners[np.searchsorted(tags[order], seen[ghosts])]
        outgoing = [ghosts[owner == rank] for rank in range(len(parts))]
        incoming = self.comm.alltoall([seen[atoms] for atoms in outgoing])
        self._send = np.concatenate(outgoing)
        self._receive = np.searchsorted(seen, np.concatenate(incoming))
        self._send_counts = np.array([len(atoms) for atoms in outgoing])
        self._receive_counts = np.array([len(atoms) for atoms in incoming])

    def holds(
        self, tags: np.ndarray, num_owned: int, positions: np.ndarray, cell: np.ndarray
    ) -> bool:
        """Whether no rank has other atoms, nor one that it does not see within reach; collective.

        What an affine map of the box does not explain of an atom's path uses up the clearance, as
        in a Verlet list (:class:`pointedge.potentials.neighbors.VerletList`). Paths of hidden atoms
        are known to their owners alone, hence the longest of all ranks against the least budget.
        """
        path, budget = 0.0, -np.inf
        if num_owned == self._num_owned and np.array_equal(tags, self._tags):
            affine = np.linalg.solve(self._cell, cell)
            moved = positions[:num_owned] - self._positions @ affine
            path = float(np.linalg.norm(moved, axis=1).max(initial=0.0))
            budget = self._budget(affine)
        found = np.empty((self.comm.size, 2))
        # All ranks compare the same numbers, even those that are not finite, and agree.
        self.comm.Allgather(np.array([path, budget]), found)
        return bool(2.0 * found[:, 0].max() <= found[:, 1].min())

    def _budget(self, affine: np.ndarray) -> float:
        """Å that two atoms may have come closer by, besides what the affine map does."""
        if self.clearance == np.inf:
            return np.inf
        squared = max(1.0 - float(np.linalg.norm(affine @ affine.T - np.eye(3))), 0.0)
        return squared**0.5 * (self.reach + self.clearance) - self.reach

    def to_owners(self, values: np.ndarray) -> np.ndarray:
        """Add what other ranks have for this rank's atoms to values (n, d); collective."""
        width = values.shape[1]
        received = np.empty((len(self._receive), width))
        self.comm.Alltoallv(
            (np.ascontiguousarray(values[self._send]), width * self._send_counts),
            (received, width * self._receive_counts),
        )
        total = values.copy()
        np.add.at(total, self._receive, received)
        return total


def _gaps(others: np.ndarray, own: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Lower bounds (k,) in Å on the distances of positions (k, 3) to the owned atoms (m, 3).

    They are distances to the parallelepiped, with edges along the cell's, that owned atoms fill.
    """
    if len(own) == 0 or len(others) == 0:
        return np.full(len(others), np.inf)
    inverse = np.linalg.inv(cell)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    low, high = (own @ inverse).min(axis=0), (own @ inverse).max(axis=0)
    offset = others @ inverse - 0.5 * (low + high)
    offset -= np.where(pbc, np.round(offset), 0.0)
    gap = np.maximum(np.abs(offset) - 0.5 * (high - low), 0.0)
    return (gap * heights).max(axis=1)
