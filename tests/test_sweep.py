"""Variants of a campaign: what they are called and share, and which of them is best."""

import numpy as np
import pytest
import yaml

import waters
from remcg import config, sweep, sweep_table
from remcg.errors import InputError

R_CUT = "model.terms.0.r_cut"


def load(folder, **sections):
    """The campaign of waters with a sweep; files are there but empty."""
    for name in ("cold.xtc", "hot.xtc", "warm.xtc", "topology.pdb"):
        (folder / name).touch()
    (folder / "water.yaml").write_text(yaml.safe_dump(waters.MAPPING))
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(waters.content(**sections), sort_keys=False))
    return config.load(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_lists_grids_and_tables_of_variants_add_up(folder):
    lines = ["variant\tmodel.temperature\tsample.steps", "slow\t\t5000", "flat\tconstant\t"]
    (folder / "more.tsv").write_text("\n".join(lines) + "\n")
    campaign = load(
        folder,
        sweep={
            "variants": {"as-it-is": {}},
            "grid": {R_CUT: [0.7, 0.8], "model.terms.0.n_basis": [8, "auto"]},
            "table": "more.tsv",
        },
    )
    found = sweep.changes_of(campaign)
    assert list(found) == [
        "as-it-is",
        *("r_cut-0.7_n_basis-8", "r_cut-0.7_n_basis-auto"),
        *("r_cut-0.8_n_basis-8", "r_cut-0.8_n_basis-auto"),
        *("slow", "flat"),
    ]
    assert found["r_cut-0.8_n_basis-auto"] == {R_CUT: 0.8, "model.terms.0.n_basis": "auto"}
    assert found["slow"] == {"sample.steps": 5000}
    assert found["flat"] == {"model.temperature": "constant"}


def test_a_variant_is_a_campaign_that_differs_in_what_it_names(folder):
    changes = {R_CUT: 0.7, "states.hot.weight": 3, "rem.method": "ibi"}
    campaign = load(folder, sweep={"variants": {"a": {}, "b": changes}})
    a, b = sweep.prepare(campaign).values()
    assert (a.campaign, b.campaign) == ("waters-a", "waters-b")
    assert b.source == folder / "results/waters/sweep/b.yaml"
    assert (b.pair_terms[0].r_cut, b.state("hot").weight, b.rem.method) == (0.7, 3.0, "ibi")
    assert a.model == campaign.model and a.states == campaign.states and a.system == campaign.system
    written = b.source.stat().st_mtime_ns
    sweep.prepare(campaign)
    assert b.source.stat().st_mtime_ns == written


def test_the_longest_cut_off_maps_for_all_and_equal_terms_share_their_targets(folder):
    variants = {
        "short": {R_CUT: 0.6},
        "long": {R_CUT: 0.9},
        "long-heavy": {R_CUT: 0.9, "states.hot.weight": 5},
        "forces": {R_CUT: 0.9, "rem.method": "force_matching"},
    }
    campaign = load(
        folder,
        sweep={"variants": variants},
        system={**waters.content()["system"], "force_field": ["spce.xml"]},
    )
    found = sweep.prepare(campaign)
    assert {name: each.share.maps for name, each in found.items()} == {
        "short": "waters-long",
        "long": None,
        "long-heavy": "waters-long",
        "forces": None,
    }
    assert {name: each.share.targets for name, each in found.items()} == {
        "short": None,
        "long": None,
        "long-heavy": "waters-long",
        "forces": None,
    }
    files = sweep.shared_files(found)
    assert list(files) == ["waters-long"]
    assert files["waters-long"][0] == "results/waters-long/map/cold.h5"
    assert "results/waters-long/target/warm.h5" in files["waters-long"]


REFUSED = {
    "a misspelt key": ({"model.terms.0.rcut": 0.8}, "unknown key 'rcut' in .*mean 'r_cut'"),
    "a term that is not there": (
        {"model.terms.7.r_cut": 0.8},
        "'7' in .* none of the list: 0 to 1",
    ),
    "a state that is not there": ({"states.T1.weight": 2}, "or cold, hot, warm"),
    "a value out of range": ({R_CUT: 9}, "sweep: odd: .*9 nm is out of range"),
    "a name of its own": ({"campaign": "other"}, "campaign cannot be varied"),
    "a key of a number": ({"seed.a": 1}, "it has no keys"),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_a_variant_refuses(folder, changes, said):
    with pytest.raises(InputError, match=said):
        sweep.prepare(load(folder, sweep={"variants": {"odd": changes}}))


def test_variants_that_are_the_same_or_share_a_name_are_refused(folder):
    twice = {"variants": {"a": {R_CUT: 0.7}}, "grid": {R_CUT: [0.7]}}
    with pytest.raises(InputError, match=r"r_cut-0.7 and a are the same"):
        sweep.changes_of(load(folder, sweep=twice))
    with pytest.raises(InputError, match="two variants are called"):
        sweep.changes_of(load(folder, sweep={"variants": {"a": {R_CUT: 0.7}, "A": {}}}))
    with pytest.raises(InputError, match="give a list of values"):
        sweep.changes_of(load(folder, sweep={"grid": {R_CUT: 0.7}}))
    with pytest.raises(InputError, match=r"'\.\./x' cannot name a variant"):
        sweep.changes_of(load(folder, sweep={"variants": {"../x": {}}}))


def test_bennett_finds_the_free_energy_of_a_shifted_and_widened_gaussian():
    """u_A = x^2/2, u_B = (x - a)^2/(2 s^2) + c: f_B - f_A = c - ln s."""
    rng = np.random.default_rng(5)
    a, s, c = 0.7, 1.4, 3.0

    def w(x):
        return (x - a) ** 2 / (2 * s * s) + c - x * x / 2

    found, error = zip(
        *(
            sweep_table.bennett(w(rng.normal(size=800)), -w(a + s * rng.normal(size=400)))
            for _ in range(40)
        )
    )
    z = (np.array(found) - (c - np.log(s))) / np.array(error)
    assert abs(z.mean()) < 4.0 / np.sqrt(40)
    assert 0.6 < z.std() < 1.5
    assert max(error) < 0.05


def test_the_best_variant_and_those_as_good_are_marked():
    values = {"a": (0.004, 0.001), "b": (-0.001, 0.002), "c": (0.03, 0.002)}
    rows = [
        {"variant": name, "held_out_nats_per_site": value, "held_out_se": error}
        for name, (value, error) in values.items()
    ]
    sweep_table.mark_best(rows)
    assert [row["best"] for row in rows] == ["", "best", ""]
    rows[0]["held_out_se"] = 0.005
    sweep_table.mark_best(rows)
    assert [row["best"] for row in rows] == ["as good", "best", ""]
    assert [round(row["held_out_nats_per_site"], 6) for row in rows] == [0.005, 0.0, 0.031]
