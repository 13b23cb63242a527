"""A complete campaign on a reference that was sampled from a known model."""

import numpy as np
import pytest

import tiny
from remcg.io import read_json
from remcg.model import Model


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = tiny.write_campaign(tmp_path_factory.mktemp("campaign with spaces"))
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
        "report.html",
        "index.html",
        "summary.json",
        "provenance.json",
        "verdict.tsv",
    ):
        assert (folder / name).exists(), name
    for name in ("summary.json", "model/model.json"):
        assert "NaN" not in (folder / name).read_text()


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
