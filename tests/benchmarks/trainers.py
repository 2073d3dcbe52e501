"""One PET, trained by metatrain and here side by side for the same time: steps and test errors.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.trainers FOLDER [--mtt PROGRAM] [--minutes 12]

The network of example 8, from random weights, one frame to a batch, each program with one thread at
the same time, so that what else runs slows both. Energies have a tenth of the weight of forces in
both losses, but these are not the same: ours divides each error by its own running mean. metatrain
trains so many epochs as an epoch of it, timed before beside ours, fits in; its schedule is by
epochs. Errors of both are measured here, with the same frames. Data: water of `pointedge data
path`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import ase.io
import yaml
from ase import Atoms

from pointedge.calculators import PETCalculator
from pointedge.calculators.evaluation import evaluate
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.reading import read_frames
from pointedge.potentials.training.run import train
from pointedge.potentials.training.settings import Frames

NETWORK: dict[str, Any] = {
    "cutoff": 4.0,
    "cutoff_width": 0.5,
    "d_pet": 32,
    "d_node": 64,
    "d_head": 32,
    "d_feedforward": 64,
    "num_heads": 4,
    "num_attention_layers": 1,
    "num_gnn_layers": 2,
}
TRAJECTORIES = ["data_0/set.000", "data_1/set.000", "data_1/set.001"]
TIMED_EPOCHS = 2
STAMP = re.compile(r"^\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\]\[INFO\] - (.*)$", re.MULTILINE)


def frames(sets: list[str], **selection: str) -> list[Atoms]:
    """Frames of water of these trajectories."""
    chosen = Frames(files=["water/train.xyz"], where={"source_set": sets}, **selection)
    return list(read_frames(chosen, Path()))


def theirs(options: argparse.Namespace, folder: Path, epochs: int) -> dict[str, Any]:
    """The options of metatrain."""
    data = {
        name: {
            "systems": {"read_from": str(folder / f"{name}.xyz"), "length_unit": "angstrom"},
            "targets": {
                "energy": {"key": "REF_energy", "unit": "eV", "forces": {"key": "REF_forces"}}
            },
        }
        for name in ("training", "validation")
    }
    loss = {"type": "mse", "weight": 0.1, "gradients": {"positions": {"weight": 1.0}}}
    training = {
        "batch_size": 1,
        "num_epochs": epochs,
        "num_workers": 0,
        "learning_rate": options.rates[0],
        "warmup_fraction": 0.03,
        "best_model_metric": "loss",
        "loss": {"energy": loss},
    }
    network = {**NETWORK, "activation": "SiLU", "zbl": True}
    return {
        "seed": options.seed,
        "architecture": {"name": "pet", "model": network, "training": training},
        "training_set": data["training"],
        "validation_set": data["validation"],
    }


def ours(options: argparse.Namespace) -> TrainingConfig:
    """The same settings for `pointedge train`."""
    return TrainingConfig.from_dict(
        {
            "architecture": "pet",
            "model": {**NETWORK, "activation": "silu"},
            "zbl": True,
            "data": {
                "train": [{"files": ["training.xyz"]}],
                "validation": [{"files": ["validation.xyz"]}],
            },
            "loss": {"energy": 0.1, "forces": 1.0},
            "optimization": {
                "optimizer": options.optimizer,
                "learning_rate": options.rates[1],
                "warmup_fraction": 0.03,
                "batch_size": 1,
                "max_epochs": 100_000,
                "max_hours": options.minutes / 60,
                "seed": options.seed,
            },
        }
    )


def start(program: str, folder: Path, options: dict[str, Any]) -> subprocess.Popen[bytes]:
    """`mtt train` in a folder of its own."""
    folder.mkdir()
    (folder / "options.yaml").write_text(yaml.safe_dump(options))
    with (folder / "log").open("wb") as log:
        command = [program, "train", "options.yaml"]
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def minutes(folder: Path) -> float:
    """From the first to the last step, validations included, of metatrain's log."""
    at = {what: datetime.fromisoformat(when) for when, what in STAMP.findall(log_of(folder))}
    return (at["Training finished!"] - at["Starting training"]).total_seconds() / 60


def log_of(folder: Path) -> str:
    """What `mtt train` printed."""
    return (folder / "log").read_text()


def finished(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for `mtt train`; its last words if it failed."""
    if process.wait():
        raise SystemExit(f"mtt train failed:\n{log_of(folder)[-2000:]}")


def errors(model: Path, test: list[Atoms]) -> dict[str, float]:
    """RMSE of forces (meV/Å) and, offset-corrected, of energies (meV/atom)."""
    found = evaluate(PETCalculator(model), test).overall
    energies = found.energy_per_atom.offset_corrected
    return {"forces": found.forces.rmse, "energy": energies.rmse}


def main() -> None:
    """Train both, and print a line of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="new, for data and runs")
    parser.add_argument("--mtt", default="mtt", help="metatrain's program")
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--every", type=int, default=3, help="of 240 frames")
    parser.add_argument("--optimizer", default="muon", choices=["adamw", "muon"])
    parser.add_argument("--rates", type=float, nargs=2, default=[1e-3, 2e-3], help="theirs, ours")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True)
    training = frames(TRAJECTORIES, take=f"::{options.every}")
    ase.io.write(folder / "training.xyz", training)
    ase.io.write(folder / "validation.xyz", frames(["data_2/set.000"], take="::8"))
    test = frames(["data_2/set.000"], leave="::8")

    trial, run = folder / "trial", folder / "metatrain"
    beside = subprocess.Popen(["yes"], stdout=subprocess.DEVNULL)  # as busy as with our run
    finished(start(options.mtt, trial, theirs(options, folder, TIMED_EPOCHS)), trial)
    beside.kill()
    epochs = max(1, round(TIMED_EPOCHS * options.minutes / minutes(trial)))
    process = start(options.mtt, run, theirs(options, folder, epochs))
    train(ours(options), folder / "pointedge", folder=folder, report=lambda line: None)
    finished(process, run)
    mine = json.loads((folder / "pointedge" / "results.json").read_text())
    rows = {
        "metatrain": {
            "steps": epochs * len(training),
            "minutes": minutes(run),
            **errors(run / "model.ckpt", test),
        },
        "pointedge": {
            "steps": mine["steps"],
            "minutes": 60 * mine["hours"],
            **errors(folder / "pointedge" / "best.safetensors", test),
        },
    }
    (folder / "results.json").write_text(json.dumps(rows, indent=1))
    table = [["trainer", *rows["metatrain"]], ["---"] * 5]
    table += [[name, *(f"{value:.4g}" for value in row.values())] for name, row in rows.items()]
    for line in table:
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
