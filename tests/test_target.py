"""Basis sums, distributions and volumes of a mapped trajectory, streamed."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import waters
from remcg import config, mapping, target
from remcg.basis import SplineBasis
from remcg.errors import InputError
from remcg.io import read_h5, write_h5
from remcg.model import PairTerm

TERM = PairTerm(("W", "W"), SplineBasis(0.2, 0.8, 8), 2)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """A mapped trajectory of 27 waters in 30 frames, its log, and its content."""
    folder = tmp_path_factory.mktemp("target")
    campaign = config.load(waters.write_campaign(folder))
    mapping.map_trajectory(campaign, "cold", folder / "cold.h5", folder / "cold.json")
    waters.write_log(folder / "cold.csv", waters.trajectory(seed=1)[0], 280.0)
    return folder / "cold.h5", folder / "cold.csv", read_h5(folder / "cold.h5")[0]


@pytest.fixture(scope="module")
def computed(mapped):
    return target.compute(mapped[0], [TERM], mapped[1])


def distances(arrays):
    """All pair distances per frame, shape (n_frames, n_pairs), by a plain loop over pairs."""
    first, second = np.triu_indices(arrays["positions"].shape[1], 1)
    step = arrays["positions"][:, first] - arrays["positions"][:, second]
    step -= arrays["box"][:, None] * np.round(step / arrays["box"][:, None])
    return np.linalg.norm(step, axis=2)


def test_basis_sums_are_those_of_a_plain_sum_over_pairs(mapped, computed):
    expected = TERM.basis.values(distances(mapped[2])).sum(axis=1)
    np.testing.assert_allclose(computed[0]["site_sums"], expected, atol=1e-9)


def test_the_rdf_is_a_plain_histogram_with_the_volume_of_each_frame(mapped, computed):
    arrays = computed[0]
    edges = arrays["rdf_edges"]
    np.testing.assert_allclose(edges, 0.01 * np.arange(81))
    volume = mapped[2]["box"].prod(axis=1)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    counts = [np.histogram(r, edges)[0] for r in distances(mapped[2])]
    frames = np.array(counts) * volume[:, None] / (27 * 26 / 2 * shells)
    blocks = frames.reshape(10, 3, -1).mean(axis=1)
    np.testing.assert_allclose(arrays["rdf_blocks"][:, 0], blocks, rtol=1e-9, atol=1e-9)


def test_the_fine_rdf_is_the_same_function(computed):
    arrays = computed[0]
    shells = np.diff(arrays["rdf_fine_edges"] ** 3)
    joined = (arrays["rdf_fine"][0] * shells).reshape(-1, 5).sum(axis=1)
    coarse = arrays["rdf_blocks"].mean(axis=0)[0] * np.diff(arrays["rdf_edges"] ** 3)
    np.testing.assert_allclose(joined, coarse, rtol=1e-6, atol=1e-9)


def test_volumes_energies_and_counts_are_kept(mapped, computed):
    arrays, attributes = computed
    np.testing.assert_allclose(arrays["volume"], mapped[2]["box"].prod(axis=1))
    assert arrays["energy"].shape == (30,)
    assert attributes["n_molecules"] == attributes["n_sites"] == 27
    assert json.loads(attributes["pair_names"]) == ["W-W"]
    assert json.loads(attributes["type_counts"]) == {"W": 27}
    assert attributes["mass_per_molecule"] == pytest.approx(18.015324)
    slowest = max(attributes["inefficiency_volume"], attributes["inefficiency_pair"])
    assert attributes["n_eff"] == pytest.approx(30 / slowest)


def test_a_log_of_another_length_gives_no_energies(mapped, tmp_path):
    short = tmp_path / "short.csv"
    short.write_text("".join(mapped[1].read_text().splitlines(keepends=True)[:-1]))
    assert "energy" not in target.compute(mapped[0], [TERM], short)[0]


def test_the_size_of_a_chunk_does_not_matter(mapped, computed, monkeypatch):
    monkeypatch.setattr(target, "CHUNK", 2)
    arrays, _ = target.compute(mapped[0], [TERM])
    for name, expected in arrays.items():
        np.testing.assert_allclose(computed[0][name], expected, rtol=1e-12, atol=1e-12)


def test_correlated_frames_count_for_less():
    rng = np.random.default_rng(8)
    noise = rng.standard_normal((4000, 2))
    for i in range(1, 4000):
        noise[i] += 0.8 * noise[i - 1]
    sums = np.column_stack([100 + noise, 1e-3 * rng.standard_normal(4000)])
    leading = target._leading(sums, [SimpleNamespace(kind="pair", n_basis=3)])
    assert leading.shape == (4000, 2)
    # an AR(1) process has g = (1 + a)/(1 - a) = 9; 4 SE of its estimate are about 3.5
    assert target.inefficiency(leading[None]) == pytest.approx(9.0, abs=3.5)


def test_a_log_with_more_lines_than_frames_gives_all_volumes_of_the_sampled_time(tmp_path, mapped):
    frames = waters.trajectory(seed=1)[0]
    path = tmp_path / "finer.csv"
    time = np.arange(-2.0, 35.0, 0.5)  # from before the first frame until after the last
    volumes = np.interp(time, frames.time, frames.unitcell_volumes)
    lines = [f"{t},{v},{-100.0 - t}" for t, v in zip(time, volumes)]
    path.write_text("\n".join(["time_ps,volume_nm3,potential_energy_kJ_mol", *lines]) + "\n")
    arrays, _ = target.compute(mapped[0], [TERM], path)
    sampled = (time > 0.0) & (time < 30.25)
    np.testing.assert_allclose(arrays["log_volume"], volumes[sampled])
    np.testing.assert_allclose(arrays["energy"], -100.0 - frames.time)
    assert "log_volume" not in target.compute(mapped[0], [TERM], mapped[1])[0]


def test_a_cutoff_beyond_the_length_of_the_only_molecule_is_refused(tmp_path):
    """Six sites in a row, 0.1 nm apart, of which the ends are farther apart now and then."""
    positions = np.zeros((40, 6, 3))
    positions[:, :, 0] = 0.1 * np.arange(6) + 1.0
    positions[:20, 5, 0] += 0.035
    arrays = {
        "positions": positions,
        "box": np.full((40, 3), 6.0),
        "time": np.arange(40.0),
        "site_types": np.zeros(6, int),
        "masses": np.ones(6),
        "bonds": np.stack([np.arange(5), np.arange(1, 6)], axis=1),
    }
    attributes = {"site_names": json.dumps(["W"]), "state": "cold", "n_molecules": 1}
    path = tmp_path / "cold.h5"
    write_h5(path, arrays, attributes)
    neighbours = ["1-2", "1-3", "1-4"]
    with pytest.raises(InputError, match=r"cold: of the 120 .*r_cut of at most 0\.53 nm"):
        target.compute(
            path, [PairTerm(("W", "W"), SplineBasis(0.2, 0.54, 8), 2)], exclude=neighbours
        )
    target.compute(path, [PairTerm(("W", "W"), SplineBasis(0.2, 0.53, 8), 2)], exclude=neighbours)
