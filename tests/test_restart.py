"""A campaign that was killed and run again ends as if nothing had happened."""

import contextlib
import time

import numpy as np
import psutil
import pytest

import tiny

SHORT = {
    "sample": {"steps": 6000, "equilibration": 500, "replicas": 2, "ranks": 2},
    "rem": {"max_iterations": 2},
    "predict": {"steps": 2000, "equilibration": 500},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    config = tiny.write_campaign(tmp_path_factory.mktemp("undisturbed"), n_frames=60, **SHORT)
    process = tiny.launch(config)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return (tiny.results(config) / "model/model.json").read_bytes()


def descendants(process, *words):
    """Living processes below one whose command line holds all words."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            line = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if all(word in line for word in words):
            found.append(child)
    return found


def wait_for_sampler(process, config):
    """Until a sampler of iteration 1 is at work."""
    for _ in range(6000):
        assert process.poll() is None, process.stdout.read()
        if descendants(process, "remcg.sample", "--iteration 001"):
            time.sleep(1.0)
            return
        time.sleep(0.05)
    raise AssertionError("iteration 1 was never sampled")


def kill_snakemake_alone(process):
    for child in descendants(process, "snakemake"):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "remcg.sample" not in " ".join(child.cmdline()):
                child.kill()


def kill_everything(process):
    children = descendants(process)
    process.kill()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def kill_one_rank(process):
    ranks = [c for c in descendants(process, "-m remcg.sample") if "python" in c.name()]
    ranks[-1].kill()


def end_as_if_undisturbed(config, undisturbed):
    """Run again what was killed; the model must be the same to the last bit."""
    again = tiny.launch(config)
    output, _ = again.communicate(timeout=900)
    assert again.returncode == 0, output
    assert (tiny.results(config) / "model/model.json").read_bytes() == undisturbed


@pytest.mark.parametrize("kill", [kill_snakemake_alone, kill_everything, kill_one_rank])
def test_a_killed_campaign_run_again_ends_with_the_same_model(tmp_path, undisturbed, kill):
    config = tiny.write_campaign(tmp_path / "killed", n_frames=60, **SHORT)
    process = tiny.launch(config, start_new_session=True)
    wait_for_sampler(process, config)
    kill(process)
    process.communicate(timeout=120)
    assert process.returncode != 0
    end_as_if_undisturbed(config, undisturbed)


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(50))
def test_kills_at_random_moments_lose_nothing(tmp_path, undisturbed, seed):
    random = np.random.default_rng(seed)
    config = tiny.write_campaign(tmp_path / "killed", n_frames=60, **SHORT)
    for _ in range(2):
        process = tiny.launch(config, start_new_session=True)
        time.sleep(random.uniform(1.0, 20.0))
        if process.poll() is None:
            random.choice([kill_snakemake_alone, kill_everything])(process)
        process.communicate(timeout=120)
    end_as_if_undisturbed(config, undisturbed)
