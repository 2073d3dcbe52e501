"""ASE calculators: one adapter for every potential, and its named forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from ..potentials.graph import Graph
from ..potentials.neighbors.cells import volume
from ..potentials.potential import Potential
from .base import CheckedCalculator
from .graphs import Graphs
from .inputs import check_structure, warn_of_unread
from .loading import load_potential
from .settings import (
    FEATURES,
    OF_ENERGY,
    STANDARD_DEVIATIONS,
    has_features,
    knows_uncertainty,
    offered_properties,
    read_device,
    read_dtype,
    read_threshold,
    warn_of_uncertain,
)

VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))  # xx, yy, zz, yz, xz, xy
DERIVATIVES = frozenset({"forces", "stress"})
OF_FEATURES = frozenset({*STANDARD_DEVIATIONS, FEATURES})


class PotentialCalculator(CheckedCalculator):
    """Energy (eV), energies (N,) (eV), forces (N, 3) (eV/Å) and stress (6,) (eV/Å³) of a potential.

    Of one that predicts them, also dipole (3,) (e·Å) and polarizability (3, 3) (its labels' unit).
    Of one that knows how sure it is (``pointedge fit-uncertainty``), energy_std and energies_std
    (N,), standard deviations in eV, which cost a forward pass where they are asked for. So do
    last_layer_features (N, F) of PET and MACE, which energies are linear in, descriptors of atoms.

    Energies contain the species' baseline, and are summed in float64 whatever the network's type.
    The stress is the symmetric virial over the volume of the structure's own cell, in ASE's order
    and sign; where that spans none, there is none. Results follow every change, in place or not, of
    positions, cell, pbc, numbers and the potential's ``inputs`` (charge, spin in ``atoms.info``,
    magmoms). Bad input is refused before the model runs: :class:`.inputs.InputError`, a ValueError,
    and ASE's PropertyNotImplementedError for a stress without volume.

    Args:
        model: name of a packaged model, checkpoint file, or a potential, of which a copy is made.
        device: torch device; default: the CPU.
        dtype: "float32" or "float64" (or torch's types) for the network; default: its own.
        skin: neighbours are kept until an atom has moved by half of this, Å; 0: never.
        symmetrize: "ecse": exactly invariant under rotation and inversion, at the price of many
            evaluations; others: :func:`pointedge.potentials.ecse.symmetrize.symmetrized`.
        non_conservative: take forces and stress that a published model predicts as such: without a
            backward pass, and not the derivatives of the energy, which dynamics does not conserve
            then. Each structure's mean force is taken off.
        warn_above: warn of atoms whose energy has a larger standard deviation than this, eV.

    Raises:
        ValueError: a model, device, dtype or symmetrisation that does not exist.
    """

    implemented_properties = list(OF_ENERGY)  # noqa: RUF012 (the base class has it so)
    architecture: str | None = None  # what the model has to be; None: anything

    def __init__(
        self,
        model: str | Path | Potential,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        skin: float = 0.5,
        symmetrize: str | None = None,
        non_conservative: bool = False,
        warn_above: float | None = None,
    ) -> None:
        super().__init__()
        target = read_device(device)
        potential = load_potential(
            model, architecture=self.architecture, symmetrize=symmetrize, direct=non_conservative
        )
        potential.to(read_dtype(dtype, potential.dtype)).to(target)
        self.potential: Potential = potential.requires_grad_(False).eval()
        self._weights = [*potential.parameters(), *potential.buffers()]
        uncertain = knows_uncertainty(potential)
        self.non_conservative = non_conservative
        self.implemented_properties = offered_properties(
            potential.properties,
            uncertain=uncertain,
            features=has_features(potential),
            direct=non_conservative,
        )
        self.warn_above = read_threshold(warn_above, uncertain)
        self.inputs = potential.inputs
        self._graphs = Graphs([potential], skin)
        self.parameters.update(  # ASE writes these into trajectories and databases
            model=str(model) if isinstance(model, str | Path) else type(model).__name__,
            device=str(target),
            dtype=str(potential.dtype).removeprefix("torch."),
            skin=skin,
            **({"symmetrize": symmetrize} if symmetrize else {}),
            **({"non_conservative": True} if non_conservative else {}),
        )

    def evaluate(self, graph: Graph, properties: Sequence[str]) -> list[dict[str, Any]]:
        """Results of each structure of a graph, unchecked; nothing is remembered.

        The virial comes with the forces: another sum of the same gradient, it takes under 1 % of
        the time and spares constant pressure a second run. Energies alone go without the gradient,
        half of the time, for scans and Monte Carlo; dynamics, relaxations and NEB ask forces first.
        Features and what is made of them come alone where nothing else is asked for.
        """
        splits = np.cumsum(torch.bincount(graph.structure).cpu().numpy())[:-1]
        if properties and OF_FEATURES.issuperset(properties):
            results: list[dict[str, Any]] = [{} for _ in range(graph.num_structures)]
        else:
            results = self._predicted(graph, splits, properties)
        if not set(STANDARD_DEVIATIONS).isdisjoint(properties):
            of_energy, of_energies = self.potential.standard_deviations(graph)
            parts = np.split(of_energies.cpu().numpy(), splits)
            for result, std, part in zip(results, of_energy.tolist(), parts, strict=True):
                result.update(energy_std=std, energies_std=part.copy())
        if FEATURES in properties:
            features = self.potential.last_layer_features(graph).cpu().numpy()
            for result, part in zip(results, np.split(features, splits), strict=True):
                result[FEATURES] = part.copy()
        return results

    def _predicted(
        self, graph: Graph, splits: np.ndarray, properties: Sequence[str]
    ) -> list[dict[str, Any]]:
        """What the potential predicts, atoms parted at ``splits``."""
        derivatives = not (self.non_conservative or DERIVATIVES.isdisjoint(properties))
        prediction = self.potential(graph, forces=derivatives, virial=derivatives)
        results: list[dict[str, Any]] = [
            {name: value[k].cpu().numpy() for name, value in prediction.moments.items()}
            for k in range(graph.num_structures)
        ]
        if "energy" in self.potential.properties:
            energy = (prediction.energy + prediction.baseline).tolist()
            energies = (prediction.energies + prediction.atomic_baseline).cpu().numpy()
            for result, e, part in zip(results, energy, np.split(energies, splits), strict=True):
                result.update(energy=e, free_energy=e, energies=part.copy())
        if derivatives:
            forces = np.split(prediction.forces.cpu().numpy(), splits)
            virials, cells = prediction.virial.cpu().numpy(), graph.cell.cpu().numpy()
            for result, force, virial, cell in zip(results, forces, virials, cells, strict=True):
                result["forces"] = force.copy()
                if (size := volume(cell)) > 0:
                    result["stress"] = virial[VOIGT] / size
        elif self.non_conservative:
            forces = np.split(prediction.direct["forces"].cpu().numpy(), splits)
            stresses = prediction.direct.get("stress", torch.full_like(graph.cell, torch.nan))
            for result, force, stress in zip(results, forces, stresses.cpu().numpy(), strict=True):
                result["forces"] = force.copy()
                if np.isfinite(stress).all():
                    result["stress"] = stress[VOIGT]
        return results

    def _check(self, atoms: Atoms, properties: Sequence[str], where: str) -> None:
        check_structure(atoms, self.potential, properties, where)
        warn_of_unread(atoms, self.inputs)

    def _model(self) -> tuple[object, ...]:
        # Counters of changes in place, of tensors; those of another potential come with itself.
        versions = sum(tensor._version for tensor in self._weights)
        return self.potential, versions, self.non_conservative

    def _results(self, atoms: Atoms, properties: Sequence[str]) -> dict[str, Any]:
        graph = self._graphs.of(atoms)
        if self.warn_above is not None:
            properties = [*properties, *STANDARD_DEVIATIONS]
        (results,) = self.evaluate(graph, properties)
        warn_of_uncertain(results, self.warn_above, atoms)
        return results

    def _results_of_many(
        self, structures: Sequence[Atoms], properties: Sequence[str], max_edges: int
    ) -> list[dict[str, Any]]:
        batches = self._graphs.batches(structures, max_edges)
        return [result for graph in batches for result in self.evaluate(graph, properties)]


class PETCalculator(PotentialCalculator):
    """ASE calculator of a Point Edge Transformer; arguments: see :class:`PotentialCalculator`.

    ``atoms.calc = PETCalculator("best.safetensors", device="cuda", dtype="float64")``
    """

    architecture = "pet"


class ConvolutionCalculator(PotentialCalculator):
    """ASE calculator of an equivariant graph convolution; see :class:`PotentialCalculator`."""

    architecture = "convolution"


class NequIPNetCalculator(PotentialCalculator):
    """ASE calculator of this package's NequIP; see :class:`PotentialCalculator`.

    Not ``nequip``'s own, which is called NequIPCalculator.
    """

    architecture = "nequip"


class MACENetCalculator(PotentialCalculator):
    """ASE calculator of this package's MACE; see :class:`PotentialCalculator`.

    Not ``mace-torch``'s own, which is called MACECalculator.
    """

    architecture = "mace"
