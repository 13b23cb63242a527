r"""What relative entropy minimisation is compared with: four other ways from samples to a model.

All of them work on the same basis sums phi, RDFs and volumes as :mod:`remcg.optimize`, sample at
the reference volumes, and take psi_1 from the virial pressure.

- ``imc``, inverse Monte Carlo: the undamped Newton step :math:`\delta = -F^{-1} g` of the relative
  entropy. With a histogram as basis these are the equations of Lyubartsev and Laaksonen.
- ``ibi``, iterative Boltzmann inversion: :math:`\delta U = kT \ln(g/g_{ref})`, each pair of types
  by itself. Projected to the basis with pair counts as weights, this is the same Newton step with
  the covariance that uncorrelated pairs would have, so that both end where g = g_ref.
- ``force_matching``: least squares between the model's forces and those on the reference's sites.
- ``boltzmann``: :math:`U = -kT \ln g_{ref}`, the guess itself.
"""

import json
from dataclasses import dataclass, replace

import numpy as np

from remcg import entropy, optimize, volumes
from remcg.convergence import noise_of_directions
from remcg.core import CORE_SLOPE, places
from remcg.errors import InputError
from remcg.guess import fitted, pair_counts, with_pressure
from remcg.io import read_h5
from remcg.optimize import MIN_COUNT
from remcg.steps import natural_step
from remcg.units import BAR, KB, beta
from remcg.validate import rdf_errors, rdf_pairs

PSEUDO_COUNT = 0.5  # pairs added to each bin, so that the logarithm of an empty one is finite
NOISE = 2.0  # times the mean divergence that noise alone causes


@dataclass(frozen=True)
class Rdfs:
    """g(r) of reference and model in one state, on the same bins.

    Attributes
    ----------
    pairs : dict
        Pair name to :class:`remcg.validate.RdfPair`.
    n_reference, n_model : int
        Frames.
    volume : float
        Mean of the reference, nm^3.
    type_counts : dict
        Number of sites of each type.
    """

    pairs: dict
    n_reference: int
    n_model: int
    volume: float
    type_counts: dict

    def counts(self, term):
        """Bin centres (n_bins,), nm, and mean pairs per frame of reference and model, (n_bins,)."""
        pair = self.pairs[term.name]
        arguments = term.sites, self.type_counts, self.volume
        both = pair.reference, pair.model
        numbers = [pair_counts(pair.edges, g.mean(axis=0), *arguments)[1] for g in both]
        return pair.centers, *numbers


@dataclass(frozen=True)
class ForceSums:
    """What force matching needs of one state, as means over its frames.

    Attributes
    ----------
    temperature : float
        K.
    weight : float
        w_s, dimensionless, summing to one over the states.
    n_sites : int
    normal, right, square
        As from :func:`remcg.forces.normal_equations`, divided by the number of frames.
    counts : ndarray, shape (n_pair_functions,)
        Basis sums, added up over all frames.
    """

    temperature: float
    weight: float
    n_sites: int
    normal: np.ndarray
    right: np.ndarray
    square: float
    counts: np.ndarray


def read_rdfs(targets, samples):
    """RDFs of the training states from their target and sample files, in this order."""
    return [_rdfs(target, sample) for target, sample in zip(targets, samples)]


def _rdfs(target, sample):
    (reference, about), (model, _) = read_h5(target), read_h5(sample)
    return Rdfs(
        pairs=rdf_pairs(reference, about, model),
        n_reference=len(reference["volume"]),
        n_model=model["volume"].size,
        volume=float(reference["volume"].mean()),
        type_counts=json.loads(about["type_counts"]),
    )


def read_force_sums(paths, states):
    """What force matching needs of the training states, from their target files.

    Parameters
    ----------
    paths : sequence of path
    states : sequence of State
        With id, temperature and weight, in the same order.
    """
    files = [read_h5(path) for path in paths]
    weights = optimize.weights(states, [about["n_molecules"] for _, about in files])
    for path, (arrays, _) in zip(paths, files):
        if "force_normal" not in arrays:
            raise InputError(
                f"{path} has no sums over forces; make it again with rem.method: force_matching"
            )
    return [
        ForceSums(
            temperature=state.temperature,
            weight=float(weight),
            n_sites=int(about["n_sites"]),
            normal=arrays["force_normal"],
            right=arrays["force_right"],
            square=float(arrays["force_square"]),
            counts=arrays["site_sums"].sum(axis=0),
        )
        for state, weight, (arrays, about) in zip(states, weights, files)
    ]


