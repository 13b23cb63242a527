"""Speed and memory of the mapping beside numpy and mdtraj, on one core.

make bench NAME=map ARGS="--only memory"
"""

import os
import platform
import sys
import tempfile
from functools import cache, partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import mdtraj
import numpy as np
import yaml
from benchtools import cases, table
from benchtools.cases import last_number
from benchtools.timing import FULL, Stopwatch, in_turn, middle

from remcg import mapping
from remcg.config import ROOT
from remcg.trajectory import CHUNK, read_frames

NAME = "map"
TRAJECTORY = ROOT / "resources" / "spce" / "T280.xtc"
TOPOLOGY = ROOT / "resources" / "spce" / "topology.pdb"
MAPPING = ROOT / "config" / "mappings" / "water-1site.yaml"
N_FRAMES = 100  # in memory
N_HEXANES, HEXANE = 150, 20  # molecules, atoms of each
SITES = (7, 6, 7)  # atoms of the sites of a hexane
COPIES = 2  # of the box of water in each direction
R_CUT = 0.9  # nm


@cache
def water(n_copies):
    """Topology and sites of 512 n_copies^3 waters."""
    top = mdtraj.load_topology(str(TOPOLOGY))
    whole = top
    for _ in range(n_copies**3 - 1):
        whole = whole.join(top)
    return whole, mapping.build_sites(whole, mapping.read_mapping(MAPPING))


def hexanes():
    """Topology and sites of hexanes of three sites with all atoms."""
    topology = mdtraj.Topology()
    names = [f"C{i}" for i in range(1, HEXANE + 1)]
    for _ in range(N_HEXANES):
        residue = topology.add_residue("HEX", topology.add_chain())
        atoms = [topology.add_atom(name, mdtraj.element.carbon, residue) for name in names]
        for first, second in pairwise(atoms):
            topology.add_bond(first, second)
    edges = np.cumsum([0, *SITES])
    rules = tuple(
        mapping.SiteMap(name, name, names[low:high])
        for name, low, high in zip("ABC", edges, edges[1:])
    )
    return topology, mapping.build_sites(topology, {"HEX": mapping.ResidueMap(rules)})


def _timed(function, pace, n_frames):
    """Frames per CPU second of calls of ``function``."""
    watch, calls = Stopwatch(), 0
    while watch.cpu < pace.seconds or calls < 1:
        function()
        calls += 1
    return watch.timing(calls * n_frames)


def _race(functions, pace, n_frames):
    """Median rates (frames per second) of functions that are called in turn."""
    for function in functions.values():
        function()
    measures = {
        name: partial(_timed, function, pace, n_frames) for name, function in functions.items()
    }
    return {name: middle(each) for name, each in in_turn(measures, pace.rounds).items()}


def _in_memory(case, sites, pace):
    """Rows of sites of frames in memory, beside weights, products and ``add.reduceat``."""
    matrix = sites.matrix
    positions = np.random.default_rng(1).uniform(0.0, 3.0, (N_FRAMES, matrix.shape[1], 3))
    starts, weights = matrix.indptr[:-1].astype(np.int64), matrix.data[:, None]
    # every atom is in one site and sites are in the order of the atoms: nothing to gather
    assert np.array_equal(matrix.indices, np.arange(matrix.shape[1]))

    def reduceat():
        return np.add.reduceat(positions * weights, starts, axis=1)

    def ours():
        return mapping.map_positions(matrix, positions)

    np.testing.assert_allclose(ours(), reduceat(), atol=1e-12)
    rates = _race({"ours": ours, "numpy": reduceat}, pace, N_FRAMES)
    ratio = rates["ours"] / rates["numpy"]
    peer = f"numpy {version('numpy')}, add.reduceat"
    return [table.row(case, rates["ours"], rates["numpy"], peer, "frames/s", ratio, ">=", 1.0)]


def memory_water(pace):
    case = f"frames in memory, 512 waters of one site, {N_FRAMES} frames"
    return _in_memory(case, water(1)[1], pace), {}


def memory_hexane(pace):
    case = f"frames in memory, {N_HEXANES} hexanes of three sites, {N_FRAMES} frames"
    return _in_memory(case, hexanes()[1], pace), {}


def _enlarged(folder, n_copies):
    """An XTC of copies of the box of water, a quarter of its frames."""
    topology, _ = water(n_copies)
    path = Path(folder) / "large.xtc"
    frames = mdtraj.load(str(TRAJECTORY), top=str(TOPOLOGY))[::4]
    edges, shifts = frames.unitcell_lengths[:, None], np.ndindex(*(n_copies,) * 3)
    xyz = np.concatenate([frames.xyz + np.array(shift) * edges for shift in shifts], axis=1)
    large = mdtraj.Trajectory(xyz, topology, frames.time)
    large.unitcell_lengths = frames.unitcell_lengths * n_copies
    large.unitcell_angles = frames.unitcell_angles
    large.save_xtc(str(path))
    return path


