"""Bonded distributions of a prediction against its reference: divergences, tables, figures."""

import json
from itertools import combinations

import numpy as np
import pytest

import chains
from remcg import distributions, plots, report, validate
from remcg.basis import AngleBasis, BondBasis, SplineBasis
from remcg.io import read_h5, write_h5
from remcg.model import AngleTerm, BondTerm, Model, PairTerm
from remcg.sample import topology_arrays
from remcg.target import compute

POTENTIALS = {
    "bond": lambda x: 0.5 * 8000.0 * (x - 0.3) ** 2,
    "angle": lambda x: 10.0 * (np.cos(x) + 0.4) ** 2,
    "dihedral": None,
}
TERMS = (
    PairTerm(("A", "A"), SplineBasis(0.2, 1.0, 6), 1),
    BondTerm(("A", "A"), BondBasis(0.2, 0.4, 8), 2),
    AngleTerm(("A",) * 3, AngleBasis(0.5, 8), 1),
)
TEMPERATURE, N_MOLECULES = 300.0, 50


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributions")
    found = chains.topology(N_MOLECULES)
    positions, boxes = chains.frames(POTENTIALS, TEMPERATURE, 400, N_MOLECULES, 3)
    path = chains.write_map(folder / "map.h5", positions, boxes, found, ("A", "B"))
    write_h5(folder / "target.h5", *compute(path, TERMS, exclude=("1-2", "1-3")))
    return folder / "target.h5"


def prediction(folder, potentials=POTENTIALS, n_frames=400, seed=1):
    """A sample file with kept frames of two replicas, and g(r) as bins that the target has."""
    found = chains.topology(N_MOLECULES)
    positions, boxes = chains.frames(potentials, TEMPERATURE, n_frames, N_MOLECULES, 3, seed=seed)
    rng = np.random.default_rng(seed)
    volume = np.full((2, 100), boxes[0].prod())
    arrays = {
        "trajectory": positions,
        "trajectory_box": boxes,
        "volume": volume,
        "pressure": rng.normal(size=volume.shape),
        "temperature": TEMPERATURE + rng.normal(size=volume.shape),
        "rdf_edges": 0.01 * np.arange(101),
        "rdf_blocks": 1.0 + 0.01 * rng.random((2, 5, 3, 100)),
        **topology_arrays(found),
    }
    attributes = {
        "site_names": json.dumps(["A", "B"]),
        "ensemble": "NVT",
        "temperature": TEMPERATURE,
    }
    write_h5(folder / "predict.h5", arrays, attributes)
    return folder / "predict.h5"


def compared(target, path):
    return distributions.compare(*read_h5(target), *read_h5(path))


def test_every_kind_of_coordinate_and_shape_is_compared(target, tmp_path):
    found = compared(target, prediction(tmp_path))
    assert set(found) == {"bond A-B", "angle A-B-A", "rg A-B-A", "end A-B-A"}
    for item in found.values():
        width = item.edges[1] - item.edges[0]
        np.testing.assert_allclose(item.model.sum(axis=1) * width, 1.0)
        np.testing.assert_allclose(item.reference.sum(axis=1) * width, 1.0)
        assert item.model.shape[0] == item.reference.shape[0] == 10


def test_a_perfect_model_is_below_the_noise_floor_and_another_one_far_above(target, tmp_path):
    same = distributions.numbers(compared(target, prediction(tmp_path)))
    other = {**POTENTIALS, "bond": lambda x: 0.5 * 8000.0 * (x - 0.304) ** 2}
    off = distributions.numbers(compared(target, prediction(tmp_path, other)))
    for numbers in (same, off):
        assert set(numbers["bonded"]) == {"A-B", "A-B-A"}
    for name, entry in same["bonded"].items():
        assert 0.25 < entry["js_bits"] / entry["noise_floor_js_bits"] < 1.0
        assert entry["noise_floor_js_bits"] == off["bonded"][name]["noise_floor_js_bits"]
        assert abs(entry["excess_js_bits"]) < 5 * entry["js_bits_se"] < entry["js_bits"] * 10
        assert abs(entry["kl_bits"]) < 5 * entry["kl_bits_se"]
        assert 0.0 < entry["rmse"] <= entry["max"] < 0.2
    entry = off["bonded"]["A-B"]
    assert entry["js_bits"] > 5 * entry["noise_floor_js_bits"]
    assert entry["excess_js_bits"] > 5 * entry["js_bits_se"]
    shape = same["chains"]["A-B-A"]["end_nm"]
    error = np.hypot(shape["reference_se"], shape["model_se"])
    assert abs(shape["model"] - shape["reference"]) < 5 * error


def test_the_noise_floor_is_that_of_counts(target):
    """(K - 1)/(2 N ln 2) bits for the halves of N counts in K bins, to first order."""
    rng = np.random.default_rng(3)
    n_bins, per_block = 40, 2000
    blocks = rng.multinomial(per_block, np.full(n_bins, 1.0 / n_bins), size=10) / per_block
    expected = (n_bins - 1) / (2 * 10 * per_block * np.log(2))
    assert distributions.noise_floor(blocks) == pytest.approx(expected, rel=0.25)


