"""Committees: the mean of several models, and how far they are from agreeing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.mixing import AverageCalculator

from ..potentials.potential import Potential
from .ase import PotentialCalculator

SPREADS = ("energy", "forces", "stress")


class CommitteeCalculator(AverageCalculator):
    """Mean energy (eV), forces (N, 3) (eV/Å) and stress (6,) (eV/Å³) of several models.

    ``results["energy_std"]``, ``["forces_std"]`` and ``["stress_std"]``, of the same shapes and
    units, are standard deviations of the members about their mean (n - 1). Where these are larger
    than on frames like those of the training, the models have not learned what they are asked; a
    small spread is no bound on the error, since members share data and architecture.

    The mean is the gradient of the mean energy, so that dynamics conserves it.

    Args:
        members: at least two models, see :class:`.ase.PotentialCalculator`, or ASE calculators.
        device, dtype, symmetrize: of members that are models.

    Raises:
        ValueError: less than two members, or a model that does not exist.
    """

    def __init__(
        self,
        members: Sequence[str | Path | Potential | Any],
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        symmetrize: str | None = None,
    ) -> None:
        if len(members) < 2:
            raise ValueError(f"a committee has at least two members, not {len(members)}.")
        options: dict[str, Any] = {"device": device, "dtype": dtype, "symmetrize": symmetrize}
        self.members = [
            PotentialCalculator(member, **options)
            if isinstance(member, str | Path | Potential)
            else member
            for member in members
        ]
        super().__init__(self.members)
        common = {name for name in self.implemented_properties if not name.endswith("_std")}
        self.implemented_properties = sorted(
            common | {f"{name}_std" for name in SPREADS if name in common}
        )

    def calculate(
        self, atoms: Atoms, properties: Sequence[str], system_changes: Sequence[str]
    ) -> None:
        """Compute what is asked for, and the spreads of what comes with it, into ``results``."""
        asked = sorted({name.removesuffix("_std") for name in properties})
        super().calculate(atoms, asked, system_changes)
        for name in SPREADS:
            if name in self.results:
                found = np.stack(self.results[f"{name}_contributions"])
                self.results[f"{name}_std"] = found.std(axis=0, ddof=1)

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Names of what differs from the last calculation, for any member."""
        changes: set[str] = set()
        for member in self.members:
            changes.update(member.check_state(atoms))
        return sorted(changes)
