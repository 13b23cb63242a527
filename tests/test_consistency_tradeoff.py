"""Structure against pressure, the guess beside the model, and models that miss a state."""

import numpy as np
import pytest
from PIL import Image
from scipy import integrate

from remcg.basis import SplineBasis
from remcg.consistency import (
    baseline,
    campaign,
    dynamics,
    figures_tradeoff,
    pace,
    tradeoff,
    transferability,
)
from remcg.io import read_json, write_json
from remcg.model import Model, PairTerm, VolumeTerm
from remcg.units import BAR, KB

EDGES = np.linspace(0.0, 0.9, 91)


def a_model(psi=0.0, n_orders=1):
    terms = (PairTerm(("W", "W"), SplineBasis(0.25, 0.9, 6), n_orders), VolumeTerm(2, 1))
    volume = np.array([[psi, 0.0]])
    return Model(("W",), terms, 300.0, 0.03, (np.ones((n_orders, 6)), volume))


def test_the_front_is_where_loss_and_weighted_pressure_are_least():
    rng = np.random.default_rng(1)
    slopes, deviations = rng.normal(size=(3, 7)), 10.0 * rng.normal(size=3)
    weights = np.array([0.0, 0.01, 0.3, 20.0])
    pressure, loss = tradeoff.curve(slopes, deviations, weights)
    for weight, x, y in zip(weights, pressure, loss):
        a = np.linalg.solve(np.eye(7) + weight * slopes.T @ slopes, -weight * slopes.T @ deviations)
        assert x == pytest.approx(np.linalg.norm(deviations + slopes @ a))
        assert y == pytest.approx(0.5 * a @ a)
    assert loss[0] == 0.0 and pressure[0] == np.linalg.norm(deviations)
    assert (np.diff(loss) > 0.0).all() and (np.diff(pressure) < 0.0).all()


def test_one_pressure_costs_half_its_square_over_that_of_its_slope():
    slopes, deviation = np.array([[3.0, 4.0]]), np.array([10.0])
    pressure, loss = tradeoff.curve(slopes, deviation, np.array([1e9]))
    assert pressure[0] == pytest.approx(0.0, abs=1e-6)
    assert loss[0] == pytest.approx(0.5 * 10.0**2 / 25.0)


def a_sample(g, pressure, volume, n_sums=40, rng=None):
    rng = np.random.default_rng(2) if rng is None else rng
    noise = 1.0 + 0.01 * rng.normal(size=(2, 5, 1, 1))
    arrays = {
        "rdf_edges": EDGES,
        "rdf_blocks": np.broadcast_to(g, (2, 5, 1, 90)) * noise,
        "pressure": pressure * BAR + 10.0 * BAR * rng.normal(size=(2, n_sums)),
        "volume": volume * (1.0 + 0.01 * rng.normal(size=(2, n_sums))),
        "site_sums": 50.0 + rng.normal(size=(2, n_sums, 6)),
    }  # fmt: skip
    return arrays, {"temperature": 300.0}


def a_state(pressure):
    g = np.where(EDGES[1:] > 0.3, 1.0, 0.0)
    target = {"rdf_edges": EDGES, "rdf_blocks": np.broadcast_to(g, (4, 1, 90)).copy()}
    attributes = {"pair_names": '["W-W"]', "n_molecules": 100, "type_counts": '{"W": 100}'}
    validated = {
        "id": "T300",
        "temperature_K": 300.0,
        "pressure_bar": {"target": 1.0, "model": 2.0, "model_se": 5.0},
        "compressibility_1_bar": {"reference": 4e-5, "reference_se": 4e-6},
        "density_kg_m3": {"reference": 1000.0, "reference_se": 1.0, "model": 1001.0,
                          "model_se": 1.0},
        "rdf": {"W-W": {"rmse": 0.01, "rmse_se": 0.001, "noise_floor_rmse": 0.01}},
    }  # fmt: skip
    psi = 1000.0 * BAR * 0.03  # a volume term that takes 1000 bar away
    found = baseline.compare(
        (target, attributes),
        a_sample(1.2 * g, pressure, 3.0),
        a_sample(g, 9000.0, 3.0),
        a_model(psi),
        a_model(),
        validated,
    )
    return found, validated


def test_the_guess_has_its_own_pressure_and_the_density_that_follows():
    found, _ = a_state(2001.0)
    own = found.numbers
    assert own["rdf"]["W-W"]["rmse"] == pytest.approx(0.2, abs=0.01)
    assert own["pair_pressure_bar"]["guess"] == pytest.approx(2001.0, abs=8.0)
    assert own["pair_pressure_bar"]["model"] == pytest.approx(9000.0, abs=8.0)
    assert own["pressure_bar"]["model"] == pytest.approx(1001.0, abs=8.0)
    assert own["density_deviation"]["value"] == pytest.approx(-0.04, abs=1e-3)
    assert own["density_deviation"]["se"] == pytest.approx(0.004, rel=0.05)


def test_a_density_far_from_the_reference_is_not_guessed():
    assert "density_deviation" not in a_state(4001.0)[0].numbers


