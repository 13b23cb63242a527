"""Big boxes: time and memory of remcg's own engine and of LAMMPS, one core each.

make bench NAME=bigbox ARGS="--only water-100000"
"""

import json
import os
import platform
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

from benchtools import cases, table
from benchtools.lammps import version as lammps_version
from benchtools.timing import QUICK, SINGLE_THREAD

NAME = "bigbox"
PEER = "LAMMPS in engine: lammps (table, -sf omp, skin 0.1 nm)"
STEPS = {100_000: 60, 1_000_000: 12}


def measured(program, n_sites, n_steps):
    """What ``benchtools.big`` prints."""
    command = [sys.executable, "-m", "benchtools.big", program, str(n_sites), str(n_steps)]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=os.environ | SINGLE_THREAD,
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def water(n_sites, pace):
    """Time per step, memory, and the cost of a sample that is read from a dump."""
    n_steps = 10 if pace is QUICK else STEPS[n_sites]
    ours, theirs = (measured(name, n_sites, n_steps) for name in ("ours", "lammps"))
    case = f"{n_sites:,} sites, 33.4 /nm^3, r_cut 0.9 nm, NVT"
    time = 1000.0 * ours["s_per_step"], 1000.0 * theirs["s_per_step"]
    memory = ours["peak_mib"], theirs["peak_mib"]
    sample = 1000.0 * theirs["s_per_sample"]
    rows = [
        table.row(f"{case}: time", *time, PEER, "ms/step", time[0] / time[1]),
        table.row(f"{case}: memory", *memory, PEER, "MiB", memory[0] / memory[1]),
        table.row(
            f"{case}: a sample, read and observed", sample, time[1], f"a step of {PEER}", "ms",
            sample / time[1],
        ),
        table.row(
            f"{case}: memory of the reader", theirs["reader_peak_mib"], theirs["peak_mib"], PEER,
            "MiB", theirs["reader_peak_mib"] / theirs["peak_mib"],
        ),
    ]  # fmt: skip
    return rows, {"n_steps": n_steps, "ours": ours, "lammps": theirs}


CASES = {f"water-{n}": partial(water, n) for n in (100_000, 1_000_000)}


def _versions():
    found = {name: version(name) for name in ("numba", "numpy")} | {"lammps": lammps_version()}
    return found | {"python": platform.python_version()}


if __name__ == "__main__":
    sys.exit(cases.main(NAME, __doc__.split("\n")[0], CASES, _versions))
