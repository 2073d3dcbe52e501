"""i-PI (https://ipi-code.org): path integrals and more, in process or over a socket.

In process, all beads are evaluated in one batch; :func:`forcefield_xml` gives what i-PI's input
needs. Over a socket, ``pointedge drive`` is an ordinary client, which needs no i-PI where it runs;
i-PI's own ``i-pi-py_driver -m custom -P FILE -o model=...,template=...``, with FILE :data:`PES`, is
one that takes batches.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.socketio import IPIProtocol, SocketClient
from ase.parallel import world

from ...potentials.graph import read_inputs
from ...potentials.potential import Potential
from ..inputs import InputError, bare, check_energy, check_structure
from ..loading import load_potential
from ..settings import read_device, read_dtype
from ..structures import read_last
from .batches import MovingBatch

PES = Path(__file__).with_name("ipi_pes.py")  # what i-PI loads


class PotentialDriver:
    """A potential as a ``pes`` of i-PI: energies, forces and virials of one structure or many.

    Elements, their order, periodicity, charge, spin and magnetic moments are those of the template;
    i-PI sends positions and cell alone. Constraints are i-PI's own (``<fixatoms>``).

    Args:
        model: name of a packaged model, checkpoint file, or a potential, of which a copy is made.
        template: structure file that ASE reads, its last frame, or a structure.
        device: torch device; default: the CPU.
        dtype: "float32" or "float64" for the network; default: its own.
        symmetrize: see :class:`pointedge.calculators.PotentialCalculator`.
        skin: neighbours are kept until an atom has moved by half of this, Å; 0: never.
        verbosity: given by i-PI; not used.

    Raises:
        ValueError: a model, device or dtype that does not exist, a file without a structure, or one
            that the model cannot treat.
    """

    def __init__(
        self,
        model: str | Path | Potential,
        template: str | Path | Atoms,
        device: str | None = None,
        dtype: str | None = None,
        symmetrize: str | None = None,
        skin: float = 0.5,
        verbosity: Any = None,
    ) -> None:
        from ipi.utils.units import unit_to_internal, unit_to_user

        self._to_ipi, self._to_user = unit_to_internal, unit_to_user
        target = read_device(device)
        potential = load_potential(model, symmetrize=symmetrize)
        check_energy(potential)
        potential.to(read_dtype(dtype, potential.dtype)).to(target)
        self.potential = potential.requires_grad_(False).eval()
        self.template = template if isinstance(template, Atoms) else read_last(template)
        _check_template(self.template)
        opened = bare(self.template)  # its own cell is never used
        opened.pbc = False
        check_structure(opened, potential, (), "the template")
        self._batch = MovingBatch(potential, float(skin))

    def __call__(self, cell: Any, pos: Any) -> Any:
        """(energy, forces (n, 3), virial (3, 3), "") in atomic units, or a list of such.

        Args:
            cell: (3, 3) with lattice vectors as columns, bohr, or a list of such.
            pos: (n, 3), bohr, or a list of as many.

        Raises:
            ValueError: another number of atoms than the template's, numbers that are not finite, a
                periodic template in a cell that is zero, or atoms on top of each other.
        """
        if isinstance(cell, list):
            return self._evaluate(cell, pos)
        return self._evaluate([cell], [pos])[0]

    def _evaluate(
        self, cells: list[np.ndarray], positions: list[np.ndarray]
    ) -> list[tuple[float, np.ndarray, np.ndarray, str]]:
        count, atoms = len(cells), len(self.template)
        for array in positions:
            _check_number(len(array), atoms)
        device = self.potential.device
        # Columns to rows; i-PI may go on using its own arrays.
        rows = np.stack(cells).swapaxes(1, 2)
        prediction = self._batch.predict(
            self._tensor(np.concatenate(positions)),
            self._tensor(rows),
            torch.tensor(self.template.pbc, device=device).expand(count, 3),
            torch.arange(count, device=device).repeat_interleave(atoms),
            torch.tensor(self.template.numbers, device=device).repeat(count),
            inputs=read_inputs([self.template] * count, self.potential.inputs, device=device),
        )
        energies = (prediction.energy + prediction.baseline).cpu().numpy()
        forces = cast("torch.Tensor", prediction.forces).cpu().numpy().reshape(count, atoms, 3)
        energies = self._to_ipi("energy", "electronvolt", energies)
        forces = self._to_ipi("force", "ev/ang", forces)
        # What i-PI calls the virial is -dE/dε: positive under compression.
        virials = self._to_ipi("energy", "electronvolt", -prediction.virial.cpu().numpy())
        return [(float(e), f, v, "") for e, f, v in zip(energies, forces, virials, strict=True)]

    def _tensor(self, lengths: np.ndarray) -> torch.Tensor:
        """Lengths in bohr as a tensor in Å."""
        lengths = self._to_user("length", "angstrom", np.asarray(lengths, dtype=np.float64))
        return torch.tensor(lengths, device=self.potential.device)


def forcefield_xml(
    model: str | Path, template: str | Path, *, beads: int = 1, name: str = "pointedge"
) -> str:
    """The ``<ffdirect>`` block of i-PI's input: a potential in process, all beads in one batch.

    Args:
        model: name of a packaged model or checkpoint file.
        template: structure file with the atoms in the order that i-PI has them.
        beads: structures that i-PI evaluates together; with beads split over systems, all of them.
        name: by which ``<force forcefield='...'>`` calls it.
    """
    return f"""<ffdirect name='{name}'>
  <pes>custom</pes>
  <pes_path>{PES}</pes_path>
  <batch_size>{beads}</batch_size>
  <parameters>{{model: {model}, template: {template}}}</parameters>
