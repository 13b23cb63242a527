"""Equations of state in closed form, symmetries of models, and fronts of objectives."""

import numpy as np
import pytest

from remcg.consistency import pareto, symmetry, thermodynamics
from remcg.errors import InputError
from remcg.reweight import Ensemble, Mixture
from remcg.units import BAR, beta

TEMPERATURES = np.array([280.0, 295.0, 310.0, 325.0, 340.0])


def test_an_ideal_gas_expands_by_the_inverse_of_its_temperature():
    density = 1000.0 / TEMPERATURES
    found = thermodynamics.thermal_expansion(TEMPERATURES, density, 1e-6 * density, order=4)
    np.testing.assert_allclose(found.alpha, 1.0 / TEMPERATURES, rtol=2e-4)
    quadratic = thermodynamics.thermal_expansion(TEMPERATURES, density, 1e-3 * density)
    np.testing.assert_allclose(quadratic.alpha, 1.0 / TEMPERATURES, rtol=0.02)
    bad = thermodynamics.thermal_expansion(TEMPERATURES, density, 1e-5 * density, order=1)
    assert bad.p_value < 1e-6 < quadratic.p_value


def test_the_errors_of_the_expansion_are_those_of_repeated_measurements():
    rng = np.random.default_rng(0)
    density, error = np.exp(-5e-4 * (TEMPERATURES - 300.0)), np.full(5, 5e-4)
    found = [
        thermodynamics.thermal_expansion(TEMPERATURES, density + error * rng.normal(size=5), error)
        for _ in range(500)
    ]
    scores = np.array([(x.alpha - 5e-4) / x.se for x in found])
    assert np.abs(scores.mean(axis=0)).max() < 0.2
    assert np.abs(scores.std(axis=0) - 1.0).max() < 0.15
    assert 0.01 < np.mean([x.p_value < 0.05 for x in found]) < 0.1


def test_too_few_temperatures_are_refused():
    with pytest.raises(InputError, match="at least 2"):
        thermodynamics.thermal_expansion([300.0, 300.0], [1.0, 1.0], [0.1, 0.1])


def test_the_isotherm_of_an_ideal_gas_is_its_own_to_first_order():
    # kappa = 1/P, so that P + P ln(rho/rho0) against P rho/rho0
    x = np.linspace(-0.02, 0.02, 9)
    found = thermodynamics.isotherm(x, 0.0, 1.0 / 50.0, 50.0)
    np.testing.assert_allclose(found, 50.0 * np.exp(x), atol=0.5 * 50.0 * 0.02**2 * 1.02)


def test_the_error_of_an_isotherm_is_the_scatter_of_repeated_measurements():
    rng, x, errors = np.random.default_rng(7), np.array([-0.02, 0.0, 0.02]), (5e-4, 3e-6)
    drawn = [
        thermodynamics.isotherm(x, errors[0] * a, 4.6e-5 + errors[1] * b, 1.0)
        for a, b in rng.normal(size=(4000, 2))
    ]
    told = thermodynamics.isotherm_error(x, 0.0, errors[0], 4.6e-5, errors[1])
    assert told[1] == pytest.approx(errors[0] / 4.6e-5)
    np.testing.assert_allclose(told, np.std(drawn, axis=0), rtol=0.06)


def test_the_integrated_pressure_difference_is_that_of_a_plain_sum():
    reference, model = (1000.0, 0.0, 4.6e-5, 0.0), (1004.0, 0.0, 5.5e-5, 0.0)
    found = thermodynamics.pressure_difference(reference, model)
    x = np.linspace(-0.02, 0.02, 20001)
    difference = thermodynamics.isotherm(x, np.log(1.004), 5.5e-5, 1.0)
    difference -= thermodynamics.isotherm(x, 0.0, 4.6e-5, 1.0)
    assert found.rms == pytest.approx(np.sqrt(np.mean(difference**2)), rel=1e-3)
    assert found.mean == pytest.approx(difference.mean(), rel=1e-3)
    same = thermodynamics.pressure_difference(reference, reference)
    assert same.rms == 0.0


def test_a_density_off_by_two_per_cent_is_flagged_and_an_equal_one_is_not():
    rng = np.random.default_rng(1)
    errors = np.array([0.5, 4e-6])
    scores = {1.0: [], 1.02: []}
    for factor, rows in scores.items():
        for _ in range(200):
            rho, kappa = np.array([1000.0, 4.6e-5]) + errors * rng.normal(size=2)
            rho2, kappa2 = np.array([1000.0 * factor, 4.6e-5]) + errors * rng.normal(size=2)
            found = thermodynamics.pressure_difference(
                (rho, errors[0], kappa, errors[1]), (rho2, errors[0], kappa2, errors[1])
            )
            rows.append((found.mean / found.mean_se, found.rms / found.noise_floor))
    equal, shifted = (np.array(rows) for rows in scores.values())
    assert abs(equal[:, 0].mean()) < 0.3 and abs(equal[:, 0].std() - 1.0) < 0.2
    assert np.sqrt((equal[:, 1] ** 2).mean()) == pytest.approx(1.0, rel=0.15)
    assert np.abs(shifted[:, 0]).min() > 4.0


