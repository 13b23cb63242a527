r"""What a model would lose in structure, were its pressure right without a volume term.

Around the final model the relative entropy is quadratic and the pressure of the site terms at fixed
volume linear in the parameters, both from samples that exist already, so that the front of

.. math:: \min_\delta\; \tfrac12 \delta^T F \delta
          + \tfrac{\lambda}{2} \sum_s w_s \left(P_s + r_s^T D_s \delta - P_{set,s}\right)^2

over all weights lambda is linear algebra: in coordinates a with F = 1 and slopes R,

.. math:: a(\lambda) = -\lambda R^T (1 + \lambda R R^T)^{-1} x_0,

x being the deviations times the square root of w.
"""

import json
from dataclasses import dataclass

import numpy as np

from remcg import optimize
from remcg.consistency import pareto
from remcg.consistency.transferability import FAR
from remcg.ensembles import mean_levers
from remcg.spectrum import spectrum
from remcg.statistics import explained_by
from remcg.uncertainty import pressure_response, virial_pressure_slopes
from remcg.units import BAR, beta
from remcg.validate import write_table

N_POINTS = 41
N_BLOCKS = 5  # of each replica, for error bars
HEADER = [
    "point", "weight_1_bar2", "pressure_rms_bar", "pressure_rms_se", "nats_per_molecule",
    "nats_per_molecule_se", "is_local", "diffusion_ratio", "diffusion_ratio_se", "friction_1_ps",
]  # fmt: skip


@dataclass(frozen=True)
class Front:
    """Losses against pressures over weights, each array of shape (n_points,).

    Attributes
    ----------
    weights : ndarray
        lambda, 1/bar^2.
    pressure, pressure_se : ndarray
        Root mean square over states of the deviation of the site terms' pressure, bar.
    loss, loss_se : ndarray
        nats per molecule above the final model.
    is_local : ndarray of bool
        Near enough to the final model for the second order.
    kept : ndarray of int
        Points that no other one dominates.
    changes : ndarray, shape (n_points, n_params), kJ/mol
        Of the parameters of the final model.
    """

    weights: np.ndarray
    pressure: np.ndarray
    pressure_se: np.ndarray
    loss: np.ndarray
    loss_se: np.ndarray
    is_local: np.ndarray
    kept: np.ndarray
    changes: np.ndarray = None


def trade_off(model, states, targets, samples):
    """The front of a campaign, or None without a state at constant pressure or a minimum.

    Parameters
    ----------
    model : Model
        The final one, which the predictions sampled.
    states : sequence of remcg.config.State
    targets, samples : sequence of (dict, dict)
        Content of ``target/<state>.h5`` and ``predict/<state>.h5``.

    Returns
    -------
    Front or None
    """
    chosen = [k for k, s in enumerate(states) if s.use == "train" and s.pressure is not None]
    if not chosen or model.extra.get("status", "converged") != "converged":
        return None
    states = [states[k] for k in chosen]
    counts = [int(targets[k][1]["n_molecules"]) for k in chosen]
    weights = optimize.weights(states, counts)
    inputs = [(model, states[i], targets[k][1], samples[k]) for i, k in enumerate(chosen)]
    n_replicas = min(samples[k][0]["volume"].shape[0] for k in chosen)
    *whole, axes = _whitened(model, states, weights, [_state(*row) for row in inputs])
    lambdas = _weights_of(*whole)
    value = curve(*whole, lambdas)
    left_out = []
    for block in range(n_replicas * N_BLOCKS):
        parts = [_state(*row, block) for row in inputs]
        left_out.append(curve(*_whitened(model, states, weights, parts)[:2], lambdas))
    errors = np.std(left_out, axis=0) * np.sqrt(len(left_out) - 1)  # of a jackknife
    per_box = 1.0 / float(weights @ counts)
    return Front(
        lambdas,
        value[0],
        errors[0],
        value[1] * per_box,
        errors[1] * per_box,
        value[1] <= FAR,
        pareto.front(np.transpose(value)),
        np.array([solution(*whole, weight) @ axes for weight in lambdas]),
    )


def curve(slopes, deviations, weights):
    """(root mean square deviations in bar, losses in nats) of every weight, shape (2, n_weights).

    Parameters
    ----------
    slopes : ndarray, shape (n_states, rank), bar
        R, times the square root of the normalised weight of the state.
    deviations : ndarray, shape (n_states,), bar
        x_0, likewise.
    weights : ndarray, shape (n_weights,), 1/bar^2
    """
    rows = []
    for weight in weights:
        a = solution(slopes, deviations, weight)
        rows.append((np.linalg.norm(deviations + slopes @ a), 0.5 * a @ a))
    return np.transpose(rows)


