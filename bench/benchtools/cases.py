"""A benchmark of several cases: its command line, its run on one core, its result file."""

import argparse
import os
import subprocess
import time
from pathlib import Path

from benchtools import table
from benchtools.timing import FULL, QUICK, SINGLE_THREAD, pinned
from remcg.io import read_json

ALL_CORES = os.sched_getaffinity(0)


def last_number(command):
    """The number that ends what a program prints, run in the folder of the benchmarks."""
    command = list(map(str, command))
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], env=os.environ | SINGLE_THREAD,
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return float(done.stdout.split()[-1])


def run(cases, names, pace):
    """Rows and details of some cases, on one core; a case that fails is told and left out."""
    rows, details, failed = [], {}, []
    with pinned({max(ALL_CORES)}):
        for name in names:
            begin = time.monotonic()
            print(f"{name} ...", flush=True)
            try:
                more, details[name] = cases[name](pace)
            except Exception as error:
                failed.append(name)
                print(f"  failed: {type(error).__name__}: {error}", flush=True)
                continue
            rows += more
            print(f"  {time.monotonic() - begin:.0f} s", flush=True)
    return rows, details, failed


def main(name, description, cases, versions, argv=None, show_details=None):
    """Run what the command line asks for, print the table, write the result file.

    Parameters
    ----------
    name, description : str
        Of the benchmark: its program is ``bench/<name>.py``.
    cases : dict
        Names to functions of a :class:`benchtools.timing.Pace` that return rows and details.
    versions : function
        Without arguments, the versions of what was compared.
    argv : list of str, optional
    show_details : function, optional
        Prints the details of all cases.
    """
    arguments = _arguments(name, description, cases, argv)
    output, results = arguments.output, table.RESULTS / f"{name}.json"
    if arguments.markdown:
        print(table.markdown(read_json(results)))
        return 0
    if not (output or arguments.quick or arguments.only):
        output = results
    print(table.machine())
    pace = QUICK if arguments.quick else FULL
    rows, details, failed = run(cases, arguments.only or list(cases), pace)
    print()
    table.show(rows)
    if show_details:
        show_details(details)
    if output:
        table.write(output, name, rows, details=details, versions=versions())
    return 1 if failed else 0


def _arguments(name, description, cases, argv):
    parser = argparse.ArgumentParser(prog=f"bench/{name}.py", description=description)
    parser.add_argument("--quick", action="store_true", help="does it run? figures mean nothing")
    parser.add_argument("--only", choices=cases, action="append", help="a case; may be repeated")
    parser.add_argument(
        "--output",
        type=Path,
        help=f"result file (default: bench/results/{name}.json after a full run of all cases)",
    )
    parser.add_argument(
        "--markdown", action="store_true", help=f"run nothing, show bench/results/{name}.json"
    )
    return parser.parse_args(argv)
