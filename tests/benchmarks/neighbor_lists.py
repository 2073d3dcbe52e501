"""Speed and memory of the neighbour lists at the density of liquid water.

    python tests/benchmarks/neighbor_lists.py --sizes 192 1536 12288 98304 --json lists.json

Each row is the median of several builds of one list of random atoms (0.1 atoms/Å^3, no two within
0.9 Å, cutoff 5 Å). "verlet" is an update that reuses its list. Memory is the peak of torch tensors
(on CUDA, of the allocator); libraries outside torch cannot be counted. Lists that are not installed
are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from pointedge.potentials.neighbors import VerletList, neighbor_list
from tests.neighbors.probes import TensorMemory

DENSITY = 0.1
CUTOFF = 5.0
LARGEST_FOR_ASE = 2000


def water_like(atoms: int, device: str) -> tuple[torch.Tensor, ...]:
    """Random atoms on a jittered lattice, so that the density is even as in a liquid."""
    length = (atoms / DENSITY) ** (1 / 3)
    cells = int(np.ceil(atoms ** (1 / 3)))
    rng = np.random.default_rng(atoms)
    sites = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 3)
    sites = rng.permutation(sites)[:atoms] + rng.uniform(0, 0.58, (atoms, 3))
    tensors = (
        torch.tensor(sites * length / cells),
        torch.eye(3, dtype=torch.float64)[None] * length,
        torch.ones(1, 3, dtype=torch.bool),
        torch.zeros(atoms, dtype=torch.int64),
    )
    return tuple(tensor.to(device) for tensor in tensors)


def contenders(system: tuple[torch.Tensor, ...], skin: float) -> dict[str, Callable[[], int]]:
    """Functions that build one list each and return the number of pairs."""
    positions, cell, pbc, structure = system
    on_cpu = positions.device.type == "cpu"

    def ours(backend: str) -> Callable[[], int]:
        return lambda: len(
            neighbor_list(positions, cell, pbc, CUTOFF, structure, backend=backend)[0]
        )

    lists = {name: ours(name) for name in (("vesin", "matscipy") if on_cpu else ()) + ("torch",)}
    verlet = VerletList(CUTOFF, skin=skin)
    verlet.update(*system)
    lists["verlet"] = lambda: len(verlet.update(*system)[0])
    if on_cpu and len(positions) <= LARGEST_FOR_ASE:
        lists["ase"] = _ase(system)
    if importlib.util.find_spec("nvalchemiops"):
        lists["nvalchemi"] = _nvalchemi(system)
    return lists


def _ase(system: tuple[torch.Tensor, ...]) -> Callable[[], int]:
    from ase.neighborlist import primitive_neighbor_list

    positions, cell, pbc = system[0].numpy(), system[1][0].numpy(), system[2][0].numpy()
    return lambda: len(primitive_neighbor_list("ijS", pbc, cell, positions, CUTOFF)[0])


def _nvalchemi(system: tuple[torch.Tensor, ...]) -> Callable[[], int]:
    from nvalchemiops.torch.neighbors import neighbor_list as nvalchemi_list

    positions, cell, pbc, _ = system
    return lambda: nvalchemi_list(positions, CUTOFF, cell=cell, pbc=pbc, return_neighbor_list=True)[
        0
    ].shape[-1]


def measure(
    build: Callable[[], int], repeats: int, device: str, clock: Callable[[], float]
) -> dict[str, float | int | None]:
    """Median milliseconds, pairs and peak bytes of tensors of one list."""
    if device == "cpu":
        with TensorMemory() as memory:
            pairs = build()
        peak = memory.peak
    else:
        build()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        pairs = build()
        peak = torch.cuda.max_memory_allocated() - before
    times = []
    for _ in range(repeats):
        start = clock()
        build()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(1e3 * (clock() - start))
    return {"ms": statistics.median(times), "pairs": pairs, "peak_bytes": peak}


def main() -> None:
    """Measure all lists at all sizes; print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[192, 1536], help="atoms")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skin", type=float, default=0.5, help="of the Verlet list, Å")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall",
        help="cpu: time of this process in all threads, for a machine that is busy with other work",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[arguments.clock]
    rows = []
    print(f"{'atoms':>7} {'list':<10} {'ms':>10} {'pairs':>9} {'µs/atom':>8} "
          f"{'MB':>7} {'bytes/pair':>10} {'/ first':>8}")  # fmt: skip
    for atoms in arguments.sizes:
        first = None
        for name, build in contenders(water_like(atoms, arguments.device), arguments.skin).items():
            row = measure(build, arguments.repeats, arguments.device, clock)
            first = first or row["ms"]
            counted = name in ("torch", "verlet") or arguments.device != "cpu"
            row["peak_bytes"] = row["peak_bytes"] if counted else None
            memory = (f"{row['peak_bytes'] / 1e6:7.1f} {row['peak_bytes'] / row['pairs']:10.0f}"
                      if counted else f"{'-':>7} {'-':>10}")  # fmt: skip
            print(f"{atoms:7d} {name:<10} {row['ms']:10.2f} {row['pairs']:9d} "
                  f"{1e3 * row['ms'] / atoms:8.2f} {memory} {row['ms'] / first:8.2f}")  # fmt: skip
            rows.append({"atoms": atoms, "list": name, **row, "ratio": row["ms"] / first})
    report = {
        "cutoff": CUTOFF, "density": DENSITY, "skin": arguments.skin, "device": arguments.device,
        "clock": arguments.clock,
        "threads": torch.get_num_threads(), "torch": torch.__version__, "rows": rows,
    }  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
