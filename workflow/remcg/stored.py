"""All stored samples that overlap, as one objective, and its value along the iterations."""

from itertools import pairwise

import numpy as np

from remcg.entropy import (
    JointObjective,
    coefficients,
    covariance,
    fisher,
    gradient,
    state_factors,
)
from remcg.reweight import Ensemble, Mixture, covariance_of
from remcg.statistics import covariance_of_mean, effective_number

SHARED = 0.02  # effective fraction of one state's samples in the next: both go into one mixture
MOST_STATES = 8  # that share one mixture, whose cost grows with the square of its ensembles
MANY_STATES, MOST_OF_MANY = 32, 2  # with more training states than that, so many share one
MOST_ITERATIONS = 24  # whose samples are used, the last ones
LEAST_OVERLAP = 0.03  # of neighbours, for free energy differences with reliable errors


def joint_objective(model, data, observations, stage):
    """The joint relative entropy from the samples of several iterations.

    Samples of one state at its own pressure and at the reference's volume do not mix: of a state
    with a pressure only the iterations of this ``stage`` count.

    Parameters
    ----------
    model : Model
        For its terms; the parameters are those of the observations.
    data : list of remcg.optimize.StateData
    observations : list of remcg.optimize.Observation
        Oldest first; the last one is of this stage.
    stage : str

    Returns
    -------
    remcg.entropy.JointObjective
    """
    factors = state_factors(model, data)
    pressures = [_pressure(d, stage) for d in data]
    used = observations[-MOST_ITERATIONS:]
    sampled = [coefficients(factors, pressures, o.parameters) for o in used]
    mixtures, labels = [None] * len(data), {}
    for group in _groups(data, sampled[-1], observations[-1], stage):
        ensembles, members = [], []
        for turn, s in enumerate(group):
            own = [k for k, o in enumerate(used) if o.stage == stage or data[s].pressure is None]
            for k in own[:: -1 if turn % 2 else 1]:  # so that neighbours overlap
                features, n_batches = _features(used[k], s), _batches(used[k], s)
                ensembles.append(Ensemble(sampled[k][s], features, n_batches))
                members.append((k, s))
        mixture = Mixture(ensembles)
        labels[id(mixture)] = members
        for s in group:
            mixtures[s] = mixture
    references = [_reference(model, d, stage) for d in data]
    return JointObjective(factors, pressures, references, mixtures, labels)


def relative_entropy_path(model, data, observations):
    r"""The joint relative entropy of every iteration's model, above the last one of its stage.

    By MBAR over the samples of the stage where neighbouring iterations overlap; across a gap, and
    throughout as a check, by thermodynamic integration of the gradients that each iteration
    measured (trapezoidal rule with the end correction by the Fisher matrices; its discretisation
    is not in the error). The local stage ends at ``model``.

    Parameters
    ----------
    model : Model
        The last one.
    data : list of remcg.optimize.StateData
    observations : list of remcg.optimize.Observation
        Of all iterations, oldest first.

    Returns
    -------
    list of dict
        iteration, stage, nats_per_molecule, se, integrated (nats per molecule), and overlap with
        the next iteration: the least share, over states, of samples that might as well be its.
    """
    rows = []
    per_molecule = 1.0 / sum(d.weight * d.n_molecules for d in data)
    for stage in ("global", "local"):
        own = [(k, o) for k, o in enumerate(observations) if o.stage == stage]
        own = own[-MOST_ITERATIONS:]
        if own:
            columns = _stage_path(model, data, [o for _, o in own], stage)
            for (k, _), value, error, line, overlap in zip(own, *columns):
                rows.append(
                    {
                        "iteration": k,
                        "stage": stage,
                        "nats_per_molecule": float(value * per_molecule),
                        "se": float(error * per_molecule),
                        "integrated": float(line * per_molecule),
                        "overlap": float(overlap),
                    }
                )
    return rows


