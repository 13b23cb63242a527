r"""Cubic B-splines in a distance, an angle or a dihedral: the functions of which terms are made.

.. math:: U(x) = \sum_k c_k B_k(x), \quad B_k(x) = \sum_{f:\, member(f) = k} N_f(x)

with the uniform cubic B-splines N_f of de Boor, *A Practical Guide to Splines* (1978), and
``member`` telling which function each of them belongs to (-1: it is left out). A set differs from
another in its range, in ``member`` and in how its functions go on outside the range. Wherever x
may be, U is linear in its coefficients, and it is twice differentiable within the range.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.interpolate import BSpline, PPoly

from remcg.errors import InputError

DEGREE = 3
MOST_FUNCTIONS = 10_000  # of one term: more is a slip of the pen
DROPPED = 2  # the last two functions of a pair are left out: energy and force vanish at the cut-off


class Pieces(NamedTuple):
    """A basis as polynomials, for kernels.

    Row m = floor((x - origin)/spacing), clamped to 0 ... M - 1, holds at
    u = (x - origin)/spacing - m the functions alive there, at most J and each once (4 of splines):
    ``functions[m, j, p]`` multiplies u**p and belongs to function ``index[m, j]``, -1 for none.
    The first and the last row may be extensions beyond the range, where u < 0 or u > 1.
    """

    origin: float
    spacing: float
    functions: np.ndarray  # (M, J, 4)
    index: np.ndarray  # (M, J)


class _Splines:
    """What all sets share; a set has ``low``, ``high``, ``n_basis`` and ``member``."""

    outside = (None, None)  # below and above the range: "linear", "zero", or None for no extension

    def __post_init__(self):
        if self.n_basis > MOST_FUNCTIONS:
            raise InputError(f"{self.n_basis} functions; give at most {MOST_FUNCTIONS}")
        if not self.low < self.high or self.n_intervals < 1:
            least = self.n_basis - self.n_intervals + 1
            raise InputError(
                f"{self.n_basis} splines on {self.low:g} to {self.high:g}: a {type(self).__name__}"
                f" needs an increasing range and at least {least} functions"
            )

    @property
    def n_intervals(self):
        return len(self.member) - DEGREE

    @property
    def spacing(self):
        return (self.high - self.low) / self.n_intervals

    @cached_property
    def knots(self):
        """Knot vector of all B-splines, shape (n_intervals + 7,)."""
        inner = np.linspace(self.low, self.high, self.n_intervals + 1)
        return np.concatenate([[self.low] * DEGREE, inner, [self.high] * DEGREE])

    @cached_property
    def _splines(self):
        """All functions, a vector of splines."""
        combine = (self.member[:, None] == np.arange(self.n_basis)).astype(float)
        return BSpline(self.knots, combine, DEGREE)

    @cached_property
    def polynomials(self):
        """Functions as polynomials per interval, shape (n_intervals, n_basis, 4).

        ``polynomials[i, k, p]`` multiplies u**p with u = (x - left knot of i)/spacing in [0, 1].
        """
        rows = slice(DEGREE, DEGREE + self.n_intervals)
        table = np.zeros((self.n_intervals, self.n_basis, DEGREE + 1))
        for k in range(self.n_basis):
            spline = BSpline(self.knots, self._splines.c[:, k], DEGREE)
            pieces = PPoly.from_spline(spline).c[::-1, rows]
            table[:, k, :] = (pieces * self.spacing ** np.arange(DEGREE + 1)[:, None]).T
        return table

    @cached_property
    def pieces(self):
        """The basis as :class:`Pieces`."""
        functions = np.zeros((self.n_intervals, DEGREE + 1, DEGREE + 1))
        index = np.full((self.n_intervals, DEGREE + 1), -1, np.int64)
        for i in range(self.n_intervals):
            alive = np.unique(self.member[i : i + DEGREE + 1])
            alive = alive[alive >= 0]
            functions[i, : len(alive)] = self.polynomials[i, alive]
            index[i, : len(alive)] = alive
        below, above = self.outside
        rows, numbers, origin = [functions], [index], self.low
        if below == "linear":
            rows.insert(0, _tangent(functions[:1], 0.0, 1.0))
            numbers.insert(0, index[:1])
            origin = self.low - self.spacing
        if above is not None:
            linear = above == "linear"
            rows.append(_tangent(functions[-1:], 1.0, 0.0) * linear)
            numbers.append(index[-1:] if linear else np.full_like(index[-1:], -1))
        return Pieces(origin, self.spacing, np.concatenate(rows), np.concatenate(numbers))

    def potential(self, coefficients):
        """Piecewise polynomial of U = sum_k c_k B_k, shape (n_intervals, 4), kJ/mol."""
        return np.einsum("ikm,k->im", self.polynomials, np.asarray(coefficients, float))

    def values(self, x, derivative=0):
        """B_k(x), or its first derivative, shape x.shape + (n_basis,)."""
        x = np.asarray(x, float)
        inside = np.clip(x, self.low, self.high)
        slope = self._splines.derivative()(inside)
        if derivative == 1:
            return slope
        return self._splines(inside) + (x - inside)[..., None] * slope

    def support(self, k):
        """Range of the function k within that of the set."""
        members = np.flatnonzero(self.member == k)
        low, high = self.knots[members].min(), self.knots[members + DEGREE + 1].max()
        return float(max(low, self.low)), float(min(high, self.high))

    def curvature(self):
        """Integral of B_k''(x) B_l''(x) over the range, shape (n_basis, n_basis)."""
        nodes, weights = np.polynomial.legendre.leggauss(3)
        x = 0.5 * (nodes + 1.0)
        second = (2 * self.polynomials[:, :, 2, None] + 6 * self.polynomials[:, :, 3, None] * x) / (
            self.spacing**2
        )
        return np.einsum("ikx,ilx,x->kl", second, second, 0.5 * weights * self.spacing)


def _tangent(functions, at, u):
    """Tangents at ``at`` of polynomials, as polynomials of an argument that is ``u`` there."""
    powers = at ** np.arange(DEGREE + 1)
    slope = functions[..., 1:] @ (np.arange(1, DEGREE + 1) * powers[:-1])
    result = np.zeros_like(functions)
    result[..., 0] = functions @ powers - u * slope
    result[..., 1] = slope
    return result


@dataclass(frozen=True)
class SplineBasis(_Splines):
    """Pair distance: clamped on [r_min, r_cut], linear below r_min, zero beyond r_cut.

    The last two functions of the clamped set are left out, so every member and its derivative
    vanish at r_cut. Below r_min each function continues along its tangent, so that a potential is
    linear in its coefficients everywhere and its force is constant in the core.

    Parameters
    ----------
    r_min, r_cut : float
        nm.
    n_basis : int
        Number of functions; they span n_basis - 1 intervals of equal width.
    """

    r_min: float
    r_cut: float
    n_basis: int
    outside = ("linear", "zero")

    @property
    def low(self):
        """Where the splines begin, nm."""
        return self.r_min

    @property
    def high(self):
        """Where they end, nm: the cut-off."""
        return self.r_cut

    @property
    def member(self):
        """Basis function that each B-spline belongs to, (n_basis + 2,); -1: none."""
        return np.append(np.arange(self.n_basis), [-1] * DROPPED)

    @property
    def local(self):
        """The four functions that live on each interval, shape (n_intervals, 4, 4).

        ``local[i, j]`` is the polynomial of function i + j; functions beyond n_basis are zero.
        """
        return self.pieces.functions[1:-1]

    def values(self, x, derivative=0):
        """Basis functions at x (nm), shape (*x.shape, n_basis): dimensionless, or 1/nm; zero
        beyond the cut-off.
        """
        x = np.asarray(x, float)
        result = super().values(np.minimum(x, self.r_cut), derivative)
        return np.where((x < self.r_cut)[..., None], result, 0.0)


@dataclass(frozen=True)
class BondBasis(_Splines):
    """Bond length: clamped on [low, high], linear on both sides.

    Parameters
    ----------
    low, high : float
        nm.
    n_basis : int
        Number of functions; they span n_basis - 3 intervals of equal width.
    """

    low: float
    high: float
    n_basis: int
    outside = ("linear", "linear")

    @property
    def member(self):
        """Basis function that each B-spline belongs to, (n_basis,): itself."""
        return np.arange(self.n_basis)


@dataclass(frozen=True)
class AngleBasis(_Splines):
    """Angle: clamped on [low, pi], linear below low, with zero slope at pi.

    The force of an angle is its slope over the sine, so a slope at pi would make it infinite: the
    last two functions are taken together, which leaves none. So are the first two if low is 0.

    Parameters
    ----------
    low : float
        rad, at least 0.
    n_basis : int
        Number of functions; they span n_basis - 2 intervals of equal width, n_basis - 1 if low
        is 0.
    """

    low: float
    n_basis: int
    high = np.pi
    outside = ("linear", None)

    @property
    def member(self):
        """Basis function of each B-spline, so that no slope is left at pi, and at 0."""
        first = [0] if self.low == 0.0 else []
        return np.concatenate([first, np.arange(self.n_basis), [self.n_basis - 1]]).astype(int)


@dataclass(frozen=True)
class PeriodicBasis(_Splines):
    """Dihedral: periodic on [-pi, pi], with as many intervals as functions.

    Parameters
    ----------
    n_basis : int
    """

    n_basis: int
    low, high = -np.pi, np.pi

    @property
    def member(self):
        """Basis function that each B-spline belongs to, (n_basis + 3,), all around the circle."""
        return np.arange(self.n_basis + DEGREE) % self.n_basis

    @cached_property
    def knots(self):
        """Equidistant knots, rad, that go on beyond both ends."""
        steps = np.arange(-DEGREE, self.n_intervals + DEGREE + 1)
        return self.low + self.spacing * steps

    def values(self, x, derivative=0):
        """Basis functions at x (rad), shape (*x.shape, n_basis): dimensionless, or 1/rad."""
        return super().values(
            (np.asarray(x, float) - self.low) % (2.0 * np.pi) + self.low, derivative
        )
