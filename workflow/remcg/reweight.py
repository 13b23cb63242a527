r"""Samples of many exponential families as one sample of any of them: MBAR.

A state sampled with one model has the reduced energy :math:`u(x) = \lambda \cdot x`, linear in the
features x of a configuration (basis sums and volume), with coefficients :math:`\lambda = \beta
(\theta, P)`. All samples together are one sample of the mixture of their ensembles, and every
average in any state is a weighted average over it.

.. math:: f(\lambda) = -\ln \sum_n \frac{e^{-\lambda \cdot x_n}}{c_n}, \qquad
          c_n = \sum_k N_k e^{f_k - \lambda_k \cdot x_n}, \qquad f_k = f(\lambda_k)

References
----------
Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008), eqs. 11 and 15.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import logsumexp

from remcg.errors import InputError

TOLERANCE = 1e-9  # of the number of samples, by which the equations of the f_k may be missed
ENOUGH = 1e-5  # the same, where rounding allows no better
MAX_STEPS = 200


@dataclass(frozen=True)
class Ensemble:
    """Samples of one state with one model.

    Attributes
    ----------
    coefficients : ndarray, shape (n_features,)
        lambda, such that the reduced energy is lambda . features.
    features : ndarray, shape (n_replicas, n_samples, n_features)
    n_batches : int
        Equal parts of each replica that may count as independent of one another.
    """

    coefficients: np.ndarray
    features: np.ndarray
    n_batches: int

    @property
    def n_samples(self):
        """Samples of all batches together."""
        return self.features.shape[0] * self.features.shape[1]


@dataclass(frozen=True)
class Reweighted:
    """Averages of one state over a mixture.

    Attributes
    ----------
    free_energy : float
        f, relative to the other states of the same mixture.
    weights : ndarray, shape (n_samples,)
        Sum to one.
    mean : ndarray, shape (n_features,)
    covariance : ndarray, shape (n_features, n_features)
    """

    free_energy: float
    weights: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray

    @property
    def n_effective(self):
        """Kish's number of samples, 1/sum w^2."""
        return 1.0 / np.sum(self.weights**2)


class Mixture:
    """The samples of several ensembles, weighted by MBAR.

    Parameters
    ----------
    ensembles : sequence of Ensemble
        Of the same features. Neighbours in this order should overlap.

    Attributes
    ----------
    free_energies : ndarray, shape (n_ensembles,)
        f_k; the first is zero.
    """

    def __init__(self, ensembles):
        self.ensembles = list(ensembles)
        flat = [e.features.reshape(e.n_samples, -1) for e in self.ensembles]
        features = np.concatenate(flat)
        self.origin = features.mean(axis=0)
        self.features = features - self.origin
        self.counts = np.array([e.n_samples for e in self.ensembles], float)
        self.coefficients = np.array([e.coefficients for e in self.ensembles])
        energies = self.features @ self.coefficients.T
        f = _solve(energies, self.counts, _first_guess(energies, self.counts))
        exponents = np.log(self.counts) + f - energies
        self._log_mixture = logsumexp(exponents, axis=1)
        self._members = np.exp(exponents - self._log_mixture[:, None])
        shifts = self.coefficients @ self.origin
        self.free_energies = (f + shifts) - (f + shifts)[0]
        self._zero = (f + shifts)[0]

    def at(self, coefficients):
        """Averages of the state with these coefficients.

        Parameters
        ----------
        coefficients : ndarray, shape (n_features,)

        Returns
        -------
        Reweighted
        """
        logs = -(self.features @ coefficients) - self._log_mixture
        free_energy = -logsumexp(logs)
        weights = np.exp(logs + free_energy)
        mean = weights @ self.features
        deviations = self.features - mean
        covariance = (deviations * weights[:, None]).T @ deviations
        return Reweighted(
            free_energy + coefficients @ self.origin - self._zero,
            weights,
            mean + self.origin,
            covariance,
        )

    def noise(self, contributions):
        r"""Batch sums of an estimate's dependence on every sample, that of the f_k included.

        An estimate y of contributions :math:`Y_n(1/c_n)`, each inversely proportional to c_n, has
        :math:`dy = \sum_n Y_n + \sum_k (\partial y/\partial f_k) df_k` with :math:`\partial
        y/\partial f_k = -\sum_n Y_n p_{nk}`, and the f_k follow from :math:`\sum_n p_{nk} = N_k`,
        where :math:`p_{nk} = N_k e^{f_k - u_k(x_n)}/c_n`.

        Parameters
        ----------
        contributions : ndarray, shape (n_samples, n_estimates)
            First-order change of each estimate with the weight of each sample.

        Returns
        -------
        list of ndarray, one per ensemble, shape (n_replicas * n_batches, n_estimates)
        """
        sums = np.add.reduceat(contributions, self._batch_starts, axis=0)
        slopes = -self._members.T @ contributions
        total = sums - self._member_sums @ (self._response @ slopes)
        return np.split(total, self._batch_edges)

    def overlap(self):
        """Probability that a sample of ensemble k, given its place, came from l.

        Returns
        -------
        ndarray, shape (n_ensembles, n_ensembles)
            Rows sum to one (Klimovich, Shirts and Mobley, J. Comput. Aided Mol. Des. 29, 397
            (2015)).
        """
        return self._members.T @ self._members / self.counts[:, None]

    @cached_property
    def _response(self):
        """Pseudo-inverse of the derivative of sum_n p_nk with f: d f = -response . d(sum p)."""
        return np.linalg.pinv(np.diag(self.counts) - self._members.T @ self._members, 1e-12)

    @cached_property
    def _batch_starts(self):
        starts, at = [], 0
        for e in self.ensembles:
            n_replicas, n_samples = e.features.shape[:2]
            first = (np.arange(e.n_batches) * n_samples) // e.n_batches
            starts.append((at + n_samples * np.arange(n_replicas)[:, None] + first).ravel())
            at += e.n_samples
        return np.concatenate(starts)

    @cached_property
    def _batch_edges(self):
        return np.cumsum([e.features.shape[0] * e.n_batches for e in self.ensembles])[:-1]

    @cached_property
    def _member_sums(self):
        return np.add.reduceat(self._members, self._batch_starts, axis=0)


