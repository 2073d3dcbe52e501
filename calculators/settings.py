"""Settings of a calculator, read from what users write: names are checked, nothing is guessed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from ase.calculators.calculator import PropertyNotImplementedError

from ..potentials.outputs import DIRECT
from ..potentials.suggestions import did_you_mean

if TYPE_CHECKING:
    from ase import Atoms

    from ..potentials.potential import Potential

OF_ENERGY = ("energy", "free_energy", "energies", "forces", "stress")
STANDARD_DEVIATIONS = ("energy_std", "energies_std")
FEATURES = "last_layer_features"
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def offered_properties(
    predicted: Sequence[str],
    *,
    uncertain: bool = False,
    features: bool = False,
    direct: bool = False,
) -> list[str]:
    """ASE's names of what a potential gives that predicts these.

    With uncertainties and features or without; with forces and stress that are derivatives, or
    direct ones.
    """
    offered = [
        p
        for name in predicted
        if name not in DIRECT
        for p in (OF_ENERGY if name == "energy" else (name,))
    ]
    if direct and DIRECT[1] not in predicted:
        offered.remove("stress")
    return [
        *offered,
        *(STANDARD_DEVIATIONS if uncertain else ()),
        *([FEATURES] if features else ()),
    ]


def check_properties(properties: Sequence[str], offered: Sequence[str]) -> None:
    """Refuse properties that the potential does not have, with PropertyNotImplementedError."""
    for name in properties:
        if name not in offered:
            raise PropertyNotImplementedError(
                f"the potential has no property {name!r}; {did_you_mean(name, offered)}"
            )


def read_dtype(dtype: str | torch.dtype | None, default: torch.dtype) -> torch.dtype:
    """Return the floating-point type that is meant; raises ValueError for others."""
    if dtype is None:
        return default
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; {did_you_mean(name, DTYPES)}")
    return DTYPES[name]


def read_device(device: str | torch.device | None) -> torch.device:
    """Return the device that is meant (None: CPU), after one float64 allocation on it.

    Raises:
        ValueError: there is no such device here, or it has no float64 (sums need it).
    """
    try:
        found = torch.device("cpu" if device is None else device)
        if found.type == "meta":
            raise RuntimeError("tensors of 'meta' have no values")
        torch.zeros(1, dtype=torch.float64, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        cards = torch.cuda.device_count()
        usable = ["cpu", *(f"cuda:{k}" for k in range(cards))]
        raise ValueError(
            f"device {str(device)!r} cannot be used ({reason}); here: {', '.join(usable)}."
        ) from None
    return found


def knows_uncertainty(potential: Potential) -> bool:
    """Whether a potential gives standard deviations; one whose network is an average does not."""
    return potential.rigidity is not None and has_features(potential)


def has_features(potential: Potential) -> bool:
    """Whether its energy is linear in the weights of a last layer that it shows."""
    return "energy" in potential.properties and hasattr(potential.network, FEATURES)


def read_threshold(warn_above: float | None, uncertain: bool) -> float | None:
    """Return a threshold in eV; raises ValueError where there is nothing to compare with it."""
    if warn_above is not None and not uncertain:
        raise ValueError(
            "warn_above needs a model that knows how sure it is; give it that with `pointedge "
            "fit-uncertainty`, and no symmetrize."
        )
    return warn_above


def warn_of_uncertain(results: dict[str, Any], warn_above: float | None, atoms: Atoms) -> None:
    """Warn of the atom whose energy is least sure, if that is above the threshold."""
    if warn_above is None:
        return
    stds = results["energies_std"]
    worst = int(stds.argmax())
    if stds[worst] > warn_above:
        warnings.warn(
            f"the energy of {int((stds > warn_above).sum())} atoms is uncertain by more than "
            f"{warn_above} eV, that of atom {worst} ({atoms.symbols[worst]}) by "
            f"{stds[worst]:.3g}: the model knows little like its environment.",
            stacklevel=2,
        )
