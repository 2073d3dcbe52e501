"""What the parts of the battery share: structures, random potentials, the base class."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms

from pointedge.potentials.potential import Potential

from .. import structures
from . import numerics
from .numerics import check_equal, predict

FRAMES = {**structures.patterns(), **structures.awkward()}
EVERY_FRAME = pytest.mark.parametrize("name", FRAMES)
SPECIES_PAIRS = list(itertools.combinations_with_replacement(structures.SPECIES, 2))
SYMMETRIC_STRAINS = [np.zeros((3, 3)) for _ in range(6)]
for strain, (i, j) in zip(
    SYMMETRIC_STRAINS, [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)], strict=True
):
    strain[i, j] = strain[j, i] = 1.0
GENERAL_STRAINS = [np.eye(9)[k].reshape(3, 3) for k in range(9)]


def lively(network: torch.nn.Module, seed: int, **options) -> Potential:
    """A float64 potential of random weights whose forces are of the order of 1 eV/Å.

    Every parameter is drawn anew, whatever the architecture's own initialisation: none (a bias, a
    norm) sits at a value for which an error would not show.
    """
    network = network.to(torch.float64)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for module in network.modules():
            norm = "Norm" in type(module).__name__
            # Weights of equivariant layers, which divide by the root of the fan-in when they act.
            unit = isinstance(module, (torch.nn.ParameterDict, torch.nn.ParameterList))
            for name, parameter in module.named_parameters(recurse=False):
                noise = torch.randn_like(parameter)
                if unit or isinstance(module, torch.nn.Embedding):
                    parameter.copy_(noise)
                elif parameter.ndim < 2:
                    parameter.copy_(0.3 * noise + (1 if norm and name == "weight" else 0))
                else:
                    parameter.copy_(noise / parameter.shape[-1] ** 0.5)
    forces = predict(Potential(network), list(FRAMES.values())).forces
    baseline = {z: -13.6 * z**2 for z in structures.SPECIES}
    return Potential(network, baseline, scale=float(1 / forces.square().mean().sqrt()), **options)


class Battery:
    """Base of the parts of a battery.

    Attributes:
        invariant: the energy does not change under any rotation or inversion.
        smooth: the force's slope is continuous; otherwise (C1 cutoff) it may jump at
            the cutoff, where the architecture's own tests compare the jump with its formula.
        curvature: autograd's second derivative of the energy in positions is exact.
        width: of the taper inside the cutoff, Å.
        inward: how far inside the cutoff a dimer's path starts, Å.
    """

    invariant = False
    smooth = True
    curvature = True
    width = 0.5
    inward = 0.3

    @pytest.fixture
    def potential(self) -> Potential:
        raise NotImplementedError("a battery needs a fixture named potential")

    @pytest.fixture
    def frames(self) -> list[Atoms]:
        return [atoms.copy() for atoms in FRAMES.values()]

    def same(self, potential, what, frames, changed, orders=None, strain=True):
        """Assert that changed structures have the same energies, forces and strain gradients."""
        expected = predict(potential, frames)
        if orders is not None:
            starts = np.cumsum([0] + [len(a) for a in frames[:-1]])
            every = [start + order for start, order in zip(starts, orders, strict=True)]
            expected = numerics.permuted(expected, np.concatenate(every))
        check_equal(what, predict(potential, changed), expected, frames, potential.cutoff, strain)
