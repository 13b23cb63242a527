import copy
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from remcg import plots, report, validate
from remcg.basis import SplineBasis
from remcg.config import Limits
from remcg.io import write_json
from remcg.model import Model, PairTerm, VolumeTerm

ROOT = Path(__file__).parents[1]
CONTRACT = {
    "campaign": str,
    "version": str,
    "seed": int,
    "rem": {
        "converged": bool,
        "iterations": int,
        "chi2_per_dof": float,
        "cg_steps_per_state": int,
        "n_params": int,
    },
    "orchestration_fraction": float,
    "wall_s": dict,
    "backmap": dict,
    "states": list,
}
STATE = {
    "rdf": {"rmse", "rmse_se", "max", "noise_floor_rmse", "js_bits"},
    "density_kg_m3": {"reference", "reference_se", "model", "model_se"},
    "compressibility_1_bar": {"reference", "reference_se", "model", "model_se"},
    "pressure_bar": {"target", "model", "model_se"},
}


def a_model():
    terms = (PairTerm(("W", "W"), SplineBasis(0.25, 0.9, 8), 2), VolumeTerm(2, 3))
    return Model(("W",), terms, 300.0, 0.03, (np.ones((2, 8)), np.zeros((3, 2))))


def a_state(name="T300", use="train", temperature=300.0):
    return {
        "id": name,
        "use": use,
        "temperature_K": temperature,
        "rdf": {
            "W-W": {
                "rmse": 0.004,
                "rmse_se": 0.001,
                "max": 0.02,
                "noise_floor_rmse": 0.003,
                "js_bits": 1e-5,
            }
        },
        "density_kg_m3": {
            "reference": 1000.0,
            "reference_se": 0.6,
            "model": 1002.0,
            "model_se": 0.8,
        },
        "compressibility_1_bar": {
            "reference": 4.5e-5,
            "reference_se": 4e-6,
            "model": 4.4e-5,
            "model_se": 3e-6,
        },
        "pressure_bar": {"target": 1.0, "model": 3.0, "model_se": 8.0},
        "kinetic_temperature_K": {"model": 300.1, "model_se": 0.1},
    }


def updates():
    return [
        {
            "iteration": k,
            "phase": "NPT",
            "sampled": {"phase": "NVT" if k < 3 else "NPT"},
            "verdict": "converged" if k == 5 else "continue",
            "chi2_per_dof": 100.0 / k**2,
            "threshold": 1.8,
            "predicted_kl": 20.0 / k,
            "blocks": {"W-W": {"chi2_per_dof": 90.0 / k**2}, "volume": {"rank": 0}},
            "states": {"T300": {"volume": 3.01, "volume_se": 0.01, "volume_reference": 3.0}},
        }
        for k in range(1, 6)
    ]


def a_backmap(**changes):
    """Numbers of backmapped structures as they are in ``backmap/<state>.json``."""
    entry = {
        "max_residual_nm": 3e-8,
        "n_frames": 4,
        "n_structures": 8,
        "n_eff_draws": 8.0,
        "failed_frames": 0,
        "defective_structures": 0,
        "clashes": 1,
        "energy_gap_kJ_mol": 0.3,
        "energy_gap_se": 0.1,
        "rdf_peaks": {"O-O": {"r_nm": 0.28, "deviation": -0.01, "se": 0.002}},
        "js_bits": {"bond C1-C2": 0.001},
        "noise_floor_js_bits": {"bond C1-C2": 0.001},
        "failures": [],
        "offending": [],
        "most_clashes": 1,
    }
    return {**entry, **changes}


def a_summary(**changes):
    content = {
        "campaign": "spce-water",
        "version": "0.1.0",
        "seed": 1,
        "rem": report.rem_summary(updates(), 22, 10000, 1000),
        "states": [a_state(), a_state("T325", "test", 325.0)],
        "backmap": {name: a_backmap(mapped=a_backmap()) for name in ("T300", "T325")},
        "wall_s": {"map": 2.0, "total": 300.0},
        "orchestration": 0.2,
    }
    return report.summary(**{**content, **changes})


def status(summary, quantity, subject="T300"):
    return next(
        check.status
        for check in report.checks(summary)
        if check.subject == subject and check.name == quantity
    )


