"""Langevin dynamics (BAOAB) with a Monte Carlo barostat, compiled as one loop over steps."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from remcg.engine.kernels import (
    FORCES,
    OBSERVED,
    Sites,
    all_forces,
    basis_sums,
    no_sums,
    volume_energy,
)
from remcg.engine.neighbors import FAST, box_heights, build_list, is_valid, sort_into_cells
from remcg.engine.threads import threaded_forces
from remcg.units import KB

SKIN = 0.10  # nm
MAX_MOVE = 0.5  # nm in one step: hundreds of times the thermal one
MAX_HEAT = 20.0  # kinetic over set temperature
TARGET_ACCEPTANCE = 0.5
MAX_VOLUME_STEP = 0.3  # of the volume
LEVER_SAMPLES = 10  # from one sample with levers to the next: their mean varies little

DONE, MOVED, HEATED, SHRUNK = range(4)


class Conditions(NamedTuple):
    """Ensemble and integrator: K; kJ/mol/nm^3 (ignored unless is_npt); ps; 1/ps; steps.

    scaled (n_moves, 3): by which powers of V'/V a volume move of each kind scales x, y, z.
    """

    temperature: float
    is_npt: bool
    pressure: float
    scaled: np.ndarray
    timestep: float
    friction: float
    barostat_interval: int
    sample_interval: int
    threads: int


class State(NamedTuple):
    """What changes in a run: positions, velocities (n_sites, 3) in nm, nm/ps, molecules whole; box
    (3, 3) in nm; volume_step (n_moves,): greatest trial change of ln V; attempts (n_moves, 2):
    trials, accepted ones."""

    positions: np.ndarray
    velocities: np.ndarray
    box: np.ndarray
    volume_step: np.ndarray
    attempts: np.ndarray


class Samples(NamedTuple):
    """Where samples go: first axis n_samples, but rdf (n_blocks, C, n_bins) sums V per pair over
    a block; kept (n_kept, n_sites, 3) and kept_box (n_kept, 3, 3) are evenly spaced configurations.

    pressure (n_samples, 3, 3): N_mol kT/V plus the virial of the molecules, without the volume
    term; levers (2, C, n_bins): sum over pairs of :func:`add_levers` and their number, zero where
    every site is a molecule.
    """

    site_sums: np.ndarray
    volume: np.ndarray
    energy: np.ndarray
    pressure: np.ndarray
    temperature: np.ndarray
    rdf: np.ndarray
    kept: np.ndarray
    kept_box: np.ndarray
    levers: np.ndarray


@njit(cache=True)
def box_volume(box):
    """Volume of a box (3, 3) with lower-triangular rows, nm^3."""
    return box[0, 0] * box[1, 1] * box[2, 2]


@njit(cache=True)
def centres(positions, sites, result):
    """Centres of mass of the molecules, shape (n_molecules, 3)."""
    result[:] = 0.0
    for i in range(positions.shape[0]):
        m = sites.molecule[i]
        share = sites.masses[i] / sites.molecule_mass[m]
        for d in range(3):
            result[m, d] += share * positions[i, d]


@njit(cache=True)
def wrap(positions, box, sites):
    """Move whole molecules so that their centres are in the box."""
    middle = np.empty((sites.molecule_mass.shape[0], 3))
    centres(positions, sites, middle)
    for m in range(middle.shape[0]):
        x, y, z = middle[m, 0], middle[m, 1], middle[m, 2]
        c = math.floor(z / box[2, 2])
        b = math.floor((y - c * box[2, 1]) / box[1, 1])
        a = math.floor((x - b * box[1, 0] - c * box[2, 0]) / box[0, 0])
        for d in range(3):
            middle[m, d] = a * box[0, d] + b * box[1, d] + c * box[2, d]
    for i in range(positions.shape[0]):
        for d in range(3):
            positions[i, d] -= middle[sites.molecule[i], d]


@njit(cache=True)
def arranged(sites, order):
    """The same sites in another order."""
    place = np.empty(order.shape[0], np.int64)
    for k in range(order.shape[0]):
        place[order[k]] = k
    start = np.zeros_like(sites.excluded_start)
    excluded = np.empty_like(sites.excluded)
    count = 0
    for k in range(order.shape[0]):
        for m in range(sites.excluded_start[order[k]], sites.excluded_start[order[k] + 1]):
            excluded[count] = place[sites.excluded[m]]
            count += 1
        start[k + 1] = count
    groups = np.empty_like(sites.groups)
    for g in range(groups.shape[0]):
        for m in range(4):  # of a short group the last ones stand for nothing
            groups[g, m] = place[sites.groups[g, m]]
    return Sites(
        sites.site_types[order],
        sites.masses[order],
        sites.molecule[order],
        sites.molecule_mass,
        start,
        excluded,
        groups,
        sites.term_start,
        sites.term_size,
    )


@njit(cache=True)
def kinetic_temperature(velocities, masses):
    """2 K / (3 N k), K: Langevin dynamics has no conserved momentum."""
    total = 0.0
    for i in range(velocities.shape[0]):
        for d in range(3):
            total += masses[i] * velocities[i, d] ** 2
    return total / (3.0 * KB * velocities.shape[0])


@njit(cache=True)
def molecular_pressure(x, box, sites, forces, virial, thermal, pressure):
    """Fill N_mol kT/V + W/V with W the virial of the forces between centres, kJ/mol/nm^3.

    W = sum over pairs of r_ij (x) F_ij - sum over sites of (r_i - R_molecule) (x) F_i.
    """
    n_molecules = sites.molecule_mass.shape[0]
    volume = box_volume(box)
    pressure[:] = virial[:, :3]
    if n_molecules < x.shape[0]:
        middle = np.empty((n_molecules, 3))
        centres(x, sites, middle)
        for i in range(x.shape[0]):
            for a in range(3):
                arm = x[i, a] - middle[sites.molecule[i], a]
                for b in range(3):
                    pressure[a, b] -= arm * forces[i, b]
    for a in range(3):
        pressure[a, a] += n_molecules * thermal
        for b in range(3):
            pressure[a, b] /= volume


@njit(cache=True)
def add_levers(x, box, neighbors, sites, rdf_range, levers):
    """Add r_ij . (R_I - R_J)/r_ij^2 and 1 of all listed pairs, by channel and distance.

    R are the centres of their molecules: what a pair's force adds to the pressure of molecules,
    relative to what it adds to that of sites. It is 1 for sites that are molecules, and 0 within a
    molecule.
    """
    n_bins = levers.shape[2]
    middle = np.empty((sites.molecule_mass.shape[0], 3))
    centres(x, sites, middle)
    d = np.empty(3)
    for c in range(levers.shape[1]):
        for i in range(x.shape[0]):
            for k in range(neighbors.start[c, i], neighbors.start[c, i + 1]):
                j = neighbors.sites[k]
                for a in range(3):
                    d[a] = x[i, a] - x[j, a]
                for a in range(2, -1, -1):
                    shift = np.round(d[a] / box[a, a])
                    for b in range(a + 1):
                        d[b] -= shift * box[a, b]
                r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
                place = int(math.sqrt(r2) / rdf_range * n_bins)
                if place < n_bins:
                    along = 0.0
                    for a in range(3):
                        arm = x[i, a] - middle[sites.molecule[i], a]
                        arm -= x[j, a] - middle[sites.molecule[j], a]
                        along += d[a] * arm
                    levers[0, c, place] += 1.0 - along / r2
                    levers[1, c, place] += 1.0


@njit(cache=True)
def scale_molecules(x, box, sites, scale, middle):
    """Scale the box, and move whole molecules with their centres."""
    centres(x, sites, middle)
    for i in range(x.shape[0]):
        m = sites.molecule[i]
        for d in range(3):
            x[i, d] += (scale[d] - 1.0) * middle[m, d]
    for a in range(3):
        for d in range(3):
            box[a, d] *= scale[d]


@njit(cache=True, fastmath=FAST)
def _move(x, v, forces, kick, noise, decay, half):
    """First B, A, O and A of BAOAB; returns the greatest squared displacement, nm^2.

    ``kick`` (n_sites,): half a time step over the mass; ``noise`` (n_sites, 3): of the velocities.
    Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013).
    """
    farthest = 0.0
    for i in range(x.shape[0]):
        moved = 0.0
        for d in range(3):
            before = v[i, d] + kick[i] * forces[i, d]
            after = decay * before + noise[i, d]
            step = half * (before + after)
            v[i, d] = after
            x[i, d] += step
            moved += step * step
        if not moved <= farthest and farthest == farthest:  # nan comes in and stays
            farthest = moved
    return farthest


@njit(cache=True, fastmath=FAST)
def _kick(v, forces, kick):
    """Last B of BAOAB."""
    for i in range(v.shape[0]):
        for d in range(3):
            v[i, d] += kick[i] * forces[i, d]


@njit(cache=True)
def _draw(random, width, noise):
    for i in range(noise.shape[0]):
        for d in range(3):
            noise[i, d] = width[i] * random.standard_normal()


@njit(cache=True)
def _refresh(neighbors, x, box, sites, system, reach, r_max):
    """The list if it is still valid, else a new one."""
    if r_max == 0.0 or is_valid(neighbors, x, box, SKIN, r_max):
        return neighbors
    return build_list(x, box, sites, system.channel_of, reach)


@njit(cache=True)
def _forces(threads, x, box, neighbors, sites, system, task, observed, forces):
    if threads > 1:
        return threaded_forces(x, box, neighbors, sites, system, task, observed, forces, threads)
    return all_forces(x, box, neighbors, sites, system, task, observed, forces)


@njit(cache=True)
def _tune(state, move, chance):
    """Robbins-Monro step of the volume step towards the target acceptance."""
    gain = 4.0 / (4.0 + state.attempts[move, 0])
    wanted = state.volume_step[move] * math.exp(gain * (chance - TARGET_ACCEPTANCE))
    state.volume_step[move] = min(wanted, MAX_VOLUME_STEP)


@njit(cache=True, nogil=True)
def advance(
    random, state, sites, system, conditions, samples, rdf_range, first, n_steps, n_equilibration
):
    """Steps first + 1 ... first + n_steps; returns (status, last step done).

    Begins with sites sorted by place, which keeps neighbours close in memory, and a new neighbour
    list, so a run is the same whether or not it was interrupted between two calls. The barostat
    proposes V' = V exp(step * uniform(-1, 1)) and scales the molecules' centres: accepted with
    min(1, exp(-w/kT)), w = dU + dU_V + P dV - (N_mol + 1) kT ln(V'/V), with N_mol + 1 because the
    proposal is uniform in ln V and N_mol centres are scaled. Its step changes only while
    step <= n_equilibration.
    """
    n_sites, n_molecules = state.positions.shape[0], sites.molecule_mass.shape[0]
    thermal = KB * conditions.temperature
    r_max = system.reach.max()
    reach = np.where(system.reach > 0.0, system.reach + SKIN, 0.0)
    box = state.box
    wrap(state.positions, box, sites)
    order = sort_into_cells(state.positions, box, r_max).order[:n_sites]
    sites = arranged(sites, order)
    x, v, forces = np.zeros((n_sites, 4)), np.zeros((n_sites, 4)), np.zeros((n_sites, 4))
    x[:, :3], v[:, :3] = state.positions[order], state.velocities[order]
    old_x, old_forces, old_box = np.zeros((n_sites, 4)), np.zeros((n_sites, 4)), box.copy()
    middle = np.empty((n_molecules, 3))
    noise = np.zeros((n_sites, 3))
    half = 0.5 * conditions.timestep
    kick = half / sites.masses
    decay = math.exp(-conditions.friction * conditions.timestep)
    width = np.sqrt((1.0 - decay * decay) * thermal / sites.masses)
    n_samples, n_blocks, n_kept = samples.volume.size, samples.rdf.shape[0], samples.kept.shape[0]
    n_bins = samples.rdf.shape[2]
    observed = no_sums(system, n_bins, rdf_range)
    neighbors = build_list(x, box, sites, system.channel_of, reach)
    energy = _forces(conditions.threads, x, box, neighbors, sites, system, FORCES, observed, forces)
    status, last = DONE, first + n_steps
    for step in range(first + 1, first + n_steps + 1):
        is_trial = conditions.is_npt and step % conditions.barostat_interval == 0
        sampled = step - n_equilibration
        is_sample = sampled > 0 and sampled % conditions.sample_interval == 0
        if decay < 1.0:
            _draw(random, width, noise)
        if not _move(x, v, forces, kick, noise, decay, half) <= MAX_MOVE * MAX_MOVE:
            status, last = MOVED, step
            break
        neighbors = _refresh(neighbors, x, box, sites, system, reach, r_max)
        task = OBSERVED if is_sample and not is_trial else FORCES
        energy = _forces(
            conditions.threads, x, box, neighbors, sites, system, task, observed, forces
        )
        _kick(v, forces, kick)
        if is_trial:
            move = 0
            if conditions.scaled.shape[0] > 1:
                move = int(random.random() * conditions.scaled.shape[0])
            grown = state.volume_step[move] * (2.0 * random.random() - 1.0)
            scale = np.exp(grown * conditions.scaled[move])
            volume = box_volume(box)
            change = volume * (math.exp(grown) - 1.0)
            old_x[:], old_forces[:], old_box[:], old_energy = x, forces, box, energy
            scale_molecules(x, box, sites, scale, middle)
            if box_heights(box).min() < 2.0 * r_max * (1.0 - 1e-9):
                status, last = SHRUNK, step
                break
            neighbors = _refresh(neighbors, x, box, sites, system, reach, r_max)
            energy = _forces(
                conditions.threads, x, box, neighbors, sites, system, FORCES, observed, forces
            )
            work = energy - old_energy + conditions.pressure * change
            work -= (n_molecules + 1) * thermal * grown
            work += volume_energy(volume + change, n_molecules, system)
            work -= volume_energy(volume, n_molecules, system)
            chance = 1.0 if work <= 0.0 else math.exp(-work / thermal)
            state.attempts[move, 0] += 1
            if random.random() < chance:
                state.attempts[move, 1] += 1
            else:
                x[:], forces[:], box[:], energy = old_x, old_forces, old_box, old_energy
                neighbors = _refresh(neighbors, x, box, sites, system, reach, r_max)
            if step <= n_equilibration:
                _tune(state, move, chance)
            if is_sample:
                _forces(
                    conditions.threads, x, box, neighbors, sites, system, OBSERVED, observed, forces
                )
        if is_sample:
            k = sampled // conditions.sample_interval - 1
            volume = box_volume(box)
            heat = kinetic_temperature(v, sites.masses)
            if not heat <= MAX_HEAT * conditions.temperature:
                status, last = HEATED, step
                break
            samples.volume[k] = volume
            samples.temperature[k] = heat
            samples.energy[k] = energy + volume_energy(volume, n_molecules, system)
            molecular_pressure(x, box, sites, forces, observed.virial, thermal, samples.pressure[k])
            basis_sums(observed, system, samples.site_sums[k])
            if n_bins > 0:
                samples.rdf[k * n_blocks // n_samples] += (
                    volume * observed.counts.sum(axis=1)[:, :n_bins]
                )
            if n_molecules < n_sites and n_bins > 0 and k % LEVER_SAMPLES == 0:
                add_levers(x, box, neighbors, sites, rdf_range, samples.levers)
            for m in range(n_kept):
                if k == (m + 1) * n_samples // n_kept - 1:
                    samples.kept[m][order] = x[:, :3]
                    samples.kept_box[m] = box
    for k in range(n_sites):
        state.positions[order[k]] = x[k, :3]
        state.velocities[order[k]] = v[k, :3]
    return status, last
