r"""The relative entropy of several states, its gradient and its Fisher matrix.

.. math:: J = \sum_s w_s S^{(s)}, \qquad
          g = \sum_s w_s \beta_s D_s^T (\langle\phi\rangle_{ref,s} - \langle\phi\rangle_{model,s}),
          \qquad F = \sum_s w_s \beta_s^2 D_s^T \mathrm{Cov}_s(\phi) D_s

with theta(T_s) = D_s parameters (:meth:`remcg.model.Model.design`).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StateFactors:
    """What one state contributes to the joint objective.

    Attributes
    ----------
    weight : float
        w_s, dimensionless.
    beta : float
        mol/kJ.
    design : ndarray, shape (n_phi, n_params)
    """

    weight: float
    beta: float
    design: np.ndarray


def gradient(states, reference, model):
    """Gradient of J from the mean basis sums of both ensembles.

    Parameters
    ----------
    states : sequence of StateFactors
    reference, model : sequence of ndarray, each (..., n_phi)

    Returns
    -------
    ndarray, shape (..., n_params), mol/kJ

    References
    ----------
    Shell, J. Chem. Phys. 129, 144108 (2008).
    """
    return sum(
        s.weight * s.beta * (ref - mod) @ s.design for s, ref, mod in zip(states, reference, model)
    )


def fisher(states, covariances):
    """Fisher matrix of J, shape (n_params, n_params), (mol/kJ)^2.

    Parameters
    ----------
    states : sequence of StateFactors
    covariances : sequence of ndarray, each (n_phi, n_phi)
    """
    return sum(
        s.weight * s.beta**2 * s.design.T @ c @ s.design for s, c in zip(states, covariances)
    )


def gradient_covariance(states, covariances):
    """Covariance of the gradient from the covariance of each state's mean basis sums."""
    return sum(
        (s.weight * s.beta) ** 2 * s.design.T @ c @ s.design for s, c in zip(states, covariances)
    )


def covariance(phi):
    """Covariance of basis sums over all samples, shape (n_phi, n_phi).

    Parameters
    ----------
    phi : ndarray, shape (n_replicas, n_samples, n_phi)
    """
    deviations = phi.reshape(-1, phi.shape[-1]) - phi.mean(axis=(0, 1))
    return deviations.T @ deviations / (len(deviations) - 1)


def at_fixed_volume(covariance, cross, variance):
    """Covariance that is left when the volume does not fluctuate (Schur complement).

    Parameters
    ----------
    covariance : ndarray, shape (n_phi, n_phi)
    cross : ndarray, shape (n_phi,)
        Covariance of each basis sum with the volume.
    variance : float
        Variance of the volume; 0 leaves the covariance as it is.
    """
    if variance <= 0.0:
        return covariance
    return covariance - np.outer(cross, cross) / variance
