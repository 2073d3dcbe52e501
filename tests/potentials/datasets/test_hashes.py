"""Frames are known again by their hashes: in files of fewer digits, and by their inputs."""

import ase.io
import numpy as np
from ase import Atoms

from pointedge.potentials.datasets.hashes import GEOMETRY, frame_hash


def dimer():
    return Atoms("OH", [[0, 0, 0], [0, 0, 1]], cell=[2, 3, 4], pbc=True)


def test_a_frame_keeps_its_hash_in_a_file_of_fewer_digits(tmp_path):
    atoms = dimer()
    atoms.rattle(0.3, seed=1)
    ase.io.write(tmp_path / "f.xyz", atoms)
    again = ase.io.read(tmp_path / "f.xyz")
    assert np.any(again.positions != atoms.positions)
    assert frame_hash(again) == frame_hash(atoms)
    moved, cold, spins = atoms.copy(), atoms.copy(), atoms.copy()
    moved.positions[1, 2] += 0.01
    cold.positions[np.abs(cold.positions) < 1e-4] = -0.0
    spins.set_initial_magnetic_moments([1.0, 0.0])
    assert len({frame_hash(a) for a in (atoms, moved, spins)}) == 3
    assert frame_hash(cold) == frame_hash(atoms)


def test_few_digits_leave_most_hashes_of_large_frames_and_small_moves_change_them():
    rng = np.random.default_rng(0)
    same = {5: 0, 4: 0}
    for _ in range(50):
        atoms = Atoms("O192", rng.uniform(0, 12, size=(192, 3)), cell=[12.4, 12.4, 12.4], pbc=True)
        for digits in same:
            copy = atoms.copy()
            copy.positions = np.round(atoms.positions, digits)
            same[digits] += frame_hash(copy) == frame_hash(atoms)
        moved = atoms.copy()
        moved.positions[rng.integers(192), rng.integers(3)] += 0.02
        assert frame_hash(moved) != frame_hash(atoms)
    assert same[5] >= 45
    assert same[4] >= 20


def test_inputs_count_when_they_are_not_the_usual_ones():
    usual, same, other, text = (dimer() for _ in range(4))
    usual.info.update(charge=0, spin=1)
    same.info.update(charge=0.0)
    assert frame_hash(usual) == frame_hash(same) == frame_hash(dimer())
    other.info.update(charge=-1.0)
    text.info.update(charge=-1, spin=np.float64(1.0))
    assert frame_hash(other) == frame_hash(text) != frame_hash(dimer())
    text.info.update(spin="up")
    assert frame_hash(text) != frame_hash(other)
    assert frame_hash(text)[:GEOMETRY] == frame_hash(dimer())
