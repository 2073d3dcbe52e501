"""Analysis of trajectories against results that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from scipy.signal import lfilter

from pointedge.calculators.trajectories import (
    ALL,
    RDF,
    block_average,
    block_radial_distribution,
    linear_drift,
    radial_distribution,
    telling_pairs,
)

SKEW = np.array([[11.0, 0.0, 0.0], [2.5, 10.0, 0.0], [-1.5, 3.0, 12.0]])


def ideal_gas(symbols: str, cell: np.ndarray, count: int) -> list[Atoms]:
    rng = np.random.default_rng(4)
    size = len(Atoms(symbols))
    return [
        Atoms(symbols, scaled_positions=rng.uniform(-1, 2, (size, 3)), cell=cell, pbc=True)
        for _ in range(count)
    ]


@pytest.mark.parametrize("cell", [12.0 * np.eye(3), SKEW])
@pytest.mark.parametrize("pair", [("Ar", "Ar"), ("Ar", "Ne"), ("Ne", "Ar"), ("Ne", "Ne")])
def test_ideal_gas_has_g_one(cell, pair):
    frames = ideal_gas("Ar8Ne5", cell, 400)
    (rdf,) = radial_distribution(frames, [pair], bin_width=0.25)
    counts = {"Ar": 8, "Ne": 5}
    pairs = counts[pair[0]] * (counts[pair[1]] - (pair[0] == pair[1]))
    edges = np.linspace(0, rdf.r[-1] + 0.5 * (rdf.r[1] - rdf.r[0]), len(rdf.r) + 1)
    expected = len(frames) * pairs * 4 / 3 * np.pi * np.diff(edges**3) / frames[0].get_volume()
    # Counts are binomial; equal elements are listed twice, so only half of them are independent.
    independent = expected / (2 if pair[0] == pair[1] else 1)
    enough = independent > 20
    deviation = (rdf.g - 1)[enough] * np.sqrt(independent[enough])
    assert enough.sum() > 10
    assert np.abs(deviation).max() < 4
    assert abs(deviation.mean()) < 4 / np.sqrt(enough.sum())


@pytest.mark.parametrize("pair", [("O", "O"), ("O", "H"), ("H", "H")])
def test_matches_ase_up_to_the_self_count(pair):
    from ase.geometry.rdf import get_rdf

    rng = np.random.default_rng(0)
    atoms = Atoms("O20H40", positions=rng.uniform(0, 12, (60, 3)), cell=SKEW, pbc=True)
    (rdf,) = radial_distribution([atoms], [pair], r_max=4.0, bin_width=0.1)
    other = get_rdf(atoms, 4.0, 40, elements=pair, no_dists=True)
    count = {"O": 20, "H": 40}[pair[1]]
    factor = (count - 1) / count if pair[0] == pair[1] else 1.0
    np.testing.assert_allclose(rdf.g * factor, other, rtol=1e-10)


def test_fcc_shells_and_coordination():
    lattice = 3.6
    atoms = bulk("Cu", "fcc", a=lattice, cubic=True).repeat(4)
    (rdf,) = radial_distribution([atoms], [("Cu", "Cu")], r_max=7.0, bin_width=0.01)
    shells = lattice * np.sqrt(np.arange(1, 8) / 2)
    occupied = rdf.r[rdf.g > 0]
    assert all(np.abs(occupied - s).min() < 0.01 for s in shells)
    assert all(np.abs(shells - r).min() < 0.01 for r in occupied)
    between = np.searchsorted(rdf.r, 0.5 * (shells[1:] + shells[:-1]))
    np.testing.assert_allclose(rdf.coordination[between], [12, 18, 42, 54, 78, 86])


def test_coordination_is_the_integral_of_g():
    frames = ideal_gas("Ar20Ne9", SKEW, 5)
    (rdf,) = radial_distribution(frames, [("Ar", "Ne")])
    width = rdf.r[1] - rdf.r[0]
    shells = 4 / 3 * np.pi * ((rdf.r + width / 2) ** 3 - (rdf.r - width / 2) ** 3)
    density = 9 / frames[0].get_volume()
    np.testing.assert_allclose(rdf.coordination, np.cumsum(density * rdf.g * shells))


def test_all_atoms_are_the_average_over_pairs():
    frames = ideal_gas("Ar20Ne9", SKEW, 5)
    pairs = [ALL, ("Ar", "Ar"), ("Ar", "Ne"), ("Ne", "Ne")]
    everything, *parts = radial_distribution(frames, pairs)
    weights = np.array([20 * 19, 2 * 20 * 9, 9 * 8]) / (29 * 28)
    np.testing.assert_allclose(everything.g, weights @ [p.g for p in parts], atol=1e-12)
    assert [p.name for p in (everything, *parts)] == ["g", "g_ArAr", "g_ArNe", "g_NeNe"]


def test_errors_of_an_ideal_gas_are_those_of_counting():
    frames = ideal_gas("Ar8Ne5", SKEW, 400)
    (plain,) = radial_distribution(frames, [("Ar", "Ne")])
    (rdf,) = block_radial_distribution(frames, [("Ar", "Ne")], blocks=40)
    np.testing.assert_allclose(rdf.g, plain.g)
    np.testing.assert_allclose(rdf.coordination, plain.coordination)
    assert (rdf.frames, plain.error) == (400, None)
    shells = np.diff(np.linspace(0, rdf.r[-1] + 0.5 * np.diff(rdf.r)[0], len(rdf.r) + 1) ** 3)
    expected = 400 * 40 * 4 / 3 * np.pi * shells / frames[0].get_volume()
    far = expected > 50
    np.testing.assert_allclose(rdf.error[far] * np.sqrt(expected[far]), 1.0, atol=0.45)
    with pytest.raises(ValueError, match="2 frames do not make 8 blocks"):
        block_radial_distribution(frames[:2], [("Ar", "Ne")])


def test_first_peak_of_a_noisy_curve():
    r = np.arange(0.025, 6, 0.05)
    rng = np.random.default_rng(2)
    g = 1 - np.exp(-((r / 2.3) ** 12)) + 1.8 * np.exp(-0.5 * ((r - 2.78) / 0.18) ** 2)
    g += 0.4 * np.exp(-0.5 * ((r - 4.5) / 0.3) ** 2)
    top = np.argmax(g)
    noisy = g + rng.normal(0, 0.05, len(r)) * (r > 2)
    position, height = RDF(("O", "O"), r, noisy, r, 1).first_peak()
    assert position == pytest.approx(r[top], abs=0.04)
    assert height == pytest.approx(g[top], abs=0.12)


def test_first_peak_skips_the_covalent_bond_and_may_be_missing():
    r = np.arange(0.025, 6, 0.05)
    g = 20 * np.exp(-0.5 * ((r - 0.97) / 0.04) ** 2) + 1.5 * np.exp(-0.5 * ((r - 1.8) / 0.2) ** 2)
    rdf = RDF(("O", "H"), r, g, r, 1)
    assert rdf.first_peak()[0] == pytest.approx(0.97, abs=0.02)
    assert rdf.first_peak(r_min=1.3)[0] == pytest.approx(1.8, abs=0.02)
    with pytest.raises(ValueError, match="no peak above 1"):
        rdf.first_peak(r_min=3.0)


def test_errors_name_the_limit():
    atoms = bulk("Cu", cubic=True).repeat(2)
    with pytest.raises(ValueError, match=r"at most 3\.610 Å"):
        radial_distribution([atoms], [("Cu", "Cu")], r_max=4.0)
    with pytest.raises(ValueError, match="periodic along all three axes"):
        radial_distribution([molecule("H2O")], [("O", "H")])
    with pytest.raises(ValueError, match="no pair Cu-Al"):
        radial_distribution([atoms], [("Cu", "Al")])
    with pytest.raises(ValueError, match="at least one frame"):
        radial_distribution([], [("Cu", "Cu")])


def test_telling_pairs():
    assert telling_pairs(Atoms("O2H4")) == [("O", "O"), ("O", "H")]
    assert telling_pairs(Atoms("OH2")) == [("O", "H")]
    assert telling_pairs(Atoms("Cu4")) == [("Cu", "Cu")]
    assert telling_pairs(Atoms("Mn4O4")) == [("Mn", "O"), ("Mn", "Mn"), ("O", "O")]
    alloy = [("Mo", "Mo"), ("Nb", "Nb"), ("Ta", "Ta"), ("W", "W")]
    assert telling_pairs(Atoms("Mo2Nb2Ta2W2")) == [ALL, *alloy]
    assert telling_pairs(Atoms("W3Mo2NbTa5")) == [ALL, ("Ta", "Ta"), ("W", "W"), ("Mo", "Mo")]
    assert telling_pairs(Atoms("MnO3"), limit=2) == [("Mn", "O"), ("O", "O")]


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, 0.97])
def test_block_average_of_an_autoregressive_series(phi):
    """x_t = φ x_{t-1} + noise has variance 1/(1-φ²) and error σ √((1+φ)/(1-φ)/n) of its mean."""
    rng = np.random.default_rng(7)
    count, series = 20000, 40
    noise = rng.normal(size=(series, count))
    noise[:, 0] /= np.sqrt(1 - phi**2)
    exact = np.sqrt((1 + phi) / (1 - phi) / count / (1 - phi**2))
    results = np.array([block_average(3.0 + x) for x in lfilter([1.0], [1.0, -phi], noise)])
    means, ratios = (results[:, 0] - 3.0) / exact, results[:, 1] / exact
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)
    assert np.std(ratios) < 0.2
    assert np.std(means) == pytest.approx(1.0, abs=0.35)


def test_block_average_of_short_and_constant_series():
    assert np.isnan(block_average(np.array([1.0, 2.0, 3.0]))[1])
    assert block_average(np.full(10, 2.5)) == (2.5, 0.0)
    assert np.isnan(block_average(np.array([]))[0])


def test_drift_recovers_the_slope_within_its_error():
    rng = np.random.default_rng(5)
    time = np.linspace(0, 10, 2000)
    pulls, naive = [], []
    for _ in range(60):
        noise = np.convolve(rng.normal(size=2019), np.ones(20), mode="valid")  # correlated
        slope, error = linear_drift(time, 0.3 * time + noise)
        pulls.append((slope - 0.3) / error)
        naive.append(error)
    assert abs(np.mean(pulls)) < 0.5
    assert np.std(pulls) == pytest.approx(1.0, abs=0.35)
    slope, error = linear_drift(time, 2.0 * time - 30000.0)
    assert slope == pytest.approx(2.0, abs=1e-9)
    assert error < 1e-9
