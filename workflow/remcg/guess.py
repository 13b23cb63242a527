"""The model of iteration 0: Boltzmann inversion in the spline basis, volume term from pressure."""

from dataclasses import dataclass

import numpy as np

from remcg.core import CORE_SLOPE
from remcg.model import Model
from remcg.units import KB

MIN_COUNT = 10.0  # pairs in a bin below which its potential of mean force is not used
CORE_WEIGHT = 1.0  # of a continued bin, as if it held one pair
FIT_ERROR = 0.01  # of ln g: beyond it more pairs do not add weight to a bin
SMOOTHNESS = 1e-10  # of the curvature penalty, relative to the fit's own normal matrix


@dataclass(frozen=True)
class StateTarget:
    """What the guess needs of one training state.

    Attributes
    ----------
    temperature, pressure : float
        K; kJ/mol/nm^3 or None.
    volume : float
        Mean, nm^3.
    n_frames, n_molecules : int
    type_counts : dict
        Number of sites of each type.
    edges : ndarray, shape (n_bins + 1,)
        Fine RDF bins, nm.
    rdf : dict
        Pair name to g(r), shape (n_bins,).
    """

    temperature: float
    pressure: float | None
    volume: float
    n_frames: int
    n_molecules: int
    type_counts: dict
    edges: np.ndarray
    rdf: dict


def pair_counts(edges, g, sites, type_counts, volume):
    """Bin centres (nm) and mean number of pairs in each bin of a g(r)."""
    shell = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    counts = g * shell * number_of_pairs(sites, type_counts) / volume
    return 0.5 * (edges[1:] + edges[:-1]), counts


def number_of_pairs(sites, type_counts):
    """N(N - 1)/2, or N_a N_b."""
    a, b = (type_counts[name] for name in sites)
    return a * (a - 1) / 2 if sites[0] == sites[1] else a * b


def guess(site_types, terms, reference_temperature, v0, states):
    """Boltzmann-inverted pair terms and psi_1 from the virial pressure.

    .. math:: U(r; T) \\approx -kT \\ln g(r; T)

    fitted to all states at once, each bin weighted by the error of its ln g; below the first bin
    that was sampled the potential continues along a repulsive tangent.

    Parameters
    ----------
    site_types : sequence of str
    terms : sequence of PairTerm or VolumeTerm
    reference_temperature, v0 : float
        K; nm^3 per molecule.
    states : sequence of StateTarget

    Returns
    -------
    Model
    """
    blocks = [np.zeros((term.n_orders, term.n_basis)) for term in terms]
    model = Model(tuple(site_types), tuple(terms), reference_temperature, v0, tuple(blocks))
    parameters = np.zeros(model.n_params)
    for term, part in zip(model.terms, model.parameter_slices):
        if term.kind == "pair":
            curves = [(s.temperature, *_mean_force_potential(term, s)) for s in states]
            parameters[part] = fitted(term, model, curves)
    return with_pressure(model.with_parameters(parameters), states)


def virial_pressure(model, state):
    r"""Pressure of the pair terms for the reference's g(r), kJ/mol/nm^3.

    .. math:: P = \rho kT - \frac{1}{3V} \sum_{pairs} \langle r U'(r) \rangle
    """
    pressure = state.n_molecules * KB * state.temperature / state.volume
    for term, theta in zip(model.terms, model.term_theta(state.temperature)):
        if term.kind == "pair":
            r, counts = _counts(term, state)
            pressure -= counts @ (r * (term.basis.values(r, 1) @ theta)) / (3.0 * state.volume)
    return pressure


def _counts(term, state):
    g = state.rdf[term.name]
    return pair_counts(state.edges, g, term.sites, state.type_counts, state.volume)


def fitted(term, model, curves):
    """Coefficients of one pair term that fit a curve at each temperature, by least squares.

    Parameters
    ----------
    term : PairTerm
    model : Model
        Its reference temperature is that of the coefficients.
    curves : sequence of (temperature, r, energy, weight)
        K; arrays (n_points,) of nm, kJ/mol and any unit; a weight of zero leaves a point out.

    Returns
    -------
    ndarray, shape (n_orders * n_basis,), kJ/mol
    """
    size = term.n_orders * term.n_basis
    normal, right = np.zeros((size, size)), np.zeros(size)
    for temperature, r, energy, weight in curves:
        powers = (-model.tau(temperature)) ** np.arange(term.n_orders)
        rows = np.kron(powers, term.basis.values(r))
        normal += rows.T @ (weight[:, None] * rows)
        right += rows.T @ (weight * energy)
    curvature = np.kron(np.eye(term.n_orders), term.basis.curvature())
    strength = SMOOTHNESS * np.trace(normal) / np.trace(curvature)
    ridge = 1e-9 * np.trace(normal) / size * np.eye(size)
    return np.linalg.solve(normal + strength * curvature + ridge, right)


def _mean_force_potential(term, state):
    """Distances, -kT ln g and weights, with the core continued where nothing was sampled."""
    thermal = KB * state.temperature
    r, counts = _counts(term, state)
    inside = (r > term.basis.r_min) & (r < term.basis.r_cut)
    r, counts, g = r[inside], counts[inside] * state.n_frames, state.rdf[term.name][inside]
    sampled = counts >= min(MIN_COUNT, counts.max())  # a sparse pair has its best bins at least
    first = int(np.argmax(sampled))
    potential = np.zeros_like(r)
    potential[sampled] = -thermal * np.log(g[sampled])
    slope = np.polyfit(r[sampled][:5], potential[sampled][:5], 1)[0] if sampled.sum() > 1 else 0.0
    slope = min(slope, -CORE_SLOPE * thermal)
    potential[:first] = potential[first] + slope * (r[:first] - r[first])
    weight = np.where(sampled, 1.0 / (1.0 / np.maximum(counts, 1.0) + FIT_ERROR**2), 0.0)
    weight[:first] = CORE_WEIGHT
    return r, potential, weight


def with_pressure(model, states):
    """psi_1 such that the virial pressure of the reference's g(r) is made up to the set one.

    The volume term of ``model`` must be zero.
    """
    states = [state for state in states if state.pressure is not None]
    if model.volume_term is None or not states:
        return model
    missing = [s.pressure - virial_pressure(model, s) for s in states]
    return model.with_added_pressure([s.temperature for s in states], missing)
