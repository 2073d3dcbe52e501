r"""How sure a model is of an energy: the rigidity of its last layer.

An energy is linear in the weights w of a network's last layer: with features f_i of atoms, up to a
constant per atom and edge, E_A = scale · Σ_i f_i · w. How far the training structures determine w
says how far they determine E_A. With \bar f_A, the mean over the N_A atoms of a structure,

    H = Σ_A \bar f_A \bar f_Aᵀ + ς² 1    (training structures),
    σ(E_A) = α N_A (\bar f_Aᵀ H⁻¹ \bar f_A)^{1/2},   σ(E_i) = α (f_iᵀ H⁻¹ f_i)^{1/2},

where α, and ς, make the errors of validation structures most probable if they are normal of these
widths (Bigi, Chong, Ceriotti & Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024)).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .calibration import Calibration

# ς² over the mean of the diagonal of H.
REGULARIZERS = tuple(10.0**k for k in range(-10, 1))


class Rigidity(nn.Module):
    """Standard deviations of energies from features of the last layer, of which there are F.

    Attributes:
        whitening: (F, F) float64 lower triangular, L⁻¹ for H = L Lᵀ.
        alpha: eV.
    """

    whitening: Tensor
    alpha: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("whitening", torch.zeros(features, features, dtype=torch.float64))
        self.register_buffer("alpha", torch.zeros((), dtype=torch.float64))

    def forward(self, features: Tensor) -> Tensor:
        """Standard deviations (n,) in eV of energies with features (n, F)."""
        features = features.to(torch.float64)
        return self.alpha * torch.linalg.vector_norm(features @ self.whitening.T, dim=-1)

    def fit(self, training: Tensor, validation: Tensor, errors: Tensor) -> Calibration:
        """Fit to structures.

        Args:
            training: (n, F) features of training structures, means over atoms.
            validation: (m, F), of structures that the weights were not fitted to.
            errors: (m,) of their energies, eV/atom.

        Returns:
            How well standard deviations fit, in meV/atom.

        Raises:
            ValueError: there are fewer than two validation structures, or nothing to calibrate; or
                features that no standard deviation can be made of.
        """
        if len(errors) < 2 or not errors.any():
            raise ValueError(
                f"{len(errors)} energies, of which some have to be wrong, cannot calibrate "
                "uncertainties; give two validation frames with energies, or more."
            )
        products = training.T @ training
        best = math.inf
        for regularizer in REGULARIZERS:
            ridge = regularizer * products.diagonal().mean() * torch.eye(len(products)).to(products)
            factor, failed = torch.linalg.cholesky_ex(products + ridge)
            if failed:
                continue
            raw = torch.linalg.solve_triangular(factor, validation.T, upper=False).square().sum(0)
            alpha = (errors.square() / raw).mean().sqrt()
            surprise = (alpha.square() * raw).log().mean().item()
            if surprise < best:
                best = surprise
                identity = torch.eye(len(factor)).to(factor)
                inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
                self.whitening.copy_(inverse)
                self.alpha.copy_(alpha)
        if not math.isfinite(best):
            raise ValueError(
                f"the features of {len(training)} training structures are zero or not finite, so "
                "that no uncertainty follows from them; has the model been trained?"
            )
        stds = 1000 * self(validation)
        return Calibration.of(stds.cpu().numpy(), 1000 * errors.cpu().numpy())
