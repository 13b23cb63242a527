import json

import numpy as np
import pytest
from scipy.signal import lfilter

from remcg import validate
from remcg.basis import SplineBasis
from remcg.errors import InputError
from remcg.io import read_json
from remcg.model import Model, PairTerm, VolumeTerm
from remcg.units import BAR, KB, KG_M3

EDGES = np.linspace(0.0, 0.9, 91)
CENTERS = 0.5 * (EDGES[1:] + EDGES[:-1])
G = np.where(CENTERS > 0.25, 1.0 + np.exp(-(((CENTERS - 0.28) / 0.03) ** 2)), 0.0)
TEMPERATURE, N_MOLECULES, MASS, VOLUME = 300.0, 100, 18.0, 3.0


def blocks(rng, n_blocks=10, noise=0.01, signal=0.0):
    return G * (1.0 + noise * rng.normal(size=(n_blocks, len(G)))) + signal * (G > 0)


def correlated(rng, n_replicas, n_samples, memory, mean=VOLUME, deviation=0.03):
    """Gaussian volumes whose correlation falls by ``memory`` per sample."""
    noise = rng.normal(size=(n_replicas, n_samples + 200)) * np.sqrt(1 - memory**2)
    return mean + deviation * lfilter([1.0], [1.0, -memory], noise)[:, 200:]


def a_model(psi=(0.0, 0.0), **extra):
    basis = SplineBasis(0.25, 0.9, 10)
    pair = np.stack([np.linspace(1.0, -0.2, 10), np.linspace(0.3, 0.0, 10)])
    terms = (PairTerm(("W", "W"), basis, 2), VolumeTerm(2, 1))
    return Model(("W",), terms, 300.0, VOLUME / N_MOLECULES, (pair, np.array([psi])), extra)


def state_files(rng, ensemble="NPT", model=None, n_samples=400):
    target = {
        "volume": correlated(rng, 1, n_samples, 0.5)[0],
        "rdf_edges": EDGES,
        "rdf_blocks": blocks(rng)[:, None],
    }
    volume = correlated(rng, 2, n_samples, 0.5)
    if ensemble == "NVT":
        volume = np.full_like(volume, VOLUME)
        target["volume"] = volume[0]
    total = BAR * (1.0 + 50.0 * rng.normal(size=volume.shape))
    added = (model or a_model()).volume_pressure(volume, N_MOLECULES, TEMPERATURE)
    sample = {
        "volume": volume,
        "rdf_edges": EDGES,
        "rdf_blocks": np.stack([blocks(rng), blocks(rng)])[:, :, None],
        "pressure": total - added,
        "temperature": TEMPERATURE + rng.normal(size=volume.shape),
    }
    target_attrs = {
        "n_molecules": N_MOLECULES,
        "mass_per_molecule": MASS,
        "pair_names": json.dumps(["W-W"]),
    }
    sample_attrs = {"ensemble": ensemble, "temperature": TEMPERATURE}
    if ensemble == "NPT":
        sample_attrs["pressure_bar"] = 1.0
    return target, target_attrs, sample, sample_attrs


def test_rdf_errors_are_those_counted_by_hand():
    edges = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    reference = np.array([[0.0, 0.005, 1.9, 1.0, 1.0], [0.0, 0.005, 2.1, 1.0, 1.0]])
    model = np.array([[9.0, 9.0, 2.3, 1.0, 7.0], [9.0, 9.0, 2.3, 1.2, 7.0]])
    errors = validate.rdf_errors(validate.RdfPair(edges, reference, model), r_cut=0.4)
    assert errors["rmse"] == pytest.approx(np.sqrt((0.3**2 + 0.1**2) / 2))
    assert errors["max"] == pytest.approx(0.3)
    assert errors["max_se"] == pytest.approx(0.1)
    assert errors["noise_floor_rmse"] == pytest.approx(np.sqrt((0.1**2 + 0.1**2) / 2))


def test_equal_ensembles_differ_by_the_noise_floor():
    rng = np.random.default_rng(1)
    pair = validate.RdfPair(EDGES, blocks(rng, 10), blocks(rng, 20))
    errors = validate.rdf_errors(pair, 0.9)
    n_bins = validate.rdf_window(pair, 0.9).sum()
    assert errors["rmse"] / errors["noise_floor_rmse"] == pytest.approx(
        1.0, abs=4 / np.sqrt(n_bins)
    )


def test_the_error_of_the_rmse_is_its_scatter_over_repetitions():
    rng = np.random.default_rng(2)
    found = [
        validate.rdf_errors(validate.RdfPair(EDGES, blocks(rng), blocks(rng, signal=0.05)), 0.9)
        for _ in range(300)
    ]
    scatter = np.std([item["rmse"] for item in found])
    claimed = np.mean([item["rmse_se"] for item in found])
    assert claimed / scatter == pytest.approx(1.0, abs=4 / np.sqrt(2 * 300) + 0.05)


