"""The benchmark beside VOTCA and relentless: what it hands to them and how it judges them."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from remcg.basis import SplineBasis
from remcg.model import Model, PairTerm

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import rem  # noqa: E402
from benchtools import relentless_peer, rem_campaign, rem_case, rem_figure, votca  # noqa: E402
from benchtools.table import RESULTS  # noqa: E402

N_SITES, N_FRAMES, EDGE = 200, 10, 2.4


def potential():
    """A model with the splines of the benchmark: repulsive core, a well, a slow tail."""
    n_basis = 1 + round((rem_case.R_CUT - rem_case.R_MIN) / rem_case.KNOT_SPACING)
    basis = SplineBasis(rem_case.R_MIN, rem_case.R_CUT, n_basis)
    theta = 20.0 * np.exp(-np.arange(n_basis) / 2.0) - np.exp(-np.arange(n_basis) / 8.0)
    theta[-2:] = 0.0  # VOTCA holds the knots at the cut-off at zero
    return Model(("W",), (PairTerm(("W", "W"), basis, 1),), 310.0, 0.03, (theta[None],))


@pytest.fixture
def reference(tmp_path):
    """Random sites in place of water; the rest as a campaign leaves it."""
    random = np.random.default_rng(3)
    found = rem_case.Reference.__new__(rem_case.Reference)
    found.sites = {
        "positions": random.uniform(0.0, EDGE, (N_FRAMES, N_SITES, 3)),
        "box": np.full((N_FRAMES, 3), EDGE),
        "site_types": np.zeros(N_SITES, int),
        "masses": np.full(N_SITES, 18.0153),
    }
    edges = rem_case.rdf_edges(rem_case.R_CUT)
    blocks = rem_case.rdf(*list(found.sites.values())[:3], [(0, 0)], edges, 5)
    volume = np.full(N_FRAMES, EDGE**3)
    found.target = {"rdf_edges": edges, "rdf_blocks": blocks, "volume": volume}
    found.model_file = tmp_path / "model.json"
    potential().write(found.model_file)
    return found


def curve(name, rmse, wall, update=1.0):
    work, noise = [1e6 * w for w in wall], [0.003] * len(rmse)
    return rem_case.Curve(name, wall, wall, work, rmse, noise, [update] * len(rmse))


def ours(rmse=(0.1, 0.02, 0.008, 0.004)):
    found = curve("remcg", list(rmse), [10.0, 20.0, 30.0, 40.0], 0.05)
    found.details = {"basis_sums_s": 0.05, "update_process_s": [2.0] * 4}
    return found


def test_the_knots_given_to_votca_have_the_potential_of_the_model():
    model = potential()
    theta = model.term_theta(310.0)[0]
    knots = votca.first_knots(model)
    r = np.linspace(rem_case.R_MIN, rem_case.R_CUT, 500, endpoint=False)
    found, expected = votca.bspline_values(r) @ knots, model.terms[0].basis.values(r) @ theta
    assert len(knots) == votca.N_KNOTS and not knots[-votca.N_LAST :].any()
    assert np.abs(found - expected).max() < 0.02
    core = np.linspace(0.05, rem_case.R_MIN - rem_case.KNOT_SPACING, 20)
    energies = votca.bspline_values(core) @ knots
    assert np.allclose(np.diff(energies, 2), 0.0, atol=1e-9) and energies[0] > energies[-1]


def test_uniform_splines_sum_to_one():
    assert np.allclose(votca.bspline_values(np.linspace(0.0, 0.899, 300)).sum(axis=1), 1.0)


def test_the_target_of_votca_counts_the_pairs_of_the_reference(reference):
    r = votca.GRID * np.arange(91)
    g = votca.target(reference, r)
    edges = np.append(r - 0.005, 0.905)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    pairs = g * 0.5 * N_SITES**2 * shells / EDGE**3
    counts = np.zeros(len(r))
    for positions in reference.sites["positions"]:
        d = positions[:, None] - positions
        d -= EDGE * np.round(d / EDGE)
        distances = np.linalg.norm(d, axis=-1)[np.triu_indices(N_SITES, 1)]
        counts += np.histogram(distances, edges)[0] / N_FRAMES
    assert np.allclose(pairs[1:], counts[1:], atol=1e-9)
    assert g[0] == 0.0


def test_the_files_for_votca_say_what_the_benchmark_promises(reference, tmp_path):
    votca.write_inputs(tmp_path, reference, 18_000, 2000, 7)
    settings = ElementTree.parse(tmp_path / "settings.xml").getroot()
    assert settings.findtext("inverse/method") == "re"
    assert settings.findtext("inverse/iterations_max") == "7"
    assert float(settings.findtext("inverse/kBT")) == pytest.approx(2.5775, abs=1e-4)
    assert settings.findtext("non-bonded/re/cbspl/nknots") == "48"
    assert len((tmp_path / "CG-CG.param.init").read_text().splitlines()) == 48
    assert len((tmp_path / "CG-CG.dist.tgt").read_text().splitlines()) == 91
    script = (tmp_path / "run.in").read_text()
    assert "timestep 2.0\n" in script and "310.0 310.0 200.0 545454" in script
    assert script.endswith("run 18000\n") and "run 2000\n" in script
    atoms = np.loadtxt((tmp_path / "start.data").read_text().split("Atoms\n")[1].split("\n"))
    assert atoms.shape == (N_SITES, 5)
    assert 0.0 <= atoms[:, 2:].min() and atoms[:, 2:].max() <= 10.0 * EDGE


def test_relentless_is_given_the_same_potential_and_target(reference):
    given = relentless_peer.inputs(reference, 18_000, 2000, 7, 60.0)
    model = potential()
    expected = model.terms[0].basis.values(np.array(given["knots"])) @ model.term_theta(310.0)[0]
    assert np.allclose(given["values"], expected)
    g = reference.target["rdf_blocks"].mean(axis=0)[0]
    assert np.allclose(np.array(given["g"]) * N_SITES / (N_SITES - 1), g)
    assert np.abs(given["positions"]).max() <= 0.5 * EDGE


def test_a_dump_is_read_frame_by_frame_without_an_unfinished_one(tmp_path):
    header = ["ITEM"] * 9
    rows = [["1 1 0.1 0.2 0.3", "2 1 1.25 -0.5 0.5"], ["2 1 0.4 0.5 0.6", "1 1 0 0 0"]]
    lines = [*header, *rows[0], *header, *rows[1], *header, "1 1 0 0 0"]
    (tmp_path / "frames.dump").write_text("\n".join(lines) + "\n")
    found = votca.read_dump(tmp_path / "frames.dump", 2)
    assert np.allclose(found, [[[0.1, 0.2, 0.3], [0.25, 0.5, 0.5]], [[0.4, 0.5, 0.6], [0, 0, 0]]])


def test_times_of_programs_are_read_in_order(tmp_path):
    assert votca.read_times(tmp_path / "none") == {}
    (tmp_path / "times.txt").write_text("lmp 1.5 3\ncsg_stat 3 4\nlmp 5 9\n")
    assert votca.read_times(tmp_path / "times.txt") == {
        "lmp": [(1.5, 3.0), (5.0, 9.0)],
        "csg_stat": [(3.0, 4.0)],
    }


def test_the_clock_knows_the_time_that_programs_worked_not_that_they_waited():
    work = "import time\nwhile time.process_time() < 0.6: pass\ntime.sleep(0.4)"
    with rem_case.Clock() as clock:
        subprocess.run([sys.executable, "-c", work], check=True)
    assert clock.seconds > 1.0
    assert 0.55 < clock.cpu(clock.seconds) < 0.9
    assert clock.cpu(0.0) == 0.0


def test_frames_of_the_reference_itself_are_without_error(reference):
    errors = reference.errors(reference.sites["positions"], reference.sites["box"])
    assert errors["rmse"] == pytest.approx(0.0, abs=1e-12)
    assert errors["noise_floor_rmse"] > 0.0


def test_a_peer_that_reaches_the_goal_is_compared_at_that_iteration():
    row = rem.time_row(ours(), curve("VOTCA", [0.1, 0.01, 0.02], [300.0, 900.0, 1200.0]), 20.0)
    assert (row["ours"], row["peer"], row["ratio"]) == (30.0, 900.0, 30.0)
    assert row["holds"] and "bound" not in row["peer_name"]


def test_a_peer_that_misses_the_goal_gives_a_lower_bound():
    row = rem.time_row(ours(), curve("VOTCA", [0.1, 0.012], [300.0, 600.0]), 20.0)
    assert row["ratio"] == 20.0 and row["holds"]
    assert "0.012 after 2 iterations" in row["peer_name"] and "lower bound" in row["peer_name"]


def test_nothing_holds_where_remcg_misses_the_goal():
    row = rem.time_row(ours((0.1, 0.05)), curve("VOTCA", [0.1, 0.012], [300.0, 600.0]), 20.0)
    assert row["ratio"] == 0.0 and not row["holds"] and "remcg misses it" in row["case"]


def test_only_votca_has_targets_and_remcg_alone_has_a_row():
    peers = [curve("VOTCA 1", [0.1], [300.0], 10.0), curve("relentless 1", [0.1], [60.0])]
    rows = rem.rows_of(ours(), peers)
    assert [row.get("target") for row in rows if row["peer_name"].startswith("VOTCA")] == [
        20.0, None, None, 100.0, None, None,
    ]  # fmt: skip
    assert not any("target" in row for row in rows if row["peer_name"].startswith("relentless"))
    assert not any("target" in row for row in rem.rows_of(ours(), peers[1:]))
    alone = rem.rows_of(ours(), [])
    assert [row["case"] for row in alone] == ["lowest RDF rmse"]


def test_missing_peers_are_told_with_the_way_to_install_them(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(relentless_peer.VARIABLE, raising=False)
    arguments = rem._arguments(["--quick"])
    assert rem.peer_curves(tmp_path, None, ours(), arguments) == []
    said = capsys.readouterr().out
    assert "no csg_inverse" in said and "apt-get install" in said
    assert "pip install relentless" in said


def test_the_campaign_is_a_legal_one_at_constant_volume(tmp_path):
    from remcg.config import load

    path = tmp_path / "rem.yaml"
    path.write_text(rem_campaign.json.dumps(rem_campaign.config(rem.SAMPLING, 12)))
    campaign = load(str(path))
    assert campaign.states[0].pressure is None and campaign.states[0].temperature == 310.0
    term = campaign.model.terms[0]
    assert (term.r_cut - term.r_min) / (term.n_basis - 1) == pytest.approx(0.02)
    assert vars(campaign.sample).items() >= rem.SAMPLING.items()


def test_the_time_of_a_stage_is_the_last_line_of_its_log(tmp_path):
    (tmp_path / "log").write_text("said\nbusy_core_seconds 0.125\n")
    assert rem_campaign.busy(tmp_path / "log") == 0.125


def test_the_figure_is_drawn_from_the_result_file(tmp_path):
    results = RESULTS / "rem.json"
    curves = [rem.asdict(each) for each in (ours(), curve("VOTCA", [0.1], [300.0]))]
    if results.exists():
        curves = rem.read_json(results)["curves"]
    rem_figure.draw(tmp_path / "figures" / "rem.png", curves)
    assert (tmp_path / "figures" / "rem.png").stat().st_size > 10_000
