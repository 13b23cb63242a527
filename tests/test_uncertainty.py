"""Errors against closed forms, finite differences, repetition and the bootstrap."""

import json

import numpy as np
import pytest
from scipy import stats

from remcg import entropy, statistics, uncertainty
from remcg.basis import SplineBasis
from remcg.errors import InputError
from remcg.model import Model, PairTerm, VolumeTerm
from remcg.units import KB, beta
from test_optimize import well_samples

UNIT = 1.0 / KB  # K: temperature of kT = 1 kJ/mol
N_REPEATS = 1000


def ring(rng, n_samples=400, n=20, length=10.0):
    """Sites on a line with period ``length``, and the basis sums of their pairs."""
    x = rng.uniform(0.0, length, size=(2, n_samples, n))
    i, j = np.triu_indices(n, 1)
    r = np.abs(x[..., i] - x[..., j])
    r = np.minimum(r, length - r)
    phi = SplineBasis(0.2, 4.0, 7).values(r).sum(axis=2)
    return x, r, phi


def reweighted(observable, phi, step, temperature, change=0.0):
    """Mean under exp(-beta step.phi) of common samples, of an observable that may change itself."""
    w = np.exp(-beta(temperature) * (phi - phi.mean(axis=(0, 1))) @ step)
    w = (w / w.sum()).ravel()
    return np.tensordot(w, (observable + change).reshape(len(w), -1), 1)


def common_sample_slopes(observable, phi, temperature, direct=None, h=1e-4):
    slopes = []
    for step in h * np.eye(phi.shape[-1]):
        change = 0.0 if direct is None else (direct @ step).reshape(observable.shape)
        up = reweighted(observable, phi, step, temperature, change)
        down = reweighted(observable, phi, -step, temperature, -change)
        slopes.append((up - down) / (2 * h))
    return np.array(slopes).T


def test_covariance_gradients_are_the_finite_differences_of_common_samples():
    rng = np.random.default_rng(1)
    x, r, phi = ring(rng)
    bins = np.stack([((r >= a) & (r < a + 0.5)).sum(axis=2) for a in np.arange(0, 5, 0.5)], axis=2)
    k = 2.0 * np.pi * np.arange(1, 6) / 10.0
    structure = np.abs(np.exp(1j * k * x[..., None]).sum(axis=2)) ** 2 / x.shape[2]
    points = rng.normal(size=(2, 400, 20, 2))  # angles of a chain in the plane
    bonds = np.diff(points, axis=2)
    (ax, ay), (bx, by) = np.moveaxis(bonds[:, :, :-1], -1, 0), np.moveaxis(bonds[:, :, 1:], -1, 0)
    turn = np.arctan2(ax * by - ay * bx, ax * bx + ay * by)
    angles = np.stack([((turn >= a) & (turn < a + 1)).sum(axis=2) for a in (-3, -1, 1)], axis=2)
    for observable in (bins, structure, angles):
        features = phi if observable is not angles else angles**2 / 20.0
        found = uncertainty.response(observable.astype(float), features, 2.0 * UNIT)
        expected = common_sample_slopes(observable, features, 2.0 * UNIT)
        assert found.shape == (observable.shape[2], features.shape[2])
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def test_an_observable_that_depends_on_the_parameters_adds_its_own_slope():
    rng = np.random.default_rng(2)
    _, _, phi = ring(rng)
    pressure = rng.normal(size=(2, 400)) + 0.1 * phi.sum(axis=2)
    direct = rng.normal(size=(2, 400, 7)) + 0.3 * phi
    found = uncertainty.response(pressure, phi, UNIT, direct.mean(axis=(0, 1)))
    # d<O>/dtheta at the sampled parameters: the mean slope and the covariance, to second order
    expected = common_sample_slopes(pressure, phi, UNIT, direct)
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def test_the_response_of_a_harmonic_coordinate_is_the_known_one():
    rng = np.random.default_rng(3)
    b, k, n = 1.3, 2.0, 200_000
    x = rng.normal(size=(1, n)) / np.sqrt(b * k)
    found = uncertainty.response(x**2, 0.5 * x[..., None] ** 2, UNIT / b)[0]
    exact = -1.0 / (b * k**2)
    assert found == pytest.approx(exact, rel=4 * np.sqrt(53 / n))  # Var of chi2_1 squared moments
    runs = [np.mean((rng.normal(size=n) / np.sqrt(b * (k + h))) ** 2) for h in (0.2, -0.2)]
    error = np.sqrt(2 * 2 / n) / (b * k) / 0.4
    assert abs((runs[0] - runs[1]) / 0.4 - found) < 4 * error + 0.02 * abs(exact)


