"""One message-passing layer of PET: from the edges of a neighbourhood to what it tells them."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from ..layout import Chunk
from .config import PETConfig
from .transformer import TransformerLayer, attention_bias

# Initial slope of the units that see an edge vector, 1/Å.
GEOMETRY_SLOPE = 1.5
EDGE_INPUTS = {"vector+length": 4, "vector": 3, "length": 1}


class GNNLayer(nn.Module):
    """One message-passing layer: edge tokens from geometry, species and message; transformer."""

    def __init__(self, config: PETConfig, first: bool) -> None:
        super().__init__()
        d = config.d_pet
        blend = config.blend_neighbor_species and not first
        self.edge_embedder = nn.Linear(EDGE_INPUTS[config.edge_input], d)
        self.compress = nn.Sequential(
            nn.Linear((3 if blend else 2) * d, d), nn.SiLU(), nn.Linear(d, d)
        )
        self.neighbor_embedder = nn.Embedding(len(config.species), d) if blend else None
        self.layers = nn.ModuleList(
            TransformerLayer(config) for _ in range(config.num_attention_layers)
        )
        # With torch's initialisation 1 Å changes a unit of `compress` by 0.1, and SiLU is a
        # straight line over a bond's vibration: training then stalls for hundreds of steps.
        spread = GEOMETRY_SLOPE * math.sqrt(9 if blend else 6)
        nn.init.normal_(self.edge_embedder.weight, std=spread)
        nn.init.normal_(self.edge_embedder.bias, std=2 * spread)

    def forward(
        self,
        chunk: Chunk,
        node: Tensor,
        message: Tensor,
        geometry: Tensor,
        factor: Tensor,
        species: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Update a chunk's nodes (n, d_node) and return its edge outputs (e, d_pet)."""
        edges = chunk.pad(self._tokens(message, geometry, species))
        bias = attention_bias(chunk.pad(factor[:, None])[..., 0], chunk.mask)
        for layer in self.layers:
            node, edges = layer(node, edges, bias)
        return node, chunk.unpad(edges)

    def _tokens(self, message: Tensor, geometry: Tensor, species: Tensor) -> Tensor:
        """Edge tokens (e, d): compress([embedded geometry, (species,) message]).

        The first linear map of ``compress`` is applied to each part on its own, which spares the
        concatenation and shrinks the geometry's share to a (d, 4) matrix.
        """
        linear, activation, output = self.compress
        assert isinstance(linear, nn.Linear)
        parts = linear.weight.split(message.shape[-1], dim=1)
        weight = parts[0] @ self.edge_embedder.weight
        bias = linear.bias + parts[0] @ self.edge_embedder.bias
        x = F.linear(geometry, weight, bias) + F.linear(message, parts[-1])
        if self.neighbor_embedder is not None:
            x = x + F.linear(self.neighbor_embedder.weight, parts[1])[species]
        return output(activation(x))
