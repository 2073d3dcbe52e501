"""Elastic constants from stress against strain, with relaxed atoms, for any ASE calculator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.constraints import FixSymmetry
from ase.stress import voigt_6_to_full_3x3_strain

from .relaxation import RelaxationSettings, check_structure, relax
from .trajectories import Array

STRAINS = (-0.005, -0.0025, 0.0, 0.0025, 0.005)
# Of a cubic tensor: indices of the equal entries (Voigt order xx, yy, zz, yz, xz, xy)
CUBIC = {
    "C11": ((0, 0), (1, 1), (2, 2)),
    "C12": ((0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)),
    "C44": ((3, 3), (4, 4), (5, 5)),
}


@dataclass(frozen=True)
class ElasticConstants:
    """What straining a structure has shown.

    Attributes:
        strains: (S,), Voigt strains that were applied in each of the six directions (yz, xz and xy
            are twice the tensor's components).
        stresses: (6, S, 6), GPa: direction, strain, component of the Cauchy stress (ASE's order and
            sign: tension is positive).
        stiffness: (6, 6), GPa: slopes at zero strain, component by direction.
        errors: (6, 6), GPa: their standard errors from what a parabola leaves.
        volume: of the structure without strain, Å³.
    """

    strains: Array
    stresses: Array
    stiffness: Array
    errors: Array
    volume: float

    @property
    def residual_stress(self) -> float:
        """Largest component of the stress without strain, GPa; it shifts constants by as much."""
        return float(np.abs(self.stresses[:, np.argmin(abs(self.strains))]).max())

    def cubic(self) -> dict[str, tuple[float, float, float]]:
        """C11, C12 and C44 of the nearest cubic tensor, in GPa, for cells along cubic axes.

        Each is the mean of the entries that cubic symmetry makes equal, with the error of the fits,
        and the standard error from the spread of those entries: what a cell of finite size, as of a
        random alloy, lacks of the symmetry.
        """
        found = {}
        for name, entries in CUBIC.items():
            values = np.array([self.stiffness[entry] for entry in entries])
            fits = np.array([self.errors[entry] for entry in entries])
            # C12 = C21: six entries, but three that are independent
            independent = 3
            spread = values.std(ddof=1) / np.sqrt(independent)
            fit = np.sqrt((fits**2).mean() / independent)
            found[name] = (float(values.mean()), float(fit), float(spread))
        return found

    @property
    def bulk_modulus(self) -> float:
        """Voigt average (C11 + 2 C12)/3, GPa."""
        return float(self.stiffness[:3, :3].sum() / 9)


def elastic_constants(
    atoms: Atoms,
    *,
    strains: Sequence[float] = STRAINS,
    fmax: float = 0.001,
    steps: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> ElasticConstants:
    """Strain a structure in six directions, relax its atoms, and fit the stress.

    Each component of the stress is fitted by a parabola in the strain; its slope at zero is the
    constant, C_ij = dσ_i/dε_j. Relax the structure and its cell first: under a stress these slopes
    are not the second derivatives of the energy, but differ from them by as much as the stress.

    Args:
        atoms: periodic structure with a calculator that gives stress; it is only read. Take float64
            for models: a strain of 0.005 changes forces by little. Constraints hold, but for
            FixSymmetry under strain, which takes the symmetry away.
        strains: at least 3, and 4 for errors; positive and negative ones alike, since their
            parabola removes what is not linear.
        fmax: eV/Å, atoms are relaxed until forces are smaller.
        steps: largest number of steps of a relaxation.
        progress: called with the number of structures that are done, and of all.

    Raises:
        ValueError: too few strains, or a structure that has no stress or does not relax.
    """
    values = np.array(sorted(strains), dtype=np.float64)
    if len(np.unique(values)) < 3 or not 0 < np.abs(values).max() < 0.1:
        raise ValueError(
            f"strains are {list(strains)}; give at least 3 different ones, below 0.1, some of them "
            "negative."
        )
    check_structure(atoms, RelaxationSettings(cell=True))
    settings = RelaxationSettings(fmax=fmax, steps=steps)
    start = relax(atoms, settings).atoms
    stresses = np.zeros((6, len(values), 6))
    for direction in range(6):
        for k, size in enumerate(values):
            done = direction * len(values) + k
            stresses[direction, k] = _stress(strained(start, direction, size), atoms, settings)
            if progress is not None:
                progress(done + 1, 6 * len(values))
    stiffness, errors = np.zeros((6, 6)), np.zeros((6, 6))
    for direction in range(6):
        stiffness[:, direction], errors[:, direction] = _slopes(values, stresses[direction])
    return ElasticConstants(values, stresses, stiffness, errors, float(start.get_volume()))


def strained(atoms: Atoms, direction: int, size: float) -> Atoms:
    """A copy with one Voigt component of strain, without rotation; atoms move with the cell.

    FixSymmetry is left out: it would take back of the strain, and of what atoms do about it,
    whatever lowers the symmetry.
    """
    voigt = np.zeros(6)
    voigt[direction] = size
    copy = atoms.copy()
    copy.set_constraint([c for c in copy.constraints if not isinstance(c, FixSymmetry)])
    deformation = voigt_6_to_full_3x3_strain(voigt)  # with the identity
    copy.set_cell(copy.cell.array @ deformation, scale_atoms=True, apply_constraint=False)
    return copy


def _stress(atoms: Atoms, origin: Atoms, settings: RelaxationSettings) -> Array:
    """Stress (6,) in GPa of a structure whose atoms are relaxed with the calculator of another."""
    atoms.calc = origin.calc
    result = relax(atoms, settings)
    if not result.converged:
        raise ValueError(
            f"the atoms of a strained structure are not at rest after {result.steps} steps; relax "
            "the structure first, or allow more steps or a larger fmax."
        )
    relaxed = result.atoms
    relaxed.calc = origin.calc
    stress: Array = relaxed.get_stress(apply_constraint=False) / units.GPa
    return stress


def _slopes(strains: Array, stresses: Array) -> tuple[Array, Array]:
    """Slopes at zero (6,) of parabolas through stresses (S, 6), and their standard errors (6,)."""
    design = np.vander(strains / np.abs(strains).max(), 3)
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ stresses
    freedom = len(strains) - 3
    left = ((stresses - design @ coefficients) ** 2).sum(axis=0)
    variance = left / freedom if freedom else np.full(6, np.nan)
    scale = np.abs(strains).max()
    return coefficients[1] / scale, np.sqrt(variance * inverse[1, 1]) / scale
