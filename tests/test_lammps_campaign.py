"""A whole campaign whose dynamics LAMMPS does, on two ranks; one of them is killed on the way."""

import time

import pytest

import tiny
from remcg.io import read_h5, read_json
from test_restart import LOOP, bytes_lost, descendants, kill

pytestmark = pytest.mark.campaigns
SHORT = {
    "sample": {
        "engine": "lammps",
        "steps": 6000,
        "equilibration": 1000,
        "replicas": 1,
        "ranks": 2,
        "sample_interval": 20,
    },
    "rem": {"max_iterations": 1},
    "predict": {"steps": 2000, "equilibration": 400},
}


def ended(process):
    output, _ = process.communicate(timeout=900)
    return process.returncode, output


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    config = tiny.write_campaign(tmp_path_factory.mktemp("lammps"), n_frames=60, **SHORT)
    code, output = ended(tiny.launch(config))
    assert code == 0, output
    return tiny.results(config)


def test_a_campaign_with_lammps_runs_to_its_end(undisturbed):
    summary = read_json(undisturbed / "summary.json")
    assert {state["id"] for state in summary["states"]} == {"cold", "warm", "hot"}
    arrays, about = read_h5(undisturbed / "predict/warm.h5")
    assert arrays["energy"].shape == (1, 100 - about["n_discarded"])
    for name in ("rem/iter-000/sample/cold", "rem/iter-000/sample/hot", "predict/warm"):
        arrays, about = read_h5(undisturbed / f"{name}.h5")
        assert abs(arrays["temperature"].mean() / about["temperature"] - 1.0) < 0.05
    assert not list(undisturbed.glob("rem/**/.*")) and not list(undisturbed.glob("predict/.*"))


def test_after_a_rank_of_lammps_was_killed_the_same_command_ends_in_the_same_bits(
    tmp_path, undisturbed
):
    config = tiny.write_campaign(tmp_path / "killed", n_frames=60, **SHORT)
    process = tiny.launch(config, *LOOP)
    while process.poll() is None and not _ranks(process):
        time.sleep(0.02)
    kill(_ranks(process)[-1:])
    code, output = ended(process)
    assert code == 1 and "LAMMPS ended with code" in output, output
    code, output = ended(tiny.launch(config, *LOOP))
    assert code == 0, output
    assert bytes_lost(tiny.results(config), undisturbed) == 0


def _ranks(process):
    return [each for each in descendants(process, "in.segment") if "lmp" in each.name()]
