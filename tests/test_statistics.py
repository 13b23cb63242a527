import numpy as np
import pytest

from remcg import statistics


def autoregressive(rng, shape, memory):
    noise = rng.normal(size=shape) * np.sqrt(1 - memory**2)
    series = np.empty(shape)
    series[:, 0] = rng.normal(size=(shape[0], *shape[2:]))
    for i in range(1, shape[1]):
        series[:, i] = memory * series[:, i - 1] + noise[:, i]
    return series


def test_the_inefficiency_of_an_autoregressive_series_is_known():
    series = autoregressive(np.random.default_rng(3), (2, 40_000, 1), 0.8)
    assert statistics.inefficiency(series) == pytest.approx(9.0, rel=0.3)


def test_a_constant_component_has_no_say_in_the_inefficiency():
    assert statistics.inefficiency(np.ones((2, 100, 3))) == 1.0


def test_batch_means_drop_the_start_of_each_replica():
    series = np.arange(14.0).reshape(2, 7, 1)
    expected = [[1.5], [3.5], [5.5], [8.5], [10.5], [12.5]]
    np.testing.assert_allclose(statistics.batch_means(series, 2), expected)


def test_the_standard_error_matches_the_spread_of_many_means():
    rng = np.random.default_rng(4)
    series = autoregressive(rng, (200, 2000), 0.7)
    errors = [statistics.standard_error(one[None])[1] for one in series[:20]]
    assert np.mean(errors) == pytest.approx(series.mean(axis=1).std(), rel=0.25)


def test_hotelling_accepts_the_truth_at_its_confidence():
    rng = np.random.default_rng(5)
    ratios = []
    for _ in range(2000):
        x = rng.normal(size=(30, 5))
        value, threshold = statistics.hotelling(x.mean(axis=0), np.cov(x.T), 30, 29, 0.99)
        ratios.append(value <= threshold)
    assert np.mean(ratios) == pytest.approx(0.99, abs=4 * np.sqrt(0.01 * 0.99 / 2000))
