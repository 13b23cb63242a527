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

Noise of a model that was fitted to the same reference frames (:func:`noise_of_model`). To first
order the best coefficients of state t scatter with the means of reference and model,

.. math:: \hat\theta^*_t = \theta^*_t + a_t + c_t, \qquad
          a_t = -\beta_t F_t^{-1} \delta\langle\phi\rangle_{ref,t}, \quad
          c_t = \beta_t F_t^{-1} \delta\langle\phi\rangle_{model,t},

with covariances :math:`R_t` and :math:`M_t`; all of them are independent of each other. If nothing
is lost, :math:`\theta^*_t = D_t p^*` at every trained state, and the minimum of the joint relative
entropy, whose reference means are those same ones, is

.. math:: p = p^* + G \sum_t w_t D_t^T F_t a_t, \qquad G = \Big(\sum_t w_t D_t^T F_t D_t\Big)^{-1}.

The samples that :math:`c_s` stems from are not those of the fit. The difference is therefore

.. math:: D_s p - \hat\theta^*_s = \sum_t \left(w_t D_s G D_t^T F_t - \delta_{ts}\right) a_t - c_s,

and its covariance :math:`\sum_t B_t R_t B_t^T + M_s` with the brackets :math:`B_t`. The fit follows
the noise of the reference as far as it can: as many orders as temperatures leave :math:`M_s` alone,
many states and few orders :math:`R_s + M_s`. That is also the noise at a state that the model was
not fitted to, where its coefficients count as given. The noise of the fit's own samples is no part
of it: what it costs the model has lost.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from remcg.entropy import JointObjective, StateFactors, covariance
from remcg.reweight import covariance_of
from remcg.spectrum import pseudo_inverse, spectrum
from remcg.statistics import covariance_of_mean
from remcg.steps import SETTLED, minimise
from remcg.units import beta

