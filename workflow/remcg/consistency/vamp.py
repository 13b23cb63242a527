r"""VAMP-2 score: how much of the slow dynamics a set of features resolves.

.. math:: \mathrm{VAMP2} = \| C_{00}^{-1/2} C_{01} C_{11}^{-1/2} \|_F^2

with covariances of the features at time t and t + lag. It is the sum of the squared singular values
of the estimated propagator, 1 for the constant function included: features that are functions of
others cannot score higher (data processing), and invertible linear maps change nothing.

References
----------
Wu and Noe, J. Nonlinear Sci. 30, 23 (2020); McGibbon and Pande, J. Chem. Phys. 142, 124105 (2015),
on cross-validation.
"""

import numpy as np

from remcg.errors import InputError

N_FOLDS = 5
CUT = 1e-6  # relative eigenvalue of a covariance below which a direction does not count


def vamp2(series, lag, cut=CUT):
    """Score of one or several trajectories at a lag, on the data themselves.

    Parameters
    ----------
    series : list of ndarray, each (n_frames, n_features)
    lag : int
        Frames.
    cut : float

    Returns
    -------
    float
        At least 1, at most 1 + number of features.
    """
    first, second = _pairs(series, lag)
    middle = np.concatenate([first, second]).mean(axis=0)
    scale = np.concatenate([first, second]).std(axis=0)
    scale[scale == 0.0] = 1.0
    first, second = (first - middle) / scale, (second - middle) / scale
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    half, other = (_whitening(x.T @ x / len(x), cut) for x in (a, b))
    return 1.0 + float(np.sum((half.T @ (a.T @ b / len(a)) @ other) ** 2))


def cross_validated(series, lag, n_folds=N_FOLDS, cut=CUT):
    """Score on data that the singular functions were not fitted to.

    Each series is cut into ``n_folds`` parts of consecutive frames; the singular functions of all
    other parts are scored on the part itself, by the VAMP-E score: its maximum over all functions
    is the VAMP-2 score, and functions of mere noise score below 1.

    Parameters
    ----------
    series, lag, cut
        As for :func:`vamp2`.
    n_folds : int

    Returns
    -------
    (float, float)
        Mean over folds and its standard error.
    """
    parts = [np.array_split(np.asarray(x, float), n_folds) for x in series]
    scores = []
    for k in range(n_folds):
        train = [piece[j] for piece in parts for j in range(n_folds) if j != k]
        scores.append(_held_out(train, [piece[k] for piece in parts], lag, cut))
    return float(np.mean(scores)), float(np.std(scores, ddof=1) / np.sqrt(n_folds))


def _held_out(train, test, lag, cut):
    r"""VAMP-E score on ``test`` of the singular functions and values found on ``train``.

    .. math:: 1 + \mathrm{tr}[2 \Sigma U^T C_{01} V - \Sigma U^T C_{00} U \Sigma V^T C_{11} V]
    """
    first, second = _pairs(train, lag)
    middles = first.mean(axis=0), second.mean(axis=0)
    a, b = first - middles[0], second - middles[1]
    half, other = (_whitening(x.T @ x / len(x), cut) for x in (a, b))
    left, values, right = np.linalg.svd(half.T @ (a.T @ b / len(a)) @ other, full_matrices=False)
    x, y = (z - middle for z, middle in zip(_pairs(test, lag), middles))
    x, y = x @ (half @ left) * values, y @ (other @ right.T)
    n = len(x)
    return 1.0 + float(2.0 * np.sum(x * y) / n - np.sum((x.T @ x / n) * (y.T @ y / n)))


def _pairs(series, lag):
    series = [np.asarray(x, float).reshape(len(x), -1) for x in series]
    enough = [x for x in series if len(x) > lag]
    if lag < 1 or not enough:
        raise InputError(
            f"a lag of {lag} frames in series of {[len(x) for x in series]} frames; give a lag of"
            " at least one and a longer series"
        )
    return np.concatenate([x[:-lag] for x in enough]), np.concatenate([x[lag:] for x in enough])


def _whitening(covariance, cut):
    """Matrix W with W^T C W = 1 on the directions above the cut of the correlation matrix."""
    scale = np.sqrt(np.diag(covariance))
    varies = scale > 0.0
    inverse = np.where(varies, 1.0 / np.where(varies, scale, 1.0), 0.0)
    values, vectors = np.linalg.eigh(covariance * np.outer(inverse, inverse))
    kept = values > cut * max(values.max(initial=0.0), 1e-300)
    return inverse[:, None] * vectors[:, kept] / np.sqrt(values[kept])
