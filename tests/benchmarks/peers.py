"""Peers with random weights, as ASE calculators and for training steps.

Importing one fails where it is not installed.
"""

from __future__ import annotations

from typing import Any


def mace_network(dtype: str = "float32") -> Any:
    """MACE of 64x0e+64x1o, two layers, for H and O."""
    import mace.calculators  # noqa: F401  isort: skip; lets e3nn 0.4.4 read its tables
    import numpy as np
    import torch
    from e3nn import o3
    from mace.modules import ScaleShiftMACE, interaction_classes

    block = interaction_classes["RealAgnosticResidualInteractionBlock"]
    return ScaleShiftMACE(
        r_max=5.0,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=2,
        hidden_irreps=o3.Irreps("64x0e+64x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(2),
        avg_num_neighbors=50.0,
        atomic_numbers=[1, 8],
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    ).to(getattr(torch, dtype))


def mace_model(dtype: str = "float32") -> Any:
    """Its calculator."""
    from mace.calculators import MACECalculator

    return MACECalculator(models=[mace_network(dtype)], device="cpu", default_dtype=dtype)


def mace_forces(atoms: Any, dtype: str = "float32") -> tuple[Any, Any]:
    """The network, and a function of nothing that gives forces to be trained on."""
    import torch
    from mace import data, tools
    from mace.tools import torch_geometric

    network = mace_network(dtype)
    torch.set_default_dtype(getattr(torch, dtype))  # of its data
    table = tools.AtomicNumberTable([1, 8])
    item = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=table, cutoff=5.0)
    loader = torch_geometric.dataloader.DataLoader([item], batch_size=1)
    batch = next(iter(loader)).to_dict()
    return network, lambda: network(batch, training=True, compute_force=True)["forces"]


def nequip_network(dtype: str = "float32") -> Any:
    """NequIP of 32 features up to l = 2 in three layers, for H and O."""
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    return NequIPGNNModel(
        seed=1,
        model_dtype=dtype,
        type_names=["H", "O"],
        r_max=5.0,
        num_layers=3,
        l_max=2,
        parity=False,
        num_features=32,
        avg_num_neighbors=50.0,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
    )


def nequip_model(dtype: str = "float32") -> Any:
    """Its calculator, of the model that is not compiled."""
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.integrations.ase import NequIPCalculator

    transforms = [ChemicalSpeciesToAtomTypeMapper(["H", "O"]), NeighborListTransform(r_max=5.0)]
    return NequIPCalculator(nequip_network(dtype).eval(), device="cpu", transforms=transforms)


def nequip_forces(atoms: Any, dtype: str = "float32") -> tuple[Any, Any]:
    """The network, and a function of nothing that gives forces to be trained on."""
    calculator = nequip_model(dtype)
    network = calculator.model.train()
    data = calculator.atoms_to_data(atoms)
    return network, lambda: network(dict(data))["forces"]
