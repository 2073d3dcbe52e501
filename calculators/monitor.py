"""An eye on a dynamics: it stops, or frames are stored, where the model is not sure enough."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO, get_args

import ase.io
import numpy as np
from ase import Atoms

from .recorder import FRAME_ARRAYS, without_labels

Action = Literal["stop", "store"]


class UncertainError(RuntimeError):
    """A dynamics was stopped, since its model is not sure enough of where it has come to."""


@dataclass(frozen=True)
class Limits:
    """What is too uncertain, and what happens then.

    Attributes:
        forces: largest standard deviation of a force component, eV/Å; None: not looked at.
        energy: standard deviation of the energy of the whole structure, eV; None: not looked at.
            A single model with a rigidity takes another forward pass for it.
        action: "stop" the run, or "store" the frame and go on.
        spacing: at least so many steps between frames that are stored.

    Raises:
        ValueError: no limit, or a value is out of range.
    """

    forces: float | None = None
    energy: float | None = None
    action: Action = "stop"
    spacing: int = 100

    def __post_init__(self) -> None:
        given = {
            n: v for n, v in (("forces", self.forces), ("energy", self.energy)) if v is not None
        }
        if not given:
            raise ValueError("give a limit of uncertainty, of forces (eV/Å) or of the energy (eV).")
        for name, value in given.items():
            if not 0 < value < np.inf:
                raise ValueError(f"the limit of uncertain {name} is {value}; it must be positive.")
        if self.action not in get_args(Action):
            raise ValueError(
                f"unknown action {self.action!r}; known: {', '.join(get_args(Action))}."
            )
        if self.spacing < 1:
            raise ValueError(f"spacing is {self.spacing} steps; it must be at least 1.")

    def check(self, calculator: Any) -> None:
        """Refuse a calculator that does not know how sure it is, with ValueError."""
        offered = getattr(calculator, "implemented_properties", ())
        for name, limit in (("forces_std", self.forces), ("energy_std", self.energy)):
            if limit is not None and name not in offered:
                more = "; a limit of its energy is possible" if "energy_std" in offered else ""
                raise ValueError(
                    f"the model gives no {name}, which the limit is for{more}; take an ensemble "
                    "(several models, separated by commas)."
                )


class UncertaintyMonitor:
    """Looks at every step of a dynamics; ``dynamics.attach(UncertaintyMonitor(dynamics, ...))``.

    A frame that is stored has species, positions, momenta and cell, the step and the standard
    deviations (``energy_std`` in eV and ``max_forces_std`` in eV/Å in info, ``forces_std`` (N, 3)),
    and no energy or forces: these are for a reference calculation. The frame at which a run is
    stopped is stored, too.

    Args:
        dynamics: of ASE, with ``nsteps`` and ``atoms`` that have a calculator.
        limits: see :class:`Limits`.
        output: extended XYZ that frames are appended to, or an open text file.
        stored, last: number of frames stored before, and step of the last; of a run that goes on.

    Attributes:
        stored, last: the same now.

    Raises:
        ValueError: the calculator does not know how sure it is.
    """

    def __init__(
        self,
        dynamics: Any,
        limits: Limits,
        output: str | Path | TextIO,
        *,
        stored: int = 0,
        last: int | None = None,
    ) -> None:
        self.dynamics, self.limits, self.output = dynamics, limits, output
        self.stored, self.last = stored, last
        limits.check(self.atoms.calc)

    @property
    def atoms(self) -> Atoms:
        """The structure, also where a filter stands before it."""
        found = self.dynamics.atoms
        return getattr(found, "atoms", found)

    def __call__(self) -> None:
        """Look at this step; raises :class:`UncertainError` where it is to be stopped."""
        if (reason := self.look()) is not None:
            raise UncertainError(f"stopped at step {self.dynamics.nsteps}: {reason}.")

    def look(self) -> str | None:
        """Store this step where it is due, and say why to stop; asked again it does nothing new."""
        stds = self._standard_deviations()
        reason = self._reason(stds)
        if reason is None:
            return None
        step = int(self.dynamics.nsteps)
        stopping = self.limits.action == "stop"
        spacing = 1 if stopping else self.limits.spacing
        if self.last is None or step < self.last or step - self.last >= spacing:
            self._store(step, stds)
            self.stored, self.last = self.stored + 1, step
        return reason if stopping else None

    def _standard_deviations(self) -> dict[str, Any]:
        """What limits are for, and what costs nothing because it came with the forces."""
        atoms = self.atoms
        known = {n for n in ("energy_std", "forces_std") if n in getattr(atoms.calc, "results", {})}
        if self.limits.energy is not None:
            known.add("energy_std")
        if self.limits.forces is not None:
            known.add("forces_std")
        return {name: atoms.calc.get_property(name, atoms) for name in sorted(known)}

    def _reason(self, stds: dict[str, Any]) -> str | None:
        limits = self.limits
        if limits.energy is not None and not stds["energy_std"] <= limits.energy:
            return (
                f"the standard deviation of the energy is {stds['energy_std']:.4g} eV, above "
                f"{limits.energy:g} eV"
            )
        if limits.forces is None or stds["forces_std"].max() <= limits.forces:
            return None
        worst = stds["forces_std"].max(axis=1)
        atom = int(worst.argmax())
        return (
            f"the standard deviation of a force is {worst[atom]:.4g} eV/Å, on atom {atom} "
            f"({self.atoms.symbols[atom]}), above {limits.forces:g} eV/Å"
        )

    def _store(self, step: int, stds: dict[str, Any]) -> None:
        frame = without_labels(self.atoms, FRAME_ARRAYS)
        frame.set_constraint()
        frame.info["step"] = step
        if "energy_std" in stds:
            frame.info["energy_std"] = float(stds["energy_std"])
        if "forces_std" in stds:
            frame.info["max_forces_std"] = float(stds["forces_std"].max())
            frame.arrays["forces_std"] = np.array(stds["forces_std"])
        text = io.StringIO()
        ase.io.write(text, frame, format="extxyz")
        with _appending(self.output) as file:
            file.write(text.getvalue())  # at once: a cut-off run leaves whole frames


@contextmanager
def _appending(output: str | Path | TextIO) -> Iterator[TextIO]:
    if isinstance(output, str | Path):
        with open(output, "a", encoding="utf-8") as file:
            yield file
    else:
        yield output
        output.flush()
