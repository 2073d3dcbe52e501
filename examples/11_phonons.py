"""Phonons of a cubic crystal, and what a symmetry that is only learned does to them.

    python examples/11_phonons.py [OUTPUT] [--model pet-mno]

Rock-salt MnO with all moments parallel is cubic, so that its transverse optical modes at Γ are one
frequency, whatever way the crystal is turned. A PET has learned that, and is off by a little: the
mode splits, and how far depends on the orientation. With `symmetrize="ecse"` it does not. Modes at
Γ are of the primitive cell, in several orientations; the dispersion is of 250 atoms, five cells
along each vector (three are too few, and of an even number ASE leaves those half-way on one side).
Charges do not act at long range here, so that the longitudinal mode at Γ has the same frequency.
Forces of displacements are kept in the folder, and a run that was cut off goes on. Writes
`phonons.png`.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.phonons import Phonons
from ase.units import invcm
from matplotlib.figure import Figure

from pointedge.calculators import PETCalculator
from pointedge.calculators.cli.options import print_table
from pointedge.calculators.figures import BLUE, GRAY, ORANGE

LATTICE, MOMENT = 4.535, 5.0  # Å and μ_B: the model's own ferromagnetic crystal
DISPLACEMENT = 0.001  # Å: at 0.01 anharmonicity splits modes by 0.05 1/cm
ORIENTATIONS = 4  # the first as it is
PATH = "GXWLGK"


def crystal(matrix: np.ndarray) -> Atoms:
    """The primitive cell, turned by r → r R."""
    atoms = bulk("MnO", "rocksalt", a=LATTICE)
    atoms.set_initial_magnetic_moments([MOMENT, 0])
    atoms.set_cell(atoms.cell @ matrix, scale_atoms=True)
    return atoms


def phonons(atoms: Atoms, calculator: PETCalculator, repeat: int, folder: Path) -> Phonons:
    """Force constants by finite differences; those that the folder has are not computed again."""
    found = Phonons(atoms, calculator, (repeat,) * 3, name=str(folder), delta=DISPLACEMENT)
    found.run()
    found.read(acoustic=True)
    return found


def at_gamma(found: Phonons) -> np.ndarray:
    """Frequencies (6,) at Γ in 1/cm, ascending."""
    return np.sort(found.band_structure([[0.0, 0.0, 0.0]], verbose=False)[0].real) / invcm


def orientations() -> list[np.ndarray]:
    """The unit matrix, and random rotations."""
    random = np.random.default_rng(0)
    turned = [np.linalg.qr(random.normal(size=(3, 3)))[0] for _ in range(ORIENTATIONS - 1)]
    return [np.eye(3), *(matrix * np.sign(np.linalg.det(matrix)) for matrix in turned)]


def figure(optical: dict[str, np.ndarray], dispersion: Phonons) -> Figure:
    """Dispersion of all branches, and the optical modes at Γ in every orientation."""
    canvas = Figure(figsize=(9.0, 3.8), layout="constrained")
    bands, modes = canvas.subplots(1, 2, width_ratios=(3, 2))
    path = crystal(np.eye(3)).cell.bandpath(PATH, npoints=120)
    x, ticks, names = path.get_linear_kpoint_axis()
    energies = dispersion.band_structure(path.kpts, verbose=False) / invcm
    bands.plot(x, energies.real - energies.imag, color=BLUE, linewidth=1.2)  # imaginary: below 0
    for tick in ticks:
        bands.axvline(tick, color=GRAY, linewidth=0.6)
    bands.set_xticks(ticks, [name.replace("G", "Γ") for name in names])
    bands.set(xlim=(0, x[-1]), ylabel="wavenumber (cm$^{-1}$)")
    for (kind, values), color, marker in zip(
        optical.items(), (ORANGE, BLUE, "black"), "o_x", strict=True
    ):
        numbers = np.repeat(np.arange(1, len(values) + 1), 3)
        modes.plot(numbers, values.ravel(), marker, color=color, markersize=9, label=kind)
    modes.set(xlabel="orientation of the crystal", ylabel="optical modes at Γ (cm$^{-1}$)")
    modes.set_xticks(range(1, ORIENTATIONS + 1))
    modes.legend(frameon=False)
    for panel in canvas.axes:
        panel.spines[["top", "right"]].set_visible(False)
    canvas.suptitle("Rock-salt MnO, all moments parallel", fontsize=11)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", type=Path, default=Path("phonons"))
    parser.add_argument("--model", default="pet-mno")
    arguments = parser.parse_args()
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    optical, rows = {}, []
    for kind in (None, "octahedral", "ecse"):
        name = kind or "as it is"
        calculator = PETCalculator(arguments.model, dtype="float64", symmetrize=kind)
        modes = []
        for k, matrix in enumerate(orientations()):
            found = phonons(crystal(matrix), calculator, 1, folder / f"gamma-{kind or 'plain'}-{k}")
            modes.append(at_gamma(found)[3:])
            spread = np.ptp(modes[-1])
            rows.append((name, str(k + 1), *(f"{m:.3f}" for m in modes[-1]), f"{spread:.1e}"))
        optical[name] = np.array(modes)
    plain = PETCalculator(arguments.model, dtype="float64")
    dispersion = phonons(crystal(np.eye(3)), plain, 5, folder / "dispersion")
    columns = ("symmetrize", "orientation", "optical modes", "at Γ", "(1/cm)", "spread (1/cm)")
    print_table(columns, rows)
    figure(optical, dispersion).savefig(folder / "phonons.png", dpi=150)
    print(folder / "phonons.png")


if __name__ == "__main__":
    main()
