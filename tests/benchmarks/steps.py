"""Time of an energy-and-forces step and of a training step on liquid water.

    THP_MEM_ALLOC_ENABLE=1 python -m tests.benchmarks.steps [--json FILE]

Prints a table: medians in one run, time per atom, and its ratio to the smallest system's; of PETs
also with direct forces, which are no gradient. Peers that are installed are timed in the same run,
of the same shape and with random weights: mace-torch ("mace") and nequip ("nequip"), steps through
their ASE calculators. For metatrain's PET see published.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from pointedge.calculators import PotentialCalculator
from pointedge.calculators.cli.runs import read_structure
from pointedge.potentials.checkpoint import architecture
from pointedge.potentials.graph import Graph
from pointedge.potentials.outputs import DIRECT
from pointedge.potentials.potential import Potential

from .peers import mace_forces, mace_model, nequip_forces, nequip_model

ARCHITECTURES = {"mace": "mace", "nequip": "nequip"}  # of shapes that are no PET
Runs = dict[tuple[str, str], Callable[[], object]]
SHAPES: dict[str, dict[str, Any]] = {
    "pet-water": {
        "cutoff": 4.0,
        "d_pet": 64,
        "d_node": 128,
        "d_head": 64,
        "d_feedforward": 128,
        "num_heads": 4,
        "activation": "silu",
    },
    "default": {},
    "mace": {"average_neighbors": 50.0},
    "nequip": {
        "irreps": "32x0e + 32x1o + 32x2e",
        "lmax": 2,
        "num_layers": 3,
        "average_neighbors": 50.0,
    },
}


def median_ms(function: Callable[[], object], repeats: int, device: str) -> float:
    """Median wall time of a call, after one warm-up call."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[1:]))


def water(size: int) -> Atoms:
    """The packaged box, repeated to ``size`` atoms (192 n³)."""
    box = read_structure(None)
    n = round((size / len(box)) ** (1 / 3))
    if n**3 * len(box) != size:
        raise SystemExit(f"--sizes must be {len(box)} n³, not {size}.")
    return box.repeat(n)


def md_step(calculator: object, atoms: Atoms) -> Callable[[], object]:
    """A step as ASE makes it: positions move a little, then forces are asked for."""
    atoms = atoms.copy()
    atoms.calc = calculator
    rng = np.random.default_rng(0)

    def step() -> object:
        atoms.positions += rng.normal(scale=1e-3, size=atoms.positions.shape)
        return atoms.get_forces()

    return step


def training_step(network: torch.nn.Module, forces: Callable[[], Tensor]) -> Callable[[], object]:
    """Loss on the forces of one frame, and its gradient in the weights."""
    parameters = list(network.parameters())

    def step() -> object:
        return torch.autograd.grad(forces().square().mean(), parameters, allow_unused=True)

    return step


def ours(shape: str, **settings: Any) -> Potential:
    """Our network of a shape, random weights."""
    values = {"species": (1, 8), **SHAPES[shape], **settings}
    return Potential(architecture(ARCHITECTURES.get(shape, "pet")).from_config(values))


def peers(shape: str, atoms: Atoms, dtype: str, train: bool) -> Runs:
    """Steps of installed peers of the same shape, random weights."""
    found: Runs = {}
    with contextlib.suppress(ImportError):
        if shape == "mace":
            found["mace-torch", "MD step"] = md_step(mace_model(dtype), atoms)
            if train:
                found["mace-torch", "training"] = training_step(*mace_forces(atoms, dtype))
        if shape == "nequip":
            found["nequip", "MD step"] = md_step(nequip_model(dtype), atoms)
            if train:
                found["nequip", "training"] = training_step(*nequip_forces(atoms, dtype))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[192, 1536])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--train", type=int, default=192, help="largest size to train on")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    rows = []
    for shape in arguments.shapes:
        for dtype in arguments.dtypes:
            for size in arguments.sizes:
                rows += measure(
                    shape, dtype, size, arguments.repeats, arguments.device, arguments.train
                )
    base = {(r["model"], r["what"], r["dtype"]): r["us_per_atom"] for r in reversed(rows)}
    print(f"{'model':24}{'what':10}{'dtype':9}{'atoms':>7}", end="")
    print(f"{'ms':>10}{'µs/atom':>9}{'ratio':>7}{'peak GB':>9}")
    for r in rows:
        ratio = r["us_per_atom"] / base[r["model"], r["what"], r["dtype"]]
        print(
            f"{r['model']:24}{r['what']:10}{r['dtype']:9}{r['atoms']:7}{r['ms']:10.1f}"
            f"{r['us_per_atom']:9.0f}{ratio:7.2f}{r['peak_gb']:9.2f}"
        )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)


def measure(shape: str, dtype: str, size: int, repeats: int, device: str, train: int) -> list[dict]:
    """Rows of one shape, type and size: MD step, and training step up to ``train`` atoms."""
    atoms = water(size)
    potential = ours(shape)
    runs: Runs = {}
    calculator = PotentialCalculator(potential, device=device, dtype=dtype)
    runs[f"pointedge {shape}", "MD step"] = md_step(calculator, atoms)
    if shape not in ARCHITECTURES:
        direct = PotentialCalculator(
            ours(shape, properties=("energy", *DIRECT)),
            device=device,
            dtype=dtype,
            non_conservative=True,
        )
        runs[f"pointedge {shape}", "direct"] = md_step(direct, atoms)
    if size <= train:
        potential.network.to(getattr(torch, dtype)).to(device)
        potential.to(device)
        graph = Graph.from_atoms(atoms, potential.cutoff).to(device)
        runs[f"pointedge {shape}", "training"] = training_step(
            potential.network, lambda: potential(graph, create_graph=True).forces
        )
    if device == "cpu":
        runs.update(peers(shape, atoms, dtype, size <= train))
    rows = []
    for (model, what), function in runs.items():
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        ms = median_ms(function, repeats, device)
        peak = (
            torch.cuda.max_memory_allocated() / 1e9
            if device == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        )
        rows.append(
            {
                "model": model,
                "what": what,
                "dtype": dtype,
                "atoms": size,
                "ms": ms,
                "us_per_atom": 1000 * ms / size,
                "peak_gb": peak,
            }
        )
    return rows


if __name__ == "__main__":
    main()
