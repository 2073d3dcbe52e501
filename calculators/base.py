"""What calculators of one model and of several do alike: check what comes, and notice changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from .inputs import InputError, snapshot
from .settings import check_properties

# Edges of one model run of `calculate_many`. On a CPU anything above a thousand is as fast.
MAX_EDGES = 30_000


class CheckedCalculator(Calculator):
    """An ASE calculator that checks its input, and whose results follow every change of it.

    Numbers are compared exactly with those of the last calculation, whether they were changed in
    place or not. What a model reads beside positions, cell, pbc and numbers is in ``inputs``.
    """

    inputs: Sequence[str] = ()

    def __init__(self) -> None:
        super().__init__()
        self._state: dict[str, np.ndarray] = {}
        self._answered: tuple[object, ...] = ()  # what _model was when results were computed

    def __repr__(self) -> str:
        """As in a database: the class, and what ASE writes of its settings."""
        settings = (f"{name}={value!r}" for name, value in self.parameters.items())
        return f"{type(self).__name__}({', '.join(settings)})"

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute what is asked for, and what comes with it, into ``results``.

        Earlier results stay beside these where nothing has changed since.
        """
        atoms = self.atoms if atoms is None else atoms
        if atoms is None:
            raise InputError("the calculator has no structure yet; give it atoms.")
        check_properties(properties, self.implemented_properties)
        self._check(atoms, properties, "the structure")
        model = self._model()
        same = not system_changes and model == self._answered and not self.check_state(atoms)
        kept = self.results if same else {}
        self.results = {**kept, **self._results(atoms, properties)}
        self._state, self._answered = snapshot(atoms, self.inputs), model
        self.atoms = atoms.copy()

    def calculate_many(
        self,
        structures: Sequence[Atoms],
        properties: Sequence[str] = ("energy", "forces"),
        *,
        max_edges: int = MAX_EDGES,
    ) -> list[dict[str, Any]]:
        """Compute properties of many structures, several in each run of a model.

        Args:
            structures: any number; they and the calculator's own results stay as they are.
            properties: keys of the dictionaries returned, one for each structure.
            max_edges: largest number of edges in a run; a structure with more runs alone.

        Raises:
            InputError, PropertyNotImplementedError: as for one structure, naming its index.
        """
        if isinstance(structures, Atoms):
            raise InputError("calculate_many takes a list of structures; give [atoms].")
        check_properties(properties, self.implemented_properties)
        structures = list(structures)
        for k, atoms in enumerate(structures):
            self._check(atoms, properties, f"structure {k}")
        results = self._results_of_many(structures, properties, max_edges)
        return [{name: result[name] for name in properties} for result in results]

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Names of what differs from the last calculation; numbers are compared exactly."""
        if self.atoms is None or not self._state:
            return list(all_changes)
        now, last = snapshot(atoms, self.inputs), self._state
        return [name for name in now if not np.array_equal(now[name], last[name])]

    def set(self, **settings: Any) -> dict[str, Any]:
        """Refuse: the settings are fixed when the calculator is made."""
        if settings:
            raise ValueError(f"{', '.join(settings)} cannot be changed; make a new calculator.")
        return {}

    def _check(self, atoms: Atoms, properties: Sequence[str], where: str) -> None:
        """Refuse a structure, called ``where``, that a model cannot answer for."""
        raise NotImplementedError

    def _model(self) -> tuple[object, ...]:
        """What results depend on beside a structure; equal as long as it is the same."""
        raise NotImplementedError

    def _results(self, atoms: Atoms, properties: Sequence[str]) -> dict[str, Any]:
        raise NotImplementedError

    def _results_of_many(
        self, structures: Sequence[Atoms], properties: Sequence[str], max_edges: int
    ) -> list[dict[str, Any]]:
        raise NotImplementedError