def test_the_pressure_rises_with_temperature_at_constant_volume_as_alpha_over_kappa():
    value, error = thermodynamics.thermal_pressure((5e-4, 5e-5), (5e-5, 0.0))
    assert value == pytest.approx(10.0) and error == pytest.approx(1.0)
    value, error = thermodynamics.thermal_pressure((0.0, 5e-5), (5e-5, 5e-6))  # as cold water
    assert value == 0.0 and error == pytest.approx(1.0)


def test_free_energies_of_harmonic_oscillators_are_those_of_the_closed_form():
    rng, k = np.random.default_rng(2), np.array([1.0, 1.6, 2.5])
    ensembles = [
        Ensemble(np.array([s]), 0.5 * rng.normal(0.0, s**-0.5, (2, 4000, 1)) ** 2, 20) for s in k
    ]
    found, error = thermodynamics.free_energy_differences(
        Mixture(ensembles), [np.array([s]) for s in k]
    )
    exact = 0.5 * np.log(k / k[0])
    assert found[0] == 0.0 and error[0] == 0.0
    assert np.abs((found - exact)[1:] / error[1:]).max() < 4.0
    assert 0.0 < error.max() < 0.03


def test_an_ideal_gas_has_no_excess_free_energy():
    rng, n, pressure = np.random.default_rng(3), 50, 100.0 * BAR
    rates = np.array([beta(T) * pressure for T in (300.0, 320.0, 340.0)])
    ensembles = [Ensemble(np.array([r]), rng.gamma(n + 1, 1 / r, (2, 5000, 1)), 20) for r in rates]
    ideal = [thermodynamics.ideal_gas(n, r) for r in rates]
    found, error = thermodynamics.free_energy_differences(
        Mixture(ensembles), [np.array([r]) for r in rates], ideal
    )
    assert np.abs(found[1:] / error[1:]).max() < 4.0
    assert error.max() < 0.05 < abs(ideal[2] - ideal[0])


@pytest.mark.parametrize("kind", ["one", "two"])
def test_forces_of_a_model_have_the_symmetries_of_space(
    kind, soft_model, soft_start, mixture_model, mixture_start
):
    model, start = (soft_model, soft_start) if kind == "one" else (mixture_model, mixture_start)
    found = symmetry.check(
        model, 300.0, start.topology, start.positions, start.box, np.random.default_rng(0)
    )
    assert max(found) < 1e-9
    assert min(found) >= 0.0


def test_a_force_that_is_not_central_would_be_seen(monkeypatch, soft_model, soft_start):
    honest = symmetry.energy_and_forces

    def tilted(*arguments):
        energy, forces = honest(*arguments)
        return energy, forces + 0.01 * np.abs(forces[:, [1, 2, 0]])

    monkeypatch.setattr(symmetry, "energy_and_forces", tilted)
    arguments = soft_start.topology, soft_start.positions, soft_start.box
    found = symmetry.check(soft_model, 300.0, *arguments, np.random.default_rng(0))
    assert found.net_force > 1e-3 and found.torque > 1e-3 and found.rotation > 1e-3


def biquadratic(n):
    t = np.linspace(0.0, 1.0, n)
    return np.stack([t**2, (1.0 - t) ** 2], axis=1)


def test_the_front_of_two_parabolas_dominates_the_exact_area():
    points = biquadratic(21)
    assert pareto.hypervolume(points, (1.0, 1.0)) == pytest.approx(0.8158125, abs=1e-12)
    areas = [pareto.hypervolume(biquadratic(n), (1.0, 1.0)) for n in (11, 101, 1001)]
    assert areas == sorted(areas) and areas[-1] == pytest.approx(5.0 / 6.0, abs=2e-3)


def test_a_front_is_monotone_and_holds_no_dominated_point():
    rng = np.random.default_rng(4)
    points = np.concatenate([biquadratic(15), biquadratic(15) + rng.random((15, 2)) + 1e-3])
    points = points[rng.permutation(30)]
    kept = points[pareto.front(points)]
    assert (np.diff(kept[:, 0]) > 0).all() and (np.diff(kept[:, 1]) < 0).all()
    for point in kept:
        others = (points <= point).all(axis=1) & (points < point).any(axis=1)
        assert not others.any()
    assert len(kept) == 15
    assert pareto.hypervolume(points, (1.0, 1.0)) == pytest.approx(
        pareto.hypervolume(kept, (1.0, 1.0))
    )
    assert pareto.hypervolume(points + 5.0, (1.0, 1.0)) == 0.0


def test_points_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="all finite"):
        pareto.front(np.array([[0.0, np.nan]]))
