"""Coarse-graining by relative entropy beside VOTCA and relentless: time to a good RDF.

make bench NAME=rem ARGS="--minutes 5"
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from benchtools import relentless_peer, rem_campaign, rem_figure, table, votca
from benchtools.lammps import version as lammps_version
from benchtools.ours import Ours
from benchtools.rem_case import GOAL
from benchtools.systems import DEFAULTS, equilibrated, water
from benchtools.timing import pinned

from remcg.config import ROOT
from remcg.io import read_json
from remcg.pairs import rdf_edges

NAME = "rem"
FIGURE = ROOT / "docs" / "figures" / "bench-rem.png"
FASTER, FASTER_UPDATE = 20.0, 100.0
SAMPLING = {
    key: getattr(DEFAULTS, key)
    for key in ("timestep", "steps", "equilibration", "replicas", "sample_interval")
}
QUICK_SAMPLING = SAMPLING | dict(steps=400, equilibration=100)
MAX_ITERATIONS = 12
PEER_STEPS, PEER_EQUILIBRATION = 18_000, 2000  # a tenth equilibrates, as in VOTCA's tutorial
QUICK_STEPS = 4000, 100
MOST_SECONDS = 1000.0  # of VOTCA
PEERS = (  # folder, program, share of the time, most iterations, settings
    ("votca", votca, 1.0, 300, {}),
    ("votca-fine", votca, 1.0, 10, {"grid": 0.002}),
    ("relentless", relentless_peer, 0.15, 300, {}),
)


def time_row(ours, peer, target=None):
    """Wall times to the goal; a peer that did not reach it took at least all its time."""
    case = f"wall time to RDF rmse {GOAL:g}"
    return _goal_row(case, ours, peer, "wall_s", "s", target and (">=", target))


def work_rows(ours, peer):
    """The same in CPU time, which other work on the machine hardly changes, and in steps."""
    return [
        _goal_row(f"CPU time to RDF rmse {GOAL:g}", ours, peer, "cpu_s", "s"),
        _goal_row(f"CG site steps to RDF rmse {GOAL:g}", ours, peer, "site_steps", "site steps"),
    ]


def _goal_row(case, ours, peer, key, unit, aim=None):
    mine, theirs = (curve.reached(getattr(curve, key)) for curve in (ours, peer))
    name, missed = peer.name, ""
    if theirs is None:
        name += f", {min(peer.rmse):.3f} after {len(peer.rmse)} iterations"
        theirs = getattr(peer, key)[-1]
        missed = ": ratio is a lower bound"
    if mine is None:
        case, mine, ratio = f"{case} (remcg misses it)", getattr(ours, key)[-1], 0.0
    else:
        name, ratio = name + missed, theirs / mine
    return table.row(case, mine, theirs, name, unit, ratio, *(aim or ()))


def update_rows(ours, peer, target=None):
    """The update step alone; with the basis sums, which remcg takes while it samples."""
    aim = (">=", target) if target else ()
    sums = ours.details["basis_sums_s"]
    process = sorted(ours.details["update_process_s"])[len(ours.update_s) // 2]
    cases = (
        ("update step", ours.update, aim),
        ("update step and basis sums of its samples", ours.update + sums, ()),
        ("update step as a process, with its start", process, ()),
    )
    return [
        table.row(case, seconds, peer.update, peer.name, "s", peer.update / seconds, *more)
        for case, seconds, more in cases
    ]


def rows_of(ours, peers):
    """All rows; the first peer is the one that the targets speak of."""
    rows = []
    for number, peer in enumerate(peers):
        has_target = number == 0 and peer.name.startswith("VOTCA")
        rows.append(time_row(ours, peer, FASTER if has_target else None))
        rows += work_rows(ours, peer)
        if peer.update_s:
            rows += update_rows(ours, peer, FASTER_UPDATE if has_target else None)
    best = min(ours.rmse)
    floor = ours.noise[ours.rmse.index(best)]
    rows.append(table.row("lowest RDF rmse", best, floor, "remcg, noise of that sample", "g(r)",
                          best / floor))  # fmt: skip
    return rows


def basis_sums_seconds(sampling, steps=4000):
    """What the basis sums and histograms of one iteration's samples cost, CPU s."""
    system = equilibrated(water(8, 0.9), steps)
    plain, sampled = Ours(system), Ours(system, sample_interval=1, rdf_edges=rdf_edges(0.9))
    without, with_it = plain.measure(1.0), sampled.measure(1.0)
    cost = max(0.0, 1.0 / with_it.rate - 1.0 / without.rate)
    return cost * sampling["replicas"] * sampling["steps"] / sampling["sample_interval"]