def update(method, model, data, rdfs, scale=None):
    """The next model by ``ibi``, ``imc``, ``force_matching`` or ``boltzmann``.

    Parameters
    ----------
    method : str
        The last two have their pair terms from the guess: only psi_1 follows from the samples.
    model : Model
        The model that was sampled, at the reference volumes.
    data : list of remcg.optimize.StateData
    rdfs : list of Rdfs
        In the order of ``data``.
    scale : float, optional
        Part of the full step of ``ibi`` and ``imc`` that is taken; default: that of ``SCALES``.

    Returns
    -------
    (Model, Observation, dict)
        Next model; what was measured, as by :func:`remcg.optimize.update`; diagnostics with
        ``verdict``, ``stage`` and ``restart`` for the next iteration. An RDF within its noise is no
        verdict, as it leaves the pressure open: converged is a model from which a Newton step of
        the relative entropy would be noise.
    """
    delta = np.zeros(model.n_params)
    if method in STEPS:
        delta = (scale or SCALES[method]) * STEPS[method](model, data, rdfs)
    following = model.with_parameters(model.parameters + delta)
    following = volumes.virial_pressure_matched(following, data, model)
    present = optimize.observe(model, data, "global")
    full, noise = _distance_from_minimum(model, data, present)
    is_done = method not in STEPS or full <= NOISE * noise
    return (
        following,
        replace(present, full_step_kl=full, passed=is_done),
        {
            "states": {d.name: _state_diagnostics(model, d, g) for d, g in zip(data, rdfs)},
            "method": method,
            "verdict": "converged" if is_done else "continue",
            "stage": "global",
            "restart": "previous",
            "predicted_kl": float(0.5 * delta @ present.metric @ delta),
            "full_step_kl": full,
            "noise_kl": noise,
            "n_free": int(np.count_nonzero(delta)),
        },
    )


def finish(method, model):
    """The last model; where nothing was iterated it is no minimum of the relative entropy, which
    has neither converged nor a covariance."""
    if method in STEPS or method == "rem":
        return model
    extra = {key: value for key, value in model.extra.items() if key != "covariance"}
    return model.with_parameters(model.parameters, **{**extra, "status": "direct"})


def _distance_from_minimum(model, data, observation):
    """Divergence of the Newton step of the relative entropy, and what noise makes of it, nats."""
    free = _met(model, data)
    step = newton_step(observation.gradient, observation.metric, free)
    full = 0.5 * step @ observation.metric @ step
    return float(full), 0.5 * float(noise_of_directions(observation, free)[0].sum())


def _met(model, data):
    """Parameters (n_params,) of basis functions that the model's samples determine."""
    met = sum(d.phi.sum(axis=(0, 1)) for d in data) >= MIN_COUNT
    free = np.zeros(model.n_params, bool)
    for term, rows, part in zip(model.terms, model.phi_slices, model.parameter_slices):
        if term.kind != "volume":
            free[part] = np.tile(met[rows], term.n_orders)
    return free


def linear_response(model, data):
    """Gradient (n_params,) and Fisher matrix (n_params, n_params) of the samples of ``model``."""
    factors = entropy.state_factors(model, data)
    means = [[phi.mean(axis=(0, 1)) for phi in (d.reference_phi, d.phi)] for d in data]
    metric = entropy.fisher(factors, [entropy.covariance(d.phi) for d in data])
    return entropy.gradient(factors, *zip(*means)), metric


def newton_step(gradient, metric, free):
    r"""Undamped step :math:`-F^{-1} g` in the parameters that are ``free`` (n_params,).

    Directions that the samples do not resolve are left out.
    """
    return natural_step(gradient, metric, free, np.inf)[0]


