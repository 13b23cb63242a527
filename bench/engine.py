"""Speed of the sampling engine beside LAMMPS and OpenMM, whole steps on one core.

make bench NAME=engine ARGS="--only water-512"
"""

import platform
import sys
import tempfile
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

from benchtools import cases, table
from benchtools.cases import ALL_CORES, last_number
from benchtools.lammps import Lammps, tune
from benchtools.lammps import version as lammps_version
from benchtools.openmm_peer import OpenMM
from benchtools.ours import Ours
from benchtools.profile import profile
from benchtools.systems import DEFAULTS, chains, close_pairs, energy, equilibrated, repeated, water
from benchtools.timing import FULL, QUICK, cpu_use, in_turn, middle, pinned

from remcg.engine.dynamics import SKIN
from remcg.pairs import rdf_edges

NAME = "engine"
OURS, OPENMM = "remcg", "OpenMM"
PRESSURE = 1.0  # bar
TUNING = 5000  # steps in which the volume step is chosen
RANK_STEPS = 12_000
AGREEMENT = 2e-3  # of the energies of one configuration: the error of a linear table


@cache
def liquid(n_copies, r_cut):
    """512 n_copies^3 waters, equilibrated."""
    if n_copies == 1:
        return equilibrated(water(8, r_cut))
    return equilibrated(repeated(liquid(1, r_cut), n_copies), 200)


def beside_peers(case, system, target, pace):
    """Rows against LAMMPS' best, LAMMPS with our skin, and OpenMM; details."""
    with tempfile.TemporaryDirectory() as folder:
        lammps, openmm = Lammps(system, folder), OpenMM(system)
        deviations = _compare_energies(case, system, lammps, openmm)
        rates = tune(lammps, pace, SKIN)
        timings = _race(system, lammps, openmm, rates, pace)
    speeds = {name: middle(each) for name, each in timings.items()}
    details = _throughput(system, speeds[OURS]) | {
        "spread": {str(name): _spread(each) for name, each in timings.items()},
        "cpu_use": {str(name): cpu_use(each) for name, each in timings.items()},
        "lammps_variants_steps_per_s": {str(variant): rate for variant, rate in rates.items()},
        "energy_deviation": deviations,
    }
    if pace is not QUICK:  # its kernels take half a minute to compile
        details["profile_us_per_step"] = profile(system, 1e6 / speeds[OURS], pace)
    return _rows(case, speeds, target), details