def test_divergences_of_equal_ensembles_are_zero_within_their_errors_and_others_are_not():
    rng, scores = np.random.default_rng(3), []
    for _ in range(12):
        pair = validate.RdfPair(EDGES, blocks(rng, 10), blocks(rng, 20))
        found = validate.rdf_divergences(pair, 0.9)
        scores.append(found["excess_js_bits"] / found["js_bits_se"])
        plain = validate.pair_distance_divergence(
            EDGES, pair.reference.mean(axis=0), pair.model.mean(axis=0), 0.9
        )
        # bins of little content are joined first, which takes a little of the divergence
        assert found["excess_js_bits"] + found["js_bits_bias"] == pytest.approx(plain, rel=0.1)
    assert abs(np.mean(scores)) < 1.0 and min(scores) < 0.0
    off = validate.RdfPair(EDGES, blocks(rng, 10), blocks(rng, 20, signal=0.2))
    found = validate.rdf_divergences(off, 0.9)
    assert found["excess_js_bits"] > 5.0 * found["js_bits_se"]
    assert found["kl_bits"] > 5.0 * found["kl_bits_se"]
    # halves of ten blocks: sqrt(2/5) of a block's deviation, of which all bins have the same
    deviation = off.reference[:, validate.rdf_window(off, 0.9)].std(axis=0, ddof=1)
    expected = np.sqrt(0.4 * np.mean(deviation**2))
    assert found["split_half_rmse"] == pytest.approx(expected, rel=0.1)
    empty = np.zeros((3, len(G)))
    assert validate.rdf_divergences(validate.RdfPair(EDGES, empty, empty + 1.0), 0.9) == {}


def test_a_reference_without_pairs_below_the_cut_off_has_no_rdf_errors():
    empty = np.zeros((3, len(G)))
    assert validate.rdf_errors(validate.RdfPair(EDGES, empty, empty + 1.0), 0.9) == {}


def test_the_divergence_is_zero_for_equal_and_one_for_disjoint_distributions():
    left, right = np.where(CENTERS < 0.4, 1.0, 0.0), np.where(CENTERS > 0.4, 1.0, 0.0)
    assert validate.pair_distance_divergence(EDGES, G, G, 0.9) == pytest.approx(0.0, abs=1e-12)
    assert validate.pair_distance_divergence(EDGES, G, 3 * G, 0.9) == pytest.approx(0.0, abs=1e-12)
    assert validate.pair_distance_divergence(EDGES, left, right, 0.9) == pytest.approx(1.0)


def test_the_divergence_weights_a_bin_by_its_shell():
    edges = np.array([0.0, 1.0, 2.0])
    found = validate.pair_distance_divergence(edges, np.ones(2), np.array([1.0, 0.0]), 2.0)
    p, q = np.array([1 / 8, 7 / 8]), np.array([1.0, 0.0])
    m = (p + q) / 2
    expected = 0.5 * (p * np.log2(p / m)).sum() + 0.5 * np.log2(1.0 / m[0])
    assert found == pytest.approx(expected)


def test_density_and_its_error_follow_the_correlation_of_the_volumes():
    rng = np.random.default_rng(3)
    memory, n_samples = 0.8, 4000
    volume = correlated(rng, 2, n_samples, memory)
    value, error = validate.density(volume, N_MOLECULES, MASS)
    exact = N_MOLECULES * MASS / VOLUME * KG_M3
    inefficiency = (1 + memory) / (1 - memory)
    expected = exact * 0.03 / VOLUME * np.sqrt(inefficiency / (2 * n_samples))
    assert abs(value - exact) < 4 * expected
    assert error == pytest.approx(expected, rel=0.3)


def test_replicas_that_disagree_widen_the_error():
    volume = correlated(np.random.default_rng(4), 2, 1000, 0.5)
    apart = volume + np.array([[-0.1], [0.1]])
    near, far = (validate.density(v, N_MOLECULES, MASS) for v in (volume, apart))
    assert far[1] > 0.5 * far[0] * 0.1 / VOLUME > 5 * near[1]


def test_the_compressibility_of_gaussian_volumes_is_known_and_its_error_calibrated():
    rng = np.random.default_rng(5)
    exact = 0.03**2 * BAR / (KB * TEMPERATURE * VOLUME)
    found = [
        validate.compressibility(correlated(rng, 2, 1000, 0.7), TEMPERATURE) for _ in range(150)
    ]
    z = np.array([(value - exact) / error for value, error in found])
    assert abs(z.mean()) < 4 / np.sqrt(150) + 0.15
    assert 0.75 < z.std() < 1.35


def test_the_pressure_of_the_model_includes_its_volume_term():
    model = a_model(psi=(-0.9, 0.3))
    pressure = np.full((1, 2), 2.0)
    volume = np.array([[VOLUME, 1.1 * VOLUME]])
    found = validate.model_pressure(pressure, volume, model, N_MOLECULES, TEMPERATURE)
    v0 = VOLUME / N_MOLECULES
    expected = (2.0 + 0.9 / v0 - np.array([[0.0, 0.06]]) / v0) / BAR
    assert found == pytest.approx(expected)