def test_the_summary_has_the_keys_of_the_contract():
    summary = a_summary()
    assert set(summary) == set(CONTRACT)
    for key, kind in CONTRACT.items():
        assert isinstance(summary[key], dict if isinstance(kind, dict) else kind)
    for key, kind in CONTRACT["rem"].items():
        assert isinstance(summary["rem"][key], kind)
    for state in summary["states"]:
        assert set(state) == {"id", "use", "temperature_K", *STATE}
        assert set(state["rdf"]["W-W"]) == STATE["rdf"]
        assert all(set(state[key]) == keys for key, keys in STATE.items() if key != "rdf")
    entry = summary["backmap"]["T300"]
    assert entry["max_residual_nm"] == 3e-8 and entry["js_bits"] == {"bond C1-C2": 0.001}
    assert "offending" not in entry and "offending" not in entry["mapped"]


def test_what_does_not_exist_is_left_out(tmp_path):
    state = a_state()
    state["density_kg_m3"]["model_se"] = float("nan")
    state["pressure_bar"]["model"] = None
    state["rdf"] = {}
    backmap = {"T300": {"clashes": np.int64(0), "energy_gap_se": np.inf}}
    summary = a_summary(states=[state], backmap=backmap, orchestration=None)
    assert "model_se" not in summary["states"][0]["density_kg_m3"]
    assert set(summary["states"][0]["pressure_bar"]) == {"target", "model_se"}
    assert "rdf" not in summary["states"][0] and "orchestration_fraction" not in summary
    assert summary["backmap"] == {"T300": {"clashes": 0}}
    write_json(tmp_path / "summary.json", summary)
    assert not re.search("NaN|Infinity|null", (tmp_path / "summary.json").read_text())


def test_the_iterations_of_the_summary_are_those_of_the_updates():
    rem = report.rem_summary(updates(), 22, 10000, 1000)
    assert rem["converged"] and rem["iterations"] == 5
    assert rem["cg_steps_per_state"] == 55000
    early = [{**each, "sampled": {"effort": {"A": 0.2, "B": 0.3}}} for each in updates()[:2]]
    rem = report.rem_summary([*early, *updates()[2:]], 22, 10000, 1000)
    assert rem["cg_steps_per_state"] == 2 * 3500 + 3 * 11000
    assert rem["chi2_per_dof"] == pytest.approx(4.0)
    assert not report.rem_summary(updates()[:4], 22, 10000, 1000)["converged"]


def failures(summary, limits=None):
    return [check for check in report.checks(summary, limits) if check.status == "fails"]


def test_a_number_passes_or_is_within_noise_or_fails():
    summary = a_summary()
    assert failures(summary) == []
    rdf = summary["states"][0]["rdf"]["W-W"]
    for rmse, noise, expected in (
        (0.010, 0.003, "pass"),
        (0.0101, 0.003, "fails"),
        (0.0125, 0.006, "fails"),
        (0.0125, 0.009, "pass"),
        (0.0140, 0.009, "within noise"),
        (0.0195, 0.009, "fails"),
    ):
        error = 0.003 if expected == "within noise" else 0.001
        rdf.update(rmse=rmse, noise_floor_rmse=noise, rmse_se=error)
        assert status(summary, "RDF rmse W-W") == expected


def test_the_density_is_judged_by_the_larger_of_limit_and_three_errors():
    summary = a_summary()
    density = summary["states"][0]["density_kg_m3"]
    for model, model_se, expected in (
        (996.1, 0.8, "pass"),
        (995.9, 0.8, "fails"),
        (995.9, 1.4, "within noise"),
    ):
        density.update(model=model, model_se=model_se)
        assert status(summary, "density deviation") == expected
    density.update(model=1000.0, model_se=1.6)
    assert status(summary, "density SE") == "fails"


def test_the_limit_of_an_rdf_is_raised_to_its_noise_floors():
    summary = a_summary()
    for state in summary["states"]:
        state["rdf"]["W-W"].update(rmse=0.05, noise_floor_rmse=0.02)

    def limits(settings=None):
        found = report.checks(summary, settings)
        return [check.limit for check in found if check.quantity == "RDF rmse"]

    assert limits() == pytest.approx([0.03, 0.04])
    assert limits({"rdf_floors_train": 3.0, "rdf_floors_test": 0.0}) == pytest.approx([0.06, 0.012])
    assert limits({"rdf_rmse_train": 0.2}) == pytest.approx([0.2, 0.04])
    page = report.front_page(summary, a_model(), report.checks(summary))
    assert "limit 0.03: fails" in page


