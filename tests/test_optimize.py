"""The optimiser on ensembles whose minimum is known."""

from dataclasses import dataclass

import numpy as np
import pytest

from remcg import optimize
from remcg.basis import BondBasis, SplineBasis
from remcg.convergence import convergence
from remcg.model import BondTerm, Model, PairTerm, VolumeTerm
from remcg.units import KB


@dataclass(frozen=True)
class HarmonicTerm:
    """U = k x^2/2 of one coordinate; stands in for any term that is linear in its parameters."""

    n_orders: int
    n_basis: int = 1
    kind = "harmonic"
    name = "harmonic"


def well_samples(rng, beta, n):
    """Exact draws of x from exp(-2 beta (x^2 - 1)^2)."""
    x = np.linspace(-3.0, 3.0, 20001)
    density = np.exp(-2.0 * beta * (x**2 - 1.0) ** 2)
    cumulative = np.cumsum(density) / density.sum()
    return np.interp(rng.uniform(size=n), cumulative, x)


def harmonic_data(rng, model, temperatures, reference):
    data = []
    for temperature, x in zip(temperatures, reference):
        spread = np.sqrt(KB * temperature / model.theta(temperature)[0])
        phi = 0.5 * (spread * rng.normal(size=(2, 2000, 1))) ** 2
        volume = np.full((2, 2000), 1.0)
        data.append(
            optimize.StateData(
                "s",
                temperature,
                None,
                1 / 3,
                1,
                0.5 * x[None, :, None] ** 2,
                np.ones((1, len(x))),
                phi,
                volume,
                np.zeros_like(volume),
                np.zeros(1),
            )
        )
    return data


def run(model, data_of, n_iterations):
    stage, history, verdicts = "global", [], []
    for _ in range(n_iterations):
        data = data_of(model)
        model, observation, plan = optimize.update(model, data, stage, history, 0.03, 0.99)
        history.append(observation)
        stage = plan["stage"]
        verdicts.append(plan["verdict"])
        if plan["verdict"] == "converged":
            break
    return model, history, verdicts


def test_sampled_states_recover_the_stiffness_of_every_temperature():
    rng = np.random.default_rng(8)
    temperatures = np.array([1.0, 1.25, 1.5]) / KB
    reference = [well_samples(rng, 1.0 / (KB * t), 100_000) for t in temperatures]
    start = Model(("X",), (HarmonicTerm(2),), temperatures[1], 1.0, (np.array([[3.0], [0.0]]),))
    model, history, verdicts = run(
        start, lambda m: harmonic_data(rng, m, temperatures, reference), 12
    )
    assert verdicts[-1] == "converged"
    data = harmonic_data(rng, model, temperatures, reference)
    final = optimize.finish(model, data, history, verdicts[-1], {})
    for temperature, x in zip(temperatures, reference):
        best = KB * temperature / np.mean(x**2)
        row = model.design(temperature)[0]
        error = np.sqrt(row @ final.extra["covariance"] @ row)
        assert abs(model.theta(temperature)[0] - best) < 4 * error + 1e-3 * best
        assert error < 0.03 * best
    assert final.extra["status"] == "converged"


def volume_data(rng, model, pressure, reference, n=4000):
    """A fluid whose volume is Gaussian under its own energy, with U_V in the weight.

    u = a (V - c)^2 / 2 + U_V + P V has mean and variance in closed form.
    """
    beta, temperature = 1.0, 1.0 / KB
    psi, n_mol, v0 = model.psi(temperature), 1000, model.v0
    stiffness = 2.0 + 2 * psi[1] / (n_mol * v0**2)
    force = 2.0 * 32.0 + 2 * psi[1] / v0 - psi[0] / v0 - pressure
    volume = force / stiffness + rng.normal(size=(2, n)) / np.sqrt(beta * stiffness)
    term = model.volume_term
    return [
        optimize.StateData(
            "s",
            temperature,
            pressure,
            1.0,
            n_mol,
            term.basis_sums(reference, n_mol, v0)[None],
            reference[None],
            term.basis_sums(volume, n_mol, v0),
            volume,
            np.zeros_like(volume),
            np.zeros(2),
        )
    ]


