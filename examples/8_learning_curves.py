"""How many frames does a model need? Force errors of PET, PET with symmetric layers, and NequIP.

    python examples/8_learning_curves.py OUTPUT [--minutes 15] [--frames 20 40 80 160 240]

Each is trained from random weights on evenly spaced frames of liquid water, for equal times, with
the settings of train/water.yaml, water-layers.yaml and water-nequip.yaml. Ten frames of another
trajectory choose the best weights; errors are of the other seventy, which nothing else has seen.
The data are looked for as `pointedge train` does. A training that was cut off goes on, and one that
is there is not repeated. Run nothing else beside it: the budget is a time.
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from pointedge.calculators import PotentialCalculator
from pointedge.calculators.evaluation import evaluate
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.reading import read_frames
from pointedge.potentials.training.run import train
from pointedge.potentials.training.settings import Frames

TRAIN = Path(__file__).parent / "train"
METHODS = {
    "PET": "water.yaml",
    "PET, symmetric layers": "water-layers.yaml",
    "NequIP": "water-nequip.yaml",
}
# Of 240 frames, in the order of their trajectories.
PARTS = {
    20: {"take": "::12"},
    40: {"take": "::6"},
    80: {"take": "::3"},
    160: {"leave": "::3"},
    240: {},
}
TEST = {"files": ["water/train.xyz"], "where": {"source_set": ["data_2/set.000"]}}


def configuration(file: str, frames: int, minutes: float) -> TrainingConfig:
    """The settings of a file, with fewer frames and another budget."""
    config = TrainingConfig.from_yaml(TRAIN / file)
    tree = config.model_dump(exclude_defaults=True)
    (selection,) = tree["data"]["train"]
    tree["data"]["train"] = {**selection, **PARTS[frames]}
    tree["data"]["validation"] = {**TEST, "take": "::8"}
    epoch = minutes / 60 / 20  # validate some twenty times
    tree["optimization"] |= {
        "max_hours": minutes / 60,
        "max_epochs": 100_000,
        "validate_every": max(1, round(epoch * 3600 / frames)),  # a step takes about a second
    }
    return TrainingConfig.from_dict(tree)


def measure(file: str, frames: int, minutes: float, folder: Path) -> dict[str, float]:
    """Train and test one model; results are kept in its folder."""
    result = folder / "result.json"
    if result.is_file():
        return json.loads(result.read_text())
    train(configuration(file, frames, minutes), folder, folder=TRAIN, report=lambda line: None)
    calculator = PotentialCalculator(folder / "best.safetensors")
    found = evaluate(calculator, read_frames(Frames(**TEST, leave="::8"), TRAIN)).overall
    values = {
        "frames": frames,
        "steps": calculator.potential.information["steps"],
        "forces": found.forces.rmse,
        "energy": found.energy_per_atom.offset_corrected.rmse,
    }
    result.write_text(json.dumps(values))
    return values


def draw(curves: dict[str, list[dict[str, float]]], minutes: float, path: Path) -> None:
    """Errors of forces and energies against the number of frames, on logarithmic axes."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    labels = {"forces": "force RMSE (meV/Å)", "energy": "energy RMSE (meV/atom), offset removed"}
    for panel, (name, label) in zip(panels, labels.items(), strict=True):
        for (method, points), marker in zip(curves.items(), "osD", strict=False):
            frames = [point["frames"] for point in points]
            panel.loglog(frames, [point[name] for point in points], f"{marker}-", label=method)
        panel.set_xticks(frames, labels=map(str, frames))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.yaxis.set_major_formatter(ScalarFormatter())
        panel.yaxis.set_minor_formatter(ScalarFormatter())
        panel.set(xlabel="training frames of 192 atoms", ylabel=label)
        panel.grid(alpha=0.3, which="both")
    panels[0].legend()
    figure.suptitle(f"Liquid water, {minutes:g} minutes of training on one core each")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train what is missing, then print and draw all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=15.0, help="of each training")
    parser.add_argument("--frames", type=int, nargs="+", default=[*PARTS], choices=[*PARTS])
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS])
    options = parser.parse_args()
    curves = {}
    print("| training frames |", " | ".join(map(str, options.frames)), "|")
    for method in options.methods:
        curves[method] = [
            measure(METHODS[method], n, options.minutes, options.output / f"{method}-{n}")
            for n in options.frames
        ]
        found = (f"{p['forces']:.0f}, {p['energy']:.2f} ({p['steps']})" for p in curves[method])
        print(f"| {method}: meV/Å, meV/atom (steps) |", " | ".join(found), "|", flush=True)
    draw(curves, options.minutes, options.output / "learning-curves.png")


if __name__ == "__main__":
    main()
