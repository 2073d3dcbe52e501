"""Calculators of other packages for the audit, each of them as its package makes it.

``pointedge audit tests.peers.calculators:mace STRUCTURES`` in an environment with the package;
``tests.peers.audits`` runs them all on the same structures. Networks without packaged weights have
random ones (seeded, small), as no check needs accuracy but those of dimers.
"""

from __future__ import annotations

from typing import Any

from .networks import mace_calculator, mace_network, nequip_calculator, nequip_network

CUTOFF = 5.0  # Å, of networks with random weights
NUMBERS, SYMBOLS = (29, 79), ("Cu", "Au")
# Of PET, here and in metatrain; else its defaults.
SHAPE = {"d_pet": 16, "d_node": 32, "d_head": 16, "d_feedforward": 32, "num_heads": 2}


def pointedge(dtype: str = "float64") -> Any:
    """PET of a small shape, of this package."""
    import torch

    from pointedge.calculators import PETCalculator
    from pointedge.potentials.pet import PET
    from pointedge.potentials.potential import Potential

    torch.manual_seed(0)
    network = PET.from_config({"species": NUMBERS, "cutoff": CUTOFF, **SHAPE})
    return PETCalculator(Potential(network.to(getattr(torch, dtype))), dtype=dtype)


def mace(dtype: str = "float64") -> Any:
    """MACE of 16x0e+16x1o, two layers; its default envelope."""
    import torch

    torch.manual_seed(0)
    network = mace_network(
        NUMBERS,
        cutoff=CUTOFF,
        irreps="16x0e+16x1o",
        lmax=2,
        correlation=2,
        readout="8x0e",
        neighbors=30.0,
        baseline=(-2.0, -3.0),
        dtype=dtype,
    )
    return mace_calculator(network, dtype)


def nequip(dtype: str = "float64") -> Any:
    """NequIP of 16 features up to l = 1, two layers; not compiled."""
    network = nequip_network(
        SYMBOLS,
        cutoff=CUTOFF,
        features=16,
        lmax=1,
        parity=True,
        layers=2,
        neighbors=30.0,
        baseline=(-2.0, -3.0),
        dtype=dtype,
    )
    return nequip_calculator(network, SYMBOLS, CUTOFF)


def metatrain(dtype: str = "float64") -> Any:
    """PET of a small shape, exported in memory, by metatomic's ASE calculator."""
    import torch
    from metatomic_ase import MetatomicCalculator
    from metatrain.pet import PET
    from metatrain.utils.architectures import get_default_hypers
    from metatrain.utils.data import DatasetInfo
    from metatrain.utils.data.target_info import get_energy_target_info

    torch.manual_seed(0)
    target = get_energy_target_info("energy", {"quantity": "energy", "unit": "eV"})
    hypers = {**get_default_hypers("pet")["model"], **SHAPE, "cutoff": CUTOFF}
    network = PET(hypers, DatasetInfo("angstrom", list(NUMBERS), {"energy": target}))
    network = network.to(getattr(torch, dtype)).eval()
    return MetatomicCalculator(network.export(), device="cpu")


def chgnet() -> Any:
    """CHGNet with the weights in its wheel; float32 alone."""
    from chgnet.model.dynamics import CHGNetCalculator

    return CHGNetCalculator(use_device="cpu")


def emt() -> Any:
    """ASE's effective medium theory, with its defaults."""
    from ase.calculators.emt import EMT

    return EMT()


def lennard_jones(*, smooth: bool = False) -> Any:
    """ASE's, of the size of copper; by default its energy is shifted to zero at the cutoff."""
    from ase.calculators.lj import LennardJones

    return LennardJones(sigma=2.4, epsilon=0.4, rc=CUTOFF, smooth=smooth)


def lennard_jones_smooth() -> Any:
    """The same with its option ``smooth=True``."""
    return lennard_jones(smooth=True)


def morse() -> Any:
    """ASE's, of the size of copper, with its default switch (to 2.7 bond lengths)."""
    from ase.calculators.morse import MorsePotential

    return MorsePotential(epsilon=0.4, r0=2.6, rho0=4.0)


def tersoff() -> Any:
    """ASE's, silicon of Phys. Rev. B 37, 6991 (1988), T2."""
    from ase.calculators.tersoff import Tersoff, TersoffParameters

    silicon = TersoffParameters(
        m=3.0,
        gamma=1.0,
        lambda3=1.3258,
        c=4.8381,
        d=2.0417,
        h=0.0,
        n=22.956,
        beta=0.33675,
        lambda2=1.3258,
        B=95.373,
        R=3.0,
        D=0.2,
        lambda1=3.2394,
        A=3264.7,
    )
    return Tersoff({("Si", "Si", "Si"): silicon})