def volume_model():
    return Model(("W",), (VolumeTerm(2, 1),), UNIT, 0.03, (np.array([[3.0, 200.0]]),))


def volume_samples(rng, n=50_000, stiffness=4.0):
    """Gaussian volumes, with the virial pressure -d/dV of stiffness (V - 30)^2/2; 1000 v0 = 30."""
    model = volume_model()
    psi_1, psi_2 = model.psi(UNIT)
    total = stiffness + 2.0 * psi_2 / (1000 * 0.03**2)
    volume = 30.0 - psi_1 / 0.03 / total + rng.normal(size=(2, n)) / np.sqrt(total)
    phi = model.terms[0].basis_sums(volume, 1000, 0.03)
    pressure = -stiffness * (volume - 30.0) + model.volume_pressure(volume, 1000, UNIT)
    return model, volume, phi, pressure, total


def test_density_follows_the_volume_term_through_the_fluctuation_of_the_volume():
    _, volume, phi, _, total = volume_samples(np.random.default_rng(4))
    found = uncertainty.density_response(volume, phi, UNIT, 1000.0)
    exact = 1000.0 / volume.mean() / (total * 0.03)
    assert found[0] == pytest.approx(exact, rel=4 * np.sqrt(2 / volume.size))


def test_the_slopes_of_the_volume_terms_pressure_are_its_finite_differences():
    model, volume = volume_model(), np.array([27.0, 30.0, 31.5])
    slopes = uncertainty.volume_pressure_slopes(model, volume, 1000)
    for k, step in enumerate(np.eye(2)):
        up = model.with_parameters(model.parameters + step)
        expected = up.volume_pressure(volume, 1000, UNIT) - model.volume_pressure(
            volume, 1000, UNIT
        )
        np.testing.assert_allclose(slopes[:, k], expected, atol=1e-9)


def test_at_constant_pressure_the_mean_pressure_does_not_respond_but_at_fixed_volume_it_does():
    model, volume, phi, pressure, _ = volume_samples(np.random.default_rng(5))
    slopes = uncertainty.volume_pressure_slopes(model, volume, 1000).mean(axis=(0, 1))
    free = uncertainty.pressure_response(pressure, phi, UNIT, slopes)
    scale = np.abs(slopes[0])
    assert abs(free[0]) < 4 * scale * np.sqrt(2 / volume.size)
    fixed = uncertainty.pressure_response(pressure, phi, UNIT, slopes, volume)
    np.testing.assert_allclose(fixed, slopes, rtol=1e-9)