@pytest.mark.parametrize("nothing", [None, "none"])
def test_what_has_no_limit_is_not_checked(nothing):
    state = a_full_state()
    state["penalty_nats_per_site"] = {"value": 0.5, "se": 0.01}
    state["rdf"]["W-W"].update(rmse=9.0, max=9.0)
    state["density_kg_m3"].update(model=5.0)
    summary = a_summary(states=[state], backmap={})
    assert len(failures(summary)) == 5
    keys = ["rdf_rmse_train", "rdf_max_train", "density_train", "density_se", "penalty_per_site"]
    without = dict.fromkeys(keys, nothing)
    assert failures(summary, without) == []
    left = {check.quantity for check in report.checks(summary, without)}
    gone = {"RDF rmse", "RDF max", "density deviation", "density SE", "transferability"}
    assert not left & gone and "compressibility deviation" in left
    page = report.front_page(summary, a_model(), report.checks(summary, without))
    assert ">inf" not in page and "nan" not in page


def a_full_state():
    """A state at constant pressure, of chains, with everything that has a limit."""
    state = a_state()
    state["chains"] = {
        "A5": {
            "rg_nm": {
                "js_bits": 0.01,
                "noise_floor_js_bits": 0.005,
                "reference": 0.4,
                "reference_se": 0.001,
                "model": 0.401,
                "model_se": 0.001,
            }
        }
    }
    state["consistency"] = {
        "isotherm_bar": {"mean": -10.0, "mean_se": 8.0},
        "thermal_expansion_1_K": {
            "reference": 5e-4,
            "reference_se": 2e-5,
            "model": 5.2e-4,
            "model_se": 2e-5,
        },
        "coordination": {
            "W-W": {
                "reference": 4.5,
                "reference_se": 0.01,
                "model": 4.5,
                "model_se": 0.01,
                "js_bits": 0.01,
                "js_bits_se": 0.001,
            }
        },
    }
    return state


@pytest.mark.parametrize(
    ("place", "change", "broken"),
    [
        (("compressibility_1_bar",), {"model": 13.5e-5}, "compressibility deviation"),
        (("pressure_bar",), {"model": 3000.0}, "pressure"),
        (("consistency", "isotherm_bar"), {"mean": 5000.0}, "isotherm"),
        (
            ("consistency", "thermal_expansion_1_K"),
            {"model": -5e-4},
            "thermal expansion deviation",
        ),
        (
            ("chains", "A5", "rg_nm"),
            {"model": 0.56},
            "chain mean deviation radius of gyration A5",
        ),
        (("chains", "A5", "rg_nm"), {"js_bits": 0.5}, "chain JS radius of gyration A5"),
        (("consistency", "coordination", "W-W"), {"js_bits": 0.8}, "coordination JS W-W"),
        (("consistency", "coordination", "W-W"), {"model": 5.0}, "coordination deviation W-W"),
    ],
)
def test_a_wrong_quantity_fails_its_own_check_alone(place, change, broken):
    state = a_full_state()
    assert failures(a_summary(states=[state], backmap={})) == []
    entry = state
    for key in place:
        entry = entry[key]
    entry.update(change)
    summary = a_summary(states=[state], backmap={})
    assert [check.name for check in failures(summary)] == [broken]
    page = report.front_page(summary, a_model(), report.checks(summary))
    assert f"T300: {broken}" in page


def test_a_deviation_below_three_errors_is_noise():
    state = a_full_state()
    state["compressibility_1_bar"].update(model=5.5e-5)
    state["pressure_bar"].update(model=-22.5)
    state["consistency"]["isotherm_bar"].update(mean=-70.0, mean_se=24.0)
    state["chains"]["A5"]["rg_nm"].update(model=0.39, model_se=0.004)
    summary = a_summary(states=[state], backmap={})
    noisy = {c.quantity for c in report.checks(summary) if c.status == "within noise"}
    assert noisy == {"compressibility deviation", "pressure", "isotherm", "chain mean deviation"}
    state["compressibility_1_bar"].update(model_se=1e-6, reference_se=1e-6)
    summary = a_summary(states=[state], backmap={})
    assert [c.quantity for c in failures(summary)] == ["compressibility deviation"]


def test_limits_differ_between_trained_and_test_states_and_can_be_set():
    summary = a_summary()
    for state in summary["states"]:
        state["rdf"]["W-W"]["rmse"] = 0.011
    assert status(summary, "RDF rmse W-W", "T300") == "fails"
    assert status(summary, "RDF rmse W-W", "T325") == "pass"
    assert failures(summary, {"rdf_rmse_train": 0.02}) == []
    assert failures(summary, Limits(rdf_rmse_train=0.02)) == []


