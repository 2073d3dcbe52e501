"""Calculators of other packages for the audit, each of them as its package makes it.

``pointedge audit tests.peers.calculators:mace STRUCTURES`` in an environment with the package;
``tests.peers.audits`` runs them all on the same structures. Networks without packaged weights have
random ones (seeded, small), as no check needs accuracy but those of dimers.
"""

from __future__ import annotations

from typing import Any

CUTOFF = 5.0  # Å, of networks with random weights
SYMBOLS = ["Cu", "Au"]
# Of PET, here and in metatrain; else its defaults.
SHAPE = {"d_pet": 16, "d_node": 32, "d_head": 16, "d_feedforward": 32, "num_heads": 2}


def pointedge(dtype: str = "float64") -> Any:
    """PET of a small shape, of this package."""
    import torch

    from pointedge.calculators import PETCalculator
    from pointedge.potentials.pet import PET
    from pointedge.potentials.potential import Potential

    torch.manual_seed(0)
    network = PET.from_config({"species": [29, 79], "cutoff": CUTOFF, **SHAPE})
    return PETCalculator(Potential(network.to(getattr(torch, dtype))), dtype=dtype)


def mace(dtype: str = "float64") -> Any:
    """MACE of 16x0e+16x1o, two layers; its default envelope."""
    import mace.calculators  # isort: skip; lets e3nn 0.4.4 read its tables
    import numpy as np
    import torch
    from e3nn import o3
    from mace.modules import ScaleShiftMACE, interaction_classes

    torch.manual_seed(0)
    block = interaction_classes["RealAgnosticResidualInteractionBlock"]
    network = ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=2,
        hidden_irreps=o3.Irreps("16x0e+16x1o"),
        MLP_irreps=o3.Irreps("8x0e"),
        atomic_energies=np.array([-2.0, -3.0]),
        avg_num_neighbors=30.0,
        atomic_numbers=[29, 79],
        correlation=2,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    ).to(getattr(torch, dtype))
    return mace.calculators.MACECalculator(models=[network], device="cpu", default_dtype=dtype)


def nequip(dtype: str = "float64") -> Any:
    """NequIP of 16 features up to l = 1, two layers; not compiled."""
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.integrations.ase import NequIPCalculator
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    network = NequIPGNNModel(
        seed=1,
        model_dtype=dtype,
        type_names=SYMBOLS,
        r_max=CUTOFF,
        num_layers=2,
        l_max=1,
        parity=True,
        num_features=16,
        avg_num_neighbors=30.0,
        per_type_energy_scales=1.0,
        per_type_energy_shifts={"Cu": -2.0, "Au": -3.0},
    )
    transforms = [ChemicalSpeciesToAtomTypeMapper(SYMBOLS), NeighborListTransform(r_max=CUTOFF)]
    return NequIPCalculator(network.eval(), device="cpu", transforms=transforms)


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
    network = PET(hypers, DatasetInfo("angstrom", [29, 79], {"energy": target}))
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