def inverse_monte_carlo(model, data, rdfs=None):
    r"""Solution of the equations of linear response, shape (n_params,), kJ/mol.

    .. math:: \langle\phi_k\rangle_{ref} - \langle\phi_k\rangle
              = -\beta \sum_l \mathrm{Cov}(\phi_k, \phi_l)\, \delta_l

    References
    ----------
    Lyubartsev and Laaksonen, Phys. Rev. E 52, 3730 (1995).
    """
    return newton_step(*linear_response(model, data), _met(model, data))


def iterative_boltzmann(model, data, rdfs):
    r"""Projection of :math:`kT \ln(g/g_{ref})` to the pair terms, shape (n_params,), kJ/mol.

    A bin weighs :math:`w \beta^2 n`, with the numbers of its pairs in both ensembles for n: the
    fit's normal matrix is then the Fisher matrix of uncorrelated pairs, and its zero, to first
    order in g - g_ref, that of the gradient of the relative entropy.

    References
    ----------
    Reith, Puetz and Mueller-Plathe, J. Comput. Chem. 24, 1624 (2003).
    """
    delta = np.zeros(model.n_params)
    for term, part in zip(model.terms, model.parameter_slices):
        if term.kind == "pair":
            curves = [_correction(term, d, each) for d, each in zip(data, rdfs)]
            delta[part] = fitted(term, model, curves)
    return delta


def _correction(term, state, rdfs):
    """(temperature, r, kT ln(g/g_ref), weight); constant where neither has been."""
    r, reference, model = rdfs.counts(term)
    pseudo = PSEUDO_COUNT / min(rdfs.n_reference, rdfs.n_model)
    reference, model = reference + pseudo, model + pseudo
    energy = KB * state.temperature * np.log(model / reference)
    first = int(np.argmax(reference + model > 2.0 * pseudo))
    energy[:first] = energy[first]
    weight = state.weight * beta(state.temperature) ** 2 / (0.5 / reference + 0.5 / model)
    return state.temperature, r, energy, np.where(r < term.basis.r_cut, weight, 0.0)


STEPS = {"ibi": iterative_boltzmann, "imc": inverse_monte_carlo}
SCALES = {"ibi": 1.0, "imc": 0.5}  # one-site water: full steps of imc end in a bubble


def force_matched(model, states, sums, ridge):
    r"""The guess with pair terms from the forces, and psi_1 from the virial pressure.

    .. math:: \sum_s w_s \beta_s^2 \langle |f - G \theta(T_s)|^2 \rangle_s
              + \lambda \sum_k N_{kk} c_k^2 \to \min

    Functions that the reference never met are no parameters: those of the core continue the ones
    that follow, at least as steeply as the guess does, and any others are zero.

    Parameters
    ----------
    model : Model
        The guess.
    states : sequence of remcg.guess.StateTarget
    sums : sequence of ForceSums
    ridge : float
        lambda, dimensionless.

    Returns
    -------
    (Model, dict)
        The dictionary has, per pair term, how many functions were left out (``dropped``), and the
        rms force on a site and that of what the model leaves unexplained, kJ/mol/nm per component.
    """
    rows = np.concatenate([_range(model.phi_slices[t]) for t in _pairs(model)])
    columns = np.concatenate([_range(model.parameter_slices[t]) for t in _pairs(model)])
    designs = [model.design(s.temperature)[np.ix_(rows, columns)] for s in sums]
    factors = [s.weight * beta(s.temperature) ** 2 for s in sums]
    normal = sum(f * d.T @ s.normal @ d for f, d, s in zip(factors, designs, sums))
    right = sum(f * d.T @ s.right for f, d, s in zip(factors, designs, sums))
    kept, ties = _ties(model, sum(s.counts for s in sums))
    found = ties @ solve_ridge(ties.T @ normal @ ties, ties.T @ right, ridge)
    parameters = np.zeros(model.n_params)
    parameters[columns] = found
    for t in _pairs(model):
        term, part = model.terms[t], model.parameter_slices[t]
        blocks = parameters[part].reshape(term.n_orders, term.n_basis)
        least = CORE_SLOPE * KB * model.reference_temperature
        parameters[part] = _with_core(term.basis, blocks, kept[term.name], least).ravel()
    thetas = [d @ found for d in designs]
    facts = {
        "dropped": {name: int((~seen).sum()) for name, seen in kept.items()},
        "force_rms": _rms(sums, [s.square for s in sums]),
        "force_residual": _rms(
            sums, [s.square - 2 * x @ s.right + x @ s.normal @ x for s, x in zip(sums, thetas)]
        ),
    }
    return with_pressure(model.with_parameters(parameters), states), facts


