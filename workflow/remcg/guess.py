r"""The model of iteration 0: Boltzmann inversion in each term's basis, volume term from pressure.

The Jacobians of Boltzmann inversion, :math:`U(x; T) = -kT \ln [p(x; T)/J(x)]`, are 4 pi r^2 (in
g(r)) of a pair, r^2 of a bond, sin x of an angle, 1 of a dihedral. A constant in a bonded potential
acts on nothing; here U is zero where it is lowest at T0. As the functions of a bonded spline sum to
one, the gradient along the constant is n_groups - n_groups = 0 and the Fisher matrix has a null
direction there, which natural steps leave alone (:mod:`remcg.spectrum`).
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from remcg.core import CORE_SLOPE, END_RISE, with_repulsive_core
from remcg.model import Model
from remcg.pairs import number_of_pairs, shell_volumes
from remcg.units import KB

MIN_COUNT = 10.0  # pairs in a bin below which its potential of mean force is not used
CORE_WEIGHT = 1.0  # of a continued bin, as if it held one pair
FIT_ERROR = 0.01  # of ln g: beyond it more pairs do not add weight to a bin
SMOOTHNESS = 1e-10  # of the curvature penalty, relative to the fit's own normal matrix
EDGE_BINS = 5  # from which the slope at an end of what was sampled is taken
GRID_POINTS = 1001  # where the minimum of a potential is looked for


class BondedTarget(NamedTuple):
    """Distribution of a bonded coordinate.

    Attributes
    ----------
    edges : ndarray, shape (n_bins + 1,), nm or rad
    density : ndarray, shape (n_bins,)
        Normalised histogram, 1/nm or 1/rad.
    n_groups : int
        Per frame.
    """

    edges: np.ndarray
    density: np.ndarray
    n_groups: int


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
    bonded : dict
        "bond A-B" and alike to :class:`BondedTarget`.
    """

    temperature: float
    pressure: float | None
    volume: float
    n_frames: int
    n_molecules: int
    type_counts: dict
    edges: np.ndarray
    rdf: dict
    bonded: dict = field(default_factory=dict)

    def number_of_bonds(self, model):
        """Bonds per frame on which a term of the model acts."""
        keys = [_key(term) for term in model.bonded_terms if term.kind == "bond"]
        return sum(self.bonded[key].n_groups for key in keys if key in self.bonded)


def pair_counts(edges, g, sites, type_counts, volume):
    """Bin centres (nm) and mean number of pairs in each bin of a g(r)."""
    counts = g * shell_volumes(edges) * number_of_pairs(sites, type_counts) / volume
    return 0.5 * (edges[1:] + edges[:-1]), counts


def guess(site_types, terms, reference_temperature, v0, states, exclude=()):
    r"""Boltzmann-inverted pair and bonded terms and psi_1 from the virial pressure.

    .. math:: U(x; T) \approx -kT \ln [p(x; T)/J(x)]

    fitted to all states at once, each bin weighted by the error of its ln p. Where nothing was
    sampled a pair continues along a repulsive tangent, a bond and the lower end of an angle along
    rising parabolas, and a gap between two wells is filled up to the energy of half a count. Pairs
    of one molecule alone have nothing but this core: the distances within it follow from its bonds
    as much as from its pairs.

    Parameters
    ----------
    site_types : sequence of str
    terms : sequence of terms
    reference_temperature, v0 : float
        K; nm^3 per molecule.
    states : sequence of StateTarget
    exclude : sequence of str
        Bonded neighbours on which pair terms do not act.

    Returns
    -------
    Model
    """
    blocks = [np.zeros((term.n_orders, term.n_basis)) for term in terms]
    model = Model(
        tuple(site_types),
        tuple(terms),
        reference_temperature,
        v0,
        tuple(blocks),
        exclude=tuple(exclude),
    )
    parameters = np.zeros(model.n_params)
    for term, part in zip(model.terms, model.parameter_slices):
        if term.kind == "pair":
            met = [s for s in states if _counts(term, s)[1].any()]
            curves = [(s.temperature, *_mean_force_potential(term, s)) for s in met]
            parameters[part] = fitted(term, model, curves)
        elif term.kind != "volume":
            parameters[part] = _bonded_parameters(term, model, states)
    model = model.with_parameters(parameters)
    model = with_repulsive_core(model, [s.temperature for s in states], _met(model, states))
    return with_pressure(model, states)


