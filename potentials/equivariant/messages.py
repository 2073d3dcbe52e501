r"""Messages: sums over neighbours of features times spherical harmonics times radial functions.

With :math:`C` the 3j symbols of :mod:`.tables`, a convolution with harmonics :math:`Y` and radial
weights :math:`R` is, channel by channel ("uvu"),

.. math:: m_i^{(l_3)} = s \sum_j R_{path}(r_{ij}) \sqrt{2 l_3 + 1} \;
              C^{l_1 l_2 l_3} \, h_j^{(l_1)} \, Y^{(l_2)}(\hat r_{ij})

for every path (l1, l2) -> l3 that parity allows; paths to one irrep are laid side by side.
Harmonics are of the vector from the centre to its neighbour. The sum over neighbours comes first,
as a product of matrices for every atom, and the symbols act on atoms, of which there are fewer than
edges. Neighbourhoods are padded to equal size; the radial functions of padding are zero.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..graph import Graph
from ..layout import Chunk, Layout, map_chunks
from ..spins import pair_invariants
from .irreps import Features, Irrep, Irreps
from .linear import MLP, SILU
from .tables import Tables

# Values of products of features and radial functions in a chunk. On a CPU 2**20 and above were
# level, 2**18 took half as long again.
CHUNK_VALUES = {"cpu": 2**21, "cuda": 2**26}
# Above this many in all chunks (2 GB of activations or so) they are recomputed going backward.
RECOMPUTE_ABOVE = 2**27


@dataclass(frozen=True)
class Path:
    """One way from a feature to a message: (source, degree of the harmonics) -> target."""

    source: Irrep
    degree: int
    target: Irrep

    @property
    def degrees(self) -> tuple[int, int, int]:
        """(l1, l2, l3) of its symbol."""
        return self.source.l, self.degree, self.target.l


def paths(irreps: Iterable[Irrep], targets: Collection[Irrep], lmax: int) -> list[Path]:
    """Products of features with harmonics up to a degree that are among the targets."""
    return [
        Path(irrep, degree, target)
        for irrep in irreps
        for degree in range(lmax + 1)
        for target in irrep * Irrep.harmonic(degree)
        if target in targets
    ]


@dataclass(frozen=True)
class Edges:
    """Edges within the cutoff, in the S slots of padded neighbourhoods.

    Attributes:
        layout: of the atoms and edges; features are in its order of atoms.
        chunks: of the atoms, with their slots.
        neighbors: (S,) int64, renumbered atoms.
        basis: (S, B) radial basis under the envelope; zero in padding. With magnetic moments also
            the basis times m_i · m_j, times |m_i|² and times |m_j|².
        harmonics: (S, 2l + 1) of each degree.
        tables: with the coupling coefficients.
        recompute: run chunks again in the backward pass.
    """

    layout: Layout
    chunks: list[Chunk]
    neighbors: Tensor
    basis: Tensor
    harmonics: list[Tensor]
    tables: Tables
    recompute: bool

    @classmethod
    def build(
        cls,
        graph: Graph,
        edge_vectors: Tensor,
        basis: RadialBasis,
        tables: Tables,
        width: int,
        moments: Tensor | None = None,
    ) -> Edges:
        """Lay out the edges (E, 3) within the cutoff.

        Args:
            graph: whose list may reach beyond the cutoff.
            edge_vectors: (E, 3) in Å, in the network's type.
            basis: with the cutoff.
            tables: harmonics and symbols.
            width: values of an edge in the widest layer, see :attr:`Convolution.width`.
            moments: (N, 3) magnetic moments of atoms, scaled, or None.
        """
        lengths = edge_vectors.square().sum(-1).sqrt()
        (near,) = torch.nonzero(lengths < basis.cutoff, as_tuple=True)
        tokens = max(1, CHUNK_VALUES.get(edge_vectors.device.type, 2**26) // width)
        layout = Layout.build(
            graph.centers[near], graph.neighbors[near], graph.shifts[near], graph.num_atoms, tokens
        )
        taken = near[layout.edge_order[layout.slots]]
        vectors, lengths = edge_vectors.index_select(0, taken), lengths[taken]
        values = basis(lengths) * layout.mask[:, None]
        if moments is not None:
            pairs = pair_invariants(moments, graph.centers[taken], graph.neighbors[taken])
            values = torch.cat([values, *(values * x for x in pairs.split(1, dim=1))], dim=1)
        return cls(
            layout,
            layout.padded(),
            layout.neighbors[layout.slots],
            values,
            tables.harmonics(vectors / lengths[:, None]),
            tables,
            len(taken) * width > RECOMPUTE_ABOVE,
        )


class RadialBasis(nn.Module):
    """Bessel functions of a length under a polynomial envelope, sqrt(2 / r_c) sin(n π r / r_c) / r.

    The envelope is 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2) with x = r / r_c;
    value, slope and curvature vanish at the cutoff (Gasteiger et al., arXiv 2003.03123).
    """

    def __init__(self, cutoff: float, number: int, power: int) -> None:
        super().__init__()
        self.cutoff, self.number, self.power = cutoff, number, power

    def forward(self, lengths: Tensor) -> Tensor:
        """Of lengths (E,) in Å: (E, number), zero from the cutoff on."""
        n = torch.arange(1, self.number + 1, dtype=lengths.dtype, device=lengths.device)
        x = (lengths / self.cutoff)[:, None]
        scale = math.sqrt(2 / self.cutoff) * envelope(x, self.power) / lengths[:, None]
        return scale * torch.sin(math.pi * n * x)


def envelope(x: Tensor, p: int) -> Tensor:
    """Polynomial that falls from 1 at 0 to 0 at 1, and is 0 beyond."""
    value = 1 - 0.5 * (p + 1) * (p + 2) * x**p + p * (p + 2) * x ** (p + 1)
    value = value - 0.5 * p * (p + 1) * x ** (p + 2)
    return torch.where(x < 1, value, 0.0)


class Convolution(nn.Module):
    """Sums over neighbours of features times harmonics, channel by channel.

    Args:
        irreps_in: of the features.
        targets: irreps that the output may have.
        lmax: largest degree of the harmonics.
        hidden: number of radial functions of the basis, and hidden widths of the radial MLP.
        factor: on the sums, such as one over the typical number of neighbours.
        gain: of the radial MLP.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        targets: Sequence[Irrep],
        lmax: int,
        hidden: Sequence[int],
        factor: float,
        gain: float = SILU,
    ) -> None:
        super().__init__()
        self.irreps_in, self.factor = irreps_in, factor
        self.paths = paths(irreps_in, targets, lmax)
        multiplicities: dict[Irrep, int] = {}
        for path in self.paths:
            n = multiplicities.get(path.target, 0)
            multiplicities[path.target] = n + irreps_in[path.source]
        self.irreps_out = Irreps(multiplicities)
        self.radial = MLP([*hidden, sum(irreps_in[path.source] for path in self.paths)], gain)

    @property
    def width(self) -> int:
        """Values of one edge."""
        return sum(self.irreps_in[path.source] * path.source.dim for path in self.paths)

    def forward(self, features: Features, edges: Edges) -> Features:
        """Messages (N, 2l + 1, n) to atoms from the features (N, 2l + 1, n) of their neighbours."""
        sources = {path.source: None for path in self.paths}
        gathered = [features[irrep].index_select(0, edges.neighbors) for irrep in sources]
        flat = [edges.basis, *edges.harmonics, *(x.flatten(1) for x in gathered)]
        symbols = [
            (self.factor * math.sqrt(path.target.dim) * edges.tables.coupling(path.degrees))
            .to(edges.basis.dtype)
            .permute(2, 1, 0)
            .flatten(1)
            for path in self.paths
        ]

        def messages(chunk: Chunk, basis: Tensor, *slots: Tensor) -> tuple[Tensor, ...]:
            count = len(edges.harmonics)
            # transposed: products of matrices sum over the neighbours
            harmonics = [chunk.pad(y).transpose(1, 2) for y in slots[:count]]
            values = {
                irrep: chunk.pad(x).unflatten(-1, (irrep.dim, self.irreps_in[irrep]))
                for irrep, x in zip(sources, slots[count:], strict=True)
            }
            weights = chunk.pad(self.radial(basis)).unsqueeze(2)
            split = weights.split([self.irreps_in[path.source] for path in self.paths], dim=-1)
            parts: dict[Irrep, list[Tensor]] = {irrep: [] for irrep in self.irreps_out}
            for path, weight, symbol in zip(self.paths, split, symbols, strict=True):
                product = values[path.source] * weight
                moments = harmonics[path.degree] @ product.flatten(2)
                moments = moments.view(len(moments), symbol.shape[1], weight.shape[-1])
                parts[path.target].append(symbol @ moments)
            return tuple(torch.cat(found, dim=-1) for found in parts.values())

        results = map_chunks(edges.chunks, messages, (), tuple(flat), recompute=edges.recompute)
        return dict(zip(self.irreps_out, results, strict=True))
