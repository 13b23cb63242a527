"""A complete campaign on a reference that was sampled from a known model."""

import numpy as np
import pytest

import browser
import tiny
from remcg.io import read_json
from remcg.model import Model

pytestmark = pytest.mark.campaigns


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign with spaces")
    config = tiny.write_campaign(folder, short_runs=["cold"])
    process = tiny.launch(config)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return config, output


def test_the_known_potential_is_recovered_within_its_error_bars(finished):
    config, _ = finished
    found, truth = Model.read(tiny.results(config) / "model/model.json"), tiny.true_model()
    covariance = np.array(found.extra["covariance"])
    r = np.linspace(0.32, 0.58, 14)  # where the reference has enough pairs
    for temperature in tiny.TEMPERATURES.values():
        rows = tiny.BASIS.values(r) @ found.design(temperature)[found.phi_slices[0]]
        deviation = rows @ (found.parameters - truth.parameters)
        error = np.sqrt(np.einsum("rp,pq,rq->r", rows, covariance, rows))
        assert np.abs(deviation / error).max() < 5.0
        assert error.max() < 0.5


def test_structure_and_density_agree_with_the_reference_at_every_temperature(finished):
    config, _ = finished
    summary = read_json(tiny.results(config) / "summary.json")
    assert summary["rem"]["converged"]
    assert [state["use"] for state in summary["states"]] == ["train", "test", "train"]
    for state in summary["states"]:
        rdf, density = state["rdf"]["AR-AR"], state["density_kg_m3"]
        assert rdf["rmse"] < 5.0 * rdf["noise_floor_rmse"]
        error = np.hypot(density["reference_se"], density["model_se"])
        assert abs(density["model"] - density["reference"]) < 5.0 * error


def test_a_finished_campaign_has_nothing_to_do(finished):
    config, _ = finished
    process = tiny.launch(config)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "nothing to be done" in output.lower(), output


def test_every_promised_file_is_there_and_holds_no_nan(finished):
    config, _ = finished
    folder = tiny.results(config)
    for name in (
        "map/cold.h5",
        "basis/terms.json",
        "target/cold.h5",
        "rem/iter-000/model.json",
        "export/lammps",
        "export/openmm",
        "predict/warm.h5",
        "validate/rdf.png",
        "consistency/states.json",
        "consistency/curves_warm.tsv",
        "consistency/penalties.tsv",
        "consistency/penalties.png",
        "report.html",
        "workflow.html",
        "summary.json",
        "provenance.json",
        "verdict.tsv",
    ):
        assert (folder / name).exists(), name
    for name in ("summary.json", "model/model.json"):
        assert "NaN" not in (folder / name).read_text()


@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("name", "shown"), [("report", "RDF rmse"), ("workflow", "front page")])
def test_the_pages_of_a_campaign_need_no_network_and_make_no_error(
    finished, tmp_path, name, shown, dark
):
    path = tiny.results(finished[0]) / f"{name}.html"
    document, console, asked = browser.opened(path, tmp_path, dark)
    assert shown.lower() in document.lower()
    assert [line for line in console if ADVICE not in line] == []
    assert asked == set()


ADVICE = "cdn.tailwindcss.com should not be used in production"  # of Snakemake's page, on its build


def test_a_model_of_the_right_form_is_consistent_at_every_state(finished):
    config, _ = finished
    states = read_json(tiny.results(config) / "summary.json")["states"]
    for state in states:
        found = state["consistency"]
        factor = found["structure_factor"]["AR-AR"]
        assert factor["rmse"] < 2.5 * factor["noise_floor_rmse"]
        angles = found["neighbor_angles"]["AR-AR-AR"]
        assert abs(angles["js_bits"]) < 5.0 * angles["js_bits_se"] + angles["noise_floor_js_bits"]
        count = found["coordination"]["AR-AR"]
        error = np.hypot(count["reference_se"], count["model_se"])
        assert abs(count["model"] - count["reference"]) < 6.0 * error
        assert found["penalty"]["p_value"] > 1e-5
        assert max(found["symmetry"].values()) < 1e-9
        memory = found["memory"]["model"]
        error = np.hypot(memory["kernel_zero_1_ps2_se"], memory["force_kernel_zero_1_ps2_se"])
        difference = memory["kernel_zero_1_ps2"] - memory["force_kernel_zero_1_ps2"]
        assert abs(difference) < 5.0 * error + 0.05 * memory["kernel_zero_1_ps2"]


