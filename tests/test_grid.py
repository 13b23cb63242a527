"""Grids of states in the config."""

import pytest
import yaml

import waters
from remcg import config
from remcg.errors import InputError

AXES = {"temperature": [280, 300], "pressure": [1, 500], "composition": ["x25", "x75"]}
PATTERN = "{composition}/T{temperature}_P{pressure}.xtc"


@pytest.fixture
def folder(tmp_path):
    """Topologies, a mapping, and a trajectory for every point of the grid."""
    (tmp_path / "water.yaml").write_text(yaml.safe_dump(waters.MAPPING))
    (tmp_path / "topology.pdb").touch()
    for composition in AXES["composition"]:
        (tmp_path / composition).mkdir()
        (tmp_path / composition / "box.pdb").touch()
        for temperature in AXES["temperature"]:
            for pressure in AXES["pressure"]:
                name = PATTERN.format(
                    composition=composition, temperature=temperature, pressure=pressure
                )
                (tmp_path / name).touch()
    return tmp_path


def load(folder, **grid):
    path = folder / "campaign.yaml"
    states = {**AXES, "trajectory": PATTERN, **grid}
    path.write_text(yaml.safe_dump(waters.content(states=states), sort_keys=False))
    return config.load(path)


def refusal(folder, **grid):
    with pytest.raises(InputError) as caught:
        load(folder, **grid)
    return str(caught.value)


def test_every_combination_is_a_state_with_its_own_topology_and_file(folder):
    campaign = load(folder, topology="{composition}/box.pdb", stride=3, start=10, weight=0.5)
    assert len(campaign.states) == 8
    state = campaign.state("T300_P1_x75")
    assert (state.temperature, state.pressure) == (300.0, 1.0)
    assert state.trajectory == [folder / "x75/T300_P1.xtc"]
    assert campaign.topology(state.id) == folder / "x75/box.pdb"
    assert (state.stride, state.start, state.weight, state.use) == (3, 10.0, 0.5, "train")


def test_entries_say_which_points_differ_and_the_last_one_that_meets_a_point_wins(folder):
    (folder / "long.xtc").touch()
    campaign = load(
        folder,
        where=[
            {"composition": "x75", "use": "test", "stride": 2},
            {"composition": "x75", "temperature": [280], "use": "train", "weight": 2},
            {"temperature": 300, "pressure": 500, "use": "none"},
            {
                "composition": "x25",
                "temperature": 280,
                "pressure": 1.0,
                "trajectory": ["long.xtc", "x25/T280_P1.xtc"],
            },
        ],
    )
    assert [s.id for s in campaign.test] == ["T300_P1_x75"]
    assert len(campaign.training) == 5
    assert campaign.state("T280_P1_x75").weight == 2.0
    assert campaign.state("T280_P1_x75").stride == 2
    assert len(campaign.state("T280_P1_x25").trajectory) == 2


def test_a_point_that_is_left_out_needs_no_file(folder):
    (folder / "x25/T300_P500.xtc").unlink()
    gone = {"temperature": 300, "pressure": 500, "composition": "x25"}
    assert len(load(folder, where=[{**gone, "use": "none"}]).states) == 7
    said = refusal(folder)
    assert "1 of 8 points have no file: T300_P500_x25 (x25/T300_P500.xtc)" in said
    assert "use: none" in said


def test_further_axes_have_names_of_their_own_and_numbers_may_have_a_format(folder):
    for salt in ("low", "high"):
        for temperature in (280, 300):
            (folder / f"T{temperature}.0_{salt}.xtc").touch()
    campaign = load(
        folder,
        pressure=1000000.0 / 20,
        composition=[],
        axes={"salt": ["low", "high"]},
        trajectory="T{temperature:05.1f}_{salt}.xtc",
        where=[{"salt": "high", "use": "test"}],
        id="T{temperature}-P{pressure}-{salt}",
    )
    assert [s.id for s in campaign.training] == ["T280-P50000-low", "T300-P50000-low"]
    assert [s.id for s in campaign.test] == ["T280-P50000-high", "T300-P50000-high"]


REFUSED = {
    "a value twice": ({"pressure": [1, 1.0]}, r"states.pressure: 1 stands twice"),
    "an id that lacks an axis": (
        {"id": "T{temperature}_{composition}"},
        r"states.id: T280_x25 stands for two points, with pressure 1 and 500; add {pressure}",
    ),
    "a file that lacks an axis": (
        {"trajectory": "x25/T{temperature}_P{pressure}.xtc"},
        r"with composition x25 and x75; add {composition} to the pattern",
    ),
    "an entry that meets nothing": (
        {"where": [{"temperature": 310, "use": "test"}]},
        r"states.where[0].temperature: found 310, the axis has 280, 300",
    ),
    "a misspelt axis": (
        {"where": [{"temprature": 300, "use": "test"}]},
        r"unknown key 'temprature'; did you mean 'temperature'?",
    ),
    "an entry without a setting": ({"where": [{"temperature": 300}]}, "names no setting"),
    "an entry without an axis": ({"where": [{"use": "test"}]}, "names no axis"),
    "an entry that is no mapping": ({"where": ["T300"]}, "found 'T300', expected a mapping"),
    "a use that does not exist": (
        {"where": [{"temperature": 300, "use": "tset"}]},
        "states.where[0].use: found 'tset', allowed are train, test; did you mean 'test'?",
    ),
    "an axis with the name of a setting": ({"axes": {"stride": ["a"]}}, "cannot name an axis"),
    "an empty axis": ({"axes": {"salt": []}}, "states.axes.salt: is empty"),
    "a format for a text": (
        {"trajectory": "{composition:5.1f}.xtc"},
        "the format of '{composition}'",
    ),
    "a look inside": ({"trajectory": "{composition.__class__}.xtc"}, "is unknown; allowed are"),
    "a very wide format": ({"trajectory": "{temperature:999999999}.xtc"}, "is not understood"),
    "an open brace": ({"trajectory": "{temperature.xtc"}, "is not a pattern"),
}


@pytest.mark.parametrize(("grid", "said"), REFUSED.values(), ids=REFUSED)
def test_a_grid_refuses(folder, grid, said):
    assert said in refusal(folder, **grid)
