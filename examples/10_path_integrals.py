"""Quantum nuclei: path integrals of a small box of water with i-PI, against classical ones.

    pip install -c constraints.txt ".[engines]"
    python examples/10_path_integrals.py [OUTPUT] [--model mace-water] [--steps 4000] [--beads 32]
    python examples/10_path_integrals.py OUTPUT --analyse        # whatever length is there already

Makes a box of 8 molecules and i-PI's input, and runs `i-pi` twice: with one bead (classical), and
with 32, which the potential evaluates as one batch. The same command again goes on where a run was
cut off. `path-integrals.png` shows how far nuclei are spread out (radii of gyration of the ring
polymers) and what that does to g_OH(r). Kinetic energies come with it: (3/2) kT = 38.8 meV for any
classical atom at 300 K, about 145 meV for H in water.

Eight molecules in 6.2 Å see their own images: this is not the liquid, and g(r) ends at 3.1 Å. The
spread of an H is decided by its own bond, and is near that of the liquid.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.optimize import FIRE
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pointedge.calculators import PotentialCalculator
from pointedge.calculators.cli.options import print_table
from pointedge.calculators.engines.ipi import forcefield_xml
from pointedge.calculators.figures import BLUE, GRAY, ORANGE
from pointedge.calculators.trajectories import RDF, block_average, block_radial_distribution

MOLECULES, EDGE = 8, 6.21  # Å; 1 g/cm³
TEMPERATURE, TIMESTEP = 300.0, 0.5  # K, fs
EQUILIBRATION = 0.25  # part of a run that is left out
COLUMNS = (
    "step",
    "time{picosecond}",
    "conserved{electronvolt}",
    "temperature{kelvin}",
    "r_gyration{angstrom}(H)",
    "r_gyration{angstrom}(O)",
    "kinetic_cv{electronvolt}(H)",
    "kinetic_cv{electronvolt}(O)",
)
INPUT = """<simulation verbosity='low' safe_stride='100'>
  <output prefix='run'>
    <properties stride='10' filename='properties'> [ {columns} ] </properties>
    <trajectory stride='20' filename='positions' format='xyz'> positions{{angstrom}} </trajectory>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>{seed}</seed></prng>
{forcefield}
  <system>
    <initialize nbeads='{beads}'>
      <file mode='ase'> {start} </file>
      <velocities mode='thermal' units='kelvin'> {temperature} </velocities>
    </initialize>
    <forces><force forcefield='pointedge'/></forces>
    <motion mode='dynamics'>
      <dynamics mode='nvt'>
        <timestep units='femtosecond'> {timestep} </timestep>
        <thermostat mode='pile_l'><tau units='femtosecond'> 100 </tau></thermostat>
      </dynamics>
    </motion>
    <ensemble><temperature units='kelvin'> {temperature} </temperature></ensemble>
  </system>
</simulation>
"""


def small_box(model: str, rng: np.random.Generator) -> Atoms:
    """8 molecules on a grid, turned at random and relaxed."""
    box = Atoms(cell=[EDGE] * 3, pbc=True)
    for site in np.stack(np.meshgrid(*[[0.25, 0.75]] * 3), -1).reshape(-1, 3):
        water = molecule("H2O")
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        water.positions = (water.positions - water.positions[0]) @ rotation + EDGE * site
        box += Atoms(water.symbols, water.positions)
    box.calc = PotentialCalculator(model)
    FIRE(box, logfile=None, maxstep=0.05).run(fmax=0.3, steps=200)
    box.calc = None
    return box


def run(folder: Path, start: Path, model: str, beads: int, steps: int, seed: int) -> None:
    """Run i-PI in a folder, or go on with what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    restart = folder / "RESTART"
    if restart.exists():
        total = f"<total_steps>{steps}</total_steps>"
        text = restart.read_text()
        before, _, after = text.partition("<total_steps>")
        restart.write_text(before + total + after.partition("</total_steps>")[2])
    else:
        forcefield = forcefield_xml(model, start.resolve(), beads=beads)
        text = INPUT.format(
            columns=", ".join(COLUMNS),
            steps=steps,
            seed=seed,
            forcefield=forcefield,
            beads=beads,
            start=start.resolve(),
            temperature=TEMPERATURE,
            timestep=TIMESTEP,
        )
        (folder / "input.xml").write_text(text)
    name = "RESTART" if restart.exists() else "input.xml"
    beside = str(Path(sys.executable).parent)
    program = shutil.which("i-pi", path=beside) or shutil.which("i-pi")
    if program is None:
        raise SystemExit("i-PI is not installed; pip install 'pointedge[engines]' brings it.")
    with (folder / "i-pi.log").open("a") as log:
        subprocess.run([program, name], cwd=folder, stdout=log, stderr=log, check=True)


def read_properties(folder: Path) -> dict[str, np.ndarray]:
    """Columns of i-PI's table by their first word, without the beginning.

    After a restart, steps since the last checkpoint stand twice; the later ones count.
    """
    lines = (folder / "run.properties").read_text().splitlines()
    rows = [[float(x) for x in line.split()] for line in lines if not line.startswith("#")]
    table = np.array(list({row[0]: row for row in rows if len(row) == len(COLUMNS)}.values()))
    return dict(zip(COLUMNS, table.T, strict=True))


def late(time: np.ndarray) -> np.ndarray:
    """What comes after the equilibration."""
    return time >= EQUILIBRATION * time[-1]


