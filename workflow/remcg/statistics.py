"""Errors of averages over correlated samples, and the test that a mean vanishes."""

import logging

import numpy as np
from scipy import stats

from remcg.errors import InputError

BATCH_IN_INEFFICIENCIES = 10


def inefficiencies(series):
    """Statistical inefficiency of each component, >= 1, in samples.

    Parameters
    ----------
    series : ndarray, shape (n_replicas, n_samples, n_components)

    Returns
    -------
    ndarray, shape (n_components,)
        1 for a component that does not vary.

    References
    ----------
    Chodera et al., J. Chem. Theory Comput. 3, 26 (2007), as in ``pymbar.timeseries``.
    """
    logging.getLogger("pymbar").setLevel(logging.ERROR)
    from pymbar.timeseries import statistical_inefficiency_multiple

    spread = series.std(axis=(0, 1))
    result = np.ones(series.shape[2])
    for k in np.flatnonzero(spread > 1e-9 * (1.0 + np.abs(series.mean(axis=(0, 1))))):
        result[k] = statistical_inefficiency_multiple(list(series[:, :, k]), fast=True)
    return result


def inefficiency(series):
    """Statistical inefficiency of the slowest component, see :func:`inefficiencies`."""
    return float(inefficiencies(series).max())


def batch_means(series, length):
    """Means over consecutive batches; a remainder at the start of a replica is left out.

    Parameters
    ----------
    series : ndarray, shape (n_replicas, n_samples, n_components)
    length : int
        Samples per batch.

    Returns
    -------
    ndarray, shape (n_replicas * (n_samples // length), n_components)
    """
    n_replicas, n_samples, n_components = series.shape
    n_batches = n_samples // length
    kept = series[:, n_samples - n_batches * length :]
    return kept.reshape(n_replicas * n_batches, length, n_components).mean(axis=1)


def standard_error(series):
    """Mean and its standard error for one observable of shape (n_replicas, n_samples)."""
    g = inefficiency(series[:, :, None])
    return series.mean(), series.std(ddof=1) * np.sqrt(g / series.size)


def block_mean(blocks):
    """Mean over blocks and its standard error, each of shape blocks.shape[1:]."""
    return blocks.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))


def mean_and_error(blocks):
    """As :func:`block_mean`, with errors of zero where there is only one block."""
    if len(blocks) > 1:
        return block_mean(blocks)
    return blocks[0], np.zeros_like(blocks[0])


def effective_number(log_weights):
    """Effective number of samples of these weights, (sum w)^2 / sum w^2 (Kish, 1965)."""
    weights = np.exp(log_weights - np.max(log_weights))
    return float(weights.sum() ** 2 / (weights**2).sum())


def explained_by(volumes, deviations):
    """What linear regression on the volume explains of deviations from a mean.

    Parameters
    ----------
    volumes : ndarray, of n samples
        nm^3; constant ones explain nothing.
    deviations : ndarray, shape (n, n_values)

    Returns
    -------
    ndarray, shape (n, n_values)
    """
    change = np.ravel(volumes) - np.mean(volumes)
    square = change @ change
    if square <= len(change) * (1e-9 * np.mean(volumes)) ** 2:
        return np.zeros_like(deviations)
    return np.outer(change, change @ deviations / square)


def covariance_of_mean(series, length=None):
    """Covariance of the mean of a correlated vector series, by overlapping batch means.

    Parameters
    ----------
    series : ndarray, shape (n_replicas, n_samples, n_components)
    length : int, optional
        Samples per batch; default: ten times the inefficiency of the slowest component, at most a
        quarter of a replica. The relative error of a variance is about -inefficiency/length in
        bias and sqrt(4/3 length/n) in noise, n all samples.

    Returns
    -------
    ndarray, shape (n_components, n_components)

    References
    ----------
    Meketon and Schmeiser, Proc. Winter Simulation Conf. 227 (1984).
    """
    n_replicas, n_samples, n_components = series.shape
    if length is None:
        wanted = int(np.ceil(BATCH_IN_INEFFICIENCIES * inefficiency(series)))
        length = min(wanted, max(n_samples // 4, 1))
    if not 1 <= length <= n_samples * n_replicas // 2 or length > n_samples:
        raise InputError(
            f"batches of {length} in {n_replicas} x {n_samples} samples; give at least two batches"
            " and none longer than a replica"
        )
    means = window_means(series, length).reshape(-1, n_components)
    deviations = means - series.mean(axis=(0, 1))
    total, n_windows = n_replicas * n_samples, len(means)
    return deviations.T @ deviations / n_windows * length / (total - length)


def window_means(series, length):
    """Means of all windows of consecutive samples, (n_replicas, n_windows, n_components)."""
    centered = series - series.mean(axis=(0, 1))  # sums of deviations keep their digits
    sums = np.cumsum(np.pad(centered, ((0, 0), (1, 0), (0, 0))), axis=1)
    return (sums[:, length:] - sums[:, :-length]) / length + series.mean(axis=(0, 1))


def hotelling(mean, covariance, n, dof, confidence):
    """Test that a multivariate mean vanishes, with an estimated covariance.

    Parameters
    ----------
    mean : ndarray, shape (r,)
        Average of n independent vectors.
    covariance : ndarray, shape (r, r)
        Estimated covariance of one vector, of ``dof`` degrees of freedom.
    n, dof : int
    confidence : float

    Returns
    -------
    (float, float)
        chi2_per_dof = T^2 (dof - r + 1)/(dof r), which follows F(r, dof - r + 1), and the quantile
        at ``confidence``.

    References
    ----------
    Hotelling, Ann. Math. Stat. 2, 360 (1931).
    """
    rank = len(mean)
    t2 = n * mean @ np.linalg.solve(covariance, mean)
    return (
        t2 * (dof - rank + 1) / (dof * rank),
        stats.f.ppf(confidence, rank, dof - rank + 1),
    )
