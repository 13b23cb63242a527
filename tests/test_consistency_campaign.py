"""From the files of states to tables, figures and verdicts on their consistency."""

import numpy as np
import pytest

from remcg import page, report
from remcg.config import ROOT
from remcg.consistency import campaign, figures, state, transferability
from remcg.io import read_h5, read_json, write_h5, write_json
from remcg.pairs import rdf
from remcg.validate import RdfPair, StateResult, rdf_errors, write_state_table

COUNTS = {"type_counts": '{"W": 100}', "n_molecules": 100, "n_sites": 100}


def numbers(name="T300", T=300.0, density=1000.0, kappa=4.6e-5, shift=0.0):
    sides = {"reference": density, "reference_se": 0.5}
    return {
        "id": name,
        "use": "train",
        "temperature_K": T,
        "pressure_bar": {"target": 1.0},
        "density_kg_m3": {**sides, "model": density * (1.0 + shift), "model_se": 0.5},
        "compressibility_1_bar": {
            "reference": kappa, "reference_se": 3e-6, "model": kappa, "model_se": 3e-6,
        },
    }  # fmt: skip


def consistency(s=0.02, js=0.001, count=4.5, net=1e-14):
    return {
        "structure_factor": {"W-W": {"rmse": s, "rmse_se": 0.005, "noise_floor_rmse": 0.02}},
        "neighbor_angles": {"W-W-W": {"js_bits": js, "js_bits_se": 0.001}},
        "coordination": {
            "W-W": {"reference": 4.5, "reference_se": 0.01, "model": count, "model_se": 0.02}
        },
        "symmetry": {"net_force": net, "torque": 1e-14, "rotation": 1e-13, "translation": 1e-13},
        "penalty": {"nats": 0.1, "per_site": {"value": 0.001, "se": 5e-4}},
    }


def summary(**changes):
    found = campaign.merged([numbers()], [{"id": "T300", **consistency(**changes)}])
    return report.summary("c", "1", 1, {"converged": True}, found, {})


def test_free_energies_of_states_that_overlap_are_on_the_page(tmp_path):
    row = {"relative_to": "T280", "kT_per_molecule": -0.4567, "se": 0.0012, "overlap": 0.21}
    rows = [
        {"state": "T280", **row, "kT_per_molecule": 0.0, "se": 0.0, "overlap": 1.0},
        {"state": "T300", **row},
    ]
    free = campaign.free_energy_numbers(rows)
    items = [numbers("T280", 280.0), numbers("T300", 300.0)]
    own = [{"id": name, **consistency(), **free[name]} for name in free]
    found = campaign.merged(items, own)
    assert found[1]["consistency"]["excess_free_energy"] == row
    write_state_table(tmp_path / "states.tsv", [StateResult(item, {}) for item in own])
    text = report._free_energy_table(report.summary("c", "1", 1, {}, found, {})["states"])
    assert "<td>T300</td>" in text and "0.4567 ± 0.0012" in text and "no counterpart" in text
    del found[1]["consistency"]["excess_free_energy"]  # no overlap with the first
    assert report._free_energy_table(found) == ""


def statuses(content):
    return {check.name: check.status for check in report.checks(content)}


def test_a_consistent_state_passes_every_check():
    found = statuses(summary())
    assert {"S(k) rmse W-W", "neighbour angles JS W-W-W", "coordination deviation W-W",
            "transferability", "symmetry"} <= found.keys()  # fmt: skip
    assert set(found.values()) == {"pass"}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"s": 0.3}, "S(k) rmse W-W"),
        ({"js": 0.05}, "neighbour angles JS W-W-W"),
        ({"count": 5.0}, "coordination deviation W-W"),
        ({"count": 4.0}, "coordination deviation W-W"),
        ({"net": 1e-3}, "symmetry"),
    ],
)
def test_each_inconsistency_fails_its_own_check_alone(change, name):
    found = statuses(summary(**change))
    assert [key for key, status in found.items() if status == "fails"] == [name]


def test_what_is_beyond_its_limit_by_noise_alone_does_not_fail():
    content = summary()
    entry = content["states"][0]["consistency"]
    entry["structure_factor"]["W-W"] = {"rmse": 0.08, "rmse_se": 0.01, "noise_floor_rmse": 0.07}
    content["states"][0]["penalty_nats_per_site"] = {"value": 0.004, "se": 0.002}
    found = statuses(content)
    assert found["S(k) rmse W-W"] == found["transferability"] == "within noise"
    content["states"][0]["penalty_nats_per_site"] = {"value": 0.02, "se": 0.002}
    assert statuses(content)["transferability"] == "fails"


