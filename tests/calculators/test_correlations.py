"""Time correlations against motions whose spectra and diffusion are known beforehand."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from ase import Atoms

from pointedge.calculators.correlations import (
    WAVENUMBER,
    autocorrelation,
    density_of_states,
    finite_size_correction,
    mean_square_displacement,
    self_diffusion,
)
from pointedge.calculators.md import run_md
from pointedge.calculators.motion import Motion, read_motion

from .quick import argon, settings

INTERVAL = 0.0025  # ps


def oscillators(count: int, thz: dict[str, float], atoms: int = 20) -> Motion:
    """Free oscillations, as many of each element, with random phases and amplitudes."""
    rng = np.random.default_rng(0)
    symbols = np.repeat(list(thz), atoms)
    time = INTERVAL * np.arange(count)
    omega = 2 * np.pi * np.repeat(list(thz.values()), atoms)[:, None]
    phase = rng.uniform(0, 2 * np.pi, (len(symbols), 3))
    size = rng.normal(size=phase.shape)
    angle = time[:, None, None] * omega + phase
    masses = np.ones(len(symbols))
    positions, velocities = size * np.sin(angle), omega * size * np.cos(angle)
    return Motion(symbols, masses, 10 * np.eye(3), time, positions, velocities)


def test_density_of_states_of_oscillators():
    motion = oscillators(6400, {"H": 100.0, "O": 20.0})
    for symbol, thz in (("H", 100.0), ("O", 20.0)):
        dos = density_of_states(motion, symbol, window=1.0)
        top = dos.wavenumbers[np.argmax(dos.density)]
        assert top == pytest.approx(thz * WAVENUMBER, abs=0.5 * WAVENUMBER)
        assert np.trapezoid(dos.density, dos.wavenumbers) == pytest.approx(3.0, abs=1e-10)
        high = dos.wavenumbers[dos.density > 0.5 * dos.density.max()]
        spacing = dos.wavenumbers[1]
        assert np.ptp(high) == pytest.approx(dos.resolution, abs=1.01 * spacing)
        assert dos.resolution == pytest.approx(33.356, abs=1e-3)
        assert dos.error.max() < 0.05 * dos.density.max()


def test_density_of_states_of_free_flight_is_at_zero():
    motion = oscillators(1600, {"H": 1e-6})
    dos = density_of_states(motion, "H", window=1.0, blocks=1)
    assert np.argmax(dos.density) == 0
    assert np.isnan(dos.error).all()


def test_autocorrelation_is_the_mean_over_origins():
    series = np.random.default_rng(0).normal(size=(50, 3))
    expected = [(series[lag:] * series[: 50 - lag]).mean(axis=0) for lag in range(20)]
    np.testing.assert_allclose(autocorrelation(series, 20), expected, atol=1e-13)


def test_displacement_of_free_flight():
    velocity = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    positions = np.arange(30)[:, None, None] * velocity
    expected = np.arange(10) ** 2 * (5 + 9) / 2
    np.testing.assert_allclose(mean_square_displacement(positions, 10), expected)


def test_diffusion_of_random_walks():
    """A walk of steps with variance σ² per direction and interval has D = σ²/(2 interval)."""
    rng = np.random.default_rng(1)
    steps = rng.normal(scale=0.1, size=(8000, 40, 3))
    walk = np.cumsum(steps, axis=0)
    drift = np.arange(8000)[:, None, None] * np.array([0.01, 0.0, 0.0])  # of the whole cell
    symbols = np.array(["O"] * 20 + ["H"] * 20)
    motion = Motion(
        symbols, np.ones(40), np.eye(3), 0.01 * np.arange(8000), walk + drift, steps / 0.01
    )
    # Displacements are relative to a centre of 40 walkers, which takes a fortieth.
    expected = 0.1**2 / (2 * 0.01) * (1 - 1 / 40)
    result = self_diffusion(motion, "O", fit=(1.0, 4.0))
    assert result.blocks == 9
    assert 0 < result.error < 0.1 * expected
    assert abs(result.coefficient - expected) < 4 * result.error
    assert result.displacement[100] == pytest.approx(6 * expected * 1.0, rel=0.05)
    assert np.isnan(self_diffusion(motion.after(70.0), "H", fit=(1.0, 4.0)).error)


def test_several_runs_are_as_many_blocks_more():
    motion = oscillators(6400, {"H": 100.0, "O": 20.0})
    halves = motion.blocks(2)
    for whole, parts in (
        (density_of_states(motion, "H"), density_of_states(halves, "H", blocks=4)),
        (
            self_diffusion(motion, "O", fit=(0.1, 0.3975)),
            self_diffusion(halves, "O", fit=(0.1, 0.3975)),
        ),
    ):
        for field in fields(whole):
            np.testing.assert_equal(getattr(parts, field.name), getattr(whole, field.name))


def test_runs_of_one_system_only():
    motion = oscillators(100, {"H": 100.0, "O": 20.0})
    slow = replace(motion, time=2 * motion.time)
    with pytest.raises(ValueError, match=r"2\.5 fs apart in one trajectory and 5 fs in another"):
        density_of_states([motion, slow], "H", window=0.05)
    with pytest.raises(ValueError, match="of other atoms"):
        self_diffusion([motion, oscillators(100, {"H": 100.0})], "H", fit=(0.01, 0.05))
    with pytest.raises(ValueError, match="no trajectory; give at least one"):
        self_diffusion([], "H")


def test_finite_size_correction_of_water():
    """0.056 Å²/ps for 64 molecules, a fourth of what water diffuses."""
    assert finite_size_correction(298.15, 0.896, 12.42) == pytest.approx(0.0557, abs=2e-4)


def test_motion_of_a_run(tmp_path):
    result = run_md(argon(), settings(steps=43), tmp_path)
    motion = read_motion(result.iter_frames())
    np.testing.assert_allclose(motion.time, [0, 0.02, 0.04, 0.06, 0.08])  # not that of step 43
    assert motion.velocities.shape == motion.positions.shape == (5, 32, 3)
    moved = np.diff(motion.positions, axis=0) / motion.interval
    mean = 0.5 * (motion.velocities[1:] + motion.velocities[:-1])
    assert np.abs(moved - mean).max() < 0.1 * np.abs(mean).max()
    assert motion.after(0.03).time[0] == 0.04
    longer = run_md(argon(), settings(steps=60), tmp_path)
    np.testing.assert_allclose(read_motion(longer.iter_frames()).time, 0.02 * np.arange(7))
    squeezed = run_md(argon(), settings(ensemble="npt"), tmp_path / "npt")
    with pytest.raises(ValueError, match="the cell changes by frame 1"):
        read_motion(squeezed.iter_frames())


def test_refusals(tmp_path):
    motion = oscillators(100, {"H": 100.0})
    with pytest.raises(ValueError, match="there is no O in the trajectory; there are H"):
        density_of_states(motion, "O")
    with pytest.raises(ValueError, match=r"of 0\.2475 ps, in frames of 2\.5 fs, is too short"):
        density_of_states(motion, "H")
    with pytest.raises(ValueError, match="too short for lags up to 4 ps"):
        self_diffusion(motion, "H")
    frame = Atoms("H", momenta=[[0, 0, 1]])
    times = [0.0, 1.0, 3.0, 4.0]
    frames = [Atoms(frame, info={"time_fs": time}) for time in times]
    with pytest.raises(ValueError, match="evenly spaced"):
        read_motion(frames)
    with pytest.raises(ValueError, match="2 frames show no motion"):
        read_motion(frames[:2])
    turned = [Atoms("H", [[0.1 * k % 1, 0, 0]], cell=np.eye(3), pbc=True) for k in range(12)]
    for k, frame in enumerate(turned):
        frame.info["time_fs"] = float(k)
    assert len(read_motion(turned[:10]).time) == 10
    with pytest.raises(ValueError, match="half a cell up to frame 10; give"):
        read_motion(turned)


def test_senseless_options():
    motion = oscillators(1000, {"H": 100.0})
    for fit in ((0.5, 0.2), (0.2, 0.2), (-1.0, 0.5), (0.1, -0.1)):
        with pytest.raises(ValueError, match="no line goes through lags of"):
            self_diffusion(motion, "H", fit=fit)
    with pytest.raises(ValueError, match="blocks is 0; it must be at least 1"):
        density_of_states(motion, "H", blocks=0)
    with pytest.raises(ValueError, match="0 frames are later than 100 ps, of a run until 2"):
        motion.after(100.0)
