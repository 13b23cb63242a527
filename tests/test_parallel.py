import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from conftest import lattice_start
from remcg import checkpoint, parallel
from remcg.errors import InputError
from remcg.io import members, read_h5, write_h5, write_json
from remcg.sample import checkpoint_paths, main, read_source

MPIEXEC = str(Path(sys.executable).with_name("mpiexec"))
N_SITES = 125


def write_campaign(folder, model, steps=400, replicas=2, **changes):
    """Config, map file and model of a campaign with one NPT and one NVT state."""
    for name in ("top.pdb", "mapping.yaml", "T300.xtc"):
        (folder / name).touch()
    state = {"temperature": 300, "trajectory": "T300.xtc"}
    content = {
        "campaign": "small",
        "seed": 3,
        "system": {"topology": "top.pdb", "mapping": "mapping.yaml"},
        "states": [
            {"id": "T300", "pressure": 500.0, **state},
            {"id": "V300", "pressure": None, **state},
        ],
        "model": {
            "temperature": "constant",
            "terms": [
                {"kind": "pair", "sites": ["W", "W"], "r_cut": 0.6, "n_basis": 12},
                {"kind": "volume", "order": 2},
            ],
        },
        "sample": {"steps": steps, "equilibration": 100, "replicas": replicas, **changes},
        "predict": {"steps": 50 * changes.get("sample_interval", 10), "equilibration": 100},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    model.write(folder / "model.json")
    starts = [lattice_start(5, 0.05 + 0.001 * k, seed=k) for k in range(4)]
    arrays = {
        "positions": np.array([start.positions for start in starts]),
        "box": np.array([start.box for start in starts]),
        "site_types": starts[0].topology.site_types,
        "masses": starts[0].topology.masses,
    }
    write_h5(folder / "map.h5", arrays, {"n_molecules": N_SITES})


def command(folder, state="T300", output="T300.h5", *more):
    return [
        *("--config", str(folder / "config.yaml"), "--state", state),
        *("--model", str(folder / "model.json"), "--output", str(folder / output)),
        *("--start", str(folder / "map.h5"), "--iteration", "000", *more),
    ]


def python(folder, *arguments, ranks=None, **variables):
    """The sampler as its own process, under mpiexec where ranks are given."""
    launcher = [MPIEXEC, "-n", str(ranks)] if ranks else []
    return subprocess.run(
        [*launcher, sys.executable, "-m", "remcg.sample", *command(folder, *arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **variables},
    )


@pytest.fixture
def campaign(tmp_path, soft_model):
    write_campaign(tmp_path, soft_model)
    return tmp_path


def test_files_do_not_depend_on_the_number_of_ranks(campaign):
    assert main(command(campaign, "T300", "serial.h5", "--ensemble", "NPT")) == 0
    for ranks in (1, 2, 4):
        done = python(campaign, "T300", f"{ranks}.h5", "--ensemble", "NPT", ranks=ranks)
        assert done.returncode == 0, done.stderr
        assert "busy_core_seconds" in done.stdout
        assert (campaign / f"{ranks}.h5").read_bytes() == (campaign / "serial.h5").read_bytes()
    arrays, attributes = read_h5(campaign / "serial.h5")
    n_samples = 40 - attributes["n_discarded"]
    assert arrays["site_sums"].shape == (2, n_samples, 12)
    assert arrays["rdf_blocks"].shape == (2, n_samples // 4, 1, 60)
    assert not np.array_equal(arrays["energy"][0], arrays["energy"][1])
    assert json.loads(attributes["term_names"]) == ["pair W-W", "volume volume"]
    np.testing.assert_allclose(arrays["term_energy"].sum(axis=-1), arrays["energy"], rtol=1e-9)
    assert attributes["ensemble"] == "NPT" and attributes["pressure_bar"] == 500.0
    assert not list(campaign.glob(".*"))


def test_a_blow_up_ends_all_ranks_with_one_paragraph(tmp_path, soft_model):
    write_campaign(tmp_path, soft_model, steps=400, timestep=0.05)
    arrays, attributes = read_h5(tmp_path / "map.h5")
    write_h5(tmp_path / "map.h5", {**arrays, "masses": 0.0 * arrays["masses"] + 1e-4}, attributes)
    done = python(tmp_path, ranks=2)
    assert done.returncode != 0
    assert "remcg sample: state T300, replica" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "T300.h5").exists()


def test_nvt_takes_the_mean_reference_volume_and_npt_the_frame(campaign):
    assert main(command(campaign)) == 0
    mean = read_h5(campaign / "map.h5")[0]["box"].prod(axis=1).mean()
    assert main(command(campaign, "V300", "V300.h5", "--ensemble", "NPT")) == 0
    for name in ("T300", "V300"):
        arrays, attributes = read_h5(campaign / f"{name}.h5")
        assert attributes["ensemble"] == "NVT" and "pressure_bar" not in attributes
        np.testing.assert_allclose(arrays["volume"], mean)
    starts = read_source(campaign / "map.h5", 2).starts
    boxes = read_h5(campaign / "map.h5")[0]["box"]
    assert np.array_equal([start.box for start in starts], boxes[[1, 3]])


def test_an_iteration_goes_on_from_the_samples_of_the_last_one(campaign):
    assert main(command(campaign, "T300", "first.h5", "--ensemble", "NPT")) == 0
    starts = read_source(campaign / "first.h5", 3).starts
    last = read_h5(campaign / "first.h5")[0]
    for i, start in enumerate(starts):
        assert np.array_equal(start.positions, last["positions"][i % 2])
        assert np.array_equal(start.velocities, last["velocities"][i % 2])
    write_json(campaign / "update.json", {"phase": "NVT", "restart": "previous"})
    second = command(campaign, "T300", "second.h5", "--plan", str(campaign / "update.json"))
    second[second.index("--start") + 1] = str(campaign / "first.h5")
    assert main(second) == 1
    assert main([*second, "--volume-from", str(campaign / "map.h5")]) == 0
    write_json(campaign / "update.json", {"phase": "NPT", "restart": "reference"})
    assert main(second) == 1
    assert main([*second, "--volume-from", str(campaign / "map.h5")]) == 0
    assert read_h5(campaign / "second.h5")[1]["ensemble"] == "NPT"


def test_a_prediction_keeps_configurations(campaign):
    arguments = command(campaign)
    at = arguments.index("--iteration")
    arguments[at : at + 2] = ["--predict"]
    assert main(arguments) == 0
    arrays, attributes = read_h5(campaign / "T300.h5")
    assert attributes["ensemble"] == "NPT"
    n_kept = 50 - attributes["n_discarded"]
    assert arrays["trajectory"].shape == (2 * n_kept, N_SITES, 3)
    assert arrays["trajectory_box"].shape == (2 * n_kept, 3)
    assert np.array_equal(arrays["trajectory"][n_kept - 1], arrays["positions"][0])


def test_a_run_ended_by_sigterm_goes_on_from_its_checkpoint(tmp_path, soft_model):
    write_campaign(tmp_path, soft_model, steps=60000, replicas=1)
    assert main(command(tmp_path, "T300", "whole.h5")) == 0
    arguments = command(tmp_path, "T300", "T300.h5")
    process = subprocess.Popen(
        [sys.executable, "-m", "remcg.sample", *arguments], stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()  # its first line: the stop is caught from here on
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    path = checkpoint_paths(tmp_path / "T300.h5", 1)[0]
    assert process.returncode == 143 and path.exists() and not (tmp_path / "T300.h5").exists(), said
    assert main(arguments) == 0
    assert (tmp_path / "T300.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert not path.exists()


def test_damaged_and_foreign_checkpoints_are_said_and_ignored(tmp_path):
    path, said = tmp_path / "a.checkpoint.h5", []
    assert checkpoint.load(path, "key", said.append) is None and not said
    array = np.arange(100.0)
    checkpoint.save(path, "key", {"x": array}, {"step": 7})
    arrays, attributes = checkpoint.load(path, "key", said.append)
    assert np.array_equal(arrays["x"], array) and attributes == {"step": 7} and not said
    assert checkpoint.load(path, "other", said.append) is None
    assert "belongs to another model, start or setting" in said[-1]
    content = path.read_bytes()
    at = content.index(np.float64(50.0).tobytes())
    path.write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    assert checkpoint.load(path, "key", said.append) is None
    assert "is damaged: ignored, the run starts anew" in said[-1]
    path.write_bytes(content[:300])
    assert checkpoint.load(path, "key", said.append) is None
    assert len(said) == 3


def test_a_checkpoint_of_another_model_is_not_used(campaign, soft_model, capsys):
    path = checkpoint_paths(campaign / "T300.h5", 2)[0]
    checkpoint.save(path, "another", {}, {})
    assert main(command(campaign)) == 0
    assert "belongs to another model" in capsys.readouterr().out
    assert main(command(campaign, "T300", "again.h5")) == 0
    assert (campaign / "T300.h5").read_bytes() == (campaign / "again.h5").read_bytes()


def test_a_lock_held_by_a_living_process_is_waited_for_then_refused(tmp_path):
    path, said = tmp_path / ".T300.lock", []
    with checkpoint.locked(path):
        with pytest.raises(InputError, match=rf"still held by process {os.getpid()}"):
            with checkpoint.locked(path, wait=0.5, log=said.append):
                pass
        assert said == [f"waiting for process {os.getpid()}, which holds {path}"]
    with checkpoint.locked(path, wait=0.0):
        pass
    assert not path.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_the_run_goes_on(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoint.fcntl, "flock", refuse)
    path, said = tmp_path / ".T300.lock", []
    with checkpoint.locked(path, log=said.append):
        assert path.read_text() == f"{os.getpid()}\n"
    assert len(said) == 1 and "nothing keeps a second run of this state away" in said[0]
    assert str(path) in said[0] and os.strerror(number) in said[0]


def test_a_sampler_ends_when_the_watched_process_does(tmp_path, soft_model):
    write_campaign(tmp_path, soft_model, steps=50_000_000, replicas=1, sample_interval=10_000)
    watched = subprocess.Popen(["sleep", "100"])
    variables = {**os.environ, "REMCG_WATCH_PID": str(watched.pid)}
    process = subprocess.Popen(
        [sys.executable, "-m", "remcg.sample", *command(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=variables,
    )
    process.stdout.readline()
    watched.kill()
    watched.wait()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert checkpoint_paths(tmp_path / "T300.h5", 1)[0].exists()


def test_a_sampler_ends_when_its_parent_is_killed(tmp_path, soft_model):
    write_campaign(tmp_path, soft_model, steps=50_000_000, replicas=1, sample_interval=10_000)
    code = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"
    parent = subprocess.Popen(
        [sys.executable, "-c", code, "-m", "remcg.sample", *command(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    parent.stdout.readline()
    lock = tmp_path / ".T300.lock"
    assert int(lock.read_text()) != parent.pid
    parent.kill()
    parent.communicate(timeout=60)  # ends when the sampler closes the pipe
    assert checkpoint_paths(tmp_path / "T300.h5", 1)[0].exists()
    with checkpoint.locked(lock, wait=10.0):
        pass


def test_without_a_launcher_there_is_one_rank(monkeypatch):
    for name in parallel.LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    ranks = parallel.world()
    assert (ranks.rank, ranks.size, ranks.gather(3)) == (0, 1, [3])


def test_every_item_belongs_to_one_rank():
    class Rank(parallel.Serial):
        size = 3

        def __init__(self, rank):
            self.rank = rank

    shares = [list(parallel.share(7, Rank(r))) for r in range(3)]
    assert sorted(shares[0] + shares[1] + shares[2]) == list(range(7))


def test_an_unknown_state_is_named_with_the_known_ones(campaign, capsys):
    assert main(command(campaign, "T333")) == 1
    assert "T300" in capsys.readouterr().err


def test_several_sites_per_molecule_are_refused(campaign, capsys):
    arrays, attributes = read_h5(campaign / "map.h5")
    write_h5(campaign / "map.h5", arrays, {**attributes, "n_molecules": 25})
    assert main(command(campaign)) == 1
    assert "125 sites in 25 molecules but says not" in capsys.readouterr().err


def test_states_sampled_as_a_batch_have_the_samples_that_each_has_by_itself(campaign):
    for state in ("T300", "V300"):
        assert main(command(campaign, state, f"{state}.h5")) == 0
    batch = command(campaign, "T300", "batch.h5", "--batch")
    batch[batch.index("--state") + 1 : batch.index("--state") + 2] = ["T300", "V300"]
    start = str(campaign / "map.h5")
    batch[batch.index("--start") + 1 : batch.index("--start") + 2] = [start, start]
    assert main(batch) == 0
    assert not list(campaign.glob(".*"))
    places = members([campaign / "batch.h5"], ["V300", "T300"])
    assert places == [campaign / "batch.h5" / name for name in ("V300", "T300")]
    for place in places:
        (arrays, attributes), (alone, about) = (
            read_h5(place),
            read_h5(campaign / f"{place.name}.h5"),
        )
        assert attributes == about
        assert {k: a.tobytes() for k, a in arrays.items()} == {
            k: a.tobytes() for k, a in alone.items()
        }
        starts = read_source(place, 2).starts
        assert np.array_equal(starts[1].positions, alone["positions"][1])


def test_a_batch_goes_on_from_the_file_of_the_last_one(campaign):
    batch = command(campaign, "V300", "batch.h5", "--batch")
    assert main(batch) == 0
    batch[batch.index("--start") + 1] = str(campaign / "batch.h5")
    batch[batch.index("--output") + 1] = str(campaign / "next.h5")
    assert main([*batch, "--volume-from", str(campaign / "map.h5")]) == 0
    first, second = (
        read_h5(campaign / name / "V300")[0]["energy"] for name in ("batch.h5", "next.h5")
    )
    assert first.shape[0] == second.shape[0] and not np.array_equal(first[:, :5], second[:, :5])
    with pytest.raises(InputError, match="nothing of T300"):
        members([campaign / "next.h5"], ["T300"])
