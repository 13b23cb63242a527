"""The page of a campaign in a real browser, its figures' numbers and the view that turns."""

import base64
import re

import numpy as np
import pytest

import browser
from browser import CHROMIUM
from remcg import page, viewer
from remcg.plots import _figure
from remcg.topology import Topology


def a_scene():
    """Two chains of three sites, one of them across the boundary."""
    along = [0.1, 0.3, 0.5, 1.5, 0.05, 0.2]
    positions = np.array([[x, 0.8, 0.8 if k < 3 else 1.0] for k, x in enumerate(along)])
    bonds = [[0, 1], [1, 2], [3, 4], [4, 5]]
    topology = Topology([0, 1, 0, 0, 1, 0], np.full(6, 14.0), bonds=bonds)
    return viewer.scene_of_sites(positions, np.full(3, 1.6), topology, ["A", "B"])


def a_figure(path, name="rdf"):
    with _figure(path / f"{name}.png", (3.0, 2.0)) as figure:
        figure.subplots().set(xlabel="r (nm)", ylabel="g(r)")
    (path / f"{name}.rst").write_text("**Title.** What to see in ``g(r)``.")
    return page.read_figure(path / f"{name}.png", path / f"{name}.rst", ["T300"])


def test_bonded_sites_of_a_scene_are_neighbours_whatever_the_boundary():
    scene = a_scene()
    at = np.array([ball[:3] for ball in scene["balls"]])
    lengths = [np.linalg.norm(at[a] - at[b]) for a, b in scene["sticks"]]
    assert len(at) == 6 and len(lengths) == 4
    np.testing.assert_allclose(lengths, [0.2, 0.2, 0.15, 0.15], atol=2e-3)
    assert set(scene["names"]) == {"site A", "site B"}


def test_the_numbers_of_a_figure_are_those_of_its_states_and_kinds(tmp_path):
    for state, value in (("cold", "1"), ("hot", "2")):
        text = f"curve\tx\ty\nmsd\t0\t{value}\nneighbor_angles\t9\t9\nkernel\t3\t{value}\n"
        (tmp_path / f"curves_{state}.tsv").write_text(text)
        (tmp_path / f"bonded_{state}.tsv").write_text("kind\tx\nbond\t1\n")
    (tmp_path / "bonded_potentials.tsv").write_text("term\tx\nbond A-B\t1\n")
    states = ["cold", "hot"]
    name, text = page.tables_of(tmp_path / "dynamics.png", states)[0]
    assert name == "dynamics.tsv"
    assert text.splitlines() == [
        "state\tcurve\tx\ty", "cold\tmsd\t0\t1", "cold\tkernel\t3\t1", "hot\tmsd\t0\t2",
        "hot\tkernel\t3\t2",
    ]  # fmt: skip
    assert "potentials" not in page.tables_of(tmp_path / "distributions.png", states)[0][1]
    assert page.tables_of(tmp_path / "bonded_potentials.png", states)[0][1].startswith("term")
    assert page.tables_of(tmp_path / "unknown.png", states) == ()


def test_states_that_left_the_campaign_are_in_no_download(tmp_path):
    for state in ("cold", "left", "warm", "states"):  # the last: of a time with very many states
        (tmp_path / f"rdf_{state}.tsv").write_text(f"pair\tr_nm\n{state}\t0.1\n")
    ((_, text),) = page.tables_of(tmp_path / "rdf.png", ["warm", "cold"])
    assert text.splitlines() == ["state\tpair\tr_nm", "warm\twarm\t0.1", "cold\tcold\t0.1"]
    many = [f"T{k}" for k in range(page.MOST_FILES + 1)]
    ((_, text),) = page.tables_of(tmp_path / "rdf.png", many)
    assert text.splitlines() == ["pair\tr_nm", "states\t0.1"]