def read_beads(folder: Path) -> list[Atoms]:
    """Frames of all beads, in the order of time, without the beginning."""
    files = sorted(folder.glob("run.positions_*.xyz"))
    beads = [ase.io.read(file, ":") for file in files]
    count = min(len(bead) for bead in beads)
    frames = [bead[k] for k in range(int(EQUILIBRATION * count), count) for bead in beads]
    for frame in frames:
        frame.set_cell([EDGE] * 3)
        frame.pbc = True
    return frames


def free_radius(symbol: str) -> float:
    """Radius of gyration (Å) of a free particle's ring polymer, ħ / √(4 m kT)."""
    mass = Atoms(symbol).get_masses()[0] * units._amu
    return 1e10 * units._hbar / np.sqrt(4 * mass * units._k * TEMPERATURE)


def draw(properties: dict[str, dict[str, np.ndarray]], rdfs: dict[str, RDF], title: str) -> Figure:
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    radii, pairs = figure.subplots(1, 2)
    draw_radii(radii, properties["quantum"])
    for name, color in (("classical", GRAY), ("quantum", BLUE)):
        rdf = rdfs[name]
        pairs.plot(rdf.r, rdf.g, color=color, label=name)
        pairs.fill_between(rdf.r, rdf.g - rdf.error, rdf.g + rdf.error, color=color, alpha=0.3)
    pairs.set(xlabel="distance r (Å)", ylabel=r"$g_\mathrm{OH}$", yscale="symlog", xlim=(0.7, None))
    pairs.set_ylim(bottom=0)
    pairs.legend(frameon=False)
    for axes in (radii, pairs):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure


def draw_radii(axes: Axes, columns: dict[str, np.ndarray]) -> None:
    time = columns["time{picosecond}"]
    for symbol, color in (("H", BLUE), ("O", ORANGE)):
        radius = columns[f"r_gyration{{angstrom}}({symbol})"]
        mean, error = block_average(radius[late(time)])
        axes.plot(time, radius, color=color, label=f"{symbol}: {mean:.4f} ± {error:.4f} Å")
        axes.axhline(free_radius(symbol), color=color, linestyle=":", linewidth=1)
    axes.axvspan(0, EQUILIBRATION * time[-1], color="0.93", zorder=0)
    axes.set(xlabel="time (ps)", ylabel="radius of gyration (Å)", xlim=(0, time[-1]))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, title="dotted: free particle")


def rows(properties: dict[str, dict[str, np.ndarray]]) -> list[tuple[str, str, str, str]]:
    """Table: quantity, classical, quantum, unit."""
    table = []
    for label, column, factor, unit in (
        ("temperature", "temperature{kelvin}", 1, "K"),
        ("kinetic energy of an H", "kinetic_cv{electronvolt}(H)", 500 / MOLECULES, "meV"),
        ("kinetic energy of an O", "kinetic_cv{electronvolt}(O)", 1000 / MOLECULES, "meV"),
        ("radius of gyration, H", "r_gyration{angstrom}(H)", 1, "Å"),
        ("radius of gyration, O", "r_gyration{angstrom}(O)", 1, "Å"),
    ):
        cells = []
        for columns in properties.values():
            values = factor * columns[column][late(columns["time{picosecond}"])]
            mean, error = block_average(values)
            cells.append(f"{mean:.4g} ± {error:.2g}")
        table.append((label, *cells, unit))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", type=Path, default=Path("path-integrals"))
    parser.add_argument("--model", default="mace-water")
    parser.add_argument("--steps", type=int, default=4000, help=f"of {TIMESTEP} fs; quantum")
    parser.add_argument("--beads", type=int, default=32)
    parser.add_argument("--analyse", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    folders = {name: arguments.output / name for name in ("classical", "quantum")}
    start, equilibrated = (arguments.output / name for name in ("start.xyz", "equilibrated.xyz"))
    if not arguments.analyse:
        arguments.output.mkdir(parents=True, exist_ok=True)
        if not start.exists():
            ase.io.write(start, small_box(arguments.model, np.random.default_rng(0)))
        run(folders["classical"], start, arguments.model, 1, 2 * arguments.steps, seed=1)
        if not equilibrated.exists():
            ase.io.write(equilibrated, read_beads(folders["classical"])[-1])
        beads = arguments.beads
        run(folders["quantum"], equilibrated, arguments.model, beads, arguments.steps, seed=2)
    properties = {name: read_properties(folder) for name, folder in folders.items()}
    rdfs = {}
    for name, folder in folders.items():
        (rdfs[name],) = block_radial_distribution(read_beads(folder), [("O", "H")], blocks=4)
    lengths = {name: columns["time{picosecond}"][-1] for name, columns in properties.items()}
    title = (
        f"{MOLECULES} H$_2$O in {EDGE} Å, {TEMPERATURE:g} K, {arguments.model}: "
        f"{lengths['quantum']:.2f} ps of {arguments.beads} beads, "
        f"{lengths['classical']:.2f} ps classical"
    )
    picture = arguments.output / "path-integrals.png"
    draw(properties, rdfs, title).savefig(picture, dpi=150)
    print_table(("quantity", *properties, "unit"), rows(properties))
    print(f"{picture}: {title.replace('$_2$', '2')}")


if __name__ == "__main__":
    main()
