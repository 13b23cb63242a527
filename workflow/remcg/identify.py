r"""What data say about parameters: stiff and sloppy directions, smoothness, size of a basis.

Near the minimum of the relative entropy J the model is a quadratic form,

.. math:: J(\theta + \delta) = J(\theta) + g\cdot\delta + \tfrac12 \delta^T F \delta,

so that all that follows is linear algebra on the Fisher matrix F ("metric"), on gradients of blocks
of reference frames, and on the curvature of the potentials. Metrics and penalties are in
(mol/kJ)^2, J in nats of the simulated box.
"""

from typing import NamedTuple

import numpy as np

from remcg import entropy
from remcg.errors import InputError
from remcg.model import SiteTerm
from remcg.spectrum import spectrum, symmetric
from remcg.units import beta

GRID_POINTS = 201  # of a potential
STRENGTHS = 25  # candidates of the default grid, besides 0
UNIT = {"pair": "nm", "bond": "nm", "angle": "rad", "dihedral": "rad", "volume": "nm3"}


class Unsampled(NamedTuple):
    """A function that no ensemble met: its coefficients stay what they are.

    ``low`` and ``high`` are its support in ``unit`` (nan for the volume term).
    """

    term: str
    function: int
    low: float
    high: float
    unit: str


class Strength(NamedTuple):
    """Held-out likelihood along a grid of strengths of a penalty.

    Attributes
    ----------
    strength : float
        The chosen one, dimensionless.
    strengths, scores, errors, n_effective : ndarray, shape (n_strengths,)
        Candidates (the first is 0); held-out J minus that of strength 0, in nats, with the
        standard error of this difference over the folds; effective number of parameters.
    """

    strength: float
    strengths: np.ndarray
    scores: np.ndarray
    errors: np.ndarray
    n_effective: np.ndarray


def directions(model, temperature, vectors, n_points=GRID_POINTS):
    """Displacements of the parameters as changes of the potentials.

    Parameters
    ----------
    model : Model
    temperature : float
        K.
    vectors : ndarray, shape (n_vectors, n_params), kJ/mol
        For example the stiffest and sloppiest rows of :attr:`Spectrum.directions`, times
        :func:`amplitudes`.
    n_points : int

    Returns
    -------
    dict
        Per site term {"kind", "x" (n_points,) nm or rad, "dU" (n_vectors, n_points) kJ/mol}, and
        for the volume term {"kind", "x": v/v0 from 0.95 to 1.05, "dU": per molecule, kJ/mol}.
    """
    changes = np.atleast_2d(vectors) @ model.design(temperature).T
    curves = {}
    for (label, term), rows in zip(labelled(model), model.phi_slices):
        x, values = term_grid(term, n_points)
        curves[label] = {"kind": term.kind, "x": x, "dU": changes[:, rows] @ values.T}
    return curves


def labelled(model):
    """(label, term) of each term; a label is the name, with the kind where names repeat."""
    names = [term.name for term in model.terms]
    return [
        (term.name if names.count(term.name) == 1 else f"{term.kind} {term.name}", term)
        for term in model.terms
    ]


def term_grid(term, n_points=GRID_POINTS):
    """Places of a term and its functions there: (n_points,), (n_points, n_basis).

    The volume term's are relative to v0, where only differences of its energy act.
    """
    if isinstance(term, SiteTerm):
        x = np.linspace(term.basis.low, term.basis.high, n_points)
        return x, term.basis.values(x)
    x = np.linspace(0.95, 1.05, n_points)
    return x, term.basis_sums(x, 1, 1.0) - term.basis_sums(1.0, 1, 1.0)


def unsampled(model, free):
    """Functions none of whose parameters are free, with their support.

    Parameters
    ----------
    model : Model
    free : ndarray of bool, shape (n_params,)

    Returns
    -------
    list of Unsampled
    """
    found = []
    for (label, term), part in zip(labelled(model), model.parameter_slices):
        frozen = ~np.asarray(free, bool)[part].reshape(term.n_orders, term.n_basis).any(axis=0)
        for k in np.flatnonzero(frozen):
            low, high = _support(term, k)
            found.append(Unsampled(label, int(k), low, high, UNIT[term.kind]))
    return found


