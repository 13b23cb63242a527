"""Campaigns side by side: what differs, which scores are told apart, and the page."""

import base64
import re

import numpy as np
import pytest

from remcg import campaigns, cli
from remcg.errors import InputError
from remcg.io import write_json


def write_campaign(folder, method="rem", r_cut=0.9, rmse=0.004, states=("T280", "T300"), **more):
    """A finished campaign as far as the comparison reads it."""
    temperatures = {"T280": 280.0, "T300": 300.0, "T320": 320.0}
    found = [
        {
            "id": name,
            "use": "test" if name == "T300" else "train",
            "temperature_K": temperatures[name],
            "rdf": {"W-W": {"rmse": rmse, "rmse_se": 0.0005, "max": 0.02,
                            "noise_floor_rmse": 0.003}},
            "density_kg_m3": {"reference": 1000.0, "reference_se": 0.5, "model": 1001.0,
                              "model_se": 0.5},
            "pressure_bar": {"target": 1.0, "model": 2.0, "model_se": 5.0},
        }
        for name in states
    ]  # fmt: skip
    rem = {"converged": True, "iterations": 5, "n_params": 40, "cg_steps_per_state": 1000}
    summary = {"campaign": folder.name, "version": "1", "seed": 1, "rem": rem, "states": found}
    terms = [{"kind": "pair", "sites": ["W", "W"], "r_cut": r_cut}]
    config = {
        "campaign": folder.name, "rem": {"method": method}, "model": {"terms": terms}, **more,
        "states": [{"id": state["id"], "use": state["use"], "weight": 1.0} for state in found],
    }  # fmt: skip
    write_json(folder / "summary.json", summary)
    write_json(folder / "provenance.json", {"config": config})
    r = np.arange(0.25, r_cut, 0.01)
    header = "pair\tr_nm\tg_reference\tg_reference_se\tg_model\tg_model_se\n"
    rows = "".join(f"W-W\t{x:.3f}\t1\t0.01\t{1 + rmse:.4f}\t0.01\n" for x in r)
    (folder / "validate").mkdir()
    for name in states:
        (folder / f"validate/rdf_{name}.tsv").write_text(header + rows)
    columns = "".join(f"\tU_{temperatures[name]:g}K\tU_{temperatures[name]:g}K_se"
                      for name in states)  # fmt: skip
    values = "\t1\t0.1" * len(states)
    text = f"pair\tr_nm{columns}\n" + "".join(f"W-W\t{x:.3f}{values}\n" for x in r)
    (folder / "validate/potentials.tsv").write_text(text)
    return folder


@pytest.fixture
def folders(tmp_path):
    a = write_campaign(tmp_path / "results" / "a")
    b = write_campaign(tmp_path / "results" / "b", "ibi", 1.2, 0.02, ("T280", "T300", "T320"),
                       news={"key": 1})  # fmt: skip
    return a, b


def test_only_settings_that_differ_are_shown_and_a_state_that_is_missing_once(folders):
    assert campaigns.differences(campaigns.read(folders)) == {
        "rem.method": ["rem", "ibi"],
        "model.terms.pair W-W.r_cut": ["0.9", "1.2"],
        "states.T320.use": ["", "train"],
    }


def test_the_page_of_two_campaigns_is_complete_and_marks_only_what_noise_cannot_explain(
    folders, tmp_path, capsys
):
    page = tmp_path / "comparison.html"
    assert cli.main(["compare", *map(str, folders), "--output", str(page)]) == 0
    assert "a: Converged after 5 iterations" in capsys.readouterr().out
    text = page.read_text()
    assert "<b>0.00400 ± 0.00050</b>" in text  # better by many errors
    assert text.count("<b>0.02000 ± 0.00050</b>") == 0
    assert text.count("<b>0.100 ± 0.071</b>") == 4  # equal densities: all that can be compared
    assert text.count("data:image/png") == 3 and "http:" not in text
    tables = {
        name: base64.b64decode(content).decode()
        for name, content in re.findall(r'download="([^"]+)" href="data:[^"]*base64,([^"]*)"', text)
    }
    assert set(tables) == {"settings.tsv", "scores.tsv", "rdf.tsv", "potentials.tsv"}
    assert len(tables["scores.tsv"].splitlines()) == 1 + 2 + 3
    assert tables["settings.tsv"].splitlines()[0] == "setting\ta\tb"


def test_campaigns_of_one_name_go_by_the_folders_that_tell_them_apart(tmp_path):
    same = [write_campaign(tmp_path / k / "results" / "water") for k in ("new", "old")]
    assert [item.name for item in campaigns.read(same)] == ["new", "old"]


def test_an_unfinished_campaign_and_one_alone_are_refused(folders, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: has no summary.json, provenance.json"):
        campaigns.read([folders[0], tmp_path / "empty"])
    with pytest.raises(InputError, match="two or more different folders"):
        campaigns.read([folders[0], folders[0]])
    assert cli.main(["compare", str(folders[0]), "model.json", "other.json"]) == 2
    assert "not all folders" in capsys.readouterr().err
