"""Peers with random weights as ASE calculators; importing one fails where it is not installed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any


def metatrain_pet(dtype: str = "float32") -> Any:
    """metatrain's PET in its default shape, for H and O, exported as its users export it."""
    import torch
    from metatomic.torch import ModelMetadata
    from metatomic_ase import MetatomicCalculator
    from metatrain.pet import PET
    from metatrain.utils.architectures import get_default_hypers
    from metatrain.utils.data import DatasetInfo
    from metatrain.utils.data.target_info import get_energy_target_info

    target = get_energy_target_info("energy", {"quantity": "energy", "unit": "eV"})
    info = DatasetInfo(length_unit="angstrom", atomic_types=[1, 8], targets={"energy": target})
    model = PET(get_default_hypers("pet")["model"], info).to(getattr(torch, dtype)).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pet.pt"
        model.export(ModelMetadata()).save(str(path))
        return MetatomicCalculator(str(path), device="cpu", check_consistency=False)


def mace_model(dtype: str = "float32") -> Any:
    """MACE of 64x0e+64x1o, two layers, for H and O."""
    import mace.calculators  # isort: skip; lets e3nn 0.4.4 read its tables with a new torch
    import numpy as np
    import torch
    from e3nn import o3
    from mace.modules import ScaleShiftMACE, interaction_classes

    block = interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = ScaleShiftMACE(
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
    return mace.calculators.MACECalculator(models=[model], device="cpu", default_dtype=dtype)