def test_the_rdf_of_independent_pairs_responds_as_minus_beta_g_times_the_function():
    rng = np.random.default_rng(6)
    basis, edge, n_pairs, n_samples = SplineBasis(0.25, 0.9, 14), 1.2, 300, 4000
    r = np.linspace(0.25, edge, 4001)
    energy = 1.5 * np.cos(12.0 * r) * np.clip((0.9 - r) / 0.4, 0, 1) ** 2
    density = r**2 * np.exp(-energy)
    cumulative = np.cumsum(density) / density.sum()
    distance = np.interp(rng.uniform(size=(2, n_samples, n_pairs)), cumulative, r)
    volume = 4 / 3 * np.pi * (edge**3 - 0.25**3) * np.ones((2, n_samples))
    phi = np.array([basis.values(d).sum(axis=0) for d in distance.reshape(-1, n_pairs)])
    phi = phi.reshape(2, n_samples, 14)
    edges = np.arange(0.0, 0.9001, 0.01)
    counts = np.histogram(distance, edges)[0] / (2 * n_samples)
    g = counts * volume[0, 0] / (4 / 3 * np.pi * np.diff(edges**3) * n_pairs)
    term = PairTerm(("A", "A"), basis, 1)
    arguments = (term, phi, volume, n_pairs, edges, g, phi, UNIT)
    found = uncertainty.rdf_response(*arguments)
    centers = 0.5 * (edges[1:] + edges[:-1])
    # a pair less in one place is a pair more elsewhere: the mean of B_k stays
    values = basis.values(centers)
    exact = -g[:, None] * (values - phi.mean(axis=(0, 1)) / n_pairs)
    inside = (centers > 0.27) & (centers < 0.9 - 2 * basis.spacing)
    step = rng.normal(size=14)
    deviation = (found - exact)[inside] @ step
    assert np.sqrt(np.mean(deviation**2)) < 0.08 * np.sqrt(np.mean((exact[inside] @ step) ** 2))
    assert (found[g == 0.0] == 0.0).all()


def test_a_sandwich_of_a_true_model_is_the_inverse_fisher_matrix_over_the_frames():
    rng = np.random.default_rng(7)
    root = rng.normal(size=(30, 5))
    metric = root.T @ root
    free = np.array([True, True, False, True, True])
    found = uncertainty.sandwich(metric, metric / 400, free)
    inner = np.ix_(free, free)
    np.testing.assert_allclose(found[inner], np.linalg.inv(metric[inner]) / 400)
    assert (found[2] == 0.0).all() and (found[:, 2] == 0.0).all()


def test_a_direction_that_is_not_measured_gets_no_variance():
    metric = np.array([[1.0, 1.0], [1.0, 1.0]])
    found = uncertainty.sandwich(metric, np.eye(2), np.ones(2, bool))
    assert np.array([1.0, -1.0]) @ found @ [1.0, -1.0] == pytest.approx(0.0, abs=1e-12)
    assert np.array([1.0, 1.0]) @ found @ [1.0, 1.0] > 0.1


def test_a_penalty_narrows_the_errors():
    rng = np.random.default_rng(8)
    root = rng.normal(size=(30, 4))
    metric, free = root.T @ root, np.ones(4, bool)
    plain = uncertainty.sandwich(metric, metric / 50, free)
    penalised = uncertainty.sandwich(metric + 5.0 * np.eye(4), metric / 50, free)
    assert np.linalg.eigvalsh(plain - penalised).min() > 0.0


def gaussian_fit(x):
    """theta of U = theta_1 x + theta_2 x^2/2 at kT = 1 with the mean and variance of the rows."""
    mean, variance = x.mean(axis=1), x.var(axis=1)
    return np.stack([-mean / variance, 1.0 / variance], axis=1)


def features(x):
    return np.stack([x, 0.5 * x**2], axis=-1)


def model_fisher(theta):
    mean, variance = -theta[0] / theta[1], 1.0 / theta[1]
    cross = mean * variance
    return np.array([[variance, cross], [cross, 0.5 * variance**2 + mean**2 * variance]])


def coverage(draw, truth, free, n=800):
    """How often the 95 % ellipsoids of the sandwich and of F^-1/n hold the free parameters."""
    limit, inside = stats.chi2.ppf(0.95, free.sum()), np.zeros(2)
    x = draw(N_REPEATS * n).reshape(N_REPEATS, n)
    fits = gaussian_fit(x)
    if not free[0]:
        fits = np.stack([np.zeros(N_REPEATS), 1.0 / np.mean(x**2, axis=1)], axis=1)
    for row, theta in zip(x, fits):
        fisher, error = model_fisher(theta), (theta - truth)[free]
        for k, noise in enumerate((np.cov(features(row).T), fisher)):
            covariance = uncertainty.sandwich(fisher, noise / n, free)[np.ix_(free, free)]
            inside[k] += error @ np.linalg.solve(covariance, error) <= limit
    return inside / N_REPEATS