def _met(model, states):
    """Basis sums over all frames of all states, of bonded terms; pairs have their core already."""
    counts = np.ones(model.n_phi)
    for term, rows in zip(model.terms, model.phi_slices):
        if term.kind in ("bond", "angle", "dihedral"):
            found = [(s, s.bonded[_key(term)]) for s in states if _key(term) in s.bonded]
            counts[rows] = sum(
                s.n_frames
                * target.n_groups
                * target.density
                * np.diff(target.edges)
                @ term.basis.values(0.5 * (target.edges[1:] + target.edges[:-1]))
                for s, target in found
            )
    return counts


def _bonded_parameters(term, model, states):
    found = [(s, s.bonded[_key(term)]) for s in states if _key(term) in s.bonded]
    curves = [(s.temperature, *_bonded_curve(term, s, target)) for s, target in found]
    blocks = fitted(term, model, curves, has_constant=True).reshape(term.n_orders, term.n_basis)
    return without_constant(term, blocks).ravel()


def _key(term):
    return f"{term.kind} {term.name}"


def without_constant(term, blocks):
    """Coefficients of a bonded term, (n_orders, n_basis), that make it zero where A is lowest.

    Splines sum to one, so that a constant is the same in all coefficients; the other forms have
    none.
    """
    if term.form != "spline":
        return blocks
    x = np.linspace(term.basis.low, term.basis.high, GRID_POINTS)
    potentials = term.basis.values(x) @ blocks.T
    return blocks - potentials[np.argmin(potentials[:, 0])][:, None]


def virial_pressure(model, state):
    r"""Pressure of the model for the reference's distributions, kJ/mol/nm^3.

    .. math:: P = \frac{(N_{sites} - N_{bonds}) kT}{V}
              - \frac{1}{3V} \sum_{pairs} \langle r U'(r) \rangle

    A Boltzmann-inverted bond has :math:`\langle r U' \rangle = 3 kT`, by parts from
    :math:`U = -kT \ln(p/r^2)`, and takes away what one site has; angles and dihedrals do not change
    when a molecule is scaled, and have no virial.
    """
    n_free = sum(state.type_counts.values()) - state.number_of_bonds(model)
    pressure = n_free * KB * state.temperature / state.volume
    for term, theta in zip(model.terms, model.term_theta(state.temperature)):
        if term.kind == "pair":
            r, counts = _counts(term, state)
            pressure -= counts @ (r * (term.basis.values(r, 1) @ theta)) / (3.0 * state.volume)
    return pressure


def _counts(term, state):
    g = state.rdf[term.name]
    return pair_counts(state.edges, g, term.sites, state.type_counts, state.volume)


def fitted(term, model, curves, has_constant=False):
    """Coefficients of one term that fit a curve at each temperature, by least squares.

    Parameters
    ----------
    term : SiteTerm
    model : Model
        Its reference temperature is that of the coefficients.
    curves : sequence of (temperature, r, energy, weight)
        K; arrays (n_points,) of nm, kJ/mol and any unit; a weight of zero leaves a point out.
    has_constant : bool
        Whether each curve is known but for a constant of its own.

    Returns
    -------
    ndarray, shape (n_orders * n_basis,), kJ/mol
    """
    size = term.n_orders * term.n_basis
    normal, right = np.zeros((size, size)), np.zeros(size)
    for temperature, r, energy, weight in curves:
        powers = (-model.tau(temperature)) ** np.arange(term.n_orders)
        rows = np.kron(powers, term.basis.values(r))
        if has_constant:
            rows = rows - weight @ rows / weight.sum()
            energy = energy - weight @ energy / weight.sum()
        normal += rows.T @ (weight[:, None] * rows)
        right += rows.T @ (weight * energy)
    curvature = np.kron(np.eye(term.n_orders), term.basis.curvature())
    strength = SMOOTHNESS * np.trace(normal) / np.trace(curvature)
    ridge = 1e-9 * np.trace(normal) / size * np.eye(size)
    return np.linalg.solve(normal + strength * curvature + ridge, right)


