import numpy as np
import pytest

from remcg.equilibration import cut, first_equilibrated, inefficiency


def correlated(n, inefficiency, seed):
    """AR(1) series of unit variance with a given statistical inefficiency."""
    decay = (inefficiency - 1.0) / (inefficiency + 1.0)
    noise = np.random.default_rng(seed).standard_normal(n) * np.sqrt(1.0 - decay**2)
    series = np.zeros(n)
    series[0] = noise[0] / np.sqrt(1.0 - decay**2)
    for k in range(1, n):
        series[k] = decay * series[k - 1] + noise[k]
    return series


def result_of(series, n_kept=4, n_blocks=10):
    per_sample = ("site_sums", "volume", "energy", "pressure", "pressure_tensor", "temperature")
    return {
        **dict.fromkeys(per_sample, series),
        "rdf_blocks": np.arange(n_blocks),
        "trajectory": np.arange(n_kept),
        "trajectory_box": np.arange(n_kept),
        "positions": np.zeros((1, 3)),
    }


def test_the_inefficiency_of_correlated_noise_is_the_one_it_was_made_with():
    for wanted in (1.0, 5.0, 20.0):
        found = [inefficiency(correlated(20000, wanted, seed)) for seed in range(20)]
        assert np.mean(found) == pytest.approx(wanted, rel=0.1)
    assert inefficiency(np.full(100, 3.0)) == 1.0


def test_a_stationary_run_loses_little():
    starts = [first_equilibrated(correlated(1000, 25.0, seed))[0] for seed in range(200)]
    assert np.mean(np.array(starts) > 0) < 0.1
    assert np.mean(starts) < 0.02 * 1000


@pytest.mark.parametrize("time_constant", [50, 200])
def test_a_transient_is_cut(time_constant):
    drift = 20.0 * np.exp(-np.arange(2000) / time_constant)
    runs = [correlated(2000, 5.0, seed) + drift for seed in range(20)]
    starts = [first_equilibrated(run)[0] for run in runs]
    assert min(starts) >= 1.5 * time_constant
    assert np.median(starts) <= 8 * time_constant


def test_all_replicas_are_cut_where_the_slowest_has_equilibrated_by_whole_blocks():
    quiet, noisy = correlated(1000, 3.0, 0), correlated(1000, 3.0, 1)
    noisy[:230] += np.linspace(30.0, 5.0, 230)
    rest, lost = cut([result_of(quiet), result_of(noisy)])
    assert lost == 300
    assert [len(result["energy"]) for result in rest] == [700, 700]
    assert np.array_equal(rest[1]["energy"], noisy[300:])
    assert rest[0]["rdf_blocks"].tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert rest[0]["trajectory"].tolist() == [1, 2, 3]  # the first one was taken at sample 249
    assert rest[0]["positions"].shape == (1, 3)


def test_a_run_that_never_comes_to_equilibrium_is_said_so():
    lines = []
    drift = np.linspace(0.0, 100.0, 1000)
    cut([result_of(drift + correlated(1000, 2.0, 0))], lines.append)
    assert "hardly in equilibrium" in lines[0] and "sample.equilibration" in lines[0]
    cut([result_of(correlated(1000, 2.0, 0))], lines.append)
    assert len(lines) == 1


def test_a_handful_of_samples_is_kept_whole():
    rest, lost = cut([result_of(np.array([1.0, 1.0]), n_kept=2, n_blocks=2)])
    assert lost == 0 and len(rest[0]["energy"]) == 2