def _reading(case, path, topology, sites, pace):
    """Row of the time to read and map a file beside that of reading it."""
    mapped = mapping.Mapper(topology, sites)

    def alone():
        return sum(len(chunk) for chunk in mdtraj.iterload(str(path), top=topology, chunk=CHUNK))

    def ours():
        for chunk in read_frames([path], topology, "state"):
            mapped(chunk, "state")

    rates = _race({"ours": ours, "mdtraj": alone}, pace, alone())
    ratio = rates["mdtraj"] / rates["ours"]
    peer = f"mdtraj {version('mdtraj')}, iterload alone"
    units = rates["ours"], rates["mdtraj"], peer, "frames/s"
    return table.row(case, *units, ratio, "<=", 1.2)


def reading(pace):
    """Time with the mapping over time without it."""
    case = "XTC of {} waters: time to read and map over time to read"
    rows = [_reading(case.format(512), TRAJECTORY, *water(1), pace)]
    if pace is FULL:
        with tempfile.TemporaryDirectory() as folder:
            path = _enlarged(folder, COPIES)
            rows.append(_reading(case.format(512 * COPIES**3), path, *water(COPIES), pace))
    return rows, {}


def reading_hexane(pace):
    """As :func:`reading`, of molecules of several sites that the boundary may cut."""
    folder = ROOT / "resources" / "hexane"
    rules = ROOT / "config" / "mappings" / "hexane-3site.yaml"
    found = mapping.sites_of(folder / "topology.pdb", rules)
    case = f"XTC of {N_HEXANES} hexanes, three sites: time to read and map over time to read"
    return [_reading(case, folder / "T300.xtc", *found, pace)], {}


def _campaign(folder, n_repeats):
    """A config whose state reads the trajectory several times."""
    content = {
        "campaign": "bench",
        "system": {"topology": str(TOPOLOGY), "mapping": str(MAPPING)},
        "states": [
            {"id": "cold", "temperature": 280, "trajectory": [str(TRAJECTORY)] * n_repeats},
        ],
        "model": {
            "temperature": "constant",
            "terms": [{"kind": "pair", "sites": ["W", "W"], "r_cut": R_CUT, "n_basis": 34}],
        },
    }
    path = Path(folder) / f"campaign-{n_repeats}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def stage(pace):
    """The whole stage, with onset and file, beside reading alone."""
    from remcg import config

    with tempfile.TemporaryDirectory() as folder:
        campaign = config.load(_campaign(folder, 1))
        output = Path(folder) / "map.h5"
        topology, _ = water(1)

        def ours():
            mapping.map_trajectory(campaign, "cold", output, output.with_suffix(".json"))

        def alone():
            chunks = mdtraj.iterload(str(TRAJECTORY), top=topology, chunk=CHUNK)
            return sum(len(chunk) for chunk in chunks)

        sys.stdout.flush()
        with open(os.devnull, "w") as nowhere:
            shown, sys.stdout = sys.stdout, nowhere  # its warnings
            try:
                rates = _race({"ours": ours, "mdtraj": alone}, pace, alone())
            finally:
                sys.stdout = shown
    case = "the whole stage (topology, onset, map file), 512 waters: time over time to read"
    peer = f"mdtraj {version('mdtraj')}, iterload alone"
    ratio = rates["mdtraj"] / rates["ours"]
    return [table.row(case, rates["ours"], rates["mdtraj"], peer, "frames/s", ratio)], {}


def _peak(folder, n_repeats):
    """Peak memory (MiB) of a process that maps the trajectory so many times."""
    command = [
        sys.executable,
        "-m",
        "benchtools.peak",
        _campaign(folder, n_repeats),
        "cold",
        folder,
    ]
    return last_number(command)


def memory(pace):
    """Peak of the stage for a trajectory and for one four times as long."""
    many = 8 if pace is FULL else 4
    with tempfile.TemporaryDirectory() as folder:
        short, long = (_peak(folder, n) for n in (many // 4, many))
    case = f"peak memory of the stage, {many} trajectories in a row"
    peer = f"remcg, {many // 4} of them"
    return [table.row(case, long, short, peer, "MiB", long / short, "<=", 1.05)], {}


CASES = {
    "memory-water": memory_water,
    "memory-hexane": memory_hexane,
    "reading": reading,
    "reading-hexane": reading_hexane,
    "stage": stage,
    "memory": memory,
}


def _versions():
    names = ("mdtraj", "numba", "numpy")
    return {name: version(name) for name in names} | {"python": platform.python_version()}


def main(argv=None):
    return cases.main(NAME, __doc__.split("\n")[0], CASES, _versions, argv)


if __name__ == "__main__":
    sys.exit(main())