def test_a_perfect_prediction_agrees_in_all_numbers():
    model = a_model(psi=(-1.0, 2.0))
    numbers = validate.compare_state(*state_files(np.random.default_rng(6), model=model), model)
    density, kappa, pressure = (
        numbers[key] for key in ("density_kg_m3", "compressibility_1_bar", "pressure_bar")
    )
    for entry in (density, kappa):
        error = np.hypot(entry["reference_se"], entry["model_se"])
        assert abs(entry["model"] - entry["reference"]) < 4 * error
    assert pressure["target"] == 1.0
    assert abs(pressure["model"] - 1.0) < 4 * pressure["model_se"]
    assert pressure["model_se"] == pytest.approx(50.0 / np.sqrt(800), rel=0.4)
    kinetic = numbers["kinetic_temperature_K"]
    assert abs(kinetic["model"] - TEMPERATURE) < 4 * kinetic["model_se"]
    assert numbers["rdf"]["W-W"]["max"] < 5 * numbers["rdf"]["W-W"]["max_se"]


def test_the_reference_volume_is_that_of_the_whole_log_where_there_is_one():
    rng = np.random.default_rng(9)
    target, target_attrs, sample, sample_attrs = state_files(rng)
    target["log_volume"] = correlated(rng, 1, 4000, 0.5, mean=1.02 * VOLUME)[0]
    numbers = validate.compare_state(target, target_attrs, sample, sample_attrs, a_model())
    expected = validate.density(target["log_volume"][None], N_MOLECULES, MASS)
    found = numbers["density_kg_m3"]
    assert (found["reference"], found["reference_se"]) == pytest.approx(expected)
    expected = validate.compressibility(target["log_volume"][None], TEMPERATURE)
    assert numbers["compressibility_1_bar"]["reference"] == pytest.approx(expected[0])


def test_a_state_at_constant_volume_has_neither_density_nor_target_pressure():
    numbers = validate.compare_state(*state_files(np.random.default_rng(7), "NVT"), a_model())
    assert "density_kg_m3" not in numbers and "compressibility_1_bar" not in numbers
    assert set(numbers["pressure_bar"]) == {"model", "model_se"}


def test_a_reference_whose_volume_is_fixed_has_no_compressibility():
    target, target_attrs, sample, sample_attrs = state_files(np.random.default_rng(8))
    target["volume"] = np.full(100, VOLUME)
    numbers = validate.compare_state(target, target_attrs, sample, sample_attrs, a_model())
    assert set(numbers["compressibility_1_bar"]) == {"model", "model_se"}


def test_different_bins_are_refused():
    target, target_attrs, sample, _ = state_files(np.random.default_rng(9))
    sample["rdf_edges"] = EDGES * 1.1
    with pytest.raises(InputError, match=r"RDF bins .* differ \(90 bins up to 0.9 nm"):
        validate.rdf_pairs(target, target_attrs, sample)


def test_potentials_expand_in_temperature_with_the_errors_of_their_coefficients():
    plain = a_model()
    sigma = 0.1
    model = a_model(covariance=(sigma**2 * np.eye(plain.n_params)).tolist())
    curve = validate.potential_curves(model, [300.0, 330.0])["W-W"]
    basis = model.terms[0].basis.values(curve["r"])
    a, b = curve["A"][0], curve["B"][0]
    assert curve["U"][300.0][0] == pytest.approx(a)
    assert curve["U"][330.0][0] == pytest.approx(a - 0.1 * b)
    expected = sigma * np.sqrt((basis**2).sum(axis=1))
    assert curve["A"][1] == pytest.approx(expected)
    assert curve["U"][330.0][1] == pytest.approx(expected * np.sqrt(1.01))
    assert validate.potential_curves(plain, [300.0])["W-W"]["A"][1] is None


def test_tables_carry_every_number_and_no_nan(tmp_path):
    rng, model = np.random.default_rng(10), a_model()
    results = []
    for name, ensemble in (("T300", "NPT"), ("fixed", "NVT")):
        files = state_files(rng, ensemble)
        numbers = {"id": name, "use": "test", **validate.compare_state(*files, model)}
        results.append(validate.StateResult(numbers, validate.rdf_pairs(*files[:3])))
    validate.write_numbers(tmp_path / "states.json", results)
    validate.write_state_table(tmp_path / "states.tsv", results)
    validate.write_rdf_table(tmp_path / "rdf.tsv", results[0].curves)
    curves = validate.potential_curves(model, [300.0])
    validate.write_potential_table(tmp_path / "potentials.tsv", curves)
    assert [state["id"] for state in read_json(tmp_path / "states.json")] == ["T300", "fixed"]
    for name in ("states", "rdf", "potentials"):
        lines = (tmp_path / f"{name}.tsv").read_text().splitlines()
        assert len({line.count("\t") for line in lines}) == 1
        assert not any("nan" in line.split("\t") for line in lines)
    rdf = np.loadtxt(tmp_path / "rdf.tsv", skiprows=1, usecols=range(1, 6))
    assert rdf.shape == (90, 5)
    assert rdf[:, 1] == pytest.approx(results[0].curves["W-W"].reference.mean(axis=0), rel=1e-6)
