r"""Memory kernels from velocity autocorrelations, by inversion of a Volterra equation.

.. math:: \dot C(t) = -\int_0^t K(t - s)\, C(s)\, ds

is of the first kind in K, and ill-posed. Differentiated once it is of the second kind,

.. math:: K(t)\,C(0) = -\ddot C(t) - \int_0^t K(s)\, \dot C(t - s)\, ds,

and the trapezoidal rule solves it step by step, with an error of second order in the time step.
The integral of K, which is the friction, has an equation of its own and a better rule.
"""

import numpy as np

from remcg.consistency import dynamics
from remcg.errors import InputError
from remcg.statistics import standard_error
from remcg.units import KB

FEWEST_ROWS = 4  # independent ones, for error bars


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
    c = _checked(correlation)
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


def friction(correlation, interval):
    r"""Integral G(t) of the memory kernel up to each time.

    At its plateau it is the Markovian friction: D = kT/(m friction). By parts, the equation of K is

    .. math:: G(t)\,C(0) = -\dot C(t) - \int_0^t G(t - s)\, \dot C(s)\, ds,

    and the trapezoidal rule with the end correction of Euler and Maclaurin, which needs no more
    than K(0), solves it with an error of fourth order in the time step. The sum of a kernel
    would be off by some per cent where K(0) times the squared interval is 0.1.

    Parameters
    ----------
    correlation, interval
        As for :func:`memory_kernel`.

    Returns
    -------
    ndarray, shape (n,), 1/ps
    """
    c = _checked(correlation)
    slope, curvature = _derivatives(c, interval)
    end = -curvature[0] / c[0] * interval**2 / 12.0
    integral = np.zeros(len(c))
    for n in range(1, len(c)):
        known = interval * (integral[1:n] @ slope[n - 1 : 0 : -1])
        integral[n] = -(slope[n] * (1.0 + end) + known) / (c[0] * (1.0 - end))
    return integral


def kernel_of_trajectories(parts, interval, masses, longest):
    """Velocity autocorrelation and memory kernel of centres, with errors from run to run.

    All molecules of a run share its energy, which is most of the noise of the friction. Errors are
    those of a jackknife over the independent rows that there are: ``parts``, if there are
    ``FEWEST_ROWS``; else pieces of them about twice as long as the longest lag; else, too small
    where energies differ, groups of molecules. ``errors_of`` tells.

    Parameters
    ----------
    parts : list of ndarray, shape (n_frames, n_molecules, 3)
        nm, unwrapped, of independent runs; less the mean motion.
    interval : float
        ps.
    masses : ndarray, shape (n_molecules,), amu
    longest : float
        Longest lag, ps, or half of the shortest part.

    Returns
    -------
    entry : dict
        kernel_zero_1_ps2, friction_1_ps, each with _se; friction_until_ps; errors_of: "runs",
        "pieces" or "molecules", and their number n_rows; kinetic_temperature_K, if all masses are
        equal.
    curves : dict of ndarray, shape (3, n_lags)
        Time, value and error of "velocity" (C/C(0)) and "kernel".

    Raises
    ------
    InputError
        With less than three molecules and no other rows.
    """
    n = min(round(longest / interval) + 1, min(map(len, parts)) // 2)
    errors_of, rows = "runs", parts
    if len(parts) < FEWEST_ROWS:
        length = 2 * n - 2
        errors_of, rows = (
            "pieces",
            [x for part in parts for x in np.array_split(part, max(1, len(part) // length))],
        )
    if len(rows) < FEWEST_ROWS:
        if len(masses) < 3:
            raise InputError(
                f"{len(parts)} short runs of {len(masses)} molecules tell no error of a memory "
                f"kernel; give {FEWEST_ROWS} runs or more"
            )
        errors_of = "molecules"
    of = dynamics.velocity_autocorrelation_from_positions
    if errors_of == "molecules":
        groups = np.array_split(np.arange(len(masses)), min(dynamics.N_GROUPS, len(masses)))
        rows = [np.mean([of(x[:, g], interval)[:n] for x in parts], axis=0) for g in groups]
    else:
        rows = [of(x, interval)[:n] for x in rows]
    rows = np.array(rows)
    others = (rows.sum(axis=0) - rows) / (len(rows) - 1)
    mean = rows.mean(axis=0)
    t = interval * np.arange(len(mean))
    kernel = memory_kernel(mean, interval)
    velocity_error, error, error_of_friction = (
        np.std(left_out, axis=0) * np.sqrt(len(rows) - 1)
        for left_out in (
            others / others[:, :1],
            [memory_kernel(row, interval) for row in others],
            [friction(row, interval)[-1] for row in others],
        )
    )
    entry = {
        "kernel_zero_1_ps2": float(kernel[0]),
        "kernel_zero_1_ps2_se": float(error[0]),
        "friction_1_ps": float(friction(mean, interval)[-1]),
        "friction_1_ps_se": float(error_of_friction),
        "friction_until_ps": float(t[-1]),
        "errors_of": errors_of,
        "n_rows": len(rows),
    }
    if len(masses) > 1 and np.ptp(masses) < 1e-6 * masses.mean():
        moving = 1.0 - 1.0 / len(masses)  # the mean motion is taken off
        entry["kinetic_temperature_K"] = float(mean[0] * masses.mean() / KB / moving)
    return entry, {
        "velocity": np.array([t, mean / mean[0], velocity_error]),
        "kernel": np.array([t, kernel, error]),
    }


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


def _checked(correlation):
    c = np.asarray(correlation, float)
    if c.ndim != 1 or len(c) < 5 or not np.isfinite(c).all() or c[0] <= 0.0:
        raise InputError(
            f"a correlation function of shape {c.shape} that starts at {c.flat[0]:.3g}; give at"
            " least five finite values at equal times, the first one positive"
        )
    return c


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
