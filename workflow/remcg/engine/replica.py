"""One simulation of the CG model: from a start, through equilibration, to its samples."""

import json
import time
from dataclasses import dataclass, replace

import numpy as np

from remcg.boxes import heights, vectors, volume
from remcg.checkpoint import digest
from remcg.engine.dynamics import (
    HEATED,
    MAX_MOVE,
    MOVED,
    SHRUNK,
    Conditions,
    Samples,
    State,
    advance,
)
from remcg.engine.kernels import build_sites, build_system, type_pairs
from remcg.engine.threads import use_threads
from remcg.errors import InputError, SamplingError
from remcg.pairs import ROUNDING, rdf_norm
from remcg.topology import Topology
from remcg.units import BAR, KB

N_BLOCKS = 10
CHUNK = 1_000_000  # site steps between two chances to stop: a fraction of a second
LEAST_CHUNK = 100  # steps: each begins with a new neighbour list
FIRST_VOLUME_STEP = 0.01
VERSION = 3  # of the dynamics: a change makes older checkpoints stale


@dataclass
class Start:
    """A configuration: positions (n_sites, 3) in nm, box (3,) or (3, 3) in nm (see
    :mod:`remcg.boxes`), velocities in nm/ps or None, and its :class:`remcg.topology.Topology`."""

    positions: np.ndarray
    box: np.ndarray
    velocities: np.ndarray
    topology: Topology

    @property
    def volume(self):
        """Volume of the box, nm^3."""
        return float(volume(self.box))

    def with_volume(self, volume):
        """The same configuration scaled to a volume in nm^3; molecules move as a whole."""
        scale = (volume / self.volume) ** (1.0 / 3.0)
        whole = self.topology.make_whole(self.positions, self.box)
        centres = self.topology.centres(whole)[self.topology.molecule]
        return replace(self, positions=whole + (scale - 1.0) * centres, box=self.box * scale)


def random_stream(key):
    """Random generator that depends on nothing but ``key``, a sequence of names and integers."""
    words = np.frombuffer(bytes.fromhex(digest(list(key))), np.uint32)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words.tolist())))


