"""Batches of structures that move from call to call: tensors in, predictions out."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...potentials.graph import Graph
from ...potentials.neighbors import VerletList
from ...potentials.neighbors.checks import first
from ...potentials.potential import Potential, Prediction
from ..inputs import CLOSEST_DISTANCE, InputError, symbol


class MovingBatch:
    """Predictions for a batch whose atoms move little between calls, or which is another one.

    Neighbours are kept while no atom has moved by half the skin. What the atoms are and whether
    any are on top of each other is looked at whenever a list is built, when the host waits for the
    device in any case; after a refusal, at the next call again. Only stress with open axes needs a
    wait more, since a list does not tell what becomes of their cell vectors.

    Args:
        potential: without gradients of its weights, on the device of the batches.
        skin: Å; 0: a new list, and all checks, at every call.
    """

    def __init__(self, potential: Potential, skin: float = 0.5) -> None:
        self.potential = potential
        self._verlet = VerletList(potential.cutoff, skin=skin)
        self._checked = 0  # builds of the list when it was last found to be in order
        self._flat = 0  # first structure whose cell spans no volume
        self._open = True  # whether some axis of some structure is not periodic

    def predict(
        self,
        positions: Tensor,
        cell: Tensor,
        pbc: Tensor,
        structure: Tensor,
        species: Tensor,
        *,
        forces: bool = True,
        virial: bool = True,
        stress: bool = False,
        inputs: dict[str, Tensor] | None = None,
    ) -> Prediction:
        """Predict a batch; tensors as in :class:`Graph`, in float64.

        ``stress`` asks for the virial, and refuses structures without a volume; ``inputs`` are
        further tensors of the graph, by name.

        Raises:
            InputError: an element that the potential does not know, atoms on top of each other, or
                a cell without volume where stress is asked for; structures and atoms are counted
                from 0.
            ValueError: numbers that are not finite, periodic vectors that are dependent.
        """
        edges = self._verlet.update(positions, cell, pbc, structure, species)
        graph = Graph(positions, species, cell, pbc, structure, *edges)
        if self._verlet.builds != self._checked:
            self._flat, self._open = check_batch(graph, self.potential.species)
            self._checked = self._verlet.builds
        elif stress and self._open:  # cell vectors of open axes may change, and the list be kept
            self._flat = int(first(graph.volume() == 0))
        if stress and self._flat < graph.num_structures:
            raise InputError(
                f"structure {self._flat} has no stress, because its cell vectors span no volume; "
                "set a cell with three independent vectors, or do not ask for stress."
            )
        if inputs:
            graph = replace(graph, **inputs)
        return self.potential(graph, forces=forces, virial=virial or stress)


def check_batch(graph: Graph, known: tuple[int, ...]) -> tuple[int, bool]:
    """Refuse unknown elements and atoms on top of each other; the host waits once.

    Returns:
        The first structure whose cell vectors span no volume, or their number; whether some axis
        is open.
    """
    device = graph.positions.device
    unknown = ~torch.isin(graph.species, torch.tensor(known, device=device))
    close = torch.linalg.vector_norm(graph.edge_vectors(), dim=-1) < CLOSEST_DISTANCE
    found = [first(unknown), first(close), first(graph.volume() == 0), (~graph.pbc).sum()]
    atom, edge, empty, open_axes = torch.stack(found).tolist()
    if atom < graph.num_atoms:
        raise InputError(
            f"{_place(graph, atom)} is {symbol(int(graph.species[atom]))}, which the model does "
            f"not know; it knows {', '.join(map(symbol, known))}."
        )
    if edge < graph.num_edges:
        other = _place(graph, int(graph.neighbors[edge])).partition(": ")[2]
        raise InputError(
            f"{_place(graph, int(graph.centers[edge]))} and {other}, or an image of it, are closer "
            f"than {CLOSEST_DISTANCE} Å; remove duplicate atoms, or check cell and time step."
        )
    return int(empty), open_axes > 0


def _place(graph: Graph, atom: int) -> str:
    owner = int(graph.structure[atom])
    return f"structure {owner}: atom {atom - int((graph.structure < owner).sum())}"