def solve_ridge(normal, right, ridge):
    r"""Solution of :math:`(N + \lambda\,\mathrm{diag} N)\, x = b`, the least where N is singular.

    Parameters
    ----------
    normal, right : ndarray, shapes (n, n) and (n,)
    ridge : float
        lambda, relative to each diagonal entry of N, which must be positive.
    """
    scale = np.sqrt(np.diag(normal))
    matrix = normal / np.outer(scale, scale) + ridge * np.eye(len(right))
    return np.linalg.lstsq(matrix, right / scale, rcond=1e-13)[0] / scale


def _pairs(model):
    return [t for t, term in enumerate(model.terms) if term.kind == "pair"]


def _range(part):
    return np.arange(part.start, part.stop)


def _rms(sums, squares):
    """Root of the weighted mean square per force component."""
    means = [s.weight * max(square, 0.0) / (3 * s.n_sites) for s, square in zip(sums, squares)]
    return float(np.sqrt(sum(means) / sum(s.weight for s in sums)))


def _ties(model, counts):
    """Functions met often enough, per pair name, and all coefficients as combinations of theirs."""
    kept, blocks, at = {}, [], 0
    for term in model.pair_terms:
        seen = counts[at : at + term.n_basis] >= MIN_COUNT
        at += term.n_basis
        if not seen.any():
            raise InputError(
                f"force matching: the pair {term.name} was met too rarely within r_cut = "
                f"{term.basis.r_cut:g} nm in the training states; raise r_cut, run longer, or "
                "leave the term out"
            )
        kept[term.name] = seen
        blocks += [_continued(term.basis, seen)] * term.n_orders
    ties = np.zeros([sum(sizes) for sizes in zip(*(block.shape for block in blocks))])
    row = column = 0
    for block in blocks:
        ties[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return kept, ties


def _continued(basis, seen):
    """Matrix (n_basis, n_seen): those before the first seen lie on a line through the next two."""
    matrix = np.eye(basis.n_basis)[:, seen]
    first = int(np.argmax(seen))
    x = places(basis)
    for k in range(first):
        matrix[k] = matrix[first]
        if first + 1 < basis.n_basis and seen[first + 1]:
            along = (x[k] - x[first]) / (x[first + 1] - x[first])
            matrix[k] += along * (matrix[first + 1] - matrix[first])
    return matrix


def _with_core(basis, blocks, seen, least):
    """Coefficients (n_orders, n_basis) whose unmet core repels with at least this slope at T0."""
    x, blocks = places(basis), blocks.copy()
    for k in range(int(np.argmax(seen)) - 1, -1, -1):
        blocks[0, k] = max(blocks[0, k], blocks[0, k + 1] + least * (x[k + 1] - x[k]))
        blocks[1:, k] = blocks[1:, k + 1]
    return blocks


def _state_diagnostics(model, state, rdfs):
    virial, volume = state.pressure_samples.mean(), state.volume.mean()
    added = model.volume_pressure(volume, state.n_molecules, state.temperature)
    errors = [rdf_errors(rdfs.pairs[term.name], term.basis.r_cut) for term in model.pair_terms]
    return {
        "volume": float(volume),
        "volume_reference": float(state.reference_volume.mean()),
        "pressure_bar": float((virial + added) / BAR),
        "virial_pressure_bar": float(virial / BAR),
        "rdf_rmse": _root_mean_square([each["rmse"] for each in errors if each]),
        "rdf_noise": _root_mean_square([each["noise_floor_rmse"] for each in errors if each]),
    }


def _root_mean_square(values):
    return float(np.sqrt(np.mean(np.square(values))))