def test_the_volume_term_matches_mean_and_variance_of_the_volume():
    rng = np.random.default_rng(9)
    reference = 30.0 + 0.5 * rng.normal(size=20_000)
    start = Model(("W",), (VolumeTerm(2, 1),), 1.0 / KB, 0.03, (np.zeros((1, 2)),))
    model, history, stage = start, [], "local"
    for _ in range(12):
        data = volume_data(rng, model, 1.5, reference)
        model, observation, _ = optimize.update(model, data, stage, history, 0.03, 0.99)
        history.append(observation)
    final = volume_data(rng, model, 1.5, reference, 100_000)[0].volume
    assert final.mean() == pytest.approx(reference.mean(), abs=4 * 0.5 / np.sqrt(4000))
    # psi_2 in closed form: 2 N psi_2/vbar^2 = kT (1/Var_ref - 1/Var_0)
    expected = 0.5 * 1000 * 0.03**2 * (1.0 / reference.var() - 2.0)
    assert model.psi(1.0 / KB)[1] == pytest.approx(expected, rel=0.1)
    assert final.var() == pytest.approx(reference.var(), rel=4 * np.sqrt(2 / 4000))


def test_an_evaporated_box_sends_the_campaign_back_to_the_reference_volume():
    rng = np.random.default_rng(10)
    reference = 30.0 + 0.5 * rng.normal(size=500)
    start = Model(("W",), (VolumeTerm(2, 1),), 1.0 / KB, 0.03, (np.array([[-2.0, 0.0]]),))
    data = volume_data(rng, start, 1.5, reference)
    model, left, plan = optimize.update(start, data, "local", [], 1.0, 0.99)
    assert left.stage == "abandoned"
    assert plan["phase_change"] and plan["stage"] == "global" and plan["restart"] == "reference"
    assert np.isfinite(model.parameters).all()


def test_a_step_that_made_the_way_to_the_minimum_longer_is_undone():
    rng = np.random.default_rng(14)
    temperatures = [1.0 / KB]
    reference = [well_samples(rng, 1.0, 2000)]
    start = Model(("X",), (HarmonicTerm(1),), temperatures[0], 1.0, (np.array([[9.0]]),))
    data = harmonic_data(rng, start, temperatures, reference)
    following, first, plan = optimize.update(start, data, "global", [], 0.05, 0.99)
    assert plan["restart"] == "previous" and "undone" not in plan
    first = optimize.replace(first, full_step_kl=0.1 * first.full_step_kl)  # as if it had grown
    again, _, plan = optimize.update(
        following, harmonic_data(rng, following, temperatures, reference), "global", [first], 0.05,
        0.99,
    )  # fmt: skip
    assert plan["undone"] and plan["restart"] == "reference"
    taken, retaken = (m.parameters[0] - start.parameters[0] for m in (following, again))
    assert retaken / taken == pytest.approx(0.5, abs=0.1)  # a quarter of the divergence


@pytest.mark.parametrize("before, share", [(1.1, 0.25), (0.9, 1.0)])
def test_far_global_steps_are_sampled_less_only_while_they_shrink(before, share, monkeypatch):
    monkeypatch.setattr(optimize, "FAR_KL", 0.5)
    rng = np.random.default_rng(17)
    temperatures = [1.0 / KB]
    reference = [well_samples(rng, 1.0, 2000)]
    start = Model(("X",), (HarmonicTerm(1),), temperatures[0], 1.0, (np.array([[90.0]]),))
    data = harmonic_data(rng, start, temperatures, reference)
    _, first, plan = optimize.update(start, data, "global", [], 1.0, 0.99)
    assert plan["full_step_kl"] > 0.5 and plan["effort"] == {"s": 0.25}
    last = optimize.replace(first, full_step_kl=before * first.full_step_kl)
    plan = optimize.update(start, data, "global", [last], 1.0, 0.99)[2]
    assert plan["effort"] == {"s": share}


