"""The noise of relative entropy minimisation is what theory says, in Gaussian ensembles."""

import numpy as np
import pytest

from remcg import entropy, optimize
from remcg.model import Model
from remcg.steps import minimise, natural_step
from remcg.stored import relative_entropy_path
from remcg.units import KB
from test_optimize import HarmonicTerm

UNIT = 1.0 / KB  # K, where kT = 1
OFFSET = 5.0  # basis sums are positive


@pytest.mark.parametrize("damping", [0.2, 0.5, 1.0])
def test_damped_newton_steps_wander_as_far_above_the_minimum_as_their_noise_drives_them(damping):
    r"""E[S - S_min] = eta/(2 - eta) p/(2 n), u = x^2/2 + theta x in p dimensions."""
    rng = np.random.default_rng(1)
    p, n = 20, 200
    theta, free, excess = np.zeros(p), np.ones(p, bool), []
    state = [entropy.StateFactors(1.0, 1.0, np.eye(p))]
    for k in range(6000):
        x = rng.normal(size=(n, p)) - theta
        gradient = entropy.gradient(state, [np.zeros(p)], [x.mean(axis=0)])
        step, _, _ = natural_step(gradient, np.eye(p), free, np.inf)
        theta = theta + damping * step
        if k > 100:
            excess.append(0.5 * theta @ theta)
    assert np.mean(excess) == pytest.approx(damping / (2.0 - damping) * p / (2 * n), rel=0.05)


def test_all_samples_together_leave_less_noise_than_steps_from_the_last_ones():
    """With K rounds of n samples the excess falls to p/(2 K n) instead of staying at p/(2 n)."""
    rng = np.random.default_rng(2)
    p, n, n_rounds = 5, 400, 8
    model = Model(("X",), (HarmonicTerm(1, p),), UNIT, 1.0, (np.zeros((1, p)),))
    excess = []
    for _ in range(60):
        current, history = model, []
        for _ in range(n_rounds):
            x = rng.normal(size=(2, n // 2, p)) - current.parameters
            data = [gaussian_state(x + OFFSET)]
            current, observation, _ = optimize.update(current, data, "local", history, 20.0, 0.99)
            history.append(observation)
        excess.append(0.5 * current.parameters @ current.parameters)
    found, error = np.mean(excess), np.std(excess) / np.sqrt(len(excess))
    assert found == pytest.approx(p / (2 * n * n_rounds), abs=4 * error + 1e-4)
    assert found < 0.5 * p / (2 * n)


def gaussian_state(x):
    """A state with samples x (2, n/2, p) whose reference has exactly the mean OFFSET."""
    reference, volume = np.full((1, 8, x.shape[-1]), OFFSET), np.ones(x.shape[:2])
    return optimize.StateData(
        "s", UNIT, None, 1.0, 1, reference, np.ones((1, 8)), x, volume, 0.0 * volume, np.zeros(5)
    )


def spring(k):
    return Model(("X",), (HarmonicTerm(1),), UNIT, 1.0, (np.array([[float(k)]]),))


def spring_data(rng, k, reference, n=2000):
    x = rng.normal(size=(2, n // 2, 1)) / np.sqrt(k)
    volume = np.ones(x.shape[:2])
    half = 0.5 * reference[None, :, None] ** 2
    return [
        optimize.StateData(
            "s", UNIT, None, 1.0, 1, half, np.ones((1, len(reference))), 0.5 * x**2, volume,
            0.0 * volume, np.zeros(1),
        )
    ]  # fmt: skip


def z_scores(n_repeats, seed, n_rounds=2):
    """Of the spring constant and of the relative entropy of the first iteration, truth 1."""
    rng, z = np.random.default_rng(seed), []
    for _ in range(n_repeats):
        reference = rng.normal(size=1000)
        model, history = spring(2.0), []
        for _ in range(n_rounds):
            data = spring_data(rng, model.parameters[0], reference)
            model, observation, _ = optimize.update(model, data, "local", history, 20.0, 0.99)
            history.append(observation)
        final = optimize.finish(model, data, history, "converged", {})
        row, k = relative_entropy_path(final, data, history)[0], final.parameters[0]
        drop = 0.5 * (2.0 - k - np.log(2.0 / k))  # of the true reference, from 2 to k
        error = np.sqrt(final.extra["covariance"][0, 0])
        z.append([(k - 1.0) / error, (row["nats_per_molecule"] - drop) / row["se"]])
    return np.array(z)


def test_errors_of_parameters_and_of_the_relative_entropy_are_their_spread():
    """200 repeats; 1000 in test_verify.py."""
    z = z_scores(200, 3)
    assert (np.abs(z.mean(axis=0)) < 4.0 / np.sqrt(200)).all()
    assert (0.8 < z.std(axis=0)).all() and (z.std(axis=0) < 1.2).all()


class Quadratic:
    """An objective whose samples reach a given distance from their centre."""

    def __init__(self, centre, best, radius):
        self.centre, self.best, self.radius = (np.asarray(a, float) for a in (centre, best, radius))

    def at(self, parameters):
        gap = parameters - self.best
        distance = np.abs(parameters - self.centre).max()
        n_effective = 100.0 if distance <= self.radius else 100.0 * np.exp(self.radius - distance)
        state = type("State", (), {"n_effective": n_effective})()
        return entropy.Estimate(0.5 * gap @ gap, gap, np.eye(len(gap)), [state])


def test_a_minimum_within_reach_is_found_and_one_beyond_is_approached_to_where_samples_end():
    free, none = np.ones(2, bool), np.zeros((2, 2))
    near = minimise(Quadratic([0, 0], [1, 1], 3.0), np.zeros(2), free, none, 10.0, [50.0])
    assert near.is_reached and near.parameters == pytest.approx([1.0, 1.0])
    far = minimise(Quadratic([0, 0], [9, 9], 3.0), np.zeros(2), free, none, 1.0, [50.0])
    assert not far.is_reached and far.full_step_kl == pytest.approx(81.0)
    assert far.n_effective[0] >= 50.0
    assert 3.0 < np.abs(far.parameters).max() < 3.0 + np.log(2.0)


def test_a_penalty_moves_the_minimum_to_where_both_balance():
    free = np.ones(2, bool)
    found = minimise(
        Quadratic([0, 0], [1, 1], 9.0), np.zeros(2), free, np.diag([1.0, 3.0]), 10.0, [50.0]
    )
    assert found.parameters == pytest.approx([0.5, 0.25])
