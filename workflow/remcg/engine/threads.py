"""Forces with the threads of one process, for boxes of tens of thousands of sites."""

import numpy as np
from numba import config, njit, prange, set_num_threads
from numba.np.ufunc.parallel import _launch_threads

from remcg.engine.kernels import OBSERVED, Observed, bonded_forces, pair_forces
from remcg.errors import InputError


def launch_at_most(n_threads):
    """Say, before the first call of a kernel, how many threads this process may start."""
    config.NUMBA_NUM_THREADS = n_threads


def use_threads(n_threads):
    """Let that many threads share the work of :func:`threaded_forces`.

    What these need is loaded also for one thread: numba forgets to do so for a cached kernel whose
    parallel callee came out of the cache when it was compiled, and a call of it would crash.
    """
    _launch_threads()
    if n_threads > config.NUMBA_NUM_THREADS:
        raise InputError(
            f"{n_threads} threads for a process that may start {config.NUMBA_NUM_THREADS}; take"
            " fewer threads, or set NUMBA_NUM_THREADS"
        )
    if n_threads > 1:
        set_num_threads(n_threads)


@njit(cache=True)
def _bounds(neighbors, n_parts):
    """Sites 0 ... n_sites in parts of equally many pairs."""
    n_channels, n_sites = neighbors.start.shape[0], neighbors.start.shape[1] - 1
    total = neighbors.sites.shape[0]
    bounds = np.full(n_parts + 1, n_sites)
    bounds[0] = 0
    part = 1
    for i in range(n_sites):
        count = 0
        for c in range(n_channels):
            count += neighbors.start[c, i] - neighbors.start[c, 0]
        while part < n_parts and count * n_parts >= part * total:
            bounds[part] = i
            part += 1
    return bounds


@njit(cache=True)
def _buffers(n_parts, n_sites, observed):
    a, b, c, d = observed.moments.shape
    e, f, g = observed.counts.shape
    return (
        np.zeros((n_parts, n_sites, 4)),
        np.zeros(n_parts),
        np.zeros((n_parts, a, b, c, d)),
        np.zeros((n_parts, e, f, g), np.int64),
        np.zeros((n_parts, 3, 4)),
    )


@njit(cache=True)
def _gather(moments, counts, virials, observed):
    observed.moments[:] = moments.sum(axis=0)
    observed.counts[:] = counts.sum(axis=0)
    observed.virial[:] = virials.sum(axis=0)


@njit(cache=True, parallel=True)
def threaded_forces(positions, box, neighbors, sites, system, task, observed, forces, n_parts):
    """:func:`remcg.engine.kernels.all_forces` with its pairs in ``n_parts`` parts.

    Each part adds to arrays of its own, which are then summed in the order of the parts: the result
    depends on their number, not on which thread was faster.
    """
    n_sites = positions.shape[0]
    bounds = _bounds(neighbors, n_parts)
    own_forces, energies, moments, counts, virials = _buffers(n_parts, n_sites, observed)
    for part in prange(n_parts):
        p = np.int64(part)
        own = Observed(moments[p], counts[p], virials[p], observed.rdf_range)
        energies[p] = pair_forces(
            positions, box, neighbors, bounds[p], bounds[p + 1], system, task, own, own_forces[p]
        )
    for i in prange(n_sites):
        for d in range(4):
            total = 0.0
            for p in range(n_parts):
                total += own_forces[p, i, d]
            forces[i, d] = total
    if task == OBSERVED:
        _gather(moments, counts, virials, observed)
    return energies.sum() + bonded_forces(positions, sites, system, task, observed, forces)