</ffdirect>"""


def serve(
    atoms: Atoms,
    *,
    unix: str | None = None,
    address: str = "localhost",
    port: int = 31415,
    wait: float = 60.0,
) -> Iterator[Atoms]:
    """Answer i-PI over a socket until it ends; yields the structure after each evaluation.

    ASE's client, whose units differ from i-PI's by 1e-7 (of the constants that both have rounded).

    Args:
        atoms: structure with a calculator that gives stress, in i-PI's order of atoms; it moves.
        unix: name of a UNIX socket (``/tmp/ipi_NAME``); None: an INET socket.
        address: host that i-PI runs on.
        port: that it listens at.
        wait: how long to try to connect, s.

    Raises:
        ValueError: nobody listens, i-PI has another number of atoms, or the structure comes from a
            file of i-PI's own, of which ASE reads no cell.
    """
    _check_template(atoms)
    atoms.set_constraint()  # or ASE would send forces without those of fixed atoms
    client = _Client(_connect(f"/tmp/ipi_{unix}" if unix else (address, port), wait), len(atoms))
    for _ in client.irun(atoms, use_stress=True):
        yield atoms


class _Client(SocketClient):
    """ASE's client on a socket that is connected."""

    def __init__(self, connected: socket.socket, atoms: int) -> None:
        self.comm = world
        self.protocol = _Protocol(connected, atoms)
        self.log = self.protocol.log
        self.closed = False
        self.state = "READY"


class _Protocol(IPIProtocol):
    """ASE's protocol, which checks what it is sent."""

    def __init__(self, connected: socket.socket, atoms: int) -> None:
        super().__init__(connected)
        self.atoms = atoms

    def recvposdata(self) -> Any:
        """Cell, its inverse and positions, Å."""
        try:
            received = super().recvposdata()
        except AssertionError:
            raise InputError(
                "i-PI sent a cell or positions that are not finite; check its input, or take a "
                "shorter time step."
            ) from None
        _check_number(len(received[2]), self.atoms)
        return received


def _connect(where: str | tuple[str, int], wait: float) -> socket.socket:
    """Connect to a UNIX socket's file, or a host and port, as soon as i-PI listens."""
    begun = time.monotonic()
    while True:
        connected = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        try:
            connected.connect(where)
        except OSError as error:
            connected.close()
            if time.monotonic() - begun >= wait:
                place = where if isinstance(where, str) else f"{where[0]}, port {where[1]}"
                raise ValueError(
                    f"nobody listens at {place} ({error.strerror or error}); start i-PI first, "
                    "with the same address in its <ffsocket>."
                ) from None
        else:
            return connected
        time.sleep(min(0.2, wait))


def _check_template(template: Atoms) -> None:
    """Refuse i-PI's own xyz: its comment has the cell, which ASE does not see."""
    if not template.pbc.any() and any(key.startswith(("CELL(", "CELL{")) for key in template.info):
        raise InputError(
            "the structure is in i-PI's own xyz, of which ASE reads no cell, so that it would not "
            "be periodic; give extended XYZ with Lattice= and pbc=."
        )


def _check_number(found: int, expected: int) -> None:
    if found != expected:
        raise InputError(
            f"i-PI has {found} atoms, and the structure given here {expected}; give both the same "
            "file."
        )
