"""Diffusion, memory kernels and VAMP-2 scores against processes that are known exactly."""

import numpy as np
import pytest
from scipy.linalg import expm

from remcg.consistency import dynamics, memory, vamp
from remcg.errors import InputError

GAMMA, TAU = 4.0, 0.5


def test_the_fft_gives_the_displacements_of_the_plain_double_loop():
    x = np.cumsum(np.random.default_rng(0).normal(size=(37, 5, 3)), axis=0) + 50.0
    found = dynamics.mean_squared_displacement(x)
    for lag in range(37):
        steps = x[lag:] - x[: 37 - lag]
        np.testing.assert_allclose(found[lag], (steps**2).sum(axis=2).mean(axis=0), atol=1e-9)


def test_unwrapping_finds_the_walk_in_fluctuating_and_skew_boxes():
    rng = np.random.default_rng(1)
    walk = np.cumsum(0.05 * rng.normal(size=(200, 30, 3)), axis=0)
    walk -= walk.mean(axis=1, keepdims=True)
    box = np.array([[2.0, 0.0, 0.0], [0.5, 1.9, 0.0], [-0.4, 0.6, 2.1]])
    wrapped = walk - np.floor(walk @ np.linalg.inv(box)) @ box
    np.testing.assert_allclose(np.diff(dynamics.unwrapped(wrapped, np.tile(box, (200, 1, 1))),
                                       axis=0), np.diff(walk, axis=0), atol=1e-12)  # fmt: skip
    edges = 2.0 + 0.01 * rng.normal(size=(200, 3))
    inside = walk - np.floor(walk / edges[:, None]) * edges[:, None]
    found = dynamics.mean_squared_displacement(dynamics.unwrapped(inside, edges)).mean(axis=1)
    plain = dynamics.mean_squared_displacement(walk).mean(axis=1)
    assert np.abs(found[:100] / np.maximum(plain[:100], 1e-9) - 1.0)[1:].max() < 0.15


def test_frames_too_far_apart_to_be_unwrapped_are_refused():
    x = np.random.default_rng(2).random((20, 50, 3))
    with pytest.raises(InputError, match="closer in time"):
        dynamics.unwrapped(x, np.ones((20, 3)))


def test_a_trajectory_is_cut_where_time_or_the_sites_jump():
    rng = np.random.default_rng(8)
    steps = 0.02 * rng.normal(size=(300, 40, 3))
    steps[120] *= 6.0  # continued after frames that were not kept
    walk = np.cumsum(steps, axis=0)
    times = 0.5 * np.arange(300)
    times[260:] += 3.0
    found, interval = dynamics.pieces(walk % 1.5, np.full((300, 3), 1.5), times)
    assert interval == 0.5
    assert [len(part) for part in found] == [120, 120]  # 0-119, 120-259; the rest is too short
    msd = [dynamics.mean_squared_displacement(part).mean(axis=1) for part in found]
    assert msd[0][1] == pytest.approx(3 * 0.02**2, rel=0.1)
    assert msd[1][1] == pytest.approx(3 * 0.02**2, rel=0.1)


def test_the_diffusion_coefficient_of_a_random_walk_is_found_within_its_error():
    rng = np.random.default_rng(3)
    scores = []
    for _ in range(20):
        walk = np.cumsum(np.sqrt(2.0 * 0.3 * 0.1) * rng.normal(size=(400, 60, 3)), axis=0)
        msd = dynamics.groups_of(dynamics.mean_squared_displacement(walk))
        found = dynamics.diffusion(0.1 * np.arange(400), msd, 2.0)
        scores.append((found.value - 0.3) / found.se)
    assert np.abs(np.mean(scores)) < 4.0 / np.sqrt(20)
    assert 0.6 < np.std(scores) < 1.9