@pytest.mark.parametrize(("shift", "expected"), [(0.0, "pass"), (0.02, "fails"), (-0.02, "fails")])
def test_a_density_off_by_two_per_cent_fails_the_campaign(shift, expected):
    content = report.summary("c", "1", 1, {"converged": True}, [numbers(shift=shift)], {})
    assert statuses(content)["density deviation"] == expected


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_a_shuffled_reference_fails_the_campaign_and_the_unshuffled_one_does_not(is_shuffled):
    """Sites of a lattice that vibrates, against the same from other times or thrown at random."""
    rng, edges = np.random.default_rng(8), np.linspace(0.0, 0.9, 91)
    lattice = (np.stack(np.meshgrid(*[np.arange(5)] * 3), axis=-1).reshape(-1, 3) + 0.5) * 0.4
    frames = lattice + 0.05 * rng.normal(size=(1200, 125, 3))
    frames[:600] = rng.random((600, 125, 3)) * 2.0 if is_shuffled else frames[:600]
    g = rdf(frames, np.full((1200, 3), 2.0), np.zeros(125, int), [(0, 0)], edges, 12)[:, 0]
    found = rdf_errors(RdfPair(edges, g[:6], g[6:]), 0.9)
    state = {"id": "T300", "use": "train", "temperature_K": 300.0, "rdf": {"A-A": found}}
    status = statuses(report.summary("c", "1", 1, {"converged": True}, [state], {}))
    assert (status["RDF rmse A-A"] == "fails") == is_shuffled
    assert (status["RDF max A-A"] == "fails") == is_shuffled


def test_what_noise_does_not_explain_is_named_on_the_front_page_though_every_check_holds():
    content = summary()
    assert report._misfits(content) == ""
    entry = content["states"][0]["consistency"]["neighbor_angles"]["W-W-W"]
    entry |= {"js_bits": 0.015, "noise_floor_js_bits": 1e-4}
    content["states"][0]["chains"] = {
        "A-B": {"end_nm": {"js_bits": 0.04, "noise_floor_js_bits": 0.01}}
    }
    text = report._misfits(content)
    assert "angles of neighbours W-W-W (15.0 mbit, 150 floors, T300)" in text
    assert "A-B" not in text and set(statuses(content).values()) == {"pass"}
    assert "the terms of this model" in text
    content["rem"]["converged"] = False  # then it may be the learning, not the terms
    assert "this model, which did not converge" in report._misfits(content)


def test_the_table_of_dynamics_has_the_columns_that_any_state_fills():
    assert report._dynamics_table([{"id": "a", "temperature_K": 300.0}]) == ""
    state = {"id": "<a>", "temperature_K": 300.0, "consistency": full("a", 300.0)}
    text = report._dynamics_table([state])
    assert "&lt;a&gt;" in text and "5.00 ± 0.20" in text and "800.0 ± 5.0" in text
    assert "VAMP-2" not in text and "of the reference" not in text


def test_the_page_says_over_which_time_friction_is_summed_up_or_why_a_kernel_is_missing():
    own = full("a", 300.0)
    own["frames_ps"] = {"reference": 2.0, "needed": 0.02}
    states = [{"id": "a", "temperature_K": 300.0, "consistency": own}]
    text = report._dynamics_note({"states": states})
    assert "No memory kernel of the mapped reference: its frames are 2 ps apart" in text
    own["memory"]["model"] |= {"friction_until_ps": 1.0, "errors_of": "pieces"}
    own["memory"]["reference"] = {**own["memory"]["model"], "friction_until_ps": 0.664001}
    own["memory"]["reference"]["kinetic_temperature_K"] = 306.7
    text = report._dynamics_note({"states": states})
    assert "over its first 0.66 or 1 ps" in text
    assert "<td>307</td>" in text and "short runs of the reference" in text
    assert text.count("of pieces of runs") == 2
    own["memory"]["reference"]["errors_of"] = "molecules"
    text = report._dynamics_note({"states": states})
    assert "of the reference: of groups of molecules" in text and "of the model: of pieces" in text


def test_a_summary_without_consistency_is_judged_as_before():
    content = report.summary("c", "1", 1, {"converged": True}, [numbers()], {})
    assert not any("S(k)" in name for name in statuses(content))


