"""Models of ours, written for metatrain and run by it; for an environment with both.

``python -m tests.peers.metatrain_roundtrip [FOLDER]`` exports pet-water and PETs of random weights
with ``pointedge export``, exports them once more with ``mtt export``, and compares metatomic's
ASE calculator with ours; then it fine-tunes pet-water with ``mtt train`` for one epoch. It fails
where they differ by more than rounding.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
import yaml
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator

from pointedge.calculators import PETCalculator
from pointedge.calculators.cli import app
from pointedge.potentials import checkpoint
from pointedge.potentials.packaged import packaged_folder
from pointedge.potentials.pet import PET
from pointedge.potentials.potential import Potential

from ..networks import TINY

RANDOM: dict[str, dict[str, Any]] = {
    "default": {},
    "repulsion": {},
    "adaptive": {"num_neighbors_adaptive": 8.0, "cutoff": 5.0},
    "grid": {"num_neighbors_adaptive": 8.0, "adaptive_cutoff_method": "grid"},
    "conditioned": {"system_conditioning": True},
    "of the paper": {
        "featurizer": "residual",
        "transformer_type": "postln",
        "normalization": "layernorm",
        "activation": "silu",
        "d_node": None,
        "cutoff_function": "cosine",
        "blend_neighbor_species": False,
    },
    "lengths alone": {"edge_input": "length"},
    "vectors alone": {"edge_input": "vector", "attention_temperature": 1.3},
}
# Of the largest force. In float32, it is also the sum of energies that is rounded there.
LIMITS = {"float64": 1e-11, "float32": 3e-5}
# Constants of the repulsion are float32 in metatrain, and more of them after its export (in
# TorchScript) than before, where our reader has what it has.
REPULSION = 1e-6
TRAINING = {
    "seed": 1,
    "architecture": {
        "name": "pet",
        "training": {
            "num_epochs": 1,
            "batch_size": 2,
            "finetune": {"method": "full", "read_from": "pet-water.ckpt"},
        },
    },
    "training_set": {
        "systems": {"read_from": "frames.xyz", "length_unit": "angstrom"},
        "targets": {"energy": {"key": "energy", "unit": "eV", "forces": {"key": "forces"}}},
    },
    "validation_set": 0.25,
    "test_set": 0.0,
}


def random_model(name: str) -> Potential:
    """A PET of random weights for water."""
    torch.manual_seed(7)
    network = PET.from_config({"species": [1, 8], **TINY, **RANDOM[name]}).to(torch.float64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return Potential(network, {1: -13.6, 8: -432.1}, scale=0.7, repulsion=name == "repulsion")


def structures() -> list[Atoms]:
    """Liquid water, a triclinic cell of four molecules, a molecule with a short bond."""
    box = ase.io.read(packaged_folder("structures") / "water-64.xyz")
    box.calc = None
    few = box[:12]
    few.set_cell([[6.0, 0, 0], [1, 6.2, 0], [-1, 0.5, 6.4]])
    few.wrap()
    molecule = Atoms("OH2", [[0, 0, 0], [0.75, 0, 0], [-0.2, 0.93, 0]])
    return [box, few, molecule]


def exported(model: str, folder: Path, name: str, dtype: str) -> Calculator:
    """metatomic's calculator of a model that went through both exports."""
    from metatomic_ase import MetatomicCalculator

    ckpt, exported_file = folder / f"{name}.ckpt", folder / f"{name}.pt"
    arguments = ["export", model, str(ckpt), "--to", "metatrain", "--dtype", dtype, "--overwrite"]
    app(arguments, standalone_mode=False)
    command = [Path(sys.executable).parent / "mtt", "export", ckpt, "-o", exported_file]
    subprocess.run(command, check=True, cwd=folder, capture_output=True)
    return MetatomicCalculator(str(exported_file), device="cpu", check_consistency=True)


def loaded(folder: Path, name: str) -> Calculator:
    """metatomic's calculator of a checkpoint that metatrain loaded, before any TorchScript."""
    from metatomic_ase import MetatomicCalculator
    from metatrain.utils.io import load_model

    return MetatomicCalculator(load_model(folder / f"{name}.ckpt").export(), device="cpu")


def difference(theirs: Calculator, ours: Calculator) -> dict[str, float]:
    """Largest differences in energy per atom (eV), forces (eV/Å) and stress (eV/Å³)."""
    worst = {"energy": 0.0, "forces": 0.0, "largest force": 0.0, "stress": 0.0}
    for atoms in structures():
        results = []
        for calculator in (theirs, ours):
            atoms.calc = calculator
            stress = atoms.get_stress(voigt=False) if all(atoms.pbc) else np.zeros((3, 3))
            stress = 0.5 * (stress + stress.T)  # theirs is not symmetric, ours is
            results.append((atoms.get_potential_energy() / len(atoms), atoms.get_forces(), stress))
        for key, first, second in zip(("energy", "forces", "stress"), *results, strict=True):
            worst[key] = max(worst[key], float(np.abs(first - second).max()))
        worst["largest force"] = max(worst["largest force"], float(np.abs(results[1][1]).max()))
    return worst


def fine_tuned(folder: Path) -> None:
    """Train pet-water with metatrain for an epoch on eight frames, and read what comes out."""
    frames = []
    for seed in range(8):
        atoms = structures()[1]
        atoms.rattle(0.05, seed=seed)
        atoms.calc = PETCalculator("pet-water")
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    ase.io.write(folder / "frames.xyz", frames)
    (folder / "options.yaml").write_text(yaml.dump(TRAINING))
    command = [Path(sys.executable).parent / "mtt", "train", "options.yaml", "-o", "tuned.pt"]
    subprocess.run(command, check=True, cwd=folder, capture_output=True)
    potential = checkpoint.load(packaged_folder("models") / "pet-water.safetensors")
    again = PETCalculator(folder / "tuned.ckpt").potential
    changed = (again.network.edge_embedder.weight - potential.network.edge_embedder.weight).abs()
    print(f"fine-tuned by metatrain: embeddings changed by {float(changed.max()):.1e}", flush=True)
    assert 0 < float(changed.max()) < 1e-2
    assert torch.equal(again.baseline, potential.baseline)


def compare(name: str, theirs: Calculator, ours: Calculator, limit: float) -> None:
    """Print a line; fail where they differ by more than a share of the largest force."""
    found = difference(theirs, ours)
    force, stress = found["forces"], found["stress"]
    text = f"{found['energy']:.1e}, {force:.1e} ({found['largest force']:.2g}), {stress:.1e}"
    print(f"{name}: {text}", flush=True)
    assert max(force, stress) < limit * found["largest force"], found


def main() -> None:
    """Print a line for each model; fail where a difference is more than rounding."""
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    print("model, type: differences in eV/atom, eV/Å (of largest force), eV/Å³")
    models = [("pet-water", "pet-water", "float32"), ("pet-water", "pet-water", "float64")]
    for name in RANDOM:
        path = folder / f"{name}.safetensors"
        checkpoint.save(random_model(name), path)
        models.append((name, str(path), "float64"))
    for name, model, dtype in models:
        theirs = exported(model, folder, name, dtype)
        own = PETCalculator(model, dtype=dtype)
        limit = LIMITS[dtype] if own.potential.zbl is None else max(LIMITS[dtype], REPULSION)
        compare(f"{name}, {dtype}", theirs, own, limit)
        if own.potential.zbl is not None:
            again = PETCalculator(folder / f"{name}.ckpt")
            compare(f"{name}, {dtype}, not exported", loaded(folder, name), again, LIMITS[dtype])
    fine_tuned(folder)


if __name__ == "__main__":
    main()