def shortage(n_effective, rank):
    """What to tell a user whose reference is too short, or None.

    With no more decorrelated reference frames than measured directions the reference's noise has
    no full-rank estimate and the fit follows it in every direction: errors are then lower bounds.
    """
    if n_effective > rank:
        return None
    return (
        f"the training references hold {n_effective:.0f} decorrelated frames for {rank} measured"
        " parameters; errors are lower bounds: use longer trajectories, fewer basis functions or"
        " curvature regularisation"
    )


def curvature_penalty(model):
    r"""Roughness of the potentials as a quadratic form in the parameters.

    .. math:: \theta^T R \theta = \sum_{terms} \beta_0^2 L^3
              \sum_{orders} \int \Big(\frac{d^2 A}{dx^2}\Big)^2 dx, \qquad \beta_0 = 1/kT_0

    with L the range of the term, so that each integral is dimensionless (energy in kT_0, x in
    ranges) and depends neither on the number of functions nor on nm against rad. Orders in
    temperature weigh alike: A and B are an energy and T_0 times an entropy. The volume term has
    none.

    Parameters
    ----------
    model : Model

    Returns
    -------
    ndarray, shape (n_params, n_params), (mol/kJ)^2
        Symmetric, positive semi-definite.

    References
    ----------
    Green and Silverman, Nonparametric Regression and Generalized Linear Models (1994).
    """
    penalty = np.zeros((model.n_params, model.n_params))
    for term, part in zip(model.terms, model.parameter_slices):
        if isinstance(term, SiteTerm):
            width = term.basis.high - term.basis.low
            curvature = beta(model.reference_temperature) ** 2 * width**3 * term.basis.curvature()
            penalty[part, part] = np.kron(np.eye(term.n_orders), curvature)
    return penalty


def penalised(gradient, metric, penalty, parameters, strength):
    r"""Gradient and metric of :math:`J + \tfrac{\gamma}{2} \theta^T R \theta`."""
    return gradient + strength * penalty @ parameters, metric + strength * penalty


def effective_parameters(metric, penalty, free, strength=1.0):
    r"""Number of parameters that the data determine against a penalty.

    .. math:: p_{eff} = \mathrm{tr}[(F + \gamma R)^{-1} F]

    over the measured directions of F: the rank for strength 0, falling with it.
    """
    roughness, _ = _roughness(metric, penalty, free)
    return float(np.sum(1.0 / (1.0 + strength * roughness)))


def gradients_of_blocks(factors, reference, model_means, n_blocks):
    """Gradient of J from each of consecutive blocks of reference frames.

    Block b is the b-th part of every state's frames. Blocks count as independent: they should be
    longer than the correlation of the frames.

    Parameters
    ----------
    factors : sequence of remcg.entropy.StateFactors
    reference : sequence of ndarray, each (n_replicas, n_frames, n_phi)
    model_means : sequence of ndarray, each (n_phi,)
        Mean basis sums of the model at the present parameters.
    n_blocks : int

    Returns
    -------
    ndarray, shape (n_blocks, n_params), mol/kJ
    """
    shortest = min(phi.shape[0] * phi.shape[1] for phi in reference)
    if not 2 <= n_blocks <= shortest:
        raise InputError(
            f"{n_blocks} blocks of reference frames, where the shortest reference has {shortest}"
            " frames; give at least 2 blocks and at most as many as frames"
        )
    means = []
    for phi in reference:
        parts = np.array_split(phi.reshape(-1, phi.shape[-1]), n_blocks)
        means.append(np.array([part.mean(axis=0) for part in parts]))
    return entropy.gradient(factors, means, model_means)


