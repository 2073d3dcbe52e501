"""Temporary stand-in; replaced by the full module."""
import numpy as np
import torch


def neighbor_list(positions, cell, pbc, cutoff, structure, *, backend="auto"):
    from vesin import NeighborList
    out = []
    for b in range(len(cell)):
        sel = torch.nonzero(structure == b)[:, 0]
        nl = NeighborList(cutoff=cutoff, full_list=True, sorted=True)
        i, j, S = nl.compute(points=positions[sel].double().numpy(), box=cell[b].double().numpy(), periodic=pbc[b].numpy(), quantities="ijS")
        first = int(sel[0])
        out.append((torch.from_numpy(i.astype(np.int64)) + first, torch.from_numpy(j.astype(np.int64)) + first, torch.from_numpy(S.astype(np.int64)).reshape(-1, 3)))
    return tuple(torch.cat(x) for x in zip(*out))
