"""An auxiliary network for any potential: what ECSE uses where an atom has no frame.

It sees lengths only, and is fitted to the potential itself: to each atom's properties averaged over
random orientations, in the environments where ECSE asks for it (empty, collinear, or nearly so).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ..ecse.averages import RotationAverage
from ..ecse.frames import make_frames
from ..ecse.model import ECSE
from ..ecse.scores import ScoreSettings
from ..graph import Graph, random_rotations
from ..outputs import RANKS, Outputs, along
from ..pet import PET, PETConfig
from ..potential import Potential
from .clusters import magnetize, sparse_clusters

if TYPE_CHECKING:
    from ..potential import Network

SHAPE = {"d_pet": 32, "d_node": 64, "d_head": 64, "d_feedforward": 64, "num_heads": 4}
BATCH = 128  # clusters in a step
TURNS = 8  # orientations of each cluster; least squares average over more
LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Targets:
    """Clusters and what the auxiliary network should say of their atoms.

    Attributes:
        graph: the clusters.
        weight: (N,) auxiliary weights: how much an atom's properties count.
        values: properties (N, ...) of the network, averaged over orientations.
        gradient: (E, 3) of the weighted energies in the edge vectors, or None without energies.
    """

    graph: Graph
    weight: Tensor
    values: Outputs
    gradient: Tensor | None


def distill_auxiliary(
    potential: Potential,
    frames: Sequence[Atoms] = (),
    *,
    steps: int = 1500,
    clusters: int = 4000,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> Potential:
    """Return a copy of a potential with an auxiliary network fitted to it, in float64 on the CPU.

    Args:
        potential: of any architecture whose energies depend on the orientation of their input.
        frames: structures of the kind to be simulated; their short bonds are among the clusters.
        steps: of the optimiser.
        clusters: how many small clusters to fit to; another tenth is held out.
        seed: of clusters and initial weights; torch's own generator is left as it is.
        report: called with one line of text at a time.

    Raises:
        ValueError: the potential is invariant already, frames have species it does not know, or it
            reads magnetic moments and some species has none in the frames.
    """
    refuse_invariant(potential)
    if missing := {int(z) for a in frames for z in a.numbers} - set(potential.species):
        raise ValueError(f"the potential does not know species {sorted(missing)} of the frames.")
    result = copy.deepcopy(potential).to(torch.float64).to("cpu").requires_grad_(False).eval()
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        auxiliary = PET(auxiliary_config(result)).to(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    parts = [
        [_targets(result, atoms, generator) for atoms in _batches(result, frames, count, rng)]
        for count in (clusters, max(clusters // 10, 1))
    ]
    fitted = ECSE(result.network, auxiliary=auxiliary)
    _fit(fitted, parts[0], steps)
    errors = _errors(fitted, parts[1], result)
    report(
        "auxiliary network, on held-out clusters of one to five atoms: RMSE "
        + ", ".join(f"{name} {value:.3g}" for name, value in errors.items())
    )
    result.auxiliary = auxiliary.requires_grad_(False).eval()
    result.information["auxiliary"] = {"clusters": clusters, "steps": steps, "rmse": errors}
    return result.to(potential.dtype)


def refuse_invariant(potential: Potential) -> None:
    """Refuse a potential that needs no auxiliary network, by a ValueError."""
    network: Network = potential.network  # type: ignore[assignment]
    if network.invariant:
        raise ValueError("the potential is invariant already and needs no auxiliary network.")


def auxiliary_config(potential: Potential) -> PETConfig:
    """Settings of a small network that sees nothing but lengths of an atom's own edges."""
    network: Network = potential.network  # type: ignore[assignment]
    return PETConfig(
        species=potential.species,
        cutoff=network.cutoff,
        cutoff_width=min(0.5, network.cutoff),
        num_attention_layers=1,
        num_gnn_layers=1,
        featurizer="residual",
        activation="silu",
        edge_input="length",
        properties=network.properties,
        typical_moment=network.to_config().get("typical_moment"),
        **SHAPE,  # type: ignore[arg-type]
    )


