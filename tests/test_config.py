"""The campaign's YAML: what is read, and what is refused with which words."""

import copy
import json
import re
import shutil
import subprocess
import sys

import jsonschema
import pytest
import yaml

import waters
from remcg import config
from remcg.errors import InputError

DEFAULT = config.ROOT / "config" / "spce-water.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Empty files under the names of the campaign: loading does not open them."""
    place = tmp_path_factory.mktemp("config")
    for name in ("topology.pdb", "water.yaml", "cold.xtc", "hot.xtc", "warm.xtc"):
        (place / name).touch()
    return place


def load(folder, content):
    path = folder / "campaign.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return config.load(path)


def changed(*keys, value):
    """A legal config with one value replaced; the last key may be new."""
    content = copy.deepcopy(waters.content())
    item = content
    for key in keys[:-1]:
        item = item.setdefault(key, {}) if isinstance(item, dict) else item[key]
    item[keys[-1]] = value
    return content


def test_the_default_campaign_has_the_values_of_its_file():
    campaign = config.load(DEFAULT, check_files=False)
    assert [state.id for state in campaign.training] == ["T280", "T310", "T340"]
    assert [state.temperature for state in campaign.test] == [295.0, 325.0]
    assert campaign.reference_temperature == pytest.approx(310.0)
    assert campaign.n_params == 34 * 2 + 2 * 3
    assert campaign.predict_replicas == campaign.sample.replicas == 2
    assert campaign.to_dict()["predict"]["replicas"] == 2
    assert campaign.system.topology == config.ROOT / "resources" / "spce" / "topology.pdb"


def test_the_schema_on_disk_is_that_of_the_typed_config():
    path = config.ROOT / "workflow" / "schemas" / "config.schema.json"
    assert path.read_text() == config.schema_text(), "run: remcg schema > " + str(path)


def test_the_readme_lists_every_key_as_it_is():
    text = (config.ROOT / "config" / "README.md").read_text()
    assert text.endswith(config.tables()), "append the output of: remcg schema --tables"


def test_the_schema_accepts_the_default_campaign_and_refuses_a_misspelt_key():
    content = yaml.safe_load(DEFAULT.read_text())
    validator = jsonschema.Draft202012Validator(config.schema())
    validator.validate(content)
    content["sample"]["timestpe"] = 0.004
    assert not validator.is_valid(content)