def test_the_equation_of_state_sees_a_density_off_by_two_per_cent():
    T = [280.0, 300.0, 320.0, 340.0]
    rows = [numbers(f"T{t:g}", t, 1000.0 - 0.5 * (t - 300)) for t in T]
    rows[2] = numbers("T320", 320.0, 990.0, shift=0.02)
    found = campaign.equation_of_state(rows, [COUNTS] * 4)
    z = [entry["isotherm_bar"]["mean"] / entry["isotherm_bar"]["mean_se"] for entry in found]
    assert abs(z[2]) > 4.0 and max(abs(x) for k, x in enumerate(z) if k != 2) < 0.1
    alpha = found[0]["thermal_expansion_1_K"]
    assert alpha["reference"] == pytest.approx(0.5 / 1010.0, rel=0.02)
    assert found[1]["thermal_pressure_bar_K"]["reference"] == pytest.approx(
        0.5e-3 / 4.6e-5, rel=0.02
    )


def test_the_pressure_along_an_isochore_is_that_of_the_liquid_within_reach_of_it(tmp_path):
    """rho = 1000 exp(-alpha (T - 310)), P = 1 + ln(rho/rho(T))/kappa: alpha/kappa (T - 310)."""
    alpha, kappa, T = 8e-4, 5e-5, [215.0, 280.0, 310.0, 325.0]
    rows = [numbers(f"T{t:g}", t, 1000.0 * np.exp(-alpha * (t - 310.0)), kappa) for t in T]
    for row in rows:
        row["density_kg_m3"]["model"] *= 1.001
    found = [x.get("isochore_bar") for x in campaign.equation_of_state(rows, [COUNTS] * 4)]
    assert found[0] is None  # 5.2 per cent away
    for t, entry in zip(T[1:], found[1:]):
        exact = 1.0 + alpha / kappa * (t - 280.0)
        assert entry["density_kg_m3"] == pytest.approx(1000.0 * np.exp(0.024))
        assert entry["reference"] == pytest.approx(exact, abs=1e-6)
        assert entry["model"] == pytest.approx(exact - np.log(1.001) / kappa, abs=1e-6)
        errors = 0.5e-3 / kappa, (exact - 1.0) * 3e-6 / kappa
        assert entry["reference_se"] == pytest.approx(np.hypot(*errors), rel=0.03)
    path = tmp_path / "equation_of_state.tsv"
    own = [{"id": row["id"], **more} for row, more in zip(rows, campaign.equation_of_state(
        rows, [COUNTS] * 4))]  # fmt: skip
    campaign.write_equation_of_state(path, campaign.merged(rows, own))
    table = [line.split("\t") for line in path.read_text().splitlines()]
    found = [row for row in table if row[0].startswith("pressure along the isotherm")]
    assert len(found) == 4 * campaign.N_DENSITIES
    x = np.array([[float(cell) for cell in row[3:]] for row in found if row[1] == "T280"])
    density = 1000.0 * np.exp(0.024)
    np.testing.assert_allclose(x[:, 1], 1.0 + np.log(x[:, 0] / density) / kappa, atol=1e-2)
    np.testing.assert_allclose(x[:, 3], x[:, 1] - np.log(1.001) / kappa, atol=1e-2)
    assert x[[0, -1], 0] == pytest.approx(density * np.exp([-0.02, 0.02]))
    assert sum(row[0].startswith("pressure along the isochore") for row in table) == 3
    far = campaign.equation_of_state(rows[::3], [COUNTS] * 2)
    assert not any("isochore_bar" in entry for entry in far)
    assert all("thermal_expansion_1_K" in entry for entry in far)


def test_states_of_other_pressure_or_composition_share_no_isobar():
    rows = [numbers("a", 280.0), numbers("b", 300.0), numbers("c", 320.0)]
    rows[1]["pressure_bar"] = {"target": 500.0}
    others = [COUNTS, COUNTS, {**COUNTS, "type_counts": '{"W": 50}'}]
    assert not any("thermal_expansion_1_K" in x for x in campaign.equation_of_state(rows, others))
    rows[0].pop("density_kg_m3")  # of a state at constant volume
    assert "isotherm_bar" not in campaign.equation_of_state(rows, others)[0]


