"""What an error is: the only place that defines one.

With Δ = prediction − label, everything in float64:

- *mae* is the mean of |Δ|, *rmse* the root of the mean of Δ²: over frames for the energy per atom,
  over single components for forces (three per atom), dipoles (three per frame), stresses and
  polarizabilities (nine per frame, so that the figure does not depend on the axes). Errors of
  vector norms would be larger by about √3.
- *offset_corrected* energies: what an atom of each species has for its zero of energy is a
  convention, so the offsets δ_s that minimize Σ_f (Δ_f/N_f − Σ_s x_fs δ_s)² are removed, where x_fs
  is the fraction of species s in frame f. Where all frames have one composition, that removes the
  mean error per atom. One fit over all frames serves the groups too. With no more frames than
  independent compositions it would vanish for any model, and is None.
- *relative_rmse*: percent of the root mean square of the reference components (about zero, so that
  predicting no force at all has 100 %); None where the reference vanishes.
- *p95* and *max*: 95th percentile (interpolated linearly) and maximum of |Δ| over components.
- *calibration*: how standard deviations of a model fit its raw errors: fractions of these within
  one and two, the correlation of their ranks, and the factor that would make them as large as
  errors are (in root mean square). Energies per atom, and force components.
- *rotational discrepancy*: every frame in several random orientations of O(3); what is predicted is
  turned back, and its unbiased variance over orientations averaged over frames (of the energy per
  atom) or components; the figure is the square root of that. It needs no label.

But for percents, figures are in thousandths: meV, me·Å, and for polarizabilities thousandths of the
labels' unit, whatever it is; the model has to have the same one.

What has no label is None, and counts nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ..potentials.calibration import Calibration
from ..potentials.outputs import ERRORS
from .comparison import MOMENTS, Array, Comparison

MILLI = 1e3  # eV -> meV, e·Å -> me·Å
# Of what blocks and discrepancies hold.
UNITS = {"energy_per_atom" if name == "energy" else name: unit for name, unit in ERRORS.items()}

Selection = NDArray[np.bool_]


@dataclass(frozen=True)
class Errors:
    """Mean absolute and root-mean-square error, in one of :data:`UNITS`."""

    mae: float
    rmse: float


@dataclass(frozen=True)
class EnergyErrors(Errors):
    """Errors of the energy per atom in meV/atom, raw and without the best offsets of species."""

    offset_corrected: Errors | None


@dataclass(frozen=True)
class ComponentErrors(Errors):
    """Errors of force components in meV/Å; ``relative_rmse`` in percent."""

    p95: float
    max: float
    relative_rmse: float | None


@dataclass(frozen=True)
class ForceErrors(ComponentErrors):
    """Errors of all force components, and of those of each element."""

    per_element: dict[str, ComponentErrors]


@dataclass(frozen=True)
class Block:
    """Errors of some frames; None where nothing is labelled."""

    frames: int
    atoms: int
    energy_per_atom: EnergyErrors | None
    forces: ForceErrors | None
    stress: Errors | None
    dipole: Errors | None
    polarizability: Errors | None


@dataclass(frozen=True)
class RotationalDiscrepancy:
    """Spread over orientations in :data:`UNITS`, per component; None: the calculator has no such.

    Zero to rounding for an exactly invariant or equivariant model.
    """

    energy_per_atom: float | None
    forces: float | None
    dipole: float | None
    polarizability: float | None


@dataclass(frozen=True)
class WorstFrame:
    """Force errors of one frame in meV/Å per component; signed raw energy error in meV/atom.

    ``max_force_error_atom`` is an index within the frame, ``max_force_error_element`` its symbol.
    """

    file: str
    index: int
    force_rmse: float | None
    energy_error: float | None
    max_force_error: float | None
    max_force_error_atom: int | None
    max_force_error_element: str | None


def errors(c: Comparison, chosen: Selection | None = None) -> Block:
    """Errors of all frames, or of the chosen ones (a boolean per frame)."""
    chosen = np.ones(len(c.sizes), dtype=bool) if chosen is None else chosen
    raw = mean_errors(energy_error(c)[chosen])
    corrected = mean_errors(corrected_energy_error(c)[0][chosen])
    return Block(
        frames=int(chosen.sum()),
        atoms=int(c.sizes[chosen].sum()),
        energy_per_atom=None if raw is None else EnergyErrors(raw.mae, raw.rmse, corrected),
        forces=_force_errors(c, chosen[c.frame_of_atom]),
        **{name: mean_errors(c.error(name)[chosen]) for name in ("stress", *MOMENTS)},
    )


def energy_error(c: Comparison) -> Array:
    """Raw energy errors (F,) in eV/atom."""
    return np.asarray(c.error("energy") / c.sizes)


def corrected_energy_error(c: Comparison) -> tuple[Array, int]:
    """Energy errors (F,) in eV/atom without the best offsets of species, and how many were fitted.

    NaN throughout where the offsets could take up any error.
    """
    error, fractions = energy_error(c), c.fractions
    known = ~np.isnan(error)
    if not known.any():
        return error, 0
    offsets, _, rank, _ = np.linalg.lstsq(fractions[known], error[known], rcond=1e-10)
    corrected = error - fractions @ offsets
    return (corrected if known.sum() > rank else np.full_like(error, np.nan)), int(rank)


def calibrations(c: Comparison) -> dict[str, Calibration]:
    """How standard deviations fit, in :data:`UNITS`, by the names there; of what has some."""
    found = {
        "energy_per_atom": (c.energy_std / c.sizes, energy_error(c)),
        "forces": (c.forces_std, c.error("forces")),
        "stress": (c.stress_std, c.error("stress")),
    }
    known = {name: ~np.isnan(stds + errors) for name, (stds, errors) in found.items()}
    return {
        name: Calibration.of(MILLI * stds[known[name]], MILLI * errors[known[name]])
        for name, (stds, errors) in found.items()
        if known[name].any()
    }


def worst_frames(c: Comparison, count: int = 5) -> list[WorstFrame]:
    """The frames of largest force RMSE; after them, those without forces by |energy error|.

    Frames with neither are left out.
    """
    forces = np.abs(c.error("forces"))
    starts = np.cumsum(c.sizes) - c.sizes
    rmse = np.sqrt(np.add.reduceat((forces**2).mean(axis=1), starts) / c.sizes)
    energy, corrected = energy_error(c), corrected_energy_error(c)[0]
    ranked = energy if np.isnan(corrected).all() else corrected
    no_forces = np.isnan(rmse)
    size = np.nan_to_num(np.where(no_forces, np.abs(ranked), rmse))
    order = np.lexsort((-size, no_forces))
    worst = []
    for k in order[~(no_forces & np.isnan(energy))[order]][:count]:
        within = forces[starts[k] : starts[k] + c.sizes[k]].max(axis=1)
        atom = None if no_forces[k] else int(within.argmax())
        worst.append(
            WorstFrame(
                file=str(c.files[k]),
                index=int(c.indices[k]),
                force_rmse=None if atom is None else MILLI * float(rmse[k]),
                energy_error=None if np.isnan(energy[k]) else MILLI * float(energy[k]),
                max_force_error=None if atom is None else MILLI * float(within[atom]),
                max_force_error_atom=atom,
                max_force_error_element=None
                if atom is None
                else chemical_symbols[c.species[starts[k] + atom]],
            )
        )
    return worst


def _force_errors(c: Comparison, atoms: Selection) -> ForceErrors | None:
    known = atoms & ~np.isnan(c.error("forces")).any(axis=1)
    if not known.any():
        return None
    elements = {
        chemical_symbols[number]: _component_errors(c, known & (c.species == number))
        for number in np.unique(c.species[known])
    }
    return ForceErrors(**vars(_component_errors(c, known)), per_element=elements)


def _component_errors(c: Comparison, atoms: Selection) -> ComponentErrors:
    error = np.abs(c.error("forces")[atoms])
    rmse, size = np.sqrt(np.mean(error**2)), np.sqrt(np.mean(c.forces[atoms] ** 2))
    return ComponentErrors(
        mae=MILLI * float(error.mean()),
        rmse=MILLI * float(rmse),
        p95=MILLI * float(np.percentile(error, 95)),
        max=MILLI * float(error.max()),
        relative_rmse=float(100 * rmse / size) if size > 0 else None,
    )


def mean_errors(error: Array) -> Errors | None:
    """Errors in milli-units of signed errors of any shape; NaN counts nowhere."""
    known = error[~np.isnan(error)]
    if not known.size:
        return None
    return Errors(MILLI * float(np.abs(known).mean()), MILLI * float(np.sqrt(np.mean(known**2))))


def discrepancy(
    variances: list[dict[str, Array]], sizes: list[int]
) -> RotationalDiscrepancy | None:
    """Join the variances of frames of these sizes, see :func:`.comparison.rotational_variances`."""
    if not variances:
        return None

    def spread(quantity: str) -> float | None:
        found = [
            v[quantity].ravel() / (size**2 if quantity == "energy" else 1)
            for v, size in zip(variances, sizes, strict=True)
            if quantity in v
        ]
        return MILLI * float(np.sqrt(np.concatenate(found).mean())) if found else None

    return RotationalDiscrepancy(*map(spread, ("energy", "forces", *MOMENTS)))