def test_loading_a_config_does_not_import_a_trajectory_reader():
    code = (
        "import sys, remcg.config as c; c.load(sys.argv[1], check_files=False); "
        "print({'mdtraj', 'numba', 'scipy', 'pymbar'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(DEFAULT)]
    assert subprocess.check_output(command, text=True).strip() == "set()"


def test_plain_values_name_files_without_the_place_of_the_campaign(folder, tmp_path):
    first = load(folder, waters.content()).to_dict()
    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    second = load(copied, waters.content()).to_dict()
    assert first == second
    assert first["states"][0]["trajectory"] == ["cold.xtc"]
    json.dumps(first, allow_nan=False)


def test_plain_values_name_files_of_the_repository_from_its_root():
    plain = config.load(DEFAULT, check_files=False).to_dict()
    assert plain["system"]["topology"] == "resources/spce/topology.pdb"


def test_numbers_and_names_mean_what_they_look_like(folder):
    text = yaml.safe_dump(waters.content()) + "backmap: {steps: 1e5}\n"
    assert load(folder, text).backmap.steps == 100000
    text = (
        text.replace("[W, W]", "[NO, NO]").replace("- W\n", "- NO\n").replace("id: cold", "id: NO")
    )
    campaign = load(folder, text)
    assert campaign.states[0].id == "NO"
    assert campaign.pair_terms[0].sites == ["NO", "NO"]


@pytest.mark.parametrize("nothing", [None, "none"])
def test_a_limit_may_be_left_out_but_not_every_one(folder, nothing):
    validator = jsonschema.Draft202012Validator(config.schema())
    for key in ("rdf_rmse_test", "rdf_max_train", "density_se", "penalty_per_site"):
        content = changed("validate", "limits", key, value=nothing)
        assert getattr(load(folder, content).validate.limits, key) == "none"
        validator.validate(content)
    content = changed("validate", "limits", "symmetry", value=nothing)
    with pytest.raises(InputError, match=r"validate\.limits\.symmetry: .* a number"):
        load(folder, content)
    assert not validator.is_valid(content)


def test_the_joint_fit_over_compositions_reports_without_limits_on_structure_and_density():
    campaign = config.load(config.ROOT / "config" / "methanol-water.yaml", check_files=False)
    limits = vars(campaign.validate.limits)
    assert {key for key, value in limits.items() if value == "none"} == {
        "rdf_rmse_train", "rdf_rmse_test", "rdf_max_train", "rdf_max_test",
        "density_train", "density_test", "density_se", "penalty_per_site",
    }  # fmt: skip


def test_a_grid_of_states_fills_in_ids_and_file_names(folder):
    grid = {
        "temperature": [280, 300.5, 320],
        "pressure": [1, 1000],
        "test_temperature": [300.5],
        "trajectory": "T{temperature}_P{pressure}.xtc",
    }
    for t in ("280", "300.5", "320"):
        for p in ("1", "1000"):
            (folder / f"T{t}_P{p}.xtc").touch()
    campaign = load(folder, waters.content(states=grid))
    assert [state.id for state in campaign.test] == ["T300.5_P1", "T300.5_P1000"]
    assert len(campaign.training) == 4
    assert campaign.states[3].trajectory == [folder / "T300.5_P1000.xtc"]


def test_the_pair_of_a_term_is_sorted_so_that_its_name_is_unique(folder):
    campaign = load(folder, changed("model", "terms", 0, "sites", value=["W", "A"]))
    assert campaign.pair_terms[0].name == "A-W"


def test_several_trajectory_files_make_one_state(folder):
    campaign = load(folder, changed("states", 0, "trajectory", value=["cold.xtc", "hot.xtc"]))
    assert [path.name for path in campaign.states[0].trajectory] == ["cold.xtc", "hot.xtc"]


REFUSED = {
    "misspelt section": (("smaple",), {}, "unknown key 'smaple'; did you mean 'sample'?"),
    "misspelt key": (
        ("sample", "timestpe"),
        0.004,
        "sample: unknown key 'timestpe'; did you mean 'ti",
    ),
    "misspelt state key": (
        ("states", 0, "temprature"),
        280,
        r"states\[0\] \(cold\): unknown key 'temprature'; did you mean 'temperature'?",
    ),
    "misspelt model key": (
        ("model", "term"),
        [],
        "model: unknown key 'term'; did you mean 'terms'",
    ),
    "negative temperature": (
        ("states", 0, "temperature"),
        -20,
        "-20 K is out of range; allowed is 50 to 5000 K; give kelvin, not degrees Celsius",
    ),
    "temperature in degrees Celsius": (
        ("states", 0, "temperature"),
        25,
        "25 K is out of range; .*; give kelvin, not degrees Celsius",
    ),
    "absurd temperature": (("states", 0, "temperature"), 280000, "280000 K is out of range"),
    "pressure in Pa": (("states", 0, "pressure"), 101325, "101325 bar is out of range.* not Pa"),
    "negative pressure": (("states", 0, "pressure"), -1, "-1 bar is out of range"),
    "negative timestep": (
        ("sample", "timestep"),
        -0.004,
        "sample.timestep: -0.004 ps is out of range",
    ),
    "timestep of the reference in fs": (
        ("reference", "timestep"),
        2,
        "reference.timestep: 2 ps is out of range; .*; give ps, not fs",
    ),
    "negative cut-off": (("model", "terms", 0, "r_cut"), -0.8, "-0.8 nm is out of range"),
    "timestep in fs": (
        ("sample", "timestep"),
        4,
        "sample.timestep: 4 ps is out of range; allowed is 1e-05 to 0.1 ps; give ps, not fs",
    ),
    "cut-off in angstrom": (
        ("model", "terms", 0, "r_cut"),
        9,
        r"model.terms\[0\].r_cut: 9 nm is out of range; .*; give nm, not Å",
    ),
    "r_min beyond r_cut": (("model", "terms", 0, "r_min"), 0.8, "r_min 0.8 nm is not below r_cut"),
    "text for a number": (
        ("sample", "steps"),
        "many",
        "sample.steps: found 'many', expected a who",
    ),
    "truth for a number": (("seed",), True, "seed: found True, expected a whole number"),
    "no value": (("sample", "steps"), None, "sample.steps: has no value; give a whole number"),
    "infinite": (("sample", "friction"), float("inf"), "found inf, expected a number"),
    "unknown use": (
        ("states", 0, "use"),
        "trian",
        "found 'trian', allowed are train, test; did you",
    ),
    "unsafe id": (("states", 0, "id"), "a/b", r"'a/b' cannot name a file; use letters"),
    "hidden id": (("states", 0, "id"), "..", r"'..' cannot name a file"),
    "unsafe campaign": (("campaign",), "../x", "campaign: '../x' cannot name a file"),
    "two ids": (("states", 1, "id"), "cold", "two states have the id 'cold'"),
    "ids that differ in case": (("states", 1, "id"), "Cold", "'Cold' differs only in case"),
    "no states": (("states",), [], "states: is empty; give a list of states"),
    "no terms": (("model", "terms"), [], "model.terms: is empty"),
    "unknown term": (
        ("model", "terms", 1, "kind"),
        "improper",
        r"model.terms\[1\].kind: found 'improper'; this version knows pair, bond, angle, dihedral, "
        "volume terms",
    ),
    "volume coefficients per state": (
        ("model", "terms", 1, "per_state"),
        True,
        r"model.terms\[1\]: unknown key 'per_state'",
    ),
    "three sites": (
        ("model", "terms", 0, "sites"),
        ["W"] * 3,
        "give the two site types of the pair",
    ),
    "missing trajectory": (("states", 0, "trajectory"), "gone.xtc", "the file gone.xtc is missing"),
    "section that is no section": (
        ("sample",),
        [1],
        r"sample: found \[1\] where keys are expected",
    ),
    "too few samples of an iteration": (
        ("sample", "sample_interval"),
        2000,
        r"sample.steps: 10000 steps with a sample every 2000 steps \(sample.sample_interval\) make "
        "fewer than 10 samples; raise sample.steps to 20000",
    ),
    "too few samples of a prediction": (
        ("predict", "steps"),
        50,
        "predict.steps: 50 steps with a sample every 10 steps .* raise predict.steps to 100",
    ),
    "missing log": (("states", 0, "log"), "gone.csv", r"cold\).log: the file gone.csv is missing"),
    "missing mapping": (
        ("system", "mapping"),
        "gone.yaml",
        "system.mapping: the file gone.yaml is",
    ),
    "nothing for a section": (("system",), None, "system: found nothing where keys are expected"),
    "another word than auto": (
        ("model", "terms", 0, "n_basis"),
        "automatic",
        r"terms\[0\].n_basis: found 'automatic', expected a whole number or auto",
    ),
    "too few functions": (
        ("model", "terms", 0, "n_basis"),
        3,
        r"terms\[0\].n_basis: 3 is out of range; allowed is 4 to 500, or auto; correct it",
    ),
    "no number of functions": (
        ("model", "terms", 0, "n_basis"),
        None,
        r"terms\[0\].n_basis: has no value; give a whole number or auto",
    ),
    "pressure without a volume term": (
        ("model", "terms"),
        [{"kind": "pair", "sites": ["W", "W"], "r_cut": 0.8, "n_basis": 8}],
        r"cold has a pressure \(1 bar\) but the model has no volume term.*add \{kind: volume, "
        r"order: 2\} to model.terms, or set pressure: null in every state",
    ),
    "quadratic from two temperatures": (
        ("model", "temperature"),
        "quadratic",
        r"W-W has temperature: quadratic, which needs training states at 3 or more "
        r"temperatures, but there are 2 \(280 K, 320 K\); "
        "add training states or set temperature: linear",
    ),
}


def test_the_number_of_functions_may_be_left_open(folder):
    content = changed("model", "terms", 0, "n_basis", value="auto")
    campaign = load(folder, content)
    assert [term.name for term in campaign.open_terms] == ["W-W"]
    expected = round((0.8 - 0.8 / 3) / 0.02) + 1  # about one per 0.02 nm
    assert campaign.n_params == 2 * expected + 2 * 2
    validator = jsonschema.Draft202012Validator(config.schema())
    validator.validate(content)
    assert not validator.is_valid(changed("model", "terms", 0, "n_basis", value="automatic"))
    assert "| required | 4 to 500, or `auto` |" in config.tables()


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_refused_by_name(folder, case):
    keys, value, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        load(folder, changed(*keys, value=value))


def test_a_missing_file_is_looked_for_in_two_places(folder):
    content = changed("system", "topology", value="nowhere/gone.pdb")
    places = f"{folder}/nowhere/gone.pdb and {config.ROOT}/nowhere/gone.pdb"
    with pytest.raises(InputError, match=re.escape(places)):
        load(folder, content)


def test_a_missing_trajectory_may_be_made_later(folder):
    path = folder / "later.yaml"
    path.write_text(yaml.safe_dump(changed("states", 0, "trajectory", value="later.xtc")))
    campaign = config.load(path, check_files=False)
    assert campaign.states[0].trajectory == [folder / "later.xtc"]


def test_a_campaign_without_training_states_is_refused(folder):
    content = waters.content()
    for state in content["states"]:
        state["use"] = "test"
    with pytest.raises(InputError, match="no state has use: train"):
        load(folder, content)


def test_a_volume_term_needs_states_at_constant_pressure(folder):
    content = waters.content()
    for state in content["states"]:
        state["pressure"] = None
    message = "training states at constant pressure at 2 or more.*or leave the term out"
    with pytest.raises(InputError, match=message):
        load(folder, content)


def test_at_constant_volume_no_volume_term_is_needed(folder):
    content = waters.content()
    content["model"]["terms"].pop()
    for state in content["states"]:
        state["pressure"] = None
    assert load(folder, content).volume_term is None


def test_an_own_force_field_is_found_beside_the_config_and_other_names_are_left_to_openmm(folder):
    (folder / "own.xml").touch()
    campaign = load(folder, changed("system", "force_field", value=["own.xml", "spce.xml"]))
    assert campaign.system.force_field == [folder / "own.xml", "spce.xml"]
    assert campaign.to_dict()["system"]["force_field"] == ["own.xml", "spce.xml"]


def test_a_missing_section_is_named(folder):
    content = waters.content()
    del content["model"]
    with pytest.raises(InputError, match="the key 'model' is missing"):
        load(folder, content)


def test_a_missing_key_is_named_with_its_state(folder):
    content = waters.content()
    del content["states"][1]["temperature"]
    with pytest.raises(InputError, match=r"states\[1\] \(hot\): the key 'temperature' is missing"):
        load(folder, content)


def test_a_key_that_stands_twice_is_refused_with_its_lines(folder):
    with pytest.raises(InputError, match="the key 'seed' stands twice, in lines 1 and 2"):
        load(folder, "seed: 1\nseed: 2\n")


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: [1", "is not valid YAML"),
        ("", "where keys are expected"),
        ("- 1", "where keys are expected"),
        ("? [a]\n: 1", "is not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_campaign_is_refused(folder, text, message):
    with pytest.raises(InputError, match=message):
        load(folder, text)


def test_a_config_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone\.yaml: cannot be read"):
        config.load(tmp_path / "gone.yaml")


def test_replica_exchange_and_batches_of_states_exclude_each_other(folder):
    sample = {"exchange_interval": 100, "states_per_job": 2}
    with pytest.raises(InputError, match="states_per_job: replica exchange"):
        load(folder, waters.content(sample=sample))


def test_an_unknown_word_in_a_grid_is_refused(folder):
    grid = {"temperature": [280, 320], "trajectory": "T{temp}.xtc"}
    with pytest.raises(InputError, match=r"'\{temp\}' in 'T\{temp\}.xtc' is unknown"):
        load(folder, waters.content(states=grid))


def test_a_test_temperature_must_be_in_the_grid(folder):
    grid = {"temperature": [280, 320], "test_temperature": [300], "trajectory": "cold.xtc"}
    with pytest.raises(InputError, match="300 K is not among the temperatures"):
        load(folder, waters.content(states=grid))


def with_terms(*terms, **model):
    """A legal config whose model has more terms."""
    content = copy.deepcopy(waters.content())
    content["model"]["terms"] += terms
    content["model"] |= model
    return content


BOND = {"kind": "bond", "sites": ["B", "A"]}
ANGLE = {"kind": "angle", "sites": ["B", "A", "A"]}
DIHEDRAL = {"kind": "dihedral", "sites": ["B", "A", "A", "A"]}


def test_bonded_terms_have_their_defaults_and_the_smaller_of_both_readings(folder):
    campaign = load(folder, with_terms(BOND, ANGLE, DIHEDRAL))
    assert [term.name for term in campaign.bonded_terms] == ["A-B", "A-A-B", "A-A-A-B"]
    assert [term.n_functions for term in campaign.bonded_terms] == [16] * 3
    assert campaign.n_params == 2 * (8 + 2 + 3 * 16)
    short = [{**BOND, "form": "harmonic"}, *({**t, "form": "cosine"} for t in (ANGLE, DIHEDRAL))]
    assert [t.n_functions for t in load(folder, with_terms(*short)).bonded_terms] == [2, 4, 4]


def test_pairs_that_a_bonded_term_describes_are_excluded_unless_the_config_says_otherwise(folder):
    assert load(folder, waters.content()).exclude == ()
    assert load(folder, with_terms(BOND)).exclude == ("1-2",)
    assert load(folder, with_terms(BOND, ANGLE, DIHEDRAL)).exclude == ("1-2", "1-3", "1-4")
    assert load(folder, with_terms(BOND, exclude=[])).exclude == ()
    assert load(folder, with_terms(BOND, exclude=["1-3", "1-2", "1-3"])).exclude == ("1-2", "1-3")


BAD_BONDED = {
    "two sites of an angle": (
        {**ANGLE, "sites": ["A", "B"]},
        r"terms\[2\].sites: found 2 site types \(A, B\), but an angle has 3; name them along",
    ),
    "three sites of a dihedral": ({**DIHEDRAL, "sites": ["A"] * 3}, "but a dihedral has 4"),
    "empty range": (
        {**BOND, "low": 0.3, "high": 0.3},
        r"terms\[2\]: low 0.3 nm is not below high 0.3 nm; lower it",
    ),
    "bond in angstrom": ({**BOND, "high": 25}, r"high: 25 nm is out of range; .*; give nm, not Å"),
    "angle beyond pi": (
        {**ANGLE, "low": 3.2},
        r"low: 3.2 rad is out of range; allowed is 0 to 3.1 rad; an angle ends at pi; give radians",
    ),
    "angle in degrees": ({**ANGLE, "low": 60}, "give radians, not degrees"),
    "few splines": ({**BOND, "n_basis": 3}, "found 3; form: spline of a bond term allows at least"),
    "harmonic of three": ({**BOND, "form": "harmonic", "n_basis": 3}, "allows 2, which is the"),
    "odd cosines": ({**DIHEDRAL, "form": "cosine", "n_basis": 3}, "allows an even number up to 12"),
    "many powers": ({**ANGLE, "form": "cosine", "n_basis": 13}, "allows at most 12"),
    "range of a harmonic bond": (
        {**BOND, "form": "harmonic", "low": 0.2},
        "low and high are the range of splines, but form: harmonic has none; leave them out",
    ),
    "form of another kind": ({**BOND, "form": "cosine"}, "allowed are spline, harmonic"),
    "quadratic bond": (
        {**BOND, "temperature": "quadratic"},
        "the bond term A-B has temperature: quadratic, which needs training states at 3 or more",
    ),
}


@pytest.mark.parametrize("name", BAD_BONDED)
def test_a_bad_bonded_term_is_refused(folder, name):
    term, message = BAD_BONDED[name]
    with pytest.raises(InputError, match=message):
        load(folder, with_terms(term))


def test_a_bonded_term_in_both_readings_is_refused(folder):
    message = "the angle term A-A-B stands twice, read forwards or backwards; keep one of them"
    with pytest.raises(InputError, match=message):
        load(folder, with_terms(ANGLE, {**ANGLE, "sites": ["A", "A", "B"]}))


def test_unknown_neighbours_are_refused(folder):
    with pytest.raises(InputError, match=r"exclude\[1\]: found '1-5', allowed are 1-2, 1-3, 1-4"):
        load(folder, with_terms(exclude=["1-2", "1-5"]))


def test_forces_of_bonded_terms_are_not_matched(folder):
    content = with_terms(BOND, exclude=None) | {"rem": {"method": "force_matching"}}
    with pytest.raises(InputError, match=r"but model.terms has the bond term A-B; use rem, or"):
        load(folder, content)
