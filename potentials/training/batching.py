"""Batches of frames: which ones, in which order, on which rank, and how they are turned.

All of it is a pure function of (seed, epoch, index of a frame), so that a run can be continued from
any step, with any number of worker processes and ranks, as if it had never stopped.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from .data import Batch
from .dataset import FrameDataset
from .settings import Optimization

Draw = tuple[int, int]  # epoch, index of a frame
Counts = NDArray[np.int64]


class BatchSampler(Sampler[list[Draw]]):
    """Batches of one epoch after the other, without end; :meth:`starting_at` continues a run.

    A batch belongs to all ranks together, so that a step means the same on any number of them: a
    rank gets its share of the batch's frames, sometimes none. Every rank makes all the steps, and
    an epoch has every frame once.

    Args:
        costs: (F,) what a frame counts: 1, its number of atoms or of edges.
        limit: largest sum of costs in a batch; a frame that costs more is a batch of its own.
        seed: of the order. None: that of the frames, in every epoch.
        loads: (F,) the work of a frame, by which a batch is divided; default: its cost.
        rank: whose share to draw, of ``ranks``.
        ranks: number of processes.
    """

    def __init__(
        self,
        costs: Sequence[int] | Counts,
        limit: int,
        *,
        seed: int | None,
        loads: Sequence[int] | Counts | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.costs = np.asarray(costs, dtype=np.int64)
        self.limit = limit
        self.seed = seed
        self.loads = self.costs if loads is None else np.asarray(loads, dtype=np.int64)
        self.rank, self.ranks = rank, ranks
        self._start = (0, 0)
        self._epoch: tuple[int, list[Counts]] | None = None  # the batches asked for last

    def starting_at(self, epoch: int, step: int) -> BatchSampler:
        """Begin the next iteration with a step of an epoch, both from 0 on."""
        self._start = (epoch, step)
        return self

    def batches(self, epoch: int) -> list[Counts]:
        """Indices of the frames of every batch of an epoch, over all ranks."""
        if self._epoch is None or self._epoch[0] != epoch:
            order = np.arange(len(self.costs))
            if self.seed is not None:
                order = np.random.default_rng([self.seed, epoch]).permutation(order)
            self._epoch = epoch, pack(order, self.costs, self.limit)
        return self._epoch[1]

    def share(self, batch: Counts) -> Counts:
        """What this rank has of a batch: the largest frame first, each to the least busy rank."""
        if self.ranks == 1:
            return batch
        busy = np.zeros(self.ranks, dtype=np.int64)
        mine = np.zeros(len(batch), dtype=bool)
        for k in np.argsort(-self.loads[batch], kind="stable"):
            rank = int(busy.argmin())
            busy[rank] += self.loads[batch[k]]
            mine[k] = rank == self.rank
        return batch[mine]

    def epoch(self, epoch: int, first: int = 0) -> Iterator[list[Draw]]:
        """What this rank draws in an epoch, from a step on."""
        for batch in self.batches(epoch)[first:]:
            yield [(epoch, int(k)) for k in self.share(batch)]

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, step = self._start
        yield from self.epoch(epoch, step)
        for later in count(epoch + 1):
            yield from self.epoch(later)


def pack(order: Counts, costs: Counts, limit: int) -> list[Counts]:
    """Cut an order of frames wherever the next one would exceed the limit."""
    ends = np.cumsum(costs[order])
    cuts = [0]
    while cuts[-1] < len(order):
        spent = ends[cuts[-1] - 1] if cuts[-1] else 0
        fits = int(np.searchsorted(ends, spent + limit, side="right"))
        cuts.append(max(fits, cuts[-1] + 1))
    return np.split(order, cuts[1:-1])


def sizes(frames: Sequence[Batch]) -> tuple[Counts, Counts]:
    """Atoms and edges (F,) of frames, which a :class:`FrameDataset` knows without reading them."""
    if isinstance(frames, FrameDataset):
        return frames.atoms, frames.edges
    counts = [(b.graph.num_atoms, b.graph.num_edges) for b in frames]
    atoms, edges = np.array(counts, dtype=np.int64).reshape(-1, 2).T
    return atoms, edges


def batch_sampler(
    frames: Sequence[Batch],
    settings: Optimization,
    *,
    shuffled: bool = True,
    rank: int = 0,
    ranks: int = 1,
) -> BatchSampler:
    """Sampler of the batches that the settings ask for, in the frames' own order if not shuffled.

    Raises:
        ValueError: there are more ranks than structures in a batch.
    """
    if settings.batch_size is not None and settings.batch_size < ranks and shuffled:
        raise ValueError(
            f"optimization.batch_size {settings.batch_size} is less than the {ranks} processes that"
            " share a batch; raise it, or run on fewer devices."
        )
    atoms, edges = sizes(frames)
    if settings.batch_edges is not None:
        costs, limit = edges, settings.batch_edges
    elif settings.batch_atoms is not None:
        costs, limit = atoms, settings.batch_atoms
    else:
        costs, limit = np.ones_like(atoms), settings.batch_size or 1
    seed = settings.seed if shuffled else None
    # A frame's time grows with its edges, but one without any takes time too.
    return BatchSampler(costs, limit, seed=seed, loads=atoms + edges, rank=rank, ranks=ranks)


class Drawn(Dataset[Batch]):
    """Frames as they are drawn, each turned by an element of O(3) of its own if there is a seed."""

    def __init__(self, frames: Sequence[Batch], seed: int | None) -> None:
        self.frames = frames
        self.seed = seed

    def __getitem__(self, draw: Draw) -> Batch:
        epoch, index = draw
        frame = self.frames[index]
        if self.seed is None:
            return frame
        entropy = np.random.SeedSequence([self.seed, epoch, index])
        return frame.augmented(int(entropy.generate_state(1, np.uint64)[0]))


def loader(
    frames: Sequence[Batch],
    sampler: BatchSampler | list[list[Draw]],
    *,
    augment: int | None = None,
    workers: int = 0,
) -> DataLoader[Batch | None]:
    """Batches in a sampler's order; None where a rank has no share in one.

    Args:
        frames: structures with their labels, one to a batch.
        sampler: which of them.
        augment: seed of random orientations; None: as they are.
        workers: processes that prepare batches ahead; 0: none.
    """
    return DataLoader(
        Drawn(frames, augment),
        batch_sampler=sampler,
        collate_fn=_join,
        num_workers=workers,
        # Workers share the memory of the frames; started otherwise, each would get them by pipe.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        worker_init_fn=_ignore_signals,
    )


def _join(batches: list[Batch]) -> Batch | None:
    return Batch.join(batches) if batches else None


def _ignore_signals(worker: int) -> None:
    """Leave signals to the main process: queues send them to all, and it still needs batches."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
