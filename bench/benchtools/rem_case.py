"""The coarse-graining that all programs of ``bench/rem.py`` do, and how each is judged."""

import contextlib
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import psutil

from remcg.config import ROOT
from remcg.io import read_h5
from remcg.pairs import rdf, rdf_edges
from remcg.validate import RdfPair, rdf_errors

STATE, SITE = "T310", "W"
TEMPERATURE = 310.0  # K
TRAJECTORY = ROOT / "resources" / "spce" / f"{STATE}.xtc"
TOPOLOGY = ROOT / "resources" / "spce" / "topology.pdb"
MAPPING = ROOT / "config" / "mappings" / "water-1site.yaml"
R_MIN, R_CUT = 0.24, 0.9  # nm
KNOT_SPACING = 0.02  # nm, in all programs
FRICTION = 5.0  # 1/ps
GOAL = 0.01  # of the RDF's rmse
N_BLOCKS = 5
READ_EVERY = 0.5  # s


@dataclass
class Curve:
    """How one program got better: per iteration, the RDF of the model it sampled.

    Attributes
    ----------
    name : str
    wall_s, cpu_s : list of float
        From the start of the program to the end of the iteration's sampling.
    site_steps : list of float
        Time steps times CG sites up to then, equilibration included.
    rmse, noise : list of float
        Of the iteration's own sample, and what it would be for a perfect model.
    update_s : list of float
        Each update step alone.
    total_s : float
        Until the program had ended.
    details : dict
    """

    name: str
    wall_s: list = field(default_factory=list)
    cpu_s: list = field(default_factory=list)
    site_steps: list = field(default_factory=list)
    rmse: list = field(default_factory=list)
    noise: list = field(default_factory=list)
    update_s: list = field(default_factory=list)
    total_s: float = 0.0
    details: dict = field(default_factory=dict)

    def add(self, clock, end, site_steps, errors):
        """An iteration whose sampling came to its end at some time since 1970."""
        self.wall_s.append(float(end - clock.begin))
        self.cpu_s.append(clock.cpu(self.wall_s[-1]))
        self.site_steps.append(float(site_steps))
        self.rmse.append(float(errors["rmse"]))
        self.noise.append(float(errors["noise_floor_rmse"]))

    def reached(self, values, goal=GOAL):
        """The first of ``values`` whose iteration is at the goal, or None."""
        return next((v for v, rmse in zip(values, self.rmse) if rmse <= goal), None)

    @property
    def update(self):
        """Median time of an update step, s."""
        return float(np.median(self.update_s)) if self.update_s else None


class Clock:
    """Wall time since now, and the CPU time that programs started from here have had by then."""

    def __init__(self):
        self.begin, self.end, self._readings = time.time(), None, [(0.0, 0.0)]
        self._before = _reaped(psutil.Process())
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read_often, daemon=True)

    def __enter__(self):
        self._reader.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._reader.join()
        self._read()
        self.end = time.time()

    def _read_often(self):
        while not self._stop.wait(READ_EVERY):
            self._read()

    def _read(self):
        """Of living descendants, and of those that have ended, which count with who waited."""
        this, total = psutil.Process(), -self._before
        for process in [this, *this.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += _reaped(process)
                total += 0.0 if process == this else sum(process.cpu_times()[:2])
        last = self._readings[-1][1]  # one that ends while it is counted may be missed once
        self._readings.append((time.time() - self.begin, max(last, total)))

    @property
    def seconds(self):
        return self.end - self.begin

    def cpu(self, wall):
        """CPU seconds up to some wall time since the beginning."""
        return float(np.interp(wall, *np.transpose(self._readings)))


def _reaped(process):
    spent = process.cpu_times()
    return spent.children_user + spent.children_system


class Reference:
    """What all programs are given: sites, their RDF and a first potential."""

    def __init__(self, results):
        results = Path(results)
        self.sites, _ = read_h5(results / "map" / f"{STATE}.h5")
        self.target, _ = read_h5(results / "target" / f"{STATE}.h5")
        self.model_file = results / "rem" / "iter-000" / "model.json"

    @property
    def n_sites(self):
        return len(self.sites["site_types"])

    @property
    def mass(self):
        """Of a site, amu."""
        return float(self.sites["masses"][0])

    @cached_property
    def edge(self):
        """Edge of the cubic box that has the mean volume of the reference, nm."""
        return float(self.target["volume"].mean() ** (1 / 3))

    @cached_property
    def start(self):
        """Sites in the middle frame, scaled to the mean volume, (n_sites, 3), nm."""
        middle = len(self.sites["positions"]) // 2
        scale = self.edge / self.sites["box"][middle]
        return np.mod(self.sites["positions"][middle] * scale, self.edge)

    def errors(self, positions, boxes):
        """How far the RDF of some frames is from the reference, by the definition of remcg."""
        types = self.sites["site_types"]
        blocks = rdf(positions, boxes, types, [(0, 0)], rdf_edges(R_CUT), N_BLOCKS)
        return self.errors_of(blocks[:, 0])

    def errors_of(self, blocks):
        """The same for a g(r) that has been computed, (n_blocks, n_bins)."""
        edges = self.target["rdf_edges"]
        return rdf_errors(RdfPair(edges, self.target["rdf_blocks"][:, 0], blocks), R_CUT)

    def distribution(self, centers, width):
        """g(r) in bins of a given width around ``centers``, with N(N-1)/2 pairs."""
        edges = np.append(centers - 0.5 * width, centers[-1] + 0.5 * width)
        first = int(np.argmax(edges >= 0.0))  # r below zero holds nothing
        sites = self.sites
        found = rdf(
            sites["positions"], sites["box"], sites["site_types"], [(0, 0)], edges[first:], 1
        )
        return np.concatenate([np.zeros(first), found[0, 0]])
