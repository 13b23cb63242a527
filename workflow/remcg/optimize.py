"""One step of relative entropy minimisation over all training states, and its verdict.

A campaign starts in the *global* stage: sampling at the reference volumes, damped natural-gradient
steps in the non-volume parameters under a limit on the predicted Kullback-Leibler divergence, and
the volume term from the virial pressure. Where a full step would move the model by less than a
fraction of a nat, or short steps no longer shrink because noise makes them, the *local* stage
begins: every state in its own ensemble, and all parameters together go to the minimum of the
relative entropy as all stored samples show it (MBAR, :mod:`remcg.reweight`), or as far as these
samples reach.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import stats

from remcg import entropy, statistics, volumes
from remcg.convergence import allocate, convergence, noise_of_directions, pool
from remcg.core import held_by_walls, with_repulsive_core, without_shift
from remcg.identify import (
    choose_strength,
    curvature_penalty,
    effective_parameters,
    gradients_of_blocks,
    labelled,
    shortage,
)
from remcg.reweight import covariance_of
from remcg.spectrum import spectrum
from remcg.steps import minimise, natural_step
from remcg.stored import joint_objective
from remcg.uncertainty import sandwich
from remcg.units import BAR

LOCAL_KL = 0.2  # nats: a full step below this ends the global stage
LOCAL_STEP_KL = 3.0  # nats per step in the local stage; global ones as short must still shrink
REACH = 0.5  # of one iteration's samples: the effective number where samples still reach
MIN_COUNT = 10.0  # basis sums below this over all frames leave a function unsampled
GROWTH = 1.5  # of the undamped step, that shows too large a trust region
PHASE_KL = 100.0  # nats: a local step as large as this is one, too
FAR_KL, FAR_SHARE = 2.0, 0.25  # nats of a full step from where this share of the sampling will do
LEFT_TO_GAIN = 3.0  # times the divergence that noise causes: more is not converged
FOLD_IN_INEFFICIENCIES = 5  # length of a fold of the reference
MOST_FOLDS = 20
CHOSEN = ("effort", "smoothness")  # once, for the rest of a campaign


@dataclass(frozen=True)
class StateData:
    """All that the optimiser knows of one training state.

    Attributes
    ----------
    name : str
    temperature, pressure : float
        K; kJ/mol/nm^3 or None for a canonical state.
    weight : float
        w_s, dimensionless, summing to one over the states.
    n_molecules : int
    reference_phi : ndarray, shape (1, n_frames, n_phi)
    reference_volume : ndarray, shape (1, n_frames)
    phi : ndarray, shape (n_replicas, n_samples, n_phi)
    volume : ndarray, shape (n_replicas, n_samples), nm^3
    pressure_samples : ndarray, shape (n_replicas, n_samples)
        Virial pressure without the volume term, kJ/mol/nm^3.
    pressure_slopes : ndarray, shape (n_phi,)
        Mean derivative of that pressure with each coefficient at fixed configurations, nm^-3.
    composition : tuple
        Names and numbers of the sites: only boxes with the same ones can share samples.
    """

    name: str
    temperature: float
    pressure: float | None
    weight: float
    n_molecules: int
    reference_phi: np.ndarray
    reference_volume: np.ndarray
    phi: np.ndarray
    volume: np.ndarray
    pressure_samples: np.ndarray
    pressure_slopes: np.ndarray
    composition: tuple = ()


@dataclass(frozen=True)
class Observation:
    """What one iteration measured.

    Attributes
    ----------
    parameters, gradient : ndarray, shape (n_params,)
    metric : ndarray, shape (n_params, n_params)
        Fisher matrix that maps a small step to minus the change of the gradient.
    noise : ndarray, shape (n_params, n_params)
        Covariance of the gradient of one batch of model samples.
    reference_noise : ndarray, shape (n_params, n_params)
        Covariance of the gradient due to the finite reference.
    n_batches : int
        Of all replicas together; the same in every state.
    batch_lengths : ndarray, shape (n_states,)
        Samples per batch.
    stage : str
        "global", "local", or "abandoned" where a phase changed: its samples are not used again.
    full_step_kl : float
        Predicted divergence of the undamped step, nats.
    passed : bool
        The gradient vanished within the noise of the model's samples.
    phi, volume : tuple of ndarray
        The samples of each state, as in :class:`StateData`.
    """

    parameters: np.ndarray
    gradient: np.ndarray
    metric: np.ndarray
    noise: np.ndarray
    reference_noise: np.ndarray
    n_batches: int
    batch_lengths: np.ndarray
    stage: str
    full_step_kl: float = 0.0
    passed: bool = False
    phi: tuple = ()
    volume: tuple = ()


def update(model, data, stage, history, max_kl, confidence, smoothness=0.0, chosen=None):
    """The next model from the samples of this one and of those before.

    Parameters
    ----------
    model : Model
        The model that was sampled.
    data : list of StateData
    stage : str
        "global" (sampled at the reference volumes) or "local".
    history : list of Observation
        Of earlier iterations, oldest first.
    max_kl : float
        Largest predicted divergence of a global step, nats per state.
    confidence : float
        Of the convergence test.
    smoothness : float or "auto"
        Strength of the curvature penalty that is added to the relative entropy
        (:func:`remcg.identify.curvature_penalty`); "auto": by held-out likelihood, once, where the
        local stage begins.
    chosen : dict, optional
        Diagnostics of the last update: in the local stage ``effort`` (share of the sampling of
        each state, relative to the mean) and an automatic ``smoothness`` are chosen once.

    Returns
    -------
    (Model, Observation, dict)
        Next model; what was measured; diagnostics with ``verdict``, and ``stage``, ``restart``,
        ``effort`` and ``smoothness`` for the next iteration.
    """
    has_been_local = any(o.stage == "local" for o in history)
    chosen = {name: chosen[name] for name in CHOSEN if chosen and has_been_local and name in chosen}
    is_local = stage == "local"
    present, free = observe(model, data, stage), _sampled(model, data, is_local)
    counts = sum(d.reference_phi.sum(axis=(0, 1)) for d in data)
    if is_local:
        free &= ~held_by_walls(model, counts)
    else:
        free[volumes.parameters_of(model)] = False
    if is_local and volumes.have_left(data):
        return _back_to_reference(model, data, present, chosen)
    if is_local:
        chosen.setdefault("effort", _effort(model, data, present, free))
        if smoothness == "auto":
            chosen.setdefault("smoothness", _held_out_strength(model, data, present, free))
    penalty = penalty_of(model, chosen.get("smoothness", smoothness))
    ridge = scarcity(model, data)
    moves = without_shift(model, free, counts)
    step, full, more = (_local_step if is_local else _global_step)(
        model, data, present, history, free, moves, penalty, ridge, max_kl
    )
    if is_local and full > PHASE_KL:
        return _back_to_reference(model, data, present, chosen)
    near = pool(history, present, free) if is_local else [present]
    tests = _tests(model, present, near, free, moves, penalty, confidence)
    noise = 0.5 * float(noise_of_directions(present, free)[0].sum())
    states = _state_diagnostics(model, data)
    agrees = is_local and _agrees(states, data, more, confidence)
    passed = agrees and bool(tests) and all(map(_holds, tests.values()))
    converged = passed and bool(history) and history[-1].passed
    following = model.with_parameters(present.parameters + step)
    following = with_repulsive_core(following, [d.temperature for d in data], counts)
    unit, shrinks = min(1.0, max_kl), _shrinks(history, full)
    if not is_local:
        if "undone" not in more:
            following = volumes.virial_pressure_matched(following, data, model)
        share = FAR_SHARE if full > FAR_KL and shrinks else 1.0
        chosen["effort"] = dict.fromkeys(states, share)
    is_near = full <= max(LOCAL_KL * unit, 3.0 * noise)
    is_near |= full <= LOCAL_STEP_KL * unit and not shrinks
    diagnostics = {
        "verdict": "converged" if converged else "continue",
        "stage": "local" if is_local or is_near else "global",
        "restart": "previous",
        "predicted_kl": 0.5 * float(step @ present.metric @ step),
        "full_step_kl": full,
        "noise_kl": noise,
        "n_near": len(near),
        "n_free": int(free.sum()),
        "agrees": agrees,
        "passed": passed,
        "blocks": {name: test for name, test in tests.items() if name != "all"},
        "states": states,
        **tests.get("all", {}),
        **more,
        **chosen,
    }
    if penalty.any():
        diagnostics["p_eff"] = effective_parameters(present.metric, penalty, free)
    return following, replace(present, full_step_kl=full, passed=passed), diagnostics


def finish(model, data, observations, verdict, hashes, smoothness=0.0):
    """The last model with the covariance of its parameters, verdict and hashes of its inputs.

    Parameters
    ----------
    model : Model
    data : list of StateData
        With the samples of the last iteration.
    observations : list of Observation
        Of all iterations, oldest first.
    verdict : str
        Of the last update; "continue" at the limit of iterations means exhausted.
    hashes : dict
    smoothness : float
        Of the last update.
    """
    extra = {
        "status": "converged" if verdict == "converged" else "exhausted",
        "iterations": len(observations),
        "covariance": parameter_covariance(model, data, observations, smoothness),
        "inputs": hashes,
    }
    n_effective = sum(
        d.reference_phi.shape[1] / statistics.inefficiency(d.reference_phi) for d in data
    )
    metric = observations[-1].metric
    warning = shortage(n_effective, spectrum(metric, np.diag(metric) > 0.0).rank)
    if warning:
        extra["warnings"] = [warning]
    return model.with_parameters(model.parameters, **extra)


def parameter_covariance(model, data, observations, smoothness=0.0):
    r"""Covariance of the parameters, for a model that need not be true.

    .. math:: F^{-1} (C_{ref} + C_{model}) F^{-1}

    C are covariances of the gradient; that of the model counts all samples that MBAR weights. A
    penalty is part of F; the bias that it causes is not counted.

    References
    ----------
    White, Econometrica 50, 1 (1982).
    """
    last = observations[-1]
    metric, sampling = last.metric, last.noise / max(last.n_batches, 1)
    if last.stage == "local":
        objective = joint_objective(model, data, observations, "local")
        metric = objective.at(model.parameters).metric
        sampling = covariance_of(objective.gradient_batches(model.parameters))
    metric = metric + penalty_of(model, smoothness)
    free = np.diag(last.metric) > 0.0
    return sandwich(metric, last.reference_noise + sampling, free)


def weights(states, n_molecules):
    """Normalised weights per state: those of the config, per molecule, summing to one."""
    raw = np.array([state.weight for state in states]) / np.asarray(n_molecules, float)
    return raw / raw.sum()


def observe(model, data, stage):
    """Gradient, metric and noise from one iteration's samples."""
    factors = entropy.state_factors(model, data)
    reference = [d.reference_phi.mean(axis=(0, 1)) for d in data]
    lengths, n_batches = _batches(data)
    batches = [statistics.batch_means(d.phi, length) for d, length in zip(data, lengths)]
    gradients = entropy.gradient(factors, reference, [b[:n_batches] for b in batches])
    covariances = [entropy.covariance(d.phi) for d in data]
    if stage == "global":  # far away the mean of both ensembles is the better metric
        of_reference = [entropy.covariance(_reference_series(d, stage)) for d in data]
        covariances = [0.5 * (a + b) for a, b in zip(covariances, of_reference)]
    return Observation(
        parameters=model.parameters,
        gradient=entropy.gradient(factors, reference, [d.phi.mean(axis=(0, 1)) for d in data]),
        metric=entropy.fisher(factors, covariances),
        noise=np.atleast_2d(np.cov(gradients.T)) if n_batches > 1 else _zeros(model),
        reference_noise=entropy.gradient_covariance(
            factors, [statistics.covariance_of_mean(_reference_series(d, stage)) for d in data]
        ),
        n_batches=n_batches,
        batch_lengths=lengths,
        stage=stage,
        phi=tuple(d.phi for d in data),
        volume=tuple(d.volume for d in data),
    )


