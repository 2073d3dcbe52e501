"""Irreducible representations of O(3), written as e3nn writes them: "32x0e + 32x1o + 16x2e".

Features are dictionaries from irrep to tensor (N, 2l + 1, multiplicity), so that no layer has to
know where in a row of numbers an order begins, and channels are contiguous in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

PARITIES = {"e": 1, "o": -1}
TERM = re.compile(r"(?:(\d+)\s*x\s*)?(\d+)([eo])")


@dataclass(frozen=True, order=True)
class Irrep:
    """Degree l and parity p (1: even, -1: odd under inversion)."""

    l: int  # noqa: E741 - the field's name for it
    p: int

    @classmethod
    def parse(cls, text: str) -> Irrep:
        """Read "1o"; raises ValueError with the text."""
        match = TERM.fullmatch(text.strip())
        if match is None or match[1] is not None:
            raise ValueError(f"{text!r} is no irrep; write a degree and a parity, such as '1o'.")
        return cls(int(match[2]), PARITIES[match[3]])

    @classmethod
    def harmonic(cls, l: int) -> Irrep:  # noqa: E741
        """Of the spherical harmonics of degree l."""
        return cls(l, (-1) ** l)

    @property
    def dim(self) -> int:
        """2l + 1."""
        return 2 * self.l + 1

    def __mul__(self, other: Irrep) -> Iterator[Irrep]:
        """What the product of two contains."""
        for l in range(abs(self.l - other.l), self.l + other.l + 1):  # noqa: E741
            yield Irrep(l, self.p * other.p)

    def __str__(self) -> str:
        """As it is read."""
        return f"{self.l}{'e' if self.p == 1 else 'o'}"


SCALAR = Irrep(0, 1)
Features = dict[Irrep, Tensor]


class Irreps(Mapping[Irrep, int]):
    """Multiplicities of irreps, by irrep; in the order of degree, then parity (odd first)."""

    def __init__(self, multiplicities: Mapping[Irrep, int]) -> None:
        self._multiplicities = {k: n for k, n in sorted(multiplicities.items()) if n > 0}

    @classmethod
    def parse(cls, text: str) -> Irreps:
        """Read "32x0e + 32x1o"; an irrep may come more than once, and without a number once.

        Raises:
            ValueError: with the part that is none.
        """
        multiplicities: dict[Irrep, int] = {}
        for term in text.split("+"):
            match = TERM.fullmatch(term.strip())
            if match is None:
                raise ValueError(
                    f"{term.strip()!r} in irreps {text!r} is no irrep; write a number, a degree "
                    "and a parity, such as '32x1o'."
                )
            irrep = Irrep(int(match[2]), PARITIES[match[3]])
            number = int(match[1] or 1)
            multiplicities[irrep] = multiplicities.get(irrep, 0) + number
        irreps = cls(multiplicities)
        if not irreps:
            raise ValueError(f"irreps {text!r} have no feature.")
        return irreps

    @property
    def dim(self) -> int:
        """Number of components of all features."""
        return sum(n * irrep.dim for irrep, n in self.items())

    @property
    def lmax(self) -> int:
        """Largest degree."""
        return max(irrep.l for irrep in self)

    def __getitem__(self, irrep: Irrep) -> int:
        """Multiplicity of an irrep; KeyError if there is none."""
        return self._multiplicities[irrep]

    def __iter__(self) -> Iterator[Irrep]:
        return iter(self._multiplicities)

    def __len__(self) -> int:
        """Number of different irreps."""
        return len(self._multiplicities)

    def __str__(self) -> str:
        """As it is read."""
        return " + ".join(f"{n}x{irrep}" for irrep, n in self.items())
