"""torch-sim (https://github.com/TorchSim/torch-sim): batches of structures in one simulation.

Example::

    import torch_sim
    from pointedge.calculators.engines.torch_sim import PotentialModel

    model = PotentialModel("pet-water", device="cuda")
    state = model.state(structures)
    relaxed = torch_sim.optimize(state, model, optimizer=torch_sim.optimizers.fire)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from ...potentials.neighbors.cells import volumes
from ...potentials.potential import Potential
from ..inputs import InputError, check_energy, check_structure, constant_inputs
from ..loading import load_potential
from ..settings import read_device, read_dtype
from .batches import MovingBatch

try:
    from torch_sim.io import atoms_to_state
    from torch_sim.models.interface import ModelInterface
    from torch_sim.state import SimState
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error.name} is not installed; pip install 'pointedge[engines]' brings torch-sim."
    ) from error


class PotentialModel(ModelInterface):  # type: ignore[misc]
    """A potential for torch-sim: energy (B,) eV, forces (N, 3) eV/Å, stress (B, 3, 3) eV/Å³.

    States are float64, whatever the type of the network: positions and total energies need it.
    Neighbours are kept while atoms move little; the host waits for the device as often as the list
    does (once a step for the check, once for the number of edges, and twice more for a new list).

    Args:
        model: name of a packaged model, checkpoint file, or a potential, of which a copy is made.
        device: torch device; default: the CPU.
        dtype: "float32" or "float64" (or torch's types) for the network; default: its own.
        compute_forces: give forces.
        compute_stress: give stress, and refuse structures whose cells span no volume.
        skin: neighbours are kept until an atom has moved by half of this, Å; 0: never.
        symmetrize: see :class:`pointedge.calculators.PotentialCalculator`.
        charge, spin: total charge (e) and multiplicity of every structure, for models that read
            them, since states of torch-sim carry none.

    Raises:
        ValueError: a model, device, dtype or symmetrisation that does not exist; a model without an
            energy; a model that reads moments, which torch-sim does not keep; charge or spin that
            the model reads and that are not given, does not read, or does not know.
    """

    def __init__(
        self,
        model: str | Path | Potential,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        compute_forces: bool = True,
        compute_stress: bool = True,
        skin: float = 0.5,
        symmetrize: str | None = None,
        charge: int | None = None,
        spin: int | None = None,
    ) -> None:
        super().__init__()
        target = read_device(device)
        potential = load_potential(model, symmetrize=symmetrize)
        potential.to(read_dtype(dtype, potential.dtype)).to(target)
        self.potential: Potential = potential.requires_grad_(False).eval()
        self.inputs = _inputs(potential, {"charge": charge, "spin": spin})
        self._batch = MovingBatch(self.potential, skin)
        self._compute_forces, self._compute_stress = compute_forces, compute_stress

    @property
    def device(self) -> torch.device:
        """Where states have to be."""
        return self.potential.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of states: float64."""
        return torch.float64

    @property
    def compute_forces(self) -> bool:
        """Whether forces are given."""
        return self._compute_forces

    @compute_forces.setter
    def compute_forces(self, value: bool) -> None:
        self._compute_forces = value

    @property
    def compute_stress(self) -> bool:
        """Whether stress is given, and refused without a volume."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, value: bool) -> None:
        self._compute_stress = value

    def state(self, structures: Atoms | Sequence[Atoms]) -> Any:
        """The SimState of ASE structures, after the checks of the ASE calculator.

        torch-sim's own ``atoms_to_state`` drops what states cannot hold: it opens all axes of a
        slab, and forgets charges and constraints. Here these are refused.

        Raises:
            InputError: what the ASE calculator refuses, periodicity along some axes only or in some
                structures only, constraints, or another charge or spin than the model's.
            PropertyNotImplementedError: stress is given, but a cell has no volume.
        """
        structures = [structures] if isinstance(structures, Atoms) else list(structures)
        if not structures:
            raise InputError("a state needs at least one structure; the list is empty.")
        asked = ("stress",) if self.compute_stress else ()
        for k, atoms in enumerate(structures):
            check_structure(atoms, self.potential, asked, f"structure {k}")
            self._check_state_holds(atoms, bool(structures[0].pbc[0]), f"structure {k}")
        return atoms_to_state(structures, self.device, self.dtype)

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Energy, forces and stress of a state, or of a dictionary of its fields.

        Raises:
            InputError: a state of another type or on another device; as in :class:`MovingBatch`.
        """
        if isinstance(state, dict):
            state = SimState(**{"masses": torch.ones_like(state["positions"][:, 0]), **state})
        if state.positions.dtype != self.dtype or state.positions.device != self.device:
            raise InputError(
                f"the state is {state.positions.dtype} on {state.positions.device}; make it with "
                f"model.state(structures), {self.dtype} on {self.device}."
            )
        cell = state.row_vector_cell
        pbc = torch.as_tensor(state.pbc, dtype=torch.bool, device=self.device)
        prediction = self._batch.predict(
            state.positions,
            cell,
            pbc.expand(len(cell), 3),
            state.system_idx,
            state.atomic_numbers.to(torch.int64),
            forces=self.compute_forces,
            virial=False,
            stress=self.compute_stress,
            inputs={
                name: torch.full((len(cell),), value, device=self.device)
                for name, value in self.inputs.items()
            },
        )
        results = {"energy": prediction.energy + prediction.baseline}
        if prediction.forces is not None:
            results["forces"] = prediction.forces
        if self.compute_stress:
            results["stress"] = prediction.virial / volumes(cell)[:, None, None]
        return results

    def _check_state_holds(self, atoms: Atoms, periodic: bool, where: str) -> None:
        """Refuse what a SimState would lose."""
        if any(atoms.pbc != periodic):
            raise InputError(
                f"{where} is periodic along {atoms.pbc.tolist()}, and a state of torch-sim along "
                "all axes or none, in all its structures; use the ASE calculator for slabs."
            )
        if atoms.constraints:
            raise InputError(
                f"{where} has constraints, which a state of torch-sim does not keep; remove them "
                "with atoms.set_constraint()."
            )
        for name, value in self.inputs.items():
            if atoms.info.get(name, value) != value:
                raise InputError(
                    f"{where}: atoms.info[{name!r}] is {atoms.info[name]}, and {value} was given "
                    "for all structures; simulate those of one charge and spin together."
                )


def _inputs(potential: Potential, given: dict[str, int | None]) -> dict[str, int]:
    """Values of the inputs of a potential for all structures."""
    check_energy(potential)
    inputs = constant_inputs(potential, {k: v for k, v in given.items() if v is not None})
    for name in potential.inputs:
        if name not in inputs:
            remedy = (
                f"give {name}= for all structures" if name in given else "use the ASE calculator"
            )
            raise ValueError(
                f"the model reads {name}, which states of torch-sim do not carry; {remedy}."
            )
    return inputs
