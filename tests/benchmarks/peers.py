"""Peers for H and O with random weights, as ASE calculators and for training steps."""

from __future__ import annotations

from typing import Any

from ..peers.networks import mace_calculator, mace_network, nequip_calculator, nequip_network

CUTOFF, NEIGHBORS = 5.0, 50.0  # Å, and as many atoms within it
NUMBERS, SYMBOLS = (1, 8), ("H", "O")


def mace(dtype: str = "float32") -> Any:
    """MACE of 64x0e+64x1o, two layers."""
    return mace_network(
        NUMBERS,
        cutoff=CUTOFF,
        irreps="64x0e+64x1o",
        lmax=3,
        correlation=3,
        readout="16x0e",
        neighbors=NEIGHBORS,
        baseline=(0.0, 0.0),
        dtype=dtype,
    )


def mace_model(dtype: str = "float32") -> Any:
    """Its calculator."""
    return mace_calculator(mace(dtype), dtype)


def mace_forces(atoms: Any, dtype: str = "float32") -> tuple[Any, Any]:
    """The network, and a function of nothing that gives forces to be trained on."""
    import torch
    from mace import data, tools
    from mace.tools import torch_geometric

    network = mace(dtype)
    torch.set_default_dtype(getattr(torch, dtype))  # of its data
    table = tools.AtomicNumberTable(list(NUMBERS))
    item = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=table, cutoff=CUTOFF)
    loader = torch_geometric.dataloader.DataLoader([item], batch_size=1)
    batch = next(iter(loader)).to_dict()
    return network, lambda: network(batch, training=True, compute_force=True)["forces"]


def nequip_model(dtype: str = "float32") -> Any:
    """NequIP of 32 features up to l = 2 in three layers, its calculator; not compiled."""
    network = nequip_network(
        SYMBOLS,
        cutoff=CUTOFF,
        features=32,
        lmax=2,
        parity=False,
        layers=3,
        neighbors=NEIGHBORS,
        baseline=(0.0, 0.0),
        dtype=dtype,
    )
    return nequip_calculator(network, SYMBOLS, CUTOFF)


def nequip_forces(atoms: Any, dtype: str = "float32") -> tuple[Any, Any]:
    """The network, and a function of nothing that gives forces to be trained on."""
    calculator = nequip_model(dtype)
    network = calculator.model.train()
    data = calculator.atoms_to_data(atoms)
    return network, lambda: network(dict(data))["forces"]