def test_ellipsoids_of_a_true_model_cover_it_as_often_as_they_say():
    rng = np.random.default_rng(9)
    truth = np.array([-0.7, 1.0]) / 1.1**2
    found = coverage(lambda n: 0.7 + 1.1 * rng.normal(size=n), truth, np.ones(2, bool))
    assert ((found >= 0.91) & (found <= 0.98)).all()


def test_in_a_double_well_the_sandwich_covers_the_best_harmonic_model_and_the_fisher_matrix_not():
    rng = np.random.default_rng(10)
    second = 0.8521361522  # <x^2> at beta h = 2, in closed form
    truth, stiffness = np.array([0.0, 1.0 / second]), np.array([False, True])
    sandwich, naive = coverage(lambda n: well_samples(rng, 1.0, n), truth, stiffness)
    assert 0.91 <= sandwich <= 0.98
    assert naive > 0.99  # too wide: the wells are narrower than their harmonic model


def test_with_heavy_tails_the_sandwich_covers_the_best_gaussian_and_the_fisher_matrix_not():
    rng = np.random.default_rng(19)
    truth = np.array([0.0, 0.5])  # the variance of the Laplace distribution is 2
    sandwich, naive = coverage(lambda n: rng.laplace(size=n), truth, np.ones(2, bool), 2000)
    assert 0.91 <= sandwich <= 0.98
    assert naive < 0.85


def autoregressive(rng, n, n_components=3, memory=0.8):
    """Stationary series of unit variance, mixed; its inefficiency is (1 + memory)/(1 - memory)."""
    from scipy.signal import lfilter

    noise = np.sqrt(1.0 - memory**2) * rng.normal(size=(2, n + 200, n_components))
    mixing = np.eye(n_components) + 0.5 * np.tri(n_components, k=-1)
    return lfilter([1.0], [1.0, -memory], noise, axis=1)[:, 200:] @ mixing.T, mixing @ mixing.T


def test_the_covariance_of_a_mean_of_correlated_samples_is_the_known_one():
    rng = np.random.default_rng(11)
    series, covariance = autoregressive(rng, 40_000)
    found = statistics.covariance_of_mean(series, 100)
    exact = covariance * 9.0 / 80_000
    np.testing.assert_allclose(found, exact, atol=0.2 * exact.max())
    independent = rng.normal(size=(1, 4000, 2))
    found = statistics.covariance_of_mean(independent, 1)
    np.testing.assert_allclose(found, np.cov(independent[0].T) / 4000, rtol=1e-3, atol=1e-9)


def test_sandwich_and_block_bootstrap_agree_on_correlated_series():
    rng = np.random.default_rng(12)
    factors = [entropy.StateFactors(0.5, b, np.eye(3)) for b in (0.4, 0.5)]
    reference = [autoregressive(rng, 10_000)[0] for _ in range(2)]
    model = [autoregressive(rng, 20_000)[0] for _ in range(2)]
    metric = entropy.fisher(factors, [entropy.covariance(phi) for phi in model])
    noise = entropy.gradient_covariance(
        factors,
        [
            statistics.covariance_of_mean(a, 90) + statistics.covariance_of_mean(b, 90)
            for a, b in zip(reference, model)
        ],
    )
    free = np.ones(3, bool)
    sandwich = uncertainty.sandwich(metric, noise, free)
    lengths = ([90, 90], [90, 90])
    draws = uncertainty.block_bootstrap(factors, reference, model, metric, free, lengths, 3000, rng)
    bootstrap = np.cov(draws.T)
    np.testing.assert_allclose(np.diag(bootstrap), np.diag(sandwich), rtol=0.15)
    assert np.trace(metric @ bootstrap) == pytest.approx(np.trace(metric @ sandwich), rel=0.1)
    _, covariance = autoregressive(rng, 1)
    exact = entropy.gradient_covariance(factors, [covariance * 9.0 * (1 / 20_000 + 1 / 40_000)] * 2)
    exact = uncertainty.sandwich(entropy.fisher(factors, [covariance] * 2), exact, free)
    assert np.trace(metric @ sandwich) == pytest.approx(np.trace(metric @ exact), rel=0.25)


