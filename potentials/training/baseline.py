"""The energy of each species, by least squares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from .data import Batch

NO_RANK = 1e-10  # of the largest singular value
NO_SHARE = 1e-6  # of a combination's largest coefficient
MOST_COMBINATIONS = 3
MOST_ITERATIONS = 20
HUBER = 3.0  # robust standard deviations
TINY = 1e-6  # eV


@dataclass(frozen=True)
class CompositionFit:
    """Least squares of energies on numbers of atoms of S species.

    Attributes:
        energies: (S,) eV, of least norm where compositions leave a choice.
        undetermined: (K, S) combinations of species whose sum no frame changes.
        rms: of what is left per atom, eV.
    """

    energies: np.ndarray
    undetermined: np.ndarray
    rms: float

    def in_words(self, species: Sequence[int]) -> str:
        """Energies by element, and which combinations of them no frame tells."""
        symbols = [chemical_symbols[z] for z in species]
        text = ", ".join(f"{s} {e:.3f}" for s, e in zip(symbols, self.energies, strict=True))
        line = f"{text} eV, to {self.rms:.3g} eV/atom (rms)"
        free = [" ".join(_terms(row, symbols)) for row in self.undetermined[:MOST_COMBINATIONS]]
        if not free:
            return line
        rest = len(self.undetermined) - len(free)
        return (
            f"{line}; these compositions leave {' and '.join(free)}"
            f"{f' and {rest} more' if rest else ''} free"
        )


def _terms(row: np.ndarray, symbols: Sequence[str]) -> list[str]:
    scaled = row / row[np.argmax(np.abs(row))]
    return [f"{x:+.3g} {s}" for x, s in zip(scaled, symbols, strict=True) if abs(x) > NO_SHARE]


def fit_baseline(
    species: Sequence[int], batches: Iterable[Batch], offset: Tensor
) -> dict[int, float]:
    """Energy of each species in eV: :func:`composition_fit` of energies minus ``offset``.

    Where compositions are linearly dependent (pure water, say) the solution of least norm is
    taken: only the sum over a structure then has a meaning. Frames count by their weights, and
    those without any of the species not at all. Empty if no energy is known.
    """
    numbers = torch.tensor(species, dtype=torch.int64)
    parts, energies, weights = [], [], []
    for batch in batches:
        parts.append((batch.graph.species[:, None] == numbers).sum(0))
        energies.append(batch.energy)
        weights.append(batch.weight)
    counts, found, weight = torch.stack(parts), torch.cat(energies) - offset, torch.cat(weights)
    known = ~torch.isnan(found) & (weight > 0) & (counts.sum(1) > 0)
    if not known.any():
        return {}
    fit = composition_fit(
        counts[known].double().numpy(), found[known].numpy(), weight[known].numpy()
    )
    return dict(zip(species, fit.energies.tolist(), strict=True))


def composition_fit(
    counts: np.ndarray, energies: np.ndarray, given: np.ndarray | float = 1.0
) -> CompositionFit:
    """Fit energies (F,) in eV by a sum over species with counts (F, S) of atoms.

    Frames are weighted as ``given`` (F,), positive; by one over their number of atoms, so that a
    large frame does not count more than many small ones; and by how far they are from the fit
    (Huber), so that a few energies far off, of isolated atoms say, do not move the others.
    """
    per_atom = 1 / counts.sum(axis=1)
    factors = np.sqrt(given) * per_atom
    weights = factors
    solution = np.zeros(counts.shape[1])
    for _ in range(MOST_ITERATIONS):
        before = solution
        solution = np.linalg.lstsq(weights[:, None] * counts, weights * energies, rcond=NO_RANK)[0]
        rest = np.abs(per_atom * (energies - counts @ solution))
        far = np.maximum(rest / (HUBER * 1.4826 * max(np.median(rest), TINY)), 1)
        weights = factors / np.sqrt(far)
        if np.allclose(counts @ (solution - before), 0, atol=TINY):
            break
    upper = np.linalg.qr(counts, mode="r")
    _, values, vectors = np.linalg.svd(upper)
    rank = int(np.sum(values > NO_RANK * values.max()))
    return CompositionFit(solution, vectors[rank:], float(np.sqrt(np.mean(rest**2))))
