"""A campaign killed again and again, and run again at once, ends as if nothing had happened."""

import contextlib
import time

import numpy as np
import psutil
import pytest

import tiny

pytestmark = pytest.mark.campaigns

SHORT = {
    "sample": {"steps": 6000, "equilibration": 500, "replicas": 2, "ranks": 2},
    "rem": {"max_iterations": 2},
    "predict": {"steps": 2000, "equilibration": 500},
}
LOOP = ("--", "results/tiny/model/model.json")  # the campaign up to its model
KILLS = 5  # of one campaign, one after the other


def run_to_its_end(config, *arguments):
    process = tiny.launch(config, *arguments)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    config = tiny.write_campaign(tmp_path_factory.mktemp("undisturbed"), n_frames=60, **SHORT)
    run_to_its_end(config, *LOOP)
    return tiny.results(config)


def descendants(process, *words):
    """Living processes below one whose command line holds all words."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if all(word in " ".join(child.cmdline()) for word in words):
                    found.append(child)
    return found


def ranks(process):
    return [c for c in descendants(process, "-m remcg.sample") if "python" in c.name()]


def kill(processes):
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_snakemake_alone(process):
    with contextlib.suppress(psutil.Error):
        kill([c for c in descendants(process, "snakemake") if "snakemake" in c.cmdline()])


def kill_everything(process):
    children = descendants(process)
    process.kill()
    kill(children)


def kill_one_rank(process):
    kill(ranks(process)[-1:])


def wait_for_a_moment(process, choose, random, longest=8.0):
    """A random moment of a run; for a rank, one with ranks. False if the run ended before."""
    is_ready = ranks if choose is kill_one_rank else descendants
    while process.poll() is None and not is_ready(process):
        time.sleep(0.05)
    shorter = 1.5 if choose is kill_one_rank else longest
    deadline = time.monotonic() + random.uniform(0.0, shorter)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return process.poll() is None


def kill_again_and_again(config, kinds, random, arguments):
    """Start the campaign once for each kind and kill it; how many kills hit a run."""
    n_kills = 0
    for choose in kinds:
        process = tiny.launch(config, *arguments, start_new_session=True)
        if wait_for_a_moment(process, choose, random):
            choose(process)
            n_kills += 1
        process.communicate(timeout=300)
    return n_kills


def bytes_lost(results, undisturbed):
    """Bytes of models and samples that are not there, or not as in an undisturbed run."""
    lost = 0
    for path in [*undisturbed.glob("rem/**/*"), *undisturbed.glob("model/*")]:
        if path.suffix in (".h5", ".json"):
            other = results / path.relative_to(undisturbed)
            same = other.exists() and other.read_bytes() == path.read_bytes()
            lost += 0 if same else path.stat().st_size
    return lost


def test_five_kills_at_random_moments_lose_nothing(tmp_path, undisturbed):
    random = np.random.default_rng(1)
    config = tiny.write_campaign(tmp_path / "killed", n_frames=60, **SHORT)
    kinds = [kill_snakemake_alone, kill_one_rank, kill_everything, kill_snakemake_alone]
    n_kills = kill_again_and_again(config, [*kinds, kill_everything], random, LOOP)
    run_to_its_end(config, *LOOP)
    assert n_kills >= 3  # a fast machine may end before the last
    assert bytes_lost(tiny.results(config), undisturbed) == 0
    assert not list(tiny.results(config).glob("**/.*"))
