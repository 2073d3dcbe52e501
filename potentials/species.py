"""Species of atoms as a network counts them, and atoms grouped by species."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .counting import count

LARGEST_NUMBER = 118


def refuse_no_element(number: int) -> None:
    """Raise ValueError for what is no atomic number."""
    if not 1 <= number <= LARGEST_NUMBER:
        raise ValueError(f"there is no element {number}; atomic numbers are 1 to {LARGEST_NUMBER}.")


def species_index(species: Sequence[int]) -> Tensor:
    """Table (119,) from atomic number to index; unknown elements have an index out of range."""
    table = torch.full((119,), -1, dtype=torch.int64)
    table[list(species)] = torch.arange(len(species))
    return table


@dataclass(frozen=True)
class Groups:
    """N atoms by species.

    Attributes:
        index: (N,) int64, species index of each atom.
        order: (N,) atoms sorted by species.
        places: (N,) where each atom is in that order.
        counts: number of atoms of each species.
    """

    index: Tensor
    order: Tensor
    places: Tensor
    counts: list[int]

    @classmethod
    def build(cls, index: Tensor, num_species: int) -> Groups:
        """Group atoms; one host synchronisation (the counts).

        Raises:
            RuntimeError: an index is out of range.
        """
        order = torch.argsort(index, stable=True)
        counts = count(index, num_species).tolist()
        return cls(index, order, torch.argsort(order), counts)

    def map(self, function: Callable[[int, Tensor], Tensor], values: Tensor) -> Tensor:
        """Apply ``function(species, values of its atoms)`` to values (N, ...) of all atoms."""
        parts = values.index_select(0, self.order).split(self.counts)
        found = [function(z, part) for z, part in enumerate(parts) if len(part)]
        return torch.cat(found).index_select(0, self.places)