def our_curve(folder, is_quick):
    sampling = QUICK_SAMPLING if is_quick else SAMPLING
    curve, reference = rem_campaign.run(folder, sampling, 2 if is_quick else MAX_ITERATIONS)
    curve.details["basis_sums_s"] = basis_sums_seconds(sampling, 100 if is_quick else 4000)
    curve.details["sampling"] = sampling
    return curve, reference


def peer_curves(folder, reference, ours, arguments):
    """Curves of the peers that are installed; one that is not, or that fails, is told."""
    seconds = 60.0 * arguments.minutes if arguments.minutes else _time_to_decide(ours)
    steps = QUICK_STEPS if arguments.quick else (PEER_STEPS, PEER_EQUILIBRATION)
    curves = []
    for peer in (votca, relentless_peer):
        lacking = peer.missing()
        if lacking:
            print(f"no {', '.join(lacking)}; to install it: {peer.INSTALL}")
    for name, peer, share, most, settings in PEERS:
        if peer.missing():
            continue
        home = folder / name
        home.mkdir()
        print(f"{name}, up to {share * seconds:.0f} s ...", flush=True)
        limits = min(most, arguments.iterations), share * seconds
        begin = time.monotonic()
        try:
            curves.append(peer.run(home, reference, *steps, *limits, **settings))
        except Exception as error:
            print(f"  failed: {type(error).__name__}: {error}", flush=True)
            continue
        print(f"  {time.monotonic() - begin:.0f} s", flush=True)
    return curves


def _time_to_decide(ours):
    """A peer that has not reached the goal by then is slower than the target asks."""
    wall = ours.reached(ours.wall_s) or ours.total_s
    return min(1.08 * FASTER * wall, MOST_SECONDS)


def run(folder, arguments):
    """The curve of remcg and those of the peers, all on one core."""
    with pinned({max(os.sched_getaffinity(0))}):
        home = folder / "remcg"
        home.mkdir()
        print("remcg ...", flush=True)
        begin = time.monotonic()
        ours, reference = our_curve(home, arguments.quick)
        print(f"  {time.monotonic() - begin:.0f} s", flush=True)
        return ours, peer_curves(folder, reference, ours, arguments)


def show_curve(curve):
    """Every iteration of a program as a line."""
    print(f"\n{curve.name}: {len(curve.rmse)} iterations in {curve.total_s:.0f} s")
    print("  wall (s)   CPU (s)  site steps    rmse   noise")
    columns = (curve.wall_s, curve.cpu_s, curve.site_steps, curve.rmse, curve.noise)
    for wall, cpu, work, rmse, noise in zip(*columns):
        print(f"  {wall:8.1f}  {cpu:8.1f}  {work:10.3g}  {rmse:6.4f}  {noise:6.4f}")
    for key, value in curve.details.items():
        if isinstance(value, str):
            print(f"  {key}: {value}")


def _versions():
    names = ("numba", "numpy", "snakemake")
    found = {name: version(name) for name in names} | {"lammps": lammps_version()}
    return found | {"python": platform.python_version()}


def _arguments(argv):
    parser = argparse.ArgumentParser(prog="bench/rem.py", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="does it run? figures mean nothing")
    parser.add_argument("--iterations", type=int, default=300, help="of a peer, at most")
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"of VOTCA (default: {FASTER:g} times that of remcg)",
    )
    parser.add_argument("--folder", type=Path, help="keep the runs in this empty folder")
    parser.add_argument(
        "--output", type=Path, help="result file (default: bench/results/rem.json if not quick)"
    )
    parser.add_argument("--markdown", action="store_true", help="run nothing, show the result file")
    parser.add_argument("--redraw", action="store_true", help="run nothing, draw the figure anew")
    return parser.parse_args(argv)


def _work(arguments):
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="remcg-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return run(folder.resolve(), arguments)
    finally:
        if not arguments.folder:
            shutil.rmtree(folder, ignore_errors=True)


def main(argv=None):
    arguments = _arguments(argv)
    results = table.RESULTS / f"{NAME}.json"
    if arguments.markdown:
        print(table.markdown(read_json(results)))
        return 0
    if arguments.redraw:
        rem_figure.draw(FIGURE, read_json(results)["curves"])
        return 0
    print(table.machine())
    ours, peers = _work(arguments)
    for curve in (ours, *peers):
        show_curve(curve)
    print()
    rows = rows_of(ours, peers)
    table.show(rows)
    curves = [asdict(curve) for curve in (ours, *peers)]
    output = arguments.output or (None if arguments.quick else results)
    if output:
        table.write(output, NAME, rows, curves=curves, versions=_versions())
    if output == results:
        rem_figure.draw(FIGURE, curves)
    return 0


if __name__ == "__main__":
    sys.exit(main())
