"""Embeddings of structures in two dimensions, and what to colour them by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from ..potentials.suggestions import refuse_misspelt
from .comparison import Array

METHODS = ("pca", "phate")
SMILES = "smiles"  # where a structure may name its graph, in atoms.info


def require(method: str) -> None:
    """Raise ValueError unless a projection is known and installed."""
    refuse_misspelt("projection", method, METHODS)
    if method == "phate":
        try:
            import phate  # noqa: F401
        except ImportError:
            raise ValueError(
                "the projection 'phate' needs the package phate (GPL-2); run "
                "`pip install 'pointedge[analysis]'`, or take 'pca'."
            ) from None


def project(values: Array, method: str = "pca") -> Array:
    """Coordinates (F, 2) of embeddings (F, channels).

    Args:
        values: of F structures; each channel is brought to zero mean and unit variance.
        method: "pca", or "phate" (Moon et al., Nat. Biotechnol. 37, 1482, 2019), of the package
            ``phate``, whose licence is GPL-2.

    Raises:
        ValueError: an unknown method, one that is not installed, or fewer than three structures.
    """
    require(method)
    if len(values) < 3:
        raise ValueError(f"a projection takes 3 structures or more, not {len(values)}.")
    spread = values.std(axis=0)
    standard = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if method == "phate":
        import phate

        operator = phate.PHATE(knn=min(5, len(values) - 1), random_state=0, verbose=0, n_jobs=1)
        return np.asarray(operator.fit_transform(standard), dtype=float)
    u, s, _ = np.linalg.svd(standard, full_matrices=False)
    coordinates = np.zeros((len(values), 2))
    count = min(2, len(s))
    coordinates[:, :count] = u[:, :count] * s[:count]
    return coordinates


def spacial_scores(structures: Sequence[Atoms]) -> Array | None:
    """Normalised spacial scores (F,) of molecules (Krzyzanowski et al., J. Med. Chem. 66, 12739).

    The graph of a molecule is that of ``atoms.info["smiles"]``, or what RDKit makes of positions;
    NaN where a structure is periodic or has none. None if no structure has a score, or RDKit is not
    installed.
    """
    try:
        from rdkit.Chem.SpacialScore import SPS
        from rdkit.rdBase import BlockLogs
    except ImportError:
        return None
    scores = np.full(len(structures), np.nan)
    with BlockLogs():
        for k, atoms in enumerate(structures):
            molecule = None if atoms.pbc.any() else _molecule(atoms)
            if molecule is not None and molecule.GetNumAtoms():
                scores[k] = SPS(molecule, normalize=True)
    return None if np.isnan(scores).all() else scores


def _molecule(atoms: Atoms) -> Any:
    """RDKit's molecule of a structure, or None."""
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds

    if SMILES in atoms.info:
        return Chem.MolFromSmiles(str(atoms.info[SMILES]))
    lines = [
        f"{symbol} {x:.8f} {y:.8f} {z:.8f}"
        for symbol, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    molecule = Chem.MolFromXYZBlock("\n".join([str(len(atoms)), "", *lines]) + "\n")
    try:
        rdDetermineBonds.DetermineBonds(molecule, charge=int(atoms.info.get("charge", 0)))
        return Chem.RemoveHs(molecule)  # the score is one of heavy atoms
    except (ValueError, RuntimeError):  # no valences fit these distances
        return None
