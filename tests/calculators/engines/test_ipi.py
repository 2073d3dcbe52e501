"""i-PI: units, signs and batches of the driver, in process and over sockets."""

import shutil
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.calculators.socketio import SocketServer

from pointedge.calculators import PotentialCalculator
from pointedge.calculators.cli import main
from pointedge.calculators.engines.ipi import PES, PotentialDriver, forcefield_xml, serve
from pointedge.potentials import checkpoint
from pointedge.potentials.potential import Potential

from ..conftest import MomentNetwork, bulk, charged_potential, slab, small_potential

CONSTANTS = 2e-7  # relative: how far those of i-PI, which are rounded, and of ASE are apart
INPUT = """<simulation verbosity='quiet'>
  <output prefix='run'>
    <properties stride='1' filename='properties'>
      [ step, potential{{electronvolt}}, virial_md{{ev/ang3}}, conserved{{electronvolt}} ]
    </properties>
    <trajectory stride='1' filename='positions' format='xyz'> positions{{angstrom}} </trajectory>
    <trajectory stride='1' filename='forces' format='xyz'> forces{{ev/ang}} </trajectory>
  </output>
  <total_steps>2</total_steps>
  {forcefield}
  <system>
    <initialize nbeads='{beads}'>
      <file mode='ase'> start.xyz </file>
      <velocities mode='thermal' units='kelvin'> 300 </velocities>
    </initialize>
    <forces><force forcefield='pointedge'/></forces>
    <motion mode='dynamics'><dynamics mode='nve'>
      <timestep units='femtosecond'> 0.2 </timestep>
    </dynamics></motion>
    <ensemble><temperature units='kelvin'> 300 </temperature></ensemble>
  </system>
</simulation>
"""


def needs_ipi():
    pytest.importorskip("ipi", reason="i-PI is not installed; pip install 'pointedge[engines]'")


@pytest.fixture
def units():
    needs_ipi()
    from ipi.utils.units import unit_to_internal

    return lambda kind, unit: unit_to_internal(kind, unit, 1.0)


@pytest.fixture
def files(tmp_path):
    """A model and a structure whose cell is what i-PI wants: an upper triangle."""
    checkpoint.save(small_potential(), tmp_path / "model.safetensors")
    atoms = bulk()
    parameters = atoms.cell.cellpar()
    atoms.set_cell(parameters, scale_atoms=True)
    ase.io.write(tmp_path / "start.xyz", atoms)
    return tmp_path


def ask(driver, units, structures):
    """Energies (eV), forces (eV/Å) and virials (eV) that a driver gives i-PI."""
    length, energy = units("length", "angstrom"), units("energy", "electronvolt")
    cells = [np.asarray(a.cell).T * length for a in structures]
    found = driver(cells, [a.positions * length for a in structures])
    return [(e / energy, f / units("force", "ev/ang"), v / energy) for e, f, v, _ in found]


def moved(count):
    """Displaced and strained copies of one structure."""
    rng = np.random.default_rng(0)
    found = [bulk() for _ in range(count)]
    for atoms in found:
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(scale=0.01, size=(3, 3))))
        atoms.positions += rng.normal(scale=0.05, size=(16, 3))
    return found


def test_a_batch_is_that_of_ase(units, potential):
    driver = PotentialDriver(potential, bulk())
    calculator = PotentialCalculator(potential)
    structures = moved(4)
    answers = [*ask(driver, units, structures), *ask(driver, units, structures[:1])]
    for atoms, (energy, forces, virial) in zip([*structures, structures[0]], answers, strict=True):
        atoms.calc = calculator
        assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
        # ev/ang of i-PI is rounded to 8 digits, apart from electronvolt and angstrom.
        np.testing.assert_allclose(forces, atoms.get_forces(), rtol=1e-7, atol=1e-10)
        expected = -atoms.get_stress(voigt=False) * atoms.get_volume()
        np.testing.assert_allclose(virial, expected, rtol=0, atol=1e-9)


def test_virial_is_what_a_strain_does_to_the_energy(units, potential):
    driver = PotentialDriver(potential, slab(0.0))

    def energy(h):
        atoms = slab(0.0)
        atoms.set_cell(atoms.cell @ (np.eye(3) + h * strain), scale_atoms=False)
        atoms.positions = atoms.positions @ (np.eye(3) + h * strain)
        return ask(driver, units, [atoms])[0][0]

    strain = np.array([[1.0, 0.4, 0.2], [0.4, -0.5, 0.3], [0.2, 0.3, 0.7]])
    h = 1e-4
    slope = (8 * (energy(h) - energy(-h)) - (energy(2 * h) - energy(-2 * h))) / (12 * h)
    ((_, _, virial),) = ask(driver, units, [slab(0.0)])
    # Energies of -4 keV round to 1e-12 relative, hence 1e-12 * 4e3 / h.
    assert slope == pytest.approx(-(virial * strain).sum(), abs=1e-4)
    assert abs(slope) > 0.1


