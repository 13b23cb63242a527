r"""Errors of the parameters and of what follows from them.

The parameters solve :math:`\langle\phi\rangle_{ref} = \langle\phi\rangle_{model}` with two finite
samples. With C the covariance of the gradient that this causes and F its slope,

.. math:: \mathrm{Cov}(\hat\theta) = F^{-1} C F^{-1},

whether or not the model can be the truth. An average of the model follows by linear response,

.. math:: \frac{d\langle O\rangle}{d\theta_k}
          = \Big\langle\frac{\partial O}{\partial\theta_k}\Big\rangle
          - \beta\,\mathrm{cov}(O, \phi_k).

Bands are one standard error; that of a prediction's own sampling comes on top.
"""

import numpy as np

from remcg import entropy, identify
from remcg.errors import InputError
from remcg.pairs import number_of_pairs, shell_volumes
from remcg.spectrum import pseudo_inverse
from remcg.statistics import explained_by, window_means
from remcg.units import beta


def sandwich(metric, noise, free):
    r"""Covariance of the parameters :math:`F^{-1} C F^{-1}`, for a model that need not be true.

    Parameters
    ----------
    metric : ndarray, shape (n_params, n_params), (mol/kJ)^2
        Fisher matrix F. Directions that it does not measure get no variance: they stay put.
    noise : ndarray, shape (n_params, n_params), (mol/kJ)^2
        Covariance C of the gradient from the noise of reference and model.
    free : ndarray of bool, shape (n_params,)

    Returns
    -------
    ndarray, shape (n_params, n_params), (kJ/mol)^2

    References
    ----------
    White, Econometrica 50, 1 (1982).
    """
    inverse = pseudo_inverse(metric, free)
    return inverse @ _finite(noise) @ inverse