def _batches(
    potential: Potential, frames: Sequence[Atoms], count: int, rng: np.random.Generator
) -> Iterator[list[Atoms]]:
    network: Network = potential.network  # type: ignore[assignment]
    found = list(sparse_clusters(potential.species, network.cutoff, frames, count, rng))
    if "magmoms" in network.inputs:
        magnetize(found, frames, rng)
    for start in range(0, len(found), BATCH):
        yield found[start : start + BATCH]


def _targets(potential: Potential, clusters: list[Atoms], generator: torch.Generator) -> Targets:
    turns = random_rotations(TURNS, generator=generator)
    averaged = RotationAverage(potential.network, turns, torch.full((TURNS,), 1 / TURNS))
    graph = Graph.from_atoms(clusters, averaged.cutoff, inputs=averaged.inputs)
    vectors = graph.edge_vectors().requires_grad_()
    frames = make_frames(
        vectors.detach(), graph.centers, graph.num_atoms, averaged.cutoff, ScoreSettings()
    )
    values = averaged(graph, vectors)
    return Targets(
        graph,
        frames.auxiliary,
        {name: value.detach() for name, value in values.items()},
        _gradient(values, frames.auxiliary, vectors, create_graph=False),
    )


def _gradient(
    values: Outputs, weight: Tensor, vectors: Tensor, *, create_graph: bool
) -> Tensor | None:
    if "energy" not in values:
        return None
    total = (weight * values["energy"]).sum()
    (gradient,) = torch.autograd.grad(total, vectors, create_graph=create_graph)
    return gradient


def _fit(fitted: ECSE, targets: Sequence[Targets], steps: int) -> None:
    """Least squares of properties and gradients, each relative to its spread."""
    assert fitted.auxiliary is not None
    optimizer = torch.optim.AdamW(fitted.auxiliary.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    spread = {
        name: _mean_square([t.weight for t in targets], [t.values[name] for t in targets])
        for name in fitted.properties
    }
    gradients = [t.gradient for t in targets if t.gradient is not None]
    if gradients:
        spread["gradient"] = torch.cat(gradients).square().mean()
    for _, target in zip(range(steps), itertools.cycle(targets)):
        found, gradient = _predict(fitted, target, create_graph=True)
        loss = sum(
            _mean_square([target.weight], [found[name] - target.values[name]]) / spread[name]
            for name in found
        )
        if gradient is not None and target.gradient is not None:
            loss = loss + (gradient - target.gradient).square().mean() / spread["gradient"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(fitted.auxiliary.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def _predict(fitted: ECSE, target: Targets, *, create_graph: bool) -> tuple[Outputs, Tensor | None]:
    vectors = target.graph.edge_vectors().requires_grad_()
    found = fitted.auxiliary_properties(target.graph, vectors)
    return found, _gradient(found, target.weight, vectors, create_graph=create_graph)


def _mean_square(weights: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Mean over atoms and components of squares of values (N, ...), by the atoms' weights."""
    weight, value = torch.cat(list(weights)), torch.cat(list(values))
    components = max(value[0].numel(), 1)
    return along(weight, value.square()).sum() / (weight.sum() * components).clamp(min=1e-12)


def _errors(fitted: ECSE, targets: Sequence[Targets], potential: Potential) -> dict[str, float]:
    """RMSE of each property and of forces along edges: meV, meV/Å, thousandths of other units."""
    predictions = [_predict(fitted, target, create_graph=False) for target in targets]
    errors = {}
    for name in sorted(fitted.properties, key=lambda name: RANKS[name]):
        differences = [
            (found[name] - target.values[name]).detach()
            for (found, _), target in zip(predictions, targets, strict=True)
        ]
        square = _mean_square([target.weight for target in targets], differences)
        scale = potential.scale_of(name)
        if scale.ndim:  # one for each species
            scale = scale[list(potential.species)].square().mean().sqrt()
        errors[name] = 1000 * float(scale) * math.sqrt(float(square))
    gradients = [
        g - target.gradient
        for (_, g), target in zip(predictions, targets, strict=True)
        if g is not None and target.gradient is not None
    ]
    if gradients:
        square = torch.cat(gradients).square().mean()
        errors["forces"] = 1000 * float(potential.scale) * math.sqrt(float(square))
    return errors
