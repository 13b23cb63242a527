"""How many functions a basis should have, from the references alone."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.linalg import block_diag

from remcg.basis import BondBasis
from remcg.errors import InputError
from remcg.spectrum import spectrum
from remcg.units import beta

SMOOTHNESS = 1e-8  # of an inversion, nats per squared curvature in kT and ranges
TOLERANCE = 0.05  # of the least score: within it candidates are as good as each other
TAPER = 0.2  # of the range, over which an inverted potential is faded out


class ReferenceState(NamedTuple):
    """What the reference of one state says about the size of a basis, in its finest one.

    Attributes
    ----------
    weight : float
        w_s; summing to one over the states.
    temperature : float
        K.
    covariance, mean_noise : ndarray, shape (n_phi, n_phi)
        Covariance of the basis sums over frames; of their mean, correlation included.
    potential : ndarray, shape (n_phi,), kJ/mol
        Boltzmann-inverted, from :func:`inverted`; zero for the volume term.
    potential_noise : ndarray, shape (n_phi, n_phi), (kJ/mol)^2
    """

    weight: float
    temperature: float
    covariance: np.ndarray
    mean_noise: np.ndarray
    potential: np.ndarray
    potential_noise: np.ndarray


class BasisSize(NamedTuple):
    """Expected divergence of a fit against the number of functions of one term.

    Attributes
    ----------
    n_basis : int
        The chosen one.
    candidates : ndarray of int, shape (n_candidates,)
    bias, variance : ndarray, shape (n_candidates,)
        Divergence, in nats, of the best model in the basis, and what the noise of the reference
        adds; the choice is the smallest with a sum near the least. ``bias`` is an unbiased
        estimate, so it may be slightly negative.
    """

    n_basis: int
    candidates: np.ndarray
    bias: np.ndarray
    variance: np.ndarray


def inverted(basis, edges, rdf_blocks, ideal, temperature):
    r"""Boltzmann inversion -kT ln g in a basis, with its noise by a jackknife over blocks.

    The numbers of pairs in the bins are fitted as Poisson counts of mean ideal * exp(-U/kT), which
    holds where bins are sparse or empty, with just enough smoothness to continue U straight where
    there are none. As -kT ln g need not vanish at the cut-off, it is faded out over the last
    TAPER of the range: an edge there would ask for more functions than the potential does.

    Parameters
    ----------
    basis : SplineBasis
    edges : ndarray, shape (n_bins + 1,), nm
        Three bins per interval of the basis at least.
    rdf_blocks : ndarray, shape (n_blocks, n_bins)
        g(r) of blocks of consecutive frames.
    ideal : ndarray, shape (n_bins,)
        Number of pairs that an ideal gas has in each bin over the frames of one block.
    temperature : float
        K.

    Returns
    -------
    (ndarray, ndarray)
        Coefficients (n_basis,), kJ/mol; covariance (n_basis, n_basis).

    References
    ----------
    Kooperberg and Stone, Comput. Stat. Data Anal. 12, 327 (1991), on splines for log densities.
    """
    centers, widths = 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)
    n_blocks = len(rdf_blocks)
    inside = (centers > basis.low) & (centers < basis.high)
    if n_blocks < 2 or widths[inside].max(initial=0.0) > basis.spacing / 2.5:
        raise InputError(
            f"{n_blocks} blocks of RDFs in bins of {widths.max():.3g} nm; a potential in splines of"
            f" {basis.spacing:.3g} nm and its error need 2 blocks and bins of a third of that"
        )
    full = BondBasis(basis.low, basis.high, basis.n_basis + 2)  # nothing left out at the cut-off
    values = full.values(centers[inside])
    counts = rdf_blocks[:, inside] * ideal[inside]
    smooth = SMOOTHNESS * (full.high - full.low) ** 3 * full.curvature()
    total = counts.sum(axis=0)
    fits = [_poisson_fit(values, total, n_blocks * ideal[inside], smooth)]
    for block in counts:
        expected = (n_blocks - 1) * ideal[inside]
        fits.append(_poisson_fit(values, total - block, expected, smooth, fits[0]))
    fits = np.array(fits) @ _fade(full, basis).T / beta(temperature)
    deviations = fits[1:] - fits[1:].mean(axis=0)
    return fits[0], (n_blocks - 1) / n_blocks * deviations.T @ deviations


def choose_n_basis(model, index, candidates, states):
    r"""Number of functions of one term, from references alone.

    .. math:: score(n) = bias(n) + \tfrac12\mathrm{tr}[F_n^{-1} C_n]

    The second term is the divergence that the reference's noise causes (p/(2 n_eff) where the
    parameters share one correlation time). The first is half the F-weighted squared distance of
    the Boltzmann-inverted potential u from the functions' span, minus what the noise of u puts
    there, :math:`\tfrac12\mathrm{tr}[Q^T F Q\,\mathrm{Cov}(u)]` with the projection Q on the
    residual: without this subtraction a finer basis would seem to fit better for fitting noise,
    by just the amount that the second term charges for it. F is the covariance of the reference's
    own basis sums. Other terms keep the basis they have in ``model`` and adapt.

    Candidates that need more parameters than there are decorrelated frames (variance above 1/2)
    are left out. The least score lies in a flat valley, so that the fewest functions within
    TOLERANCE of it are taken. -kT ln g stands in for the unknown potential: it has the same length
    scales, not the same values.

    Parameters
    ----------
    model : Model
        With the finest basis of the term, at least about as fine as the largest candidate; its
        coefficients are not used.
    index : int
        Which of ``model.terms``.
    candidates : sequence of int
    states : sequence of ReferenceState

    Returns
    -------
    BasisSize
    """
    stacked = np.vstack([model.design(s.temperature) for s in states])
    factors = [(s.weight * beta(s.temperature), beta(s.temperature)) for s in states]
    metric = block_diag(*[w * b * s.covariance for (w, b), s in zip(factors, states)])
    noise = block_diag(*[w**2 * s.mean_noise for (w, _), s in zip(factors, states)])
    blur = block_diag(*[s.potential_noise for s in states])
    potential = np.concatenate([s.potential for s in states])
    kept, bias, variance = [], [], []
    for n in sorted({int(n) for n in candidates}):
        design = stacked @ _transfer(model, index, n)
        axes = (
            design
            @ spectrum(design.T @ metric @ design, np.ones(design.shape[1], bool)).directions.T
        )
        cost = 0.5 * np.trace(axes.T @ noise @ axes)
        if cost <= 0.5:
            residual = np.eye(len(metric)) - axes @ (axes.T @ metric)
            weighted = residual.T @ metric @ residual
            bias.append(0.5 * (potential @ weighted @ potential - np.sum(weighted * blur)))
            kept.append(n), variance.append(cost)
    if not kept:
        raise InputError(
            f"{min(candidates)} basis functions of {model.terms[index].name} are more than the"
            " references have decorrelated frames for; use longer trajectories, a lower order in"
            " temperature, or fewer functions in the other terms"
        )
    score = np.add(bias, variance)
    best = int(np.argmax(score <= score.min() + TOLERANCE * np.abs(score.min())))
    return BasisSize(kept[best], np.array(kept), np.array(bias), np.array(variance))


def _poisson_fit(values, counts, expected, smooth, start=None):
    """Coefficients c of counts ~ Poisson(expected * exp(-values @ c)), by damped Newton steps."""

    def loss(c):
        return counts @ values @ c + expected @ np.exp(-values @ c) + 0.5 * c @ smooth @ c

    coefficients = start
    if start is None:  # weighted least squares of ln g
        inverse = -np.log((counts + 0.5) / expected)
        weighted = values.T * (counts + 0.5)
        coefficients = np.linalg.solve(weighted @ values + smooth, weighted @ inverse)
    for _ in range(100):
        mean = expected * np.exp(-values @ coefficients)
        slope = values.T @ (counts - mean) + smooth @ coefficients
        step = np.linalg.solve((values.T * mean) @ values + smooth, slope)
        gain, size, before = slope @ step, 1.0, loss(coefficients)
        while size > 1e-6 and not loss(coefficients - size * step) <= before - 0.1 * size * gain:
            size *= 0.5
        coefficients = coefficients - size * step
        if gain < 1e-8:
            break
    return coefficients


def _fade(full, basis):
    """Map from coefficients of ``full`` to those of ``basis`` of U(x) times a smooth fade-out."""
    x = np.linspace(basis.low, basis.high, 20 * basis.n_basis)
    u = np.clip((basis.high - x) / (TAPER * (basis.high - basis.low)), 0.0, 1.0)
    fade = u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
    return np.linalg.lstsq(basis.values(x), fade[:, None] * full.values(x), rcond=None)[0]


def _transfer(model, index, n_basis):
    """Parameters of ``model`` from those of one whose term ``index`` has fewer functions."""
    blocks = [np.eye(term.n_basis * term.n_orders) for term in model.terms]
    term = model.terms[index]
    fine, coarse = term.basis, replace(term.basis, n_basis=n_basis)
    x = np.linspace(fine.low, fine.high, 20 * fine.n_basis)
    change = np.linalg.lstsq(fine.values(x), coarse.values(x), rcond=None)[0]
    blocks[index] = np.kron(np.eye(term.n_orders), change)
    return block_diag(*blocks)
