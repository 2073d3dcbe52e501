"""What metatrain itself computes with published files; run where metatrain 2026.4 is installed.

``python -m tests.peers.metatrain_references`` writes tests/data/published-format/references.npz
(energies and forces of two structures for the 34 files of every model version, and two of its own,
which it writes too): several.ckpt.gz, random weights, fine-tuned by LoRA, with two energies and
direct forces; and large.ckpt.gz, a large model in the layout of version 7. direct.ckpt.gz predicts
forces and stress directly; what its calculator then gives is in direct.npz. uncertain.ckpt.gz has
uncertainties (llpr), which are in uncertain.npz.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

FOLDER = Path(__file__).parents[1] / "data" / "published-format"
TARGETS = ("energy", "energy/pbe")
DIRECT = ("non_conservative_forces", "non_conservative_stress")
TABLE = "edge_embedder.weight"


def structures() -> list[Atoms]:
    """A molecule of all four elements, and a small triclinic crystal."""
    random = np.random.default_rng(3)
    molecule = Atoms("CNOH3", 1.3 * np.array(list(np.ndindex(1, 2, 3))) + random.random((6, 3)) / 3)
    cell = [[4.2, 0, 0], [0.5, 3.9, 0], [-0.4, 0.3, 4.4]]
    crystal = Atoms("HCNO", scaled_positions=random.random((4, 3)), cell=cell, pbc=True)
    crystal.positions[:] = crystal.positions * 0.2 + np.array(
        [[0, 0, 0], [2, 0, 0.1], [0.2, 2, 2.2], [2.2, 2.1, 1.9]]
    )
    return [molecule, crystal]


def several() -> dict[str, Any]:
    """A checkpoint with several targets, after fine-tuning by LoRA."""
    from metatrain.pet import PET
    from metatrain.pet.modules.finetuning import apply_finetuning_strategy
    from metatrain.utils.architectures import get_default_hypers
    from metatrain.utils.data import DatasetInfo
    from metatrain.utils.data.target_info import get_energy_target_info, get_generic_target_info

    torch.manual_seed(1)
    targets = {
        "energy": get_energy_target_info("energy", {"quantity": "energy", "unit": "kcal/mol"}),
        "energy/pbe": get_energy_target_info("energy/pbe", {"quantity": "energy", "unit": "eV"}),
        "non_conservative_forces": get_generic_target_info("non_conservative_forces", generic(1)),
    }
    info = DatasetInfo(length_unit="angstrom", atomic_types=[1, 6, 7, 8], targets=targets)
    shape = {"d_pet": 8, "d_node": 12, "d_head": 4, "d_feedforward": 6, "num_heads": 2}
    hypers = {
        **get_default_hypers("pet")["model"],
        **shape,
        "num_attention_layers": 1,
        "cutoff": 4.0,
        "num_neighbors_adaptive": 6,
    }
    model = PET(hypers, info)
    lora = {"method": "lora", "config": {"rank": 2, "alpha": 3.0}, "inherit_heads": {}}
    model = apply_finetuning_strategy(model, lora).to(torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    spread(model)
    saved = model.get_checkpoint()
    saved["best_model_state_dict"]["finetune_config"] = lora  # as its trainer does
    return saved


def large() -> dict[str, Any]:
    """A large model in the layout of version 7, of which no published file is at hand."""
    from metatrain.pet import PET
    from metatrain.utils.architectures import get_default_hypers
    from metatrain.utils.data import DatasetInfo
    from metatrain.utils.data.target_info import get_energy_target_info

    torch.manual_seed(2)
    target = get_energy_target_info("energy", {"quantity": "energy", "unit": "eV"})
    info = DatasetInfo("angstrom", [1, 6, 7, 8], {"energy": target})
    stated = {"cutoff": 4.0, "cutoff_width": 0.4, "d_pet": 4, "d_head": 4, "num_heads": 2}
    stated.update(num_attention_layers=1, num_gnn_layers=2, zbl=False)
    implied = {"d_node": 16, "d_feedforward": 8, "cutoff_function": "Cosine"}
    model = PET({**get_default_hypers("pet")["model"], **stated, **implied}, info)
    model.to(torch.float64)
    spread(model)
    saved = model.get_checkpoint()
    state = {}
    for name, value in saved["model_state_dict"].items():
        name = name.removeprefix("backend.").replace("combination_norms", "combination_rmsnorms")
        if "node_embedders" in name or "neighbor_embedder" in name or name == TABLE:
            value = torch.cat([value, torch.full_like(value[:1], torch.nan)])
        name = "embedding.weight" if name == TABLE else name
        if "_per_" not in name:  # scales of later versions
            state[name.replace("node_embedders.0", "node_embedding")] = value
    saved["model_data"]["model_hypers"] = {**stated, "long_range": {"enable": False}}
    saved.update(model_ckpt_version=7, model_state_dict=state, best_model_state_dict=None)
    return saved


def direct(seed: int = 3) -> dict[str, Any]:
    """A model that predicts forces and stress, besides the energy that they do not follow from."""
    from metatrain.pet import PET
    from metatrain.utils.architectures import get_default_hypers
    from metatrain.utils.data import DatasetInfo
    from metatrain.utils.data.target_info import get_energy_target_info, get_generic_target_info

    torch.manual_seed(seed)
    targets = {"energy": get_energy_target_info("energy", {"quantity": "energy", "unit": "eV"})}
    for rank, name in enumerate(DIRECT, start=1):
        targets[name] = get_generic_target_info(name, generic(rank))
    info = DatasetInfo(length_unit="angstrom", atomic_types=[1, 6, 7, 8], targets=targets)
    shape = {"d_pet": 8, "d_node": 12, "d_head": 4, "d_feedforward": 6, "num_heads": 2}
    shape.update(num_attention_layers=1, cutoff=4.0)
    model = PET({**get_default_hypers("pet")["model"], **shape}, info).to(torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    spread(model)
    return model.get_checkpoint()


def uncertain() -> dict[str, Any]:
    """Such a model wrapped in uncertainties, of a random covariance."""
    from metatrain.llpr.model import LLPRUncertaintyModel
    from metatrain.utils.io import model_from_checkpoint

    model = model_from_checkpoint(direct(5), context="finetune").to(torch.float64)
    wrapper = LLPRUncertaintyModel({"num_ensemble_members": {}}, model.dataset_info)
    wrapper.set_wrapped_model(model)
    torch.manual_seed(4)
    for name in wrapper.outputs_list:
        features = torch.randn(20, wrapper.ll_feat_size, dtype=torch.float64)
        name = "energy_uncertainty" if name == "energy" else f"mtt::aux::{name}_uncertainty"
        wrapper._get_covariance(name)[:] = features.T @ features
        wrapper._get_multiplier(name)[:] = 0.3
    wrapper.compute_cholesky_decomposition()
    return wrapper.get_checkpoint()


def generic(rank: int) -> dict[str, Any]:
    """Settings of direct forces or stress."""
    return {
        "quantity": "",
        "unit": "",
        "type": {"cartesian": {"rank": rank}},
        "num_subtargets": 1,
        "sample_kind": "atom" if rank == 1 else "system",
        "per_atom": rank == 1,
        "description": "",
    }


def spread(model: Any) -> None:
    """Give baselines and scales values that nothing else has."""
    import metatensor.torch as mts

    known = [t for t in (*TARGETS, *DIRECT) if t in model.dataset_info.targets]
    for number, name in enumerate(known):
        for module, kind in ((model.additive_models[0], "composition"), (model.scaler, "scaler")):
            key = f"{name}_{kind}_buffer"
            if not hasattr(module, key):
                continue  # directions have no baseline
            array = mts.load_buffer(getattr(module, key))
            values = array.block().values
            values += torch.arange(1, len(values) + 1)[:, None] / (3 + number)
            setattr(module, key, mts.save_buffer(array))


def evaluated(saved: dict[str, Any]) -> dict[str, np.ndarray]:
    """Energies (eV) and forces (eV/Å) in float64, by metatrain's model and metatomic's ASE."""
    from metatomic.torch import ModelMetadata
    from metatomic_ase import MetatomicCalculator
    from metatrain.utils.io import model_from_checkpoint

    model = model_from_checkpoint(saved, context="export").to(torch.float64)
    model.dataset_info.length_unit = "angstrom"
    exported = model.export(ModelMetadata())
    result = {}
    for target in TARGETS:
        if target not in model.dataset_info.targets:
            continue
        variant = target.partition("/")[2] or None
        calculator = MetatomicCalculator(
            exported, device="cpu", variants={"energy": variant} if variant else None
        )
        for number, atoms in enumerate(structures()):
            atoms.calc = calculator
            result[f"{target}/{number}/energy"] = np.array(atoms.get_potential_energy())
            result[f"{target}/{number}/forces"] = atoms.get_forces()
    return result


def evaluated_directly(saved: dict[str, Any]) -> dict[str, np.ndarray]:
    """Forces (eV/Å) and stress (eV/Å³, Voigt) that are no derivatives, by metatomic's ASE."""
    from metatomic.torch import ModelMetadata
    from metatomic_ase import MetatomicCalculator
    from metatrain.utils.io import model_from_checkpoint

    model = model_from_checkpoint(saved, context="export").to(torch.float64)
    exported = model.export(ModelMetadata())
    result = {}
    for number, atoms in enumerate(structures()):
        atoms.calc = MetatomicCalculator(exported, device="cpu", non_conservative=True)
        result[f"{number}/energy"] = np.array(atoms.get_potential_energy())
        result[f"{number}/forces"] = atoms.get_forces()
        if atoms.pbc.all():
            result[f"{number}/stress"] = atoms.get_stress()
    return result


