"""Gradient, Fisher matrix and joint minimum against quadrature in one dimension."""

import numpy as np
import pytest
from scipy.interpolate import BSpline

from remcg import entropy
from remcg.steps import natural_step

X = np.linspace(-3.0, 3.0, 6001)
KT = (1.0, 1.25, 1.5)
WEIGHTS = (1 / 3, 1 / 3, 1 / 3)


def averages(energy, features, beta):
    """Mean and covariance of features, shape (p, n_points), under exp(-beta U)."""
    p = np.exp(-beta * (energy - energy.min()))
    p /= p.sum()
    mean = features @ p
    deviations = features - mean[:, None]
    return mean, (deviations * p) @ deviations.T


def log_partition(energy, beta):
    low = energy.min()
    return np.log(np.sum(np.exp(-beta * (energy - low)))) - beta * low


@pytest.fixture
def splines():
    knots = np.concatenate([[-3.0] * 3, np.linspace(-3.0, 3.0, 6), [3.0] * 3])
    return BSpline(knots, np.eye(8), 3)(X).T


def test_gradient_and_fisher_are_the_derivatives_of_the_relative_entropy(splines):
    rng = np.random.default_rng(6)
    theta, beta = rng.normal(size=8), 1.3
    reference, _ = averages(2.0 * (X**2 - 1.0) ** 2, splines, beta)
    state = entropy.StateFactors(1.0, beta, np.eye(8))

    def value(parameters):
        return beta * parameters @ reference + log_partition(parameters @ splines, beta)

    def gradient(parameters):
        mean, _ = averages(parameters @ splines, splines, beta)
        return entropy.gradient([state], [reference], [mean])

    steps = 1e-5 * np.eye(8)
    slope = np.array([(value(theta + h) - value(theta - h)) / 2e-5 for h in steps])
    np.testing.assert_allclose(gradient(theta), slope, rtol=1e-6, atol=1e-9)
    curvature = np.array([(gradient(theta + h) - gradient(theta - h)) / 2e-5 for h in steps])
    fisher = entropy.fisher([state], [averages(theta @ splines, splines, beta)[1]])
    np.testing.assert_allclose(fisher, curvature, rtol=1e-5, atol=1e-9)


def wide_averages(energy, features, beta, x):
    p = np.exp(-beta * (energy - energy.min()))
    return np.sum(features * p) / p.sum()


def double_well_joint(design_rows):
    """Minimise the joint relative entropy of U = k(T) x^2/2 against a double well, exactly."""
    x = np.linspace(-12.0, 12.0, 48001)
    states, reference = [], []
    for weight, kt, row in zip(WEIGHTS, KT, design_rows):
        states.append(entropy.StateFactors(weight, 1.0 / kt, np.atleast_2d(row)))
        reference.append(
            np.array([wide_averages(2.0 * (x**2 - 1.0) ** 2, 0.5 * x**2, 1.0 / kt, x)])
        )
    parameters = np.zeros(len(design_rows[0]))
    parameters[0] = 1.0
    free = np.ones(len(parameters), bool)
    for _ in range(60):
        stiffness = [float(s.design[0] @ parameters) for s in states]
        model = [np.array([0.5 / (s.beta * k)]) for s, k in zip(states, stiffness)]
        variance = [np.array([[0.5 / (s.beta * k) ** 2]]) for s, k in zip(states, stiffness)]
        step, _, _ = natural_step(
            entropy.gradient(states, reference, model),
            entropy.fisher(states, variance),
            free,
            0.05,
        )
        parameters = parameters + step
    best = np.array([0.5 / (s.beta * r[0]) for s, r in zip(states, reference)])
    ratio = np.array([float(s.design[0] @ parameters) for s in states]) / best
    return parameters, best, 0.5 * (ratio - 1.0 - np.log(ratio))


def test_a_constant_stiffness_reaches_the_known_joint_minimum_and_penalties():
    parameters, best, penalty = double_well_joint([[1.0]] * 3)
    np.testing.assert_allclose(best, [1.1735213879, 1.4913355, 1.8031278], atol=1e-7)
    assert parameters[0] == pytest.approx(1.4442046449, abs=1e-8)
    np.testing.assert_allclose(penalty, [0.0115546, 0.0002551, 0.0114541], atol=1e-7)


def test_a_stiffness_linear_in_temperature_removes_the_penalty():
    parameters, _, penalty = double_well_joint([[1.0, -kt] for kt in KT])
    np.testing.assert_allclose(parameters, [-0.08675, -1.26088], atol=1e-4)
    assert penalty.max() <= 1e-6


def test_the_step_stays_within_the_trust_region_and_is_newton_inside_it():
    rng = np.random.default_rng(7)
    root = rng.normal(size=(12, 6))
    metric, gradient = root.T @ root, rng.normal(size=6)
    free = np.array([True] * 5 + [False])
    step, kl, full = natural_step(gradient, metric, free, np.inf)
    newton = np.linalg.solve(metric[:5, :5], -gradient[:5])
    np.testing.assert_allclose(step, [*newton, 0.0], rtol=1e-9, atol=1e-12)
    assert kl == full == pytest.approx(0.5 * newton @ metric[:5, :5] @ newton)
    short, kl, _ = natural_step(gradient, metric, free, 0.1 * full)
    assert kl == pytest.approx(0.1 * full, rel=1e-4)
    assert 0.5 * short @ metric @ short == pytest.approx(kl)


def test_a_step_is_the_best_of_those_that_are_allowed():
    """The slope along every allowed move is zero after it, also where others would gain more."""
    rng = np.random.default_rng(8)
    root = rng.normal(size=(12, 6))
    metric, gradient = root.T @ root, rng.normal(size=6)
    weights = np.array([0.1, 0.2, 0.3, 0.4, 0.0, 0.0])
    free = np.array([True] * 5 + [False])
    moves = np.eye(6) - np.outer([1, 1, 1, 1, 0, 0], weights)
    step, kl, full = natural_step(gradient, metric, free, np.inf, moves)
    allowed = moves[:, :5]
    np.testing.assert_allclose(allowed.T @ (gradient + metric @ step), 0.0, atol=1e-9)
    assert abs(weights @ step) < 1e-12
    assert step[5] == 0.0
    assert kl == full == pytest.approx(0.5 * step @ metric @ step)


def test_a_direction_that_was_never_sampled_is_left_alone():
    metric = np.diag([2.0, 0.0])
    metric[0, 1] = metric[1, 0] = 0.0
    step, _, _ = natural_step(np.array([1.0, 0.0]), metric, np.array([True, False]), np.inf)
    np.testing.assert_allclose(step, [-0.5, 0.0])