def solution(slopes, deviations, weight):
    """Change along the measured directions that is best at one weight, shape (rank,)."""
    gram = slopes @ slopes.T
    return -weight * slopes.T @ np.linalg.solve(np.eye(len(gram)) + weight * gram, deviations)


def _state(model, state, attributes, sample, without=None):
    """(Fisher matrix and pressure slopes at fixed volume, deviation of the pressure), bar."""
    arrays, n = sample[0], int(attributes["n_molecules"])
    phi = model.basis_sums(arrays["site_sums"], arrays["volume"], n)
    pressure, volume = arrays["pressure"], arrays["volume"]
    if without is not None:
        phi, pressure, volume = (_without(x, without) for x in (phi, pressure, volume))
    fisher = beta(state.temperature) ** 2 * _covariance_at_volume(phi, volume)
    direct = virial_pressure_slopes(
        model,
        arrays["rdf_edges"],
        arrays["rdf_blocks"].mean(axis=(0, 1)),
        volume.mean(),
        json.loads(attributes["type_counts"]),
        mean_levers(arrays),
    )
    slopes = pressure_response(pressure, phi, state.temperature, direct, volume) / BAR
    return fisher, slopes, float(pressure.mean()) / BAR - state.pressure


def _without(x, block):
    """Samples of all replicas but one block of one of them, as one replica."""
    replica, part = divmod(block, N_BLOCKS)
    pieces = [list(np.array_split(row, N_BLOCKS)) for row in x]
    del pieces[replica][part]
    return np.concatenate([piece for row in pieces for piece in row])[None]


def _covariance_at_volume(phi, volume):
    """Covariance of what is left of basis sums after linear regression on the volume."""
    features = phi.reshape(-1, phi.shape[-1])
    features = features - features.mean(axis=0)
    features = features - explained_by(volume, features)
    return features.T @ features / (len(features) - 1)


def _whitened(model, states, weights, found):
    """Slopes along the measured directions and deviations, as :func:`curve` takes them, and these
    directions in parameters, shape (rank, n_params)."""
    of_sites = np.ones(model.n_params, bool)
    for term, part in zip(model.terms, model.parameter_slices):
        of_sites[part] = term.kind != "volume"
    designs = [model.design(state.temperature)[:, of_sites] for state in states]
    metric = sum(w * d.T @ row[0] @ d for w, d, row in zip(weights, designs, found))
    axes = spectrum(metric, np.diag(metric) > 0.0).directions
    roots = np.sqrt(weights / weights.sum())
    slopes = np.array([x * row[1] @ d @ axes.T for x, d, row in zip(roots, designs, found)])
    directions = np.zeros((len(axes), model.n_params))
    directions[:, of_sites] = axes
    return slopes, roots * np.array([row[2] for row in found]), directions


def _weights_of(slopes, deviations):
    """Weights from no influence on the pressure to all of it."""
    values = np.linalg.eigvalsh(slopes @ slopes.T)
    largest, smallest = values.max(), max(values.min(), 1e-6 * values.max())
    if largest <= 0.0:
        return np.zeros(1)
    return np.append(0.0, np.geomspace(0.01 / largest, 10.0 / smallest, N_POINTS - 1))


def points(model_row, guess_row=None):
    """Sampled models beside the front: name to (pressure, its error, loss, its error).

    Parameters
    ----------
    model_row, guess_row : (float, float, float, float)
        bar and nats per molecule.
    """
    found = {"model with its volume term": model_row}
    return found | ({"Boltzmann inversion": guess_row} if guess_row else {})


def write_front_table(path, front, marked, paces=()):
    """``consistency/pareto.tsv``: points of the front, then sampled models.

    ``paces``, :class:`remcg.consistency.pace.Pace`, are what some of them diffuse.
    """
    rows, motion = [], {(p.name, p.weight): [p.ratio, p.ratio_se, p.friction] for p in paces}
    if front is not None:
        columns = (front.weights, front.pressure, front.pressure_se, front.loss, front.loss_se)
        for row, is_local in zip(zip(*columns), front.is_local):
            own = motion.pop(("front", float(row[0])), [""] * 3)
            rows.append(["front", *row, "yes" if is_local else "no", *own])
    for name, row in marked.items():
        rows.append([name, "", *row, "", *motion.pop((name, None), [""] * 3)])
    rows += [[p.name, "", "", "", p.loss, p.loss_se, "", *motion[p.name, p.weight]] for p in paces
             if (p.name, p.weight) in motion]  # fmt: skip
    write_table(path, HEADER, rows)
