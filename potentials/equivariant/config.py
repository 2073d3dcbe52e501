"""Settings that all equivariant networks share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

from ..plain import checked, refuse_out_of_range
from ..species import refuse_no_element
from ..suggestions import refuse_misspelt
from .irreps import SCALAR, Irrep, Irreps
from .messages import paths
from .tables import CONVENTION

# Beyond what anybody trains; tables of couplings would never be complete.
LARGEST = {"lmax": 16, "num_layers": 100, "radial_depth": 100}
POSITIVE = ("cutoff", "average_neighbors", "typical_moment")
AT_LEAST_ONE = ("num_layers", "num_basis", "radial_width", "envelope_power")


@dataclass(frozen=True)
class EquivariantConfig:
    """Shape of an equivariant network.

    Attributes:
        species: atomic numbers that the model knows, ascending.
        cutoff: radius of an atom's environment, Å.
        irreps: hidden features of all layers, such as "32x0e + 32x1o + 16x2e". A layer has those of
            them that paths lead to, and that the output can come to know of.
        lmax: largest degree of the harmonics of an edge.
        num_layers: message-passing layers.
        num_basis: Bessel functions of a length.
        radial_width: hidden width of the radial MLP.
        radial_depth: its hidden layers.
        envelope_power: p of the polynomial envelope at the cutoff.
        average_neighbors: typical number of neighbours, which scales the sums over them.
        typical_moment: a typical magnetic moment, μ_B; makes the model read the moments of atoms,
            scaled by it. None: blind to them.
        convention: of harmonics and coupling coefficients.
    """

    species: tuple[int, ...]
    cutoff: float = 5.0
    irreps: str = "32x0e + 32x1o"
    lmax: int = 1
    num_layers: int = 3
    num_basis: int = 8
    radial_width: int = 64
    radial_depth: int = 1
    envelope_power: int = 6
    average_neighbors: float = 20.0
    typical_moment: float | None = None
    convention: str = CONVENTION

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        object.__setattr__(self, "species", tuple(sorted(int(z) for z in self.species)))
        if not self.species or len(set(self.species)) != len(self.species):
            raise ValueError(f"species must be distinct atomic numbers, not {self.species}.")
        for number in self.species:
            refuse_no_element(number)
        refuse_misspelt("convention", self.convention, (CONVENTION,))
        refuse_out_of_range(
            self,
            positive=POSITIVE,
            not_negative=("lmax", "radial_depth"),
            at_least_one=AT_LEAST_ONE,
        )
        for name, limit in LARGEST.items():
            if getattr(self, name) > limit:
                raise ValueError(f"{name} = {getattr(self, name)} must be at most {limit}.")
        if SCALAR not in self.hidden:
            raise ValueError(
                f"irreps {self.irreps!r} need scalars, such as '32x0e', for the energy and gates."
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from plain values; an unknown key is refused with the nearest one."""
        return cls(**checked(cls, values, f"{cls.__name__.removesuffix('Config')} setting"))

    @property
    def hidden(self) -> Irreps:
        """Irreps of the features between layers."""
        return Irreps.parse(self.irreps)

    @property
    def radial_sizes(self) -> list[int]:
        """Number of functions of an edge, see :class:`.messages.Edges`, and of hidden units."""
        functions = self.num_basis * (1 if self.typical_moment is None else 4)
        return [functions, *[self.radial_width] * self.radial_depth]

    @property
    def final(self) -> set[Irrep]:
        """Irreps that the output is read from."""
        return {SCALAR}

    def layers(self) -> list[Irreps]:
        """Irreps before the first layer and after each.

        Raises:
            ValueError: an irrep is of no use in any layer.
        """
        hidden = self.hidden
        last = Irreps({irrep: hidden.get(irrep, hidden[SCALAR]) for irrep in self.final})
        shapes = [Irreps({SCALAR: hidden[SCALAR]})]
        for irreps in [*[hidden] * (self.num_layers - 1), last]:
            shapes.append(_only(irreps, {p.target for p in paths(shapes[-1], irreps, self.lmax)}))
        for k in range(self.num_layers - 1, 0, -1):
            used = {path.source for path in paths(shapes[k], shapes[k + 1], self.lmax)}
            shapes[k] = _only(shapes[k], used | {*shapes[k + 1]})
        useless = [str(i) for i in hidden if i != SCALAR and not any(i in s for s in shapes[1:])]
        if useless:
            raise ValueError(
                f"{', '.join(useless)} of irreps {self.irreps!r} cannot reach the output: no path "
                f"leads there and on in {self.num_layers} layers with harmonics up to lmax = "
                f"{self.lmax}; leave it out, or change these."
            )
        return shapes


def _only(irreps: Irreps, kept: Collection[Irrep]) -> Irreps:
    return Irreps({irrep: n for irrep, n in irreps.items() if irrep in kept})
