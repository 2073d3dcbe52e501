"""Ensembles: settings of a dynamics, the structures that suit it, and ASE's integrator for it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from ase import Atoms, units

Ensemble = Literal["nve", "nvt", "npt"]
Thermostat = Literal["bussi", "langevin"]
# Settings that not all ensembles have.
KNOWN_TO = {
    "pressure": ("npt",),
    "barostat_time": ("npt",),
    "thermostat": ("nvt",),
    "thermostat_time": ("nvt", "npt"),
}


@dataclass(frozen=True)
class MDSettings:
    """What a run needs besides its structure and its calculator.

    Attributes:
        ensemble: "nve" (velocity Verlet), "nvt" (see ``thermostat``) or "npt" (Langevin dynamics of
            atoms and volume, BAOAB splitting; isotropic, the shape of the cell is kept).
        temperature: K; in "nve" only that of velocities drawn for a structure without any.
        timestep: fs.
        steps: number of time steps.
        pressure: bar, for "npt".
        thermostat: for "nvt". "bussi" rescales all velocities stochastically (Bussi, Donadio &
            Parrinello, J. Chem. Phys. 126, 014101 (2007)): it hardly disturbs the dynamics, and a
            conserved quantity checks the integration. "langevin" acts on every atom, as isolated
            molecules and harmonic crystals need, whose modes do not exchange energy.
        thermostat_time: fs, relaxation time of the thermostat.
        barostat_time: fs, for "npt": relaxation time and upper limit of the period of the volume.
        seed: of velocities and thermostat, together with the starting positions.
        interval: steps between frames of the trajectory.
        log_interval: steps between lines of the log.

    Raises:
        ValueError: a value is out of range, or has no meaning in the ensemble.
    """

    ensemble: Ensemble = "nvt"
    temperature: float = 300.0
    timestep: float = 0.5
    steps: int = 2000
    pressure: float = 1.0
    thermostat: Thermostat = "bussi"
    thermostat_time: float = 100.0
    barostat_time: float = 1000.0
    seed: int = 0
    interval: int = 20
    log_interval: int = 10

    def __post_init__(self) -> None:
        for name, known in (("ensemble", Ensemble), ("thermostat", Thermostat)):
            value, options = getattr(self, name), get_args(known)
            if value not in options:
                raise ValueError(f"unknown {name} {value!r}; known: {', '.join(options)}.")
        for name in ("temperature", "timestep", "thermostat_time", "barostat_time"):
            if not 0 < getattr(self, name) < np.inf:
                unit = "K" if name == "temperature" else "fs"
                raise ValueError(f"{name} is {getattr(self, name)} {unit}; it must be positive.")
        if not np.isfinite(self.pressure):
            raise ValueError(f"pressure is {self.pressure} bar; it must be finite.")
        for name in ("steps", "interval", "log_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be at least 0.")
        for field in fields(self):
            known_to = KNOWN_TO.get(field.name, get_args(Ensemble))
            if self.ensemble not in known_to and getattr(self, field.name) != field.default:
                raise ValueError(
                    f"{field.name} has a meaning in {' and '.join(known_to)}, and the ensemble is "
                    f"{self.ensemble}; leave it out."
                )


def draw_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Set Maxwell-Boltzmann velocities at a temperature (K) in place, with the centre at rest."""
    spread = np.sqrt(atoms.get_masses() * units.kB * temperature)
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * spread[:, None])
    if not atoms.constraints:
        stop_center_of_mass(atoms)


def stop_center_of_mass(atoms: Atoms) -> None:
    """Remove the velocity of the centre of mass in place."""
    masses = atoms.get_masses()
    momenta = atoms.get_momenta()
    atoms.set_momenta(momenta - masses[:, None] * momenta.sum(axis=0) / masses.sum())


