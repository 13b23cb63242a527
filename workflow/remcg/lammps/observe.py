"""Samples of configurations that another program made, by the kernels of the own engine."""

import numpy as np

from remcg.engine.dynamics import (
    LEVER_SAMPLES,
    add_levers,
    arranged,
    kinetic_temperature,
    molecular_pressure,
    wrap,
)
from remcg.engine.kernels import OBSERVED, all_forces, basis_sums, no_sums, volume_energy
from remcg.engine.neighbors import build_list, sort_into_cells
from remcg.engine.threads import threaded_forces
from remcg.units import KB


def observe(replica, positions, velocities, box, k=None):
    """Make sample k of a replica from a configuration; its energy without the volume term, kJ/mol.

    Parameters
    ----------
    replica : remcg.engine.replica.Replica
    positions, velocities : ndarray, shape (n_sites, 3)
        nm, nm/ps; molecules whole. Positions are changed: molecules move into the box.
    box : ndarray, shape (3, 3)
        nm.
    k : int, optional
        Without it nothing but the energy is found.
    """
    system, edges, samples = replica.system, replica.rdf_edges, replica.samples
    wrap(positions, box, replica.sites)
    order = sort_into_cells(positions, box, system.reach.max()).order[: len(positions)]
    sites = arranged(replica.sites, order)
    x, forces = np.zeros((2, len(positions), 4))
    x[:, :3] = positions[order]
    neighbors = build_list(x, box, sites, system.channel_of, system.reach)
    observed = no_sums(system, samples.rdf.shape[2], edges[-1])
    summed = x, box, neighbors, sites, system, OBSERVED, observed, forces
    threads = replica.conditions.threads
    energy = threaded_forces(*summed, threads) if threads > 1 else all_forces(*summed)
    if k is not None:
        samples.temperature[k] = kinetic_temperature(velocities, replica.sites.masses)
        _record(replica, x, box, neighbors, sites, order, forces, observed, energy, k)
    return energy


def _record(replica, x, box, neighbors, sites, order, forces, observed, energy, k):
    """Fill sample k as :func:`remcg.engine.dynamics.advance` does."""
    system, samples = replica.system, replica.samples
    n_molecules, volume = replica.topology.n_molecules, float(np.diagonal(box).prod())
    samples.volume[k] = volume
    samples.energy[k] = energy + volume_energy(volume, n_molecules, system)
    thermal = KB * replica.conditions.temperature
    molecular_pressure(x, box, sites, forces, observed.virial, thermal, samples.pressure[k])
    basis_sums(observed, system, samples.site_sums[k])
    n_samples, (n_blocks, _, n_bins) = len(samples.volume), samples.rdf.shape
    counts = observed.counts.sum(axis=1)[:, :n_bins]
    samples.rdf[k * n_blocks // n_samples] += volume * counts
    if n_molecules < len(x) and n_bins and k % LEVER_SAMPLES == 0:
        add_levers(x, box, neighbors, sites, replica.rdf_edges[-1], samples.levers)
    for m in range(len(samples.kept)):
        if k == (m + 1) * n_samples // len(samples.kept) - 1:
            samples.kept[m][order] = x[:, :3]
            samples.kept_box[m] = box