def _stage_path(model, data, observations, stage):
    """Values, errors, integrated values (nats) and overlaps of the iterations of one stage."""
    objective = joint_objective(model, data, observations, stage)
    points = [o.parameters for o in observations]
    end = model.parameters if stage == "local" else points[-1]
    values = np.array([objective.at(p).value for p in points]) - objective.at(end).value
    batches = objective.difference_batches(end, points)
    noise = covariance_of(batches)
    overlaps = np.append(_overlaps(objective, len(points)), 1.0)
    links = _integrated_links(objective, observations)
    result, variance, line = values.copy(), np.diag(noise).copy(), values.copy()
    joined = True
    for k in reversed(range(len(points) - 1)):
        joined = joined and overlaps[k] >= LEAST_OVERLAP
        line[k] = line[k + 1] + links[k][0]
        if not joined:
            drop, own = links[k]
            if overlaps[k] >= LEAST_OVERLAP:
                drop = values[k] - values[k + 1]
                own = noise[k, k] + noise[k + 1, k + 1] - 2.0 * noise[k, k + 1]
            result[k], variance[k] = result[k + 1] + drop, variance[k + 1] + own
    variance += [_reference_variance(objective, data, end, p) for p in points]
    return result, np.sqrt(np.maximum(variance, 0.0)), line, overlaps


def _reference_variance(objective, data, start, end):
    """Variance of the reference's part of J(end) - J(start)."""
    change = [b - a for a, b in zip(objective.coefficients(start), objective.coefficients(end))]
    return sum(
        d.weight**2 * covariance_of_mean((d.reference_phi @ c[:-1])[..., None]).item()
        for d, c in zip(data, change)
    )


def _integrated_links(objective, observations):
    """(J of an iteration minus J of the next, its variance) from the gradients of both."""
    measured = []
    for o in observations:
        means = [phi.mean(axis=(0, 1)) for phi in o.phi]
        references = [reference[:-1] for reference in objective.references]
        slope = gradient(objective.states, references, means)
        metric = fisher(objective.states, [covariance(phi) for phi in o.phi])
        measured.append((o.parameters, slope, metric, o.noise / max(o.n_batches, 1)))
    links = []
    for (p, g, metric, noise), (q, g2, metric2, noise2) in pairwise(measured):
        step = q - p
        rise = 0.5 * (g + g2) @ step + step @ (metric - metric2) @ step / 12.0
        links.append((-rise, 0.25 * step @ (noise + noise2) @ step))
    return links


def _overlaps(objective, n):
    """Least overlap over states between neighbouring iterations, shape (n - 1,)."""
    result = np.ones(max(n - 1, 0))
    for mixture in {id(m): m for m in objective.mixtures}.values():
        shared = mixture.overlap()
        places = {label: i for i, label in enumerate(objective.labels[id(mixture)])}
        for (k, s), i in places.items():
            if (k + 1, s) in places:
                result[k] = min(result[k], shared[i, places[k + 1, s]])
    return result


def _reference(model, state, stage):
    """Mean features of the reference; where the volume is fixed, that of the samples."""
    result = np.append(state.reference_phi.mean(axis=(0, 1)), state.reference_volume.mean())
    if state.pressure is None or stage == "global":
        result[-1] = state.volume.mean()
        for term, rows in zip(model.terms, model.phi_slices):
            if term.kind == "volume":
                result[rows] = state.phi[..., rows].mean(axis=(0, 1))
    return result


def _pressure(state, stage):
    return state.pressure if stage == "local" and state.pressure is not None else 0.0


def _features(observation, s):
    return np.concatenate([observation.phi[s], observation.volume[s][..., None]], axis=-1)


def _batches(observation, s):
    """Batches of each replica."""
    return max(observation.n_batches // observation.phi[s].shape[0], 1)


def _groups(data, coefficients, last, stage):
    """Indices of the states that share a mixture: neighbours in (T, P) whose samples overlap."""
    order = sorted(range(len(data)), key=lambda s: (_space(data[s], stage), data[s].temperature))
    most = MOST_STATES if len(data) <= MANY_STATES else MOST_OF_MANY
    groups = [[order[0]]]
    for before, s in pairwise(order):
        same = _space(data[before], stage) == _space(data[s], stage)
        if (
            same
            and len(groups[-1]) < most
            and SHARED
            <= min(
                _shared(_features(last, before), coefficients[s] - coefficients[before]),
                _shared(_features(last, s), coefficients[before] - coefficients[s]),
            )
        ):
            groups[-1].append(s)
        else:
            groups.append([s])
    return groups


def _space(state, stage):
    """States can share samples if they have the same sites and, in NVT, the same volume."""
    volume = 0.0
    if state.pressure is None or stage == "global":
        volume = float(f"{state.volume.mean():.9g}")
    return (state.composition, state.n_molecules, volume)


def _shared(features, change):
    """Effective fraction of samples when the coefficients change."""
    exponents = -features.reshape(-1, features.shape[-1]) @ change
    return effective_number(exponents) / len(exponents)