def covariance_of(batches):
    """Covariance of a sum over batches from their scatter within each ensemble.

    Parameters
    ----------
    batches : list of ndarray, each (n_batches, n_estimates)
        Independent batches; ensembles of one batch are left out.

    Returns
    -------
    ndarray, shape (n_estimates, n_estimates)
    """
    result = np.zeros((batches[0].shape[1],) * 2)
    for part in batches:
        n = len(part)
        if n > 1:
            deviations = part - part.mean(axis=0)
            result += n / (n - 1) * deviations.T @ deviations
    return result


def _first_guess(energies, counts):
    """f_k along the order of the ensembles, by the trapezoidal rule between neighbours."""
    edges = np.concatenate([[0], np.cumsum(counts)]).astype(int)
    f = np.zeros(len(counts))
    for k in range(1, len(counts)):
        change = energies[:, k] - energies[:, k - 1]
        before, here = (change[edges[i] : edges[i + 1]].mean() for i in (k - 1, k))
        f[k] = f[k - 1] + 0.5 * (before + here)
    return f


def _solve(energies, counts, f):
    """Minimum of sum_n ln c_n - sum_k N_k f_k, which is convex, by damped Newton steps."""
    logs = np.log(counts)

    def evaluate(f):
        exponents = logs + f - energies
        top = exponents.max(axis=1)
        terms = np.exp(exponents - top[:, None])
        total = terms.sum(axis=1)
        return (np.log(total) + top).sum() - counts @ f, terms / total[:, None]

    value, members = evaluate(f)
    for _ in range(MAX_STEPS):
        sums = members.sum(axis=0)
        gradient = sums - counts
        if np.abs(gradient).max() <= TOLERANCE * counts.sum():
            return f - f[0]
        hessian = np.diag(sums) - members.T @ members
        floor = 1e-9 * np.diag(np.maximum(sums, 1e-3 * counts))
        newton = -np.linalg.solve(hessian + floor, gradient)
        newton -= newton[0]
        for step in (
            *(newton * 0.5**i for i in range(6)),
            np.log(counts / np.maximum(sums, 1e-300)),
        ):
            found = evaluate(f + step)
            if found[0] <= value + 1e-12 * abs(value):
                break
        f, (value, members) = f + step, found
    if np.abs(members.sum(axis=0) - counts).max() <= ENOUGH * counts.sum():
        return f - f[0]
    raise InputError(
        "the free energies of the stored iterations do not converge: the samples of one of them"
        " hold energies that are not finite or far beyond all others; look at the sample files of"
        " the last iterations, delete the faulty one, and run again"
    )
