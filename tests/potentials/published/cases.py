"""Published models with reference numbers: of metatrain, and of the original research code."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import torch
import yaml

from pointedge.potentials.pet import published
from pointedge.potentials.potential import Potential

DATA = Path(__file__).parents[2] / "data"
CASES = DATA / "pet-cases"
FORMAT = DATA / "published-format"


def metatrain_case(name: str) -> Potential:
    """Potential of a checkpoint of metatrain, in float64."""
    return published.load(CASES / f"{name}.ckpt")


def original_folder(
    folder: Path,
    name: str = "orig1_default_like_f64",
    changes: dict | None = None,
    *,
    prefix: str = "model.pet_model.",
    baseline: tuple[float, ...] = (0, 0, 0, 0),
) -> Path:
    """A folder as the research code leaves it, with the weights of a case."""
    case = json.loads((CASES / f"{name}_hypers.json").read_text())
    raw = np.load(CASES / f"{name}_state_dict.npz")
    folder.mkdir(exist_ok=True)
    hypers = {
        "ARCHITECTURAL_HYPERS": {**case["hypers"], **(changes or {})},
        "MLIP_SETTINGS": {"USE_ENERGIES": True, "USE_FORCES": True},
    }
    (folder / "hypers_used.yaml").write_text(yaml.dump(hypers))
    np.save(folder / "all_species.npy", np.array(case["atomic_types"]))
    np.save(folder / "self_contributions.npy", np.array(baseline))
    state = {f"{prefix}{key}": torch.from_numpy(raw[key]) for key in raw.files}
    torch.save(state, folder / "best_val_rmse_both_model_state_dict")
    return folder


def unpacked(name: str, folder: Path) -> Path:
    """A file of ``published-format`` as it was before compression."""
    path = folder / name.removesuffix(".gz")
    path.write_bytes(gzip.decompress((FORMAT / name).read_bytes()))
    return path
