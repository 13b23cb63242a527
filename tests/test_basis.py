import numpy as np
import pytest

from remcg.basis import SplineBasis

BASIS = SplineBasis(0.23, 0.9, 34)
COEFFICIENTS = np.random.default_rng(1).normal(size=34)


def test_the_piecewise_polynomials_are_the_spline():
    r = np.linspace(0.2301, 0.8999, 500)
    interval = ((r - BASIS.r_min) / BASIS.spacing).astype(int)
    x = (r - BASIS.r_min) / BASIS.spacing - interval
    pieces = BASIS.potential(COEFFICIENTS)[interval]
    energy = np.sum(pieces * x[:, None] ** np.arange(4), axis=1)
    np.testing.assert_allclose(energy, BASIS.values(r) @ COEFFICIENTS, atol=1e-12)


def test_the_derivative_is_that_of_the_values():
    r, h = np.linspace(0.21, 0.89, 97), 1e-6
    difference = (BASIS.values(r + h) - BASIS.values(r - h)) / (2 * h)
    np.testing.assert_allclose(BASIS.values(r, 1), difference, atol=1e-5)


def test_energy_and_force_vanish_at_the_cut_off():
    r = np.array([0.9 - 1e-9, 0.9, 1.0])
    assert np.abs(BASIS.values(r)).max() < 1e-13
    assert np.abs(BASIS.values(r, 1)).max() < 1e-4


def test_functions_below_r_min_continue_along_their_tangent():
    r = np.array([0.0, 0.1, 0.2])
    expected = BASIS.values(0.23) + (r[:, None] - 0.23) * BASIS.values(0.23, 1)
    np.testing.assert_allclose(BASIS.values(r), expected, atol=1e-12)


def test_the_functions_sum_to_one_away_from_the_cut_off():
    r = np.linspace(0.23, 0.9 - 3 * BASIS.spacing, 50)
    np.testing.assert_allclose(BASIS.values(r).sum(axis=1), 1.0, atol=1e-12)


def test_the_curvature_matrix_integrates_the_second_derivative_squared():
    r = np.linspace(0.23, 0.9, 200_001)
    slope = BASIS.values(r[:-1] + 0.5 * (r[1] - r[0]), 1) @ COEFFICIENTS
    second = np.diff(slope) / (r[1] - r[0])
    expected = np.sum(second**2) * (r[1] - r[0])
    assert COEFFICIENTS @ BASIS.curvature() @ COEFFICIENTS == pytest.approx(expected, rel=1e-3)
