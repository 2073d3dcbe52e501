"""A long run of dynamics, whose memory has to stay what it is after the first tenth of it.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.soak [--steps 100000] [--network pair] [--output F]

Eight atoms of H and O in a periodic box at 500 K: what `pointedge md` does with its trajectory, its
log, the state of the run and its lists of neighbours, a hundred thousand times. The network is a
small PET with random weights and ZBL repulsion, or `pair`, soft spheres, which leave the time to
all that is around a network; both in float64.

Memory is what is resident of the process's own, without pages of files, which the system drops as
it likes. It is constant if it grows by less than GROWTH from the first tenth, when all has been
used once, to the last step: a leak of 24 bytes a step, Python's smallest number, would be 2.2 MB
in 90,000 steps. The exit code is 1 if it grows by more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from pointedge.calculators import PotentialCalculator
from pointedge.calculators.audit.surroundings import resident_memory
from pointedge.calculators.dynamics import MDSettings
from pointedge.calculators.md import run_md
from pointedge.potentials.graph import Graph
from pointedge.potentials.pet import PET, PETConfig
from pointedge.potentials.potential import Potential

GROWTH = 2.0  # MB
SPECIES, CUTOFF = (1, 8), 3.5  # Å


class SoftSpheres(nn.Module):
    """E_i = a Σ_j (1 - r²/r_c²)³."""

    cutoff = CUTOFF
    inputs = ()
    properties = ("energy",)

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.6))

    def to_config(self) -> dict[str, Any]:
        """What a potential asks a network for."""
        return {"species": list(SPECIES)}

    def forward(self, graph: Graph, edge_vectors: Tensor) -> dict[str, Tensor]:
        """Energies (N,)."""
        pair = self.a * (1 - edge_vectors.square().sum(-1) / CUTOFF**2).clamp(min=0) ** 3
        return {"energy": pair.new_zeros(graph.num_atoms).index_add(0, graph.centers, pair)}


def small_pet() -> PET:
    """A PET with random weights."""
    layers = {"num_heads": 2, "num_gnn_layers": 1, "num_attention_layers": 1}
    widths = dict.fromkeys(("d_pet", "d_node", "d_head", "d_feedforward"), 16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PET(PETConfig.from_dict({"species": SPECIES, "cutoff": CUTOFF, **layers, **widths}))


# What makes them, the scale in eV, and whether ZBL repulsion is added.
NETWORKS = {"pet": (small_pet, 0.1, True), "pair": (SoftSpheres, 1.0, False)}


def fluid() -> Atoms:
    """Four O and four H near the sites of a cubic lattice."""
    sites = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    atoms = Atoms("OHHOHOOH", positions=2.5 * sites, cell=[5.0, 5.0, 5.0], pbc=True)
    atoms.rattle(0.1, seed=0)
    return atoms


def main() -> None:
    """Run the dynamics and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--network", choices=NETWORKS, default="pet")
    parser.add_argument("--output", type=Path, help="folder of the run; default: a temporary one")
    options = parser.parse_args()
    network, scale, repulsion = NETWORKS[options.network]
    baseline = {1: -13.6, 8: -432.1}
    calculator = PotentialCalculator(
        Potential(network().double(), baseline, scale, repulsion=repulsion), dtype="float64"
    )
    atoms = fluid()
    atoms.calc = calculator
    settings = MDSettings(
        temperature=500.0, timestep=0.5, steps=options.steps, interval=100, log_interval=20
    )
    tenth = settings.steps // 10
    resident = resident_memory()
    print(f"{options.network}: memory at the start {resident():.1f} MB", flush=True)
    memory: dict[int, float] = {}

    def look(step: int, temperature: float) -> None:
        if step % tenth == 0:
            memory[step] = resident()
            print(f"  step {step:7d}  {memory[step]:.1f} MB  {temperature:4.0f} K", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        start = time.perf_counter()
        result = run_md(atoms, settings, options.output or temporary, progress=look)
        seconds, cpu = time.perf_counter() - start, time.process_time()
        drift, error = result.energy_drift()
        mean, spread = result.mean("temperature_K")
    growth = memory[settings.steps] - memory[tenth]
    print(f"growth after the first tenth: {growth:+.2f} MB; limit {GROWTH:g} MB")
    print(
        f"lists of neighbours built: {calculator._graphs.verlet.builds} in {settings.steps} steps"
    )
    print(f"frames: {result.frames}; temperature {mean:.0f} ± {spread:.0f} K (second half)")
    print(f"drift of the conserved quantity: {drift:.5f} ± {error:.5f} meV/atom/ps")
    print(f"{seconds:.0f} s, of the processor {cpu:.0f} s")
    raise SystemExit(growth >= GROWTH)


if __name__ == "__main__":
    main()
