"""Batches are a pure function of seed and epoch, on any number of ranks and from any step on."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointedge.potentials.training.batching import BatchSampler, batch_sampler, loader
from pointedge.potentials.training.data import labelled
from pointedge.potentials.training.reading import read_frames
from pointedge.potentials.training.settings import Optimization

COSTS = st.lists(st.integers(0, 30), min_size=1, max_size=40)


def slow_pack(order, costs, limit):
    """The same as ``pack``, one frame at a time."""
    batches = [[]]
    for k in order:
        if batches[-1] and sum(costs[i] for i in batches[-1]) + costs[k] > limit:
            batches.append([])
        batches[-1].append(k)
    return batches


@given(costs=COSTS, limit=st.integers(1, 40), seed=st.integers(0, 3), epoch=st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_an_epoch_has_every_frame_once_in_batches_within_the_limit(costs, limit, seed, epoch):
    batches = [b.tolist() for b in BatchSampler(costs, limit, seed=seed).batches(epoch)]
    order = [k for batch in batches for k in batch]
    assert sorted(order) == list(range(len(costs)))
    assert batches == slow_pack(order, costs, limit)
    for batch in batches:
        assert sum(costs[k] for k in batch) <= limit or len(batch) == 1


@given(costs=COSTS, limit=st.integers(1, 60), ranks=st.integers(1, 4), skip=st.integers(0, 90))
@settings(max_examples=50, deadline=None)
def test_ranks_share_the_same_batches_from_any_step_on(costs, limit, ranks, skip):
    """Nothing is dropped or drawn twice, and every rank makes the same steps."""
    alone = BatchSampler(costs, limit, seed=1)
    whole = list(islice(iter(alone), skip + 5))
    epoch, step = 0, skip
    while step >= len(alone.batches(epoch)):
        step -= len(alone.batches(epoch))
        epoch += 1
    shares = [
        list(
            islice(
                BatchSampler(costs, limit, seed=1, rank=r, ranks=ranks).starting_at(epoch, step), 5
            )
        )
        for r in range(ranks)
    ]
    for batch, parts in zip(whole[skip:], zip(*shares, strict=True), strict=True):
        assert sorted(draw for part in parts for draw in part) == sorted(batch)


def test_a_batch_is_divided_by_the_work_of_its_frames():
    loads = np.array([8, 1, 1, 4, 4])
    work = []
    for rank in range(2):
        sampler = BatchSampler([1] * 5, 5, seed=0, loads=loads, rank=rank, ranks=2)
        work.append(loads[sampler.share(sampler.batches(0)[0])].sum())
    assert work == [9, 9]


def test_orders_differ_from_epoch_to_epoch_and_from_seed_to_seed():
    first, second = (BatchSampler([1] * 50, 50, seed=s).batches(0)[0].tolist() for s in (0, 1))
    assert first != second
    assert BatchSampler([1] * 50, 50, seed=0).batches(1)[0].tolist() not in (first, second)
    assert BatchSampler([1] * 50, 50, seed=None).batches(7)[0].tolist() == list(range(50))


@pytest.fixture
def frames(resolved, tmp_path):
    found = read_frames(resolved.data.train, tmp_path)
    return [labelled(atoms, resolved.data, 3.0, ()) for atoms in found]


def test_batches_by_atoms_and_edges(frames):
    for limit, count in (("batch_atoms", "num_atoms"), ("batch_edges", "num_edges")):
        sampler = batch_sampler(frames, Optimization(**{limit: 30}))
        sizes = [
            sum(getattr(frames[k].graph, count) for k in batch) for batch in sampler.batches(0)
        ]
        assert max(sizes) <= 30
        assert np.mean(sizes) > 18


def test_more_ranks_than_structures_in_a_batch_are_refused(frames):
    with pytest.raises(ValueError, match="less than the 3 processes"):
        batch_sampler(frames, Optimization(batch_size=2), ranks=3)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_frame_is_turned_alike_in_any_batch_rank_worker_and_continuation(frames, workers):
    def drawn(size, rank=0, ranks=1, start=(0, 0), steps=12, workers=0):
        sampler = batch_sampler(frames, Optimization(batch_size=size), rank=rank, ranks=ranks)
        plan = list(islice(sampler.starting_at(*start), steps))
        found = {}
        for draws, batch in zip(
            plan, loader(frames, plan, augment=3, workers=workers), strict=True
        ):
            atoms = [frames[k].graph.num_atoms for _, k in draws]
            found |= dict(zip(draws, batch.forces.split(atoms), strict=True))
        return found

    straight = drawn(2)
    assert len(straight) == len(frames)
    for other in (
        drawn(8, steps=3, workers=workers),
        drawn(2, start=(0, 7), steps=3),
        drawn(4, rank=1, ranks=2, steps=4),
    ):
        for draw, forces in other.items():
            assert torch.equal(forces, straight[draw])
    assert not torch.equal(drawn(24, start=(1, 0), steps=1)[1, 0], straight[0, 0])


def test_a_rank_without_a_share_gets_none(frames):
    (batch,) = loader(frames, [[]])
    assert batch is None
