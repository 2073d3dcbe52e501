r"""ECSE: a network made exactly invariant by averaging over frames of the atoms (arXiv 2305.19302).

.. math:: E_i = \frac{\sum_f w_f\, e_i(F_f^{-1} A) + w_\mathrm{aux}\, e_i^\mathrm{aux}(A)}
                     {\sum_f w_f + w_\mathrm{aux}}

where :math:`e_i(F_f^{-1} A)` is the backbone's energy of atom i in the coordinates of frame f;
vectors and tensors that it predicts are turned back by the frame, :math:`F_f v_i`. The
sums run over the frames of atom i (scope "atom": local and extensive; the backbone sees the atom's
receptive field) or of all atoms of its structure (scope "structure", as in the research code). The
backbone is any :class:`Network`: all that is turned are edge vectors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..counting import count
from ..graph import Graph
from ..outputs import RANKS, Outputs, along, invariant_part, to_laboratory
from ..suggestions import refuse_misspelt
from .averages import ALREADY_INVARIANT
from .environments import Frames
from .fields import copies, receptive_fields, structure_fields
from .frames import FrameSettings, make_frames
from .scores import ScoreSettings

Scope = Literal["atom", "structure"]
CHUNK_EDGES = {"cpu": 2**16, "cuda": 2**21}  # edges that the backbone sees at once


class MissingAuxiliaryError(ValueError):
    """An environment without frames met a symmetrised network that has no auxiliary one."""


class ECSE(nn.Module):
    """A network that averages a backbone over frames; itself a :class:`Network`.

    Args:
        backbone: what is to be symmetrised.
        scope: "atom" or "structure".
        frames: parameters of frames and weights; default: graded scores.
        auxiliary: an invariant network for environments with no frame, or with poor ones. Its
            outputs are shifted so that an atom without neighbours has the backbone's energy.

    Raises:
        ValueError: an unknown scope, or a backbone that is invariant already.
    """

    def __init__(
        self,
        backbone: Any,
        scope: Scope = "atom",
        frames: FrameSettings | None = None,
        auxiliary: Any | None = None,
    ) -> None:
        super().__init__()
        if backbone.invariant:
            raise ValueError(ALREADY_INVARIANT)
        refuse_misspelt("scope", scope, get_args(Scope))
        if isinstance(frames, ScoreSettings) and frames.preference_species > 0:
            raise ValueError(
                "preference_species is for symmetric layers, which know their species; an average "
                "over frames of a whole network takes frames without it."
            )
        self.backbone, self.auxiliary = backbone, auxiliary
        self.scope, self.frames = scope, frames or ScoreSettings()
        self.cutoff = max(backbone.cutoff, auxiliary.cutoff if auxiliary is not None else 0.0)
        self.hops: int = backbone.hops
        self.invariant = self.frames.parity == "O3"
        self.inputs: tuple[str, ...] = backbone.inputs
        self.properties: tuple[str, ...] = backbone.properties

    def to_config(self) -> dict[str, Any]:
        """Return the settings of the backbone."""
        return self.backbone.to_config()

    def forward(self, graph: Graph, edge_vectors: Tensor) -> Outputs:
        """Properties of atoms in float64, from edge vectors (E, 3) in Å.

        Raises:
            MissingAuxiliaryError: some atom needs the auxiliary network, and there is none.
        """
        everything, edge_vectors = graph, edge_vectors.to(torch.float64)
        graph, vectors = within(everything, edge_vectors, self.backbone.cutoff)
        group = self._group(graph)
        frames = self._frames(graph, vectors)
        numerators = self._average(graph, vectors, frames)
        weight = torch.zeros_like(frames.auxiliary).index_add(
            0, group[frames.atoms], frames.weights
        )
        share, weight = frames.auxiliary[group], weight[group]
        if graph.owned is not None:  # the others have no frames
            share = torch.where(graph.owned, share, 0.0)
            weight = torch.where(graph.owned, weight, 1.0)
        if bool((share > 0).any()):
            self._require_auxiliary(share)
            for name, value in self.auxiliary_properties(everything, edge_vectors).items():
                numerators[name] = numerators[name] + along(share, value)
            weight = weight + share
        return {name: along(1 / weight, value) for name, value in numerators.items()}

    def edges_evaluated(self, graph: Graph, edge_vectors: Tensor) -> int:
        """How many edges the backbone would see, about; what an evaluation costs."""
        graph, vectors = within(graph, edge_vectors.to(torch.float64), self.backbone.cutoff)
        return int(self.field_sizes(graph)[self._frames(graph, vectors).atoms].sum())

    def _group(self, graph: Graph) -> Tensor:
        """What an atom's frames are averaged with (N,): itself, or its structure."""
        if self.scope == "structure":
            return graph.structure
        return torch.arange(graph.num_atoms, device=graph.structure.device)

    def _frames(self, graph: Graph, vectors: Tensor) -> Frames:
        """Frames of the atoms whose properties are asked for."""
        centers = graph.centers
        if graph.owned is not None:
            (kept,) = torch.nonzero(graph.owned[centers], as_tuple=True)
            vectors, centers = vectors.index_select(0, kept), centers[kept]
        return make_frames(
            vectors,
            centers,
            graph.num_atoms,
            self.backbone.cutoff,
            self.frames,
            group=self._group(graph),
            num_groups=graph.num_structures if self.scope == "structure" else graph.num_atoms,
        )

    def _average(self, graph: Graph, vectors: Tensor, frames: Frames) -> Outputs:
        """Weighted sums (N, ...) of the backbone's properties over frames, in chunks."""
        numerators = {
            name: vectors.new_zeros(graph.num_atoms, *[3] * RANKS[name]) for name in self.properties
        }
        counts = self._chunks(graph, frames)
        parts = (x.split(counts) for x in (frames.matrices, frames.weights, frames.atoms))
        for part in zip(*parts, strict=True):
            arguments = (graph, vectors, *part)
            if len(counts) > 1 and torch.is_grad_enabled() and vectors.requires_grad:
                sums = checkpoint(
                    self._sum, *arguments, use_reentrant=False, preserve_rng_state=False
                )
            else:
                sums = self._sum(*arguments)
            numerators = {name: value + sums[name] for name, value in numerators.items()}
        return numerators

    def _sum(
        self, graph: Graph, vectors: Tensor, matrices: Tensor, weights: Tensor, atoms: Tensor
    ) -> Outputs:
        """The contribution (N, ...) of some frames to the numerators."""
        if self.scope == "structure":
            copied, members = copies(graph, structure_fields(graph), graph.structure[atoms])
            chosen = torch.arange(len(members.atoms), device=atoms.device)
        else:
            owners, field = torch.unique(atoms, return_inverse=True)
            copied, members = copies(graph, receptive_fields(graph, owners, self.hops), field)
            (chosen,) = torch.nonzero(members.atoms == atoms[members.atom_field], as_tuple=True)
        turned = copied.rotated(matrices.detach().to(copied.positions.dtype))
        local = torch.einsum(
            "ex,exy->ey",
            vectors.index_select(0, members.edges),
            matrices.index_select(0, members.edge_field),
        )
        frame, atoms = members.atom_field[chosen], members.atoms[chosen]
        sums = {}
        for name, value in self.backbone(turned, local).items():
            local_value = value[chosen].to(torch.float64)
            terms = along(weights[frame], to_laboratory(local_value, RANKS[name], matrices[frame]))
            zeros = vectors.new_zeros(graph.num_atoms, *terms.shape[1:])
            sums[name] = zeros.index_add(0, atoms, terms)
        return sums

    def _chunks(self, graph: Graph, frames: Frames) -> list[int]:
        """How many consecutive frames have fields of CHUNK_EDGES edges, at most or alone."""
        limit = CHUNK_EDGES.get(frames.weights.device.type, CHUNK_EDGES["cuda"])
        ends = torch.cumsum(self.field_sizes(graph)[frames.atoms], 0).cpu()
        counts, start = [], 0
        while start < len(ends):
            used = int(ends[start - 1]) if start else 0
            stop = max(int(torch.searchsorted(ends, used + limit, right=True)), start + 1)
            counts.append(stop - start)
            start = stop
        return counts

    def field_sizes(self, graph: Graph) -> Tensor:
        """Upper bounds (N,) on the number of edges in the field of each atom."""
        if self.scope == "structure":
            edges = count(graph.structure[graph.centers], graph.num_structures)
            return edges[graph.structure]
        counts = count(graph.centers, graph.num_atoms)
        sizes = counts
        for _ in range(self.hops - 1):
            sizes = counts + torch.zeros_like(counts).index_add(
                0, graph.centers, sizes[graph.neighbors]
            )
        return (2 * sizes).clamp(max=graph.num_edges)

    def _require_auxiliary(self, weights: Tensor) -> None:
        if self.auxiliary is None:
            atom = int(torch.nonzero(weights > 0)[0])
            raise MissingAuxiliaryError(
                f"the environment of atom {atom} is empty, collinear or nearly so (auxiliary "
                f"weight {float(weights.detach()[atom]):.3g}), and the model has no auxiliary "
                "network for such; give it one with `pointedge distill-auxiliary`."
            )

    def auxiliary_properties(self, graph: Graph, edge_vectors: Tensor) -> Outputs:
        """Properties of atoms by the auxiliary network, with the backbone's for isolated atoms."""
        assert self.auxiliary is not None
        isolated, none = within(graph, edge_vectors, 0.0)
        alone, auxiliary_alone = self.backbone(isolated, none), self.auxiliary(isolated, none)
        outputs = self.auxiliary(graph, edge_vectors)
        return {
            name: (
                outputs[name] + invariant_part(alone[name] - auxiliary_alone[name], RANKS[name])
            ).to(torch.float64)
            for name in self.properties
        }


def within(graph: Graph, vectors: Tensor, cutoff: float) -> tuple[Graph, Tensor]:
    """The graph and its edge vectors (E, 3) with only the edges shorter than the cutoff."""
    (kept,) = torch.nonzero(vectors.detach().square().sum(-1) < cutoff**2, as_tuple=True)
    if len(kept) == graph.num_edges:
        return graph, vectors
    return replace(
        graph,
        centers=graph.centers[kept],
        neighbors=graph.neighbors[kept],
        shifts=graph.shifts[kept],
    ), vectors.index_select(0, kept)
