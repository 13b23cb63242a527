"""Langevin dynamics (BAOAB) with a Monte Carlo barostat, compiled as one loop over steps."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from remcg.engine.kernels import observe_pairs, pair_forces, volume_energy
from remcg.engine.neighbors import build_list, is_valid
from remcg.units import KB

SKIN = 0.1  # nm
MAX_MOVE = 0.5  # nm in one step: hundreds of times the thermal one
MAX_HEAT = 20.0  # kinetic over set temperature
TARGET_ACCEPTANCE = 0.5
MAX_VOLUME_STEP = 0.3  # of the volume

DONE, MOVED, HEATED, SHRUNK = range(4)


class Conditions(NamedTuple):
    """Ensemble and integrator: K; kJ/mol/nm^3 (ignored unless is_npt); ps; 1/ps; steps."""

    temperature: float
    is_npt: bool
    pressure: float
    timestep: float
    friction: float
    barostat_interval: int
    sample_interval: int


class State(NamedTuple):
    """What changes in a run: positions, velocities (n_sites, 3) in nm, nm/ps; box (3,) in nm;
    volume_step (1,): greatest trial change of ln V; attempts (2,): trials, accepted ones."""

    positions: np.ndarray
    velocities: np.ndarray
    box: np.ndarray
    volume_step: np.ndarray
    attempts: np.ndarray


class Samples(NamedTuple):
    """Where samples go: first axis n_samples, but rdf (n_blocks, C, n_bins) sums V per pair over
    a block; kept (n_kept, n_sites, 3) and kept_box (n_kept, 3) are evenly spaced configurations."""

    pair_sums: np.ndarray
    volume: np.ndarray
    energy: np.ndarray
    pressure: np.ndarray
    temperature: np.ndarray
    rdf: np.ndarray
    kept: np.ndarray
    kept_box: np.ndarray


@njit(cache=True)
def wrap(positions, box):
    """Move sites into the box; their neighbours by minimum image stay the same."""
    for i in range(positions.shape[0]):
        for d in range(3):
            positions[i, d] -= box[d] * math.floor(positions[i, d] / box[d])


@njit(cache=True)
def kinetic_temperature(velocities, masses):
    """2 K / (3 N k), K: Langevin dynamics has no conserved momentum."""
    total = 0.0
    for i in range(velocities.shape[0]):
        for d in range(3):
            total += masses[i] * velocities[i, d] ** 2
    return total / (3.0 * KB * velocities.shape[0])


@njit(cache=True)
def _refresh(neighbors, state, system, reach, r_max):
    """The list if it is still valid, else a new one."""
    if r_max == 0.0 or is_valid(neighbors, state.positions, state.box, SKIN, r_max):
        return neighbors
    wrap(state.positions, state.box)
    return build_list(state.positions, state.box, system.site_types, system.channel_of, reach)


@njit(cache=True)
def _move(random, state, forces, masses, conditions):
    """First B, A, O and A of BAOAB; returns the greatest squared displacement, nm^2.

    Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013).
    """
    half = 0.5 * conditions.timestep
    decay = math.exp(-conditions.friction * conditions.timestep)
    noise = math.sqrt((1.0 - decay * decay) * KB * conditions.temperature)
    x, v = state.positions, state.velocities
    farthest = 0.0
    for i in range(x.shape[0]):
        kick = half / masses[i]
        width = noise / math.sqrt(masses[i])
        moved = 0.0
        for d in range(3):
            before = v[i, d] + kick * forces[i, d]
            after = before
            if noise > 0.0:
                after = decay * before + width * random.standard_normal()
            step = half * (before + after)
            v[i, d] = after
            x[i, d] += step
            moved += step * step
        if farthest == farthest and not moved <= farthest:  # nan comes in and stays
            farthest = moved
    return farthest


@njit(cache=True)
def _kick(state, forces, masses, timestep):
    """Last B of BAOAB."""
    for i in range(forces.shape[0]):
        for d in range(3):
            state.velocities[i, d] += 0.5 * timestep / masses[i] * forces[i, d]


@njit(cache=True)
def _tune(state, chance, is_tuning):
    """Robbins-Monro step of the volume step towards the target acceptance."""
    state.attempts[0] += 1
    if is_tuning:
        gain = 4.0 / (4.0 + state.attempts[0])
        wanted = state.volume_step[0] * math.exp(gain * (chance - TARGET_ACCEPTANCE))
        state.volume_step[0] = min(wanted, MAX_VOLUME_STEP)


@njit(cache=True, nogil=True)
def advance(random, state, system, conditions, samples, rdf_range, first, n_steps, n_equilibration):
    """Steps first + 1 ... first + n_steps; returns (status, last step done).

    Begins with a new neighbour list, so a run is the same whether or not it was interrupted
    between two calls. The barostat proposes V' = V exp(step * uniform(-1, 1)) and scales all
    sites: accepted with min(1, exp(-w/kT)), w = dU + dU_V + P dV - (N + 1) kT ln(V'/V), with
    N + 1 because the proposal is uniform in ln V and N = number of scaled objects (sites, which
    here are molecules). Its step changes only while step <= n_equilibration.
    """
    n_sites = state.positions.shape[0]
    thermal = KB * conditions.temperature
    r_max = system.reach.max()
    reach = np.where(system.reach > 0.0, system.reach + SKIN, 0.0)
    wrap(state.positions, state.box)
    neighbors = build_list(state.positions, state.box, system.site_types, system.channel_of, reach)
    forces = np.empty((n_sites, 3))
    energy, virial = pair_forces(state.positions, state.box, neighbors, system, True, forces)
    n_samples, n_blocks, n_kept = samples.volume.size, samples.rdf.shape[0], samples.kept.shape[0]
    old_positions, old_forces = np.empty((n_sites, 3)), np.empty((n_sites, 3))
    for step in range(first + 1, first + n_steps + 1):
        is_trial = conditions.is_npt and step % conditions.barostat_interval == 0
        sampled = step - n_equilibration
        is_sample = sampled > 0 and sampled % conditions.sample_interval == 0
        farthest = _move(random, state, forces, system.masses, conditions)
        if not farthest <= MAX_MOVE * MAX_MOVE:
            return MOVED, step
        neighbors = _refresh(neighbors, state, system, reach, r_max)
        energy, virial = pair_forces(
            state.positions, state.box, neighbors, system, is_trial or is_sample, forces
        )
        _kick(state, forces, system.masses, conditions.timestep)
        if is_trial:
            volume = state.box[0] * state.box[1] * state.box[2]
            grown = state.volume_step[0] * (2.0 * random.random() - 1.0)
            scale = math.exp(grown / 3.0)
            change = volume * (math.exp(grown) - 1.0)
            if min(state.box[0], state.box[1], state.box[2]) * scale < 2.0 * r_max * (1.0 - 1e-9):
                return SHRUNK, step
            old_positions[:] = state.positions
            old_forces[:] = forces
            old = energy, virial
            old_box = state.box.copy()
            state.positions[:] *= scale
            state.box[:] *= scale
            neighbors = _refresh(neighbors, state, system, reach, r_max)
            energy, virial = pair_forces(
                state.positions, state.box, neighbors, system, True, forces
            )
            work = energy - old[0] + conditions.pressure * change - (n_sites + 1) * thermal * grown
            work += volume_energy(volume + change, system) - volume_energy(volume, system)
            chance = 1.0 if work <= 0.0 else math.exp(-work / thermal)
            if random.random() < chance:
                state.attempts[1] += 1
            else:
                energy, virial = old
                state.positions[:] = old_positions
                forces[:] = old_forces
                state.box[:] = old_box
                neighbors = _refresh(neighbors, state, system, reach, r_max)
            _tune(state, chance, step <= n_equilibration)
        if is_sample:
            k = sampled // conditions.sample_interval - 1
            volume = state.box[0] * state.box[1] * state.box[2]
            heat = kinetic_temperature(state.velocities, system.masses)
            if not heat <= MAX_HEAT * conditions.temperature:
                return HEATED, step
            samples.volume[k] = volume
            samples.temperature[k] = heat
            samples.energy[k] = energy + volume_energy(volume, system)
            samples.pressure[k] = (system.n_molecules * thermal + virial / 3.0) / volume
            observe_pairs(
                state.positions,
                state.box,
                neighbors,
                system,
                rdf_range,
                volume,
                samples.pair_sums[k],
                samples.rdf[k * n_blocks // n_samples],
            )
            for m in range(n_kept):
                if k == (m + 1) * n_samples // n_kept - 1:
                    samples.kept[m] = state.positions
                    samples.kept_box[m] = state.box
    return DONE, first + n_steps
