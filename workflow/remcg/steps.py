"""Natural-gradient steps, one by one and to the minimum that stored samples show."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from remcg.spectrum import spectrum

MOST_STEPS = 30
SETTLED, REST = 1e-6, 0.003  # nats, and part of the first step: a step below the larger is none
HALVINGS = 8


@dataclass(frozen=True)
class Minimum:
    """Where :func:`minimise` ended.

    Attributes
    ----------
    parameters : ndarray, shape (n_params,)
    full_step_kl : float
        Predicted divergence of the first step, had it not been damped, nats.
    n_steps : int
    n_effective : list of float
        Effective number of samples of each state there.
    is_reached : bool
        The minimum itself, not the end of what the samples reach.
    """

    parameters: np.ndarray
    full_step_kl: float
    n_steps: int
    n_effective: list
    is_reached: bool


def natural_step(gradient, metric, free, max_kl, moves=None):
    r"""Damped natural-gradient step within a trust region.

    .. math:: \delta = -P (P^T F P + \lambda\,\mathrm{diag}\,P^T F P)^{-1} P^T g, \qquad
              \tfrac12 \delta^T F \delta \le K_{max}

    Parameters
    ----------
    gradient : ndarray, shape (n_params,)
    metric : ndarray, shape (n_params, n_params)
    free : ndarray of bool, shape (n_params,)
    max_kl : float
        nats.
    moves : ndarray, shape (n_params, n_params), optional
        P, whose image are the steps that are allowed; default: all.

    Returns
    -------
    (ndarray, float, float)
        delta (n_params,), its predicted divergence and that of the undamped step, in nats.
    """
    if moves is not None:
        inner = moves.T @ gradient, moves.T @ metric @ moves
        step, kl, full = natural_step(*inner, free, max_kl)
        return moves @ step, kl, full
    found = spectrum(metric, free)
    slopes, values = found.directions @ gradient, found.values[: found.rank]

    def divergence(damping):
        return 0.5 * np.sum((slopes * values / (values + damping)) ** 2)

    full = divergence(0.0)
    damping = 0.0
    if full > max_kl:
        top = np.sqrt(full / max_kl) * values.max() * 10.0
        while divergence(top) > max_kl:
            top *= 10.0
        damping = brentq(lambda x: divergence(x) - max_kl, 0.0, top, rtol=1e-6)
    step = -found.directions.T @ (slopes * values / (values + damping))
    return step, divergence(damping), full


def minimise(objective, parameters, free, penalty, max_kl, enough, ridge=0.0, moves=None):
    """Natural-gradient steps on a reweighted objective, as far as its samples reach.

    A step that would lead uphill, or where a state has fewer effective samples than ``enough``, is
    shortened; the next starts from there, with the metric of there. It ends where steps have become
    nothing: in the minimum, or where what is beyond must be sampled first.

    Parameters
    ----------
    objective : remcg.entropy.JointObjective
    parameters : ndarray, shape (n_params,)
    free : ndarray of bool, shape (n_params,)
    penalty : ndarray, shape (n_params, n_params)
        R of the added p R p/2.
    max_kl : float
        Trust region of each step, nats.
    enough : sequence of float
        Per state.
    ridge : ndarray, shape (n_params, n_params)
        Added to the metric of every step.
    moves : ndarray, shape (n_params, n_params), optional
        Of :func:`natural_step`.

    Returns
    -------
    Minimum
    """
    here, first, n_steps = objective.at(parameters), None, 0
    for _ in range(MOST_STEPS):
        gradient = here.gradient + penalty @ parameters
        metric = here.metric + penalty + ridge
        step, kl, full = natural_step(gradient, metric, free, max_kl, moves)
        first = full if first is None else first
        n_steps += 1
        value = here.value + 0.5 * parameters @ penalty @ parameters
        is_reached = True
        for _ in range(HALVINGS):
            trial = parameters + step
            there = objective.at(trial)
            reaches = all(s.n_effective >= n for s, n in zip(there.states, enough))
            if reaches and there.value + 0.5 * trial @ penalty @ trial <= value:
                parameters, here = trial, there
                break
            is_reached = is_reached and reaches
            step, kl = 0.5 * step, 0.25 * kl
        else:  # no descent left in double precision, or none that the samples reach
            kl = 0.0
        if kl < max(SETTLED, REST * first):
            break
    n_effective = [s.n_effective for s in here.states]
    return Minimum(parameters, float(first), n_steps, n_effective, is_reached)