def test_a_state_is_continued_to_the_density_of_the_next_pressure_of_its_temperature(tmp_path):
    """K(P) = K0 + 7 P: ln(rho/rho0) = ln(1 + 7 P/K0)/7, so that the first order falls short."""
    K0, pressures = 20000.0, [1.0, 801.0, 401.0]
    rows = []
    for P in pressures:
        rho = 1000.0 * (1.0 + 7.0 * (P - 1.0) / K0) ** (1.0 / 7.0)
        rows.append(numbers(f"P{P:g}", 300.0, rho, 1.0 / (K0 + 7.0 * (P - 1.0))))
        rows[-1]["pressure_bar"] = {"target": P}
    rows.append(numbers("hot", 330.0))
    found = campaign.equation_of_state(rows, [COUNTS] * 4)
    first = found[0]["continued_bar"]
    exact = 1.0 + K0 * np.log(1.0 + 7.0 * 400.0 / K0) / 7.0
    assert (first["to"], first["set"]) == ("P401", 401.0)
    assert first["reference"] == pytest.approx(exact) and 20.0 < 401.0 - exact < 30.0
    spread = 0.5 / 1000.0 * K0, 0.5 / 1019.0 * K0, (exact - 1.0) * 3e-6 * K0
    assert first["reference_se"] == pytest.approx(np.linalg.norm(spread), rel=0.02)
    assert found[2]["continued_bar"]["to"] == "P801"
    assert "continued_bar" not in found[1] and "continued_bar" not in found[3]
    own = [{"id": row["id"], **more} for row, more in zip(rows, found)]
    campaign.write_equation_of_state(tmp_path / "table.tsv", campaign.merged(rows, own))
    assert "pressure continued to the density of P401, 401 bar (bar)\tP1\t300\t\t" in (
        tmp_path / "table.tsv"
    ).read_text()  # fmt: skip


def curves(scale=1.0, with_reference=True):
    x = np.linspace(1.0, 10.0, 12)
    found = {}
    for side in ("reference", "model"):
        for kind, name in (("structure_factor", "W-W"), ("neighbor_angles", "W-W-W")):
            found[kind, name, side] = np.array([x, scale * np.sin(x) + 2.0, 0.1 * np.ones(12)])
        n = 8 if side == "model" else 6
        found["coordination", "W-W", side] = np.array(
            [np.arange(n), np.ones(n) / n, 0.01 * np.ones(n)]
        )
        if side == "model" or with_reference:
            found["msd", "centres", side] = np.array([x - 1.0, x, 0.1 * x])
    found["velocity", "centres", "model"] = np.array([x, np.exp(-x), 0.01 * x])
    found["kernel", "centres", "model"] = np.array([x, np.exp(-x), 0.01 * x])
    found["structure_factor", "W-W", "rdf"] = found["structure_factor", "W-W", "model"]
    return found


def full(name, T, use="train", with_reference=True):
    divergences = {"js_bits": 0.01, "js_bits_se": 0.001, "noise_floor_js_bits": 1e-4}
    entry = {"id": name, "use": use, "temperature_K": T, **consistency()}
    entry["neighbor_angles"]["W-W-W"] |= divergences
    entry["coordination"]["W-W"] |= divergences
    side = {"kernel_zero_1_ps2": 800.0, "kernel_zero_1_ps2_se": 5.0}
    entry["memory"] = {"model": side}
    entry["diffusion_nm2_ps"] = {"model": 0.01, "model_se": 1e-4}
    if with_reference:
        entry["diffusion_nm2_ps"] |= {"reference": 0.002, "reference_se": 1e-4}
        entry["speed_up"] = {"value": 5.0, "se": 0.2}
    return entry


@pytest.mark.parametrize(("n", "with_reference"), [(6, True), (1, False)])
def test_figures_of_any_number_of_states_are_drawn(tmp_path, n, with_reference):
    import matplotlib.image

    both = [
        (full(f"s{k}", 280.0 + k, with_reference=with_reference),
         curves(with_reference=with_reference)) for k in range(n)
    ]  # fmt: skip
    figures.curve_figure(tmp_path / "a.png", both, ["structure_factor"])
    figures.dynamics_figure(tmp_path / "c.png", both)
    thermal = campaign.equation_of_state(
        [numbers(item["id"], item["temperature_K"]) for item, _ in both], [COUNTS] * n
    )
    own = [{**item, **more} for (item, _), more in zip(both, thermal)]
    validated = [numbers(item["id"], item["temperature_K"]) for item in own]
    figures.state_figure(tmp_path / "d.png", campaign.merged(validated, own))
    if n == 1:
        figures.curve_figure(tmp_path / "b.png", both, ["neighbor_angles", "coordination"])
    for path in tmp_path.glob("*.png"):
        assert matplotlib.image.imread(path)[..., :3].std() > 0.05