class Replica:
    """One replica of one state. :meth:`run_chunk` until :attr:`is_done`, then :meth:`result`.

    Parameters
    ----------
    model : Model
    start : Start
        Velocities are drawn from the Maxwell distribution where it has none.
    temperature : float
        K.
    pressure_bar : float or None
        None samples NVT.
    n_steps, n_equilibration : int
        Steps with and before sampling.
    timestep, friction : float
        ps, 1/ps.
    barostat : str
        What a volume move scales: ``isotropic`` x, y and z alike; ``semi-isotropic`` x and y alike,
        or z; ``anisotropic`` one of x, y, z.
    barostat_interval, sample_interval : int
        Steps.
    threads : int
        Threads of this process that share the pairs of a large box; sums differ in rounding.
    seed_key : sequence
        Names and integers the random stream is derived from, e.g. (seed, campaign, state,
        iteration, replica).
    rdf_edges : ndarray or None
        Equal bins from 0, nm.
    keep : int
        Evenly spaced configurations to keep.
    label : str
        Who reports an error: state and replica.
    """

    def __init__(
        self,
        model,
        start,
        temperature,
        pressure_bar=None,
        *,
        n_steps,
        n_equilibration,
        timestep,
        friction=1.0,
        barostat="isotropic",
        barostat_interval=10,
        sample_interval=10,
        threads=1,
        seed_key=(0,),
        rdf_edges=None,
        keep=0,
        label="sample",
    ):
        self.label = label
        self.rdf_edges = np.zeros(1) if rdf_edges is None else np.asarray(rdf_edges, float)
        self.names, self.topology, self.is_straight = (
            model.site_types,
            start.topology,
            start.box.ndim == 1,
        )
        self.system = build_system(model, temperature, self.rdf_edges[-1])
        self.sites = build_sites(model, start.topology)
        self.conditions = Conditions(
            float(temperature),
            pressure_bar is not None,
            BAR * (pressure_bar or 0.0),
            _scaled(barostat, label),
            float(timestep),
            float(friction),
            int(barostat_interval),
            int(sample_interval),
            int(threads),
        )
        self.n_equilibration, self.n_steps = int(n_equilibration), int(n_steps)
        self.n_samples = self.n_steps // self.conditions.sample_interval
        _check(self, start)
        self.key = _key(model, temperature, start, self, keep, seed_key)
        use_threads(self.conditions.threads)
        self.random = random_stream(seed_key)
        self.step = 0
        self.seconds = 0.0
        self.state = _first_state(start, self.random, temperature, len(self.conditions.scaled))
        self.samples = _empty_samples(self, keep)

    @property
    def n_total(self):
        """Steps in all, equilibration included."""
        return self.n_equilibration + self.n_steps

    @property
    def is_done(self):
        """Whether all steps are done."""
        return self.step >= self.n_total

    def run_chunk(self, until=None):
        """Some steps, none beyond ``until``; their number depends only on it and the system."""
        begin = time.perf_counter()
        length = max(LEAST_CHUNK, CHUNK // self.topology.n_sites)
        last = self.n_total if until is None else min(until, self.n_total)
        n_steps = min(length - self.step % length, last - self.step)
        status, self.step = advance(
            self.random,
            self.state,
            self.sites,
            self.system,
            self.conditions,
            self.samples,
            self.rdf_edges[-1],
            self.step,
            n_steps,
            self.n_equilibration,
        )
        self.seconds += time.perf_counter() - begin
        if status != 0:
            raise SamplingError(f"{self.label}, step {self.step}: {self._reason(status)}")

    def arrays(self):
        """What a checkpoint holds, with :meth:`attributes`."""
        return {f"state.{name}": x for name, x in self.state._asdict().items()} | {
            f"samples.{name}": x for name, x in self.samples._asdict().items()
        }

    def attributes(self):
        """What a checkpoint holds besides arrays: the step and the state of the random numbers."""
        return {"step": self.step, "random": self.random.bit_generator.state}

    def restore(self, arrays, attributes):
        """Go on from a checkpoint."""
        self.state = State(*(arrays[f"state.{name}"] for name in State._fields))
        self.samples = Samples(*(arrays[f"samples.{name}"] for name in Samples._fields))
        self.step = attributes["step"]
        self.random.bit_generator.state = attributes["random"]

    def progress(self):
        """One line: steps, temperature, volume, acceptance."""
        done = (self.step - self.n_equilibration) // self.conditions.sample_interval
        text = f"{self.label}: step {self.step} of {self.n_total}"
        if done > 0:
            mean = self.samples.temperature[:done].mean()
            text += f", {mean:.1f} K, {self.samples.volume[:done].mean():.4f} nm^3"
        trials, accepted = self.state.attempts.sum(axis=0)
        if trials:
            rate = accepted / trials
            text += f", volume moves {rate:.0%} accepted"
        return text

    def result(self):
        """Samples and final configuration, see ``remcg.sample``; the RDF as g(r) per block."""
        samples, state = self.samples, self.state
        n_blocks = samples.rdf.shape[0]
        block = np.arange(self.n_samples) * n_blocks // self.n_samples
        pairs = type_pairs(len(self.names))
        norm = rdf_norm(self.topology.site_types, pairs, self.rdf_edges)
        frames = np.bincount(block, minlength=n_blocks)[:, None, None]
        lever, count = samples.levers
        levers = {"levers": np.where(count > 0.0, lever / np.maximum(count, 1.0), 1.0)}
        return {
            "site_sums": samples.site_sums,
            "volume": samples.volume,
            "energy": samples.energy,
            "pressure": np.trace(samples.pressure, axis1=1, axis2=2) / 3.0,
            "pressure_tensor": samples.pressure,
            "temperature": samples.temperature,
            "rdf_blocks": samples.rdf / (frames * norm),
            "positions": state.positions,
            "velocities": state.velocities,
            "box": self._box(state.box),
            "trajectory": samples.kept,
            "trajectory_box": self._box(samples.kept_box),
            **(levers if self.topology.n_molecules < self.topology.n_sites else {}),
        }

    def _box(self, vectors):
        """Box vectors in the form of the start: edges where it gave edges."""
        return np.diagonal(vectors, axis1=-2, axis2=-1).copy() if self.is_straight else vectors

    def _reason(self, status):
        if status == SHRUNK:
            return (
                f"the box shrank to {heights(self.state.box).min():.3f} nm, where its height would"
                f" be less than twice the range {self.system.reach.max():.3f} nm of a pair; the"
                " model's pressure is far too low, or the box is too small for this r_cut"
            )
        dt = f"the time step of {self.conditions.timestep:g} ps"
        if status == HEATED:
            return (
                f"the kinetic temperature is more than 20 times the set"
                f" {self.conditions.temperature:g} K; shorten {dt} or mend the potential"
            )
        assert status == MOVED
        return (
            f"{self._fastest()} moved more than {MAX_MOVE} nm in one step, or its force is not"
            f" finite; shorten {dt} or mend the potential"
        )

    def _fastest(self):
        """The site that moved farthest, and its nearest neighbour where there is one."""
        speed = np.nan_to_num(np.abs(self.state.velocities).max(axis=1), nan=np.inf)
        i = int(np.argmax(speed))
        name = f"site {i} ({self._name(i)})"
        difference = self.state.positions - self.state.positions[i]
        for d in (2, 1, 0):
            vector = self.state.box[d]
            difference -= np.round(difference[:, d : d + 1] / vector[d]) * vector
        r = np.sqrt((difference**2).sum(axis=1))
        r[i] = np.nan
        if not np.isfinite(r).any():
            return name
        j = int(np.nanargmin(r))
        return f"{name}, now {r[j]:.3g} nm from site {j} ({self._name(j)}),"

    def _name(self, i):
        return self.names[self.topology.site_types[i]]


def _check(replica, start):
    reach = replica.system.reach.max()
    height = heights(start.box).min()
    if height < 2.0 * reach * (1.0 - ROUNDING):
        raise InputError(
            f"{replica.label}: a height of the box of {height:.4g} nm is less than twice the range"
            f" {reach:.4g} nm of a pair; shorten r_cut or take a larger box"
        )
    if replica.n_samples < 1:
        raise InputError(
            f"{replica.label}: {replica.n_steps} steps hold no sample at a sample_interval of"
            f" {replica.conditions.sample_interval}; take more steps"
        )
    if not (np.isfinite(start.positions).all() and np.isfinite(start.box).all()):
        raise InputError(f"{replica.label}: the start has positions or edges that are not finite")


def _key(model, temperature, start, replica, keep, seed_key):
    """Hash of everything that determines the run."""
    return digest(
        VERSION,
        [list(array) for array in model.term_theta(temperature)],
        json.dumps([term.to_dict() for term in model.terms], default=list),
        model.v0,
        list(model.site_types),
        [start.positions, start.box, start.velocities, vars(start.topology), list(model.exclude)],
        list(replica.conditions),
        [replica.n_steps, replica.n_equilibration, replica.rdf_edges, keep],
        list(seed_key),
    )


def _scaled(barostat, label):
    """Powers of V'/V by which each kind of volume move scales x, y and z."""
    kinds = {
        "isotropic": [[1 / 3, 1 / 3, 1 / 3]],
        "semi-isotropic": [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]],
        "anisotropic": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    }
    if barostat not in kinds:
        raise InputError(f"{label}: no barostat {barostat!r}; choose one of {', '.join(kinds)}")
    return np.array(kinds[barostat])


def _first_state(start, random, temperature, n_moves):
    velocities = start.velocities
    if velocities is None:
        width = np.sqrt(KB * temperature / start.topology.masses)[:, None]
        velocities = width * random.standard_normal((start.topology.n_sites, 3))
    return State(
        np.array(start.topology.make_whole(start.positions, start.box), float, order="C"),
        np.array(velocities, float, order="C"),
        np.array(vectors(start.box)),
        np.full(n_moves, FIRST_VOLUME_STEP),
        np.zeros((n_moves, 2), np.int64),
    )


def _empty_samples(replica, keep):
    n, n_sites = replica.n_samples, replica.topology.n_sites
    keep = min(int(keep), n)
    bins = len(replica.system.r_cut), len(replica.rdf_edges) - 1
    return Samples(
        np.zeros((n, replica.system.n_columns)),
        *np.zeros((2, n)),
        np.zeros((n, 3, 3)),
        np.zeros(n),
        np.zeros((min(N_BLOCKS, n), *bins)),
        np.zeros((keep, n_sites, 3)),
        np.zeros((keep, 3, 3)),
        np.zeros((2, *bins)),
    )
