"""Time and memory of a dry run of a campaign with a thousand state points, fresh and finished.

make bench NAME=dag ARGS="--only finished"
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import yaml
from benchtools import cases, table
from benchtools.timing import FULL

from remcg.config import ROOT

NAME = "dag"
N_ITERATIONS = 20
BATCH = 25  # states of a job
MOST_SECONDS, MOST_MB = 60.0, 2000.0
WATER = ROOT / "resources" / "spce"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "MPLBACKEND": "Agg"}


def write_campaign(folder, shape, states_per_job):
    """A grid of temperatures and pressures, a tenth of which are tests; its config."""
    folder = Path(folder)
    temperatures = [280 + 2 * i for i in range(shape[0])]
    pressures = [1 + 20 * i for i in range(shape[1])]
    for temperature in temperatures:
        for pressure in pressures:
            (folder / f"T{temperature}_P{pressure}.xtc").touch()
    config = {
        "campaign": "grid",
        "system": {
            "topology": str(WATER / "topology.pdb"),
            "mapping": str(ROOT / "config" / "mappings" / "water-1site.yaml"),
        },
        "states": {
            "temperature": temperatures,
            "pressure": pressures,
            "trajectory": "T{temperature}_P{pressure}.xtc",
            "where": [{"temperature": temperatures[2::10], "use": "test"}],
        },
        "model": {
            "terms": [
                {"kind": "pair", "sites": ["W", "W"], "r_cut": 0.9, "n_basis": 34},
                {"kind": "volume", "order": 2},
            ]
        },
        "sample": {"states_per_job": states_per_job},
        "rem": {"max_iterations": 2 * N_ITERATIONS},
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def dry_run(folder, snakefile=ROOT / "Snakefile"):
    """(CPU seconds, peak memory in MB, what was said) of a dry run in a folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--dry-run"]
    command += ["--configfile", "grid.yaml", "--nolock", "--cores", "1"]
    command += ["--workflow-profile", str(ROOT / "profiles" / "default")]
    with open(Path(folder) / "said.txt", "w+") as said:
        child = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdout=said, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = usage.ru_utime + usage.ru_stime  # one process; others may share the cores
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if child.returncode:
        raise RuntimeError(f"the dry run failed:\n{text[-2000:]}")
    return seconds, usage.ru_maxrss / 1024.0, text


def finish(folder, n_iterations, snakefile=ROOT / "Snakefile"):
    """Write the files of a campaign of so many iterations, and Snakemake's record of them."""
    command = [sys.executable, "-m", "benchtools.finished", str(snakefile), "grid.yaml"]
    path = f"{ROOT / 'bench'}{os.pathsep}{ROOT / 'workflow'}"
    done = subprocess.run(
        [*command, str(n_iterations)],
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"the campaign cannot be made up:\n{done.stdout}{done.stderr}")


def census(folder):
    """(number of files, entries of the largest folder, MB) below a folder."""
    sizes, entries = [], Counter()
    for place, _, names in os.walk(folder):
        entries[place] = len(names)
        sizes += [os.lstat(os.path.join(place, name)).st_size for name in names]
    return len(sizes), max(entries.values()), sum(sizes) / 1e6


def _rows(case, seconds, megabytes):
    peer = "limit"
    return [
        table.row(
            f"{case}: time", seconds, MOST_SECONDS, peer, "CPU s", seconds / MOST_SECONDS, "<=", 1.0
        ),
        table.row(
            f"{case}: memory", megabytes, MOST_MB, peer, "MB", megabytes / MOST_MB, "<=", 1.0
        ),
    ]


def _expect(text, words):
    if words not in text:
        raise RuntimeError(f"the dry run does not say '{words}':\n{text[-2000:]}")


def _both(states_per_job, shape, n_iterations):
    n_states = shape[0] * shape[1]
    rows = []
    folder = tempfile.mkdtemp(prefix="remcg dag ")
    try:
        write_campaign(folder, shape, states_per_job)
        name = f"{n_states} states, {states_per_job} per job"
        seconds, megabytes, text = dry_run(folder)
        _expect(text, "sample")
        rows += _rows(f"{name}, fresh", seconds, megabytes)
        finish(folder, n_iterations)
        seconds, megabytes, text = dry_run(folder)
        _expect(text, "Nothing to be done")
        rows += _rows(f"{name}, {n_iterations} iterations on disk", seconds, megabytes)
        rows += _counts(name, Path(folder), n_iterations)
    finally:
        shutil.rmtree(folder)
    return rows, {}


def _counts(name, folder, n_iterations):
    """Files of an iteration with their logs and records, and of the whole campaign."""
    campaign = folder / "results" / "grid"
    one = [census(campaign / "rem" / "iter-001")[0], *(
        len(list((folder / kind / "grid").glob("*/iter-001*"))) for kind in ("logs", "benchmarks")
    )]  # fmt: skip
    n_files, largest, _ = census(campaign)
    n_records, _, size = census(folder / ".snakemake" / "metadata")
    return [
        table.row(f"{name}: files of an iteration", sum(one), one[0], "results", "files", 1.0),
        table.row(f"{name}: files of results", n_files, largest, "largest folder", "files", 1.0),
        table.row(f"{name}: records of Snakemake", n_records, size, "MB", "files", 1.0),
    ]


def batched(pace):
    """A thousand states."""
    return _both(BATCH, (40, 25), N_ITERATIONS) if pace is FULL else _both(3, (5, 2), 2)


def single(pace):
    """Every state a job of its own: 200 states, as many jobs in all."""
    return _both(1, (20, 10), N_ITERATIONS) if pace is FULL else _both(1, (5, 2), 2)


CASES = {"batched": batched, "single": single}


def _versions():
    return {"snakemake": version("snakemake"), "python": platform.python_version()}


def main(argv=None):
    return cases.main(NAME, __doc__.split("\n")[0], CASES, _versions, argv)


if __name__ == "__main__":
    sys.exit(main())