@pytest.mark.parametrize("before, stage", [(1.1, "global"), (0.9, "local")])
def test_short_global_steps_end_the_stage_where_they_no_longer_shrink(before, stage):
    rng = np.random.default_rng(16)
    temperatures = [1.0 / KB]
    reference = [well_samples(rng, 1.0, 2000)]
    start = Model(("X",), (HarmonicTerm(1),), temperatures[0], 1.0, (np.array([[9.0]]),))
    data = harmonic_data(rng, start, temperatures, reference)
    _, first, plan = optimize.update(start, data, "global", [], 1.0, 0.99)
    assert plan["stage"] == "global"
    assert 0.2 < plan["full_step_kl"] < 1.0
    last = optimize.replace(first, full_step_kl=before * first.full_step_kl)
    assert optimize.update(start, data, "global", [last], 1.0, 0.99)[2]["stage"] == stage


def few_samples(n_samples, n_reference):
    rng = np.random.default_rng(15)
    model = Model(("X",), (HarmonicTerm(1, 4),), 1.0 / KB, 1.0, (np.ones((1, 4)),))
    volume = np.ones((2, n_samples))
    data = optimize.StateData(
        "s", 1.0 / KB, None, 1.0, 1, 50.0 + rng.normal(size=(1, n_reference, 4)),
        np.ones((1, n_reference)), 50.0 + rng.normal(size=(2, n_samples, 4)), volume, 0.0 * volume,
        np.zeros(4),
    )  # fmt: skip
    return model, [data]


@pytest.mark.parametrize("stage", ["global", "local"])
@pytest.mark.parametrize("n_samples", [1, 2, 5])
def test_a_handful_of_samples_moves_a_model_by_finite_steps_and_gives_no_verdict(stage, n_samples):
    model, data = few_samples(n_samples, 8)
    for _ in range(2):
        following, _observation, plan = optimize.update(model, data, stage, [], 1.0, 0.99)
        assert np.isfinite(following.parameters).all()
        assert plan["verdict"] == "continue" and not plan["passed"]


def test_a_reference_with_fewer_frames_than_parameters_is_said_in_the_model():
    model, data = few_samples(400, 3)
    _, observation, _ = optimize.update(model, data, "local", [], 1.0, 0.99)
    final = optimize.finish(model, data, [observation], "continue", {})
    assert "3 decorrelated frames for 4 measured parameters" in final.extra["warnings"][0]
    model, data = few_samples(400, 300)
    _, observation, _ = optimize.update(model, data, "local", [], 1.0, 0.99)
    assert "warnings" not in optimize.finish(model, data, [observation], "continue", {}).extra


def test_functions_that_do_not_vary_stay_where_they_are():
    model, data = few_samples(400, 300)
    data[0].phi[..., 2] = 50.0
    following, _, _plan = optimize.update(model, data, "local", [], 1.0, 0.99)
    change = following.parameters - model.parameters
    assert change[2] == 0.0 and (change[[0, 1, 3]] != 0.0).all()


def test_an_automatic_smoothness_is_chosen_once_and_kept():
    model, data = few_samples(400, 300)
    model = Model(
        ("A",),
        (PairTerm(("A", "A"), SplineBasis(0.3, 0.9, 4), 1),),
        1.0 / KB,
        1.0,
        (np.array([[8.0, 4.0, 2.0, 1.0]]),),
    )
    _, first, plan = optimize.update(model, data, "local", [], 1.0, 0.99, "auto")
    assert plan["smoothness"] >= 0.0
    plan["smoothness"] = 1e-6
    _, _, again = optimize.update(model, data, "local", [first], 1.0, 0.99, "auto", plan)
    assert again["smoothness"] == 1e-6 and 0.0 < again["p_eff"] < 4.0


