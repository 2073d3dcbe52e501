r"""Coordinate systems of atomic environments, with smooth weights (ECSE, arXiv 2305.19302).

Every ordered pair (j, j') of an atom's neighbours gives a frame with columns

.. math:: a = \hat r_j, \quad b \propto \hat r_j \times \hat r_{j'}, \quad c = a \times b

that turns with the atoms; in its coordinates ``r @ frame`` an environment looks the same however it
is turned. Which pairs count, and how much, is a matter of the method: the paper's, within an
adaptive inner radius (:mod:`.radius`), or graded scores (:mod:`.scores`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..plain import checked
from ..suggestions import refuse_misspelt
from .environments import Environments, Frames
from .radius import frames_by_radius
from .scores import ScoreSettings, frames_by_scores
from .weights import RadiusSettings

FrameSettings = ScoreSettings | RadiusSettings


def frame_settings(values: Mapping[str, Any]) -> FrameSettings:
    """Settings from plain values, as found in a YAML file; ``method`` says of which method.

    Raises:
        ValueError: an unknown method, or a key that it does not have.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"frames = {values!r}: settings such as {{reach: 3.0}} are expected.")
    methods = {"scores": ScoreSettings, "radius": RadiusSettings}
    method = values.get("method", "scores")
    refuse_misspelt("method of frames", method, methods)
    return methods[method](**checked(methods[method], values, "frame setting"))


def make_frames(
    vectors: Tensor,
    centers: Tensor,
    num_atoms: int,
    cutoff: float,
    settings: FrameSettings,
    *,
    species: Tensor | None = None,
    group: Tensor | None = None,
    num_groups: int = 0,
) -> Frames:
    """Frames and weights from edge vectors, twice differentiable in them.

    Args:
        vectors: (E, 3) Å, of all edges within the cutoff; converted to float64.
        centers: (E,) int64, ascending.
        num_atoms: N.
        cutoff: radius of the environments, Å.
        settings: of the method to use.
        species: (E,) of the neighbours, 0 to 1, where a preference weighs them by it.
        group: (N,) int64, atoms whose weights are compared in pruning and for the auxiliary weight:
            the structure of each atom, as in the research code; default: every atom for itself,
            which alone is local and extensive.
        num_groups: how many groups there are, where ``group`` is given.

    Raises:
        ValueError: centres do not ascend; looked at on a CPU only, since a GPU would be waited for.
    """
    if centers.device.type == "cpu" and (centers.diff() < 0).any():
        raise ValueError("edges are not sorted by their centres; sort them, as Graph has them.")
    environments = Environments.of(vectors, centers, num_atoms, cutoff, species, group, num_groups)
    if isinstance(settings, ScoreSettings):
        return frames_by_scores(environments, settings)
    return frames_by_radius(environments, settings)
