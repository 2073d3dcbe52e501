"""Ensembles: the mean of several models, and how far they are from agreeing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from ..potentials.graph import DEFAULT_INPUTS, Graph
from ..potentials.potential import Potential
from .ase import PotentialCalculator
from .base import CheckedCalculator
from .ensemble_files import SPREADS, find_ensemble, read_factors, read_weights
from .graphs import Graphs
from .inputs import bare, check_structure, warn_of_unread
from .loading import load_potential
from .settings import OF_ENERGY

MEANS = (*OF_ENERGY, "dipole", "polarizability")


class EnsembleCalculator(CheckedCalculator):
    """Means of energy (eV), forces (N, 3) (eV/Å), stress (6,) (eV/Å³) and more of several models.

    ``results["energy_std"]``, ``["forces_std"]`` and ``["stress_std"]``, of the same shapes and
    units, are standard deviations of the members about their mean, times ``factors``:
    √(Σ w (x - mean)² / (1 - Σ w²)) with weights w of sum 1, which is the usual one (n - 1) where
    weights are equal. Where these are larger than on frames like those of the training, the models
    have not learned what they are asked; a small spread is no bound on the error, since members
    share data and architecture.

    The mean force is the gradient of the mean energy, so that dynamics conserves it. Members that
    are models of this package share one neighbour list, as far as the largest of their cutoffs, and
    one graph; calculators of other packages are asked one after the other.

    Args:
        members: the name or file of an ensemble ("mace-water-ensemble", see
            :mod:`.ensemble_files`), or a list of at least two models, see
            :class:`.ase.PotentialCalculator`, or ASE calculators.
        device, dtype, symmetrize: of members that are given as models; those that are invariant
            already are not symmetrised again.
        skin: of the shared neighbour list, Å.
        factors: on standard deviations of "energy", "forces" and "stress", that make them as large
            as errors (``pointedge fit-uncertainty``), 1 where a table lacks one; default: those of
            the ensemble, else 1.
        weights: of the members in means, positive, of any sum; default: those of the ensemble, else
            equal ones.

    Raises:
        ValueError: fewer than two members, a model that does not exist, a factor that is not
            positive or of something else, or weights that are not positive or not one each.
    """

    def __init__(
        self,
        members: str | Path | Sequence[str | Path | Potential | Any],
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        skin: float = 0.5,
        symmetrize: str | None = None,
        factors: Mapping[str, float] | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(members, str | Path):
            ensemble = find_ensemble(str(members))
            if ensemble is None:
                raise ValueError(f"{members} is no ensemble; name one, or give a list of members.")
            members = ensemble.members
            factors = ensemble.factors if factors is None else factors
            weights = ensemble.weights if weights is None else weights
        if len(members) < 2:
            raise ValueError(f"an ensemble has at least two members, not {len(members)}.")
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.members = [
            PotentialCalculator(member, symmetrize=name, **options)
            if isinstance(member, str | Path | Potential)
            else member
            for member, name in zip(members, _symmetrizations(members, symmetrize), strict=True)
        ]
        self.factors = read_factors(factors or {})
        given = [] if weights is None else getattr(weights, "tolist", lambda: list(weights))()
        self._weights = read_weights(given, len(members))
        self._ours = [m for m in self.members if isinstance(m, PotentialCalculator)]
        self._others = [m for m in self.members if not isinstance(m, PotentialCalculator)]
        each = list(zip(self.members, self._weights, strict=True))
        each.sort(key=lambda one: not isinstance(one[0], PotentialCalculator))  # as results come
        self._shares = np.array([weight for _, weight in each])
        self._graphs = Graphs([m.potential for m in self._ours], skin) if self._ours else None
        self.inputs = self._graphs.inputs if self._graphs else ()
        offers = [getattr(m, "implemented_properties", SPREADS) for m in self.members]
        common = [n for n in MEANS if all(n in offered for offered in offers)]
        spreads = [f"{name}_std" for name in SPREADS if name in common]
        self.implemented_properties = [*common, *spreads]
        self.parameters.update(  # ASE writes these into trajectories and databases
            members=[
                getattr(m, "parameters", {}).get("model", type(m).__name__) for m in self.members
            ],
            factors=dict(self.factors),
            weights=self.weights,
            **({"symmetrize": symmetrize} if symmetrize else {}),
        )

    @property
    def weights(self) -> list[float]:
        """Of the members in means; their sum is 1."""
        return list(self._weights)

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Names of what differs from the last calculation, for any member."""
        changes = set(super().check_state(atoms, tol))
        for member in self._others:  # these know what they read, but for what ASE does not compare
            if hasattr(member, "check_state"):
                changes.update(member.check_state(atoms))
        if self._others and self.atoms is not None:
            now, last = atoms.info, self.atoms.info
            for name in DEFAULT_INPUTS:
                if not np.array_equal(np.array(now.get(name)), np.array(last.get(name))):
                    changes.add(name)
        return sorted(changes)

    def _check(self, atoms: Atoms, properties: Sequence[str], where: str) -> None:
        for member in self._ours:
            check_structure(atoms, member.potential, _means(properties), where)
        if len(self._ours) == len(self.members):  # what others read is not known
            warn_of_unread(atoms, self.inputs)

    def _model(self) -> tuple[object, ...]:
        return *self.members, *(m._model() for m in self._ours), dict(self.factors)

    def _results(self, atoms: Atoms, properties: Sequence[str]) -> dict[str, Any]:
        asked = _means(properties)
        if self._others and self.check_state(atoms):
            self._forget()
        (ours,) = self._of_graph(self._graphs.of(atoms), asked) if self._graphs else ([],)
        return self._joined([*ours, *self._of_others(atoms, asked)])

    def _results_of_many(
        self, structures: Sequence[Atoms], properties: Sequence[str], max_edges: int
    ) -> list[dict[str, Any]]:
        asked = _means(properties)
        ours: list[list[dict[str, Any]]] = [[] for _ in structures]
        if self._graphs is not None:
            graphs = self._graphs.batches(structures, max_edges)
            ours = [found for graph in graphs for found in self._of_graph(graph, asked)]
        results = []
        for found, atoms in zip(ours, structures, strict=True):
            self._forget()
            results.append(self._joined([*found, *self._of_others(bare(atoms), asked)]))
        return results

    def _forget(self) -> None:
        """Make other calculators compute anew: ASE's would not notice a changed charge or spin."""
        for member in self._others:
            if hasattr(member, "reset"):
                member.reset()

    def _of_graph(self, graph: Graph, asked: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Results of our members, for each structure of a graph.

        Weights of equal networks could be stacked and run by torch.vmap: that takes 0.6 of the time
        for a molecule, as much for 60 atoms, and 1.2 times as much for 192 atoms of a liquid, whose
        chunks then outgrow the processor's cache (``tests/benchmarks/ensembles.py``, one core).
        """
        each = [m.evaluate(graph.to(m.potential.device), asked) for m in self._ours]
        return [list(found) for found in zip(*each, strict=True)]

    def _of_others(self, atoms: Atoms, asked: Sequence[str]) -> list[dict[str, Any]]:
        """Results of other calculators: what is asked for, and what came with it."""
        found = []
        for member in self._others:
            values = {name: member.get_property(name, atoms) for name in asked}
            came = {n: v for n, v in getattr(member, "results", {}).items() if n in MEANS}
            found.append({**came, **values})
        return found

    def _joined(self, members: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Means, and standard deviations times their factors; members: ours, then others."""
        results: dict[str, Any] = {}
        for name in self.implemented_properties:
            if not all(name in found for found in members):
                continue
            values = np.stack([np.asarray(found[name], dtype=np.float64) for found in members])
            mean = np.tensordot(self._shares, values, 1)
            results[name] = _plain(mean)
            if name in SPREADS:
                variance = np.tensordot(self._shares, (values - mean) ** 2, 1)
                std = np.sqrt(variance / (1 - (self._shares**2).sum()))
                results[f"{name}_std"] = _plain(self.factors[name] * std)
        return results


def _symmetrizations(members: Sequence[Any], name: str | None) -> list[str | None]:
    """What each model is symmetrised by: an invariant one by nothing, if it is not alone so."""
    if name is None:
        return [None] * len(members)
    models = [isinstance(member, str | Path | Potential) for member in members]
    invariant = [
        model and load_potential(member).network.invariant
        for member, model in zip(members, models, strict=True)
    ]
    if all(invariant):
        return [name] * len(members)  # which the first one refuses
    return [None if same else name for same in invariant]


def _means(properties: Sequence[str]) -> list[str]:
    """What members are asked for, so that there is a mean or a spread of it."""
    return sorted({name.removesuffix("_std") for name in properties})


def _plain(value: Any) -> Any:
    """A number of Python where there are no axes."""
    return float(value) if np.ndim(value) == 0 else value