def _global_step(model, data, present, history, free, moves, penalty, ridge, max_kl):
    """(step, divergence of the undamped step, diagnostics) far from the minimum.

    Where the way to the minimum has become longer, the last step was too long: it is undone, and
    taken anew from there with a quarter of the trust region, which stays.
    """
    before = [o for o in history if o.stage == "global"]
    full = _damped(present, free, moves, penalty, ridge, max_kl)[2]
    trust = max_kl / 4 ** sum(b > GROWTH * a for a, b in pairwise([*_full_steps(before), full]))
    if before and full > max(GROWTH * before[-1].full_step_kl, max_kl):
        step, kl, _ = _damped(before[-1], free, moves, penalty, ridge, trust)
        step += before[-1].parameters - present.parameters
        return step, full, {"undone": True, "restart": "reference", "predicted_kl": kl}
    return _damped(present, free, moves, penalty, ridge, trust)[0], full, {}


def _shrinks(history, full):
    """Whether full steps of the global stage become shorter; those that noise makes do not."""
    before = _full_steps([o for o in history if o.stage == "global"])
    return not before or full < before[-1]


def _damped(observation, free, moves, penalty, ridge, max_kl):
    """Step from where an iteration sampled, see :func:`remcg.steps.natural_step`."""
    gradient = observation.gradient + penalty @ observation.parameters
    metric = observation.metric + penalty + ridge
    step, kl, full = natural_step(gradient, metric, free, max_kl, moves)
    return step, float(kl), float(full)


