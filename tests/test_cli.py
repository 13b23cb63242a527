"""The command remcg: what it prints and how it ends."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml

import waters
from remcg import cli, config, launch
from remcg.basis import SplineBasis
from remcg.errors import InputError
from remcg.io import write_json
from remcg.model import Model, PairTerm, VolumeTerm
from remcg.provenance import input_hashes, output_hashes
from remcg.verify import find_config


def model(shift=0.0, error=0.1, **extra):
    """A small model; ``shift`` in units of the standard error of every parameter."""
    terms = (PairTerm(("W", "W"), SplineBasis(0.2, 0.8, 8), 2), VolumeTerm(2, 2))
    blank = Model(("W",), terms, 300.0, 0.03, (np.zeros((2, 8)), np.zeros((2, 2))))
    covariance = error**2 * np.eye(20)
    values = np.linspace(-1.0, 1.0, 20) + shift * error
    return blank.with_parameters(values, covariance=covariance, **extra)


@pytest.fixture
def files(tmp_path):
    def write(**models):
        for name, item in models.items():
            item.write(tmp_path / f"{name}.json")
        return [str(tmp_path / f"{name}.json") for name in models]

    return write


def test_check_prints_a_table_of_the_states(tmp_path, capsys):
    assert cli.main(["check", str(waters.write_campaign(tmp_path))]) == 0
    text = capsys.readouterr().out
    assert "campaign waters" in text
    assert [name for name in ("cold", "hot", "warm") if f"\n{name} " in text] == [
        "cold",
        "hot",
        "warm",
    ]


def test_check_tells_the_variants_of_a_sweep_or_the_mistake_in_one(tmp_path, capsys):
    variants = {"as-it-is": {}, "short": {"sample.steps": 500}}
    path = waters.write_campaign(tmp_path, waters.content(sweep={"variants": variants}))
    assert cli.main(["check", str(path)]) == 0
    told = capsys.readouterr().out
    assert told.endswith("\nsweep\n  as-it-is: as it is\n  short: sample.steps 500\n")
    path.write_text(path.read_text().replace("sample.steps", "sample.step"))
    assert cli.main(["check", str(path)]) == 2
    assert "did you mean 'steps'?" in capsys.readouterr().err


def test_a_reader_that_stops_early_is_no_fault():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "remcg.cli", "schema"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_bad_input_ends_with_one_paragraph_and_two(tmp_path, capsys):
    path = waters.write_campaign(tmp_path, waters.content(sede=1))
    assert cli.main(["check", str(path)]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert "unknown key 'sede'; did you mean 'seed'?" in text
    assert len(text.splitlines()) == 1


def test_check_refuses_a_trajectory_with_another_number_of_atoms(tmp_path, capsys):
    path = waters.write_campaign(tmp_path)
    waters.trajectory(28)[0].save_xtc(str(tmp_path / "warm.xtc"))
    assert cli.main(["check", str(path)]) == 2
    assert "warm: topology.pdb has 81 atoms but warm.xtc has 84" in capsys.readouterr().err


def with_state(**changes):
    content = waters.content()
    content["states"][0].update(changes)
    return content


def truncate(folder):
    content = (folder / "cold.xtc").read_bytes()
    (folder / "cold.xtc").write_bytes(content[: len(content) // 2])


def overwrite(folder):
    content = (folder / "cold.xtc").read_bytes()
    half = len(content) // 2
    (folder / "cold.xtc").write_bytes(content[:half] + b"\xff" * 300 + content[half + 300 :])


def fail(folder):
    frames, _ = waters.trajectory()
    frames.xyz[0, 4] = np.nan
    frames.save_dcd(str(folder / "cold.dcd"))


def remove_box(folder):
    frames, _ = waters.trajectory()
    frames.unitcell_vectors = None
    frames.save_xtc(str(folder / "cold.xtc"))


def map_two_sites(folder):
    sites = {"A": {"atoms": ["O"]}, "B": {"atoms": ["H1", "H2"]}}
    (folder / "water.yaml").write_text(yaml.safe_dump({"HOH": {"sites": sites}}))


def map_other_atoms(folder):
    rules = {"HOH": {"sites": {"W": {"atoms": ["O", "HX"]}}}}
    (folder / "water.yaml").write_text(yaml.safe_dump(rules))


def write_other_log(folder):
    waters.write_log(folder / "cold.csv", waters.trajectory()[0], 333.0)


BAD_INPUT = {
    "misspelt key": ({"smaple": {}}, None, "did you mean 'sample'?"),
    "missing file": (with_state(trajectory="gone.xtc"), None, "the file gone.xtc is missing"),
    "two states with one id": (with_state(id="hot"), None, "two states have the id 'hot'"),
    "truncated": ({}, truncate, "cold.xtc is truncated in frame"),
    "corrupt": ({}, overwrite, "cold.xtc is corrupt at frame"),
    "not numbers": (
        with_state(trajectory="cold.dcd"),
        fail,
        "cold.dcd has coordinates that are not numbers in frame 0, atom 4 (HOH2-H1)",
    ),
    "no box": ({}, remove_box, "cold.xtc has no box in frame 0"),
    "other sites": ({}, map_two_sites, "the pair term W-W names the site type W, but the mapping"),
    "atom that is not there": ({}, map_other_atoms, "the atom HX is not in residue HOH1"),
    "log of another temperature": (
        with_state(log="cold.csv", temperature=60),
        write_other_log,
        "K but the config says 60 K; give the temperature of the trajectory in kelvin",
    ),
    "missing force field": (
        {"system": {**waters.content()["system"], "force_field": ["gone.xml"]}},
        None,
        "OpenMM cannot read the force field ['gone.xml']",
    ),
    "force field of other molecules": (
        {"system": {**waters.content()["system"], "force_field": ["amber14/DNA.OL15.xml"]}},
        None,
        "does not fit the topology",
    ),
    "box smaller than the cut-off of backmapping": (
        {
            "system": {**waters.content()["system"], "force_field": ["spce.xml"]},
            "backmap": {"cutoff": 1.1},
        },
        None,
        "backmapping with a cut-off of 1.1 nm needs boxes at least 2.2 nm wide",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_check_and_launch_refuse_bad_input_before_any_job(tmp_path, monkeypatch, capsys, case):
    changes, spoil, message = BAD_INPUT[case]
    path = waters.write_campaign(tmp_path, waters.content(**changes))
    if spoil:
        spoil(tmp_path)
    monkeypatch.chdir(tmp_path)
    for main, arguments in ((cli.main, ["check"]), (launch.main, ["--configfile"])):
        assert main([*arguments, str(path)]) == 2
        text = capsys.readouterr().err
        assert message in text
        assert len(text.splitlines()) == 1
    assert not (tmp_path / "logs").exists()


def test_launch_checks_inputs_again_when_they_changed_since_they_were_mapped(tmp_path, monkeypatch):
    path = waters.write_campaign(tmp_path)
    monkeypatch.chdir(tmp_path)
    facts = tmp_path / "results" / "waters" / "map"
    for state in ("cold", "hot", "warm"):
        write_json(facts / f"{state}.json", {})
    truncate(tmp_path)
    os.utime(tmp_path / "cold.xtc", (0, 0))
    launch.check_new_inputs(config.load(path))
    latest = (facts / "warm.json").stat().st_mtime + 10
    os.utime(tmp_path / "cold.xtc", (latest, latest))
    with pytest.raises(InputError, match="truncated"):
        launch.check_new_inputs(config.load(path))


def test_check_accepts_a_force_field_that_fits(tmp_path, capsys):
    system = {**waters.content()["system"], "force_field": ["spce.xml"]}
    assert (
        cli.main(["check", str(waters.write_campaign(tmp_path, waters.content(system=system)))])
        == 0
    )
    capsys.readouterr()


def test_schema_prints_json(capsys):
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "remcg campaign"


def test_a_model_is_identical_to_itself(files, capsys):
    assert cli.main(["compare", *files(a=model(), b=model())]) == 0
    assert "identical to the last bit" in capsys.readouterr().out


def test_models_within_error_bars_agree(files, capsys):
    assert cli.main(["compare", *files(a=model(), b=model(shift=1.0))]) == 0
    text = capsys.readouterr().out
    assert "agree within error bars" in text
    assert "chi2 10.0 in 20 directions" in text  # 20 x 1^2 / (1 + 1)


def test_models_beyond_error_bars_differ(files, capsys):
    assert cli.main(["compare", *files(a=model(), b=model(shift=3.0))]) == 1
    assert "differ by more than error bars" in capsys.readouterr().out


def test_a_difference_in_a_direction_without_error_counts(files, capsys):
    first, second = model(), model(shift=1.0)
    for item in (first, second):
        item.extra["covariance"][0] = item.extra["covariance"][:, 0] = 0.0
    assert cli.main(["compare", *files(a=first, b=second)]) == 1
    assert "chi2 inf in 19 directions" in capsys.readouterr().out


def test_models_of_other_terms_cannot_be_compared(files, capsys):
    terms = (PairTerm(("W", "W"), SplineBasis(0.2, 0.9, 8), 2),)
    other = Model(("W",), terms, 300.0, 0.03, (np.zeros((2, 8)),))
    assert cli.main(["compare", *files(a=model(), b=other)]) == 2
    assert "the models have different terms" in capsys.readouterr().err


def test_a_file_that_is_no_model_cannot_be_compared(tmp_path, capsys):
    path = tmp_path / "x.json"
    path.write_text("{}")
    assert cli.main(["compare", str(path), str(path)]) == 2
    assert "is not a model.json" in capsys.readouterr().err


@pytest.fixture
def results(tmp_path):
    """Results of a campaign, and its config."""
    path = waters.write_campaign(tmp_path)
    folder = tmp_path / "results" / "waters"
    inputs = input_hashes(config.load(path))
    model(inputs=inputs).write(folder / "model" / "model.json")
    write_json(folder / "provenance.json", {"remcg": cli.__version__})
    return folder, path


def test_verify_finds_nothing_when_nothing_changed(results, capsys):
    folder, path = results
    assert cli.main(["verify", str(folder), "--config", str(path)]) == 0
    assert "inputs, settings, results and version are unchanged" in capsys.readouterr().out


def test_verify_names_what_changed(results, capsys):
    folder, path = results
    waters.trajectory(seed=9)[0].save_xtc(str(path.parent / "hot.xtc"))
    path.write_text(yaml.safe_dump(waters.content(seed=5)))
    write_json(folder / "provenance.json", {"remcg": "0.0.0"})
    assert cli.main(["verify", str(folder), "--config", str(path)]) == 1
    text = capsys.readouterr().out
    assert "hot.xtc: has changed" in text
    assert "settings: has changed" in text
    assert f"remcg: was 0.0.0, is {cli.__version__}" in text
    assert "cold.xtc" not in text


def test_verify_says_how_results_that_were_lost_or_edited_are_made_anew(results, capsys):
    folder, path = results
    for name in ("validate/states.tsv", "rem/iter-000/model.json", "summary.json"):
        write_json(folder / name, {})
    outputs = output_hashes(folder)
    write_json(folder / "provenance.json", {"remcg": cli.__version__, "outputs": outputs})
    assert cli.main(["verify", str(folder), "--config", str(path)]) == 0
    assert "made anew" not in capsys.readouterr().out
    (folder / "rem/iter-000/model.json").unlink()
    (folder / "summary.json").write_text("edited")
    (folder / "validate/states.tsv").unlink()
    assert cli.main(["verify", str(folder), "--config", str(path)]) == 1
    command = 'make run CONFIG=campaign.yaml ARGS="--forcerun guess report validate"'
    assert f"made anew by: {command}\n" in capsys.readouterr().out


def test_a_config_outside_of_the_checkout_is_found_by_its_plain_name(tmp_path):
    path = tmp_path / "data" / "config.yaml"
    path.parent.mkdir()
    path.touch()
    results = tmp_path / "checkout" / "results" / "x"
    assert find_config(results, {"config_file": "../data/config.yaml"}) == path


def test_a_test_state_does_not_count_as_an_input_of_the_model(results, capsys):
    folder, path = results
    waters.trajectory(seed=9)[0].save_xtc(str(path.parent / "warm.xtc"))
    assert cli.main(["verify", str(folder), "--config", str(path)]) == 0
    capsys.readouterr()


def test_verify_without_a_config_of_that_name_asks_for_it(results, capsys):
    folder, _ = results
    assert cli.main(["verify", str(folder)]) == 2
    assert "has campaign: waters; name it with --config" in capsys.readouterr().err
