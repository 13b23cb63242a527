r"""What a model loses at a state that it was not trained on: the penalty of transferability.

.. math:: \Delta(s) = S^{(s)}(\theta) - S^{(s)}(\theta^*_s) \ge 0

in nats, with :math:`\theta^*_s` the best model of state s alone. From samples of the final model at
every state, without any new sampling: one Newton step finds :math:`\theta^*_s`, and the Fisher
matrix of the same samples the penalty of any other model,

.. math:: \theta^*_s = \theta - F_s^{-1} g_s, \qquad
          \Delta(s) \approx \tfrac12 (\theta - \theta^*_s)^T F_s (\theta - \theta^*_s).

This is local: good to some nats, an order of magnitude beyond. Where samples of several states
overlap, :func:`reweighted` gives the penalty itself.

Noise of the two ends adds :math:`\tfrac12 \mathrm{tr}(F\Sigma)`, which is subtracted: p/(2n) for p
parameters and n independent frames. Without any loss the estimate follows the null distribution
:math:`2n\Delta \sim \chi^2_p`, here with the scale and the degrees of freedom that the noise has.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from remcg.entropy import JointObjective, StateFactors, covariance
from remcg.reweight import covariance_of
from remcg.spectrum import pseudo_inverse, spectrum
from remcg.statistics import covariance_of_mean
from remcg.steps import minimise
from remcg.units import beta

CONFIDENCE = 0.95
LEAST = 0.1  # of the reference's covariance, that the model's counts as in every direction
FAR = 10.0  # nats: penalties beyond are orders of magnitude only
ENOUGH = 0.1  # of the samples of one state: the effective number that reweighting needs


@dataclass(frozen=True)
class LocalState:
    """The relative entropy of one state near the sampled model.

    Attributes
    ----------
    name : str
    temperature : float
        K.
    theta : ndarray, shape (n_phi,), kJ/mol
        Coefficients of the sampled model at this temperature.
    fisher : ndarray, shape (n_phi, n_phi), (mol/kJ)^2
    best : ndarray, shape (n_phi,), kJ/mol
        Those of the best model of this state alone.
    noise : ndarray, shape (n_phi, n_phi), (kJ/mol)^2
        Covariance of ``best``, from the samples of reference and model.
    rank : int
        Number of measured directions.
    n_sites : int
    """

    name: str
    temperature: float
    theta: np.ndarray
    fisher: np.ndarray
    best: np.ndarray
    noise: np.ndarray
    rank: int
    n_sites: int


@dataclass(frozen=True)
class Penalty:
    """nats per box.

    Attributes
    ----------
    value : float
        Less the bias; negative only by noise.
    se : float
    bias : float
    null : float
        What the value stays below in 95 % of all cases if nothing is lost.
    p_value : float
        Probability of such a value if nothing is lost.
    """

    value: float
    se: float
    bias: float
    null: float
    p_value: float

    @property
    def is_local(self):
        """Whether the quadratic form that the penalty rests on holds so far from the minimum."""
        return self.value + self.bias <= FAR


def local_state(name, temperature, theta, reference_phi, phi, n_sites=1):
    """One Newton step from samples of one state.

    Parameters
    ----------
    name : str
    temperature : float
        K.
    theta : ndarray, shape (n_phi,), kJ/mol
    reference_phi : ndarray, shape (1, n_frames, n_phi)
    phi : ndarray, shape (n_replicas, n_samples, n_phi)
        Samples of the model ``theta``.
    n_sites : int

    Returns
    -------
    LocalState
        Directions that the samples do not measure stay as they are.
    """
    b = beta(temperature)
    fisher = bounded(b**2 * covariance(phi), b**2 * covariance(reference_phi))
    free = np.diag(fisher) > 0.0
    gradient = b * (reference_phi.mean(axis=(0, 1)) - phi.mean(axis=(0, 1)))
    inverse = pseudo_inverse(fisher, free)
    spread = b**2 * (covariance_of_mean(reference_phi) + covariance_of_mean(phi))
    return LocalState(
        name,
        float(temperature),
        np.asarray(theta, float),
        fisher,
        theta - inverse @ gradient,
        inverse @ spread @ inverse,
        spectrum(fisher, free).rank,
        n_sites,
    )


def bounded(fisher, reference):
    """The Fisher matrix, not below LEAST of the reference's covariance in any direction.

    Where the model hardly goes (cores that few of its samples meet) its own covariance knows
    nothing, and a Newton step would be without limit.

    Parameters
    ----------
    fisher, reference : ndarray, shape (n_phi, n_phi), (mol/kJ)^2

    Returns
    -------
    ndarray, shape (n_phi, n_phi)
        ``fisher`` itself where it is nowhere below.
    """
    total = fisher + reference
    axes = spectrum(total, np.diag(total) > 0.0).directions
    shares, vectors = np.linalg.eigh(axes @ fisher @ axes.T)
    least = LEAST / (1.0 + LEAST)
    if not len(shares) or shares.min() >= least:
        return fisher
    dual = vectors.T @ axes @ total
    return fisher + dual.T @ (np.maximum(least - shares, 0.0)[:, None] * dual)


def penalty(difference, fisher, noise):
    """Penalty of parameters at a known distance from the best ones.

    Parameters
    ----------
    difference : ndarray, shape (n_phi,)
    fisher : ndarray, shape (n_phi, n_phi)
    noise : ndarray, shape (n_phi, n_phi)
        Covariance of ``difference``.

    Returns
    -------
    Penalty
    """
    product = fisher @ noise
    first, second = np.trace(product), np.sum(product * product.T)
    raw, bias = 0.5 * difference @ fisher @ difference, 0.5 * first
    slope = fisher @ difference
    variance = max(slope @ noise @ slope - 0.5 * second, 0.5 * second)
    scale, dof = (second / first, first**2 / second) if first > 0.0 and second > 0.0 else (1.0, 0.0)
    null = 0.5 * scale * stats.chi2.ppf(CONFIDENCE, dof) - bias if dof else 0.0
    p_value = stats.chi2.sf(2.0 * raw / scale, dof) if dof else float(raw <= 0.0)
    return Penalty(*map(float, (raw - bias, np.sqrt(max(variance, 0.0)), bias, null, p_value)))


def used_at(states, trained, designs, weights, start, at):
    """Penalty at one state of the model that fits several states best.

    Parameters
    ----------
    states : list of LocalState
    trained : sequence of int
        States that the model is fitted to.
    designs : list of ndarray, each (n_phi, n_params)
        Of every state: theta = design @ parameters.
    weights : sequence of float
        Of every state in the joint relative entropy.
    start : ndarray, shape (n_params,)
        Where directions that no state measures stay.
    at : int
        State where the model is used.

    Returns
    -------
    Penalty
    """
    forces = {t: weights[t] * designs[t].T @ states[t].fisher for t in trained}
    metric = sum(forces[t] @ designs[t] for t in trained)
    inverse = pseudo_inverse(metric, np.diag(metric) > 0.0)
    parameters = start + inverse @ sum(
        forces[t] @ (states[t].best - designs[t] @ start) for t in trained
    )
    shares = {t: designs[at] @ inverse @ forces[t] for t in trained}
    shares[at] = shares.get(at, 0.0) - np.eye(len(states[at].best))
    noise = sum(share @ states[t].noise @ share.T for t, share in shares.items())
    return penalty(designs[at] @ parameters - states[at].best, states[at].fisher, noise)


def matrix(states, model, trained, weights):
    """Penalties of all models at all states.

    Parameters
    ----------
    states : list of LocalState
    model : Model
        The one that was sampled.
    trained : list of bool
        Which states it was trained on.
    weights : sequence of float
        Of every state; those of untrained ones do not matter.

    Returns
    -------
    dict of dict
        By model ("T280 alone", ..., "constant": one potential for all temperatures; "joint": the
        terms of the model, fitted to these samples; "without": the same without the state where
        it is used; "model": the parameters that were sampled) and by name of the state where it is
        used.
    """
    everyone, training = range(len(states)), np.flatnonzero(trained).tolist()
    own = [model.design(s.temperature) for s in states]
    same = [np.eye(model.n_phi)] * len(states)
    mean = np.mean([states[t].theta for t in training], axis=0)

    def row(chosen, designs, start):
        return {states[s].name: used_at(states, chosen(s), designs, weights, start, s)
                for s in everyone if chosen(s)}  # fmt: skip

    table = {}
    for t in everyone:
        table[f"{states[t].name} alone"] = {
            states[s].name: _alone(states[t], states[s]) for s in everyone
        }
    if len(training) > 1:
        most = max(term.n_orders for term in model.terms)
        if most > 1:  # else it is the joint one
            table["constant"] = row(lambda s: training, same, mean)
        table["joint"] = row(lambda s: training, own, model.parameters)
        table["without"] = row(
            lambda s: [t for t in training if t != s] if len(training) > most else [],
            own,
            model.parameters,
        )
    table["model"] = {s.name: penalty(s.theta - s.best, s.fisher, s.noise) for s in states}
    return {name: entries for name, entries in table.items() if entries}


def _alone(trained, at):
    if trained is at:
        return Penalty(0.0, 0.0, 0.0, 0.0, 1.0)
    return penalty(trained.best - at.best, at.fisher, trained.noise + at.noise)


def reweighted(states, at, theta, pressure, reference, mixture, noise=None):
    r"""Penalty at a state by reweighting of all samples (MBAR), not only to second order.

    Parameters
    ----------
    states : list of LocalState
    at : int
    theta : ndarray, shape (n_phi,)
        Coefficients of the model to be judged, at the temperature of that state.
    pressure : float
        kJ/mol/nm^3; 0 at constant volume.
    reference : ndarray, shape (1, n_frames, n_phi + 1)
        Basis sums and volume of the reference.
    mixture : remcg.reweight.Mixture
        Samples of this and other states, of the same features.
    noise : ndarray, shape (n_phi, n_phi), optional
        Covariance of ``theta``, if it was estimated from samples of another state.

    Returns
    -------
    (Penalty, float)
        With the bias and the null distribution of the local estimate; the least effective share
        of the samples of one state. Below ENOUGH the value is not to be trusted.
    """
    state = states[at]
    factor = StateFactors(1.0, beta(state.temperature), np.eye(len(theta)))
    means = reference.mean(axis=(0, 1))
    names = [(k, k) for k in range(len(mixture.ensembles))]
    objective = JointObjective([factor], [pressure], [means], [mixture], {id(mixture): names})
    one = min(e.n_samples for e in mixture.ensembles)
    free, enough = np.diag(state.fisher) > 0.0, [0.02 * one]
    best = minimise(objective, state.best, free, np.zeros_like(state.fisher), 3.0, enough)
    here, there = objective.at(theta), objective.at(best.parameters)
    extra = np.zeros_like(state.noise) if noise is None else noise
    local = penalty(theta - state.best, state.fisher, state.noise + extra)
    slope = state.fisher @ (theta - state.best)
    batches = objective.difference_batches(best.parameters, [theta])
    change = factor.beta * (theta - best.parameters)
    own = covariance_of_mean((reference[..., :-1] @ change)[..., None]).item()
    share = min(here.states[0].n_effective, best.n_effective[0]) / one
    error = np.sqrt(covariance_of(batches).item() + own + slope @ extra @ slope)
    value = here.value - there.value - local.bias
    floor = local.bias + local.null
    return Penalty(
        float(value), float(max(error, 0.5 * floor / 1.645)), local.bias, local.null, local.p_value
    ), float(share)
