"""Converters, on tiny files as their origins write them."""

import io
import json
import tarfile

import numpy as np
import pytest
from ase.units import Bohr, GPa, Hartree

from pointedge.potentials.datasets.converters import deepmd, extxyz, n2p2, qm9, snap_json


def test_extended_xyz_of_molecules(tmp_path):
    """Two files of different splits, in the forms of BOTNet's and PET's."""
    one, other = tmp_path / "one.xyz", tmp_path / "other.xyz"
    one.write_text(
        '2\nLattice="50.0 0.0 0.0 0.0 50.0 0.0 0.0 0.0 50.0" Properties=species:S:1:pos:R:3 '
        'config_type=H_transfer energy=-9392.075934260127 pbc="F F F"\n'
        "C -0.8 0.9 0.3\nO 0.05 0.07 1.0\n"
    )
    other.write_text(
        "1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1086.47 atomization_energy=-17.0 "
        'pbc="F F F"\nC 0.0 0.0 0.0 1.0 2.0 3.0\n'
    )
    frames = list(extxyz([one, other], ["test", "train"], keep=["atomization_energy"]))
    assert frames[0].info == {"REF_energy": -9392.075934260127, "split": "test"}
    assert not frames[0].cell.any()
    assert frames[1].info["atomization_energy"] == -17.0
    np.testing.assert_array_equal(frames[1].arrays["REF_forces"], [[1, 2, 3]])


@pytest.mark.parametrize("spins", [False, True])
def test_deepmd(tmp_path, spins):
    rng = np.random.default_rng(0)
    paths, expected = [], []
    for system, sets in (("data_0", ["set.000"]), ("data_1", ["set.000", "set.001"])):
        folder = tmp_path / system
        for name in sets:
            (folder / name).mkdir(parents=True)
            arrays = {n: rng.normal(size=(2, 9)) for n in ("coord", "force", "spin", "force_mag")}
            arrays |= {"box": rng.normal(size=(2, 9)), "energy": rng.normal(size=2)}
            for key, array in arrays.items():
                np.save(folder / name / f"{key}.npy", array)
                paths.append(folder / name / f"{key}.npy")
            expected += [(f"{system}/{name}", k, arrays) for k in range(2)]
        (folder / "type.raw").write_text("0\n1\n1\n")
        (folder / "type_map.raw").write_text("O\nH\n")
        paths += [folder / "type.raw", folder / "type_map.raw"]
    frames = list(deepmd(paths, spins=spins))
    assert len(frames) == 6
    for atoms, (source, k, arrays) in zip(frames, expected, strict=True):
        assert atoms.info["source_set"] == source
        assert str(atoms.symbols) == "OH2"
        assert atoms.pbc.all()
        assert atoms.info["REF_energy"] == arrays["energy"][k]
        np.testing.assert_array_equal(atoms.cell.array.ravel(), arrays["box"][k])
        np.testing.assert_array_equal(atoms.arrays["REF_forces"].ravel(), arrays["force"][k])
        assert ("REF_spin" in atoms.arrays) == spins


def test_snap(tmp_path):
    """VASP's stress is in kbar, positive if compressed, ordered xx, yy, zz, xy, yz, zx."""
    path = tmp_path / "MoTa_Test.json"
    sites = [{"species": [{"element": e}], "xyz": [0.0, 0, x]} for e, x in (("Mo", 0), ("Ta", 1.6))]
    structure = {"lattice": {"matrix": np.diag([3.2, 3.2, 3.2]).tolist()}, "sites": sites}
    outputs = {"energy": -22.0, "forces": [[0, 0, 1], [0, 0, -1]], "stress": [10, 20, 30, 4, 5, 6]}
    path.write_text(json.dumps([{"structure": structure, "outputs": outputs}]))
    (atoms,) = snap_json([path])
    assert atoms.info["group"] == "MoTa_Test"
    assert atoms.info["split"] == "test"
    np.testing.assert_allclose(
        atoms.info["REF_stress"], -0.1 * GPa * np.array([[10, 4, 6], [4, 20, 5], [6, 5, 30]])
    )


def test_n2p2(tmp_path):
    path = tmp_path / "input.data"
    path.write_text(
        "begin\ncomment x\nlattice 10 0 0\nlattice 0 10 0\nlattice 0 0 10\n"
        "atom 1.0 2.0 3.0 O 0.0 0.0 0.1 0.2 0.3\natom 2.0 2.0 3.0 H 0.0 0.0 -0.1 -0.2 -0.3\n"
        "energy -76.0\ncharge 0.0\nend\nbegin\natom 0 0 0 H 0 0 0 0 0\nenergy -0.5\nend\n"
    )
    water, atom = n2p2([path])
    np.testing.assert_allclose(water.positions[0], Bohr * np.array([1, 2, 3]))
    np.testing.assert_allclose(water.cell.lengths(), 10 * Bohr)
    np.testing.assert_allclose(
        water.arrays["REF_forces"][0], Hartree / Bohr * np.array([0.1, 0.2, 0.3])
    )
    assert atom.info["REF_energy"] == -0.5 * Hartree
    assert not atom.pbc.any()


def test_qm9(tmp_path):
    """The first molecule's lines, with Fortran's *^ in a number."""
    text = (
        b"2\ngdb 7\t1.0\t2.0\t3.0\t0.5\t13.21\t-0.3877\t0.1171\t0.5048\t35.3\t0.04\t-40.47893"
        b"\t-40.4\t-40.4\t-40.4\t6.4\nC\t0.0\t1.0\t2.0\t-0.5\nH\t1.5*^-6\t0\t0\t0.1\n1341.3\nC\nInChI\n"
    )
    with tarfile.open(tmp_path / "q.tar.bz2", "w:bz2") as archive:
        member = tarfile.TarInfo("dsgdb9nsd_000007.xyz")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    (atoms,) = qm9([tmp_path / "q.tar.bz2"])
    assert str(atoms.symbols) == "CH"
    assert atoms.positions[1, 0] == 1.5e-6
    assert atoms.info["qm9_mu_D"] == 0.5
    assert atoms.info["qm9_alpha_a03"] == 13.21
    assert atoms.info["qm9_gap_Ha"] == 0.5048
    assert atoms.info["REF_energy"] == pytest.approx(-40.47893 * Hartree)