def _mean_force_potential(term, state):
    """Distances, -kT ln g and weights, with the core continued where nothing was sampled.

    Of a molecule alone, whose g is that of its own sites, the potential is zero beyond the core.
    """
    thermal = KB * state.temperature
    r, counts = _counts(term, state)
    inside = (r > term.basis.r_min) & (r < term.basis.r_cut)
    r, counts, g = r[inside], counts[inside] * state.n_frames, state.rdf[term.name][inside]
    sampled = counts >= min(MIN_COUNT, counts.max())  # a sparse pair has its best bins at least
    if state.n_molecules == 1:
        sampled = np.cumsum(counts) >= min(MIN_COUNT, counts.sum())
    first = int(np.argmax(sampled))
    potential = np.zeros_like(r)
    if state.n_molecules > 1:
        potential[sampled] = -thermal * np.log(g[sampled])
    slope = np.polyfit(r[sampled][:5], potential[sampled][:5], 1)[0] if sampled.sum() > 1 else 0.0
    slope = min(slope, -CORE_SLOPE * thermal)
    potential[:first] = potential[first] + slope * (r[:first] - r[first])
    weight = np.where(sampled, 1.0 / (1.0 / np.maximum(counts, 1.0) + FIT_ERROR**2), 0.0)
    weight[:first] = CORE_WEIGHT
    return r, potential, weight


def _bonded_curve(term, state, target):
    """Coordinates, -kT ln(p/J) up to a constant, and weights, on the whole range of the splines."""
    thermal = KB * state.temperature
    x = 0.5 * (target.edges[1:] + target.edges[:-1])
    jacobian = np.maximum(bin_jacobians(term.kind, target.edges), 1e-12)
    counts = target.density * np.diff(target.edges) * target.n_groups * state.n_frames
    sampled = counts >= min(MIN_COUNT, counts.max())
    half_a_count = np.maximum(counts, 0.5)
    energy = -thermal * np.log(half_a_count / jacobian)
    weight = np.where(sampled, 1.0 / (1.0 / half_a_count + FIT_ERROR**2), CORE_WEIGHT)
    if term.kind == "dihedral":
        return x, energy, weight
    first, last = np.flatnonzero(sampled)[[0, -1]]
    inner = slice(first, last + 1)
    energy[inner] = np.where(sampled, energy, _bridge(x, energy, sampled))[inner]
    mean = target.density @ x / target.density.sum()
    stiffness = thermal / (target.density @ (x - mean) ** 2 / target.density.sum())
    ends = [
        _wall(term, x[inner], energy[inner], stiffness, thermal, is_low) for is_low in (True, False)
    ]
    parts = [(x[inner], energy[inner], weight[inner]), *ends]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts))


def _bridge(x, energy, sampled):
    """In a gap between sampled bins, no less than the straight line over it."""
    line = np.interp(x, x[sampled], energy[sampled])
    return np.maximum(energy, line)


def _wall(term, x, energy, stiffness, thermal, is_low):
    """Points from an end of what was sampled to that of the basis, along a rising parabola.

    Up to pi an angle goes on along its tangent: there is nothing beyond.
    """
    side = slice(None, EDGE_BINS) if is_low else slice(-EDGE_BINS, None)
    edge, width = (0, -1)[not is_low], x[1] - x[0] if len(x) > 1 else term.basis.spacing
    end = term.basis.low if is_low else term.basis.high
    out = np.arange(1, int(abs(end - x[edge]) / width) + 1) * width
    slope = np.polyfit(x[side], energy[side], 1)[0] if len(x) > 1 else 0.0
    slope = -slope if is_low else slope
    if term.kind == "bond" or is_low:
        slope = max(slope, END_RISE * thermal / (term.basis.high - term.basis.low))
    else:
        stiffness = 0.0
    rise = slope * out + 0.5 * stiffness * out**2
    return (
        x[edge] + (-out if is_low else out),
        energy[edge] + rise,
        np.full(len(out), CORE_WEIGHT),
    )


def bin_jacobians(kind, edges):
    """Mean of r^2 (bond), sin x (angle) or 1 (dihedral) over each bin."""
    width = np.diff(edges)
    if kind == "bond":
        return np.diff(edges**3) / (3.0 * width)
    if kind == "angle":
        return -np.diff(np.cos(edges)) / width
    return np.ones_like(width)


def with_pressure(model, states):
    """psi_1 such that the virial pressure of the reference's g(r) is made up to the set one.

    The volume term of ``model`` must be zero.
    """
    states = [state for state in states if state.pressure is not None]
    if model.volume_term is None or not states:
        return model
    missing = [s.pressure - virial_pressure(model, s) for s in states]
    return model.with_added_pressure([s.temperature for s in states], missing)