def test_refitting_a_harmonic_model_to_resampled_wells_gives_the_error_of_the_sandwich():
    rng = np.random.default_rng(13)
    quantiles = stats.norm.cdf(autoregressive(rng, 20_000, 1)[0][..., 0])
    order = np.sort(well_samples(rng, 1.0, 200_000))
    x = np.interp(quantiles, (np.arange(200_000) + 0.5) / 200_000, order)[..., None]
    refits = np.array(
        [gaussian_fit(uncertainty.resampled(x, 100, rng)[:, :, 0])[0] for _ in range(400)]
    )
    theta = gaussian_fit(x.reshape(1, -1))[0]
    noise = statistics.covariance_of_mean(features(x[..., 0]), 100)
    sandwich = uncertainty.sandwich(model_fisher(theta), noise, np.ones(2, bool))
    np.testing.assert_allclose(refits.std(axis=0), np.sqrt(np.diag(sandwich)), rtol=0.15)


def test_a_known_model_mean_has_no_noise_in_the_bootstrap():
    rng = np.random.default_rng(14)
    factors = [entropy.StateFactors(1.0, 1.0, np.eye(1))]
    series = rng.normal(size=(1, 2000, 1))
    for reference, model in ((series, np.zeros(1)), (np.zeros(1), series)):
        draws = uncertainty.block_bootstrap(
            factors, [reference], [model], np.eye(1), np.ones(1, bool), ([10], [10]), 2000, rng
        )
        assert draws.std() == pytest.approx(1 / np.sqrt(2000), rel=0.15)


def test_bands_of_the_potentials_are_the_spread_of_drawn_parameters():
    rng = np.random.default_rng(15)
    terms = (PairTerm(("W", "W"), SplineBasis(0.25, 0.9, 8), 2), VolumeTerm(2, 1))
    model = Model(("W",), terms, 300.0, 0.03, (rng.normal(size=(2, 8)), np.array([[4.0, 9.0]])))
    root = 0.1 * rng.normal(size=(18, 18))
    covariance = root @ root.T
    found = uncertainty.potential_bands(model, covariance, 330.0, 40)
    drawn = model.parameters + rng.normal(size=(20_000, 18)) @ root.T
    potentials = drawn @ model.design(330.0)[:8].T @ terms[0].basis.values(found["W-W"]["x"]).T
    np.testing.assert_allclose(found["W-W"]["se"], potentials.std(axis=0), rtol=0.03, atol=1e-12)
    np.testing.assert_allclose(found["W-W"]["U"], potentials.mean(axis=0), atol=0.05)
    assert found["volume"]["U"][0] == pytest.approx(-0.05 * 4.0 + 0.05**2 * 9.0)
    assert json.dumps({k: v["kind"] for k, v in found.items()})


def test_a_covariance_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match=r"4 entries that are not finite.*two independent batches"):
        uncertainty.sandwich(np.eye(2), np.full((2, 2), np.nan), np.ones(2, bool))


@pytest.mark.parametrize("length", [0, 60, 101])
def test_a_series_of_less_than_two_blocks_gives_no_error(length):
    series = np.random.default_rng(16).normal(size=(1, 100, 2))
    rng = np.random.default_rng(17)
    for call in (
        lambda: statistics.covariance_of_mean(series, length),
        lambda: uncertainty.resampled_means(series, length, 5, rng),
        lambda: uncertainty.resampled(series, length, rng),
    ):
        with pytest.raises(InputError, match=rf"of {length} in 1 x 100 samples; give at least two"):
            call()


def test_a_reference_with_fewer_batches_than_parameters_bounds_the_errors_from_below():
    rng = np.random.default_rng(18)
    series = rng.normal(size=(1, 20, 30))
    noise = statistics.covariance_of_mean(series, 1)
    found = uncertainty.sandwich(np.eye(30), noise, np.ones(30, bool))
    assert np.linalg.matrix_rank(found) == 19  # the other directions look free of error