def resampled(series, length, rng):
    """One moving-block bootstrap sample, as many values as there were.

    Parameters
    ----------
    series : ndarray, shape (n_replicas, n_samples, n_components)
    length : int
        Of a block of consecutive samples, drawn from any replica.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (1, n_replicas * n_samples, n_components)

    References
    ----------
    Kunsch, Ann. Stat. 17, 1217 (1989).
    """
    _check_blocks(series, length)
    n_replicas, n_samples, _ = series.shape
    n_blocks = -(-n_replicas * n_samples // length)
    replicas = rng.integers(n_replicas, size=n_blocks)
    starts = rng.integers(n_samples - length + 1, size=n_blocks)
    drawn = series[replicas[:, None], starts[:, None] + np.arange(length)]
    return drawn.reshape(1, -1, series.shape[2])[:, : n_replicas * n_samples]


def resampled_means(series, length, n_draws, rng):
    """Means of bootstrap samples, shape (n_draws, n_components), see :func:`resampled`.

    Deviations are widened by sqrt(k/(k - 1)) for k blocks, as a variance from k values would be.
    """
    _check_blocks(series, length)
    windows = window_means(series, length).reshape(-1, series.shape[2])
    n_blocks = series.shape[0] * series.shape[1] / length
    drawn = rng.integers(len(windows), size=(n_draws, round(n_blocks)))
    means = np.array([windows[chosen].mean(axis=0) for chosen in drawn])
    center = windows.mean(axis=0)
    widening = np.sqrt(round(n_blocks) / n_blocks * n_blocks / (n_blocks - 1.0))
    return series.mean(axis=(0, 1)) + widening * (means - center)


def block_bootstrap(factors, reference, model, metric, free, lengths, n_draws, rng):
    r"""Parameters refitted to resampled references and model samples, linearised.

    .. math:: \delta = -F^{-1} g(\text{resampled reference}, \text{resampled model})

    A check of :func:`sandwich` that needs no estimate of a covariance.

    Parameters
    ----------
    factors : sequence of remcg.entropy.StateFactors
    reference, model : sequence of ndarray, each (n_replicas, n_frames, n_phi)
        Either may be a sequence of (n_phi,) known means, which have no noise.
    metric : ndarray, shape (n_params, n_params)
    free : ndarray of bool, shape (n_params,)
    lengths : (sequence of int, sequence of int)
        Block lengths per state, of reference and model.
    n_draws : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n_draws, n_params), kJ/mol
        Displacements from the present parameters; their covariance is that of the parameters.
    """
    sides = [
        [
            series if series.ndim == 1 else resampled_means(series, length, n_draws, rng)
            for series, length in zip(side, side_lengths)
        ]
        for side, side_lengths in zip((reference, model), lengths)
    ]
    gradients = np.atleast_2d(entropy.gradient(factors, *sides))
    return -gradients @ pseudo_inverse(metric, free)


def potential_bands(model, covariance, temperature, n_points=identify.GRID_POINTS):
    r"""Potentials with their standard errors, :math:`\sqrt{b^T \mathrm{Cov}\, b}`.

    Parameters
    ----------
    model : Model
    covariance : ndarray, shape (n_params, n_params), (kJ/mol)^2, or None
    temperature : float
        K.

    Returns
    -------
    dict
        Per term {"kind", "x", "U", "se"}, each (n_points,); x as in :func:`identify.directions`;
        without a covariance, without "se".
    """
    design, theta = model.design(temperature), model.theta(temperature)
    bands = {}
    for (label, term), rows in zip(identify.labelled(model), model.phi_slices):
        x, values = identify.term_grid(term, n_points)
        bands[label] = {"kind": term.kind, "x": x, "U": values @ theta[rows]}
        if covariance is not None:
            bands[label]["se"] = standard_errors(values @ design[rows], covariance)
    return bands


def standard_errors(jacobian, covariance):
    """Standard errors of quantities with d(quantity)/d(parameters) = jacobian, (..., n_params)."""
    variance = np.einsum("...k,kl,...l->...", jacobian, _finite(covariance), jacobian)
    return np.sqrt(np.maximum(variance, 0.0))


def response(observable, phi, temperature, direct=0.0, volume=None):
    r"""Derivative of averages with the coefficients at one temperature.

    .. math:: \frac{d\langle O\rangle}{d\theta_k}
              = \Big\langle\frac{\partial O}{\partial\theta_k}\Big\rangle
              - \beta\,\mathrm{cov}(O, \phi_k)

    Parameters
    ----------
    observable : ndarray, shape (n_replicas, n_samples, ...)
    phi : ndarray, shape (n_replicas, n_samples, n_phi)
    temperature : float
        K.
    direct : ndarray, shape (..., n_phi), optional
        Mean derivative of the observable itself.
    volume : ndarray, shape (n_replicas, n_samples), optional
        If given, the response at fixed volume from samples in which it fluctuates: what is left of
        observable and basis sums after linear regression on it (``direct`` is taken as it is).

    Returns
    -------
    ndarray, shape (..., n_phi)
        Times ``model.design(temperature)`` it is the derivative with the parameters.
    """
    shape = observable.shape[2:]
    values = observable.reshape(phi.shape[0] * phi.shape[1], -1)
    features = phi.reshape(-1, phi.shape[-1])
    values, features = values - values.mean(axis=0), features - features.mean(axis=0)
    if volume is not None:
        values = values - explained_by(volume, values)
    covariance = values.T @ features / len(features)
    return direct - beta(temperature) * covariance.reshape(*shape, -1)


def density_response(volume, phi, temperature, density):
    """Derivative of the density m N/<V> with the coefficients, (n_phi,), in its units per kJ/mol.

    Parameters
    ----------
    volume : ndarray, shape (n_replicas, n_samples), nm^3
    phi : ndarray, shape (n_replicas, n_samples, n_phi)
    temperature : float
        K.
    density : float
        At <V>, in any unit.
    """
    return -density / volume.mean() * response(volume, phi, temperature)


def virial_pressure_slopes(model, edges, g, volume, type_counts, levers=None):
    r"""Derivative of the mean virial pressure with each coefficient, (n_phi,), nm^-3.

    .. math:: -\frac{1}{3V} \sum_{pairs} \langle B_k'(r)\,
              \hat{\mathbf r} \cdot (\mathbf R_I - \mathbf R_J) \rangle

    at fixed configurations, with R the centres of the molecules, from g(r), taken as constant in
    each bin. Bonded terms act within a molecule and do not change its pressure.

    Parameters
    ----------
    model : Model
    edges, g : ndarray, shape (n_bins + 1,) in nm, (n_pairs, n_bins)
        Pairs of the model's site types in order, like with like first.
    volume : float
        Mean, nm^3.
    type_counts : dict
        Number of sites of each type.
    levers : ndarray, shape (n_pairs, n_bins), optional
        Mean of the projection over r; one where every site is a molecule.
    """
    levers = np.ones_like(g) if levers is None else levers
    nodes, weights = np.polynomial.legendre.leggauss(6)
    width = np.diff(edges)[:, None]
    r = edges[:-1, None] + 0.5 * width * (1.0 + nodes)
    shell = 4.0 * np.pi * r**2 * 0.5 * width * weights
    types = model.site_types
    pairs = [{a, b} for i, a in enumerate(types) for b in types[i:]]
    slopes = np.zeros(model.n_phi)
    for term, rows in zip(model.terms, model.phi_slices):
        if term.kind == "pair":
            n_pairs = number_of_pairs(term.sites, type_counts)
            k = pairs.index(set(term.sites))
            counts = (g[k] * levers[k])[:, None] * shell * n_pairs / volume
            values = term.basis.values(r, 1)
            slopes[rows] = -np.einsum("bq,bqk->k", counts * r, values) / (3.0 * volume)
    return slopes


def volume_pressure_slopes(model, volume, n_molecules):
    """Derivative of the volume term's pressure with each coefficient, (..., n_phi), nm^-3."""
    slopes = np.zeros((*np.shape(volume), model.n_phi))
    for term, rows in zip(model.terms, model.phi_slices):
        if term.kind == "volume":
            x = np.asarray(volume) / (n_molecules * model.v0) - 1.0
            parts = [-np.ones_like(x) / model.v0, -2.0 * x / model.v0]
            slopes[..., rows] = np.stack(parts[: term.n_basis], axis=-1)
    return slopes


def pressure_response(pressure, phi, temperature, slopes, volume=None):
    """Derivative of the mean pressure with the coefficients, (n_phi,), nm^-3.

    Parameters
    ----------
    pressure : ndarray, shape (n_replicas, n_samples), kJ/mol/nm^3
        With the volume term (:meth:`remcg.model.Model.volume_pressure`).
    phi : ndarray, shape (n_replicas, n_samples, n_phi)
    temperature : float
        K.
    slopes : ndarray, shape (n_phi,)
        Mean derivative of the pressure at fixed configurations: that of the virial and, from
        :func:`volume_pressure_slopes`, of the volume term.
    volume : ndarray, optional
        For samples at constant pressure: the response at fixed volume is returned. Without it
        such samples give zero within their noise, as the mean pressure is the set one.
    """
    return response(pressure, phi, temperature, slopes, volume)


def rdf_response(term, site_sums, volume, n_pairs, edges, g, phi, temperature):
    r"""Derivative of g(r) with the coefficients, at the resolution of the term's splines.

    Samples hold basis sums, not histograms. The change of g is therefore sought in the form
    :math:`\delta g(r) = g(r) \sum_k a_k B_k(r)` whose basis sums are those of linear response,

    .. math:: \sum_l a_l \int B_k B_l\, g\, 4\pi r^2 dr
              = \frac{\delta\langle V \phi_k\rangle}{N_{pairs}}

    (a Galerkin projection). It is exact for averages of the splines, smooth below their spacing,
    and vanishes at the cut-off by construction: within two spacings of it, changes are
    underestimated. Where g is zero there is no response.

    Parameters
    ----------
    term : PairTerm
    site_sums : ndarray, shape (n_replicas, n_samples, n_basis)
        Basis sums of this term.
    volume : ndarray, shape (n_replicas, n_samples), nm^3
    n_pairs : float
        N(N - 1)/2, or N_a N_b.
    edges, g : ndarray, shape (n_bins + 1,) in nm, (n_bins,)
        Mean g(r) of the samples.
    phi : ndarray, shape (n_replicas, n_samples, n_phi)
        All basis sums of the model.
    temperature : float
        K.

    Returns
    -------
    ndarray, shape (n_bins, n_phi), mol/kJ
        At the bins' centres; zero beyond the cut-off.
    """
    changes = response(site_sums * volume[..., None] / n_pairs, phi, temperature)
    r = 0.5 * (edges[1:] + edges[:-1])
    values = term.basis.values(r)
    overlap = values.T @ ((g * shell_volumes(edges))[:, None] * values)
    met = np.diag(overlap) > 1e-12 * np.diag(overlap).max()
    inverse = np.zeros_like(overlap)
    inverse[np.ix_(met, met)] = np.linalg.pinv(overlap[np.ix_(met, met)], 1e-8, hermitian=True)
    return g[:, None] * (values @ inverse @ changes)


def _finite(matrix):
    matrix = np.asarray(matrix, float)
    if not np.isfinite(matrix).all():
        raise InputError(
            f"a covariance with {np.sum(~np.isfinite(matrix))} entries that are not finite; it"
            " needs at least two independent batches of samples"
        )
    return matrix


def _check_blocks(series, length):
    n_replicas, n_samples, _ = series.shape
    if not 1 <= length <= n_samples or n_replicas * n_samples < 2 * length:
        raise InputError(
            f"blocks of {length} in {n_replicas} x {n_samples} samples; give at least two blocks"
            " and none longer than a replica"
        )
