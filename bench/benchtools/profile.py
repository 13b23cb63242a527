"""Where the time of a step goes: the kernels of the engine, each by itself in a loop.

This is the one place of the benchmark that knows the inside of the engine.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from benchtools.timing import Stopwatch
from remcg.engine import dynamics
from remcg.engine.dynamics import SKIN
from remcg.engine.kernels import FORCES, OBSERVED, all_forces, basis_sums, no_sums
from remcg.engine.neighbors import build_list, is_valid, sort_into_cells
from remcg.engine.replica import Replica
from remcg.pairs import rdf_edges

COUNTED = 300  # steps in which new lists are counted


class Running(NamedTuple):
    """The arrays of a simulation as ``remcg.engine.dynamics.advance`` has them."""

    x: np.ndarray
    v: np.ndarray
    box: np.ndarray
    sites: object
    system: object
    reach: np.ndarray
    forces: np.ndarray
    kick: np.ndarray
    width: np.ndarray
    noise: np.ndarray


def profile(system, step_us, pace):
    """Microseconds per step of each part; ``step_us``: of a whole step, measured by itself."""
    replica = Replica(
        system.model, system.start, system.temperature, n_steps=1, n_equilibration=0,
        timestep=system.timestep, sample_interval=1, rdf_edges=rdf_edges(system.r_cut),
    )  # fmt: skip
    run = _running(replica)
    decay, half = np.exp(-system.friction * system.timestep), 0.5 * system.timestep
    neighbors = build_list(run.x, run.box, run.sites, run.system.channel_of, run.reach)
    n_builds = _count_builds(run, neighbors, replica.random, decay, half) / COUNTED
    observed = no_sums(run.system, len(replica.rdf_edges) - 1, replica.rdf_edges[-1])
    no_groups = run.sites._replace(groups=run.sites.groups[:0])
    r_max = run.system.reach.max()

    def time_of(loop, *arguments):
        return _microseconds(pace, lambda n: loop(n, run, *arguments))

    pairs = time_of(_repeat_forces, neighbors, no_groups, observed, FORCES)
    forces = time_of(_repeat_forces, neighbors, run.sites, observed, FORCES)
    build = time_of(_repeat_build)
    parts = {
        "pair forces": pairs,
        "bonded forces": forces - pairs if len(run.sites.groups) else 0.0,
        f"new lists, one in {1.0 / n_builds:.1f} steps" if n_builds else "new lists": build
        * n_builds,
        "is the list valid": time_of(_repeat_validity, neighbors, r_max),
        "random numbers": time_of(_repeat_draw, replica.random),
        "integrator": time_of(_repeat_integrator, decay, half),
    }
    observation = time_of(_repeat_forces, neighbors, run.sites, observed, OBSERVED) - forces
    parts["rest"] = step_us - sum(parts.values())
    return parts | {"whole step": step_us, "(an observation, beside)": observation}


def _running(replica):
    """What ``advance`` sets up before its first step."""
    state, conditions, system = replica.state, replica.conditions, replica.system
    dynamics.wrap(state.positions, state.box, replica.sites)
    n_sites = len(state.positions)
    order = sort_into_cells(state.positions, state.box, system.reach.max()).order[:n_sites]
    sites = dynamics.arranged(replica.sites, order)
    x, v, forces = np.zeros((3, n_sites, 4))
    x[:, :3], v[:, :3] = state.positions[order], state.velocities[order]
    decay = np.exp(-conditions.friction * conditions.timestep)
    thermal = dynamics.KB * conditions.temperature
    width = np.sqrt((1.0 - decay * decay) * thermal / sites.masses)
    reach = np.where(system.reach > 0.0, system.reach + SKIN, 0.0)
    kick = 0.5 * conditions.timestep / sites.masses
    return Running(
        x, v, state.box, sites, system, reach, forces, kick, width, np.zeros((n_sites, 3))
    )


def _count_builds(run, neighbors, random, decay, half):
    """New lists in some steps of dynamics."""
    r_max, n_builds = run.system.reach.max(), 0
    observed = no_sums(run.system, 0, 0.0)
    for _ in range(COUNTED):
        all_forces(run.x, run.box, neighbors, run.sites, run.system, FORCES, observed, run.forces)
        dynamics._kick(run.v, run.forces, run.kick)
        dynamics._draw(random, run.width, run.noise)
        dynamics._move(run.x, run.v, run.forces, run.kick, run.noise, decay, half)
        if not is_valid(neighbors, run.x, run.box, SKIN, r_max):
            neighbors = build_list(run.x, run.box, run.sites, run.system.channel_of, run.reach)
            n_builds += 1
    assert np.isfinite(run.forces).all(), "this is not how the engine calls its kernels any more"
    return n_builds


def _microseconds(pace, loop):
    """CPU time of one of the ``n`` calls in ``loop(n)``."""
    loop(1)
    n, taken = 1, 0.0
    while taken < 0.3 * pace.seconds:
        n *= 2
        watch = Stopwatch()
        loop(n)
        taken = watch.cpu
    return 1e6 * taken / n


@njit(cache=True)
def _repeat_forces(n, run, neighbors, sites, observed, task):
    sums = np.zeros(run.system.n_columns)
    for _ in range(n):
        all_forces(run.x, run.box, neighbors, sites, run.system, task, observed, run.forces)
        if task == OBSERVED:
            basis_sums(observed, run.system, sums)


@njit(cache=True)
def _repeat_build(n, run):
    for _ in range(n):
        build_list(run.x, run.box, run.sites, run.system.channel_of, run.reach)


@njit(cache=True)
def _repeat_validity(n, run, neighbors, r_max):
    count = 0
    for _ in range(n):
        count += is_valid(neighbors, run.x, run.box, SKIN, r_max)
    return count


@njit(cache=True)
def _repeat_draw(n, run, random):
    for _ in range(n):
        dynamics._draw(random, run.width, run.noise)


@njit(cache=True)
def _repeat_integrator(n, run, decay, half):
    x, v = run.x.copy(), run.v.copy()
    for _ in range(n):
        dynamics._move(x, v, run.forces, run.kick, run.noise, decay, half)
        dynamics._kick(v, run.forces, run.kick)