def gaussian_observation(rng, shift, n_batches=60, size=6):
    mixing = np.linalg.cholesky(0.5 * np.eye(size) + 0.5)
    batches = rng.normal(size=(n_batches, size)) @ mixing.T + mixing @ np.full(size, shift)
    zeros = np.zeros(size)
    return optimize.Observation(
        zeros,
        batches.mean(axis=0),
        mixing @ mixing.T,
        np.cov(batches.T),
        np.eye(size),
        n_batches,
        np.array([10]),
        "local",
    )


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 0.93, 1.0), (1.0, 0.0, 0.05)])
def test_the_verdict_accepts_the_minimum_and_refuses_a_displaced_model(shift, least, most):
    rng = np.random.default_rng(11)
    free = np.ones(6, bool)
    accepted = []
    for _ in range(200):
        o = gaussian_observation(rng, shift)
        test = convergence(o, [o], free, {"all": slice(None)}, 0.99)["all"]
        accepted.append(test["chi2_per_dof"] <= test["threshold"])
    assert least <= np.mean(accepted) <= most


def test_too_few_batches_give_no_verdict():
    o = gaussian_observation(np.random.default_rng(12), 0.0, n_batches=4)
    test = convergence(o, [o], np.ones(6, bool), {"all": slice(None)}, 0.99)["all"]
    assert test["rank"] == 0 and "chi2_per_dof" not in test


def test_weights_are_per_molecule_and_sum_to_one():
    @dataclass
    class State:
        weight: float

    np.testing.assert_allclose(optimize.weights([State(1.0), State(1.0)], [100, 300]), [0.75, 0.25])


@pytest.mark.parametrize("stage, n_free", [("global", 4), ("local", 3)])
def test_a_function_that_the_model_never_meets_is_left_alone_near_the_minimum(stage, n_free):
    """Its variance in the model is nothing, which a Newton step would divide by."""
    rng = np.random.default_rng(21)
    term = PairTerm(("A", "A"), SplineBasis(0.3, 0.6, 4), 1)
    model = Model(("A",), (term,), 300.0, 1.0, (np.array([[30.0, 3.0, 1.0, 0.5]]),))
    reference, phi = rng.gamma(4.0, 1.0, (1, 2000, 4)), rng.gamma(4.0, 1.0, (2, 1000, 4))
    reference[..., 0] = np.arange(2000) < 30
    phi[..., 0] = 0.0
    volume = np.ones((2, 1000))
    data = optimize.StateData(
        "s", 300.0, None, 1.0, 10, reference, np.ones((1, 2000)), phi, volume, volume, np.zeros(4)
    )
    following, _, plan = optimize.update(model, [data], stage, [], 20.0, 0.99)
    assert plan["n_free"] == n_free
    assert plan["full_step_kl"] < 1.0 and "phase_change" not in plan
    if stage == "local":
        assert following.parameters[0] == pytest.approx(30.0)


def test_a_function_of_which_a_state_saw_only_the_tail_is_not_raised_by_many_kt():
    """Known at 320 K alone: without the ridge its energy at 280 K would follow a few tails."""
    term = BondTerm(("A", "A"), BondBasis(0.2, 0.3, 6), 2)
    model = Model(("A",), (term,), 300.0, 1.0, (np.zeros((2, 6)),))
    rng, data = np.random.default_rng(5), []
    for temperature, mean in ((280.0, 1e-3), (320.0, 0.05)):
        phi = rng.poisson(30.0, size=(2, 2, 400, 6)).astype(float)
        phi[..., 0] = mean * rng.exponential(size=(2, 2, 400))
        phi[0, ..., 0] *= 0.1  # the reference has fewer
        volume = np.ones((2, 400))
        data.append(
            optimize.StateData(
                str(temperature), temperature, None, 0.5, 1, phi[0], volume, phi[1], volume,
                0.0 * volume, np.zeros(6),
            )
        )  # fmt: skip
    start = model.with_parameters(np.zeros(12))
    for ridge, largest in ((True, 20.0), (False, np.inf)):
        with pytest.MonkeyPatch.context() as patch:
            if not ridge:
                patch.setattr(optimize, "scarcity", lambda *_: 0.0)
            following, *_ = optimize.update(start, data, "global", [], 1e6, 0.95)
        end = abs(following.term_theta(280.0)[0][0]) / (KB * 280.0)
        assert end < largest and (ridge or end > 100.0)
