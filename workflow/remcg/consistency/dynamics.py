r"""How sites move: mean-squared displacement, velocity autocorrelation, diffusion, speed-up.

A coarse-grained potential reproduces distributions; the friction and the memory of the degrees of
freedom that were left out are not in it. Its dynamics are therefore faster, by a factor that is
measured here and is no error of the model.
"""

from typing import NamedTuple

import numpy as np

from remcg.boxes import many
from remcg.errors import InputError
from remcg.statistics import mean_and_error
from remcg.units import KB

FIT_FROM, FIT_TO = 0.05, 0.25  # of the trajectory: lag times of the fitted line
EWALD = 2.837297  # of a cubic box
N_GROUPS = 10  # of molecules, for error bars
JUMP = 3.0  # times the usual squared step: the trajectory was continued somewhere else
MOST_STEP = 0.35  # of a box height, largest mean displacement between frames that can be unwrapped


class Diffusion(NamedTuple):
    """nm^2/ps: ``value`` of the periodic box, its standard error ``se``; ``box``: 1/L, 1/nm."""

    value: float
    se: float
    box: float


def unwrapped(positions, boxes):
    r"""Trajectory without jumps between periodic images.

    Displacements between frames are those of the nearest images, summed up,

    .. math:: u_{n+1} = u_n + [w_{n+1} - w_n]_{\text{nearest image in box } n+1}

    so that a fluctuating box moves no site that does not move itself.

    Parameters
    ----------
    positions : ndarray, shape (n_frames, n_sites, 3)
        nm, in any image; frames close enough for no site to cross half a box.
    boxes : ndarray, shape (n_frames, 3) or (n_frames, 3, 3)

    Returns
    -------
    ndarray, shape (n_frames, n_sites, 3)
        Less the mean displacement of all sites since the first frame.

    References
    ----------
    von Bulow et al., J. Chem. Phys. 153, 021101 (2020).
    """
    positions, boxes = np.asarray(positions, float), many(boxes)
    steps = np.diff(positions, axis=0)
    for axis in (2, 1, 0):
        row = boxes[1:, axis]
        steps -= np.round(steps[..., axis] / row[:, None, axis])[..., None] * row[:, None]
    lengths = np.diagonal(boxes, axis1=1, axis2=2).min()
    typical = np.sqrt((steps**2).sum(axis=-1).mean()) if len(steps) else 0.0
    if typical > MOST_STEP * lengths:
        raise InputError(
            f"sites move by {typical:.3g} nm from frame to frame in a box of {lengths:.3g} nm, so"
            " images cannot be told apart; keep frames closer in time"
        )
    steps -= steps.mean(axis=1, keepdims=True)
    start = positions[:1] - positions[:1].mean(axis=1, keepdims=True)
    return np.concatenate([start, start + np.cumsum(steps, axis=0)])


def pieces(positions, boxes, times):
    """Parts of a trajectory without a gap in time, unwrapped, and the time between their frames.

    A gap is another time between frames than most have, or a step far beyond the usual one, where a
    run was continued after frames that were not kept.

    Parameters
    ----------
    positions, boxes
        As for :func:`unwrapped`.
    times : ndarray, shape (n_frames,), ps

    Returns
    -------
    (list of ndarray, float)
        Parts of at least half the length of the longest, cut to the length of the shortest; ps.
    """
    times = np.asarray(times, float)
    between = np.diff(times)
    interval = float(np.median(between))
    rounding = 2.0 * np.spacing(np.float32(np.abs(times).max()))  # as files keep times
    path = unwrapped(positions, boxes)
    squares = (np.diff(path, axis=0) ** 2).sum(axis=2).mean(axis=1)
    is_late = np.abs(between - interval) > 1e-3 * interval + rounding
    is_gap = is_late | (squares > JUMP * np.median(squares))
    interval = float(between[~is_gap].mean())
    parts = np.split(path, np.flatnonzero(is_gap) + 1)
    longest = max(len(part) for part in parts)
    parts = [part for part in parts if len(part) >= longest / 2]
    length = min(len(part) for part in parts)
    return [part[:length] for part in parts], interval


def mean_squared_displacement(trajectory):
    """MSD of every site at all lags, over all times, by FFT.

    Parameters
    ----------
    trajectory : ndarray, shape (n_frames, n_sites, 3), nm

    Returns
    -------
    ndarray, shape (n_frames, n_sites), nm^2

    References
    ----------
    Kneller et al., Comput. Phys. Commun. 91, 191 (1995).
    """
    products, squares = _sums(trajectory - trajectory.mean(axis=0))
    counts = np.arange(len(trajectory), 0, -1)[:, None]
    return np.maximum(2.0 * (squares - products) / counts, 0.0)


def _sums(x):
    """Over all times, x(t) . x(t + lag) and (x(t)^2 + x(t + lag)^2)/2, each (n_frames, n_sites)."""
    squares = (x**2).sum(axis=2)
    ends = squares[:-1] + squares[:0:-1]  # that drop out with each longer lag
    dropped = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(ends, axis=0)])
    return autocorrelation_sums(x), squares.sum(axis=0) - 0.5 * dropped