def test_the_finite_size_correction_is_that_of_water_in_a_small_box():
    # kT xi/(6 pi eta L) at 298.15 K, 0.89 mPa s, 2.5 nm: by hand in SI units
    expected = 2.837297 * 1.380649e-23 * 298.15 / (6 * np.pi * 0.89e-3 * 2.5e-9) * 1e18 / 1e12
    assert dynamics.finite_size(298.15, 0.89, 2.5) == pytest.approx(expected, rel=1e-6)


def test_velocities_and_positions_tell_the_same_velocity_autocorrelation():
    velocities, _ = trajectories(n_steps=600, n_particles=900, interval=0.02)
    velocities = velocities.reshape(600, 300, 3)
    x = np.cumsum(0.5 * 0.02 * (velocities[1:] + velocities[:-1]), axis=0)
    found = dynamics.velocity_autocorrelation_from_positions(x, 0.02)[:60]
    plain = dynamics.velocity_autocorrelation(velocities)[:60]
    assert np.abs(found - plain).max() < 0.03 * plain[0]


def exact_correlation(times, gamma=GAMMA, tau=TAU):
    """C'' + C'/tau + gamma/tau C = 0 with C(0) = 1, C'(0) = 0."""
    root = np.sqrt(complex(0.25 / tau**2 - gamma / tau))
    a, b = -0.5 / tau + root, -0.5 / tau - root
    return ((b * np.exp(a * times) - a * np.exp(b * times)) / (b - a)).real


def exact_kernel(times):
    return GAMMA / TAU * np.exp(-times / TAU)


def kernel_error(interval):
    times = np.arange(0.0, 5.0 + 0.5 * interval, interval)
    found = memory.memory_kernel(exact_correlation(times), interval)
    exact = exact_kernel(times)
    return np.sqrt(np.sum((found - exact) ** 2) / np.sum(exact**2)), found


def test_an_exponential_kernel_is_recovered_with_an_error_of_second_order():
    assert kernel_error(0.01)[0] <= 1e-3
    errors = [kernel_error(interval)[0] for interval in (0.04, 0.02, 0.01, 0.005)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.abs(orders - 2.0).max() <= 0.2


def test_the_friction_of_an_exponential_kernel_has_an_error_of_fourth_order():
    errors = []
    for interval in (0.04, 0.02, 0.01, 0.005):
        times = np.arange(0.0, 5.0 + 0.5 * interval, interval)
        found = memory.friction(exact_correlation(times), interval)
        errors.append(np.abs(found - GAMMA * (1.0 - np.exp(-times / TAU))).max())
    assert errors[2] < 1e-5 * GAMMA
    assert np.log2(np.array(errors[:-1]) / errors[1:]).min() > 3.0


def test_the_kernel_adds_up_to_the_friction():
    times = np.arange(0.0, 3.0, 0.005)
    c = exact_correlation(times)
    kernel = memory.memory_kernel(c, 0.005)
    sums = np.cumsum(0.0025 * (kernel[1:] + kernel[:-1]))
    np.testing.assert_allclose(memory.friction(c, 0.005)[1:], sums, atol=1e-3 * GAMMA)


def test_a_kernel_does_not_depend_on_the_norm_of_the_correlation():
    times = np.arange(0.0, 2.0, 0.01)
    c = exact_correlation(times)
    np.testing.assert_allclose(
        memory.memory_kernel(3.7 * c, 0.01), memory.memory_kernel(c, 0.01), rtol=1e-9, atol=1e-9
    )


def test_a_correlation_without_a_start_is_refused():
    with pytest.raises(InputError, match="first one positive"):
        memory.memory_kernel(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), 0.01)


def trajectories(n_steps, n_particles, interval, seed=0):
    """Velocities and accelerations of the process with that kernel, exactly discretised, kT/m = 1.

    v' = z, z' = -z/tau - gamma/tau v + noise; both start in equilibrium: var z = K(0).
    """
    drift = np.array([[0.0, 1.0], [-GAMMA / TAU, -1.0 / TAU]])
    step = expm(drift * interval)
    stationary = np.diag([1.0, GAMMA / TAU])
    noise = np.linalg.cholesky(stationary - step @ stationary @ step.T + 1e-14 * np.eye(2))
    rng = np.random.default_rng(seed)
    x = np.sqrt(np.diag(stationary))[:, None] * rng.normal(size=(2, n_particles))
    result = np.empty((n_steps, 2, n_particles))
    for t in range(n_steps):
        result[t] = x
        x = step @ x + noise @ rng.normal(size=(2, n_particles))
    return result[:, 0], result[:, 1]