def check_structure(atoms: Atoms, settings: MDSettings) -> None:
    """Refuse a structure that does not suit the ensemble, with ValueError."""
    if atoms.calc is None:
        raise ValueError("the structure has no calculator; set atoms.calc before run_md.")
    if len(atoms) < 2:
        raise ValueError(f"dynamics needs at least 2 atoms; the structure has {len(atoms)}.")
    if atoms.constraints and atoms.get_number_of_degrees_of_freedom() < 1:
        raise ValueError("the constraints of the structure leave no atom free to move.")
    if settings.ensemble != "npt":
        return
    if not (all(atoms.pbc) and atoms.cell.rank == 3):
        raise ValueError(
            "the npt ensemble needs a cell with a volume, periodic along all three axes; the "
            f"structure has pbc {atoms.pbc.tolist()} and rank {atoms.cell.rank}: use nvt or nve."
        )
    if "stress" not in getattr(atoms.calc, "implemented_properties", ("stress",)):
        raise ValueError(
            f"the npt ensemble needs a stress, which {type(atoms.calc).__name__} does not give: "
            "use nvt or nve."
        )
    if atoms.constraints:
        raise ValueError("the npt ensemble knows no constraints; remove them, or use nvt.")


def make_dynamics(atoms: Atoms, settings: MDSettings, rng: np.random.Generator) -> Any:
    """Return ASE's integrator for the ensemble; ``atoms`` carry velocities and a calculator."""
    step, relaxation = settings.timestep * units.fs, settings.thermostat_time * units.fs
    if settings.ensemble == "nve":
        from ase.md.verlet import VelocityVerlet

        return VelocityVerlet(atoms, step)
    if settings.ensemble == "npt":
        from ase.md.langevinbaoab import LangevinBAOAB

        period = settings.barostat_time * units.fs
        # W = (3N + 3) k_B T (τ/2π)², Martyna et al., Mol. Phys. 87, 1117 (1996).
        mass = (3 * len(atoms) + 3) * units.kB * settings.temperature * (period / 2 / np.pi) ** 2
        return LangevinBAOAB(
            atoms,
            step,
            temperature_K=settings.temperature,
            externalstress=-settings.pressure * units.bar,
            hydrostatic=True,
            T_tau=relaxation,
            P_tau=period,
            P_mass=mass,
            rng=rng,
        )
    if settings.thermostat == "langevin":
        from ase.md.langevin import Langevin

        return Langevin(
            atoms,
            step,
            temperature_K=settings.temperature,
            friction=1 / relaxation,
            fixcm=False,  # FixCom does that rightly
            rng=rng,
        )
    from ase.md.bussi import Bussi

    return Bussi(atoms, step, temperature_K=settings.temperature, taut=relaxation, rng=rng)


# What ASE's integrators know beyond positions, momenta, cell, forces and random numbers: the energy
# that Bussi's thermostat gave; of LangevinBAOAB, the momentum of the volume, and the force on it,
# which is computed before the last half step of the momenta.
MEMORY = ("transferred_energy", "p_eps", "force_eps")


def memory(dynamics: Any) -> dict[str, float]:
    """Numbers that an integrator needs to go on exactly, by the names of its attributes."""
    return {name: float(getattr(dynamics, name)) for name in MEMORY if hasattr(dynamics, name)}


def recall(dynamics: Any, numbers: dict[str, float]) -> None:
    """Give an integrator the numbers that :func:`memory` returned of its predecessor."""
    for name, value in numbers.items():
        setattr(dynamics, name, value)


def conserved_energy(atoms: Atoms, settings: MDSettings, dynamics: Any) -> float:
    """Energy (eV) that exact integration would conserve; NaN where none is known."""
    total = atoms.get_potential_energy() + atoms.get_kinetic_energy()
    if settings.ensemble == "nve":
        return float(total)
    if hasattr(dynamics, "transferred_energy"):  # by Bussi's thermostat
        return float(total - dynamics.transferred_energy)
    return float("nan")