def test_table_and_figures_of_the_guess_and_of_the_front_are_written(tmp_path):
    found, validated = a_state(2001.0)
    simpler = {"T300": found}
    write_json(tmp_path / "numbers.json", found.numbers)  # no type that JSON does not have
    assert read_json(tmp_path / "numbers.json")["rdf"]["W-W"]["rmse"] > 0.1
    baseline.write_baseline_table(tmp_path / "baseline.tsv", [validated], simpler)
    header, row = (x.split("\t") for x in (tmp_path / "baseline.tsv").read_text().splitlines())
    assert dict(zip(header, row))["model_density_percent"] == "0.1"
    (tmp_path / "entropy.tsv").write_text("iteration\tnats_per_molecule\tse\n0\t0.2\t0.01\n")
    marked = campaign.marked_points([validated], simpler, tmp_path / "entropy.tsv")
    assert marked["model with its volume term"][:2] == pytest.approx((1.0, 5.0))
    assert marked["Boltzmann inversion"][2:] == (0.2, 0.01)
    front = tradeoff.Front(*np.ones((5, 3)), np.array([True, True, False]), np.arange(3))
    tradeoff.write_front_table(tmp_path / "pareto.tsv", front, marked)
    assert len((tmp_path / "pareto.tsv").read_text().splitlines()) == 6
    figures_tradeoff.baseline_figure(tmp_path / "baseline.png", [validated], simpler)
    figures_tradeoff.pareto_figure(tmp_path / "pareto.png", front, marked)
    figures_tradeoff.pareto_figure(tmp_path / "nothing.png", None, {})
    figures_tradeoff.baseline_figure(tmp_path / "itself.png", [validated], {})
    for name, reason in (("nothing", "No training state has a pressure"), ("itself", "The Boltz")):
        assert Image.open(tmp_path / f"{name}.png").info["Description"].startswith(reason)
    fixed = {**validated, "pressure_bar": {"model": 9.0, "model_se": 1.0}}
    figures_tradeoff.baseline_figure(tmp_path / "fixed.png", [fixed], simpler)
    assert "Description" not in Image.open(tmp_path / "fixed.png").info
    names = "front", "Boltzmann inversion", "chosen model with friction"
    paces = [pace.Pace(name, 1.0, 0.1, 3.0, 0.1, 0.1, 1.0 if name == "front" else None)
             for name in names]  # fmt: skip
    figures_tradeoff.pareto_figure(tmp_path / "paces.png", front, marked, paces, "T300")
    tradeoff.write_front_table(tmp_path / "paces.tsv", front, marked, paces)
    rows = [line.split("\t") for line in (tmp_path / "paces.tsv").read_text().splitlines()]
    assert len(rows) == 7 and {len(row) for row in rows} == {10}
    assert [row[0] for row in rows if row[7] == "3"] == list(names)
    for path in tmp_path.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


class AState:
    def __init__(self, use, pressure, temperature=300.0):
        self.use, self.pressure, self.temperature, self.weight = use, pressure, temperature, 1.0


def test_a_front_comes_from_samples_at_constant_pressure_alone():
    g = np.where(EDGES[1:] > 0.3, 1.0, 0.0)
    attributes = {"n_molecules": 100, "type_counts": '{"W": 100}'}
    arguments = [({}, attributes)], [a_sample(g, 5000.0, 3.0, 400)]
    front = tradeoff.trade_off(a_model(), [AState("train", 1.0)], *arguments)
    assert front.pressure[0] == pytest.approx(4999.0, abs=10.0) and front.loss[0] == 0.0
    assert front.pressure[-1] < 0.1 * front.pressure[0]
    assert (front.loss_se[1:] > 0.0).all() and (np.diff(front.loss) > 0.0).all()
    assert front.changes.shape == (len(front.weights), a_model().n_params)
    assert not front.changes[0].any() and front.changes[1].any()
    assert tradeoff.trade_off(a_model(), [AState("train", None)], *arguments) is None
    assert tradeoff.trade_off(a_model(), [AState("test", 1.0)], *arguments) is None


def test_the_friction_that_matches_the_reference_is_found_where_frictions_do_not_add_up(
    monkeypatch,
):
    """D = kT/M / (9 + 2 friction): an estimate that adds frictions up is wrong by a factor of 2."""
    used = []

    def diffusion(model, temperature, sample, friction, key):
        used.append(friction)
        return dynamics.Diffusion(KB * 300.0 / 18.0 / (9.0 + 2.0 * friction), 1e-5, 0.4)

    monkeypatch.setattr(pace, "diffusion", diffusion)
    sample = {"site_types": np.zeros(4, int), "masses": np.full(4, 18.0)}, {}
    front = tradeoff.Front(
        np.array([0.0, 1.0, 2.0]), *np.ones((2, 3)), np.array([0.0, 0.1, 0.2]),
        np.array([0.0, 0.01, 0.01]), np.array([True, True, False]), np.arange(3),
        np.zeros((3, a_model().n_params)),
    )  # fmt: skip
    states = [AState("train", 1.0), AState("test", 1.0, 310.0), AState("train", 1.0, 320.0)]
    known = {"diffusion_nm2_ps": {"reference": KB * 300.0 / 18.0 / 50.0, "reference_se": 1e-5}}
    numbers = [{"id": "T300", **known}, {"id": "T310", **known}, {"id": "T320"}]
    assert pace.chosen_state(states, numbers) == 0
    marked = {"Boltzmann inversion": (1.0, 1.0, 0.5, 0.1)}
    found = pace.measure(a_model(), a_model(), states[0], sample,
                         tuple(known["diffusion_nm2_ps"].values()), front, marked, 1)  # fmt: skip
    assert [p.name for p in found] == [
        "front", "front", "Boltzmann inversion", "chosen model with friction",
    ]  # fmt: skip
    assert [p.loss for p in found] == [0.0, 0.1, 0.5, 0.0]
    assert found[-1].ratio == pytest.approx(1.0) and found[-1].friction == pytest.approx(20.5)
    assert found[0].ratio == pytest.approx(50.0 / 9.2) and len(used) == 5


