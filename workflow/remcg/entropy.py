r"""The relative entropy of several states, its gradient and its Fisher matrix.

.. math:: J = \sum_s w_s S^{(s)}, \qquad
          g = \sum_s w_s \beta_s D_s^T (\langle\phi\rangle_{ref,s} - \langle\phi\rangle_{model,s}),
          \qquad F = \sum_s w_s \beta_s^2 D_s^T \mathrm{Cov}_s(\phi) D_s

with theta(T_s) = D_s parameters (:meth:`remcg.model.Model.design`).
"""

from dataclasses import dataclass

import numpy as np

from remcg.units import beta


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


def state_factors(model, data):
    """Factors of states that have a weight and a temperature."""
    return [StateFactors(d.weight, beta(d.temperature), model.design(d.temperature)) for d in data]


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


@dataclass(frozen=True)
class Estimate:
    """The joint relative entropy near one set of parameters.

    Attributes
    ----------
    value : float
        J up to a constant, nats.
    gradient : ndarray, shape (n_params,), mol/kJ
    metric : ndarray, shape (n_params, n_params), (mol/kJ)^2
    states : list of remcg.reweight.Reweighted
    """

    value: float
    gradient: np.ndarray
    metric: np.ndarray
    states: list


def coefficients(states, pressures, parameters):
    """lambda_s = beta_s (D_s p, P_s) of every state: of its basis sums and its volume."""
    return [s.beta * np.append(s.design @ parameters, p) for s, p in zip(states, pressures)]


class JointObjective:
    r"""J as a function of the parameters, from samples of models nearby.

    .. math:: J = \sum_s w_s [\lambda_s \cdot \langle x \rangle_{ref,s} - f_s(\lambda_s)],
              \qquad \lambda_s = \beta_s (D_s p, P_s)

    f_s is the reduced free energy (:mod:`remcg.reweight`); x are basis sums and volume. J is convex
    in the parameters, also as estimated.

    Parameters
    ----------
    states : sequence of StateFactors
    pressures : sequence of float
        kJ/mol/nm^3; 0 where the volume is fixed.
    references : sequence of ndarray, each (n_features,)
        Mean features of the reference.
    mixtures : sequence of remcg.reweight.Mixture
        Per state; states may share one.
    labels : dict
        Per mixture (by id), the iteration and the state of each of its ensembles; batches of one
        iteration and number were sampled at the same time.
    """

    def __init__(self, states, pressures, references, mixtures, labels):
        self.states = list(states)
        self.pressures = list(pressures)
        self.references = list(references)
        self.mixtures = list(mixtures)
        self.labels = labels

    def coefficients(self, parameters):
        """lambda of every state."""
        return coefficients(self.states, self.pressures, parameters)

    def at(self, parameters):
        """Value, gradient and metric of J.

        Returns
        -------
        Estimate
        """
        found = [m.at(c) for m, c in zip(self.mixtures, self.coefficients(parameters))]
        value = sum(
            s.weight * (c @ reference - r.free_energy)
            for s, c, reference, r in zip(
                self.states, self.coefficients(parameters), self.references, found
            )
        )
        means = [r.mean[:-1] for r in found]
        references = [reference[:-1] for reference in self.references]
        return Estimate(
            value,
            gradient(self.states, references, means),
            fisher(self.states, [r.covariance[:-1, :-1] for r in found]),
            found,
        )

    def gradient_batches(self, parameters):
        """Noise of the gradient: per iteration, what each batch of samples adds to it.

        Returns
        -------
        list of ndarray, each (n_batches, n_params)
        """
        per_state = []
        for s, m, r in zip(self.states, self.mixtures, self.at(parameters).states):
            deviations = (m.features + m.origin - r.mean)[:, :-1]
            slopes = -s.weight * s.beta * s.design.T
            per_state.append((m, r.weights[:, None] * deviations, slopes))
        return self._batches(per_state)

    def difference_batches(self, parameters, others):
        """Noise of J(others) - J(parameters): per iteration, what each batch adds to them.

        Returns
        -------
        list of ndarray, each (n_batches, n_others)
        """
        points = [self.at(other).states for other in others]
        per_state = []
        for k, (s, m, r) in enumerate(zip(self.states, self.mixtures, self.at(parameters).states)):
            change = [point[k].weights - r.weights for point in points]
            per_state.append((m, np.stack(change, axis=1), s.weight * np.eye(len(others))))
        return self._batches(per_state)

    def _batches(self, per_state):
        """Sum over states of ``slopes @ noise``, batches of one iteration taken together."""
        sums = {}
        for mixture, contributions, slopes in per_state:
            parts = mixture.noise(contributions)
            for (iteration, _), part in zip(self.labels[id(mixture)], parts):
                sums[iteration] = sums.get(iteration, 0.0) + part @ slopes.T
        return list(sums.values())
