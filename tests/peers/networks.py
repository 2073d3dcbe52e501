"""Networks of other packages with random weights, which audits and benchmarks ask alike.

Importing one fails where its package is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def mace_network(
    numbers: Sequence[int],
    *,
    cutoff: float,
    irreps: str,
    lmax: int,
    correlation: int,
    readout: str,
    neighbors: float,
    baseline: Sequence[float],
    dtype: str,
) -> Any:
    """mace-torch's, two layers, with its default envelope."""
    import mace.calculators  # noqa: F401  isort: skip; lets e3nn 0.4.4 read its tables
    import numpy as np
    import torch
    from e3nn import o3
    from mace.modules import ScaleShiftMACE, interaction_classes

    block = interaction_classes["RealAgnosticResidualInteractionBlock"]
    return ScaleShiftMACE(
        r_max=cutoff,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=lmax,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps(irreps),
        MLP_irreps=o3.Irreps(readout),
        atomic_energies=np.array(baseline),
        avg_num_neighbors=neighbors,
        atomic_numbers=list(numbers),
        correlation=correlation,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    ).to(getattr(torch, dtype))


def mace_calculator(network: Any, dtype: str) -> Any:
    """Its calculator."""
    from mace.calculators import MACECalculator

    return MACECalculator(models=[network], device="cpu", default_dtype=dtype)


def nequip_network(
    symbols: Sequence[str],
    *,
    cutoff: float,
    features: int,
    lmax: int,
    parity: bool,
    layers: int,
    neighbors: float,
    baseline: Sequence[float],
    dtype: str,
) -> Any:
    """nequip's own, not compiled."""
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    return NequIPGNNModel(
        seed=1,
        model_dtype=dtype,
        type_names=list(symbols),
        r_max=cutoff,
        num_layers=layers,
        l_max=lmax,
        parity=parity,
        num_features=features,
        avg_num_neighbors=neighbors,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=dict(zip(symbols, baseline, strict=True)),
    )


def nequip_calculator(network: Any, symbols: Sequence[str], cutoff: float) -> Any:
    """Its calculator."""
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.integrations.ase import NequIPCalculator

    mapper = ChemicalSpeciesToAtomTypeMapper(list(symbols))
    transforms = [mapper, NeighborListTransform(r_max=cutoff)]
    return NequIPCalculator(network.eval(), device="cpu", transforms=transforms)
