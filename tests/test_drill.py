"""Faults at full count (``make drill``): each is injected, and nothing may be lost.

The table at the end counts, fault by fault, how often it hit, how often the run then ended as if
nothing had happened, and the bytes of results that differed.
"""

import contextlib
import itertools
import os
import subprocess
import time
from collections import defaultdict

import numpy as np
import psutil
import pytest

import test_restart as restart
import test_slurm
import tiny
from remcg import slurm
from slurm_node import Sampler, node, of_job, processes, ranks, wait_for  # noqa: F401
from test_restart import LOOP, SHORT, bytes_lost, run_to_its_end, undisturbed  # noqa: F401

pytestmark = pytest.mark.drill
N_KILLS = int(os.environ.get("KILLS", 50))
KINDS = {
    "SIGKILL of Snakemake alone": restart.kill_snakemake_alone,
    "SIGKILL of the launcher and all below it": restart.kill_everything,
    "SIGKILL of one rank": restart.kill_one_rank,
}
NO_MOUNT = "a small disk cannot be mounted here (root and mount are needed)"


@pytest.fixture(scope="module")
def table(request):
    """fault -> [hits, survived, bytes lost], printed at the end."""
    rows = defaultdict(lambda: np.zeros(3, int))
    yield rows
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n\n| {'fault':<45} | injected | survived | bytes lost |")
        print(f"|{'-' * 47}|---------:|---------:|-----------:|")
        total = sum(rows.values(), np.zeros(3, int))
        for fault, (hits, survived, lost) in [*rows.items(), ("all", total)]:
            print(f"| {fault:<45} | {hits:>8} | {survived:>8} | {lost:>10} |")


