"""What a person or a simulation engine touches: ASE calculators, evaluation, commands."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ase import (
        ConvolutionCalculator,
        MACENetCalculator,
        NequIPNetCalculator,
        PETCalculator,
        PotentialCalculator,
    )
    from .ensemble import EnsembleCalculator

__all__ = [
    "ConvolutionCalculator",
    "EnsembleCalculator",
    "MACENetCalculator",
    "NequIPNetCalculator",
    "PETCalculator",
    "PotentialCalculator",
]


def __getattr__(name: str) -> Any:
    """Import a calculator on first use, so that ``pointedge --help`` need not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    room = ".ensemble" if name == "EnsembleCalculator" else ".ase"
    return getattr(import_module(room, __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
