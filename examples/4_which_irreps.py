"""Do vectors and tensors help, and does the network use them? Four networks of equal size.

    python examples/4_which_irreps.py OUTPUT [--seeds 3] [--tasks energies forces dipoles]

After Miller et al. (arXiv 2008.08461) and Lee, Galkin & Miret (arXiv 2410.08131): networks with
scalars (L0), with vectors too (L1), with tensors too (L2), and with scalars and tensors alone
(L0+2), of the same depth, number of parameters and number of steps, are trained on energies alone,
on energies and forces (200 frames of acetylacetone), and on vector dipoles (60 molecules of QM7-X).
Errors are of frames that no training saw. Then every irrep of every layer is taken away in turn, as
`pointedge irreps` does. The data are looked for as `pointedge train` does. A run that is there
already is not repeated.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import ase.io
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from pointedge.calculators import PotentialCalculator
from pointedge.calculators.comparison import Frame
from pointedge.calculators.evaluation import evaluate
from pointedge.calculators.irreps import irrep_usage, rmse
from pointedge.potentials.equivariant.convolution import ConvolutionConfig
from pointedge.potentials.equivariant.widths import (
    equivariant_net,
    invariant_net,
    matched,
    number_of_parameters,
)
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.labels import keys_of
from pointedge.potentials.training.reading import find_file
from pointedge.potentials.training.run import train

HERE = Path(__file__).parent
TASKS = {  # configuration, what to change, test file and frames, what to show
    "energies": (
        "acac-irreps.yaml",
        ["loss.forces=0"],
        ("molecules/acac.xyz", "test_MD_300K", slice(0, None, 4)),
        "energy_per_atom",
    ),
    "forces": (
        "acac-irreps.yaml",
        [],
        ("molecules/acac.xyz", "test_MD_300K", slice(0, None, 4)),
        "forces",
    ),
    "dipoles": (
        "dipole-irreps.yaml",
        [],
        ("molecules/qm7x-100-dipole.xyz", None, slice(75, None)),
        "dipole",
    ),
}
UNITS = {"energy_per_atom": "energy, meV/atom", "forces": "forces, meV/Å", "dipole": "dipole, me·Å"}
NETWORKS = ("L0", "L1", "L0+2", "L2")  # the third has scalars and tensors, and no vectors


def network(name: str, model: dict) -> ConvolutionConfig:
    """The network of the configuration is L2; the others have as many parameters."""
    full = ConvolutionConfig(species=(1, 6, 8), **model)
    if name == "L2":
        return full
    if name == "L0+2":
        return matched(replace(full, irreps="1x0e + 1x2e"), number_of_parameters(full))
    return invariant_net(full) if name == "L0" else equivariant_net(full)


def run(task: str, name: str, seed: int, folder: Path, epochs: int | None) -> dict:
    """Train, test and take apart one network; results are kept in its folder."""
    result = folder / "result.json"
    if result.is_file():
        return json.loads(result.read_text())
    yaml, changes, (file, split, selection), _ = TASKS[task]
    source = HERE / "train" / yaml
    config = TrainingConfig.from_yaml(source, [*changes, f"optimization.seed={seed}"])
    shape = network(name, config.model)
    model = {**config.model, "irreps": shape.irreps, "lmax": shape.lmax}
    optimization = config.optimization
    if epochs is not None:
        optimization = optimization.model_copy(update={"max_epochs": epochs})
    config = config.model_copy(update={"model": model, "optimization": optimization})
    start = time.perf_counter()
    train(config, folder, folder=source.parent, report=lambda line: None)
    minutes = (time.perf_counter() - start) / 60
    path = find_file(file, source.parent)
    keys = keys_of(config.data)
    everything = [a for a in ase.io.read(path, ":") if split in (None, a.info.get("split"))]
    frames = [Frame(a, str(path), k, keys) for k, a in enumerate(everything)][selection]
    calculator = PotentialCalculator(folder / "best.safetensors")
    found = irrep_usage(calculator, frames)
    values = {
        "task": task,
        "network": name,
        "seed": seed,
        "irreps": shape.irreps,
        "parameters": number_of_parameters(replace(shape, species=calculator.potential.species)),
        "minutes": minutes,
        "errors": rmse(evaluate(calculator, frames).overall),
        "usage": [
            {
                "stage": u.statistics.stage,
                "irrep": str(u.statistics.irrep),
                **{k: asdict(u.statistics)[k] for k in ("share", "variance", "gradient")},
                "growth": {k: v / found.errors[k] for k, v in u.zeroed.items()},
            }
            for u in found.stages
        ],
    }
    result.write_text(json.dumps(values, indent=1))
    return values


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """Mean over seeds and its standard error."""
    count = len(values)
    return float(np.mean(values)), float(np.std(values, ddof=1) / count**0.5) if count > 1 else 0.0


def table(results: list[dict]) -> list[str]:
    """Lines of two Markdown tables: errors, and errors without each irrep."""
    lines = [
        "| trained on | network | parameters | minutes | RMSE of test frames |",
        "|" + "---|" * 5,
    ]
    groups = {(r["task"], r["network"]): [] for r in results}
    for r in results:
        groups[r["task"], r["network"]].append(r)
    for (task, name), runs in groups.items():
        errors = []
        for quantity in runs[0]["errors"]:
            mean, error = mean_and_error([r["errors"][quantity] for r in runs])
            errors.append(f"{UNITS[quantity]} {mean:.3g} ± {error:.2g}")
        first, minutes = runs[0], np.mean([r["minutes"] for r in runs])
        lines.append(
            f"| {task} | {name}: {first['irreps']} | {first['parameters']} | {minutes:.1f} | "
            f"{'; '.join(errors)} |"
        )
    lines += ["", "| trained on | network | without | share, variance, gradient | error grows to |"]
    lines.append("|" + "---|" * 5)
    for (task, name), runs in groups.items():
        for k, usage in enumerate(runs[0]["usage"]):
            grown = []
            for quantity in usage["growth"]:
                mean, error = mean_and_error([r["usage"][k]["growth"][quantity] for r in runs])
                grown.append(f"{quantity.removesuffix('_per_atom')} {mean:.3g} ± {error:.2g} times")
            shares = [
                f"{100 * np.mean([r['usage'][k][s] for r in runs]):.0f} %"
                for s in ("share", "variance", "gradient")
            ]
            lines.append(
                f"| {task} | {name} | {usage['irrep']} of {usage['stage']} | {', '.join(shares)} | "
                f"{'; '.join(grown)} |"
            )
    return lines


def draw(results: list[dict], path: Path) -> None:
    """Errors of the networks, and how they grow without scalars, vectors or tensors."""
    tasks = list(dict.fromkeys(r["task"] for r in results))
    figure = Figure(figsize=(3.4 * len(tasks), 5.6), layout="constrained", dpi=150)
    panels = figure.subplots(2, len(tasks), squeeze=False)
    colors = {"0e": "#2166ac", "1o": "#d6604d", "2e": "#1b7837"}
    for (top, bottom), task in zip(panels.T, tasks, strict=True):
        quantity = TASKS[task][3]
        for k, name in enumerate(NETWORKS):
            runs = [r for r in results if (r["task"], r["network"]) == (task, name)]
            values = [r["errors"][quantity] for r in runs]
            mean, error = mean_and_error(values)
            top.bar(k, mean, 0.6, yerr=error, capsize=4, color="0.8")
            top.scatter([k] * len(values), values, s=12, color="0.3", zorder=3)
            for n, usage in enumerate(runs[0]["usage"]):
                grown = [r["usage"][n]["growth"][quantity] for r in runs]
                mean, error = mean_and_error(grown)
                layer = int(usage["stage"].split()[-1])
                x = k + 0.25 * (layer - 2) + 0.06 * (list(colors).index(usage["irrep"]) - 1)
                color = colors[usage["irrep"]]
                bottom.errorbar(x, mean, error, fmt="o", ms=4, capsize=2, color=color)
        top.set_title(f"trained on {task}", fontsize=10)
        top.set(ylabel=f"RMSE of the {UNITS[quantity]}")
        bottom.axhline(1.0, color="0.5", linewidth=0.8, linestyle=":")
        bottom.set(yscale="log", ylabel="error without one irrep\nof layer 1, 2, 3, times as it is")
        low, high = bottom.get_ylim()
        bottom.set_yticks([x for x in (1, 1.2, 1.5, 2, 3, 5, 10, 20) if low < x < high])
        bottom.yaxis.set_major_formatter("{x:g}")
        bottom.yaxis.set_minor_locator(NullLocator())
        for axes in (top, bottom):
            axes.set_xticks(range(len(NETWORKS)), NETWORKS)
            axes.spines[["top", "right"]].set_visible(False)
    for irrep, color in colors.items():
        panels[1, 0].plot([], [], "o", color=color, label=irrep)
    panels[1, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument(
        "--epochs", type=int, help="of every training; default: the configuration's"
    )
    arguments = parser.parse_args()
    results = []
    for task in arguments.tasks:
        for name in NETWORKS:
            for seed in range(arguments.seeds):
                folder = arguments.output / f"{task}-{name}-{seed}"
                found = run(task, name, seed, folder, arguments.epochs)
                errors = ", ".join(f"{UNITS[k]} {v:.3g}" for k, v in found["errors"].items())
                print(f"{task:9} {name} seed {seed}: {errors}", flush=True)
                results.append(found)
    (arguments.output / "results.json").write_text(json.dumps(results, indent=1))
    print("\n" + "\n".join(table(results)))
    draw(results, arguments.output / "irreps.png")


if __name__ == "__main__":
    main()
