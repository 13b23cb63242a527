"""Variants of a campaign: what they are called and share, and which of them is best."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import waters
from remcg import config, provenance, sweep, sweep_table
from remcg.errors import InputError
from remcg.io import write_json
from test_damage import small_model

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


def test_what_a_variant_leaves_open_follows_from_its_own_keys(folder):
    """As many predicted replicas as sampled ones; files lie where those of the campaign do."""
    (folder / "other.yaml").write_text(yaml.safe_dump(waters.MAPPING))
    variants = {
        "one": {},
        "four": {"sample.replicas": 4},
        "fixed": {"sample.replicas": 4, "predict.replicas": 3},
        "mapped": {"system.mapping": "other.yaml"},
    }
    found = sweep.prepare(load(folder, sweep={"variants": variants}))
    assert [each.predict_replicas for each in found.values()] == [2, 4, 3, 2]
    assert found["mapped"].system.mapping == folder / "other.yaml"


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


BROKEN = {
    "a cell too many": ("variant\tseed\na\t1\t2\n", "line 2: has 3 cells, but there are 2"),
    "a column twice": ("variant\tseed\tseed\na\t1\t2\n", "line 1: the column 'seed' has no name"),
    "a column without a name": ("variant\t\tseed\na\t1\t2\n", "line 1: the column '' has no"),
    "no column of names": ("name\tseed\na\t1\n", "no column 'variant'"),
    "commas": ("variant,seed\na,1\n", "has no tabs; separate its columns by tabs"),
    "a line without a name": ("variant\tseed\n\t1\n", "'' cannot name a variant"),
    "an open quote": ('variant\tseed\na\t"1\n', "is not a table with tabs"),
    "nothing": ("\n\n", "is empty; give a line of names"),
    "no value": ("variant\tseed\na\t[1\n", r"line 2: '\[1' is not a value"),
}


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN)
def test_a_table_refuses(folder, text, said):
    (folder / "more.tsv").write_text(text)
    with pytest.raises(InputError, match=said):
        sweep.changes_of(load(folder, sweep={"table": "more.tsv"}))


def test_a_grid_of_too_many_combinations_is_refused_before_they_are_made(folder):
    grid = {f"key{i}": list(range(100)) for i in range(20)}
    with pytest.raises(InputError, match="combinations; 1000 are allowed"):
        sweep.changes_of(load(folder, sweep={"grid": grid}))


def test_variants_are_compared_by_the_states_that_all_hold_out_alike(folder):
    swap = {"states.warm.use": "train", "states.hot.use": "test"}
    both = {"states.hot.use": "test"}
    found = sweep.prepare(
        load(
            folder,
            sweep={
                "variants": {
                    "a": {},
                    "b": {R_CUT: 0.7, "states.cold.weight": 2},
                    "both": {**both, "model.temperature": "constant"},
                    "swapped": swap,
                    "late": {"states.warm.start": 5},
                    "none": {"states.warm.use": "train"},
                    "none-heavy": {"states.warm.use": "train", "states.hot.weight": 2},
                }
            },
        )
    )

    def of(*names):
        states, objection = sweep_table.common_states({name: found[name] for name in names})
        return [state.id for state in states], objection

    assert of("a", "b", "both") == of("both", "b", "a") == (["warm"], "")
    assert of("both", "swapped") == of("swapped", "both") == (["hot"], "")
    assert of("a", "swapped") == ([], "no state is held out in all of them")
    assert of("a", "none") == of("none", "a") == ([], "no state is held out in all of them")
    assert of("none", "none-heavy") == (["cold", "hot", "warm"], "")
    assert of("a", "late") == ([], "warm and its mapping are not the same in all of them")


def pretend(variant):
    """Results as a run of a variant would leave them, as far as their comparison asks."""
    results = Path("results", variant.campaign)
    model = replace(small_model(), extra={"inputs": provenance.input_hashes(variant)})
    model.write(results / "model" / "model.json")
    states = [{"use": state.use, "rdf": {"W-W": {"rmse": 0.01}}} for state in variant.states]
    rem = {"converged": True, "iterations": 3, "n_params": 10}
    write_json(results / "summary.json", {"rem": rem, "states": states})
    write_json(results / "provenance.json", provenance.provenance(variant, results))


def table(folder):
    with open(folder / "results/waters/sweep.tsv", newline="") as stream:
        return {row["variant"]: row for row in csv.DictReader(stream, delimiter="\t")}


def test_results_of_an_earlier_config_are_not_compared_after_a_failure(folder, monkeypatch, capsys):
    monkeypatch.setattr(sweep_table, "difference", lambda *_: (0.1, 0.01))
    variants = {"a": {}, "b": {R_CUT: 0.7}, "c": {R_CUT: 0.75}, "d": {R_CUT: 0.65}}
    campaign = load(folder, sweep={"variants": variants})
    found = sweep.prepare(campaign)
    for name in "abc":
        pretend(found[name])
    variants["c"] = {R_CUT: 0.78}
    campaign = load(folder, sweep={"variants": variants})
    found = sweep.prepare(campaign)
    sweep_table.conclude(campaign, found, {"a": 0, "b": 1, "c": 1, "d": 1})
    said, rows = capsys.readouterr().out, table(folder)
    assert "2 of 4 variants compared, by the reference frames of warm" in said
    assert "left out: d: has no result; see logs/waters-d" in said
    assert [row["status"] for row in rows.values()] == ["converged"] * 2 + ["left out"] * 2
    assert "setting model.terms[0].r_cut, was 0.75, is 0.78" in rows["c"]["left_out"]
    assert rows["c"]["held_out_nats_per_site"] == rows["c"]["best"] == ""
    assert rows["a"]["best"] == "best" and rows["a"]["compared_by"] == "warm"

    (folder / "results/waters-b/model/model.json").unlink()
    sweep_table.conclude(campaign, found, {"a": 0, "b": 1, "c": 0})
    rows = table(folder)
    assert "earlier results are not whole" in rows["b"]["left_out"]
    assert not rows["c"]["left_out"]  # a run that ended well has made them anew

    sweep_table.conclude(campaign, {"d": found["d"]}, {})
    assert "no variant has results that can be compared" in capsys.readouterr().out
    assert not (folder / "results/waters/sweep.png").exists()


def test_variants_without_a_common_held_out_state_have_no_best_one(folder, monkeypatch, capsys):
    swap = {"states.warm.use": "train", "states.hot.use": "test"}
    campaign = load(folder, sweep={"variants": {"a": {}, "b": swap}})
    found = sweep.prepare(campaign)
    for each in found.values():
        pretend(each)
    sweep_table.conclude(campaign, found, {"a": 0, "b": 0})
    said, rows = capsys.readouterr().out, table(folder)
    assert "2 of 2 variants shown, without a best one: no state is held out in all" in said
    assert {row["best"] for row in rows.values()} == {""}
    assert rows["a"]["rdf_rmse_test"] == "0.01"
    assert (folder / "results/waters/sweep.png").stat().st_size > 3000