@pytest.fixture(scope="module")
def process():
    return trajectories(2000, 600, 0.02)


def test_the_friction_of_sampled_trajectories_is_found_within_five_per_cent(process):
    velocities, _ = process
    c = dynamics.velocity_autocorrelation(velocities.reshape(2000, 200, 3))[:150]
    assert memory.friction(c, 0.02)[125] == pytest.approx(GAMMA, rel=0.05)


def moved(velocities, interval):
    """Positions of particles, shape (n_steps - 1, n // 3, 3), from velocities (n_steps, n)."""
    middle = 0.5 * interval * (velocities[1:] + velocities[:-1])
    return np.cumsum(middle, axis=0).reshape(len(middle), -1, 3)


def runs_of(paces, n_steps, seed, n_particles=120):
    """Runs in which time goes at another pace, as it does at other energies."""
    return [
        moved(trajectories(n_steps, n_particles, 0.01 * pace, seed=seed + k)[0], 0.01)
        for k, pace in enumerate(paces)
    ]


@pytest.mark.parametrize("n_runs, n_steps, of", [(6, 405, "runs"), (2, 605, "pieces")])
def test_the_friction_of_several_runs_is_found_within_its_error(n_runs, n_steps, of):
    spread, deviations, errors = 0.1 if of == "runs" else 0.0, [], []
    masses, paces = np.full(40, 20.0), np.random.default_rng(5)
    for repeat in range(20):
        runs = runs_of(1.0 + spread * paces.normal(size=n_runs), n_steps, 100 * repeat)
        entry, curves = memory.kernel_of_trajectories(runs, 0.01, masses, 1.0)
        assert entry["errors_of"] == of and entry["n_rows"] == 6
        assert curves["kernel"].shape == curves["velocity"].shape == (3, 101)
        assert tuple(curves["velocity"][1:, 0]) == (1.0, 0.0)
        exact = GAMMA * (1.0 - np.exp(-entry["friction_until_ps"] / TAU))
        deviations.append(entry["friction_1_ps"] - exact)
        errors.append(entry["friction_1_ps_se"])
    expected = np.sqrt(np.mean(np.square(errors)))
    assert np.abs(np.mean(deviations)) < 4.0 / np.sqrt(20) * expected
    assert np.std(deviations) == pytest.approx(expected, rel=0.5)


def test_errors_of_one_short_run_are_those_of_molecules_and_say_so():
    [run] = runs_of([1.0], 202, 0, n_particles=2400)
    entry, _ = memory.kernel_of_trajectories([run], 0.01, np.full(800, 20.0), 1.0)
    assert (entry["errors_of"], entry["n_rows"]) == ("molecules", 10)
    assert 0.0 < entry["friction_1_ps_se"] < 0.2 * entry["friction_1_ps"]
    with pytest.raises(InputError, match=r"1 short runs of 2 molecules .* give 4 runs or more"):
        memory.kernel_of_trajectories([run[:, :2]], 0.01, np.full(2, 20.0), 1.0)


def test_the_temperature_of_two_molecules_counts_the_motion_that_they_have():
    from remcg.units import KB

    runs = [x - x.mean(axis=1, keepdims=True) for x in runs_of(np.ones(300), 202, 0, 6)]
    entry, _ = memory.kernel_of_trajectories(runs, 0.01, np.full(2, 20.0), 1.0)
    assert entry["kinetic_temperature_K"] == pytest.approx(20.0 / KB, rel=0.12)  # kT/m = 1


