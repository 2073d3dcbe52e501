"""Extended XYZ that keeps every number to its last bit, for files that are copies of others.

ASE writes columns with eight decimals, whatever they hold, and has no option for more. Its writer
does all but these numbers, which are put in as Python's shortest notation of the same float64.
"""

from __future__ import annotations

import io
import re

import ase.io
import numpy as np
from ase import Atoms
from ase.io.extxyz import REV_PROPERTY_NAME_MAP

PROPERTIES = re.compile(r'(?:Lattice="[^"]*" )?Properties=(\S+)')
WIDTH = 16  # of a column at least, as in ASE's files


def exact_extxyz(atoms: Atoms) -> str:
    """One frame of a file, with the results of its calculator."""
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    count, comment, *lines, _ = text.getvalue().split("\n")
    rows = [line.split() for line in lines]
    found = PROPERTIES.match(comment)
    assert found is not None, "ASE begins a comment with the lattice and its columns"
    parts = found[1].split(":")
    known = {**getattr(atoms.calc, "results", {}), **atoms.arrays}
    start = 0
    for name, kind, width in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        end = start + int(width)
        if kind == "R":
            values = known.get(REV_PROPERTY_NAME_MAP.get(name, name), known.get(name))
            numbers = np.asarray(values, dtype=np.float64).reshape(len(atoms), -1)
            for row, exact in zip(rows, numbers.tolist(), strict=True):
                row[start:end] = [f"{x!r:>{WIDTH}}" for x in exact]
        start = end
    return "\n".join([count, comment, *(" ".join(row) for row in rows), ""])
