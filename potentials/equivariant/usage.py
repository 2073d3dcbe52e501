r"""Which irreps a trained network uses: what its features weigh, and what goes wrong without them.

After Lee, Galkin & Miret (arXiv 2410.08131). Of the features x of a stage (a layer, or the messages
of one), for every irrep, over all atoms, channels and components:

- *norm*: root mean square of x; *share*: of the sum of squares of the stage;
- *variance*: share of the sum of squares about the mean of the atom's species. Averaged over
  orientations only scalars have a mean, so that it is taken from these alone;
- *gradient*: share of the sum of \|∂P/∂x\| \|x - x̄\|, to first order what P would change by, with P
  the sum of energies (or of the squares of what else is predicted).

They can all be large for features that the output ignores. The honest test is to do without:
features of an irrep are set to zero, or dealt out anew among the atoms of each species, in one
stage at a time (:class:`Edited`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..graph import Graph
from ..outputs import Outputs
from ..potential import Potential
from .config import EquivariantConfig
from .irreps import SCALAR, Features, Irrep, Irreps
from .mace import MACEConfig
from .network import EquivariantNetwork

GraphEdit = Callable[[Graph, str, Features, Tensor], Features]
MESSAGES = "messages"  # how stages within a layer of MACE begin


class Edited(nn.Module):
    """A network whose features are changed between its layers.

    Args:
        network: whose features they are.
        edit: of (graph, stage, features, atoms of the rows).
    """

    def __init__(self, network: EquivariantNetwork, edit: GraphEdit) -> None:
        super().__init__()
        self.network, self.edit = network, edit
        self.cutoff, self.hops, self.invariant = network.cutoff, network.hops, network.invariant
        self.inputs, self.properties = network.inputs, network.properties

    def to_config(self) -> dict[str, Any]:
        """Return the settings of the network itself."""
        return self.network.to_config()

    def forward(self, graph: Graph, edge_vectors: Tensor) -> Outputs:
        """As the network does, with other features."""
        return self.network(graph, edge_vectors, partial(self.edit, graph))


@dataclass(frozen=True)
class Zeroed:
    """Set the features of one irrep of one stage to zero."""

    stage: str
    irrep: Irrep

    def __call__(self, graph: Graph, stage: str, features: Features, atoms: Tensor) -> Features:
        """Features of all other irreps as they are."""
        if stage != self.stage or self.irrep not in features:
            return features
        return {**features, self.irrep: torch.zeros_like(features[self.irrep])}


@dataclass(frozen=True)
class Shuffled:
    """Deal the features of one irrep of one stage out anew, among the atoms of each species."""

    stage: str
    irrep: Irrep
    seed: int = 0

    def __call__(self, graph: Graph, stage: str, features: Features, atoms: Tensor) -> Features:
        """Features of all other irreps as they are; the same order for the same graph."""
        if stage != self.stage or self.irrep not in features:
            return features
        species = graph.species[atoms].cpu()
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.arange(len(species))
        for kind in species.unique():
            (places,) = torch.nonzero(species == kind, as_tuple=True)
            order[places] = places[torch.randperm(len(places), generator=generator)]
        value = features[self.irrep]
        return {**features, self.irrep: value.index_select(0, order.to(value.device))}


@dataclass(frozen=True)
class Statistics:
    """What the features of one irrep of one stage weigh; see the module. Shares add up to 1."""

    stage: str
    irrep: Irrep
    channels: int
    norm: float
    share: float
    variance: float
    gradient: float


def statistics(potential: Potential, graphs: Iterable[Graph]) -> list[Statistics]:
    """Measure the features of batches, stage by stage.

    Raises:
        ValueError: the potential has no equivariant network.
    """
    network = equivariant(potential)
    batches = list(graphs)
    means = _species_means(network, batches)
    sums: dict[tuple[str, Irrep], Tensor] = {}
    channels: dict[tuple[str, Irrep], int] = {}
    for graph in batches:
        for (stage, irrep), (x, slope, species) in _with_gradients(network, graph).items():
            spread = x - means[stage][species] if irrep == SCALAR else x
            change = slope.norm(dim=1) * spread.norm(dim=1)
            size = x.new_tensor(float(x.numel()))
            found = [x.square().sum(), spread.square().sum(), change.sum(), size]
            channels[stage, irrep] = x.shape[-1]
            sums[stage, irrep] = sums.get((stage, irrep), 0.0) + torch.stack(found)
    totals: dict[str, Tensor] = {}
    for (stage, _), value in sums.items():
        totals[stage] = totals.get(stage, 0.0) + value
    results = []
    for (stage, irrep), value in sums.items():
        norm = float((value[0] / value[3]).sqrt())
        shares = value / totals[stage].clamp(min=torch.finfo(torch.float64).tiny)
        share, variance, gradient, _ = shares.tolist()
        place = stage, irrep
        results.append(Statistics(*place, channels[place], norm, share, variance, gradient))
    return results


def embeddings(potential: Potential, graph: Graph) -> dict[tuple[str, Irrep], Tensor]:
    """Means (B, channels) over the atoms of each structure, of what is invariant in features.

    Of scalars their values, of all else the norms over components.
    """
    found: dict[tuple[str, Irrep], Tensor] = {}

    def keep(stage: str, features: Features, atoms: Tensor) -> Features:
        owner = graph.structure[atoms]
        counts = torch.bincount(owner, minlength=graph.num_structures)[:, None]
        for irrep, value in features.items():
            invariant = value[:, 0] if irrep == SCALAR else value.norm(dim=1)
            total = invariant.new_zeros(graph.num_structures, invariant.shape[-1])
            found[stage, irrep] = (total.index_add(0, owner, invariant) / counts).to(torch.float64)
        return features

    with torch.no_grad():
        equivariant(potential)(graph, graph.edge_vectors(), keep)
    return found


def edited(potential: Potential, edit: GraphEdit) -> Potential:
    """A potential like this one, of shared weights, whose features are edited."""
    network = equivariant(potential)
    other = Potential(Edited(network, edit), repulsion=potential.zbl is not None)
    for name, buffer in potential.named_buffers(recurse=False):
        other.register_buffer(name, buffer)
    if potential.zbl is not None:
        other.zbl = potential.zbl
    return other


def pruned(config: EquivariantConfig, unused: set[tuple[str, Irrep]]) -> EquivariantConfig:
    """The configuration without the irreps that are unused in every stage that has them.

    Args:
        config: of the network.
        unused: stages and irreps that it can do without.
    """
    spare = {
        irrep
        for irrep in config.hidden
        if irrep != SCALAR
        and all((stage, irrep) in unused for stage in _stages(config, irrep, "layer"))
    }
    kept = Irreps({irrep: n for irrep, n in config.hidden.items() if irrep not in spare})
    lmax = min(config.lmax, 2 * kept.lmax)  # no product of these has harmonics of a higher degree
    if isinstance(config, MACEConfig):
        lmax = config.lmax
        while lmax > kept.lmax and all(
            (stage, Irrep.harmonic(lmax)) in unused
            for stage in _stages(config, Irrep.harmonic(lmax), MESSAGES)
        ):
            lmax -= 1
    return replace(config, irreps=str(kept), lmax=lmax)


def equivariant(potential: Potential) -> EquivariantNetwork:
    """The network of a potential; raises ValueError if it has no irreps."""
    if not isinstance(potential.network, EquivariantNetwork):
        raise ValueError(
            f"a {type(potential.network).__name__} has no irreps; take a model whose architecture "
            "is convolution, nequip or mace."
        )
    return potential.network


def _stages(config: EquivariantConfig, irrep: Irrep, kind: str) -> list[str]:
    """Stages of a kind that have an irrep; all messages have all."""
    shapes = config.layers()[1:]
    return [
        f"{kind} {k}"
        for k, shape in enumerate(shapes, start=1)
        if kind == MESSAGES or irrep in shape
    ]


def _with_gradients(
    network: EquivariantNetwork, graph: Graph
) -> dict[tuple[str, Irrep], tuple[Tensor, Tensor, Tensor]]:
    """Features (N, 2l + 1, n), what the output grows by with each, and atomic numbers (N,)."""
    seen: dict[tuple[str, Irrep], Tensor] = {}
    species: dict[tuple[str, Irrep], Tensor] = {}

    def keep(stage: str, features: Features, atoms: Tensor) -> Features:
        for irrep, value in features.items():
            seen[stage, irrep], species[stage, irrep] = value, graph.species[atoms]
        return features

    with torch.enable_grad():
        vectors = graph.edge_vectors().detach().requires_grad_()  # so that features have gradients
        outputs = network(graph, vectors, keep)
        sums = [x.sum() if name == "energy" else x.square().sum() for name, x in outputs.items()]
        gradients = torch.autograd.grad(
            torch.stack(sums).sum(), list(seen.values()), allow_unused=True
        )
    return {
        place: (
            x.detach().to(torch.float64),
            torch.zeros_like(x, dtype=torch.float64) if slope is None else slope.to(torch.float64),
            species[place],
        )
        for (place, x), slope in zip(seen.items(), gradients, strict=True)
    }


def _species_means(network: EquivariantNetwork, graphs: list[Graph]) -> dict[str, Tensor]:
    """Mean scalars (119, 1, n) of the atoms of each species, by stage."""
    sums: dict[str, Tensor] = {}
    counts = torch.zeros(119, device=network.species_index.device)

    def keep(graph: Graph, stage: str, features: Features, atoms: Tensor) -> Features:
        if SCALAR not in features:  # the last layer of a network that predicts dipoles
            return features
        value = features[SCALAR].to(torch.float64)
        total = value.new_zeros(119, *value.shape[1:]).index_add(0, graph.species[atoms], value)
        sums[stage] = sums[stage] + total if stage in sums else total
        return features

    with torch.no_grad():
        for graph in graphs:
            counts = counts + torch.bincount(graph.species, minlength=119)
            network(graph, graph.edge_vectors(), partial(keep, graph))
    return {stage: total / counts.clamp(min=1)[:, None, None] for stage, total in sums.items()}
