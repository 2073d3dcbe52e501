"""From the files of an origin to frames in the one convention.

Every function takes the paths of the sources, in the order of the registry, and yields structures
with REF_energy (eV), REF_forces (eV/Å) and REF_stress (eV/Å³, negative if compressed).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.units import Bohr, Debye, GPa, Hartree

Paths = Sequence[Path]
KILOBAR = 0.1 * GPa
VASP = np.array([[0, 3, 5], [3, 1, 4], [5, 4, 2]])  # place of xx ... in xx, yy, zz, xy, yz, zx
QM9_COLUMNS = {"mu_D": 5, "alpha_a03": 6, "homo_Ha": 7, "lumo_Ha": 8, "gap_Ha": 9, "U0_Ha": 12}


def labelled(
    atoms: Atoms,
    energy: float | None,
    forces: Any = None,
    stress: Any = None,
    **info: Any,
) -> Atoms:
    """A bare copy of a structure with labels, without the cell of what is not periodic."""
    cell = atoms.cell if atoms.pbc.any() else None
    new = Atoms(atoms.numbers, atoms.positions, cell=cell, pbc=atoms.pbc, info=info)
    if energy is not None:
        new.info["REF_energy"] = float(energy)
    if forces is not None:
        new.arrays["REF_forces"] = np.array(forces, dtype=float).reshape(-1, 3)
    if stress is not None:
        new.info["REF_stress"] = np.array(stress, dtype=float).reshape(3, 3)
    return new


def extxyz(
    paths: Paths,
    splits: Sequence[str],
    energy: str = "energy",
    forces: str = "forces",
    keep: Sequence[str] = (),
) -> Iterator[Atoms]:
    """Extended XYZ in eV and Å, one split a file; no stress, whose unit an origin may not state."""
    for path, split in zip(paths, splits, strict=True):
        for atoms in ase.io.iread(path, ":", format="extxyz"):
            found = {**atoms.info, **atoms.arrays}
            found |= {} if atoms.calc is None else atoms.calc.results
            kept = {key: found[key] for key in keep if key in found}
            yield labelled(atoms, found.get(energy), found.get(forces), split=split, **kept)


def deepmd(paths: Paths, spins: bool = False) -> Iterator[Atoms]:
    """Sets of DeePMD-kit: type.raw, type_map.raw, and .npy files in eV and Å.

    Sources are complete systems, folders named in the frames' ``source_set``.
    """
    root = Path(*_common([path.parts for path in paths]))
    for types in (path for path in paths if path.name == "type.raw"):
        names = (types.parent / "type_map.raw").read_text().split()
        order = np.array([atomic_numbers[names[int(k)]] for k in types.read_text().split()])
        for box in (p for p in paths if p.name == "box.npy" and types.parent in p.parents):
            load = {p.stem: np.load(p) for p in box.parent.glob("*.npy")}
            cells = load["box"].reshape(-1, 3, 3)
            for k, cell in enumerate(cells):
                atoms = Atoms(order, load["coord"][k].reshape(-1, 3), cell=cell, pbc=True)
                name = box.parent.relative_to(root).as_posix()
                frame = labelled(atoms, load["energy"].ravel()[k], load["force"][k])
                frame.info |= {"source_set": name, "frame": k}
                if spins:
                    frame.arrays["REF_spin"] = load["spin"][k].reshape(-1, 3)
                    frame.arrays["REF_mag_forces"] = load["force_mag"][k].reshape(-1, 3)
                yield frame


def snap_json(paths: Paths) -> Iterator[Atoms]:
    """Groups of materialsvirtuallab/snap: structures of pymatgen, stress in kbar, VASP's sign."""
    for path in paths:
        for entry in json.loads(path.read_text()):
            structure, outputs = entry["structure"], entry["outputs"]
            symbols = [site["species"][0]["element"] for site in structure["sites"]]
            positions = [site["xyz"] for site in structure["sites"]]
            cell = structure["lattice"]["matrix"]
            atoms = Atoms(symbols, positions, cell=cell, pbc=True)
            stress = -KILOBAR * np.array(outputs["stress"])[VASP]
            split = "test" if path.stem.endswith("_Test") else "train"
            info = {"group": path.stem, "split": split}
            yield labelled(atoms, outputs["energy"], outputs["forces"], stress, **info)


def n2p2(paths: Paths) -> Iterator[Atoms]:
    """input.data of n2p2 and RuNNer, in Bohr and Hartree."""
    for path in paths:
        rows: list[list[str]] = []
        cell: list[list[str]] = []
        energy = 0.0
        for line in path.read_text().splitlines():
            word, *rest = line.split() or [""]
            if word == "begin":
                rows, cell = [], []
            elif word == "lattice":
                cell.append(rest)
            elif word == "atom":
                rows.append(rest)
            elif word == "energy":
                energy = float(rest[0])
            elif word == "end":
                numbers = np.array([[*row[:3], *row[6:9]] for row in rows], dtype=float)
                box = Bohr * np.array(cell, dtype=float) if cell else None
                symbols = [row[3] for row in rows]
                atoms = Atoms(symbols, Bohr * numbers[:, :3], cell=box, pbc=bool(cell))
                yield labelled(atoms, Hartree * energy, Hartree / Bohr * numbers[:, 3:])


def qm9(paths: Paths) -> Iterator[Atoms]:
    """The archive of QM9: U0 in Hartree, norm of the dipole in Debye (kept as qm9_mu_D)."""
    with tarfile.open(paths[0], "r|*") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None or not member.name.endswith(".xyz"):
                continue
            count, properties, *rows = file.read().decode().replace("*^", "e").splitlines()
            values = properties.split()
            table = [row.split() for row in rows[: int(count)]]
            atoms = Atoms([r[0] for r in table], [[float(x) for x in r[1:4]] for r in table])
            found = {name: float(values[k]) for name, k in QM9_COLUMNS.items()}
            info = {f"qm9_{name}": x for name, x in found.items() if not name.startswith("U0")}
            info["qm9_index"] = int(values[1])
            info["qm9_mu_eA"] = found["mu_D"] * Debye
            yield labelled(atoms, Hartree * found["U0_Ha"], **info)


def _common(parts: Sequence[tuple[str, ...]]) -> list[str]:
    common = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return common


CONVERTERS: dict[str, Callable[..., Iterator[Atoms]]] = {
    function.__name__: function for function in (extxyz, deepmd, snap_json, n2p2, qm9)
}