def test_a_reference_that_is_the_model_has_its_memory_kernel(finished):
    config, _ = finished
    states = {s["id"]: s for s in read_json(tiny.results(config) / "summary.json")["states"]}
    found = states["cold"]["consistency"]["memory"]
    assert "reference" not in states["hot"]["consistency"]["memory"]
    ours, theirs = found["model"], found["reference"]
    errors = [side["kernel_zero_1_ps2_se"] for side in (ours, theirs)]
    difference = ours["kernel_zero_1_ps2"] - theirs["kernel_zero_1_ps2"]
    assert abs(difference) < 4.0 * np.hypot(*errors) + 0.05 * theirs["kernel_zero_1_ps2"]
    assert max(errors) < 0.15 * theirs["kernel_zero_1_ps2"]
    assert "K(0) of the reference" in (tiny.results(config) / "report.html").read_text()


def test_a_prediction_at_the_wrong_temperature_is_flagged(finished):
    from remcg.consistency import transferability
    from remcg.io import read_h5
    from remcg.statistics import standard_error

    folder = tiny.results(finished[0])
    model = Model.read(folder / "model/model.json")
    target, sample = read_h5(folder / "target/cold.h5"), read_h5(folder / "predict/hot.h5")
    volumes = standard_error(target[0]["volume"][None]), standard_error(sample[0]["volume"])
    (reference, reference_se), (predicted, predicted_se) = volumes
    assert predicted - reference > 3.0 * np.hypot(reference_se, predicted_se)
    phi = [
        np.reshape(
            model.basis_sums(x["site_sums"], x["volume"], tiny.N_SITES), (n, -1, model.n_phi)
        )
        for x, n in ((target[0], 1), (sample[0], 2))
    ]
    local = transferability.local_state("cold", 280.0, model.theta(320.0), *phi)
    lost = transferability.penalty(local.theta - local.best, local.fisher, local.noise)
    assert lost.p_value < 1e-6 and lost.value > lost.null


def test_a_strict_campaign_that_fails_keeps_its_results_and_names_what_fails(tmp_path):
    limits = {"strict": True, "limits": {"rdf_rmse_train": 0.0}}
    config = tiny.write_campaign(tmp_path, n_frames=30, **tiny.SHORTEST, validate=limits)
    process = tiny.launch(config)
    output, _ = process.communicate(timeout=900)
    assert process.returncode != 0
    assert "cold: RDF rmse AR-AR" in output and "validate.strict is set" in output
    verdict = (tiny.results(config) / "verdict.tsv").read_text()
    assert "fails" in verdict
    for name in ("summary.json", "report.html", "workflow.html", "provenance.json"):
        assert (tiny.results(config) / name).exists(), name


def test_a_deleted_iteration_is_made_again_bit_for_bit_and_the_earlier_ones_are_kept(finished):
    config, _ = finished
    folder = tiny.results(config)
    before = (folder / "model/model.json").read_bytes()
    kept = folder / "rem/iter-000/sample/cold.h5"
    stamp = kept.stat().st_mtime_ns
    (folder / "rem/iter-001/sample/cold.h5").unlink()
    process = tiny.launch(config)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    assert (folder / "rem/iter-001/sample/cold.h5").exists()
    assert (folder / "model/model.json").read_bytes() == before
    assert kept.stat().st_mtime_ns == stamp
