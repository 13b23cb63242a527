import numpy as np
import pytest

from remcg.basis import AngleBasis, BondBasis, PeriodicBasis, SplineBasis
from remcg.errors import InputError

BASIS = SplineBasis(0.23, 0.9, 34)
COEFFICIENTS = np.random.default_rng(1).normal(size=34)
BOND, ANGLE, OPEN_ANGLE = BondBasis(0.2, 0.35, 9), AngleBasis(1.2, 10), AngleBasis(0.0, 10)
DIHEDRAL = PeriodicBasis(12)
REACH = {  # where the coordinate of each may be
    BASIS: (-0.1, 1.5),
    BOND: (-1.0, 3.0),
    ANGLE: (0.0, np.pi),
    OPEN_ANGLE: (0.0, np.pi),
    AngleBasis(0.0, 2): (0.0, np.pi),
    DIHEDRAL: (-np.pi, np.pi),
    PeriodicBasis(2): (-np.pi, np.pi),
}


def every(bases):
    return pytest.mark.parametrize("basis", bases, ids=repr)


def from_pieces(basis, x):
    """B_k(x) in a plain loop over the rows of the pieces."""
    origin, spacing, functions, index = basis.pieces
    result = np.zeros((len(x), basis.n_basis))
    for n, value in enumerate(x):
        m = min(max(int(np.floor((value - origin) / spacing)), 0), len(index) - 1)
        u = (value - origin) / spacing - m
        for function, k in zip(functions[m], index[m]):
            if k >= 0:
                result[n, k] += function @ u ** np.arange(4)
            else:
                assert not function.any()
    return result


def test_the_piecewise_polynomials_are_the_spline():
    r = np.linspace(0.2301, 0.8999, 500)
    interval = ((r - BASIS.r_min) / BASIS.spacing).astype(int)
    x = (r - BASIS.r_min) / BASIS.spacing - interval
    pieces = BASIS.potential(COEFFICIENTS)[interval]
    energy = np.sum(pieces * x[:, None] ** np.arange(4), axis=1)
    np.testing.assert_allclose(energy, BASIS.values(r) @ COEFFICIENTS, atol=1e-12)


@every(REACH)
def test_the_pieces_are_the_functions_wherever_the_coordinate_may_be(basis):
    breaks = basis.low + basis.spacing * np.arange(basis.n_intervals + 1)
    breaks = breaks[(breaks >= REACH[basis][0]) & (breaks <= REACH[basis][1])]
    x = np.concatenate([np.linspace(*REACH[basis], 501), breaks])
    np.testing.assert_allclose(from_pieces(basis, x), basis.values(x), atol=2e-12)


@every(REACH)
def test_no_function_is_twice_in_a_row_of_the_pieces(basis):
    for row in basis.pieces.index:
        used = row[row >= 0]
        assert len(set(used)) == len(used)


@every(REACH)
def test_the_derivative_is_that_of_the_values(basis):
    h = 1e-6
    x = np.linspace(*REACH[basis], 98)[1:-1]
    difference = (basis.values(x + h) - basis.values(x - h)) / (2 * h)
    np.testing.assert_allclose(basis.values(x, 1), difference, atol=3e-4)


@every([BASIS, BOND, ANGLE, OPEN_ANGLE, DIHEDRAL])
def test_values_slopes_and_curvatures_are_continuous_at_the_knots(basis):
    powers = np.arange(4)
    left, right = basis.polynomials[:-1], basis.polynomials[1:]
    np.testing.assert_allclose(left.sum(axis=2), right[:, :, 0], atol=1e-12)
    np.testing.assert_allclose(left @ powers, right[:, :, 1], atol=1e-12)
    np.testing.assert_allclose(left @ (powers * (powers - 1)), 2 * right[:, :, 2], atol=1e-12)


@every([BASIS, BOND, ANGLE])
def test_values_and_slopes_are_continuous_at_the_ends_of_the_range(basis):
    for end in (basis.low, basis.high):
        for derivative in (0, 1):
            inside, outside = basis.values(end + np.array([-1e-9, 1e-9]), derivative)
            np.testing.assert_allclose(inside, outside, atol=1e-4)


def test_energy_and_force_vanish_at_the_cut_off():
    r = np.array([0.9 - 1e-9, 0.9, 1.0])
    assert np.abs(BASIS.values(r)).max() < 1e-13
    assert np.abs(BASIS.values(r, 1)).max() < 1e-4


