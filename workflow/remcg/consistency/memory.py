r"""Memory kernels from velocity autocorrelations, by inversion of a Volterra equation.

.. math:: \dot C(t) = -\int_0^t K(t - s)\, C(s)\, ds

is of the first kind in K, and ill-posed. Differentiated once it is of the second kind,

.. math:: K(t)\,C(0) = -\ddot C(t) - \int_0^t K(s)\, \dot C(t - s)\, ds,

and the trapezoidal rule solves it step by step, with an error of second order in the time step.
"""

import numpy as np

from remcg.errors import InputError
from remcg.statistics import standard_error
from remcg.units import KB


def memory_kernel(correlation, interval, slope=None, curvature=None):
    """Memory kernel K(t) of an autocorrelation function.

    Parameters
    ----------
    correlation : ndarray, shape (n,)
        C(t) at t = 0, interval, ..., even in time; any norm.
    interval : float
        ps.
    slope, curvature : ndarray, shape (n,), optional
        First and second derivative; default: five-point differences with C'(0) = 0.

    Returns
    -------
    ndarray, shape (n,), 1/ps^2

    References
    ----------
    Shin et al., Chem. Phys. 375, 316 (2010); Berne and Harp, Adv. Chem. Phys. 17, 63 (1970).
    """
    c = np.asarray(correlation, float)
    if c.ndim != 1 or len(c) < 5 or not np.isfinite(c).all() or c[0] <= 0.0:
        raise InputError(
            f"a correlation function of shape {c.shape} that starts at {c.flat[0]:.3g}; give at"
            " least five finite values at equal times, the first one positive"
        )
    own = _derivatives(c, interval)
    slope = own[0] if slope is None else np.asarray(slope, float)
    curvature = own[1] if curvature is None else np.asarray(curvature, float)
    kernel = np.empty(len(c))
    kernel[0] = -curvature[0] / c[0]
    # the trapezoidal weight of K(t) itself multiplies slope[0], zero for an even C
    pivot = c[0] + 0.5 * interval * slope[0]
    for n in range(1, len(c)):
        known = 0.5 * kernel[0] * slope[n] + kernel[1:n] @ slope[n - 1 : 0 : -1]
        kernel[n] = -(curvature[n] + interval * known) / pivot
    return kernel


def friction(kernel, interval):
    """Integral of the kernel up to each time by the trapezoidal rule, shape (n,), 1/ps.

    At its plateau it is the Markovian friction: D = kT/(m friction).
    """
    middle = 0.5 * interval * (kernel[1:] + kernel[:-1])
    return np.concatenate([[0.0], np.cumsum(middle)])


def mean_square_force_kernel(forces, masses, temperature):
    r"""K(0) as the forces say, with its standard error: the fluctuation-dissipation relation at 0.

    .. math:: K(0) = \frac{\langle F^2 \rangle}{3 m kT}

    At time zero the random force is the whole force, and :math:`\langle R(0) R(t) \rangle = (kT/m)
    K(t)` needs no more than configurations. Nothing is checked at later times, where the random
    force is the one of the projected dynamics.

    Parameters
    ----------
    forces : ndarray, shape (n_frames, n_sites, 3), kJ/mol/nm
    masses : ndarray, shape (n_sites,), amu
    temperature : float
        K.

    Returns
    -------
    (float, float)
        1/ps^2; the error is that of decorrelated frames.
    """
    values = ((forces**2).sum(axis=2) / (3.0 * masses * KB * temperature)).mean(axis=1)
    value, error = standard_error(values[None]) if len(values) > 1 else (values[0], 0.0)
    return float(value), float(error)


def _derivatives(c, interval):
    """First and second derivative by five points, with C'(0) = 0 and no assumption on C'''(0)."""
    slope, curvature = np.empty((2, len(c)))
    middle = np.array([[1.0, -8.0, 0.0, 8.0, -1.0], [-1.0, 16.0, -30.0, 16.0, -1.0]]) / 12.0
    slope[2:-2], curvature[2:-2] = (np.correlate(c, row) for row in middle)
    start, end = _weights((0, 2, 3, 4, 5), 5), _weights((0, 1, 2, 3, 4), 5)
    for n in (0, 1):
        slope[n], curvature[n] = (row @ c[:5] for row in start[n])
        slope[-1 - n], curvature[-1 - n] = (row @ c[:-6:-1] for row in end[n])
    slope[[-1, -2]] *= -1.0  # seen from the end, time runs backwards
    slope[0] = 0.0
    return slope / interval, curvature / interval**2


def _weights(powers, n):
    """Weights of f(0) ... f(n - 1) in f'(t) and f''(t) of a polynomial, at t = 0 and t = 1."""
    t = np.arange(n, dtype=float)
    powers = np.array(powers, float)
    inverse = np.linalg.inv(t[:, None] ** powers)
    rows = []
    for at in (0.0, 1.0):
        first = powers * at ** np.maximum(powers - 1.0, 0.0)
        second = powers * (powers - 1.0) * at ** np.maximum(powers - 2.0, 0.0)
        rows.append((first @ inverse, second @ inverse))
    return rows
