"""One PET in metatrain and here: time of a step of dynamics, and of the first call.

    python -m tests.benchmarks.published [--sizes 192 1536] [--dtypes float32 float64] [--json FILE]

Random weights in metatrain's default shape (or those of --model), written for metatrain, exported
by it, and run by its ASE calculator and by ours: the same positions in turns, so that what else
runs on the machine slows both. Atoms move by 0.001 Å between steps; ours keeps its neighbours
within the default skin, theirs lists them anew. For an environment with both packages.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pointedge.calculators import PETCalculator
from pointedge.potentials import checkpoint
from pointedge.potentials.pet import PET
from pointedge.potentials.potential import Potential

from ..peers.metatrain_roundtrip import exported
from .steps import water

COLUMNS = ("type", "atoms", "theirs ms", "ours ms", "ratio", "first s: theirs", "ours", "differ")


def random_pet(path: Path) -> None:
    """Write a PET for H and O in the default shape, with random weights."""
    torch.manual_seed(0)
    checkpoint.save(Potential(PET.from_config({"species": [1, 8]})), path)


def timed(calculator: Any, atoms: Any) -> tuple[float, np.ndarray]:
    """Seconds until forces are there, and the forces."""
    atoms.calc = calculator
    start = time.perf_counter()
    forces = atoms.get_forces()
    return time.perf_counter() - start, forces


def measure(model: str, dtype: str, size: int, repeats: int) -> dict[str, Any]:
    """Times of both; the median of the ratios of steps that followed each other."""
    with tempfile.TemporaryDirectory() as folder:
        calculators = [
            exported(model, Path(folder), "model", dtype),
            PETCalculator(model, dtype=dtype),
        ]
        structures = [water(size), water(size)]
        rng = np.random.default_rng(0)
        times, difference = [], 0.0
        for _ in range(repeats + 1):
            results = [timed(*pair) for pair in zip(calculators, structures, strict=True)]
            times.append([seconds for seconds, _ in results])
            difference = max(difference, float(np.abs(results[0][1] - results[1][1]).max()))
            moves = rng.normal(scale=1e-3, size=structures[0].positions.shape)
            for atoms in structures:
                atoms.positions += moves
    steps = np.array(times[1:])
    theirs, ours = np.median(steps, axis=0)
    return {
        "dtype": dtype,
        "atoms": size,
        "theirs_ms": 1000 * theirs,
        "ours_ms": 1000 * ours,
        "ratio": float(np.median(steps[:, 1] / steps[:, 0])),
        "first_theirs_s": times[0][0],
        "first_ours_s": times[0][1],
        "forces_differ": difference,  # largest, eV/Å
    }


def main() -> None:
    """Print a table; medians of steps after the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="packaged name or file; default: random weights")
    parser.add_argument("--sizes", type=int, nargs="+", default=[192, 1536])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    print(f"{torch.get_num_threads()} threads", *(f"{c:>16}" for c in COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or str(Path(folder) / "random.safetensors")
        if arguments.model is None:
            random_pet(Path(model))
        for dtype in arguments.dtypes:
            for size in arguments.sizes:
                row = measure(model, dtype, size, arguments.repeats)
                rows.append(row)
                print(*(f"{_text(value):>16}" for value in row.values()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