def scarcity(model, data):
    """Added to the metric of a step: the variance of MIN_COUNT for what a state hardly met.

    A function of which a state saw only the tail would have to change by many kT to matter there,
    and where another state knows it, orders in temperature let it.

    Returns
    -------
    ndarray, shape (n_params, n_params), (mol/kJ)^2
    """
    of_sites = np.ones(model.n_phi, bool)
    for term, rows in zip(model.terms, model.phi_slices):
        of_sites[rows] = term.kind != "volume"
    variances = []
    for d in data:
        series = [phi.reshape(-1, model.n_phi) for phi in (d.reference_phi, d.phi)]
        met = np.max([np.abs(phi).sum(axis=0) for phi in series], axis=0)
        n_frames = sum(len(phi) for phi in series)
        variances.append(np.where(of_sites & (met < MIN_COUNT), MIN_COUNT / n_frames, 0.0))
    return entropy.fisher(entropy.state_factors(model, data), [np.diag(v) for v in variances])


def _full_steps(observations):
    return [o.full_step_kl for o in observations]


def _local_step(model, data, present, history, free, moves, penalty, ridge, max_kl):
    """The same where samples of several iterations overlap."""
    objective = joint_objective(model, data, [*history, present], "local")
    enough = [REACH * d.volume.size for d in data]
    limit = min(LOCAL_STEP_KL, max_kl)
    found = minimise(objective, present.parameters, free, penalty, limit, enough, ridge, moves)
    step = found.parameters - present.parameters
    step *= volumes.step_limit(model, data, step)
    drop = objective.at(present.parameters).value - objective.at(present.parameters + step).value
    reference, sampling = (
        divergence(present.metric + penalty, noise, free)
        for noise in (
            present.reference_noise,
            covariance_of(objective.gradient_batches(present.parameters + step)),
        )
    )
    return (
        step,
        found.full_step_kl,
        {
            "n_inner": found.n_steps,
            "n_effective": {d.name: n for d, n in zip(data, found.n_effective)},
            "relative_entropy_drop": float(drop),
            "noise_kl_reference": reference,
            "noise_kl_sampling": sampling,
            "limited_by": "reference" if reference > sampling else "sampling",
        },
    )