def test_a_campaign_without_configurations_still_has_its_figures(tmp_path):
    entry = {"id": "s", "use": "train", "temperature_K": 300.0}
    figures.curve_figure(tmp_path / "a.png", [(entry, {})], ["structure_factor"])
    figures.dynamics_figure(tmp_path / "b.png", [(entry, {})])
    assert (tmp_path / "b.png").stat().st_size > 1000
    caption = tmp_path / "a.rst"
    caption.write_text("**Structure factors.** Top: those of both.")
    item = page.read_figure(tmp_path / "a.png", caption, ["s"])
    told = "<b>Structure factors.</b> No configurations were kept, or sites have no neighbours."
    assert page.figure(item) == f"<p class=key>{told}</p>"  # neither picture nor caption


def test_states_of_fixed_volumes_have_a_reason_in_place_of_an_equation_of_state(tmp_path):
    entry = {"id": "s", "use": "train", "temperature_K": 300.0, "pressure_bar": {"model": 9.0}}
    figures.state_figure(tmp_path / "equation_of_state.png", [entry])
    caption = ROOT / "workflow/report/equation_of_state.rst"
    item = page.read_figure(tmp_path / "equation_of_state.png", caption, ["s"])
    shown = page.figure(item)
    assert shown.startswith("<p class=key><b>Equation of state.</b> No state has a constant")
    assert "<img" not in shown and "Bands" not in shown


def test_penalties_are_drawn_and_written_with_what_noise_would_give(tmp_path):
    rows = {
        "T280 alone": {"T280": transferability.Penalty(0.0, 0.0, 0.0, 0.0, 1.0),
                       "T300": transferability.Penalty(30.0, 1.0, 0.1, 0.2, 0.0)},
        "model": {"T280": transferability.Penalty(-0.02, 0.03, 0.1, 0.08, 0.6),
                  "T300": transferability.Penalty(0.05, 0.03, 0.1, 0.08, 0.1)},
    }  # fmt: skip
    states = [full("T280", 280.0), full("T300", 300.0)]
    figures.penalty_figure(tmp_path / "p.png", rows, states)
    assert (tmp_path / "p.png").stat().st_size > 1000
    local = [transferability.LocalState(s["id"], 300.0, *np.zeros((4, 1)), 1, 50) for s in states]
    exact = {("model", "T300"): (transferability.Penalty(0.06, 0.02, 0.1, 0.08, 0.1), 0.7)}
    campaign.write_penalty_table(tmp_path / "p.tsv", rows, local, exact)
    header, *lines = (line.split("\t") for line in (tmp_path / "p.tsv").read_text().splitlines())
    assert len(lines) == 4
    assert [line[header.index("is_local")] for line in lines] == ["yes", "no", "yes", "yes"]
    assert [line[header.index("reweighted_nats")] for line in lines] == ["", "", "", "0.06"]
    assert float(lines[1][header.index("nats_per_site")]) == pytest.approx(0.6)
    lost = campaign.penalty_numbers(rows, local)
    assert lost["T300"]["per_site"] == {"value": 0.001, "se": pytest.approx(6e-4)}


def test_a_campaign_of_one_state_has_its_penalty_drawn(tmp_path):
    rows = {"a alone": {"a": transferability.Penalty(0.0, 0.0, 0.0, 0.0, 1.0)},
            "model": {"a": transferability.Penalty(-0.02, 0.03, 0.1, 0.08, 0.6)}}  # fmt: skip
    figures.penalty_figure(tmp_path / "p.png", rows, [full("a", 300.0)])
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_a_long_reference_is_read_in_evenly_spaced_frames(tmp_path, monkeypatch):
    positions = np.arange(60.0).reshape(10, 2, 3)
    arrays = {"positions": positions, "box": np.ones((10, 3)), "time": np.arange(10.0),
              "site_types": np.zeros(2, int), "masses": np.ones(2)}  # fmt: skip
    write_h5(tmp_path / "m.h5", arrays, {"site_names": '["W"]'})
    assert len(state.read_reference(tmp_path / "m.h5")[0]) == 10
    monkeypatch.setattr(state, "MOST_SITE_FRAMES", 8)
    found, boxes, times, *_ = state.read_reference(tmp_path / "m.h5")
    np.testing.assert_array_equal(found, positions[::3])
    assert len(boxes) == 4 and times.tolist() == [0.0, 3.0, 6.0, 9.0]


