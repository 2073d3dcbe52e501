"""How many frames does a model need? Force errors of PET, PET with symmetric layers, and NequIP.

    python examples/8_learning_curves.py OUTPUT [--steps 2000] [--frames 5 20 80 240] [--seeds 2]

Each is trained from random weights on evenly spaced frames of liquid water, with the settings of
train/water.yaml, water-layers.yaml and water-nequip.yaml but smaller networks. The budget is what
so many steps of the PET take; a method whose steps take longer has fewer of them. Ten frames of
another trajectory choose the best weights; errors are of the other seventy, which nothing else has
seen. The data are looked for as `pointedge train` does. A training that was cut off goes on, and
one that is there is not repeated.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from pointedge.calculators import PotentialCalculator
from pointedge.calculators.evaluation import evaluate
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.reading import read_frames
from pointedge.potentials.training.run import train
from pointedge.potentials.training.settings import Frames

TRAIN = Path(__file__).parent / "train"
SMALL_PET = {
    "d_pet": 32,
    "d_node": 64,
    "d_head": 32,
    "d_feedforward": 64,
    "num_attention_layers": 1,
}


@dataclass(frozen=True)
class Method:
    """A configuration, what is smaller in its network, its steps per step of the PET, optimiser.

    Steps were timed on one core, 192 atoms, in float32: 0.37, 0.70 and 0.31 s.
    """

    file: str
    model: dict[str, Any]
    steps: float
    optimization: dict[str, Any]


# With AdamW a PET of 240 frames came to 154 meV/Å instead of 106; and at 3e-3, after 20 steps of
# warm-up, one of five never learned the forces.
MUON = {"optimizer": "muon", "learning_rate": 2e-3, "warmup_fraction": 0.03}
METHODS = {
    "PET": Method("water.yaml", SMALL_PET, 1.0, MUON),
    "PET, symmetric layers": Method("water-layers.yaml", SMALL_PET, 0.53, MUON),
    "NequIP": Method(
        "water-nequip.yaml",
        {"irreps": "16x0e + 16x1o + 16x2e", "radial_width": 32},
        1.18,
        {"learning_rate": 5e-3},
    ),
}
# Of 240 frames, in the order of their trajectories.
PARTS = {
    5: {"take": "::48"},
    20: {"take": "::12"},
    40: {"take": "::6"},
    80: {"take": "::3"},
    160: {"leave": "::3"},
    240: {},
}
TEST = {"files": ["water/train.xyz"], "where": {"source_set": ["data_2/set.000"]}}


def configuration(method: Method, frames: int, steps: int, seed: int) -> TrainingConfig:
    """The settings of a method, with fewer frames and another budget."""
    config = TrainingConfig.from_yaml(TRAIN / method.file)
    tree = config.model_dump(exclude_defaults=True)
    (selection,) = tree["data"]["train"]
    tree["data"]["train"] = {**selection, **PARTS[frames]}
    tree["data"]["validation"] = {**TEST, "take": "::8"}
    tree["model"] |= method.model
    epochs = max(1, round(method.steps * steps / frames))
    tree["optimization"] |= {
        "max_hours": None,
        "max_epochs": epochs,
        "validate_every": max(1, epochs // 20),
        "seed": seed,
        **method.optimization,
    }
    return TrainingConfig.from_dict(tree)


def measure(method: Method, frames: int, steps: int, seed: int, folder: Path) -> dict[str, float]:
    """Train and test one model; results are kept in its folder."""
    result = folder / "result.json"
    if result.is_file():
        return json.loads(result.read_text())
    config = configuration(method, frames, steps, seed)
    train(config, folder, folder=TRAIN, report=lambda line: None)
    calculator = PotentialCalculator(folder / "best.safetensors")
    found = evaluate(calculator, read_frames(Frames(**TEST, leave="::8"), TRAIN)).overall
    run = json.loads((folder / "results.json").read_text())
    values = {
        "frames": frames,
        "steps": run["steps"],
        "minutes": 60 * run["hours"],
        "forces": found.forces.rmse,
        "energy": found.energy_per_atom.offset_corrected.rmse,
    }
    result.write_text(json.dumps(values))
    return values


def draw(curves: dict[str, list[list[dict[str, float]]]], steps: int, path: Path) -> None:
    """Errors of forces and energies against the number of frames, on logarithmic axes.

    A line through the geometric means of the seeds, which are points.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    labels = {"forces": "force RMSE (meV/Å)", "energy": "energy RMSE (meV/atom), no offset"}
    for panel, (name, label) in zip(panels, labels.items(), strict=True):
        for number, (method, points) in enumerate(curves.items()):
            frames = [seeds[0]["frames"] for seeds in points]
            errors = np.array([[run[name] for run in seeds] for seeds in points])
            style = {"color": f"C{number}", "marker": "osD"[number]}
            panel.loglog(frames, np.exp(np.log(errors).mean(axis=1)), label=method, **style)
            if errors.shape[1] > 1:
                panel.loglog(frames, errors, linestyle="", alpha=0.4, markersize=4, **style)
        panel.set_xticks(frames, labels=map(str, frames))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.yaxis.set_major_formatter(ScalarFormatter())
        panel.yaxis.set_minor_formatter(ScalarFormatter())
        panel.set(xlabel="training frames of 192 atoms", ylabel=label)
        panel.grid(alpha=0.3, which="both")
    panels[0].legend()
    figure.suptitle(f"Liquid water: the time of {steps} steps of the PET each, of 192 atoms")
    figure.savefig(path, dpi=150)


def in_words(runs: list[dict[str, float]]) -> str:
    """Errors, steps and minutes of all seeds."""
    return "; ".join(
        f"{p['forces']:.0f}, {p['energy']:.2f} ({p['steps']}, {p['minutes']:.0f})" for p in runs
    )


def main() -> None:
    """Train what is missing, then print and draw all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=2000, help="of PET; others by their time")
    parser.add_argument("--frames", type=int, nargs="+", default=[*PARTS], choices=[*PARTS])
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS])
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each kind")
    options = parser.parse_args()
    curves = {}
    print("| training frames |", " | ".join(map(str, options.frames)), "|")
    for method in options.methods:
        curves[method] = [
            [
                measure(
                    METHODS[method], n, options.steps, seed, options.output / f"{method}-{n}-{seed}"
                )
                for seed in range(options.seeds)
            ]
            for n in options.frames
        ]
        words = " | ".join(in_words(seeds) for seeds in curves[method])
        print(f"| {method}: meV/Å, meV/atom (steps, min) | {words} |", flush=True)
    draw(curves, options.steps, options.output / "learning-curves.png")


if __name__ == "__main__":
    main()