def autocorrelation_sums(x):
    """Sums over time of x(t) . x(t + lag) for each site, by FFT, shape (n_frames, n_sites)."""
    n = len(x)
    size = 1 << (2 * n - 1).bit_length()
    found = 0.0
    for d in range(x.shape[2]):
        transform = np.fft.rfft(x[..., d], size, axis=0)
        found = found + np.fft.irfft(np.abs(transform) ** 2, size, axis=0)[:n]
    return found


def velocity_autocorrelation(velocities):
    """<v(0) . v(t)>/3 over sites and times, shape (n_frames,), nm^2/ps^2.

    Parameters
    ----------
    velocities : ndarray, shape (n_frames, n_sites, 3), nm/ps
    """
    n = len(velocities)
    return autocorrelation_sums(velocities).mean(axis=1) / (n - np.arange(n)) / 3.0


def velocity_autocorrelation_from_positions(trajectory, interval):
    r"""Velocity autocorrelation <v(0) . v(t)>/3 over sites and times, at all lags but the last two.

    Steps u between frames are velocities at mid-step; with C_u their autocorrelation,

    .. math:: C(t) = C_u(t) - \tfrac1{12} [C_u(t + \Delta t) - 2 C_u(t) + C_u(t - \Delta t)]

    to fourth order in ``interval``. At each lag C_u is the sum of products over that of the squares
    in the same windows, times the mean square: what windows of different lags do not share would
    otherwise be noise of the derivatives of C, which are small differences.

    Parameters
    ----------
    trajectory : ndarray, shape (n_frames, n_sites, 3)
        nm, unwrapped.
    interval : float
        ps.

    Returns
    -------
    ndarray, shape (n_frames - 2,), nm^2/ps^2
    """
    steps = np.diff(trajectory, axis=0) / interval
    products, squares = (sums.sum(axis=1) for sums in _sums(steps))
    c = products / squares * (steps**2).mean()
    mirrored = np.concatenate([c[1:2], c])  # even in time
    return c[:-1] - np.diff(mirrored, 2) / 12.0


def groups_of(msd):
    """Means of the MSD over N_GROUPS groups of sites, shape (n_groups, n_lags)."""
    parts = np.array_split(np.arange(msd.shape[1]), min(N_GROUPS, msd.shape[1]))
    return np.array([msd[:, part].mean(axis=1) for part in parts])


def diffusion(times, msd_groups, height, fit=(FIT_FROM, FIT_TO)):
    r"""Diffusion coefficient from the slope of the MSD.

    .. math:: \mathrm{MSD}(t) = a + 6 D t

    between two fractions of the longest lag, by least squares; the standard error is the scatter of
    groups of sites. That sites of a liquid hinder each other through the periodic images is not
    removed (:func:`finite_size`), as it needs a viscosity.

    Parameters
    ----------
    times : ndarray, shape (n_lags,), ps
    msd_groups : ndarray, shape (n_groups, n_lags), nm^2
    height : float
        Smallest height of the box, nm.
    fit : (float, float)

    Returns
    -------
    Diffusion
    """
    shown = (times >= fit[0] * times[-1]) & (times <= fit[1] * times[-1])
    if shown.sum() < 3:
        raise InputError(
            f"{len(times)} lags have {shown.sum()} between {fit[0]:g} and {fit[1]:g} of the"
            " longest; a slope needs three: give more frames"
        )
    slopes = np.polyfit(times[shown], msd_groups[:, shown].T, 1)[0] / 6.0
    value, error = mean_and_error(slopes)
    return Diffusion(float(value), float(error), 1.0 / height)


def finite_size(temperature, viscosity, height):
    r"""What to add to D of a cubic periodic box for an infinite one, nm^2/ps.

    .. math:: \frac{\xi kT}{6\pi\eta L}, \quad \xi = 2.837297

    Parameters
    ----------
    temperature : float
        K.
    viscosity : float
        mPa s, of the simulated model.
    height : float
        L, nm.

    References
    ----------
    Yeh and Hummer, J. Phys. Chem. B 108, 15873 (2004), eq. 12.
    """
    internal = viscosity * 602.214076  # kJ/mol ps/nm^3 in one mPa s
    return EWALD * KB * temperature / (6.0 * np.pi * internal * height)


def speed_up(model, reference):
    """Ratio of two diffusion coefficients and its standard error."""
    ratio = model.value / reference.value
    return ratio, float(np.hypot(model.se, ratio * reference.se) / abs(reference.value))


def centres(positions, topology, boxes):
    """Centres of mass of the molecules, whole, shape (n_frames, n_molecules, 3)."""
    if topology.n_molecules == topology.n_sites:
        return np.asarray(positions, float)
    return np.array(
        [topology.centres(topology.make_whole(x, box)) for x, box in zip(positions, boxes)]
    )