def test_a_download_holds_the_table_itself(tmp_path):
    (tmp_path / "rdf_T300.tsv").write_text("pair\tr_nm\nA-A\t0.1\n")
    text = page.figure(a_figure(tmp_path))
    content = re.search(r'download="rdf.tsv" href="data:[^"]*base64,([^"]*)"', text).group(1)
    assert base64.b64decode(content).decode() == "state\tpair\tr_nm\nT300\tA-A\t0.1\n"
    assert 'alt="Title"' in text and "<code>g(r)</code>" in text


def test_a_caption_is_told_once_for_all_states(tmp_path):
    names = ("backmap_T280", "backmap_T300", "backmap_picture")
    figures = [a_figure(tmp_path, name) for name in names]
    _, text = page.sections(figures, {"Dynamics": "<p>note</p>"})
    assert text.count("What to see") == 1 and text.count("As above, for another state.") == 2
    assert text.index('id="dynamics"') < text.index("<p>note</p>") < text.index('id="backmapping"')
    assert 'id="structure"' not in text  # nothing in it


def test_names_of_a_campaign_are_never_taken_for_html_or_for_a_place_of_the_page():
    text = page.page("<b>@BODY@", "<p>@STYLE@</p>")
    assert "<title>&lt;b&gt;@BODY@: remcg</title>" in text
    assert "<p>@STYLE@</p>" in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_browser_of_these_tests_sees_errors_and_requests_of_a_page(tmp_path):
    file = tmp_path / "bad.html"
    file.write_text("<img src='http://example.invalid/a.png'><script>missing()</script>")
    _, console, asked = browser.opened(file, tmp_path)
    assert len(console) == 1 and "missing is not defined" in console[0]
    assert asked == {"http://example.invalid/a.png"}


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_draws_the_page_without_an_error_or_a_request(tmp_path, dark):
    (tmp_path / "rdf_T300.tsv").write_text("pair\tr_nm\nA-A\t0.1\n")
    links, sections = page.sections([a_figure(tmp_path), a_figure(tmp_path, "density")])
    body = links + sections + viewer.figure(a_scene(), "Sites")
    file = tmp_path / "index.html"
    file.write_text(page.page("campaign", body, viewer.SCRIPT))
    document, console, asked = browser.opened(file, tmp_path, dark)
    assert console == []  # where violations of the page's own policy are told, too
    assert asked == set()
    width = re.search(r'<canvas[^>]* width="(\d+)"', document)
    assert width and int(width.group(1)) > 300  # the script came to its drawing
    assert "default-src 'none'" in document
    assert re.findall(r'(?:src|href)="(?!data:|#)', document) == []


def test_the_table_of_backmapped_structures_has_every_curve_of_their_figure(tmp_path):
    from remcg import plot_backmap
    from remcg.backmap.validation import Comparison

    edges = np.linspace(0.0, 0.8, 5)
    rdfs = {"O-O": (np.ones((3, 4)), np.array([np.zeros(4), 2.0 * np.ones(4)]))}
    energies = {"reference": np.arange(3.0), "ours": np.arange(2.0)}
    numbers = {"energy_gap_kJ_mol": 0.1, "energy_gap_se": 0.1, "rank_p": {"tilt": 0.5}}
    item = Comparison(numbers, {}, edges, rdfs, energies, {"tilt": np.array([4, 9])})
    plot_backmap.write_state_table(tmp_path / "backmap_T300.tsv", {"mapped": item})
    plot_backmap.state_figure(tmp_path / "backmap_T300.png", "T300", {"mapped": item})
    ((name, text),) = page.tables_of(tmp_path / "backmap_T300.png", ["T300"])
    lines = [line.split("\t") for line in text.splitlines()]
    assert name == "backmap_T300.tsv" and len(lines) == 1 + 8 + 5 + 2
    assert lines[1] == ["mapped", "rdf O-O", "reference", "0.1", "1", "0"]
    assert lines[5] == ["mapped", "rdf O-O", "backmapped", "0.1", "1", "1"]
    assert lines[-1] == ["mapped", "ranks tilt", "backmapped", "1", "9", "3"]