def test_curves_survive_their_file_and_become_a_table_with_units(tmp_path):
    found = curves()
    write_h5(tmp_path / "c.h5", campaign.as_arrays(found))
    again = campaign.from_arrays(read_h5(tmp_path / "c.h5")[0])
    assert again.keys() == found.keys()
    np.testing.assert_array_equal(
        again["msd", "centres", "model"], found["msd", "centres", "model"]
    )
    campaign.write_curve_table(tmp_path / "c.tsv", found, state.UNITS)
    header, *lines = (tmp_path / "c.tsv").read_text().splitlines()
    assert header.split("\t")[:5] == ["curve", "name", "side", "x_unit", "y_unit"]
    assert len(lines) == sum(curve.shape[1] for curve in found.values())
    write_json(tmp_path / "s.json", [full("a", 300.0)])
    write_state_table(
        tmp_path / "s.tsv", [StateResult(x, {}) for x in read_json(tmp_path / "s.json")]
    )
    assert "speed_up.value" in (tmp_path / "s.tsv").read_text()


def series(n_replicas, n, memory, rng):
    """Basis sums whose two functions remember their past for ``memory`` samples, and volumes."""
    x = np.empty((n_replicas, n, 2))
    x[:, 0] = rng.normal(size=(n_replicas, 2))
    keep = np.exp(-1.0 / memory)
    for t in range(1, n):
        x[:, t] = keep * x[:, t - 1] + np.sqrt(1 - keep**2) * rng.normal(size=(n_replicas, 2))
    return 50.0 + x


def two_function_model():
    from remcg.forms import HarmonicBasis
    from remcg.model import BondTerm, Model

    terms = (BondTerm(("A", "A"), HarmonicBasis(0.1, 0.5), 1),)
    return Model(("A",), terms, 300.0, 1.0, (np.zeros((1, 2)),))


def test_structure_that_follows_a_slow_volume_alone_scores_nothing():
    rng, said, sides = np.random.default_rng(1), [], []
    for n_replicas, n, memory in ((1, 2000, 50.0), (2, 20000, 1000.0)):
        slow = series(n_replicas, n, memory, rng)
        own = 5.0 * (slow[..., :1] - 50.0) * [1.0, -2.0] + rng.normal(size=slow.shape)
        sides.append({"site_sums": own, "volume": slow[..., 0]})
    target = {key: x[0] for key, x in sides[0].items()}
    target["energy"] = 30.0 * target["volume"] + rng.normal(size=2000)
    arguments = 2.0 * np.arange(2000), (target, {"n_molecules": 1}), (sides[1], {})
    found = state.compare_scores(*arguments, two_function_model(), 0.1, said.append)["vamp2"]
    for side in ("reference", "model", "with_energy"):
        assert abs(found[side] - 1.0) < 5.0 * found[f"{side}_se"] + 0.01
    target["site_sums"] = target["volume"][:, None] * [3.0, -1.0]
    assert state.compare_scores(*arguments, two_function_model(), 0.1, said.append) == {}
    assert "volume alone" in said[0]


def test_scores_of_both_sides_are_taken_at_one_lag():
    model = two_function_model()
    rng, said = np.random.default_rng(0), []
    times = 2.0 * np.arange(2000)
    target = {"site_sums": series(1, 2000, 3.0, rng)[0], "volume": np.ones(2000)}
    sample = {"site_sums": series(2, 20000, 60.0, rng), "volume": np.ones((2, 20000))}
    arguments = times, (target, {"n_molecules": 1})
    found = state.compare_scores(*arguments, (sample, {}), model, 0.1, said.append)["vamp2"]
    assert found["lag_ps"] == 2.0 and not said
    for side in ("reference", "model"):  # two functions, each with exp(-2 lag/memory)
        exact = 1.0 + 2.0 * np.exp(-2.0 * 2.0 / 6.0)
        assert abs(found[side] - exact) < 5.0 * found[f"{side}_se"] + 0.03
    few = {"site_sums": sample["site_sums"][:, :100], "volume": np.ones((2, 100))}
    assert state.compare_scores(*arguments, (few, {}), model, 0.1, said.append) == {}
    assert state.compare_scores(*arguments, (sample, {}), model, 1.3, said.append) == {}
    assert len(said) == 2 and "too few" in said[0]
