"""Cubic B-splines in a distance, the basis of pair terms."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import BSpline, PPoly

DEGREE = 3
DROPPED = 2  # the last two functions are left out: energy and force vanish at the cut-off


@dataclass(frozen=True)
class SplineBasis:
    """Clamped uniform cubic B-splines B_k on [r_min, r_cut], extended linearly below r_min.

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

    @property
    def n_intervals(self):
        return self.n_basis + DROPPED - DEGREE

    @property
    def spacing(self):
        return (self.r_cut - self.r_min) / self.n_intervals

    @cached_property
    def knots(self):
        """Knot vector of the full clamped set, shape (n_basis + 6,), nm."""
        inner = np.linspace(self.r_min, self.r_cut, self.n_intervals + 1)
        return np.concatenate([[self.r_min] * DEGREE, inner, [self.r_cut] * DEGREE])

    @cached_property
    def polynomials(self):
        """Functions as polynomials per interval, shape (n_intervals, n_basis, 4).

        ``polynomials[i, k, m]`` multiplies x**m with x = (r - left knot of i) / spacing in [0, 1].
        """
        size = self.n_basis + DROPPED
        table = np.zeros((self.n_intervals, self.n_basis, DEGREE + 1))
        for k in range(self.n_basis):
            spline = BSpline(self.knots, np.eye(size)[k], DEGREE)
            pieces = PPoly.from_spline(spline).c[::-1, DEGREE : DEGREE + self.n_intervals]
            table[:, k, :] = (pieces * self.spacing ** np.arange(DEGREE + 1)[:, None]).T
        return table

    @cached_property
    def local(self):
        """The four functions that live on each interval, shape (n_intervals, 4, 4).

        ``local[i, j]`` is the polynomial of function i + j; functions beyond n_basis are zero.
        """
        table = np.zeros((self.n_intervals, DEGREE + 1, DEGREE + 1))
        for i in range(self.n_intervals):
            last = min(i + DEGREE + 1, self.n_basis)
            table[i, : last - i] = self.polynomials[i, i:last]
        return table

    def potential(self, coefficients):
        """Piecewise polynomial of U(r) = sum_k c_k B_k(r), shape (n_intervals, 4), kJ/mol."""
        return np.einsum("ikm,k->im", self.polynomials, np.asarray(coefficients, float))

    def values(self, r, derivative=0):
        """B_k(r), or its first derivative (1/nm), shape r.shape + (n_basis,)."""
        r = np.asarray(r, float)
        inside = np.clip(r, self.r_min, self.r_cut)
        size = self.n_basis + DROPPED
        splines = BSpline(self.knots, np.eye(size)[:, : self.n_basis], DEGREE)
        slope = splines.derivative()
        if derivative == 1:
            result = slope(inside)
        else:
            below = np.minimum(r - self.r_min, 0.0)[..., None]
            result = splines(inside) + below * slope(self.r_min)
        return np.where((r < self.r_cut)[..., None], result, 0.0)

    def curvature(self):
        """Integral of B_k''(r) B_l''(r) over [r_min, r_cut], shape (n_basis, n_basis), nm^-3."""
        nodes, weights = np.polynomial.legendre.leggauss(3)
        x = 0.5 * (nodes + 1.0)
        second = (2 * self.polynomials[:, :, 2, None] + 6 * self.polynomials[:, :, 3, None] * x) / (
            self.spacing**2
        )
        return np.einsum("ikx,ilx,x->kl", second, second, 0.5 * weights * self.spacing)
