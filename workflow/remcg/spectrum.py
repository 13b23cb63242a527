"""Stiff and sloppy directions of a metric."""

from typing import NamedTuple

import numpy as np

from remcg.errors import InputError

RESOLVED = 1e-7  # smallest eigenvalue, relative to the largest, that counts as measured
VARIES = 1e-20  # variance, relative to the largest, below which a function does not vary


class Spectrum(NamedTuple):
    """Eigenvalues of a metric and its directions.

    Attributes
    ----------
    values : ndarray, shape (n_varying,)
        Eigenvalues of the correlation matrix F_ij/sqrt(F_ii F_jj), stiffest first, dimensionless;
        without correlations between features each is 1.
    rank : int
        How many of them count as measured: those above RESOLVED times the largest.
    condition : float
        Largest over smallest measured eigenvalue.
    directions : ndarray, shape (rank, n_params), kJ/mol
        Rows W with W F W^T = 1: along each the divergence of a unit displacement is 1/2 nat.
        Parameters that are not free or do not vary have zeros.
    n_constant : int
        Free parameters that do not vary and were left out.
    """

    values: np.ndarray
    rank: int
    condition: float
    directions: np.ndarray
    n_constant: int


def spectrum(metric, free):
    """Eigenvalues and directions of the Fisher matrix in units of each feature's own deviation.

    Functions that do not vary (zero on the diagonal) are left out and counted. An indefinite or
    non-finite matrix is no covariance and is refused.

    Parameters
    ----------
    metric : ndarray, shape (n_params, n_params), (mol/kJ)^2
    free : ndarray of bool, shape (n_params,)

    Returns
    -------
    Spectrum

    References
    ----------
    Transtrum et al., J. Chem. Phys. 143, 010901 (2015), on stiff and sloppy directions.
    """
    metric, free = symmetric(metric, "metric"), np.asarray(free, bool)
    diagonal = np.diag(metric)
    if (diagonal[free] < 0.0).any():
        worst = np.flatnonzero(free)[np.argmin(diagonal[free])]
        raise InputError(
            f"the metric has the variance {diagonal[worst]:.3g} at parameter {worst}; a Fisher"
            " matrix is a covariance: give one of samples"
        )
    varying = free & (diagonal > VARIES * diagonal[free].max(initial=0.0))
    n_constant = int(free.sum() - varying.sum())
    if not varying.any():
        return Spectrum(np.zeros(0), 0, 1.0, np.zeros((0, len(free))), n_constant)
    scale = np.sqrt(diagonal[varying])
    values, vectors = np.linalg.eigh(metric[np.ix_(varying, varying)] / np.outer(scale, scale))
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[-1] < -RESOLVED * values[0]:
        raise InputError(
            f"the metric has the eigenvalue {values[-1]:.3g} beside {values[0]:.3g} in units of its"
            " diagonal; a Fisher matrix has none below zero: give a covariance of samples"
        )
    rank = int(np.sum(values > RESOLVED * values[0]))
    directions = np.zeros((rank, len(free)))
    directions[:, varying] = (vectors[:, :rank] / np.sqrt(values[:rank])).T / scale
    return Spectrum(values, rank, float(values[0] / values[rank - 1]), directions, n_constant)


def amplitudes(spectrum, metric, covariance):
    """Standard error of the parameters along each direction, in units of the direction.

    Parameters
    ----------
    spectrum : Spectrum
    metric, covariance : ndarray, shape (n_params, n_params)
        Fisher matrix; covariance of the parameters, (kJ/mol)^2.

    Returns
    -------
    ndarray, shape (rank,)
        1/sqrt(n) for a well-specified model and n independent frames; half the sum of squares is
        the divergence, in nats, that the errors cause.
    """
    dual = spectrum.directions @ metric
    return np.sqrt(np.maximum(np.einsum("ki,ij,kj->k", dual, covariance, dual), 0.0))


def pseudo_inverse(metric, free):
    """Inverse of the metric in its measured directions, shape (n_params, n_params), (kJ/mol)^2."""
    axes = spectrum(metric, free).directions
    return axes.T @ axes


def symmetric(matrix, name):
    """The symmetric part of a square matrix (n, n) of finite numbers, else an InputError."""
    matrix = np.asarray(matrix, float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise InputError(
            f"a {name} of shape {matrix.shape} with {np.sum(~np.isfinite(matrix))} entries that are"
            " not finite; give a square matrix of finite numbers"
        )
    return 0.5 * (matrix + matrix.T)
