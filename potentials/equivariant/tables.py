r"""Spherical harmonics and coupling coefficients, as numbers that a checkpoint carries.

e3nn computes them when a model is new. They are buffers, so that a model that is loaded needs no
e3nn, of whatever release. Convention "e3nn": real harmonics with the axes of e3nn, of which the
ones of degree 1 are :math:`\sqrt 3 (x, y, z)`, "component" normalised, so that the squares of all
2l + 1 add up to 2l + 1 on the unit sphere; and Wigner's 3j symbols in that basis, whose squares add
up to 1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn

CONVENTION = "e3nn"
Path = tuple[int, int, int]  # degrees l1, l2 -> l3


class Constants(nn.Module):
    """Buffers that e3nn computes for a new model and that a checkpoint carries; float64 always."""

    def __init__(self) -> None:
        super().__init__()
        self._known = False
        self.register_state_dict_pre_hook(_fill_to_save)

    def reserve(self, name: str, *shape: int) -> None:
        """Make room for a constant."""
        self.register_buffer(name, torch.full(shape, torch.nan, dtype=torch.float64))

    @abstractmethod
    def compute(self, o3: Any) -> dict[str, Tensor]:
        """Every constant by name, from the module ``e3nn.o3``."""

    def fill(self) -> None:
        """Compute everything with e3nn, unless a checkpoint brought it or that was done.

        Raises:
            ImportError: e3nn is not installed.
        """
        if self._known:
            return
        try:
            from e3nn import o3
        except ImportError as error:
            raise ImportError(
                "a new equivariant model takes its coupling coefficients from e3nn, which is not "
                "installed; run `pip install e3nn` (models that are loaded need none)."
            ) from error
        with torch.no_grad():
            for name, value in self.compute(o3).items():
                self.get_buffer(name).copy_(value)
        self._known = True

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self._known = True

    def _apply(self, function: Any, recurse: bool = True) -> Self:
        """Move to a device, and never to another type."""
        super()._apply(lambda x: x.to(function(x.new_empty(0)).device), recurse)
        return self


class Tables(Constants):
    """Harmonics up to a degree and 3j symbols of some paths.

    Args:
        lmax: largest degree of the harmonics.
        paths: degrees (l1, l2, l3) whose symbols are needed.
    """

    def __init__(self, lmax: int, paths: Iterable[Path]) -> None:
        super().__init__()
        self.lmax, self.paths = lmax, sorted(set(paths))
        for l in range(lmax + 1):  # noqa: E741
            self.reserve(f"harmonic_{l}", 2 * l + 1, len(exponents(l)))
        for path in self.paths:
            self.reserve(_name(path), *(2 * degree + 1 for degree in path))

    def compute(self, o3: Any) -> dict[str, Tensor]:
        """Of the convention "e3nn"."""
        harmonics = {f"harmonic_{l}": _polynomials(o3, l) for l in range(self.lmax + 1)}  # noqa: E741
        symbols = {_name(p): o3.wigner_3j(*p, dtype=torch.float64) for p in self.paths}
        return {**harmonics, **symbols}

    def harmonics(self, directions: Tensor) -> list[Tensor]:
        """Of unit vectors (E, 3): one tensor (E, 2l + 1) for each degree, in their type."""
        self.fill()
        powers = [torch.ones_like(directions)]
        for _ in range(self.lmax):
            powers.append(powers[-1] * directions)
        columns = [power.unbind(-1) for power in powers]
        values = []
        for l in range(self.lmax + 1):  # noqa: E741
            monomials = [columns[a][0] * columns[b][1] * columns[c][2] for a, b, c in exponents(l)]
            table: Tensor = getattr(self, f"harmonic_{l}")
            values.append(torch.stack(monomials, dim=-1) @ table.to(directions.dtype).T)
        return values

    def coupling(self, path: Path) -> Tensor:
        """3j symbol (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) in float64."""
        self.fill()
        symbol: Tensor = getattr(self, _name(path))
        return symbol

    def quadrupoles(self, dtype: torch.dtype) -> Tensor:
        """Symmetric traceless matrices (5, 3, 3) of the components of degree 2.

        The harmonics of degree 2 are quadratic forms, whose matrices these are.
        """
        self.fill()
        matrices = torch.zeros(5, 3, 3, dtype=dtype, device=self.get_buffer("harmonic_2").device)
        for column, powers in zip(self.get_buffer("harmonic_2").T, exponents(2), strict=True):
            i, j = (axis for axis, power in enumerate(powers) for _ in range(power))
            matrices[:, i, j] += 0.5 * column.to(dtype)
            matrices[:, j, i] += 0.5 * column.to(dtype)
        return matrices


def _fill_to_save(constants: Constants, prefix: str, keep_vars: bool) -> None:
    if not keep_vars:  # a look at the shapes needs no values
        constants.fill()


def exponents(l: int) -> list[Path]:  # noqa: E741
    """Exponents of x, y and z in the monomials of degree l."""
    return [(a, b, l - a - b) for a in range(l, -1, -1) for b in range(l - a, -1, -1)]


def _name(path: Path) -> str:
    return "coupling_{}_{}_{}".format(*path)


def _polynomials(o3: Any, l: int) -> Tensor:  # noqa: E741
    """Coefficients (2l + 1, monomials) of harmonics, from their values at random points."""
    generator = torch.Generator().manual_seed(l)
    points = torch.randn(4 * len(exponents(l)), 3, dtype=torch.float64, generator=generator)
    monomials = torch.stack(
        [points.pow(torch.tensor(e, dtype=torch.float64)).prod(-1) for e in exponents(l)], dim=-1
    )
    values = o3.spherical_harmonics(l, points, normalize=False, normalization="component")
    coefficients = torch.linalg.lstsq(monomials, values).solution.T
    return torch.where(coefficients.abs() < 1e-12, 0.0, coefficients)