CONFIDENCE = 0.95
EXACT = 1e-9  # nats: differences and noise below are those of arithmetic
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
    reference_noise : ndarray, shape (n_phi, n_phi), (kJ/mol)^2, optional
        The part of ``noise`` from the samples of the reference; default: none.
    """

    name: str
    temperature: float
    theta: np.ndarray
    fisher: np.ndarray
    best: np.ndarray
    noise: np.ndarray
    rank: int
    n_sites: int
    reference_noise: np.ndarray | None = None

    @property
    def shared_noise(self):
        """``reference_noise``, or zeros."""
        found = self.reference_noise
        return np.zeros_like(self.noise) if found is None else found


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
    scale, dof : float
        Of the null distribution: value + bias is scale/2 times a chi-square of dof degrees of
        freedom; dof 0 where there is no noise.
    """

    value: float
    se: float
    bias: float
    null: float
    p_value: float
    scale: float = 1.0
    dof: float = 0.0

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
    spreads = [b**2 * inverse @ covariance_of_mean(x) @ inverse for x in (reference_phi, phi)]
    return LocalState(
        name,
        float(temperature),
        np.asarray(theta, float),
        fisher,
        theta - inverse @ gradient,
        sum(spreads),
        spectrum(fisher, free).rank,
        n_sites,
        spreads[0],
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
        Zero without any noise where the parameters are the best ones by construction.
    """
    product = fisher @ noise
    first, second = np.trace(product), np.sum(product * product.T)
    raw, bias = 0.5 * difference @ fisher @ difference, 0.5 * first
    if max(abs(raw), abs(bias)) < EXACT:
        return Penalty(0.0, 0.0, 0.0, 0.0, 1.0)
    slope = fisher @ difference
    variance = max(slope @ noise @ slope - 0.5 * second, 0.5 * second)
    scale, dof = (second / first, first**2 / second) if first > 0.0 and second > 0.0 else (1.0, 0.0)
    null = 0.5 * scale * stats.chi2.ppf(CONFIDENCE, dof) - bias if dof else 0.0
    p_value = stats.chi2.sf(2.0 * raw / scale, dof) if dof else float(raw <= 0.0)
    error = np.sqrt(max(variance, 0.0))
    return Penalty(*map(float, (raw - bias, error, bias, null, p_value, scale, dof)))


def null_density(found, values):
    """Probability density of a penalty where nothing is lost, 1/nat, shape of ``values``."""
    if not found.dof:
        return np.zeros_like(np.asarray(values, float))
    half = 0.5 * found.scale
    return stats.chi2.pdf((np.asarray(values, float) + found.bias) / half, found.dof) / half


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
    theta, noise = fitted(states, trained, designs, weights, start, at)
    return penalty(theta - states[at].best, states[at].fisher, noise)


def fitted(states, trained, designs, weights, start, at):
    """(theta, covariance of its difference from the best one) of the model of :func:`used_at`."""
    forces = {t: weights[t] * designs[t].T @ states[t].fisher for t in trained}
    metric = sum(forces[t] @ designs[t] for t in trained)
    inverse = pseudo_inverse(metric, np.diag(metric) > 0.0)
    parameters = start + inverse @ sum(
        forces[t] @ (states[t].best - designs[t] @ start) for t in trained
    )
    shares = {t: designs[at] @ inverse @ forces[t] for t in trained}
    shares[at] = shares.get(at, 0.0) - np.eye(len(states[at].best))
    noise = sum(share @ states[t].noise @ share.T for t, share in shares.items())
    return designs[at] @ parameters, noise


def orders_that(model, n_temperatures):
    """Parameters that a number of temperatures determines: as many orders of each term.

    Returns
    -------
    ndarray of bool, shape (n_params,)
    """
    return np.concatenate(
        [np.arange(t.n_orders * t.n_basis) // t.n_basis < n_temperatures for t in model.terms]
    )


def models(states, model, trained):
    """Models that could have been fitted to these samples, beside the one that was sampled.

    Parameters
    ----------
    states, model, trained
        As for :func:`matrix`.

    Returns
    -------
    list of (str, int, list of int, list of ndarray, ndarray)
        Name, state where it is used, states that it is fitted to, designs of all states, and the
        parameters from which directions stay that no state measures.
    """
    everyone, training = range(len(states)), np.flatnonzero(trained).tolist()
    if len(training) < 2:
        return []
    own = [model.design(s.temperature) for s in states]
    mean = np.mean([states[t].theta for t in training], axis=0)
    same, found = [np.eye(model.n_phi)] * len(states), []
    if max(term.n_orders for term in model.terms) > 1:  # else it is the joint one
        found += [("constant", s, training, same, mean) for s in everyone]
    found += [("joint", s, training, own, model.parameters) for s in everyone]
    groups = [("without", training)]
    if len(training) < len(states):
        groups.append(("others", list(everyone)))
    for name, members in groups:
        for s in everyone:
            rest = [t for t in members if t != s]
            known = orders_that(model, len({states[t].temperature for t in rest}))
            designs = [design * known for design in own]
            found.append((name, s, rest, designs, model.parameters * known))
    return found


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
        Of every state; those of untrained ones matter for "others" alone.

    Returns
    -------
    dict of dict
        By model ("T280 alone", ..., "constant": one potential for all temperatures; "joint": the
        terms of the model, fitted to these samples; "without": the same without the state where
        it is used; "others": the same, fitted to all other states, trained or not; "model": the
        parameters that were sampled) and by name of the state where it is used. Fitted to few
        temperatures, terms have no more orders than there are temperatures.
    """
    table = {}
    for alone in states:
        table[f"{alone.name} alone"] = {s.name: _alone(alone, s) for s in states}
    for name, s, chosen, designs, start in models(states, model, trained):
        row = table.setdefault(name, {})
        row[states[s].name] = used_at(states, chosen, designs, weights, start, s)
    table["model"] = {
        s.name: penalty(
            s.theta - s.best, s.fisher, noise_of_model(states, model, trained, weights, k)
        )
        for k, s in enumerate(states)
    }
    return table


def noise_of_model(states, model, trained, weights, at):
    """Covariance of the sampled coefficients' difference from the best ones of a state.

    Where the relative entropy at that state was minimised, the coefficients follow the noise of its
    reference, see the head of this module.

    Parameters
    ----------
    states, model, trained, weights
        As for :func:`matrix`.
    at : int

    Returns
    -------
    ndarray, shape (n_phi, n_phi)
    """
    own = states[at].noise
    if not trained[at] or model.extra.get("status") == "direct":  # no minimum of that entropy
        return own
    sources = [replace(s, noise=s.shared_noise) for s in states]
    designs = [model.design(s.temperature) for s in states]
    training = np.flatnonzero(trained).tolist()
    _, left = fitted(sources, training, designs, weights, model.parameters, at)
    return own - states[at].shared_noise + left


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
        Covariance of the difference of ``theta`` from the best coefficients of that state; default:
        that of the best ones.

    Returns
    -------
    (Penalty, float)
        With the bias and the null distribution of the local estimate; the least effective share
        of the samples of one state. Below ENOUGH the value is not to be trusted; it is 0 where the
        samples do not reach the minimum.
    """
    candidates = [(np.asarray(theta, float), noise)]
    return reweighted_all(states, at, candidates, pressure, reference, mixture)[0]


def reweighted_all(states, at, candidates, pressure, reference, mixture):
    """The same for several models: a list of (Penalty, float).

    Parameters
    ----------
    candidates : list of (ndarray, ndarray or None)
        ``theta`` and ``noise`` of :func:`reweighted`.
    """
    state = states[at]
    n_phi = len(state.best)
    factor = StateFactors(1.0, beta(state.temperature), np.eye(n_phi))
    means = reference.mean(axis=(0, 1))
    names = [(k, k) for k in range(len(mixture.ensembles))]
    objective = JointObjective([factor], [pressure], [means], [mixture], {id(mixture): names})
    one = min(e.n_samples for e in mixture.ensembles)
    free, enough = np.diag(state.fisher) > 0.0, [0.02 * one]
    start = _start(objective, state, enough[0])
    best = minimise(objective, start, free, np.zeros_like(state.fisher), 3.0, enough)
    there = objective.at(best.parameters)
    found = []
    thetas = [theta for theta, _ in candidates]
    batches = objective.difference_batches(best.parameters, thetas)
    sampling = np.diag(covariance_of(batches))
    for (theta, noise), variance in zip(candidates, sampling):
        here = objective.at(theta)
        local = penalty(theta - state.best, state.fisher, state.noise if noise is None else noise)
        slope = state.fisher @ (theta - state.best)
        extra = 0.0 if noise is None else slope @ (noise - state.noise) @ slope
        change = factor.beta * (theta - best.parameters)
        own = covariance_of_mean((reference[..., :-1] @ change)[..., None]).item()
        error = np.sqrt(max(variance + own + extra, variance))
        error = max(error, 0.5 * (local.bias + local.null) / 1.645)
        value = here.value - there.value - local.bias
        is_least = best.is_reached and here.value >= there.value - SETTLED
        share = min(here.states[0].n_effective, best.n_effective[0]) / one if is_least else 0.0
        found.append((replace(local, value=float(value), se=float(error)), float(share)))
    return found


def _start(objective, state, enough):
    """The lower of the best coefficients to second order and the sampled ones.

    The first may lie where no samples are: its value means nothing there, and steps from there
    lead nowhere.
    """
    there, here = objective.at(state.best), objective.at(state.theta)
    is_known = there.states[0].n_effective >= enough
    return state.best if is_known and there.value < here.value else state.theta