def test_the_default_limits_are_those_of_the_config():
    assert vars(Limits()) == report.LIMITS


def test_a_campaign_that_did_not_converge_fails():
    summary = a_summary(rem=report.rem_summary(updates()[:4], 22, 10000, 1000))
    assert [check.subject for check in failures(summary)] == ["rem"]
    assert "NOT converged within 4 iterations" in report.closing(summary)[0]


def test_the_table_shows_each_state_with_error_bars():
    header, rows = report.table(a_summary())
    assert rows[0] == [
        *("T300", "train", "0.0040 ± 0.0010", "0.020", "1002.00 ± 0.80", "0.20 ± 0.10"),
        "3.0 ± 8.0",
    ]
    assert len(header) == len(rows[0])
    assert report.closing(a_summary())[1] == "orchestration 20 % of 300 s"


def test_a_state_without_density_has_its_line_in_the_table():
    state = {"id": "fixed", "use": "train", "temperature_K": 300.0}
    assert report.table(a_summary(states=[state]))[1] == [["fixed", "train", *["-"] * 5]]


def test_errors_round_a_number_to_two_of_their_digits():
    assert report.plus_minus(1002.3456, 0.8123) == "1002.35 ± 0.81"
    assert report.plus_minus(1234.5, 87.6) == "1234 ± 88"
    assert report.plus_minus(3.14159) == "3.14"


def test_orchestration_is_the_share_of_core_seconds_that_is_not_busy(tmp_path):
    logs, marks = tmp_path / "logs", tmp_path / "benchmarks"
    write(logs / "map" / "T300.log", "reading\nbusy_core_seconds 10.5\n")
    write(logs / "sample" / "iter-000_T300.log", "a line\nbusy_core_seconds 100\n")
    write(logs / "sample" / "old.log", "busy_core_seconds 1000\n")
    os.utime(logs / "sample" / "old.log", (1.0, 1.0))
    write(marks / "map" / "T300.tsv", "s\th:m:s\tmax_rss\n2.5\t0:00:02\t-\n")
    write(marks / "sample" / "iter-000_T300.tsv", "s\th:m:s\n30\t0:00:30\n")
    write(marks / "sample" / "iter-001_T300.tsv", "s\th:m:s\n31\t0:00:31\n")
    started = (logs / "map" / "T300.log").stat().st_mtime - 60.0
    wall_s, fraction = report.timing(marks, logs, started, 2, started + 85.0)
    assert wall_s == {"map": 2.5, "sample": 61.0, "total": 85.0}
    assert fraction == pytest.approx(1 - 110.5 / 170)
    assert report.timing(marks, logs) == ({"map": 2.5, "sample": 61.0}, None)


def test_the_front_page_is_self_contained_and_names_what_fails(tmp_path):
    summary = a_summary()
    summary["states"][1]["rdf"]["W-W"]["rmse"] = 0.03
    plots.density_figure(tmp_path / "density.png", summary["states"])
    figures = [(tmp_path / "density.png", ROOT / "workflow/report/density.rst")]
    report.write_front_page(tmp_path / "report.html", summary, a_model(), figures=figures)
    page = (tmp_path / "report.html").read_text()
    assert "1 of 27 checks fails." in page
    assert "T325: RDF rmse W-W 0.0300 ± 0.0010, limit 0.012: fails" in page
    assert "trained at 300 K, predicted without further fitting at 325 K" in page
    sources = Sources()
    sources.feed(page)
    assert sources.open == []
    assert sum(source.startswith("data:image/png;base64,") for source in sources.found) == 1
    elsewhere = [source for source in sources.found if not source.startswith(("data:", "#"))]
    assert elsewhere == ["workflow.html"]
    assert "http:" not in page and "https:" not in page


CAPTIONS = "rdf", "potentials", "density", "convergence", "backmap_state", "backmap_picture"


@pytest.mark.parametrize("name", CAPTIONS)
def test_every_figure_has_a_caption_that_begins_with_its_title(name):
    assert (ROOT / f"workflow/report/{name}.rst").read_text().startswith("**")


