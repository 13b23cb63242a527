"""One step of relative entropy minimisation over all training states, and its verdict.

A campaign starts in the *global* stage: sampling at the reference volumes, damped natural-gradient
steps in the non-volume parameters under a limit on the predicted Kullback-Leibler divergence, and
the volume term from the virial pressure. Where a full step would move the model by less than a
fraction of a nat, the *local* stage begins: every state in its own ensemble, all parameters
together, and the step from all iterations near the present one (each is a noisy linear measurement
of the minimum), so that noise averages out instead of being chased.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.optimize import brentq

from remcg import entropy, statistics
from remcg.units import BAR, beta

LOCAL_KL = 0.2  # nats: a full step below this ends the global stage
POOL_REACH = 0.25  # standard deviations of the features: linear response holds well
POOL_NOISE = 4.0  # standard errors: farther away is not noise
LOCAL_STEP_KL = 3.0  # nats per step in the local stage
RESOLVED = 1e-7  # smallest eigenvalue of the correlation matrix that counts as measured
MIN_COUNT = 10.0  # basis sums below this over all frames leave a function unsampled
GROWTH = 1.5  # of the undamped step, that shows too large a trust region
PHASE_CHANGE = 0.1  # relative deviation of the volume that is a change of phase
FRAMES_PER_DIRECTION = 5
LEAST_RANK = 4  # directions that a verdict must have looked at, where there are as many


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


@dataclass(frozen=True)
class Observation:
    """The joint gradient and metric that one iteration measured.

    Attributes
    ----------
    parameters, gradient : ndarray, shape (n_params,)
    metric : ndarray, shape (n_params, n_params)
        Fisher matrix that maps a small step to minus the change of the gradient.
    noise : ndarray, shape (n_params, n_params)
        Covariance of the gradient of one batch of model samples.
    reference_noise : ndarray, shape (n_params, n_params)
        Covariance of the gradient due to the finite reference.
    n_batches, batch_length : int
    stage : str
        "global" or "local".
    full_step_kl : float
        Predicted divergence of the undamped step, nats.
    passed : bool
        The gradient vanished within the noise of the model's samples.
    """

    parameters: np.ndarray
    gradient: np.ndarray
    metric: np.ndarray
    noise: np.ndarray
    reference_noise: np.ndarray
    n_batches: int
    batch_length: int
    stage: str
    full_step_kl: float = 0.0
    passed: bool = False


def natural_step(gradient, metric, free, max_kl):
    r"""Damped natural-gradient step within a trust region.

    .. math:: \delta = -(F + \lambda\,\mathrm{diag} F)^{-1} g, \qquad
              \tfrac12 \delta^T F \delta \le K_{max}

    Parameters
    ----------
    gradient : ndarray, shape (n_params,)
    metric : ndarray, shape (n_params, n_params)
    free : ndarray of bool, shape (n_params,)
    max_kl : float
        nats.

    Returns
    -------
    (ndarray, float, float)
        delta (n_params,), its predicted divergence and that of the undamped step, in nats.
    """
    scale, values, vectors = _spectrum(metric, free)
    components = vectors.T @ (gradient[free] / scale)

    def divergence(damping):
        return 0.5 * np.sum(values * (components / (values + damping)) ** 2)

    full = divergence(0.0)
    damping = 0.0
    if full > max_kl:
        top = np.sqrt(full / max_kl) * values.max() * 10.0
        while divergence(top) > max_kl:
            top *= 10.0
        damping = brentq(lambda x: divergence(x) - max_kl, 0.0, top, rtol=1e-6)
    delta = np.zeros_like(gradient)
    delta[free] = -(vectors @ (components / (values + damping))) / scale
    return delta, divergence(damping), full


def pooled_gradient(observations, parameters):
    """Mean gradient and metric at ``parameters`` from linear measurements elsewhere."""
    metric = np.mean([o.metric for o in observations], axis=0)
    gradients = [o.gradient + o.metric @ (parameters - o.parameters) for o in observations]
    return np.mean(gradients, axis=0), metric


def noise_of_directions(observation, free):
    r"""Variance that the model's sampling noise gives each direction of the minimum.

    In units where the Fisher matrix is one: of the step -F^{-1} g along the metric's eigenvectors;
    half their sum is the divergence that noise alone causes, in nats.

    Returns
    -------
    (ndarray, ndarray)
        Variances (n_directions,), and the map from a step to these units (n_directions, n_params).
    """
    scale, values, vectors = _spectrum(observation.metric, free)
    noise = observation.noise[np.ix_(free, free)] / np.outer(scale, scale)
    spread = np.einsum("ki,kl,li->i", vectors, noise, vectors) / max(observation.n_batches, 1)
    whiten = np.zeros((len(values), len(free)))
    whiten[:, free] = (vectors * np.sqrt(values)).T * scale
    return spread / values, whiten


def pool(history, present, free):
    """Local observations near enough to the present one to be linear, itself included.

    Near means that along no direction the features move by more than POOL_REACH of their own
    deviation, or than the noise of two iterations explains.
    """
    variances, whiten = noise_of_directions(present, free)
    reach = np.maximum(POOL_REACH, POOL_NOISE * np.sqrt(2.0 * variances))
    near = []
    for other in history:
        step = whiten @ (other.parameters - present.parameters)
        if other.stage == "local" and np.all(np.abs(step) <= reach):
            near.append(other)
    return [*near, present]


def recent(near):
    """The later half: what the earlier ones still hold of the way to the minimum is forgotten."""
    return near[len(near) // 2 :]


def convergence(present, near, free, blocks, confidence):
    """Test, for all parameters and per block, that the gradient vanishes.

    The covariance is that of batches of model samples, pooled over the iterations ``near``; the
    reference does not enter, because the parameters are fitted to these very frames. The test
    looks at as many directions (the stiffest first) as the batches resolve.

    Returns
    -------
    dict
        Per block: rank, n_batches, chi2_per_dof, threshold; the last two are missing, and with
        them a verdict, where the batches are too few.
    """
    dof = sum(o.n_batches - 1 for o in near)
    batch = sum((o.n_batches - 1) * o.batch_length * o.noise for o in near)
    batch = batch / (max(dof, 1) * present.batch_length)
    results = {}
    for name, part in blocks.items():
        chosen = np.zeros_like(free)
        chosen[part] = free[part]
        if not chosen.any():
            continue
        scale, values, vectors = _spectrum(present.metric, chosen)
        rank = min(len(values), dof // FRAMES_PER_DIRECTION)
        results[name] = {"rank": rank, "n_batches": dof}
        if rank >= min(len(values), LEAST_RANK):
            directions = vectors[:, ::-1][:, :rank] / scale[:, None]
            mean = directions.T @ present.gradient[chosen]
            noise = directions.T @ batch[np.ix_(chosen, chosen)] @ directions
            value, threshold = statistics.hotelling(mean, noise, present.n_batches, dof, confidence)
            results[name].update(chi2_per_dof=float(value), threshold=float(threshold))
    return results


def update(model, data, stage, history, max_kl, confidence):
    """The next model from the samples of this one.

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

    Returns
    -------
    (Model, Observation, dict)
        Next model; what was measured; diagnostics with ``verdict``, ``stage`` and ``restart`` for
        the next iteration.
    """
    factors = state_factors(model, data)
    present = observe(model, data, factors, stage)
    free = _sampled(model, data)
    diagnostics = {"states": _state_diagnostics(model, data)}
    if stage == "local" and _phase_changed(data):
        diagnostics.update(verdict="continue", stage="global", restart="reference", predicted_kl=0)
        diagnostics["phase_change"] = True
        return _with_virial_pressure(model, data, model), present, diagnostics
    if stage == "global":
        free[_volume_part(model)] = False
        near, gradient, metric = [present], present.gradient, present.metric
        limit = _trust(history, max_kl)
    else:
        near = pool(history, present, free)
        gradient, metric = pooled_gradient(recent(near), present.parameters)
        limit = min(LOCAL_STEP_KL, max_kl)
    delta, kl, full = natural_step(gradient, metric, free, limit)
    shrink = _volume_limit(model, data, delta) if stage == "local" else 1.0
    blocks = {"all": slice(None)}
    blocks |= {term.name: part for term, part in zip(model.terms, model.parameter_slices)}
    tests = convergence(present, near, free, blocks, confidence)
    passed = bool(tests) and all(
        "chi2_per_dof" in t and t["chi2_per_dof"] <= t["threshold"] for t in tests.values()
    )
    following = model.with_parameters(model.parameters + shrink * delta)
    if stage == "global":
        following = _with_virial_pressure(following, data, model)
    is_local = stage == "local"
    converged = is_local and passed and bool(history) and history[-1].passed
    present = replace(present, full_step_kl=float(full), passed=is_local and passed)
    noise = 0.5 * float(noise_of_directions(present, free)[0].sum())
    is_near = full <= max(LOCAL_KL * min(1.0, max_kl), 3.0 * noise)
    diagnostics.update(
        verdict="converged" if converged else "continue",
        stage="local" if is_local or is_near else "global",
        restart="previous",
        predicted_kl=float(kl * shrink**2),
        full_step_kl=float(full),
        noise_kl=noise,
        n_pooled=len(recent(near)),
        n_free=int(free.sum()),
        passed=passed,
        blocks={name: test for name, test in tests.items() if name != "all"},
        **tests.get("all", {}),
    )
    return following, present, diagnostics


def state_factors(model, data):
    """Weight, beta and design matrix of each state."""
    return [
        entropy.StateFactors(d.weight, beta(d.temperature), model.design(d.temperature))
        for d in data
    ]


def weights(states, n_molecules):
    """Normalised weights per state: those of the config, per molecule, summing to one."""
    raw = np.array([state.weight for state in states]) / np.asarray(n_molecules, float)
    return raw / raw.sum()


def observe(model, data, factors, stage):
    """Gradient, metric and noise from one iteration's samples."""
    reference = [d.reference_phi.mean(axis=(0, 1)) for d in data]
    length = _batch_length(data)
    n_batches = min(d.phi.shape[0] * (d.phi.shape[1] // length) for d in data)
    batches = [statistics.batch_means(d.phi, length)[:n_batches] for d in data]
    gradients = entropy.gradient(factors, reference, batches)
    covariances = [entropy.covariance(d.phi) for d in data]
    if stage == "global":  # far away the mean of both ensembles is the better metric
        covariances = [0.5 * (c + _at_fixed_volume(d)) for c, d in zip(covariances, data)]
    return Observation(
        parameters=model.parameters,
        gradient=entropy.gradient(factors, reference, [d.phi.mean(axis=(0, 1)) for d in data]),
        metric=entropy.fisher(factors, covariances),
        noise=np.atleast_2d(np.cov(gradients.T)) if n_batches > 1 else _zeros(model),
        reference_noise=entropy.gradient_covariance(
            factors, [_covariance_of_mean(d.reference_phi) for d in data]
        ),
        n_batches=n_batches,
        batch_length=length,
        stage=stage,
    )


def parameter_covariance(observations, free):
    r"""Covariance of the pooled parameters, for a model that need not be true.

    .. math:: F^{-1} (C_{ref}/n_{ref} + C_{model}/n_{model}) F^{-1}

    References
    ----------
    White, Econometrica 50, 1 (1982).
    """
    metric = np.mean([o.metric for o in observations], axis=0)
    sampling = np.mean([o.noise / o.n_batches for o in observations], axis=0) / len(observations)
    noise = observations[-1].reference_noise + sampling
    scale, values, vectors = _spectrum(metric, free)
    inverse = (vectors / values) @ vectors.T / np.outer(scale, scale)
    result = np.zeros_like(metric)
    result[np.ix_(free, free)] = inverse @ noise[np.ix_(free, free)] @ inverse
    return result


def finish(model, observations, verdict, hashes):
    """The last model with the covariance of its parameters, verdict and hashes of its inputs.

    Parameters
    ----------
    model : Model
    observations : list of Observation
        Of all iterations, oldest first.
    verdict : str
        Of the last update; "continue" at the limit of iterations means exhausted.
    hashes : dict
    """
    free = np.diag(observations[-1].metric) > 0.0
    near = recent(pool(observations[:-1], observations[-1], free))
    covariance = parameter_covariance(near, free)
    return model.with_parameters(
        model.parameters,
        status="converged" if verdict == "converged" else "exhausted",
        iterations=len(observations),
        covariance=covariance,
        inputs=hashes,
    )


def _spectrum(metric, free):
    """Scale and resolved eigenpairs (ascending) of the metric's correlation matrix."""
    scale = np.sqrt(np.diag(metric)[free])
    values, vectors = np.linalg.eigh(metric[np.ix_(free, free)] / np.outer(scale, scale))
    resolved = values > RESOLVED * values[-1]
    return scale, values[resolved], vectors[:, resolved]


def _zeros(model):
    return np.zeros((model.n_params, model.n_params))


def _batch_length(data):
    """Ten times the inefficiency of the slowest basis sum, the estimates averaged over states."""
    slowest = np.mean([statistics.inefficiencies(d.phi) for d in data], axis=0).max()
    longest = max(min(d.phi.shape[1] for d in data) // 2, 1)
    return min(int(np.ceil(statistics.BATCH_IN_INEFFICIENCIES * slowest)), longest)


def _covariance_of_mean(phi):
    g = statistics.inefficiency(phi)
    return entropy.covariance(phi) * g / (phi.shape[0] * phi.shape[1])


def _at_fixed_volume(state):
    phi, volume = state.reference_phi[0], state.reference_volume[0]
    deviation = volume - volume.mean()
    cross = deviation @ (phi - phi.mean(axis=0)) / max(len(phi) - 1, 1)
    variance = deviation @ deviation / max(len(phi) - 1, 1)
    if variance <= (1e-9 * volume.mean()) ** 2:
        variance = 0.0
    return entropy.at_fixed_volume(entropy.covariance(state.reference_phi), cross, variance)


def _sampled(model, data):
    """Parameters whose basis functions were met in the reference or by the model."""
    met = np.zeros(model.n_phi, bool)
    for d in data:
        for phi in (d.reference_phi, d.phi):
            met |= phi.sum(axis=(0, 1)) >= MIN_COUNT
    volume_moves = any(d.volume.std() > 1e-9 * d.volume.mean() for d in data)
    parts = []
    for term, rows in zip(model.terms, model.phi_slices):
        seen = np.full(term.n_basis, volume_moves) if term.kind == "volume" else met[rows]
        parts.append(np.tile(seen, term.n_orders))
    return np.concatenate(parts)


def _volume_part(model):
    for term, part in zip(model.terms, model.parameter_slices):
        if term.kind == "volume":
            return part
    return slice(0, 0)


def _with_virial_pressure(model, data, sampled):
    """psi_1(T) such that virial pressure and volume term together give the set pressure.

    The virial pressure was measured with the model ``sampled``; its change with the step is that
    of linear response, because directions that hardly change the structure change it by a lot.
    """
    states = [d for d in data if d.pressure is not None]
    if model.volume_term is None or not states:
        return model
    missing = []
    for d in states:
        step = model.theta(d.temperature) - sampled.theta(d.temperature)
        response = d.pressure_slopes - beta(d.temperature) * _pressure_covariance(d)
        missing.append(d.pressure - _pressure(model, d) - response @ step)
    return model.with_added_pressure([d.temperature for d in states], missing)


def _pressure_covariance(state):
    """Covariance of the virial pressure with every basis sum, shape (n_phi,)."""
    phi = state.phi.reshape(-1, state.phi.shape[-1])
    pressure = state.pressure_samples.ravel()
    return (pressure - pressure.mean()) @ (phi - phi.mean(axis=0)) / len(phi)


def _pressure(model, state):
    """Mean pressure of a state's samples with the volume term, kJ/mol/nm^3."""
    added = model.volume_pressure(state.volume.mean(), state.n_molecules, state.temperature)
    return state.pressure_samples.mean() + added


def _volume_limit(model, data, delta):
    """Factor <= 1 that keeps a step near what the volumes were sampled at.

    Every mean volume moves by at most one standard deviation, and no state loses more than half
    of its stiffness kT/Var(V): below zero there is no liquid.
    """
    factor = 1.0
    change = model.with_parameters(delta)
    for d in data:
        volume = d.volume.ravel()
        deviation, sigma = volume - volume.mean(), volume.std()
        if sigma > 1e-9 * volume.mean():
            phi = d.phi.reshape(len(volume), -1)
            response = deviation @ phi / len(volume)
            shift = -beta(d.temperature) * response @ change.theta(d.temperature)
            curvature = 2.0 * change.psi(d.temperature)[1] / (d.n_molecules * model.v0**2)
            allowed = 0.5 / (beta(d.temperature) * sigma**2)
            excess = max(abs(shift) / sigma, -curvature / allowed, 1.0)
            factor = min(factor, 1.0 / excess)
    return factor


def _phase_changed(data):
    return any(abs(d.volume.mean() / d.reference_volume.mean() - 1.0) > PHASE_CHANGE for d in data)


def _trust(history, max_kl):
    """Trust region of a global step: a quarter for each time that the full step has grown."""
    steps = [o.full_step_kl for o in history if o.stage == "global"]
    return max_kl / 4 ** sum(b > GROWTH * a for a, b in pairwise(steps))


def _state_diagnostics(model, data):
    result = {}
    for d in data:
        volume, error = statistics.standard_error(d.volume)
        result[d.name] = {
            "volume": float(volume),
            "volume_se": float(error),
            "volume_reference": float(d.reference_volume.mean()),
            "pressure_bar": float(_pressure(model, d) / BAR),
        }
    return result