@every([BASIS, BOND, ANGLE])
def test_functions_below_the_range_continue_along_their_tangent(basis):
    x = basis.low * np.array([0.0, 0.4, 0.8])
    tangent = (x[:, None] - basis.low) * basis.values(basis.low, 1)
    np.testing.assert_allclose(basis.values(x), basis.values(basis.low) + tangent, atol=1e-12)


def test_bond_functions_above_the_range_continue_along_their_tangent():
    x = np.array([0.36, 0.5, 4.0])
    tangent = (x[:, None] - 0.35) * BOND.values(0.35, 1)
    np.testing.assert_allclose(BOND.values(x), BOND.values(0.35) + tangent, atol=1e-11)


def test_pair_functions_sum_to_one_away_from_the_cut_off():
    r = np.linspace(0.23, 0.9 - 3 * BASIS.spacing, 50)
    np.testing.assert_allclose(BASIS.values(r).sum(axis=1), 1.0, atol=1e-12)


@every([basis for basis in REACH if basis is not BASIS])
def test_functions_of_a_bonded_basis_sum_to_one_everywhere(basis):
    x = np.linspace(*REACH[basis], 301)
    np.testing.assert_allclose(basis.values(x).sum(axis=1), 1.0, atol=1e-12)


@every([basis for basis in REACH if basis is not BASIS])
def test_functions_of_a_bonded_basis_are_independent(basis):
    x = np.linspace(basis.low, basis.high, 301)
    assert np.linalg.matrix_rank(basis.values(x)) == basis.n_basis


def test_no_angle_function_has_a_slope_at_pi_or_at_zero():
    for basis in (ANGLE, OPEN_ANGLE):
        assert np.abs(basis.values(np.pi, 1)).max() < 1e-12
    assert np.abs(OPEN_ANGLE.values(0.0, 1)).max() < 1e-12
    assert np.abs(ANGLE.values(1.2, 1)).max() > 1.0


def test_dihedral_functions_are_periodic_with_their_derivatives():
    first, last = DIHEDRAL.polynomials[0], DIHEDRAL.polynomials[-1]
    powers = np.arange(4)
    np.testing.assert_allclose(last.sum(axis=1), first[:, 0], atol=1e-12)
    np.testing.assert_allclose(last @ powers, first[:, 1], atol=1e-12)
    np.testing.assert_allclose(last @ (powers * (powers - 1)), 2 * first[:, 2], atol=1e-12)
    x = np.linspace(-3.0, 3.0, 7)
    np.testing.assert_allclose(DIHEDRAL.values(x + 2 * np.pi), DIHEDRAL.values(x), atol=1e-12)


def test_dihedral_functions_are_one_another_shifted():
    x = np.linspace(-3.0, 3.0, 50)
    shifted = DIHEDRAL.values(x + DIHEDRAL.spacing)
    np.testing.assert_allclose(shifted, np.roll(DIHEDRAL.values(x), 1, axis=1), atol=1e-12)


def test_a_harmonic_bond_is_represented_exactly_within_the_range():
    x = np.linspace(0.2, 0.35, 200)
    energy = 5000.0 * (x - 0.27) ** 2
    found = np.linalg.lstsq(BOND.values(x), energy, rcond=None)[0]
    np.testing.assert_allclose(BOND.values(x) @ found, energy, atol=1e-11)


@every([BASIS, BOND, ANGLE, OPEN_ANGLE, DIHEDRAL])
def test_the_curvature_matrix_integrates_the_second_derivative_squared(basis):
    coefficients = COEFFICIENTS[: basis.n_basis]
    x = np.linspace(basis.low, basis.high, 200_001)
    h = x[1] - x[0]
    second = np.diff(basis.values(x[:-1] + 0.5 * h, 1) @ coefficients) / h
    expected = np.sum(second**2) * h
    assert coefficients @ basis.curvature() @ coefficients == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (BondBasis, (0.3, 0.2, 9), r"9 splines on 0.3 to 0.2: a BondBasis needs an increasing"),
        (BondBasis, (0.2, 0.3, 3), "BondBasis needs .* at least 4 functions"),
        (AngleBasis, (1.0, 2), "AngleBasis needs .* at least 3 functions"),
        (AngleBasis, (0.0, 1), "AngleBasis needs .* at least 2 functions"),
    ],
)
def test_a_basis_without_a_range_or_an_interval_is_refused(kind, arguments, message):
    with pytest.raises(InputError, match=message):
        kind(*arguments)
