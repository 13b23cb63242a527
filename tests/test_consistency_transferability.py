"""Penalties of transferability: a harmonic model of a double well, and linear algebra by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.special import iv

from remcg.basis import SplineBasis
from remcg.consistency import transferability as tr
from remcg.model import Model, PairTerm
from remcg.reweight import Ensemble, Mixture
from remcg.units import KB

HEIGHT = 2.0  # of the barrier h (x^2 - 1)^2
KT = np.array([1.0, 1.25, 1.5])
WEIGHTS = np.full(3, 1.0 / 3.0)


def mean_square(kt):
    """<x^2> of the double well by quadrature."""
    weight = [quad(lambda x, n=n: x**n * np.exp(-HEIGHT / kt * (x * x - 1) ** 2), -6, 6,
                   epsabs=1e-14, epsrel=1e-13, limit=400)[0] for n in (0, 2)]  # fmt: skip
    return weight[1] / weight[0]


def exact_penalty(k, best):
    return 0.5 * (k / best - 1.0 - np.log(k / best))


def closed_mean_square(kt):
    """<x^2> of the double well in modified Bessel functions."""
    z = 0.5 * HEIGHT / kt
    return 0.5 + 0.5 * (iv(-0.75, z) + iv(0.75, z)) / (iv(-0.25, z) + iv(0.25, z))


def test_the_numbers_of_the_double_well_are_those_of_the_closed_forms():
    for z, expected in ((0.5, 0.8934649696), (1.0, 0.8327454871), (3.0, 0.8892940156)):
        assert mean_square(HEIGHT / z) == pytest.approx(expected, abs=1e-9)
        assert closed_mean_square(HEIGHT / z) == pytest.approx(expected, abs=1e-9)
    best = KT / [mean_square(kt) for kt in KT]
    softness = closed_mean_square(KT) / KT  # 1/k of every state
    np.testing.assert_allclose(best, 1.0 / softness, atol=1e-8, rtol=0.0)
    joint = 1.0 / np.sum(WEIGHTS / best)
    assert joint == pytest.approx(1.0 / softness.mean(), abs=1e-8)
    # of Gaussians with variances kT/k: k/k_s - 1 - ln(k/k_s), halved
    ratio = softness / softness.mean()
    found = exact_penalty(joint, best)
    np.testing.assert_allclose(found, 0.5 * (ratio - 1.0 - np.log(ratio)), atol=1e-8, rtol=0.0)
    assert WEIGHTS @ found == pytest.approx(-0.5 * np.log(ratio).mean(), abs=1e-8)
    np.testing.assert_allclose(found, [0.0115546, 0.0002551, 0.0114541], atol=6e-8)


def test_the_local_estimate_is_the_second_order_of_the_exact_penalty():
    best = KT / [mean_square(kt) for kt in KT]
    for change in (0.02, 0.01):
        # phi = x^2/2 under k: variance kT^2/(2 k^2), Fisher 1/(2 k^2)
        fisher = np.array([[0.5 / best[0] ** 2]])
        found = tr.penalty(np.array([change * best[0]]), fisher, np.zeros((1, 1)))
        exact = exact_penalty(best[0] * (1.0 + change), best[0])
        assert found.value == pytest.approx(exact, rel=change)
        assert found.bias == 0.0 and found.se == 0.0


def double_well(kt, n, rng):
    """Independent samples by rejection."""
    x = np.zeros(0)
    while len(x) < n:
        trial = rng.uniform(-3.5, 3.5, 4 * n)
        x = np.append(x, trial[rng.random(4 * n) < np.exp(-HEIGHT / kt * (trial**2 - 1) ** 2)])
    return x[:n]


def test_sampled_penalties_of_the_harmonic_model_agree_with_quadrature():
    rng, n = np.random.default_rng(0), 100_000
    best = KT / [mean_square(kt) for kt in KT]
    joint = 1.0 / np.sum(WEIGHTS / best)
    states, references, ensembles = [], [], []
    for kt in KT:
        reference = 0.5 * double_well(kt, n, rng)[None, :, None] ** 2
        model = 0.5 * rng.normal(0.0, np.sqrt(kt / joint), (1, n, 1)) ** 2
        states.append(tr.local_state(f"{kt:g}", kt / KB, [joint], reference, model))
        references.append(np.concatenate([reference, np.zeros_like(reference)], axis=2))
        features = np.concatenate([model, np.zeros_like(model)], axis=2)
        ensembles.append(Ensemble(np.array([joint / kt, 0.0]), features, 20))
    mixture = Mixture(ensembles)
    for k in range(3):
        theta = np.array([joint])
        found, share = tr.reweighted(states, k, theta, 0.0, references[k], mixture)
        assert share > 0.5
        assert abs(found.value - exact_penalty(joint, best[k])) < 4.0 * found.se
        assert found.se < 1.2e-3
        assert 0.0 <= found.bias < 5e-5
        local = tr.penalty(theta - states[k].best, states[k].fisher, states[k].noise)
        assert local.value == pytest.approx(exact_penalty(joint, best[k]), rel=0.6, abs=2e-4)
    other = np.array([best[0]])  # the cold model at the hot state
    found, _ = tr.reweighted(states, 2, other, 0.0, references[2], mixture)
    assert abs(found.value - exact_penalty(best[0], best[2])) < 4.0 * found.se


def test_a_newton_step_too_far_does_not_make_a_reweighted_penalty_negative():
    """A Gaussian family: penalty (theta - best)^2/2; one Newton step that left the samples."""
    rng, n = np.random.default_rng(7), 20_000
    kt = KB * 300.0
    reference = kt * (-0.3 + rng.normal(size=(1, n, 1)))
    model = kt * rng.normal(size=(1, n, 1))
    state = tr.local_state("a", 300.0, np.zeros(1), reference, model)
    empty = np.zeros_like(reference)
    ensemble = Ensemble(np.zeros(2), np.concatenate([model, empty], axis=2), 20)
    rows = np.concatenate([reference, empty], axis=2)
    arguments = np.zeros(1), 0.0, rows, Mixture([ensemble])
    for step in (0.0, 6.0, -9.0, 30.0):
        moved = replace(state, best=state.best + step)
        found, share = tr.reweighted([moved], 0, *arguments)
        assert share > 0.5
        assert found.value + found.bias == pytest.approx(0.5 * 0.3**2, abs=4.0 * found.se)
    beyond = rows - [40.0 * kt, 0.0]  # the best model is out of the samples' reach
    far = replace(state, best=state.best + 40.0)
    assert tr.reweighted([far], 0, *arguments[:2], beyond, arguments[3])[1] == 0.0


def gaussian_state(name, temperature, centre, n_reference, rng, fisher, n_model=20000):
    """Features of a Gaussian family: mean -F theta at unit beta; the model sits at zero."""
    lower = np.linalg.cholesky(fisher) * KB * temperature
    size = len(fisher)
    mean = -KB * temperature * fisher @ centre
    reference = mean + rng.normal(size=(1, n_reference, size)) @ lower.T
    model = rng.normal(size=(1, n_model, size)) @ lower.T
    return tr.local_state(name, temperature, np.zeros(size), reference, model)


FISHER = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.6]])


def test_without_a_loss_the_estimate_is_unbiased_and_follows_its_null_distribution():
    rng, n = np.random.default_rng(1), 200
    found = []
    for _ in range(300):
        state = gaussian_state("a", 300.0, np.zeros(3), n, rng, FISHER)
        found.append(tr.penalty(state.theta - state.best, state.fisher, state.noise))
    values = np.array([p.value for p in found])
    assert np.mean([p.bias for p in found]) == pytest.approx(3 / (2 * n), rel=0.1)
    assert abs(values.mean()) < 4.0 * values.std() / np.sqrt(300)
    assert np.mean([p.se for p in found]) == pytest.approx(values.std(), rel=0.35)
    raw = values + [p.bias for p in found]
    assert stats.kstest(2 * n * raw, stats.chi2(3).cdf).pvalue > 1e-4
    assert 0.01 < np.mean([p.value > p.null for p in found]) < 0.11
    assert stats.kstest([p.p_value for p in found], "uniform").pvalue > 1e-4


def test_a_known_loss_is_found_with_honest_errors():
    rng, shift = np.random.default_rng(2), np.array([0.2, -0.1, 0.3])
    exact = 0.5 * shift @ FISHER @ shift
    found = []
    for _ in range(200):
        state = gaussian_state("a", 300.0, shift, 400, rng, FISHER)
        found.append(tr.penalty(state.theta - state.best, state.fisher, state.noise))
    scores = [(p.value - exact) / p.se for p in found]
    assert abs(np.mean(scores)) < 0.35
    assert 0.8 < np.std(scores) < 1.2
    assert np.mean([p.p_value < 0.01 for p in found]) > 0.9


def model_of(n_orders):
    basis = SplineBasis(0.3, 0.6, 4)
    zeros = np.zeros((n_orders, 4))
    return Model(("A",), (PairTerm(("A", "A"), basis, n_orders),), 300.0, 0.03, (zeros,))


def known_states(temperatures, centres, scale=1.0):
    n = len(centres[0])
    return [
        tr.LocalState(f"T{T:g}", T, np.zeros(n), scale * np.eye(n), np.asarray(c, float),
                      1e-4 * np.eye(n), n, 100)
        for T, c in zip(temperatures, centres)
    ]  # fmt: skip


def test_a_model_linear_in_temperature_loses_nothing_where_the_truth_is_linear():
    temperatures = [280.0, 300.0, 320.0, 340.0]
    rise = np.array([1.0, -2.0, 0.5, 0.0])
    states = known_states(temperatures, [rise * (T - 300.0) / 20.0 for T in temperatures])
    trained, weights = [True, False, True, True], [1 / 3, 0.0, 1 / 3, 1 / 3]
    table = tr.matrix(states, model_of(2), trained, weights)
    norm = rise @ rise
    raw = {name: {s: p.value + p.bias for s, p in row.items()} for name, row in table.items()}
    assert max(raw["joint"].values()) < 1e-10
    assert max(raw["without"].values()) < 1e-10
    mean = np.mean([-1.0, 1.0, 2.0])
    for T, place in zip(temperatures, (-1.0, 0.0, 1.0, 2.0)):
        assert raw["constant"][f"T{T:g}"] == pytest.approx(0.5 * norm * (place - mean) ** 2)
        assert raw["T280 alone"][f"T{T:g}"] == pytest.approx(0.5 * norm * (place + 1.0) ** 2)
        assert raw["model"][f"T{T:g}"] == pytest.approx(0.5 * norm * place**2)
    assert table["T300 alone"]["T300"].value == 0.0
    # noise of two ends, of four parameters each with variance 1e-4 and unit Fisher matrix
    assert table["T280 alone"]["T320"].bias == pytest.approx(0.5 * 4 * 2e-4)


def test_a_model_that_goes_through_every_best_one_loses_nothing_for_certain():
    """As many orders as temperatures: what arithmetic leaves is no loss."""
    rng = np.random.default_rng(10)
    states = known_states([280.0, 300.0, 320.0], rng.normal(size=(3, 4)), scale=50.0)
    row = tr.matrix(states, model_of(3), [True] * 3, [1 / 3] * 3)["joint"]
    for found in row.values():
        assert found == tr.Penalty(0.0, 0.0, 0.0, 0.0, 1.0)


def test_the_noise_of_a_joint_fit_is_that_of_its_states():
    states = known_states([280.0, 300.0, 320.0], [np.zeros(4)] * 3)
    table = tr.matrix(states, model_of(1), [True] * 3, [1 / 3] * 3)
    # mean of three less one of them: variance (1/3)^2 2 + (2/3)^2 = 2/3 of one
    assert table["joint"]["T300"].bias == pytest.approx(0.5 * 4 * 1e-4 * 2 / 3)
    # the mean of the two others less this one: 3/2
    assert table["without"]["T300"].bias == pytest.approx(0.5 * 4 * 1e-4 * 3 / 2)


def fit_to_references(model, temperatures, rng, n_reference=150, n_model=300):
    """States of Gaussian features, whose joint fit to the means of the references is exact."""
    size, n = model.n_phi, len(temperatures)
    fisher = np.diag(np.linspace(0.5, 2.0, size))
    designs = [model.design(T) for T in temperatures]
    lower = [np.sqrt(fisher) * KB * T for T in temperatures]
    references = [rng.normal(size=(1, n_reference, size)) @ x for x in lower]
    own = [-np.linalg.solve(fisher, x.mean(axis=(0, 1))) / (KB * T)
           for x, T in zip(references, temperatures)]  # fmt: skip
    metric = sum(d.T @ fisher @ d for d in designs) / n
    parameters = np.linalg.solve(metric, sum(d.T @ fisher @ b for d, b in zip(designs, own)) / n)
    states = []
    for T, d, x, reference in zip(temperatures, designs, lower, references):
        theta = d @ parameters
        sample = -KB * T * fisher @ theta + rng.normal(size=(1, n_model, size)) @ x
        states.append(tr.local_state(f"T{T:g}", T, theta, reference, sample))
    return states, model.with_parameters(parameters)


@pytest.mark.parametrize("n_orders", [1, 2, 3])
def test_an_exact_fit_to_the_same_reference_has_penalties_without_bias_and_even_p_values(n_orders):
    rng, T = np.random.default_rng(8), (280.0, 300.0, 320.0)
    scores, p_values = [], []
    for _ in range(80):
        states, model = fit_to_references(model_of(n_orders), T, rng)
        row = tr.matrix(states, model, [True] * 3, [1 / 3] * 3)["model"]
        found = [row[s.name] for s in states]
        scores += [p.value / p.se for p in found]
        p_values += [p.p_value for p in found]
    assert abs(np.mean(scores)) < 0.3
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert 0.0 < np.mean(np.array(p_values) < 0.1) < 0.25


def test_only_a_state_that_was_fitted_follows_the_noise_of_its_reference():
    rng = np.random.default_rng(9)
    states, model = fit_to_references(model_of(3), (280.0, 300.0, 320.0), rng)
    own = [s.noise - s.reference_noise for s in states]
    weights = [1 / 3] * 3
    for k in range(3):  # as many orders as temperatures
        found = tr.noise_of_model(states, model, [True] * 3, weights, k)
        np.testing.assert_allclose(found, own[k], atol=1e-9 * states[k].noise.max())
    found = tr.noise_of_model(states, model, [True, False, True], weights, 1)
    np.testing.assert_array_equal(found, states[1].noise)
    direct = model.with_parameters(model.parameters, status="direct")
    found = tr.noise_of_model(states, direct, [True] * 3, weights, 1)
    np.testing.assert_array_equal(found, states[1].noise)


def test_a_model_at_the_wrong_temperature_is_flagged():
    rng = np.random.default_rng(5)
    right = gaussian_state("a", 300.0, np.zeros(3), 300, rng, FISHER)
    wrong = gaussian_state("a", 300.0, np.array([0.3, 0.2, -0.4]), 300, rng, FISHER)
    found = [tr.penalty(s.theta - s.best, s.fisher, s.noise) for s in (right, wrong)]
    assert found[0].p_value > 1e-4 > found[1].p_value
    assert found[1].value > found[1].null


def test_penalties_far_away_say_so():
    near, far = (tr.penalty(np.full(4, x), np.eye(4), 1e-3 * np.eye(4)) for x in (0.1, 3.0))
    assert near.is_local and not far.is_local


def test_a_function_that_the_model_hardly_meets_gives_no_unlimited_penalty():
    rng = np.random.default_rng(6)
    reference, model = rng.normal(size=(1, 400, 2)), rng.normal(size=(2, 2000, 2))
    model[..., 1] = 1e-4 * model[..., 1] - 1.0  # a core that the reference visits and it does not
    state = tr.local_state("a", 300.0, np.zeros(2), reference, model)
    found = tr.penalty(state.theta - state.best, state.fisher, state.noise)
    assert 1.0 < found.value < 10.0  # 1/2 of the squared shift over a tenth of the variance
    plain = tr.bounded(FISHER, 2.0 * FISHER)
    np.testing.assert_array_equal(plain, FISHER)
    raised = tr.bounded(np.diag([1.0, 1e-9]), np.diag([1.0, 2.0]))
    np.testing.assert_allclose(raised, np.diag([1.0, 0.2 / 1.1]), rtol=1e-6)
