"""``python -m benchtools.finished SNAKEFILE CONFIG ITERATIONS``: a campaign as if it had run.

Every output, log and benchmark file of the campaign is written below the working directory, a few
bytes each, with times in the order of the jobs, and Snakemake's record of every output.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from snakemake import checkpoints, cli, dag

from remcg.config import load

START = 1_600_000_000  # s; outputs are older than the config's own checks care about
NUMBERS = {"rdf_rmse": 0.0123, "kl": 1.25, "ess": 0.61, "chi2": 1.02, "pressure": 1.5, "tau": 3.2}


def write_plans(campaign, n_iterations):
    """``update.json`` of every iteration, as large as a real one; the last one is converged."""
    folder = Path("results", campaign.campaign, "rem")
    states = {state.id: NUMBERS for state in campaign.training}
    for k in range(1, n_iterations + 1):
        path = folder / f"iter-{k:03d}" / "update.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        verdict = "converged" if k == n_iterations else "continue"
        path.write_text(json.dumps({"verdict": verdict, "iteration": k, "states": states}))
        os.utime(path, (START + k, START + k))


def take_for_made(checkpoint, **wildcards):
    """In place of ``Checkpoint.get``: every iteration is on disk."""
    output, _ = checkpoint.rule.expand_output(wildcards)
    return checkpoints.CheckpointJob(checkpoint.rule, output)


def _touch(path, time):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text("nothing\n")
    os.utime(path, (time, time))


async def write_all(graph):
    """Outputs, logs, benchmarks and records of all jobs of a DAG."""
    levels = list(graph.toposorted())
    for number, level in enumerate(levels):
        time = START + 10 * number
        for job in level:
            for file in job.output:
                if file.is_directory:
                    Path(file).mkdir(parents=True, exist_ok=True)
                    _touch(Path(file) / ".snakemake_timestamp", time)
                    os.utime(file, (time, time))
                else:
                    _touch(file, time)
            for file in [*job.log, *([job.benchmark] if job.benchmark else [])]:
                _touch(file, time)
    for level in levels:
        for job in level:
            await graph.workflow.persistence.finished(job)


def main():
    snakefile, config, n_iterations = sys.argv[1:]
    write_plans(load(config), int(n_iterations))
    original = dag.DAG.init

    async def init(graph, *arguments, **options):
        await original(graph, *arguments, **options)
        await write_all(graph)

    dag.DAG.init, checkpoints.Checkpoint.get = init, take_for_made
    given = ["--snakefile", snakefile, "--configfile", config, "--nolock", "--cores", "1"]
    profile = Path(snakefile).parent / "profiles" / "default"
    return cli.main([*given, "--workflow-profile", str(profile), "--dry-run", "--quiet", "all"])


if __name__ == "__main__":
    asyncio.set_event_loop_policy(None)
    sys.exit(main())