@pytest.mark.parametrize("first", [0.0, 100.0, 1000.0])
def test_times_that_a_file_rounded_are_no_gaps(first):
    walk = np.cumsum(0.001 * np.random.default_rng(8).normal(size=(600, 40, 3)), axis=0)
    times = first + 0.004 * np.arange(600)
    times[300:] += 0.2
    found, interval = dynamics.pieces(walk, np.full((600, 3), 1.5), times.astype(np.float32))
    assert [len(part) for part in found] == [300, 300]
    assert interval == pytest.approx(0.004, rel=1e-3)


def test_mean_square_forces_give_the_kernel_at_zero(process):
    from remcg.units import KB

    _, accelerations = process
    mass, temperature = 20.0, 300.0
    forces = accelerations.reshape(2000, 200, 3) * mass * np.sqrt(KB * temperature / mass)
    value, error = memory.mean_square_force_kernel(forces, np.full(200, mass), temperature)
    assert value == pytest.approx(exact_kernel(0.0), rel=0.03)
    assert 0.0 < error < 0.02 * value


def ornstein_uhlenbeck(n, correlation_time, seed, n_series=1):
    rng = np.random.default_rng(seed)
    factor = np.exp(-1.0 / correlation_time)
    noise = np.sqrt(1.0 - factor**2) * rng.normal(size=(n, n_series))
    x = np.empty((n, n_series))
    x[0] = rng.normal(size=n_series)
    for t in range(1, n):
        x[t] = factor * x[t - 1] + noise[t]
    return x


def test_the_score_of_an_ornstein_uhlenbeck_process_is_that_of_its_slowest_function():
    for lag in (1, 5, 12):
        exact = 1.0 + np.exp(-2.0 * lag / 10.0)
        found = [vamp.vamp2([ornstein_uhlenbeck(20000, 10.0, seed)], lag) for seed in range(12)]
        assert abs(np.mean(found) - exact) < 4.0 * np.std(found, ddof=1) / np.sqrt(12) + 1e-3
        value, error = vamp.cross_validated([ornstein_uhlenbeck(60000, 10.0, 99)], lag)
        assert abs(value - exact) < 5.0 * error + 0.01


def test_an_invertible_linear_map_of_the_features_changes_no_score():
    x = np.concatenate([ornstein_uhlenbeck(3000, t, 1) for t in (3.0, 8.0, 20.0)], axis=1)
    x = np.concatenate([x, x[:, :1] ** 2], axis=1)
    mixing = np.random.default_rng(4).normal(size=(4, 4)) + 2.0 * np.eye(4)
    assert vamp.vamp2([x @ mixing + 7.0], 4) == pytest.approx(vamp.vamp2([x], 4), abs=1e-8)


def test_functions_of_the_features_never_score_higher():
    rng = np.random.default_rng(5)
    fine = np.concatenate([ornstein_uhlenbeck(40000, t, 7) for t in (2.0, 6.0, 15.0)], axis=1)
    fine[:, 1] = ornstein_uhlenbeck(40000, 6.0, 8)[:, 0]
    fine[:, 2] = ornstein_uhlenbeck(40000, 15.0, 9)[:, 0]
    whole = vamp.vamp2([fine], 3)
    scores = vamp.cross_validated([fine], 3)
    for _ in range(5):
        coarse = fine @ rng.normal(size=(3, 2))
        assert vamp.vamp2([coarse], 3) <= whole + 1e-9
        value, error = vamp.cross_validated([coarse], 3)
        assert value <= scores[0] + 4.0 * np.hypot(error, scores[1])


def test_white_noise_scores_one_when_held_out_and_more_when_not():
    noise = np.random.default_rng(6).normal(size=(400, 10))
    assert vamp.vamp2([noise], 2) > 1.15
    assert vamp.cross_validated([noise], 2)[0] < 1.05


def test_a_lag_longer_than_the_series_is_refused():
    with pytest.raises(InputError, match="longer series"):
        vamp.vamp2([np.zeros((4, 2))], 5)
