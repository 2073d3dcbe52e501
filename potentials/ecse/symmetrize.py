"""Symmetrised copies of a potential, by the names that calculators and commands take."""

from __future__ import annotations

import copy

from ..graph import Graph
from ..potential import Potential
from ..suggestions import did_you_mean
from .averages import RotationAverage, lebedev_rotations, octahedral_group
from .model import ECSE

NAMES = ("ecse", "ecse-structure", "octahedral", "lebedev:3")


def symmetrized(potential: Potential, name: str) -> Potential:
    """Return a potential whose network is averaged; weights are shared, nothing is copied.

    Args:
        potential: with an auxiliary network, if environments without frames are to be met.
        name: "ecse": exact, over frames of every atom's environment; "ecse-structure": exact, over
            the frames of all atoms together, cheaper for a small molecule, not extensive;
            "octahedral" and "lebedev:N": averages over fixed rotations, approximate.

    Raises:
        ValueError: an unknown name, or a network that is invariant already.
    """
    result = copy.copy(potential)
    result._modules = dict(potential._modules)
    result.network = _network(potential, name)
    return result


def relative_cost(potential: Potential, graph: Graph) -> float:
    """How many evaluations of the plain network one of the potential takes, counted by edges."""
    network = potential.network
    if isinstance(network, RotationAverage):
        return float(len(network.weights))
    if isinstance(network, ECSE):
        return network.edges_evaluated(graph, graph.edge_vectors()) / max(graph.num_edges, 1)
    return 1.0


def _network(potential: Potential, name: str) -> ECSE | RotationAverage:
    backbone = potential.network
    if name == "ecse":
        return ECSE(backbone, "atom", auxiliary=potential.auxiliary)
    if name == "ecse-structure":
        return ECSE(backbone, "structure", auxiliary=potential.auxiliary)
    if name == "octahedral":
        return RotationAverage(backbone, *octahedral_group())
    kind, _, order = name.partition(":")
    if kind == "lebedev" and order.isdigit():
        return RotationAverage(backbone, *lebedev_rotations(int(order)))
    raise ValueError(f"unknown symmetrize {name!r}; {did_you_mean(name, NAMES)}")
