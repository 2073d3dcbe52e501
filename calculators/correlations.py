"""Time correlations of a trajectory: vibrational density of states and self-diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import units
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from .motion import Motion
from .trajectories import Array

# 1/cm of 1 THz
WAVENUMBER = 1e12 / (100 * units._c)


@dataclass(frozen=True)
class DensityOfStates:
    """Vibrational density of states of one element.

    Attributes:
        symbol: of the element.
        wavenumbers: (K,), 1/cm.
        density: (K,), states per atom and 1/cm; all of it sums to 3, the directions of an atom.
        error: (K,), standard error of the density; NaN for a single block.
        resolution: 1/cm, full width at half maximum that a sharp line has.
    """

    symbol: str
    wavenumbers: Array
    density: Array
    error: Array
    resolution: float


def density_of_states(
    motion: Motion | Sequence[Motion], symbol: str, *, window: float = 1.0, blocks: int = 8
) -> DensityOfStates:
    """Vibrational density of states from the velocity autocorrelation function.

        D(ν) = 3 · 2 ∫ w(t) cos(2πνt) <v(0)·v(t)> / <v²> dt,    w(t) = cos²(πt / 2τ),  |t| < τ

    averaged over atoms of an element and over time origins. It is what the classical motion shows:
    line shapes and shifts of quantum nuclei are not in it. Frequencies above half the sampling rate
    (1/(2·interval)) fold back: 2.5 fs between frames reach 6,670 1/cm.

    Args:
        motion: see :func:`.motion.read_motion`; or several, of independent runs of one system.
        symbol: element.
        window: τ, ps; the longer, the finer the resolution and the larger the noise.
        blocks: parts of each trajectory whose spread gives the error; as many as are at least 2 τ
            long are taken.

    Raises:
        ValueError: no such element, a trajectory shorter than 2 τ, no block, or runs of other atoms
            or intervals.
    """
    if blocks < 1:
        raise ValueError(f"blocks is {blocks}; it must be at least 1.")
    runs = _runs(motion)
    chosen, interval = _atoms(runs[0], symbol), runs[0].interval
    lags = round(window / interval)
    parts: list[Motion] = []
    for run in runs:
        possible = len(run.time) // max(2 * lags, 1)
        if possible < 1 or lags < 2:
            raise ValueError(
                f"a trajectory of {run.time[-1] - run.time[0]:g} ps, in frames of "
                f"{1000 * interval:g} fs, is too short for a window of {window:g} ps; give at "
                "least twice the window."
            )
        parts += run.blocks(min(blocks, possible))
    taper = np.cos(0.5 * np.pi * np.arange(lags) / lags) ** 2
    spectra = []
    for block in parts:
        velocities = block.velocities[:, chosen].reshape(len(block.time), -1)
        correlation = autocorrelation(velocities, lags).mean(axis=1)
        even = taper * correlation / correlation[0]
        # Symmetric in time: the transform is real, and its mean is the value at time 0.
        full = rfft(np.concatenate([even, [0.0], even[:0:-1]])).real
        spectra.append(3 * 2 * full * interval / WAVENUMBER)
    error = np.std(spectra, axis=0, ddof=1) if len(spectra) > 1 else np.full(lags + 1, np.nan)
    return DensityOfStates(
        symbol=symbol,
        wavenumbers=np.arange(lags + 1) / (2 * lags * interval) * WAVENUMBER,
        density=np.mean(spectra, axis=0),
        error=error / np.sqrt(len(spectra)),
        resolution=WAVENUMBER / window,  # of a Hann window of length 2 τ: 2 / (2 τ)
    )


@dataclass(frozen=True)
class Diffusion:
    """Mean square displacement of one element, and the self-diffusion coefficient from its slope.

    Attributes:
        symbol: of the element.
        lags: (K,), ps.
        displacement: (K,), Å², averaged over atoms and time origins.
        fit: ps, first and last lag of the straight line.
        coefficient: Å²/ps (1 Å²/ps is 1e-8 m²/s).
        error: its standard error from blocks; NaN for a single block.
        blocks: number of blocks.
    """

    symbol: str
    lags: Array
    displacement: Array
    fit: tuple[float, float]
    coefficient: float
    error: float
    blocks: int


def self_diffusion(
    motion: Motion | Sequence[Motion], symbol: str, *, fit: tuple[float, float] = (1.0, 4.0)
) -> Diffusion:
    """Self-diffusion coefficient by Einstein's relation, D = slope of <|r(t) - r(0)|²> / 6.

    Displacements are relative to the centre of mass of all atoms. Trajectories are cut into blocks
    of twice the longest lag, whose spread gives the error. A periodic cell slows diffusion down:
    see :func:`finite_size_correction`.

    Args:
        motion: see :func:`.motion.read_motion`; or several, of independent runs of one system.
        symbol: element.
        fit: ps, first and last lag of the straight line; beyond rattling in a cage, about 1 ps in
            water.

    Raises:
        ValueError: no such element, a trajectory shorter than two times the last lag, no two lags
            between those of the fit, or runs of other atoms or intervals.
    """
    runs = _runs(motion)
    chosen, interval = _atoms(runs[0], symbol), runs[0].interval
    lags = max(0, round(fit[1] / interval)) + 1
    time: Array = interval * np.arange(lags, dtype=np.float64)
    fitted = time >= fit[0]
    if fitted.sum() < 2 or fit[0] < 0:
        raise ValueError(
            f"no line goes through lags of {fit[0]:g} to {fit[1]:g} ps, in frames of "
            f"{1000 * interval:g} fs; give a first and a last lag with two frames between."
        )
    parts: list[Array] = []
    for run in runs:
        blocks = len(run.time) // (2 * lags)
        if blocks < 1:
            raise ValueError(
                f"a trajectory of {run.time[-1] - run.time[0]:g} ps is too short for lags up to "
                f"{fit[1]:g} ps; give at least twice as much, or shorter lags."
            )
        center = np.einsum("tnx,n->tx", run.positions, run.masses) / run.masses.sum()
        relative = run.positions[:, chosen] - center[:, None]
        parts += np.split(relative[: len(relative) // blocks * blocks], blocks)
    curves = [mean_square_displacement(part, lags) for part in parts]
    slopes = [np.polyfit(time[fitted], curve[fitted], 1)[0] / 6 for curve in curves]
    return Diffusion(
        symbol=symbol,
        lags=time,
        displacement=np.mean(curves, axis=0),
        fit=fit,
        coefficient=float(np.mean(slopes)),
        error=float(np.std(slopes, ddof=1) / np.sqrt(len(parts))) if len(parts) > 1 else np.nan,
        blocks=len(parts),
    )


def finite_size_correction(temperature: float, viscosity: float, edge: float) -> float:
    """What the periodic images of a cubic cell take from a self-diffusion coefficient, Å²/ps.

        D(∞) - D(L) = 2.837297 k_B T / (6π η L)

    (Yeh & Hummer, J. Phys. Chem. B 108, 15873 (2004)).

    Args:
        temperature: K.
        viscosity: η of the model, mPa·s; where it is not known, that of the real liquid.
        edge: L, Å.
    """
    si = 2.837297 * units._k * temperature / (6 * np.pi * 1e-3 * viscosity * 1e-10 * edge)
    return float(1e8 * si)


def autocorrelation(series: Array, lags: int) -> Array:
    """Mean over time origins of x(s) x(s + t), for t of 0 to ``lags`` - 1 steps.

    Args:
        series: (T, M), each column by itself.
        lags: at most T.

    Returns:
        (lags, M).
    """
    length = len(series)
    padded = next_fast_len(length + lags, real=True)  # no lag meets the end of the series
    power = np.abs(rfft(series, padded, axis=0)) ** 2
    origins = length - np.arange(lags)
    result: Array = irfft(power, padded, axis=0)[:lags] / origins[:, None]
    return result


def mean_square_displacement(positions: Array, lags: int) -> Array:
    """Mean over atoms and time origins of |r(s + t) - r(s)|², for t of 0 to ``lags`` - 1 steps.

    Args:
        positions: (T, N, 3), Å, not wrapped.
        lags: at most T.

    Returns:
        (lags,), Å².
    """
    displacement = [0.0]
    for lag in range(1, lags):
        moved = positions[lag:] - positions[:-lag]
        displacement.append(float(np.einsum("tnx,tnx->", moved, moved)) / moved[..., 0].size)
    return np.array(displacement)


def _runs(motion: Motion | Sequence[Motion]) -> list[Motion]:
    runs = [motion] if isinstance(motion, Motion) else list(motion)
    if not runs:
        raise ValueError("there is no trajectory; give at least one.")
    first = runs[0]
    for run in runs[1:]:
        if not np.array_equal(run.symbols, first.symbols):
            raise ValueError("the trajectories are of other atoms; give runs of one system.")
        if not np.isclose(run.interval, first.interval, rtol=1e-3):
            raise ValueError(
                f"frames are {1000 * first.interval:g} fs apart in one trajectory and "
                f"{1000 * run.interval:g} fs in another; give runs with the same interval."
            )
    return runs


def _atoms(motion: Motion, symbol: str) -> NDArray[np.intp]:
    chosen = np.flatnonzero(motion.symbols == symbol)
    if not len(chosen):
        known = ", ".join(sorted(set(motion.symbols)))
        raise ValueError(f"there is no {symbol} in the trajectory; there are {known}.")
    return chosen