def evaluated_uncertainties(saved: dict[str, Any]) -> dict[str, np.ndarray]:
    """Standard deviations (eV) of the energies of structures and atoms."""
    from metatomic.torch import ModelMetadata, ModelOutput
    from metatomic_ase import MetatomicCalculator
    from metatrain.utils.io import model_from_checkpoint

    exported = model_from_checkpoint(saved, context="export").to(torch.float64)
    exported = exported.export(ModelMetadata())
    calculator = MetatomicCalculator(exported, device="cpu")
    result = {}
    for number, atoms in enumerate(structures()):
        for kind in ("system", "atom"):
            asked = {"energy_uncertainty": ModelOutput(unit="eV", sample_kind=kind)}
            found = calculator.run_model([atoms], asked)["energy_uncertainty"]
            result[f"{number}/{kind}"] = found.block().values.detach().numpy()[:, 0]
    return result


def main() -> None:
    """Write the references."""
    for function in (several, large, direct, uncertain):
        buffer = io.BytesIO()
        torch.save(function(), buffer)
        path = FOLDER / f"{function.__name__}.ckpt.gz"
        path.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))
    arrays = {}
    for path in sorted(FOLDER.glob("*.ckpt.gz")):
        raw = io.BytesIO(gzip.decompress(path.read_bytes()))
        saved = torch.load(raw, weights_only=False, map_location="cpu")
        found = evaluated(saved)
        arrays.update({f"{path.name}/{key}": value for key, value in found.items()})
        print(path.name, {k: float(v) for k, v in found.items() if v.ndim == 0}, flush=True)
    np.savez_compressed(FOLDER / "references.npz", **arrays)
    np.savez_compressed(FOLDER / "direct.npz", **evaluated_directly(direct()))
    np.savez_compressed(FOLDER / "uncertain.npz", **evaluated_uncertainties(uncertain()))


if __name__ == "__main__":
    main()
