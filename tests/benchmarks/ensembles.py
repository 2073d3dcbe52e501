"""An ensemble's step: shared graph, members alone, and weights stacked and run by torch.vmap.

    python -m tests.benchmarks.ensembles [--model pet-water] [--members 4] [--molecules 1 3 20 64]

Members are a model and copies with weights changed by 1 %. The three take turns in one process, and
processor time counts, so that what else runs on the machine disturbs little. "alone" asks one
calculator after the other, each with its own list and graph, as ASE's AverageCalculator does;
"shared" is EnsembleCalculator; "stacked" is the networks' energies and gradients alone, against
those of "in turn", on one and the same graph. 64 molecules are the packaged periodic box, fewer are
cut out of it. Forces are compared first.
"""

import argparse
import time
from unittest import mock

import ase.io
import numpy as np
import torch
from torch.func import functional_call, stack_module_state, vjp, vmap

from pointedge.calculators import EnsembleCalculator, PotentialCalculator
from pointedge.calculators.loading import load_potential
from pointedge.potentials import layout
from pointedge.potentials.graph import Graph
from pointedge.potentials.packaged import packaged_folder


def members_of(model, count):
    members = [load_potential(model) for _ in range(count)]
    for k, potential in enumerate(members):
        generator = torch.Generator().manual_seed(k)
        for weight in potential.network.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.data *= 1 + 0.01 * noise.to(weight.dtype)
        potential.requires_grad_(False).eval()
    return members


def water(molecules):
    """The packaged box, or some molecules about its first."""
    box = ase.io.read(packaged_folder("structures") / "water-64.xyz")
    oxygens = np.flatnonzero(box.numbers == 8)
    if molecules >= len(oxygens):
        return box
    near = oxygens[np.argsort(box.get_distances(oxygens[0], oxygens, mic=True))[:molecules]]
    bonded = [np.argsort(box.get_distances(k, range(len(box)), mic=True))[:3] for k in near]
    cluster = box[np.unique(bonded)]
    cluster.pbc = False
    cluster.calc = None
    return cluster


def in_turn(members, graph, vectors):
    gradients = []
    for potential in members:
        leaf = vectors.detach().requires_grad_()
        energies = potential.network(graph, leaf)["energy"]
        gradients.append(torch.autograd.grad(energies.sum(), leaf)[0])
    return torch.stack(gradients)


def stacked(members, graph, vectors):
    """A function without arguments that gives the same."""
    weights, _ = stack_module_state([potential.network for potential in members])
    weights = {name: weight.detach() for name, weight in weights.items()}
    skeleton = members[0].network
    buffers = dict(skeleton.named_buffers())

    def gradient(weights):
        def energies(leaf):
            return functional_call(skeleton, (weights, buffers), (graph, leaf))["energy"]

        values, pull = vjp(energies, vectors)
        return pull(torch.ones_like(values))[0]

    plain_cut, kept = layout.cut, []

    def keep(counts, chunk_tokens):
        kept[:] = [plain_cut(counts, chunk_tokens)]
        return kept[0]

    # Chunks are cut from counts on the host, which functorch's wrapped tensors do not give.
    with mock.patch.object(layout, "cut", keep):
        skeleton(graph, vectors)

    def run():
        with mock.patch.object(layout, "cut", return_value=kept[0]):
            return vmap(gradient)(weights)

    return run


def seconds(function):
    begun = time.process_time()
    function()
    return time.process_time() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pet-water")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--molecules", type=int, nargs="+", default=[1, 3, 20, 64])
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    members = members_of(arguments.model, arguments.members)
    print(f"{arguments.model}, {arguments.members} members, one thread, processor time")
    for molecules in arguments.molecules:
        atoms = water(molecules)
        alone = [PotentialCalculator(potential) for potential in members]
        ensemble = EnsembleCalculator(members)
        graph = Graph.from_atoms(atoms, members[0].cutoff)
        vectors = graph.edge_vectors().to(torch.float64)
        batched = stacked(members, graph, vectors)
        expected = in_turn(members, graph, vectors)
        error = (batched() - expected).abs().max() / expected.abs().max()
        rng = np.random.default_rng(0)
        runs = {
            "alone": lambda alone=alone, atoms=atoms: [c.get_forces(atoms) for c in alone],
            "shared": lambda ensemble=ensemble, atoms=atoms: ensemble.get_forces(atoms),
            "in turn": lambda g=graph, v=vectors: in_turn(members, g, v),
            "stacked": batched,
        }
        taken = {name: [] for name in runs}
        for _ in range(arguments.repeats):
            atoms.positions += rng.normal(scale=1e-3, size=atoms.positions.shape)
            for name, run in runs.items():
                taken[name].append(seconds(run))
        median = {name: 1e3 * np.median(times) for name, times in taken.items()}
        ratios = median["shared"] / median["alone"], median["stacked"] / median["in turn"]
        print(
            f"{len(atoms):5} atoms: alone {median['alone']:8.1f} ms, "
            f"shared {median['shared']:8.1f} ({ratios[0]:.2f}); "
            f"networks in turn {median['in turn']:8.1f}, "
            f"stacked {median['stacked']:8.1f} ({ratios[1]:.2f}), "
            f"gradients differ by {error:.0e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
