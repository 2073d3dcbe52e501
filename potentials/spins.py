r"""Magnetic moments as inputs of a network, which sees them only through scalar products.

A network that reads m_i · m_j of pairs and \|m_i\|² of atoms, and nothing else of the moments,
has the symmetries of an energy without spin-orbit coupling exactly: all moments may turn together,
and be reversed, while the atoms stay. Collinear moments, one signed number per atom, are vectors
along one axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from torch import Tensor

if TYPE_CHECKING:
    from ase import Atoms

# Where frames keep the moments of their atoms. What was set to be calculated with comes first.
MOMENT_KEYS = ("initial_magmoms", "REF_spin", "REF_magmoms", "magmoms")


def stored_moments(atoms: Atoms) -> tuple[str, np.ndarray] | None:
    """The first of MOMENT_KEYS that a structure has, or what its file had as a result; and values.

    ASE's readers keep columns called "magmoms" with the results of a calculation.
    """
    for key in MOMENT_KEYS:
        if key in atoms.arrays:
            return key, atoms.arrays[key]
    if isinstance(atoms.calc, SinglePointCalculator) and "magmoms" in atoms.calc.results:
        return "magmoms", atoms.calc.results["magmoms"]
    return None


def keep_moments(atoms: Atoms, source: Atoms | None = None) -> None:
    """Make the stored moments, if any, initial ones, which stay when labels and results go.

    They are those of ``source``, if given: a copy of it has no results.
    """
    if (found := stored_moments(atoms if source is None else source)) is not None:
        atoms.set_initial_magnetic_moments(found[1])


def magnetic_moments(atoms: Atoms) -> np.ndarray:
    """Moments (N, 3) in μ_B of a structure, which is only read; signed numbers (N,) lie along z.

    Raises:
        ValueError: there are none, they are not finite, or their shape is neither (N,) nor (N, 3).
    """
    found = stored_moments(atoms)
    if found is None:
        raise ValueError(
            "the model reads magnetic moments, and the structure has none; give them with "
            "atoms.set_initial_magnetic_moments([...]), zeros where there are none, in μ_B."
        )
    key, moments = found[0], np.asarray(found[1], dtype=float)
    if not np.isfinite(moments).all():
        row = int(np.argwhere(~np.isfinite(moments))[0, 0])
        raise ValueError(
            f"the magnetic moment {key!r} of atom {row} is {moments[row].tolist()} μ_B, which is "
            "not finite; check the file or step that it came from."
        )
    if moments.shape == (len(atoms),):
        return np.pad(moments[:, None], ((0, 0), (2, 0)))
    if moments.shape == (len(atoms), 3):
        return moments
    raise ValueError(
        f"magnetic moments {key!r} have shape {moments.shape}; give one signed number "
        f"({len(atoms)},) or one vector ({len(atoms)}, 3) per atom, in μ_B."
    )


def scaled_moments(moments: Tensor | None, typical: float, dtype: torch.dtype) -> Tensor:
    """Moments (N, 3) of a graph over a typical one in μ_B; raises ValueError if it has none."""
    if moments is None:
        raise ValueError(
            "the model reads magnetic moments, and this graph has none; build it with "
            'inputs=("magmoms",).'
        )
    return moments.to(dtype) / typical


def squares(moments: Tensor) -> Tensor:
    """|m_i|² (N, 1) of moments (N, 3)."""
    return moments.square().sum(-1, keepdim=True)


def pair_invariants(moments: Tensor, centers: Tensor, neighbors: Tensor) -> Tensor:
    """m_i · m_j, |m_i|² and |m_j|² (E, 3) of moments (N, 3), at both ends of edges (E,)."""
    at_center, at_neighbor = moments.index_select(0, centers), moments.index_select(0, neighbors)
    products = (at_center * at_neighbor).sum(-1, keepdim=True)
    return torch.cat([products, squares(at_center), squares(at_neighbor)], dim=-1)
