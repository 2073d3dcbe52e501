"""The transformer of PET: attention over a neighbourhood, weighted by the smooth cutoff."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import PETConfig
from .norm import RMSNorm

# Weight that a neighbour at the cutoff keeps in the softmax (metatrain's value), so that the
# logarithm and its derivatives stay finite; padding has exactly none.
SMALLEST_WEIGHT = 1e-15


def neighborhood_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float
) -> Tensor:
    """Attention of (n, H, T, d/H) tokens with additive logits ``bias`` (n, 1, 1, T).

    Forces need the derivative of attention, and training its second derivative, which fused
    kernels do not have; they serve where no gradient is asked for.
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value, bias)):
        logits = torch.matmul(query * scale, key.transpose(-2, -1)) + bias
        return torch.matmul(torch.softmax(logits, dim=-1), value)
    mask = bias.expand(-1, -1, query.shape[-2], -1)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)


class Attention(nn.Module):
    r"""Multi-head self-attention with weights :math:`A_{ij} \propto f_j \exp(q_i k_j / \sqrt{d})`.

    The factors :math:`f_j` (1 for the centre, the cutoff function for a neighbour) enter as
    :math:`\log f_j`, so that a neighbour at the cutoff has no influence (PET, eq. of section 3).
    """

    def __init__(self, width: int, num_heads: int, temperature: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = 1 / (math.sqrt(width / num_heads) * temperature)
        self.input_linear = nn.Linear(width, 3 * width)
        self.output_linear = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.input_linear.weight)
        nn.init.zeros_(self.input_linear.bias)
        nn.init.zeros_(self.output_linear.bias)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """Mix tokens (n, T, d) with logarithmic weights ``bias`` (n, 1, 1, T)."""
        n, num_tokens, width = tokens.shape
        heads = self.input_linear(tokens).view(n, num_tokens, 3, self.num_heads, -1)
        # Unbound in memory's order: gradients are then put together in one sweep.
        query, key, value = (part.transpose(1, 2) for part in heads.unbind(2))
        mixed = neighborhood_attention(query, key, value, bias, self.scale)
        return self.output_linear(mixed.transpose(1, 2).reshape(n, num_tokens, width))


class FeedForward(nn.Module):
    """Two linear layers around SiLU, or around value × sigmoid(gate) ("swiglu")."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.gated = activation == "swiglu"
        self.w_in = nn.Linear(width, 2 * hidden if self.gated else hidden)
        self.w_out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        x = self.w_in(x)
        if not self.gated:
            return self.w_out(F.silu(x))
        if not (self.training or self.w_in.weight.requires_grad):
            return self.w_out(F.glu(x))
        # The same function; F.glu's second derivative, which trainings need, takes twice as long.
        value, gate = x.chunk(2, dim=-1)
        return self.w_out(value * torch.sigmoid(gate))


class TransformerLayer(nn.Module):
    """Attention, then an MLP, on the node (token 0) and the edges of every neighbourhood.

    Where node features are wider than edge tokens, the node keeps its own residual stream and MLP,
    and enters attention through a contraction. Otherwise the node is token 0 itself; before a
    "preln" residual it is then the attention's output alone (as metatrain has it).
    """

    def __init__(self, config: PETConfig) -> None:
        super().__init__()
        width, node_width = config.d_pet, config.node_width
        self.pre_norm = config.transformer_type == "preln"
        self.expanded = node_width != width
        self.attention = Attention(width, config.num_heads, config.attention_temperature)
        self.norm_attention = _norm(config, width)
        self.norm_mlp = _norm(config, width)
        self.mlp = FeedForward(width, config.d_feedforward, config.activation)
        if self.expanded:
            self.center_contraction = nn.Linear(node_width, width)
            self.center_expansion = nn.Linear(width, node_width)
            self.norm_center_features = _norm(config, node_width)
            self.center_mlp = FeedForward(node_width, 2 * node_width, config.activation)

    def forward(self, node: Tensor, edges: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Update nodes (n, d_node) and padded edges (n, M, d_pet)."""
        center = self.center_contraction(node) if self.expanded else node
        tokens = torch.cat([center[:, None], edges], dim=1)
        if self.pre_norm:
            center, mixed = _apart(self.attention(self.norm_attention(tokens), bias))
            edges = edges + mixed
            edges = edges + self.mlp(self.norm_mlp(edges))
        else:
            tokens = self.norm_attention(tokens + self.attention(tokens, bias))
            center, edges = _apart(self.norm_mlp(tokens + self.mlp(tokens)))
        if not self.expanded:
            return center, edges
        node = node + self.center_expansion(center)
        return node + self.center_mlp(self.norm_center_features(node)), edges


def attention_bias(factors: Tensor, mask: Tensor) -> Tensor:
    """Logarithmic attention weights (n, 1, 1, 1+M) of cutoff factors (n, M); padding gets -inf."""
    weights = factors.clamp(min=SMALLEST_WEIGHT).log().masked_fill(~mask, -math.inf)
    return F.pad(weights, (1, 0))[:, None, None, :]


def _apart(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Token 0 (n, d), and the others; the gradients of a split are joined without zeros."""
    center, edges = tokens.split([1, tokens.shape[1] - 1], dim=1)
    return center.squeeze(1), edges


def _norm(config: PETConfig, width: int) -> nn.Module:
    return RMSNorm(width) if config.normalization == "rmsnorm" else nn.LayerNorm(width)
