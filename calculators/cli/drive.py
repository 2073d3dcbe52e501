"""`pointedge drive`: energies, forces and virials for i-PI, over a socket."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Device, Dtype, ModelOption, Symmetrize
from .runs import progress_bar, read_structure, set_model


def drive(
    structure: Annotated[
        str, typer.Argument(help="file that ASE reads, its last frame: the atoms in i-PI's order")
    ],
    model: ModelOption = "pet-water",
    unix: Annotated[
        str | None, typer.Option(help="name of a UNIX socket, /tmp/ipi_NAME; default: INET")
    ] = None,
    address: Annotated[str, typer.Option(help="host that i-PI runs on")] = "localhost",
    port: Annotated[int, typer.Option(min=1, max=65535, help="that i-PI listens at")] = 31415,
    wait: Annotated[float, typer.Option(min=0, help="seconds to wait for i-PI to start")] = 60.0,
    device: Device = None,
    dtype: Dtype = None,
    symmetrize: Symmetrize = None,
) -> None:
    """Be a client of i-PI (an <ffsocket> in its input) until it ends; several may run.

    Elements, periodicity, charge and magnetic moments are those of the structure, since i-PI sends
    positions and cell alone. In one process with i-PI, where beads run as a batch, see
    examples/10_path_integrals.py.
    """
    from ..engines.ipi import serve

    atoms = read_structure(structure)
    set_model(atoms, model, device, dtype, symmetrize)
    count = 0
    with progress_bar(0) as show:
        for _ in serve(atoms, unix=unix, address=address, port=port, wait=wait):
            count += 1
            if show is not None:
                show(count, "structures")
    print(f"i-PI has ended; {count} structures were evaluated")