def test_figures_are_written_whatever_is_missing(tmp_path):
    edges = np.linspace(0.0, 0.9, 91)
    blocks = np.random.default_rng(1).uniform(0.9, 1.1, size=(5, 90)) * (edges[1:] > 0.25)
    pair = validate.RdfPair(edges, blocks, blocks * 1.01)
    bare = {"id": "fixed", "use": "test", "temperature_K": 320.0, "rdf": {}}
    bare["pressure_bar"] = {"model": 3.0, "model_se": 1.0}
    results = [
        validate.StateResult(a_state(), {"W-W": pair}),
        validate.StateResult(bare, {"W-W": pair}),
    ]
    plots.rdf_figure(tmp_path / "rdf.png", results)
    curves = validate.potential_curves(a_model(), [300.0, 320.0])
    plots.potential_figure(tmp_path / "potentials.png", curves, 300.0, tested=[320.0])
    plots.density_figure(tmp_path / "density.png", [bare])
    plots.convergence_figure(tmp_path / "convergence.png", updates())
    plots.convergence_figure(tmp_path / "bare.png", [{"verdict": "continue"}])
    for path in tmp_path.iterdir():
        assert path.suffix == ".png" and path.read_bytes().startswith(b"\x89PNG")


def test_the_course_of_the_optimisation_is_numbered_by_the_samples_it_saw(tmp_path):
    validate.write_convergence_table(
        tmp_path / "convergence.tsv", [{"phase": "NVT", "verdict": "continue"}, *updates()]
    )
    header, *rows = [line.split("\t") for line in open(tmp_path / "convergence.tsv")]
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4"]  # of rem/iter-<kkk>/sample
    assert [row[1] for row in rows] == ["NVT", "NVT", "NPT", "NPT", "NPT"]
    assert rows[1][header.index("chi2_per_dof")] == "25"


@pytest.mark.parametrize(
    ("change", "quantity", "expected"),
    [
        ({}, "backmap defects", "pass"),
        ({"defective_structures": 2}, "backmap defects", "fails"),
        ({"failed_frames": 1}, "backmap defects", "fails"),
        ({"max_residual_nm": 1e-5}, "backmapping", "fails"),
        ({"mapped": a_backmap(defective_structures=1)}, "backmap defects mapped", "fails"),
        ({"mapped": a_backmap()}, "backmap energy gap", "pass"),
        ({"mapped": a_backmap(energy_gap_kJ_mol=-0.7)}, "backmap energy gap", "fails"),
        (
            {"mapped": a_backmap(energy_gap_kJ_mol=-0.7, energy_gap_se=0.3)},
            "backmap energy gap",
            "within noise",
        ),
        ({"mapped": a_backmap(js_bits={"bond C1-C2": 0.0021})}, "backmap JS bond C1-C2", "fails"),
        (
            {
                "mapped": a_backmap(
                    js_bits={"bond C1-C2": 0.0021}, chance_js_bits={"bond C1-C2": 0.0022}
                )
            },
            "backmap JS bond C1-C2",
            "within noise",
        ),
        (
            {"mapped": a_backmap(rdf_peaks={"H-O": {"deviation": -0.03, "se": 0.002}})},
            "backmap peak H-O",
            "fails",
        ),
        (
            {
                "mapped": a_backmap(
                    rdf_peaks={
                        "H-O": {"deviation": -0.03, "se": 0.002},
                        "O-O": {"deviation": 0.05, "se": 0.04},
                    }
                )
            },
            "backmap peak H-O",
            "fails",
        ),
        (
            {
                "mapped": a_backmap(
                    energy_gap_se=2.0, two_sided_gap_kJ_mol=1.0, two_sided_gap_se=0.1
                )
            },
            "backmap energy gap",
            "fails",
        ),
        (
            {
                "mapped": a_backmap(
                    energy_gap_se=0.05, two_sided_gap_kJ_mol=1.0, two_sided_gap_se=0.1
                )
            },
            "backmap energy gap",
            "pass",
        ),
        (
            {"mapped": a_backmap(rank_p={"bond C1-C2": 0.0006, "angle C1-C2-C3": 0.5})},
            "backmap ranks bond C1-C2",
            "pass",
        ),
        (
            {"mapped": a_backmap(rank_p={"bond C1-C2": 0.0004, "angle C1-C2-C3": 0.5})},
            "backmap ranks bond C1-C2",
            "fails",
        ),
        (
            {"defective_structures": 2, "offending_frames": [3, 7]},
            "backmap defects frames 3, 7",
            "fails",
        ),
        (
            {"mapped": a_backmap(failed_frames=9, offending_frames=list(range(9)))},
            "backmap defects mapped, frames 0, 1, 2, 3, 4, 5, 6, 7, ...",
            "fails",
        ),
    ],
)
def test_backmapped_structures_have_limits(change, quantity, expected):
    backmap = {"T300": {**a_backmap(), **change}}
    assert status(a_summary(backmap=backmap), quantity) == expected