def _race(system, lammps, openmm, rates, pace):
    """Timings in turn: ours, LAMMPS' two fastest variants and its fastest of our skin, OpenMM."""
    ranking, ours = list(rates), Ours(system)
    same_skin = next(variant for variant in ranking if variant.skin == SKIN)
    steps = max(pace.least_steps, int(pace.seconds * rates[ranking[0]]))
    rounds = pace.rounds if steps > pace.least_steps else min(3, pace.rounds)
    measures = {OURS: partial(ours.measure, pace.seconds, pace.least_steps)}
    for variant in (*ranking[:2], same_skin):
        measures[variant] = partial(lammps.measure, variant, steps)
    measures[OPENMM] = partial(openmm.measure, pace.seconds, pace.least_steps // 3)
    return in_turn(measures, rounds)


def _rows(case, speeds, target):
    variants = sorted(set(speeds) - {OURS, OPENMM}, key=speeds.get)
    best, same_skin = variants[-1], [each for each in variants if each.skin == SKIN][-1]
    peers = [
        (f"LAMMPS' best: {best}", best, (">=", target)),
        (f"LAMMPS, our skin: {same_skin}", same_skin, ()),
        (f"OpenMM {version('openmm')}, CPU, 1 thread", OPENMM, ()),
    ]
    ours = speeds[OURS]
    return [
        table.row(case, ours, speeds[key], name, "steps/s", ours / speeds[key], *aim)
        for name, key, aim in peers
    ]


def _compare_energies(case, system, lammps, openmm):
    """Relative deviations of the peers' energies of the start from those of the model."""
    ours = energy(system)
    found = {"LAMMPS": lammps.energy() / ours - 1.0, "OpenMM": openmm.energy() / ours - 1.0}
    for name, deviation in found.items():
        if not abs(deviation) < AGREEMENT:
            raise RuntimeError(f"{case}: {name} has another energy, by {deviation:.1e} of it")
    return found


def _throughput(system, rate):
    n_pairs = len(close_pairs(system)[0])
    return {
        "n_sites": system.n_sites,
        "pairs_within_r_cut": n_pairs,
        "steps_per_s": rate,
        "site_steps_per_s": rate * system.n_sites,
        "pairs_per_s": rate * n_pairs,
    }


def _spread(timings):
    """Lowest and highest rate, steps/s."""
    rates = [timing.rate for timing in timings]
    return [min(rates), max(rates)]


def water_512(pace):
    system = liquid(1, 0.9)
    return beside_peers("512 sites, 33.4 /nm^3, r_cut 0.9 nm, NVT", system, 2.0, pace)


def water_4096(pace):
    return beside_peers("4096 sites, r_cut 1.0 nm, NVT", liquid(2, 1.0), 2.0, pace)


def water_32768(pace):
    return beside_peers("32768 sites, r_cut 1.0 nm, NVT", liquid(4, 1.0), 1.8, pace)


def three_site_chains(pace):
    case = "1000 three-site chains, bonds, angles, exclusions, r_cut 1.2 nm"
    return beside_peers(case, equilibrated(chains(10)), 1.8, pace)


def _cost(case, with_it, without, peer_name, target, pace):
    """Row of what something costs: time with it over time without it, less 1."""
    measures = {name: partial(ours.measure, pace.seconds)
                for name, ours in (("with", with_it), ("without", without))}  # fmt: skip
    timings = in_turn(measures, 2 * pace.rounds)
    changed, plain = middle(timings["with"]), middle(timings["without"])
    row = table.row(case, changed, plain, peer_name, "steps/s", plain / changed - 1, "<=", target)
    return [row], {name: _spread(each) for name, each in timings.items()}


def volume_moves(pace):
    system = liquid(1, 0.9)
    case = f"512 sites, NPT, volume term, a move every {DEFAULTS.barostat_interval} steps: cost"
    npt = Ours(system, PRESSURE, tuning=TUNING)
    return _cost(case, npt, Ours(system), "remcg, NVT", 0.15, pace)


def observation(pace):
    system, every = liquid(1, 0.9), 10
    case = f"512 sites, basis sums and histograms every {every} steps: cost"
    sampled = Ours(system, sample_interval=every, rdf_edges=rdf_edges(system.r_cut))
    return _cost(case, sampled, Ours(system), "remcg, no samples", 0.10, pace)


def ranks(pace):
    """Two replicas on one and on two ranks, each rank on a core of its own; best wall times."""
    cores = sorted(ALL_CORES)[:2]
    if len(cores) < 2:
        print("  left out: it needs two cores")
        return [], {}
    steps = max(1, int(RANK_STEPS * min(1.0, pace.seconds)))
    walls = {1: [], 2: []}
    with pinned(cores):
        for _ in range(pace.rounds):
            for n_ranks, found in walls.items():
                found.append(_rank_seconds(n_ranks, steps))
    one, two = min(walls[1]), min(walls[2])
    case = "two replicas of 512 sites on 2 ranks: efficiency"
    rates = 2 * steps / two, 2 * steps / one
    row = table.row(case, *rates, "remcg, 1 rank", "steps/s", one / two / 2, ">=", 0.95)
    return [row], {f"wall_s_{n}_ranks": found for n, found in walls.items()}


def _rank_seconds(n_ranks, steps):
    mpiexec = Path(sys.prefix) / "bin" / "mpiexec"
    command = [
        mpiexec,
        "-n",
        n_ranks,
        sys.executable,
        "-m",
        "benchtools.ranks",
        steps,
    ]
    return last_number(command)


def sizes(pace):
    """Site steps per second from 512 sites on, by factors of 8."""
    speeds = {}
    for n_copies in (1, 2, 4) if pace is FULL else (1, 2):
        system = liquid(n_copies, 0.9)
        ours = Ours(system)
        timings = [ours.measure(pace.seconds, pace.least_steps) for _ in range(min(3, pace.rounds))]
        speeds[system.n_sites] = middle(timings) * system.n_sites
    first = speeds[512]
    rows = [
        table.row(f"{n} sites, r_cut 0.9 nm, NVT", speed, first, "remcg, 512 sites",
                  "site steps/s", speed / first)
        for n, speed in speeds.items() if n != 512
    ]  # fmt: skip
    return rows, {}


CASES = {
    "water-512": water_512,
    "water-4096": water_4096,
    "water-32768": water_32768,
    "chains": three_site_chains,
    "npt": volume_moves,
    "observation": observation,
    "ranks": ranks,
    "sizes": sizes,
}


def _versions():
    names = ("numba", "numpy", "openmm")
    found = {name: version(name) for name in names} | {"lammps": lammps_version()}
    return found | {"python": platform.python_version()}


def _show_details(details):
    for name, each in details.items():
        if "site_steps_per_s" not in each:
            continue
        print(f"\n{name}: {each['site_steps_per_s']:.3g} site steps/s,"
              f" {each['pairs_per_s']:.3g} pairs/s of {each['pairs_within_r_cut']}")  # fmt: skip
        for part, microseconds in each.get("profile_us_per_step", {}).items():
            print(f"  {part:32} {microseconds:10.1f} us/step")


def main(argv=None):
    description = __doc__.split("\n")[0]
    return cases.main(NAME, description, CASES, _versions, argv, _show_details)


if __name__ == "__main__":
    sys.exit(main())