def test_each_split_of_the_blocks_counts_once():
    blocks = np.random.default_rng(4).random((4, 6))
    pairs = [(c, [k for k in range(4) if k not in c]) for c in combinations(range(4), 2) if 0 in c]
    expected = [
        distributions.jensen_shannon(blocks[list(a)].sum(axis=0), blocks[b].sum(axis=0))
        for a, b in pairs
    ]
    assert distributions.noise_floor(blocks) == pytest.approx(np.mean(expected))


def test_without_kept_configurations_there_is_nothing_to_compare(target, tmp_path):
    arrays, attributes = read_h5(prediction(tmp_path))
    del arrays["trajectory"]
    assert distributions.compare(*read_h5(target), arrays, attributes) == {}


def a_model():
    rng = np.random.default_rng(5)
    blocks = [np.zeros((1, 6))]
    for term in TERMS[1:]:
        x = np.linspace(term.basis.low, term.basis.high, 200)
        fit = np.linalg.lstsq(term.basis.values(x), POTENTIALS[term.kind](x), rcond=None)[0]
        blocks.append(np.array([fit, *rng.normal(size=(term.n_orders - 1, term.n_basis))]))
    model = Model(("A", "B"), TERMS, 300.0, 1.0, tuple(blocks))
    return model.with_parameters(model.parameters, covariance=0.01 * np.eye(model.n_params))


def test_bonded_potentials_are_zero_at_their_minimum_and_their_bands_know_no_constant():
    model = a_model()
    curves = validate.bonded_curves(model, [280.0, 320.0])
    assert set(curves) == {"bond A-A", "A-A-A"}  # a pair has the name A-A, too
    x, (value, _) = curves["A-A-A"]["x"], curves["A-A-A"]["U"][280.0]
    assert value.min() == 0.0
    inner = (x > 1.0) & (x < 2.5)
    step = (value - POTENTIALS["angle"](x))[inner]
    assert np.ptp(step) < 0.2
    covariance = np.asarray(model.extra["covariance"]).copy()
    part = model.parameter_slices[2]
    covariance[part, part] += 7.0  # of a constant
    again = validate.bonded_curves(
        model.with_parameters(model.parameters, covariance=covariance), [280.0, 320.0]
    )
    np.testing.assert_allclose(
        again["A-A-A"]["U"][280.0][1], curves["A-A-A"]["U"][280.0][1], rtol=1e-6
    )


def test_tables_and_figures_of_bonded_terms_are_complete(target, tmp_path):
    model, path = a_model(), prediction(tmp_path)
    arrays, attributes = read_h5(target), read_h5(path)
    found = distributions.compare(*arrays, *attributes)
    results = []
    for name, use in (("T280", "train"), ("T300", "test")):
        numbers = {"id": name, "use": use, "temperature_K": 280.0 + 20.0 * (use == "test")}
        numbers |= distributions.numbers(found)
        results.append(validate.StateResult(numbers, {}, found))
    validate.write_bonded_table(tmp_path / "bonded.tsv", found)
    curves = validate.bonded_curves(model, [280.0, 300.0])
    validate.write_bonded_potential_table(tmp_path / "potentials.tsv", curves)
    for name, kinds in (
        ("bonded", {"bond", "angle", "rg", "end"}),
        ("potentials", {"bond", "angle"}),
    ):
        header, *rows = [
            line.split("\t") for line in (tmp_path / f"{name}.tsv").read_text().splitlines()
        ]
        assert all(len(row) == len(header) for row in rows)
        assert {row[header.index("kind")] for row in rows} == kinds
        assert not any(cell == "nan" for row in rows for cell in row)
    plots.distribution_figure(tmp_path / "d.png", results)
    plots.potential_figure(tmp_path / "p.png", curves, 290.0, tested=[300.0])
    for name in ("d", "p"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_divergence_beyond_twice_the_floor_fails_the_campaign():
    state = {
        "id": "T300",
        "use": "train",
        "temperature_K": 300.0,
        "bonded": {
            "A-B": {"js_bits": 3e-4, "noise_floor_js_bits": 2e-4},
            "A-B-A": {"js_bits": 5e-4, "noise_floor_js_bits": 2e-4},
        },
    }
    rem = {"converged": True, "iterations": 3, "n_params": 5, "cg_steps_per_state": 10}
    summary = report.summary("melt", "1", 1, rem, [state], {})
    assert summary["states"][0]["bonded"]["A-B"]["js_bits"] == 3e-4
    (failed,) = [check for check in report.checks(summary) if check.status == "fails"]
    assert str(failed) == "T300: bonded JS A-B-A 2.5 floors, limit 2 floors: fails"
    found = report.checks(summary, {"bonded_js": 3.0})
    assert all(check.status == "pass" for check in found)
