"""PET: messages on the edges of a graph, refined by transformers over each atom's neighbourhood.

One implementation covers the model of the paper (arXiv 2305.19302: ``featurizer="residual"``,
``transformer_type="postln"``, ``activation="silu"``) and the production one of metatrain 2026.4
(``featurizer="feedforward"``, ``"preln"``, ``"rmsnorm"``, ``"swiglu"``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..cutoff import cutoff_function
from ..ecse.environments import Frames
from ..ecse.frames import make_frames
from ..graph import Graph
from ..layout import Chunk, Layout
from ..outputs import Outputs
from ..species import species_index
from .adaptive import adaptive_cutoffs
from .conditioning import SpinConditioning, SystemConditioning
from .config import PETConfig
from .heads import CovariantHead, mlp
from .layer import GNNLayer
from .neighborhoods import Atoms, Edges, edge_geometry, edge_length
from .views import Views, framed

# Values in the tokens of a chunk. On a CPU smaller chunks pad less and stay in cache, larger ones
# call fewer kernels: 2**18 beat 2**16 and 2**17, and was level with 2**30. A GPU wants them large.
CHUNK_VALUES = {"cpu": 2**18, "cuda": 2**26}
# Above this many values in all edge tokens (2 GB of activations or so) those of a chunk are
# recomputed in the backward pass, which costs a quarter more time.
RECOMPUTE_ABOVE = 2**23

Readout = Callable[[int, Tensor, Tensor, Edges], Outputs]  # of a layer's number, nodes and messages


class PET(nn.Module):
    """Energies of atoms from messages on edges.

    Symbols of the shapes below: N atoms, E edges within the cutoff; in a chunk, n atoms, e edges,
    M slots per atom.
    """

    CONFIG = PETConfig
    HEADS = ("node_heads", "edge_heads", "covariant_heads")
    LAYERS = ("gnn_layers", "combination_norms", "combination_mlps")
    species_index: Tensor

    def __init__(self, config: PETConfig) -> None:
        super().__init__()
        self.config = config
        self.cutoff = config.cutoff
        # The production featuriser mixes in the reverse messages of the last layer too, and the
        # adaptive cutoff of a pair counts the neighbours of both atoms.
        self.hops = (
            config.num_gnn_layers
            + (config.featurizer == "feedforward")
            + (config.num_neighbors_adaptive is not None)
        )
        self.invariant = config.edge_input == "length" or (
            config.symmetry == "layers" and config.frames.parity == "O3"
        )
        self.inputs: tuple[str, ...] = (
            *(("charge", "spin") if config.system_conditioning else ()),
            *(("magmoms",) if config.typical_moment is not None else ()),
        )
        self.properties = config.properties
        self.smooth = cutoff_function(config.cutoff_function)
        residual = config.featurizer == "residual"
        num_species, layers = len(config.species), config.num_gnn_layers
        readouts = layers if residual else 1
        d, d_node = config.d_pet, config.node_width

        self.register_buffer("species_index", species_index(config.species), persistent=False)
        self.edge_embedder = nn.Embedding(num_species, d)
        self.node_embedders = nn.ModuleList(
            nn.Embedding(num_species, d_node) for _ in range(readouts)
        )
        self.gnn_layers = nn.ModuleList(GNNLayer(config, first=k == 0) for k in range(layers))
        if not residual:
            self.combination_norms = nn.ModuleList(nn.LayerNorm(2 * d) for _ in range(layers))
            self.combination_mlps = nn.ModuleList(
                nn.Sequential(nn.Linear(2 * d, 2 * d), nn.SiLU(), nn.Linear(2 * d, d))
                for _ in range(layers)
            )
        if "energy" in config.properties:
            self.node_heads = nn.ModuleList(mlp(d_node, config.d_head) for _ in range(readouts))
            self.edge_heads = nn.ModuleList(mlp(d, config.d_head) for _ in range(readouts))
        self.covariant_heads = nn.ModuleDict(
            {
                name: nn.ModuleList(CovariantHead(config, name) for _ in range(readouts))
                for name in config.properties
                if name != "energy"
            }
        )
        if config.system_conditioning:
            self.system_conditioning = SystemConditioning(config)
        if config.typical_moment is not None:
            self.spin_conditioning = SpinConditioning(config)

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> PET:
        """Build from a plain dictionary of :class:`PETConfig` settings."""
        return cls(PETConfig.from_dict(values))

    def to_config(self) -> dict[str, Any]:
        """Return the settings as a plain dictionary."""
        return asdict(self.config)

    def forward(self, graph: Graph, edge_vectors: Tensor) -> Outputs:
        """Properties of atoms in the network's units, from edge vectors (E, 3) in Å.

        Energies (N,), dipoles (N, 3), polarizabilities (N, 3, 3). The list may reach beyond the
        cutoff; positions enter through ``edge_vectors`` only.
        """
        return self._run(graph, edge_vectors, self._readout)

    def last_layer_features(self, graph: Graph, edge_vectors: Tensor) -> Tensor:
        """What an atom's energy is linear in (N, F): inputs of the last layers of its heads.

        The node's, and the sum of its edges' weighted by the cutoff, for each readout.
        """
        return self._run(graph, edge_vectors, self._features)["features"]

    def _run(self, graph: Graph, edge_vectors: Tensor, readout: Readout) -> Outputs:
        """What a readout says of atoms, in their own order."""
        edges = self._edges(graph, edge_vectors)
        layout = edges.layout
        atoms = Atoms(
            species=self.species_index[graph.species][layout.atom_order],
            condition=self._condition(graph, layout.atom_order),
            spins=self._spins(graph, layout),
        )
        residual = self.config.featurizer == "residual"
        outputs = (self._residual if residual else self._feedforward)(atoms, edges, readout)
        return {
            name: torch.empty_like(value).index_copy(0, layout.atom_order, value)
            for name, value in outputs.items()
        }

    def _feedforward(self, atoms: Atoms, edges: Edges, readout: Readout) -> Outputs:
        """The production featuriser: nodes and messages run through all layers, one readout."""
        node, message = self._nodes(0, atoms), self._messages(atoms, edges)
        for k, layer in enumerate(self.gnn_layers):
            node, output = edges.see(layer, (node,), (message,))
            if atoms.condition is not None:
                node = node + atoms.condition
            reverse = output.index_select(0, edges.layout.reverse)

            def combine(
                chunk: Chunk, message: Tensor, output: Tensor, reverse: Tensor, k: int = k
            ) -> tuple[Tensor]:
                both = self.combination_norms[k](torch.cat([output, reverse], dim=-1))
                return (message + output + self.combination_mlps[k](both),)

            (message,) = edges.map(combine, (), (message, output, reverse))
        return readout(0, node, message, edges)

    def _residual(self, atoms: Atoms, edges: Edges, readout: Readout) -> Outputs:
        """The paper's featuriser: a fresh node and a readout in every layer."""
        message = self._messages(atoms, edges)
        outputs: Outputs = {}
        for k, layer in enumerate(self.gnn_layers):
            node, output = edges.see(layer, (self._nodes(k, atoms),), (message,))
            if atoms.condition is not None:
                node = node + atoms.condition
            for name, value in readout(k, node, output, edges).items():
                outputs[name] = outputs[name] + value if k else value
            message = 0.5 * (message + output.index_select(0, edges.layout.reverse))
        return outputs

    def _nodes(self, k: int, atoms: Atoms) -> Tensor:
        node = self.node_embedders[k](atoms.species)
        return node if atoms.spins is None else node + atoms.spins[0]

    def _messages(self, atoms: Atoms, edges: Edges) -> Tensor:
        message = self.edge_embedder(edges.species)
        return message if atoms.spins is None else message + atoms.spins[1]

    def _readout(self, k: int, node: Tensor, message: Tensor, edges: Edges) -> Outputs:
        """Properties of atoms: the node's own, and its edges' weighted by the cutoff."""
        outputs: Outputs = {}
        if "energy" in self.properties:

            def bonds(chunk: Chunk, message: Tensor, factor: Tensor) -> tuple[Tensor]:
                return (self.edge_heads[k](message)[:, 0] * factor,)

            (bond,) = edges.map(bonds, (), (message, edges.factor))
            own = self.node_heads[k](node)[:, 0].to(bond.dtype)
            outputs["energy"] = own.index_add(0, edges.layout.centers, bond)
        for name, heads in self.covariant_heads.items():
            head = cast("CovariantHead", cast("nn.ModuleList", heads)[k])

            def covariant(
                chunk: Chunk, *features: Tensor, head: CovariantHead = head
            ) -> tuple[Tensor]:
                return (head.of_edges(*features),)

            (bond,) = edges.map(covariant, (), (message, edges.factor, edges.directions))
            own = head.of_nodes(node).to(bond.dtype)
            outputs[name] = head.shaped(own.index_add(0, edges.layout.centers, bond))
        return outputs

    def _features(self, k: int, node: Tensor, message: Tensor, edges: Edges) -> Outputs:
        """Inputs of the last layers of readout k, and zeros for the others."""
        node_head, edge_head = (
            cast("nn.Sequential", heads[k])[:-1] for heads in (self.node_heads, self.edge_heads)
        )

        def bonds(chunk: Chunk, message: Tensor, factor: Tensor) -> tuple[Tensor]:
            return (edge_head(message) * factor[:, None],)

        (bond,) = edges.map(bonds, (), (message, edges.factor))
        own = node_head(node).to(bond.dtype)
        both = torch.stack(
            [own, torch.zeros_like(own).index_add(0, edges.layout.centers, bond)], dim=1
        )
        features = both.new_zeros(len(own), len(self.node_heads), *both.shape[1:])
        features[:, k] = both
        return {"features": features.flatten(1)}

    def _edges(self, graph: Graph, vectors: Tensor) -> Edges:
        """Lay out the edges within the (pair) cutoff, with their smooth factors."""
        config = self.config
        exact, vectors = vectors, vectors.to(self.edge_embedder.weight.dtype)
        length = edge_length(vectors)
        radius: Tensor | None = None
        if config.num_neighbors_adaptive is not None:
            radii = adaptive_cutoffs(config, graph.centers, length, graph.num_atoms)
            radius = 0.5 * (radii[graph.centers] + radii[graph.neighbors])
        keep = torch.nonzero(length < (self.cutoff if radius is None else radius))[:, 0]
        chunk_values = CHUNK_VALUES.get(vectors.device.type, CHUNK_VALUES["cuda"])
        chunk_tokens = max(1, chunk_values // config.d_pet)
        layout = Layout.build(
            graph.centers[keep],
            graph.neighbors[keep],
            graph.shifts[keep],
            graph.num_atoms,
            chunk_tokens=chunk_tokens,
        )
        keep = keep[layout.edge_order]
        vectors, length = vectors[keep], length[keep]
        factor = self.smooth(
            length, self.cutoff if radius is None else radius[keep], config.cutoff_width
        )
        species = self.species_index[graph.species[graph.neighbors[keep]]]
        if config.symmetry == "layers":
            frames = self._frames(graph, exact)
            views = framed(frames, layout, exact[keep], length, factor, species, chunk_tokens)
        else:
            geometry = edge_geometry(config.edge_input, vectors, length)
            views = Views(layout.chunks, geometry, factor, species)
        return Edges(
            layout=layout,
            factor=factor,
            species=species,
            directions=vectors / length[:, None],
            views=views,
            recompute=torch.is_grad_enabled()
            and views.geometry.shape[0] * config.d_pet > RECOMPUTE_ABOVE,
        )

    def _frames(self, graph: Graph, vectors: Tensor) -> Frames:
        """Frames of all environments, from float64 edge vectors (E, 3) that may reach farther."""
        (near,) = torch.nonzero(vectors.detach().square().sum(-1) < self.cutoff**2, as_tuple=True)
        species = self.species_index[graph.species[graph.neighbors[near]]]
        return make_frames(
            vectors.to(torch.float64).index_select(0, near),
            graph.centers[near],
            graph.num_atoms,
            self.cutoff,
            self.config.frames,
            species=species.to(torch.float64) / max(len(self.config.species) - 1, 1),
        )

    def _condition(self, graph: Graph, atom_order: Tensor) -> Tensor | None:
        if not self.config.system_conditioning:
            return None
        return self.system_conditioning(graph)[graph.structure[atom_order]]

    def _spins(self, graph: Graph, layout: Layout) -> tuple[Tensor, Tensor] | None:
        if self.config.typical_moment is None:
            return None
        return self.spin_conditioning(graph, layout)
