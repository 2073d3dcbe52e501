r"""Which frames are worth a reference calculation: those that a model is least sure of, and new.

A frame a has an uncertainty u_a, the model's own, and features φ_a of the last layer, means over
its atoms, of the metric in which known frames determine them: whitened by training frames, with
H = Σ φφᵀ of these (or of the rigidity that a model brings), and else about their mean. What is
unknown of two frames is taken to be as alike as their features point in one direction:

    K_ab = u_a u_b φ_a·φ_b / (|φ_a| |φ_b|),

so that a frame that was chosen, of which a calculation leaves ς², lowers the variance of others,

    σ²_a(S) = K_aa - K_aS (K_SS + ς² 1)⁻¹ K_Sa,

and the next to be chosen is the one of largest σ_a(S). That is the greedy maximisation of
det(K_SS + ς² 1), D-optimal design; see "MaxDet" in Holzmüller, Zaverkin, Kästner & Steinwart,
JMLR 24, 164 (2023), arXiv 2203.09410. In features it is an update of one vector for each choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from ..potentials.datasets.hashes import frame_hash
from .comparison import Array, Frame, calculate, chunks, implements, predict
from .recorder import FRAME_ARRAYS, without_labels
from .settings import FEATURES

NOISE = 0.1  # ς over the root mean square of uncertainties
RIDGE = 1e-6  # on H, over the mean of its diagonal
CHUNK = 4_000  # atoms that are handed to the calculator at once
MEASURES = {"forces": "forces_std", "energy": "energy_std"}
UNITS = {"forces": "eV/Å", "energy": "eV", "features": ""}


@dataclass(frozen=True)
class Described:
    """What is known of frames.

    Attributes:
        frames: that were read and are no copies of one another or of training frames.
        stds: (F,) of each of :data:`MEASURES` that the model gives: the energy's in eV, and the
            largest of a force component in eV/Å.
        features: (F, D) of the last layer, means over atoms; D is 0 where the model shows none.
        training: (T, D) of training frames.
        read, known, copies: how many were read, are training frames, and copies of others.
    """

    frames: list[Frame]
    stds: dict[str, Array]
    features: Array
    training: Array
    read: int
    known: int
    copies: int


@dataclass(frozen=True)
class Chosen:
    """A frame that was chosen.

    Attributes:
        index: among the frames that were described.
        frame: with the name of its file.
        uncertainty: before anything was chosen, in :data:`UNITS`.
        left: what was left of it when it was chosen, given those chosen before.
        distance: to the nearest of training frames and of those chosen before, in the metric of
            selection and units of the candidates' spread (root mean square); NaN for the first.
    """

    index: int
    frame: Frame
    uncertainty: float
    left: float
    distance: float


def describe(
    calculator: Any,
    candidates: Iterable[Frame],
    training: Iterable[Frame] = (),
    progress: Callable[[int], None] | None = None,
) -> Described:
    """Evaluate frames, but for copies of training frames and of one another.

    Raises:
        ValueError: the calculator fails on a frame, or there is none.
    """
    seen: set[str] = set()
    known = _features(calculator, training, lambda frame: seen.add(frame_hash(frame.atoms)))
    trained, read, copied = set(seen), [0], [0, 0]

    def fresh() -> Iterable[Frame]:
        for frame in candidates:
            read[0] += 1
            digest = frame_hash(frame.atoms)
            if digest in seen:
                copied[digest not in trained] += 1
                continue
            seen.add(digest)
            yield frame

    names = tuple(std for std in MEASURES.values() if implements(calculator, std))
    frames: list[Frame] = []
    features: list[Array] = []
    found: list[dict[str, Array]] = []
    for chunk in chunks(fresh(), CHUNK):
        frames += chunk
        features.append(_mean_features(calculator, chunk))
        found += predict(calculator, chunk, [names] * len(chunk))
        if progress is not None:
            progress(len(chunk))
    if not frames:
        raise ValueError("there is no frame to choose from that is not a training frame.")
    return Described(
        frames,
        {
            measure: np.array([float(np.max(one[std])) for one in found])
            for measure, std in MEASURES.items()
            if std in names
        },
        np.concatenate(features),
        known if known.size else np.zeros((0, features[0].shape[1])),
        read[0],
        *copied,
    )


def select(
    found: Described, count: int, *, by: str | None = None, whitening: Array | None = None
) -> list[Chosen]:
    """Choose frames, the most informative first.

    Args:
        found: see :func:`describe`.
        count: how many.
        by: "forces", "energy", or "features", what these alone say; default: the first of these
            that the model has.
        whitening: (D, D) L⁻¹ for H = L Lᵀ of the training frames, of a model that knows them.

    Raises:
        ValueError: there are fewer frames, or the model does not have what is asked for.
    """
    if not 1 <= count <= len(found.frames):
        raise ValueError(
            f"{count} frames cannot be chosen of {len(found.frames)} that are neither training "
            "frames nor copies; give another --count, or more frames."
        )
    offered = [*found.stds, *(["features"] if found.features.shape[1] else [])]
    measure = by or next(iter(offered), "")
    if measure not in offered:
        raise ValueError(
            f"the model does not know how sure it is{f' of {by}' if by else ''}; take an ensemble, "
            "a model with `pointedge fit-uncertainty`, or one that shows features (PET, MACE)."
        )
    points, known = metric(found.features, found.training, whitening)
    lengths = np.linalg.norm(points, axis=1)
    stds = lengths if measure == "features" else found.stds[measure]
    if points.shape[1]:
        scaled = stds[:, None] * points / np.where(lengths > 0, lengths, 1.0)[:, None]
    else:  # nothing tells frames apart but their uncertainty
        scaled = np.diag(stds)
    noise = NOISE * float(np.sqrt(np.mean(stds**2))) or 1.0
    order, left = greedy(scaled, noise, count)
    distances = _distances(points, known, order)
    return [
        Chosen(k, found.frames[k], float(stds[k]), float(sigma), float(distance))
        for k, sigma, distance in zip(order, left, distances, strict=True)
    ]


def greedy(features: Array, noise: float, count: int) -> tuple[list[int], Array]:
    """Indices of largest conditional variance, one after the other, and their σ (count,) then.

    Args:
        features: (F, D) ψ, of the prior covariance ψ_a·ψ_b.
        noise: ς, what an observation leaves.
        count: at most F; ties go to the first.
    """
    features = features.astype(np.float64)
    variances = (features**2).sum(axis=1)
    free = np.ones(len(features), dtype=bool)
    covariances = np.zeros((count, len(features)))  # L⁻¹ K_Sa of the Cholesky factor of K_SS + ς²
    order, left = [], []
    for step in range(count):
        best = int(np.where(free, variances, -np.inf).argmax())
        order.append(best)
        left.append(np.sqrt(max(variances[best], 0.0)))
        free[best] = False
        row = features @ features[best] - covariances[:step].T @ covariances[:step, best]
        covariances[step] = row / np.sqrt(max(variances[best], 0.0) + noise**2)
        variances = variances - covariances[step] ** 2
    return order, np.array(left)


def metric(features: Array, training: Array, whitening: Array | None) -> tuple[Array, Array]:
    """Features (F, D) and those of training frames (T, D) in the metric of selection."""
    if not features.shape[1]:
        return features, training
    if whitening is not None:
        return features @ whitening.T, training @ whitening.T
    if not len(training):
        return features - features.mean(axis=0), training
    products = training.T @ training
    products += RIDGE * np.diag(products).mean() * np.eye(len(products))
    factor = np.linalg.cholesky(products)
    return np.linalg.solve(factor, features.T).T, np.linalg.solve(factor, training.T).T


def without_results(chosen: Chosen, found: Described) -> Atoms:
    """The structure to write: without labels, with its origin and how unsure the model is of it."""
    atoms = without_labels(chosen.frame.atoms, FRAME_ARRAYS)
    atoms.info |= {"source_file": chosen.frame.file, "source_index": chosen.frame.index}
    names = {"energy": "energy_std", "forces": "max_forces_std"}
    atoms.info |= {names[of]: float(stds[chosen.index]) for of, stds in found.stds.items()}
    return atoms


def feature_members(calculator: Any) -> list[Any]:
    """Calculators that show features: one, or those of an ensemble."""
    members = getattr(calculator, "members", [calculator])
    return [m for m in members if implements(m, FEATURES)]


def _mean_features(calculator: Any, frames: Sequence[Frame]) -> Array:
    """Features (n, D) of the last layers of all members that show them, means over atoms."""
    columns = [
        np.stack([r[FEATURES].mean(axis=0) for r in calculate(m, frames, (FEATURES,))])
        for m in feature_members(calculator)
    ]
    return np.concatenate(columns, axis=1) if columns else np.zeros((len(frames), 0))


def _features(calculator: Any, frames: Iterable[Frame], see: Callable[[Frame], None]) -> Array:
    parts = []
    for chunk in chunks(frames, CHUNK):
        for frame in chunk:
            see(frame)
        parts.append(_mean_features(calculator, chunk))
    return np.concatenate(parts) if parts else np.zeros((0, 0))


def _distances(points: Array, known: Array, order: Sequence[int]) -> Array:
    """From each chosen point to the nearest one before it."""
    if not points.shape[1]:
        return np.full(len(order), np.nan)
    spread = float(np.sqrt(np.mean(((points - points.mean(axis=0)) ** 2).sum(axis=1)))) or 1.0
    found = []
    for k, index in enumerate(order):
        others = np.concatenate([known, points[list(order[:k])]])
        gaps = np.linalg.norm(others - points[index], axis=1)
        found.append(gaps.min() / spread if len(gaps) else np.nan)
    return np.array(found)