def choose_strength(metric, penalty, gradients_of_blocks, free, parameters, strengths=None):
    r"""Strength of the penalty by K-fold held-out likelihood, in the quadratic approximation.

    For each block b of reference frames the others give the penalised minimum

    .. math:: \delta_{-b} = -(F + \gamma R)^{-1} (g_{-b} + \gamma R \theta)

    and block b its score :math:`g_b\cdot\delta_{-b} + \tfrac12\delta_{-b}^T F\delta_{-b}`. As g_b
    and delta_{-b} share no frames, its mean is that of an infinite reference, up to a constant, for
    a fit to (K - 1)/K of the frames: the noise of g_b enters linearly and drops out. (The distance
    of two noisy minima would not do: it is biased by the noise of the held-out one.) The noise of
    the model's own samples is common to all folds: it is not what the penalty is chosen against.

    The plain minimum of the mean score is taken. In toys of known truth the strongest penalty
    within one standard error doubles the divergence where data are plenty, the weakest gives most
    of the gain away where they are few; the minimum is near the best in both.

    Parameters
    ----------
    metric, penalty : ndarray, shape (n_params, n_params), (mol/kJ)^2
    gradients_of_blocks : ndarray, shape (n_blocks, n_params), mol/kJ
        At the present parameters, from blocks of equal size.
    free : ndarray of bool, shape (n_params,)
    parameters : ndarray, shape (n_params,), kJ/mol
    strengths : sequence of float, optional
        Candidates besides 0; default: a logarithmic grid from no effect to only straight lines.

    Returns
    -------
    Strength

    References
    ----------
    Stone, J. R. Stat. Soc. B 36, 111 (1974).
    """
    blocks = np.atleast_2d(np.asarray(gradients_of_blocks, float))
    if len(blocks) < 2:
        raise InputError("one block of reference frames cannot be held out; give at least 2")
    roughness, axes = _roughness(metric, penalty, free)
    candidates = np.append(0.0, _grid(roughness) if strengths is None else np.sort(strengths))
    if not (np.isfinite(candidates) & (candidates >= 0.0)).all():
        raise InputError(f"strengths {candidates[1:]} of the penalty; give numbers above zero")
    candidates = np.unique(candidates)
    held_out = blocks @ axes.T
    others = (held_out.sum(axis=0) - held_out) / (len(blocks) - 1)
    pull = axes @ penalty @ parameters
    shrink = 1.0 / (1.0 + np.multiply.outer(candidates, roughness))
    steps = -(others + candidates[:, None, None] * pull) * shrink[:, None, :]
    folds = (held_out * steps + 0.5 * steps**2).sum(axis=2)
    gain = folds - folds[0]
    scores = gain.mean(axis=1)
    errors = gain.std(axis=1, ddof=1) / np.sqrt(len(blocks))
    best = int(np.argmin(scores))
    return Strength(float(candidates[best]), candidates, scores, errors, shrink.sum(axis=1))


def _support(term, k):
    """Range of a function within its term's range."""
    if not isinstance(term, SiteTerm):
        return np.nan, np.nan
    return term.basis.support(k)


def _roughness(metric, penalty, free):
    """Eigenvalues (rank,) of the penalty where the metric is one, and those axes as rows."""
    whitened = spectrum(metric, free).directions
    values, vectors = np.linalg.eigh(whitened @ symmetric(penalty, "penalty") @ whitened.T)
    if len(values) and values[0] < -1e-9 * max(abs(values).max(), 1e-300):
        raise InputError(
            f"the penalty has the eigenvalue {values[0]:.3g}; give a form that is never negative"
        )
    return np.maximum(values, 0.0), vectors.T @ whitened


def _grid(roughness):
    """Strengths from where the roughest direction loses 1 % to where the next smoothest has 1 %."""
    rough = roughness[roughness > 1e-12 * roughness.max(initial=0.0)]
    if not len(rough):
        return np.zeros(0)
    return np.geomspace(0.01 / rough.max(), 100.0 / rough.min(), STRENGTHS)