def divergence(metric, noise, free):
    """Mean divergence from the minimum that noise of the gradient causes, nats."""
    axes = spectrum(metric, free).directions
    return 0.5 * float(np.einsum("ki,ij,kj->", axes, noise, axes))


def penalty_of(model, smoothness):
    """Curvature penalty of a strength, shape (n_params, n_params); none for 0 and "auto"."""
    strength = 0.0 if smoothness == "auto" else float(smoothness)
    return strength * curvature_penalty(model) if strength else np.zeros((model.n_params,) * 2)


def _held_out_strength(model, data, present, free):
    """Strength of the curvature penalty by held-out likelihood over blocks of the reference."""
    slowest = max(statistics.inefficiency(d.reference_phi) for d in data)
    shortest = min(d.reference_phi.shape[1] for d in data)
    n_blocks = int(np.clip(shortest / (FOLD_IN_INEFFICIENCIES * slowest), 2, MOST_FOLDS))
    gradients = gradients_of_blocks(
        entropy.state_factors(model, data),
        [d.reference_phi for d in data],
        [d.phi.mean(axis=(0, 1)) for d in data],
        n_blocks,
    )
    penalty = curvature_penalty(model)
    found = choose_strength(present.metric, penalty, gradients, free, present.parameters)
    return float(found.strength)


def _agrees(states, data, step, confidence):
    """Volume and pressure are the set ones within their noise, and no entropy is left to gain."""
    limit = stats.norm.isf(0.5 * (1.0 - confidence) / len(data))
    for d in data:
        if d.pressure is not None:
            of = states[d.name]
            gaps = (
                (of["volume"] - of["volume_reference"], of["volume_se"]),
                (of["pressure_bar"] - d.pressure / BAR, of["pressure_bar_se"]),
            )
            if any(abs(gap) > limit * error for gap, error in gaps):
                return False
    return step["relative_entropy_drop"] <= LEFT_TO_GAIN * step["noise_kl_sampling"]