@pytest.mark.parametrize("campaign", range(-(-N_KILLS // restart.KILLS)))
def test_kills_at_random_moments_lose_nothing(tmp_path, undisturbed, table, campaign):  # noqa: F811
    random = np.random.default_rng(campaign)
    config = tiny.write_campaign(tmp_path / "killed", n_frames=60, **SHORT)
    hits = defaultdict(int)
    for name in random.choice(list(KINDS), size=restart.KILLS):
        hits[name] += restart.kill_again_and_again(config, [KINDS[name]], random, LOOP)
    run_to_its_end(config, *LOOP)
    lost = bytes_lost(tiny.results(config), undisturbed)
    for name, n_hits in hits.items():
        table[name] += (n_hits, n_hits if lost == 0 else 0, 0)
    table[name][2] += lost
    assert lost == 0


class Disk:
    """A disk of a few megabytes, in memory."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def mount(self, *options):
        words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(self.folder)]
        return subprocess.run(words, capture_output=True).returncode == 0

    def fill(self):
        with contextlib.suppress(OSError), open(self.folder / "filler", "wb", 0) as file:
            while True:
                file.write(bytes(4096))

    def empty(self):
        (self.folder / "filler").unlink()


@pytest.fixture
def disk(tmp_path):
    made = Disk(tmp_path / "disk")
    if os.getuid() != 0 or not made.mount("size=64m"):
        pytest.skip(NO_MOUNT)
    yield made
    subprocess.run(["umount", "--lazy", str(made.folder)])


def failed_words(process):
    said, _ = process.communicate(timeout=900)
    assert process.returncode != 0, said
    assert "Traceback" not in said, said
    return said


def test_a_full_disk_is_named_and_nothing_is_lost(disk, undisturbed, table):  # noqa: F811
    config = tiny.write_campaign(disk.folder / "full", n_frames=60, **SHORT)
    for seed in range(3):
        process = tiny.launch(config, *LOOP)
        restart.wait_for_a_moment(process, restart.kill_one_rank, np.random.default_rng(seed))
        disk.fill()
        said, _ = process.communicate(timeout=900)
        disk.empty()
        if process.returncode == 0:
            break
        assert "Traceback" not in said, said
        assert "the disk is full" in said and "run the same command again" in said, said
        table["full disk"] += (1, 1, 0)
    run_to_its_end(config, *LOOP)
    lost = bytes_lost(tiny.results(config), undisturbed)
    table["full disk"][2] += lost
    assert table["full disk"][0] and lost == 0


def test_results_that_become_read_only_are_named_and_nothing_is_lost(disk, undisturbed, table):  # noqa: F811
    config = tiny.write_campaign(disk.folder / "locked", n_frames=60, **SHORT)
    before = tiny.launch(config, *LOOP, start_new_session=True)
    restart.wait_for_a_moment(before, restart.kill_one_rank, np.random.default_rng(0))
    # not a remount: files open for writing forbid it; a sampler that is stopped has none open
    restart.kill_everything(before)
    before.communicate(timeout=60)
    time.sleep(1.0)
    assert disk.mount("remount", "ro")
    said = failed_words(tiny.launch(config, *LOOP))
    assert "the file system is read-only" in said and "run the same command again" in said, said
    assert disk.mount("remount", "rw")
    run_to_its_end(config, *LOOP)
    lost = bytes_lost(tiny.results(config), undisturbed)
    table["read-only results"] += (1, lost == 0, lost)
    assert lost == 0


def at_the_wall_limit(node, job, submit):  # noqa: F811
    """Ranks are held, as if they were slow, until SLURM signals them."""
    held = ranks(job)
    for rank in held:
        rank.suspend()
    wait_for(lambda: node.state(job) != "RUNNING" or is_signalled(held[0].pid))
    for rank in held:
        with contextlib.suppress(psutil.Error):
            rank.resume()
    assert node.wait(job) in ("FAILED", "TIMEOUT")
    return submit()


def is_signalled(pid):
    """Whether SIGTERM waits for a process that is held."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as status:
        pending = [int(x.split()[1], 16) for x in status if x.startswith(("SigPnd", "ShdPnd"))]
        return any(mask & 1 << 14 for mask in pending)
    return True


def terminated(node, job, submit):  # noqa: F811
    subprocess.run(["scancel", "--signal=TERM", job], check=True)
    assert node.wait(job) == "FAILED"
    return submit()


def cancelled(node, job, submit):  # noqa: F811
    subprocess.run(["scancel", job], check=True)
    assert node.wait(job) == "CANCELLED"
    return submit()


def requeued(node, job, submit):  # noqa: F811
    subprocess.run(["scontrol", "requeue", job], check=True)
    wait_for(lambda: node.restarts(job) == 1)
    return job


def preempted(node, job, submit):  # noqa: F811
    urgent = node.submit(["sleep", "2"], "/dev/null", partition="urgent")
    wait_for(lambda: node.restarts(job) == 1)
    node.wait(urgent)
    return job


def without_slurmd(node, job, submit):  # noqa: F811
    psutil.Process(node.pid("slurmd")).kill()
    time.sleep(1.0)
    assert node.daemon("slurmd")[0] == 0
    return job


def without_node(node, job, submit):  # noqa: F811
    """The daemon and all processes of the job are gone at once, and the node comes back."""
    psutil.Process(node.pid("slurmd")).kill()
    for process in [*processes("slurmstepd"), *of_job(job)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    time.sleep(1.0)
    assert node.daemon("slurmd")[0] == 0
    wait_for(lambda: node.restarts(job) == 1 or node.state(job) in ("NODE_FAIL", "FAILED"))
    return job if node.restarts(job) else submit()


FAULTS = {
    "wall limit with --signal=TERM": at_the_wall_limit,
    "SIGTERM to the ranks": terminated,
    "scancel": cancelled,
    "scontrol requeue": requeued,
    "preemption": preempted,
    "SIGKILL of slurmd": without_slurmd,
    "loss of the node": without_node,
}


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    return Sampler(tmp_path_factory.mktemp("sampler"), 40_000, "--ensemble", "NPT")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_sampler_survives_what_slurm_does_to_it(node, tmp_path, sampler, table, fault):  # noqa: F811
    log, output = tmp_path / "log.txt", f"{fault.replace(' ', '-')}.h5"
    limits = [{"time": 1, "signal": "TERM@10"}] if fault.startswith("wall") else [{}]
    of_attempt = itertools.chain(limits, itertools.repeat({}))

    def submit():
        return node.submit(sampler.program(output), log, **next(of_attempt))

    job = submit()
    wait_for(lambda: log.exists() and log.read_text().count("replicas") == 2)
    job = FAULTS[fault](node, job, submit)
    state = node.wait(job)
    path = sampler.folder / output
    same = path.exists() and path.read_bytes() == sampler.whole
    table[fault] += (1, same, 0 if same else len(sampler.whole))
    assert state == "COMPLETED", log.read_text()
    assert same


def test_a_campaign_survives_kills_of_snakemake_while_its_jobs_are_queued(
    node,  # noqa: F811
    tmp_path,
    undisturbed,  # noqa: F811
    table,
):
    config = tiny.write_campaign(tmp_path / "killed", n_frames=60, **SHORT)
    arguments = ("--profile", str(test_slurm.site_profile(tmp_path / "site")), *LOOP)
    process = tiny.launch(config, *arguments, start_new_session=True)
    wait_for(ranks_of_any)
    restart.kill_everything(process)
    process.communicate(timeout=60)
    again = tiny.launch(config, *arguments)
    said, _ = again.communicate(timeout=900)
    lost = bytes_lost(tiny.results(config), undisturbed)
    table["SIGKILL of Snakemake, jobs in the queue"] += (1, lost == 0, lost)
    assert again.returncode == 0, said
    assert "SLURM jobs of an earlier run that was killed" in said
    assert lost == 0


def ranks_of_any():
    jobs = slurm.jobs("remcg-")
    return any(ranks(job) for job in jobs)
