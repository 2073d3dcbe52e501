"""Liquid water: a calculator, ASE's Langevin dynamics, and the oxygen-oxygen distribution function.

Run it from any folder; it writes ``water-g_OO.png`` there:

    python examples/1_water_md.py [STEPS] [MODEL]

The command ``pointedge md`` does the same and more: trajectory, log, temperature, drift.
"""

import sys
from importlib.resources import files

import ase.io
import numpy as np
from ase import units
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from matplotlib.figure import Figure

from pointedge.calculators import PotentialCalculator
from pointedge.calculators.trajectories import block_average, radial_distribution

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 400
model = sys.argv[2] if len(sys.argv) > 2 else "pet-water"

# 64 molecules at 1 g/cm³, equilibrated at 300 K, with velocities; any structure of ASE would do.
atoms = ase.io.read(files("pointedge.data") / "structures" / "water-64.xyz")
atoms.calc = PotentialCalculator(model)
atoms.set_constraint(FixCom())  # three degrees of freedom less, which temperatures then count

dynamics = Langevin(
    atoms,
    0.5 * units.fs,
    temperature_K=300,
    friction=0.01 / units.fs,
    fixcm=False,
    rng=np.random.default_rng(0),
)
temperatures, frames = [], []
dynamics.attach(lambda: temperatures.append(atoms.get_temperature()), interval=5)
dynamics.attach(lambda: frames.append(atoms.copy()), interval=10)
dynamics.run(steps)

mean, error = block_average(np.array(temperatures))
(g_oo,) = radial_distribution(frames, [("O", "O")])
position, height = g_oo.first_peak()
print(f"temperature          {mean:8.1f} ± {error:.1f} K")
print(f"first peak of g_OO   {position:8.2f} Å, height {height:.2f}")
hydrogen, oxygen = (np.flatnonzero(atoms.numbers == z) for z in (1, 8))
bonds = [f.get_all_distances(mic=True)[np.ix_(hydrogen, oxygen)].min(axis=1) for f in frames]
print(f"longest O-H bond     {np.max(bonds):8.2f} Å in {len(frames)} frames")

figure = Figure(figsize=(5, 3.5), layout="constrained")
axes = figure.subplots()
axes.plot(g_oo.r, g_oo.g)
axes.axhline(1, color="gray", linewidth=0.8, linestyle=":")
axes.set(xlabel="distance r (Å)", ylabel=r"$g_\mathrm{OO}(r)$")
axes.set(xlim=(2, g_oo.r[-1]), ylim=(0, None))
figure.savefig("water-g_OO.png", dpi=150)