def _tests(model, present, near, free, moves, penalty, confidence):
    """Convergence of all parameters and of each term, no bonded potential moving as a whole."""
    blocks = {"all": slice(None)}
    blocks |= {label: part for (label, _), part in zip(labelled(model), model.parameter_slices)}
    at = replace(present, gradient=present.gradient + penalty @ present.parameters)
    at, *near = (
        replace(
            o,
            gradient=moves.T @ o.gradient,
            metric=moves.T @ o.metric @ moves,
            noise=moves.T @ o.noise @ moves,
        )
        for o in (at, *near)
    )
    return convergence(at, near, free, blocks, confidence)


def _holds(test):
    return "chi2_per_dof" in test and test["chi2_per_dof"] <= test["threshold"]


def _effort(model, data, present, free):
    """Share of the sampling of each state, relative to the mean, by its noise in the parameters."""
    noise = [
        divergence(
            present.metric, entropy.gradient_covariance([f], [_covariance_of_batch(d)]), free
        )
        for f, d in zip(entropy.state_factors(model, data), data)
    ]
    return dict(zip([d.name for d in data], allocate(noise)))


def _covariance_of_batch(state):
    """Long-run covariance of the basis sums of one sample, from batch means."""
    length = _batches([state])[0][0]
    batches = statistics.batch_means(state.phi, length)
    return length * np.atleast_2d(np.cov(batches.T))


def _back_to_reference(model, data, present, chosen):
    """Undo a change of phase: to the reference, at its volumes, with the same pair terms."""
    diagnostics = {
        "verdict": "continue",
        "stage": "global",
        "restart": "reference",
        "predicted_kl": 0.0,
        "phase_change": True,
        "passed": False,
        "states": _state_diagnostics(model, data),
        **chosen,
    }
    left = replace(present, stage="abandoned")
    return volumes.virial_pressure_matched(model, data, model), left, diagnostics


def _reference_series(state, stage):
    """Basis sums of the reference; where the model has its mean volume, what is left of them."""
    phi = state.reference_phi
    deviation = state.reference_volume[0] - state.reference_volume.mean()
    if stage == "local" or deviation @ deviation <= len(deviation) * _still(state):
        return phi
    slopes = deviation @ (phi[0] - phi.mean(axis=(0, 1))) / (deviation @ deviation)
    return phi - deviation[:, None] * slopes


def _still(state):
    """Variance of the reference's volume below which it does not vary, nm^6."""
    return (1e-9 * state.reference_volume.mean()) ** 2


def _zeros(model):
    return np.zeros((model.n_params, model.n_params))


def _batches(data):
    """Samples per batch in each state, and the number of batches in every one.

    Batches are ten times as long as the inefficiency of the slowest basis sum, the estimates
    averaged over states.
    """
    slowest = np.mean([statistics.inefficiencies(d.phi) for d in data], axis=0).max()
    length = int(np.ceil(statistics.BATCH_IN_INEFFICIENCIES * slowest))
    shortest = min(d.phi.shape[1] for d in data)
    per_replica = max(shortest // length, min(2, shortest))
    n_replicas = min(d.phi.shape[0] for d in data)
    return np.array([d.phi.shape[1] // per_replica for d in data]), n_replicas * per_replica


def _sampled(model, data, is_local):
    """Parameters whose basis functions the model has met or, in the global stage, the reference.

    In the local stage the metric is that of the model's samples alone, which must know a function.
    """
    met = np.zeros(model.n_phi, bool)
    for d in data:
        for phi in (d.phi,) if is_local else (d.reference_phi, d.phi):
            met |= phi.sum(axis=(0, 1)) >= MIN_COUNT
    volume_moves = any(d.volume.std() > 1e-9 * d.volume.mean() for d in data)
    parts = []
    for term, rows in zip(model.terms, model.phi_slices):
        seen = np.full(term.n_basis, volume_moves) if term.kind == "volume" else met[rows]
        parts.append(np.tile(seen, term.n_orders))
    return np.concatenate(parts)


def _state_diagnostics(model, data):
    result = {}
    for d in data:
        volume, error = statistics.standard_error(d.volume)
        added = model.volume_pressure(d.volume, d.n_molecules, d.temperature)
        pressure, pressure_error = statistics.standard_error(d.pressure_samples + added)
        result[d.name] = {
            "volume": float(volume),
            "volume_se": float(error),
            "volume_reference": float(d.reference_volume.mean()),
            "pressure_bar": float(pressure / BAR),
            "pressure_bar_se": float(pressure_error / BAR),
        }
    return result
