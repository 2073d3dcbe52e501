"""MnO: lattice constant, bulk modulus and magnetic order of a model against our own DFT.

    python examples/6_mno.py [--model pet-mno] [--data data/mno/*.xyz] [--output mno.png]

The frames hold energies of PBE+U for two spin orders of the same crystals: type-II
antiferromagnetic (the ground state) and ferromagnetic. Energies of undistorted crystals against
volume give lattice constant and bulk modulus, by Birch and Murnaghan's equation of state, of DFT
and of the model at the same volumes. And the difference of the two orders, in undistorted and in
distorted crystals, says whether the model knows which way the moments want to point. No model of
ours was trained on these frames (`kind` ideal and distorted; `data/mno/generate.py`).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.eos import birchmurnaghan
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import least_squares

from pointedge.calculators.cli.options import print_table
from pointedge.calculators.cli.runs import set_calculator
from pointedge.calculators.figures import BLUE, GRAY, ORANGE
from pointedge.calculators.models import make_calculator

DATA = Path(__file__).parents[1] / "data" / "mno"
ORDERS = {"AFM-II": (BLUE, "-", "o"), "FM": (ORANGE, "--", "s")}
GROUND, OTHER = ORDERS


@dataclass(frozen=True)
class Fit:
    """Equation of state of one spin order, per formula unit; errors are of the fit.

    `parameters`: energy (eV), bulk modulus (eV/Å³), its derivative, and volume (Å³) at the minimum.
    """

    parameters: np.ndarray
    errors: np.ndarray

    def energy(self, volume: np.ndarray) -> np.ndarray:
        """eV, at volumes in Å³."""
        return birchmurnaghan(volume, *self.parameters)

    @property
    def lattice_constant(self) -> tuple[float, float]:
        """Å, of the cubic cell with four formula units."""
        a = (4 * self.parameters[3]) ** (1 / 3)
        return a, a / 3 * self.errors[3] / self.parameters[3]

    @property
    def bulk_modulus(self) -> tuple[float, float]:
        """GPa."""
        return self.parameters[1] / units.GPa, self.errors[1] / units.GPa


def fit(volumes: np.ndarray, energies: np.ndarray) -> Fit:
    """Birch and Murnaghan's equation through points; with fewer than five, B' is taken to be 4."""
    if len(volumes) < 3:
        raise SystemExit(f"{len(volumes)} volumes are too few for an equation of state; give 3")
    a, b, c = np.polyfit(volumes, energies, 2)
    lowest = -b / (2 * a)
    if a <= 0 or not 0.7 * volumes.min() < lowest < 1.3 * volumes.max():
        raise SystemExit("energies against volume have no minimum near the volumes of the frames")
    guess = np.array([c - b**2 / (4 * a), 2 * a * lowest, 4.0, lowest])
    free = np.array([True, True, len(volumes) >= 5, True])

    def parameters(x: np.ndarray) -> np.ndarray:
        everything = guess.copy()
        everything[free] = x
        return everything

    found = least_squares(
        lambda x: birchmurnaghan(volumes, *parameters(x)) - energies, guess[free], x_scale="jac"
    )
    freedom = len(volumes) - free.sum()
    variance = 2 * found.cost / freedom if freedom else np.nan
    errors = np.full(4, np.nan)
    errors[free] = np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac)) * variance)
    return Fit(parameters(found.x), errors)


def read_frames(files: list[Path]) -> list[Atoms]:
    """Undistorted and distorted crystals of both orders, each with its labels."""
    frames = [atoms for file in files for atoms in ase.io.iread(file, index=":")]
    wanted = [f for f in frames if f.info.get("kind") in ("ideal", "distorted")]
    return [f for f in wanted if f.info.get("spin_order") in ORDERS]


def units_of(atoms: Atoms) -> int:
    """Number of formula units."""
    return int((atoms.numbers == 25).sum())


def ideal(frames: list[Atoms], energies: np.ndarray, order: str) -> tuple[np.ndarray, np.ndarray]:
    """Volumes (Å³) and energies (eV) per formula unit of the undistorted crystals of an order."""
    chosen = [
        (frame.get_volume() / units_of(frame), energy)
        for frame, energy in zip(frames, energies, strict=True)
        if frame.info["kind"] == "ideal" and frame.info["spin_order"] == order
    ]
    volumes, values = np.array(sorted(chosen)).reshape(-1, 2).T
    return volumes, values


def gaps(frames: list[Atoms], *energies: np.ndarray) -> list[tuple[float, str, list[float]]]:
    """Of both orders in one crystal: lattice constant (Å), kind, and E(FM) - E(AFM-II) (meV)."""
    by_name: dict[tuple[str, float], dict[str, int]] = {}
    for k, frame in enumerate(frames):
        name = (frame.info["kind"], float(frame.info["lattice_constant"]))
        by_name.setdefault(name, {})[frame.info["spin_order"]] = k
    found = []
    for (kind, a), orders in sorted(by_name.items(), reverse=True):
        if len(orders) == 2:
            high, low = orders[OTHER], orders[GROUND]
            found.append((a, kind, [1000 * (e[high] - e[low]) for e in energies]))
    return sorted(found, key=lambda gap: (gap[1] != "ideal", gap[0]))


def report(name: str, fits: dict[str, dict[str, Fit]], found: list) -> None:
    """Print equations of state, and the differences of the two orders."""
    rows = []
    for order in ORDERS:
        for who in fits:
            one = fits[who][order]
            (a, da), (b, db) = one.lattice_constant, one.bulk_modulus
            errors = [f"± {x:.1g}" if x == x else "" for x in (da, db)]
            slope = f"{one.parameters[2]:.1f}"
            rows.append((f"{order}, {who}", f"{a:.4f}", errors[0], f"{b:.1f}", errors[1], slope))
    print_table(("equation of state", "a (Å)", "fit", "B (GPa)", "fit", "B'"), rows)
    print()
    rows = []
    for a, kind, (dft, model) in found:
        same = "yes" if np.sign(dft) == np.sign(model) else "NO"
        rows.append((f"{kind}, a = {a:.3f} Å", f"{dft:.1f}", f"{model:.1f}", same))
    print_table(("E(FM) - E(AFM-II), meV per MnO", "DFT", name, "same order"), rows)
    right = sum(row[3] == "yes" for row in rows)
    print(f"order as in DFT: {right} of {len(rows)}")


def figure(
    name: str, frames: list[Atoms], dft: np.ndarray, fits: dict[str, dict[str, Fit]], found: list
) -> Figure:
    """Energy against volume, and the difference of the two orders against lattice constant."""
    canvas = Figure(figsize=(9.0, 4.2), layout="constrained")
    left, right = canvas.subplots(1, 2)
    for order, (color, style, marker) in ORDERS.items():
        volumes, energies = ideal(frames, dft, order)
        dense = np.linspace(volumes.min(), volumes.max(), 100)
        zero = fits["DFT"][GROUND].parameters[0]
        left.plot(volumes, 1000 * (energies - zero), marker, color=color, label=f"{order}, DFT")
        zero = fits[name][GROUND].parameters[0]
        curve = 1000 * (fits[name][order].energy(dense) - zero)
        left.plot(dense, curve, style, color=color, label=f"{order}, {name}")
    left.set(xlabel="volume per MnO (Å$^3$)", ylabel="energy, from the minimum (meV per MnO)")
    left.set_ylim(top=left.get_ylim()[1] * 1.25)  # room for the legend
    _draw_gaps(right, name, found)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=9)
    return canvas


def _draw_gaps(axes: Axes, name: str, found: list) -> None:
    # A line joins the same crystal at several volumes; distortions differ from each other.
    markers = {"ideal": ("o", "x--", BLUE), "distorted": ("D", "x", ORANGE)}
    for kind, (marker, style, color) in markers.items():
        chosen = [(a, *both) for a, k, both in found if k == kind]
        if chosen:
            a, dft, model = np.array(chosen).T
            axes.plot(a, dft, marker, color=color, label=f"{kind}, DFT")
            axes.plot(a, model, style, color=color, markersize=8, label=f"{kind}, {name}")
    axes.axhline(0.0, color=GRAY, linewidth=0.8, linestyle=":")
    axes.set(xlabel="lattice constant (Å)", ylabel="E(FM) − E(AFM-II) (meV per MnO)")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]), top=axes.get_ylim()[1] * 1.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pet-mno")
    parser.add_argument("--data", type=Path, nargs="+", help="default: data/mno/*.xyz")
    parser.add_argument("--output", type=Path, default=Path("mno.png"))
    arguments = parser.parse_args()
    frames = read_frames(arguments.data or sorted(DATA.glob("*.xyz")))
    if not frames:
        parser.error("no file has undistorted crystals of both orders; give them with --data")
    name = Path(arguments.model).stem.rpartition(":")[2]
    calculator = make_calculator(arguments.model)
    dft, model = [], []
    for frame in frames:
        dft.append(frame.info["REF_energy"] / units_of(frame))
        atoms = frame.copy()
        set_calculator(atoms, calculator)
        model.append(atoms.get_potential_energy() / units_of(frame))
    energies = {"DFT": np.array(dft), name: np.array(model)}
    fits = {
        who: {order: fit(*ideal(frames, values, order)) for order in ORDERS}
        for who, values in energies.items()
    }
    found = gaps(frames, *energies.values())
    report(name, fits, found)
    figure(name, frames, energies["DFT"], fits, found).savefig(arguments.output, dpi=150)
    print(arguments.output)


if __name__ == "__main__":
    main()
