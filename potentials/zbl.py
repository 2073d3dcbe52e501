"""Ziegler-Biersack-Littmark repulsion, so that close contacts repel whatever a network says."""

from __future__ import annotations

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

COULOMB = 14.399645478425668  # e²/(4 pi eps0), eV Å
COEFFICIENTS = ((0.02817, 0.20162), (0.28022, 0.40290), (0.50986, 0.94229), (0.18175, 3.19980))


class ZBL(nn.Module):
    r"""Screened nuclear repulsion, switched off at the sum of the covalent radii.

    :math:`e(r) = k Z_i Z_j \phi(r/a)/r` with :math:`a = 0.4685 / (Z_i^{0.23} + Z_j^{0.23})`
    (Ziegler, Biersack and Littmark 1985), plus :math:`A r^3/3 + B r^4/4 + C` such that energy,
    force and its slope vanish at the pair's radius (LAMMPS ``pair_style zbl``, inner radius 0).

    Attributes:
        cutoff: largest radius of a pair, Å.
    """

    species_index: Tensor
    radius: Tensor
    screening: Tensor
    strength: Tensor

    def __init__(self, species: tuple[int, ...]) -> None:
        super().__init__()
        z = torch.tensor(species, dtype=torch.float64)
        radii = torch.tensor([covalent_radii[int(s)] for s in species], dtype=torch.float64)
        index = torch.zeros(119, dtype=torch.int64)
        index[list(species)] = torch.arange(len(species))
        self.register_buffer("species_index", index, persistent=False)
        self.register_buffer("radius", radii[:, None] + radii)
        self.register_buffer("screening", 0.46850 / (z[:, None] ** 0.23 + z**0.23))
        self.register_buffer("strength", COULOMB * z[:, None] * z)
        self.cutoff = float(self.radius.max())

    def forward(
        self, species: Tensor, centers: Tensor, neighbors: Tensor, vectors: Tensor
    ) -> Tensor:
        """Energies (N,) in eV of atoms with edge vectors (E, 3) in Å; each edge gives half."""
        distance = (vectors.square().sum(-1) + 1e-30).sqrt()
        index = self.species_index[species]
        pair = index[centers], index[neighbors]
        radius = self.radius[pair]
        energy = self._pair_energy(distance, radius, self.screening[pair], self.strength[pair])
        energy = torch.where(distance < radius, 0.5 * energy, torch.zeros_like(energy))
        total = torch.zeros(len(species), dtype=energy.dtype, device=energy.device)
        return total.index_add(0, centers, energy)

    @staticmethod
    def _pair_energy(r: Tensor, radius: Tensor, screening: Tensor, strength: Tensor) -> Tensor:
        end, slope, curvature = _screened(radius, screening, strength)
        a = (-3 * slope + radius * curvature) / radius**2
        b = (2 * slope - radius * curvature) / radius**3
        c = -end + radius * slope / 2 - radius**2 * curvature / 12
        return _screened(r, screening, strength)[0] + a * r**3 / 3 + b * r**4 / 4 + c


def _screened(r: Tensor, screening: Tensor, strength: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """e(r) and its first and second derivative, eV, eV/Å, eV/Å²."""
    phi = first = second = torch.zeros_like(r)
    for weight, decay in COEFFICIENTS:
        rate = decay / screening
        term = weight * torch.exp(-rate * r)
        phi, first, second = phi + term, first - rate * term, second + rate**2 * term
    energy = strength * phi / r
    slope = strength * (first / r - phi / r**2)
    curvature = strength * (second / r - 2 * first / r**2 + 2 * phi / r**3)
    return energy, slope, curvature