@pytest.mark.filterwarnings("ignore:the model reads no charge")  # of the one that reads moments
@pytest.mark.filterwarnings("ignore:the model reads no spin")
def test_charge_and_moments_are_those_of_the_template(units):
    atoms = bulk()
    atoms.info.update(charge=-1, spin=2)
    atoms.set_initial_magnetic_moments(np.linspace(-1, 1, 16))
    for potential in (charged_potential(), Potential(MomentNetwork())):
        ((energy, _, _),) = ask(PotentialDriver(potential, atoms), units, [bulk()])
        expected = PotentialCalculator(potential).get_potential_energy(atoms)
        assert energy == pytest.approx(expected, rel=1e-12)


def test_bad_input(units, potential, tmp_path):
    driver = PotentialDriver(potential, bulk())
    with pytest.raises(ValueError, match="i-PI has 3 atoms, and the structure given here 16"):
        ask(driver, units, [Atoms("OH2", np.eye(3), cell=[9] * 3)])
    without_cell = bulk()
    without_cell.cell[:] = 0
    with pytest.raises(ValueError, match=r"periodic cell vectors of structure 0 .* are zero"):
        ask(driver, units, [without_cell])
    crowded = moved(2)
    crowded[1].positions[4] = crowded[1].positions[7]
    with pytest.raises(ValueError, match=r"structure 1: atom 4 and atom 7, .* are closer than"):
        ask(driver, units, crowded)
    with pytest.raises(ValueError, match="the template: atom 0 is Au"):
        PotentialDriver(potential, Atoms("Au"))
    with pytest.raises(ValueError, match="the model reads magnetic moments, and the structure has"):
        PotentialDriver(Potential(MomentNetwork()), bulk())
    with pytest.raises(ValueError, match=r"there is no structure file .*none\.xyz"):
        PotentialDriver(potential, tmp_path / "none.xyz")
    with pytest.raises(ValueError, match="the model predicts dipole, and no energy"):
        PotentialDriver(small_potential(properties=("dipole",)), bulk())
    own = tmp_path / "own.xyz"
    own.write_text("1\n# CELL(abcABC): 3 3 3 90 90 90 Step: 0 positions{angstrom}\nO 0 0 0\n")
    for start in (lambda: PotentialDriver(potential, own), lambda: next(serve(ase.io.read(own)))):
        with pytest.raises(ValueError, match="in i-PI's own xyz, of which ASE reads no cell"):
            start()


def test_moments_that_a_file_had_as_results_are_the_templates(units, tmp_path):
    atoms = bulk()
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, magmoms=np.linspace(-1, 1, 16))
    ase.io.write(tmp_path / "moments.xyz", atoms)
    potential = Potential(MomentNetwork())
    ((energy, _, _),) = ask(PotentialDriver(potential, tmp_path / "moments.xyz"), units, [bulk()])
    atoms.set_initial_magnetic_moments(np.linspace(-1, 1, 16))
    assert energy == pytest.approx(PotentialCalculator(potential).get_potential_energy(atoms))


def run_ipi(folder, forcefield, beads, *clients):
    """Run 2 steps of i-PI; returns its table."""
    text = INPUT.format(forcefield=forcefield, beads=beads)
    (folder / "input.xml").write_text(text)
    program = shutil.which("i-pi", path=str(Path(sys.executable).parent)) or shutil.which("i-pi")
    pipes = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen([program, "input.xml"], **pipes)]
    processes += [subprocess.Popen(client, **pipes) for client in clients]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=240)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
    return np.loadtxt(folder / "run.properties")


def assert_is_that_of_ase(folder, table, beads):
    """Rows are the mean potential and the sum of virials of beads, as ASE has them.

    The first row is of the start. Of later ones i-PI writes positions with 6 digits only.
    """
    calculator = PotentialCalculator(folder / "model.safetensors")
    start = ase.io.read(folder / "start.xyz")
    tracks = [ase.io.read(f, ":") for f in sorted(folder.glob("run.positions_*.xyz"))]
    assert (len(table), len(tracks)) == (3, beads)
    for k, row in enumerate(table):
        energies, stresses = [], []
        for track in tracks:
            atoms = start.copy()
            if k:
                atoms.positions = track[k].positions
            atoms.calc = calculator
            energies.append(atoms.get_potential_energy())
            stresses.append(atoms.get_stress()[[0, 1, 2, 5, 4, 3]])
        digits = 5e-4 if k else 0.0
        assert row[1] == pytest.approx(np.mean(energies), rel=CONSTANTS, abs=digits)
        expected = -np.sum(stresses, axis=0)
        # A crystal's stress changes by some 10 times the strain, in units of its largest component.
        largest = 10 * CONSTANTS * np.abs(expected).max()
        np.testing.assert_allclose(row[2:8], expected, rtol=0, atol=max(digits, largest))
    assert np.ptp(table[:, 1]) > 1e-3
    assert np.ptp(table[:, 8]) < 0.1 * np.ptp(table[:, 1])  # energy is conserved