def known_states(temperatures, centres):
    n = len(centres[0])
    return [
        transferability.LocalState(f"T{T:g}", T, np.zeros(n), np.eye(n), np.asarray(c, float),
                                   1e-4 * np.eye(n), n, 100)
        for T, c in zip(temperatures, centres)
    ]  # fmt: skip


def quadratic(scale):
    terms = (PairTerm(("W", "W"), SplineBasis(0.25, 0.9, 4), 3),)
    return Model(("W",), terms, 300.0, 0.03, (scale * np.ones((3, 4)),))


def test_a_state_left_out_is_predicted_from_as_many_orders_as_there_are_temperatures():
    """Three training states of a quadratic form: without one of them two are left, and a line."""
    T = np.array([280.0, 300.0, 310.0, 320.0])
    rise, bend = np.array([1.0, -2.0, 0.5, 0.0]), np.array([0.0, 1.0, 0.0, -1.0])
    tau = (T - 300.0) / 20.0
    trained, weights = [True, True, False, True], [1 / 3] * 4
    straight = known_states(T, [rise * x for x in tau])
    curved = known_states(T, [rise * x + bend * x**2 for x in tau])
    for model in (quadratic(0.0), quadratic(100.0)):  # what was trained has no part in it
        table = transferability.matrix(straight, model, trained, weights)
        assert max(p.value + p.bias for p in table["without"].values()) < 1e-9
        table = transferability.matrix(curved, model, trained, weights)
        raw = {name: {s: p.value + p.bias for s, p in row.items()} for name, row in table.items()}
        # the line through -1 and +1 misses the middle by bend; that through 0 and 1 misses -1 by
        # twice bend; all others together know the bend
        assert raw["without"]["T300"] == pytest.approx(0.5 * bend @ bend)
        assert raw["without"]["T280"] == pytest.approx(0.5 * 4.0 * bend @ bend)
        assert raw["others"]["T280"] == pytest.approx(0.0, abs=1e-9)
        assert raw["without"]["T310"] == pytest.approx(0.0, abs=1e-9)
    assert table["without"]["T280"].se > 0.0


def test_the_null_distribution_is_normalised_and_its_quantile_is_the_one_that_is_drawn():
    rng = np.random.default_rng(3)
    noise = np.diag(rng.uniform(0.5, 2.0, 6))
    found = transferability.penalty(np.zeros(6), np.eye(6), 1e-2 * noise)
    total = integrate.quad(lambda x: transferability.null_density(found, x), -found.bias, 1.0)[0]
    below = integrate.quad(lambda x: transferability.null_density(found, x), -found.bias,
                           found.null)[0]  # fmt: skip
    assert total == pytest.approx(1.0, abs=1e-6) and below == pytest.approx(0.95, abs=1e-6)
    assert transferability.null_density(transferability.Penalty(0, 0, 0, 0, 1), 0.1) == 0.0


@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_a_model_trained_at_another_temperature_fails_its_check_and_the_right_one_does_not(shift):
    """Potentials of mean force scale with kT: a model of 270 K used at 300 K is off by a tenth."""
    from remcg import report

    rng = np.random.default_rng(4)
    n, theta = 400, np.full(3, 2.5)
    true = theta * (300.0 - shift) / 300.0
    sample = rng.normal(0.0, 1.0, (1, n, 3)) * 40.0
    # linear response of Gaussian features: mean moves by -beta Cov (theta - true)
    reference = rng.normal(0.0, 1.0, (1, n, 3)) * 40.0
    reference += (theta - true) / (0.0083144626 * 300.0) * 1600.0
    state = transferability.local_state("T300", 300.0, theta, reference, sample, 1000)
    found = transferability.penalty(theta - state.best, state.fisher, state.noise)
    per_site = {"value": found.value / 1000, "se": found.se / 1000}
    entry = {"id": "T300", "use": "test", "penalty_nats_per_site": per_site}
    checks = report.checks({"rem": {"converged": True}, "states": [entry]})
    status = {check.quantity: check.status for check in checks}
    assert status["transferability"] == ("fails" if shift else "pass")