def test_the_statistics_of_frames_of_the_model_have_no_limit():
    wrong = a_backmap(energy_gap_kJ_mol=5.0, js_bits={"bond C1-C2": 0.5})
    found = report.checks(a_summary(backmap={"T300": wrong}))
    names = {check.quantity for check in found if check.quantity.startswith("backmap")}
    assert names == {"backmapping", "backmap defects"}


def test_the_front_page_has_a_row_for_each_kind_of_backmapped_frames():
    mapped = a_backmap(energy_gap_kJ_mol=-0.7, is_posterior=False, rank_p={"axis": 0.0002})
    mapped |= {"defective_structures": 1, "offending_frames": [5]}
    summary = a_summary(backmap={"T300": a_backmap(mapped=mapped)})
    page = report.front_page(summary, a_model(), report.checks(summary))
    assert page.count("<td>mapped reference</td>") == page.count("<td>model</td>") == 1
    assert "annealed" in page and '-0.70 ± 0.10 <i class="fails">✗</i>' in page
    assert '1 <i class="fails">✗</i>' in page and '0.0002 <i class="fails">✗</i>' in page
    bare = a_summary(backmap={})
    assert "Backmapping" not in report.front_page(bare, a_model(), report.checks(bare))


def test_numbers_of_mapped_references_go_below_those_of_the_prediction(tmp_path):
    for name in ("T300.json", "mapped/T300.json"):
        write(tmp_path / name, json.dumps({"clashes": len(name)}))
    found = report.read_backmap([tmp_path / "T300.json"], [tmp_path / "mapped/T300.json"])
    assert found == {"T300": {"clashes": 9, "mapped": {"clashes": 16}}}


def test_the_verdict_file_has_one_line_per_check(tmp_path):
    found = report.checks(a_summary())
    report.write_verdict(tmp_path / "verdict.tsv", found)
    lines = (tmp_path / "verdict.tsv").read_text().splitlines()
    assert len(lines) == 1 + len(found)
    assert lines[2].split("\t") == ["T300", "RDF rmse W-W", "0.004", "0.001", "0.01", "", "pass"]


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, None),
        ({"rem": {"iterations": 13}}, "iterations"),
        ({"rem": {"converged": False}}, "not converged"),
        ({"orchestration_fraction": 0.4}, "orchestration"),
        ({"backmap": {"T325": {"max_residual_nm": 2e-6}}}, "T325 backmapped: residual"),
        ({"backmap": {"T325": {"max_residual_nm": None}}}, "T325 backmapped: residual"),
        ({"backmap": {"T325": {"defective_structures": 1}}}, "T325 backmapped: defective"),
        ({"backmap": {"T300": {"mapped": {"failed_frames": 1}}}}, "T300 reference backmapped: f"),
        ({"backmap": {"T300": {"mapped": {"energy_gap_kJ_mol": -2.6}}}}, "T300 reference backm"),
        ({"backmap": {"T300": {"mapped": {"energy_gap_kJ_mol": None}}}}, "T300 reference backm"),
        ({"backmap": {"T300": {"energy_gap_kJ_mol": 9.0}}}, None),
        ({"backmap": {"T300": {"mapped": {"rdf_peaks": {"O-O": {"deviation": 0.12}}}}}}, "T300 "),
    ],
)
def test_the_results_check_fails_exactly_where_a_limit_is_missed(tmp_path, change, missed):
    summary = merged(a_summary(), change)
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    command = [sys.executable, ROOT / "scripts/check_results.py", tmp_path / "summary.json"]
    run = subprocess.run(command, capture_output=True, text=True)
    failed = [line for line in run.stdout.splitlines() if line.endswith(" NO")]
    assert run.returncode == (0 if missed is None else 1)
    assert len(failed) == run.returncode
    assert all(line.startswith(missed) for line in failed)


def merged(content, change):
    result = copy.deepcopy(content)
    for key, value in change.items():
        result[key] = merged(result[key], value) if isinstance(value, dict) else value
    return result


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class Sources(HTMLParser):
    """Addresses that a page loads, and tags left open."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
