"""``remcg methods``: variants of a campaign, their table and their figure."""

import csv
from dataclasses import replace

import numpy as np
import pytest

import tiny
import waters
from remcg import cli, config, launch, method_comparison, plot_methods
from remcg.validate import RdfPair, StateResult


def outcome(method, n_iterations, shift=0.0, at_pressure=True):
    """What a method made of two states, as if it had run."""
    edges = np.linspace(0.0, 0.6, 61)
    rng = np.random.default_rng(n_iterations)
    states = []
    for number, (name, use) in enumerate((("cold", "train"), ("hot", "test"))):
        g = (edges[1:] > 0.3) + 0.01 * rng.normal(size=(2, 10, 60)) + shift
        numbers = {
            "id": name,
            "use": use,
            "temperature_K": 280.0 + 40.0 * number,
            "rdf": {"AR-AR": {"rmse": 0.01 + shift, "rmse_se": 0.001, "noise_floor_rmse": 0.004}},
        }
        if at_pressure:
            numbers["density_kg_m3"] = {
                "model": 1000.0 + 100.0 * shift,
                "model_se": 0.5,
                "reference": 1000.0,
                "reference_se": 0.5,
            }
        states.append(StateResult(numbers, {"AR-AR": RdfPair(edges, *g)}))
    updates = [
        {
            "verdict": "converged" if n_iterations == 1 else "continue",
            "states": {"cold": {"rdf_rmse": 0.1 / k, "rdf_noise": 0.004}},
        }
        for k in range(1, n_iterations + 1)
    ]
    virial = [(5000.0, 50.0), (4000.0, 50.0)]
    return method_comparison.Outcome(method, updates, 1e6, tiny.true_model(), states, virial)


@pytest.fixture
def campaign(tmp_path):
    return config.load(waters.write_campaign(tmp_path, n_frames=3))


def test_a_variant_is_the_campaign_with_another_method_and_name(campaign, tmp_path):
    path = tmp_path / "elsewhere" / "ibi.yaml"
    path.parent.mkdir()
    path.write_text(method_comparison.variant_of(campaign, "ibi"))
    variant = config.load(path)
    assert (variant.campaign, variant.rem.method) == ("waters-ibi", "ibi")
    expected = replace(
        campaign,
        campaign="waters-ibi",
        source=path,
        rem=replace(campaign.rem, method="ibi"),
        backmap=replace(campaign.backmap, frames=0),
    )
    assert variant == expected


def test_the_table_has_a_line_per_method_and_state(tmp_path):
    outcomes = [outcome("ibi", 5, 0.02), outcome("boltzmann", 1)]
    method_comparison.write_table(tmp_path / "methods.tsv", outcomes)
    with open(tmp_path / "methods.tsv") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["method"] for row in rows] == ["ibi", "ibi", "boltzmann", "boltzmann"]
    assert [row["status"] for row in rows[::2]] == ["exhausted", "direct"]
    assert float(rows[0]["cg_site_steps"]) == 5e6
    assert float(rows[0]["rdf_rmse"]) == pytest.approx(0.03)
    assert rows[0]["compressibility_1_bar"] == ""


def test_the_summary_shows_the_worst_state_of_each_use():
    header, (ibi, rem) = method_comparison.summary([outcome("ibi", 5, 0.02), outcome("rem", 3)])
    assert header[:3] == ["method", "status", "iterations"]
    assert ibi == ["ibi", "exhausted", "5", "0.0300", "0.0300", "0.20", "0.20"]
    assert rem[-1] == "0.00"
    _, constant = method_comparison.summary([outcome("rem", 3, at_pressure=False)])
    assert constant[0][-2:] == ["-", "-"]


@pytest.mark.parametrize("at_pressure", [True, False])
def test_the_figure_is_drawn_for_any_selection_of_methods(tmp_path, at_pressure):
    outcomes = [outcome(m, k + 1, 0.01 * k, at_pressure) for k, m in enumerate(plot_methods.LABELS)]
    for number, chosen in enumerate((outcomes, outcomes[:1])):
        plot_methods.methods_figure(tmp_path / f"{number}.png", chosen, "hot")
        assert (tmp_path / f"{number}.png").stat().st_size > 20000


def test_every_method_of_the_config_has_a_name_and_a_colour():
    choices = set(config.Rem.__dataclass_fields__["method"].metadata["choices"])
    assert choices == set(method_comparison.METHODS) == set(plot_methods.LABELS)


def test_each_method_runs_as_a_campaign_of_its_own(campaign, tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "main", lambda arguments: ran.append(arguments) or 1)
    code = cli.main(["methods", str(campaign.source), "--methods", "ibi,imc", "--cores", "3"])
    assert code == 1
    names = [f"results/waters-methods/{method}.yaml" for method in ("ibi", "imc")]
    assert ran == [["--configfile", name, "--cores", "3"] for name in names]
    times = [(tmp_path / name).stat().st_mtime_ns for name in names]
    cli.main(["methods", str(campaign.source), "--methods", "ibi,imc", "--cores", "3"])
    assert [(tmp_path / name).stat().st_mtime_ns for name in names] == times


def test_force_matching_is_left_out_where_there_are_no_forces(
    campaign, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "main", lambda arguments: 1)
    codes = method_comparison.compare_methods(campaign.source)
    assert list(codes) == ["rem", "ibi", "imc", "boltzmann"]
    assert "left out: force_matching (" in capsys.readouterr().out


def test_an_interruption_ends_the_comparison(campaign, tmp_path, monkeypatch):
    ran = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "main", lambda arguments: ran.append(1) or launch.INTERRUPTED)
    assert cli.main(["methods", str(campaign.source), "--methods", "ibi,imc"]) == 130
    assert len(ran) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--methods", "rem,mc"], "--methods: found 'mc', allowed are rem, ibi, imc"),
        (["--state", "T1"], "--state: found T1; the campaign has cold, hot, warm"),
        (["--methods", "force_matching"], "cold.xtc of cold has none and system.force_field is"),
    ],
)
def test_what_cannot_be_compared_is_refused(campaign, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(campaign.source.parent)
    monkeypatch.setattr(launch, "main", lambda arguments: 2)
    assert cli.main(["methods", str(campaign.source), *arguments]) == 2
    assert message in capsys.readouterr().err
