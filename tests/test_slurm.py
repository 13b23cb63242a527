"""A campaign and samplers on a real SLURM of one node."""

import subprocess
import time

import pytest
import yaml

import tiny
from remcg import slurm
from remcg.sample import checkpoint_paths
from slurm_node import Sampler, node, wait_for  # noqa: F401

pytestmark = pytest.mark.slurm
SHORT = {
    "sample": {"steps": 4000, "equilibration": 500, "replicas": 2, "ranks": 2},
    "rem": {"max_iterations": 1},
}
PROFILE = tiny.ROOT / "profiles" / "slurm"
TARGET = "results/tiny/model/model.json"
PREPARE = ("map=prepare", "basis=prepare", "target=prepare", "guess=prepare")


def site_profile(folder):
    """The profile that is shipped, for a node with little memory and without waiting."""
    content = yaml.safe_load((PROFILE / "config.yaml").read_text())
    content |= {"latency-wait": 5, "groups": [*PREPARE], "jobs": 4}
    content["default-resources"]["mem_mb_per_cpu"] = 500
    content["slurm-init-seconds-before-status-checks"] = 2
    content["seconds-between-status-checks"] = 2
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


def finished(process):
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    return said


def test_a_campaign_on_slurm_ends_with_the_model_of_the_local_run(node, tmp_path):  # noqa: F811
    config = tiny.write_campaign(tmp_path / "local", n_frames=60, **SHORT)
    other = tiny.write_campaign(tmp_path / "queue", n_frames=60, **SHORT)
    finished(tiny.launch(config, "--", TARGET))
    start = time.monotonic()
    profile = site_profile(tmp_path / "site")
    finished(tiny.launch(other, "--profile", str(profile), "--", TARGET))
    print(f"\n{time.monotonic() - start:.0f} s through SLURM")
    print((other.parent / "logs/tiny/snakemake.log").read_text())
    assert (other.parent / TARGET).read_bytes() == (config.parent / TARGET).read_bytes()
    sampled = (other.parent / "logs/tiny/sample/iter-000_cold.log").read_text()
    assert "rank 0 of 2" in sampled and "rank 1 of 2" in sampled
    told = (other.parent / "logs/tiny/snakemake.log").read_text()
    assert "group_prepare" in told  # six jobs in one, then two samplers, update and model
    assert told.count("has been submitted with SLURM jobid") >= 5


@pytest.mark.parametrize("kind", [("--ensemble", "NPT"), ("--predict",)])
def test_a_sampler_that_slurm_ends_saves_itself_and_goes_on(node, tmp_path, kind):  # noqa: F811
    sampler, log = Sampler(tmp_path, 20_000, *kind), tmp_path / "log.txt"
    job = node.submit(sampler.program("a.h5"), log)
    wait_for(lambda: log.exists() and log.read_text().count("replicas") == 2)
    subprocess.run(["scancel", "--signal=TERM", job], check=True)  # what --signal=TERM@120 sends
    assert node.wait(job) == "FAILED"
    assert all(path.exists() for path in checkpoint_paths(tmp_path / "a.h5", 2)), log.read_text()
    assert "start it again to go on" in log.read_text()
    assert node.wait(node.submit(sampler.program("a.h5"), log)) == "COMPLETED", log.read_text()
    assert log.read_text().count("goes on from step") == 2
    assert (tmp_path / "a.h5").read_bytes() == sampler.whole


def test_jobs_of_an_earlier_run_are_found_by_their_mark_and_ended(node, tmp_path):  # noqa: F811
    mine = slurm.mark(str(tmp_path), "toy campaign")
    other = slurm.mark(str(tmp_path / "elsewhere"), "toy campaign")
    jobs = [
        node.submit(["sleep", "300"], tmp_path / "log.txt", **{"job-name": f"{name}_1"})
        for name in (mine, mine, other)
    ]
    assert sorted(slurm.jobs(mine)) == sorted(jobs[:2])
    assert slurm.cancel(mine) == 2
    assert slurm.jobs(mine) == []
    assert slurm.jobs(other) == jobs[2:]
    assert slurm.cancel(other) == 1
