"""What symmetrisation costs, and what is left of the dependence on orientation.

    THP_MEM_ALLOC_ENABLE=1 python -m tests.benchmarks.symmetry [--model pet-water] [--layers FILE]

First the time to build all frames of 192 atoms of water, against loops over pairs of neighbours as
in the research code (the slow twin of the tests, timed on a few atoms). Then, for a cluster of
three water molecules and for the box, every kind of symmetrisation: the time of an energy-and-
forces step in units of the plain model's in the same run, and the spread of energies and forces
over random elements of O(3). ``--layers`` is a model with symmetric layers, of the same shape to be
comparable; without one the plain model's weights run with such layers, which shows the price only.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.resources import files
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms

from pointedge.calculators import PETCalculator
from pointedge.calculators.cli.runs import read_structure
from pointedge.calculators.comparison import Frame, rotational_variances
from pointedge.calculators.loading import find_model
from pointedge.potentials import checkpoint
from pointedge.potentials.ecse.frames import FrameSettings, make_frames
from pointedge.potentials.ecse.scores import ScoreSettings
from pointedge.potentials.ecse.weights import RadiusSettings
from pointedge.potentials.graph import Graph, random_rotations

from ..potentials.ecse import twin
from .steps import md_step, median_ms

KINDS = ("octahedral", "lebedev:3", "lebedev:5", "lebedev:7", "ecse", "ecse-structure")
FEW = {"reach": 3.0, "preference": 6.0}


def frames_ms(
    box: Atoms, cutoff: float, settings: FrameSettings, repeats: int, device: str
) -> float:
    """Median time to build all frames of a structure, on a GPU or one thread."""
    graph = Graph.from_atoms(box, cutoff).to(device)
    vectors = graph.edge_vectors()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return median_ms(
            lambda: make_frames(vectors, graph.centers, graph.num_atoms, cutoff, settings),
            repeats,
            device,
        )
    finally:
        torch.set_num_threads(threads)


def loops_ms(box: Atoms, cutoff: float, settings: FrameSettings, atoms: int) -> float:
    """Time that loops in Python would take for all atoms, from that for a few."""
    graph = Graph.from_atoms(box, cutoff)
    vectors = graph.edge_vectors().numpy()
    loops = twin.by_scores if settings.method == "scores" else twin.by_radius
    start = time.perf_counter()
    for i in range(atoms):
        mine = graph.centers.numpy() == i
        loops(vectors[mine], np.zeros(mine.sum()), cutoff, settings)
    return 1000 * (time.perf_counter() - start) * len(box) / atoms


def discrepancy(calculator: PETCalculator, atoms: Atoms, turns: int) -> tuple[float, float]:
    """Spread over orientations: meV/atom, meV/Å."""
    matrices = random_rotations(turns, generator=torch.Generator().manual_seed(0)).numpy()
    found = rotational_variances(calculator, Frame(atoms), matrices)
    energy, forces = (1000 * float(np.sqrt(found[name].mean())) for name in ("energy", "forces"))
    return energy / len(atoms), forces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pet-water")
    parser.add_argument("--layers", help="checkpoint with symmetric layers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = arguments.device
    box = read_structure(None)
    results: list[dict[str, object]] = []
    for name, settings in {
        "research": RadiusSettings(parity="SO3"),
        "few": ScoreSettings(**FEW),
    }.items():
        ours = frames_ms(box, 4.0, settings, arguments.repeats, device)
        loops = loops_ms(box, 4.0, settings, atoms=4)
        print(f"frames of {len(box)} atoms, {name:8}: {ours:8.1f} ms; loops {loops:10.0f} ms")
        results.append({"frames": name, "ms": ours, "loops_ms": loops})

    plain = checkpoint.load(find_model(arguments.model))
    layers = (
        checkpoint.load(find_model(arguments.layers))
        if arguments.layers
        else checkpoint.load(find_model(arguments.model), {"symmetry": "layers", "frames": FEW})
    )
    header = ("structure", "symmetrize", "ms/step", "times plain", "meV/atom", "meV/Å")
    print("\n{:10}{:>22}{:>12}{:>13}{:>12}{:>12}".format(*header))
    for where, atoms, kinds in (
        ("trimer", ase.io.read(files("pointedge.data") / "structures" / "water-3.xyz"), KINDS),
        ("box", box, ()),
    ):
        reference = 0.0
        for kind in (None, *kinds, "layers"):
            potential = layers if kind == "layers" else plain
            symmetrize = None if kind == "layers" else kind
            exact = PETCalculator(potential, device=device, dtype="float64", symmetrize=symmetrize)
            calculator = PETCalculator(potential, device=device, symmetrize=symmetrize)
            ms = median_ms(md_step(calculator, atoms), arguments.repeats, device)
            reference = reference or ms
            energy, forces = discrepancy(exact, atoms, arguments.turns)
            row = (where, kind or "none", ms, ms / reference, energy, forces)
            print("{:10}{:>22}{:12.1f}{:13.2f}{:12.1e}{:12.1e}".format(*row), flush=True)
            results.append(dict(zip(header, row, strict=True)))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
