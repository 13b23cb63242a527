"""Mixtures of Gaussian ensembles, whose free energies and averages are known."""

import numpy as np
import pytest

from remcg.entropy import JointObjective, StateFactors
from remcg.reweight import Ensemble, Mixture, covariance_of

# u = -a x + k x^2/2: mean a/k, variance 1/k, f = ln(k)/2 - a^2/(2 k)
CHAIN = ((0.0, 1.0), (0.5, 1.2), (1.0, 1.5), (1.5, 2.0))


def free_energy(a, k):
    return 0.5 * np.log(k) - a * a / (2.0 * k)


def sampled(rng, a, k, n=2000, n_batches=50):
    x = a / k + rng.normal(size=(2, n // 2)) / np.sqrt(k)
    return Ensemble(np.array([-a, k]), np.stack([x, 0.5 * x * x], axis=-1), n_batches)


def chain(rng, n=2000):
    return Mixture([sampled(rng, a, k, n) for a, k in CHAIN])


def correlated(rng, a, k, n, memory):
    """The same from a first-order autoregression of the given correlation between neighbours."""
    noise = rng.normal(size=(2, n // 2))
    x = np.empty_like(noise)
    x[:, 0] = noise[:, 0]
    for t in range(1, x.shape[1]):
        x[:, t] = memory * x[:, t - 1] + np.sqrt(1.0 - memory**2) * noise[:, t]
    x = a / k + x / np.sqrt(k)
    return Ensemble(np.array([-a, k]), np.stack([x, 0.5 * x * x], axis=-1), 10)


def test_free_energies_of_a_mixture_are_those_of_pymbar():
    pymbar = pytest.importorskip("pymbar")
    mixture = chain(np.random.default_rng(1))
    energies = mixture.coefficients @ (mixture.features + mixture.origin).T
    found = pymbar.MBAR(energies, mixture.counts.astype(int), solver_protocol="robust").f_k
    np.testing.assert_allclose(mixture.free_energies, found - found[0], atol=1e-6)


def test_a_state_that_was_not_sampled_has_its_averages_within_the_noise():
    mixture = chain(np.random.default_rng(2), 40_000)
    a, k = 0.7, 1.3
    found = mixture.at(np.array([-a, k]))
    assert found.free_energy == pytest.approx(free_energy(a, k) - free_energy(*CHAIN[0]), abs=0.01)
    assert found.mean == pytest.approx([a / k, 0.5 * (1 / k + (a / k) ** 2)], abs=0.02)
    assert found.covariance[0, 0] == pytest.approx(1 / k, rel=0.03)
    assert found.weights.sum() == pytest.approx(1.0)
    assert 0.3 * mixture.counts.sum() < found.n_effective < mixture.counts.sum()


def test_one_ensemble_is_reweighted_by_the_exponential_of_the_difference():
    rng = np.random.default_rng(3)
    ensemble = sampled(rng, 0.0, 1.0)
    mixture = Mixture([ensemble])
    x = ensemble.features.reshape(-1, 2)
    weights = np.exp(0.3 * x[:, 0] - 0.2 * x[:, 1])
    found = mixture.at(np.array([-0.3, 1.2]))
    np.testing.assert_allclose(found.weights, weights / weights.sum(), rtol=1e-10)
    assert found.free_energy == pytest.approx(-np.log(weights.mean()), abs=1e-10)
    assert found.n_effective == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_a_constant_added_to_a_feature_changes_free_energies_by_it_and_no_weight():
    rng = np.random.default_rng(4)
    ensembles = [sampled(rng, a, k) for a, k in CHAIN]
    shift = np.array([1e4, -3e3])
    moved = [Ensemble(e.coefficients, e.features + shift, e.n_batches) for e in ensembles]
    before, after = Mixture(ensembles), Mixture(moved)
    expected = before.coefficients @ shift
    np.testing.assert_allclose(
        after.free_energies - before.free_energies, expected - expected[0], atol=1e-6
    )
    at = np.array([-0.7, 1.3])
    np.testing.assert_allclose(after.at(at).weights, before.at(at).weights, rtol=1e-6)


def test_ensembles_that_do_not_overlap_keep_finite_free_energies():
    rng = np.random.default_rng(5)
    mixture = Mixture([sampled(rng, 0.0, 1.0, 200), sampled(rng, 60.0, 1.0, 200)])
    assert np.isfinite(mixture.free_energies).all()
    assert mixture.at(np.array([0.0, 1.0])).n_effective == pytest.approx(200, rel=1e-6)


class Toy:
    """Two states of one coordinate that share the parameters p = (-a, k)."""

    factors = (StateFactors(0.5, 1.0, np.eye(2)), StateFactors(0.5, 1.3, np.eye(2)))
    at = np.array([-0.7, 1.3])
    other = np.array([-0.5, 1.1])

    def __init__(self, rng, memory=0.0, shared=True, n=2000):
        ensembles = [
            (correlated(rng, s.beta * a, s.beta * k, n, memory), (label, turn))
            for turn, s in enumerate(self.factors)
            for label, (a, k) in enumerate(CHAIN[:: -1 if turn else 1])
        ]
        groups = [range(8)] if shared else [range(4), range(4, 8)]
        mixtures = [Mixture([ensembles[i][0] for i in group]) for group in groups]
        labels = {id(m): [ensembles[i][1] for i in group] for m, group in zip(mixtures, groups)}
        references = [np.array([0.6, 0.8, 0.0])] * 2
        mixtures = [_with_volume(m) for m in mixtures]
        self.objective = JointObjective(
            self.factors,
            [0.0, 0.0],
            references,
            mixtures * (2 if shared else 1),
            {id(m): labels_of for m, labels_of in zip(mixtures, labels.values())},
        )


def _with_volume(mixture):
    """The same with a volume that does not vary."""
    return Mixture(
        [
            Ensemble(
                np.append(e.coefficients, 0.0),
                np.concatenate([e.features, np.ones((*e.features.shape[:2], 1))], axis=-1),
                e.n_batches,
            )
            for e in mixture.ensembles
        ]
    )


@pytest.mark.parametrize("shared", [True, False])
def test_gradient_and_metric_are_derivatives_of_the_estimated_value(shared):
    objective = Toy(np.random.default_rng(6), shared=shared).objective
    found, h = objective.at(Toy.at), 1e-5
    for k, step in enumerate(h * np.eye(2)):
        up, down = objective.at(Toy.at + step), objective.at(Toy.at - step)
        assert (up.value - down.value) / (2 * h) == pytest.approx(found.gradient[k], abs=1e-8)
        slope = (up.gradient - down.gradient) / (2 * h)
        np.testing.assert_allclose(slope, found.metric[k], rtol=1e-6)


@pytest.mark.parametrize("memory", [0.0, 0.8])
@pytest.mark.parametrize("shared", [True, False])
def test_error_bars_of_reweighted_estimates_are_their_spread_over_repeats(memory, shared):
    rng = np.random.default_rng(7)
    toys = [Toy(rng, memory, shared).objective for _ in range(200)]
    gradients = np.array([toy.at(Toy.at).gradient for toy in toys])
    drops = np.array([toy.at(Toy.other).value - toy.at(Toy.at).value for toy in toys])
    variances = [np.diag(covariance_of(toy.gradient_batches(Toy.at))) for toy in toys]
    of_drops = [covariance_of(t.difference_batches(Toy.at, [Toy.other]))[0, 0] for t in toys]
    # a standard deviation from 200 repeats is known to 5 %
    np.testing.assert_allclose(
        np.sqrt(np.mean(variances, axis=0)), gradients.std(axis=0, ddof=1), rtol=0.2
    )
    assert np.sqrt(np.mean(of_drops)) == pytest.approx(drops.std(ddof=1), rel=0.2)
    exact = sum(
        s.weight * ((Toy.other - Toy.at) * s.beta @ [0.6, 0.8] - change)
        for s in Toy.factors
        for change in [
            free_energy(-s.beta * Toy.other[0], s.beta * Toy.other[1])
            - free_energy(-s.beta * Toy.at[0], s.beta * Toy.at[1])
        ]
    )
    assert abs(drops.mean() - exact) < 4 * drops.std() / np.sqrt(len(drops)) + 1e-4
