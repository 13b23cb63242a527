r"""Bonded potentials of few parameters: a harmonic bond, cosines of an angle or a dihedral.

They offer what the splines of :mod:`remcg.basis` do: functions that are never negative where the
coordinate is sampled, values, curvature, and :class:`remcg.basis.Pieces` for kernels. A harmonic
bond is one polynomial; cosines are tables of ROWS cubic Hermite pieces, which deviate from them by
less than 1e-8 (the error is :math:`h^4 |f''''|/384`).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from remcg.basis import Pieces
from remcg.errors import InputError

ROWS = 1024  # of a table
NODES = 256  # of the quadrature over products of cosines


class _Form:
    """What forms share; each has ``low``, ``high``, ``n_basis``, ``values`` and ``second``."""

    n_intervals = ROWS

    @property
    def spacing(self):
        return (self.high - self.low) / self.n_intervals

    @cached_property
    def pieces(self):
        """The basis as :class:`remcg.basis.Pieces`; values and slopes are exact at the knots."""
        x = np.linspace(self.low, self.high, self.n_intervals + 1)
        value, slope = self.values(x), self.spacing * self.values(x, 1)
        first, last, rise, fall = value[:-1], value[1:], slope[:-1], slope[1:]
        cubic = [
            first,
            rise,
            3 * (last - first) - 2 * rise - fall,
            2 * (first - last) + rise + fall,
        ]
        shape = self.n_intervals, max(self.n_basis, 4)
        functions, index = np.zeros((*shape, 4)), np.full(shape, -1, np.int64)
        functions[:, : self.n_basis] = np.stack(cubic, axis=-1)
        index[:, : self.n_basis] = np.arange(self.n_basis)
        return Pieces(self.low, self.spacing, functions, index)

    def potential(self, coefficients):
        """Piecewise polynomial of U, shape (n_intervals, 4), kJ/mol."""
        chosen = self.pieces.functions[:, : self.n_basis]
        return np.einsum("ikm,k->im", chosen, np.asarray(coefficients, float))

    def curvature(self):
        """Integral of B_k''(x) B_l''(x) over the range, shape (n_basis, n_basis)."""
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        half = 0.5 * (self.high - self.low)
        second = self.second(self.low + half * (nodes + 1.0))
        return np.einsum("xk,xl,x->kl", second, second, half * weights)

    def support(self, k):
        """Where the function k is not zero: everywhere."""
        return self.low, self.high


@dataclass(frozen=True)
class HarmonicBasis(_Form):
    """Bond length: u and u^2 with u = (x - low)/(high - low), which hold everywhere.

    U = c_1 u + c_2 u^2 is the harmonic bond k/2 (x - b)^2 up to a constant, with
    k = 2 c_2/(high - low)^2 and b = low - (high - low) c_1/(2 c_2).

    Parameters
    ----------
    low, high : float
        nm; they set the scale alone.
    """

    low: float
    high: float
    n_basis = 2
    n_intervals = 1

    def __post_init__(self):
        _check_range(self)

    def values(self, x, derivative=0):
        """(x - low)/width and its square at x (nm), shape (*x.shape, 2), or their slopes, 1/nm."""
        width = self.high - self.low
        u = (np.asarray(x, float) - self.low) / width
        if derivative == 1:
            return np.stack([np.ones_like(u), 2.0 * u], axis=-1) / width
        return np.stack([u, u**2], axis=-1)

    def second(self, x):
        """Second derivatives at x (nm), shape (*x.shape, 2), 1/nm^2."""
        return np.stack([0.0 * x, 0.0 * x + 2.0 / (self.high - self.low) ** 2], axis=-1)


@dataclass(frozen=True)
class AngleCosines(_Form):
    """Angle: ((1 + cos x)/2)^p for p = 1 ... n_basis, without slope at 0 and pi.

    Parameters
    ----------
    n_basis : int
    """

    n_basis: int
    low, high = 0.0, np.pi

    def __post_init__(self):
        _check_number(self)

    def values(self, x, derivative=0):
        """((1 + cos x)/2)^p at x (rad), shape (*x.shape, n_basis), or their slopes, 1/rad."""
        half, p = 0.5 * np.asarray(x, float)[..., None], np.arange(1, self.n_basis + 1)
        if derivative == 1:
            return -p * np.cos(half) ** (2 * p - 1) * np.sin(half)
        return np.cos(half) ** (2 * p)

    def second(self, x):
        """Second derivatives at x (rad), shape (*x.shape, n_basis), 1/rad^2."""
        half, p = 0.5 * np.asarray(x, float)[..., None], np.arange(1, self.n_basis + 1)
        c, s = np.cos(half), np.sin(half)
        return 0.5 * p * ((2 * p - 1) * c ** (2 * p - 2) * s**2 - c ** (2 * p))


@dataclass(frozen=True)
class DihedralCosines(_Form):
    """Dihedral: 1 + cos m x and 1 + sin m x for m = 1, 2, ... in turn.

    Parameters
    ----------
    n_basis : int
        Even.
    """

    n_basis: int
    low, high = -np.pi, np.pi

    def __post_init__(self):
        _check_number(self)
        if self.n_basis % 2:
            raise InputError(f"{self.n_basis} cosines and sines; give as many of one as the other")

    @property
    def _orders(self):
        return np.arange(1, self.n_basis // 2 + 1)

    def values(self, x, derivative=0):
        """1 + cos mx and 1 + sin mx in turn at x (rad), (*x.shape, n_basis), or slopes, 1/rad."""
        m, mx = self._orders, np.asarray(x, float)[..., None] * self._orders
        if derivative == 1:
            return _in_turn(-m * np.sin(mx), m * np.cos(mx))
        return _in_turn(1.0 + np.cos(mx), 1.0 + np.sin(mx))

    def second(self, x):
        """Second derivatives at x (rad), shape (*x.shape, n_basis), 1/rad^2."""
        m, mx = self._orders, np.asarray(x, float)[..., None] * self._orders
        return _in_turn(-(m**2) * np.cos(mx), -(m**2) * np.sin(mx))


def _in_turn(first, second):
    return np.stack([first, second], axis=-1).reshape(*first.shape[:-1], -1)


def _check_range(basis):
    if not basis.low < basis.high:
        raise InputError(f"a range from {basis.low:g} to {basis.high:g}; give an increasing one")


def _check_number(basis):
    if basis.n_basis < 1:
        raise InputError(f"{basis.n_basis} functions; give at least one")