def test_in_process_with_beads(files):
    needs_ipi()
    forcefield = forcefield_xml(files / "model.safetensors", files / "start.xyz", beads=4)
    table = run_ipi(files, forcefield, 4)
    assert_is_that_of_ase(files, table, 4)


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def ipi_socket(mode, address, port, batch=1):
    return (
        f"<ffsocket name='pointedge' mode='{mode}'><address>{address}</address>"
        f"<port>{port}</port><batch_size>{batch}</batch_size></ffsocket>"
    )


@pytest.mark.parametrize("mode", ["unix", pytest.param("inet", marks=pytest.mark.slow)])
def test_over_a_socket(files, mode):
    needs_ipi()
    name, port = f"pointedge-{uuid.uuid4().hex[:8]}", free_port()
    where = ["--unix", name] if mode == "unix" else ["--port", str(port)]
    code = "from pointedge.calculators.cli import main; main()"
    client = [sys.executable, "-c", code, "drive", "start.xyz", "--model", "model.safetensors"]
    xml = ipi_socket(mode, name if mode == "unix" else "localhost", port)
    table = run_ipi(files, xml, 2, [*client, *where])
    assert_is_that_of_ase(files, table, 2)


@pytest.mark.slow
def test_i_pis_own_client_takes_batches(files):
    needs_ipi()
    name = f"pointedge-{uuid.uuid4().hex[:8]}"
    client = [sys.executable, Path(sys.executable).with_name("i-pi-py_driver"), "-u", "-a", name]
    client += ["-m", "custom", "-P", PES, "-o", "model=model.safetensors,template=start.xyz"]
    shell = [
        "bash",
        "-c",
        'sleep 8; exec "$0" "$@"',
        *map(str, client),
    ]  # it does not wait for i-PI
    table = run_ipi(files, ipi_socket("unix", name, 0, batch=4), 4, shell)
    assert_is_that_of_ase(files, table, 4)


@pytest.mark.parametrize("mode", ["unix", "inet"])
def test_client_alone(potential, mode):
    """Against ASE's server, which needs no i-PI."""
    server_side = bulk()
    name, port = f"pointedge-{uuid.uuid4().hex[:8]}", free_port()
    theirs, ours = (
        ({"unixsocket": name}, {"unix": name}) if mode == "unix" else [{"port": port}] * 2
    )
    atoms = bulk()
    atoms.calc = PotentialCalculator(potential)
    with SocketServer(**theirs, timeout=60) as server:
        served = []
        thread = threading.Thread(target=lambda: served.extend(serve(atoms, **ours)))
        thread.start()
        answer = server.calculate(server_side)
        server.protocol.end()
        thread.join(timeout=60)
    server_side.calc = PotentialCalculator(potential)
    assert len(served) == 1
    assert answer["energy"] == pytest.approx(server_side.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(answer["forces"], server_side.get_forces(), rtol=0, atol=1e-10)
    stress = server_side.get_stress(voigt=False)
    np.testing.assert_allclose(
        answer["virial"], -stress * server_side.get_volume(), rtol=0, atol=1e-10
    )


def test_client_with_another_number_of_atoms(potential):
    name = f"pointedge-{uuid.uuid4().hex[:8]}"
    atoms = bulk()
    atoms.calc = PotentialCalculator(potential)
    with SocketServer(unixsocket=name, timeout=60) as server:

        def send():
            server._accept()
            server.protocol.sendposdata(np.eye(3) * 9, np.eye(3) / 9, np.zeros((1, 3)))

        thread = threading.Thread(target=send)
        thread.start()
        with pytest.raises(ValueError, match="i-PI has 1 atoms, and the structure given here 16"):
            list(serve(atoms, unix=name))
        thread.join(timeout=60)


def test_nobody_listens(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    command = ["pointedge", "drive", "start.xyz", "--model", "model.safetensors", "--wait", "0"]
    for where in (["--unix", "nobody-at-all"], ["--port", str(free_port())]):
        monkeypatch.setattr(sys, "argv", [*command, *where])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        assert "start i-PI first" in capsys.readouterr().err
