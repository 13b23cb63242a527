"""Pairs of sites closer than a distance in a periodic orthorhombic box."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

MIN_CELLS = 4  # per edge: with fewer, the 27 cells around a site are most of the box
MAX_CELLS = 64
# nan and infinity keep their meaning: a blow-up must be seen
FAST = {"reassoc", "contract", "nsz", "arcp"}


class Cells(NamedTuple):
    """Sites sorted into cells; with a grid of one cell there is nothing but ``columns``.

    columns (3, n_sites): wrapped positions, a row per coordinate; grid (3,): cells per edge;
    cell (n_sites,); order (n_sites,): sites sorted by cell; start (n_cells + 1,).
    """

    columns: np.ndarray
    grid: np.ndarray
    cell: np.ndarray
    order: np.ndarray
    start: np.ndarray


class NeighborList(NamedTuple):
    """Half list of neighbours, by site and channel (pair of types).

    The neighbours of site i in channel c are ``sites[start[m]:start[m + 1]]`` with
    m = i * n_channels + c. ``reference`` (n_sites, 3) and ``box`` (3,) are the configuration of
    the last build, ``longest`` the most neighbours of one site in one channel.
    """

    start: np.ndarray
    sites: np.ndarray
    reference: np.ndarray
    box: np.ndarray
    longest: int


@njit(cache=True)
def sort_into_cells(positions, box, r_max):
    """Sort sites into cells at least r_max wide, or into one where cells would not pay."""
    n_sites = positions.shape[0]
    grid = np.ones(3, np.int64)
    if r_max > 0.0 and min(box[0], box[1], box[2]) >= MIN_CELLS * r_max:
        for d in range(3):
            grid[d] = min(int(box[d] / r_max), MAX_CELLS)
    columns = np.empty((3, n_sites))
    cell = np.zeros(n_sites, np.int64)
    for d in range(3):
        for i in range(n_sites):
            fraction = positions[i, d] / box[d]
            fraction -= math.floor(fraction)
            columns[d, i] = fraction * box[d]
            cell[i] = cell[i] * grid[d] + min(int(fraction * grid[d]), grid[d] - 1)
    start = np.zeros(grid[0] * grid[1] * grid[2] + 1, np.int64)
    for i in range(n_sites):
        start[cell[i] + 1] += 1
    start = np.cumsum(start)
    place = start.copy()
    order = np.empty(n_sites, np.int64)
    for i in range(n_sites):
        order[place[cell[i]]] = i
        place[cell[i]] += 1
    return Cells(columns, grid, cell, order, start)


@njit(cache=True)
def _candidates(i, cells, near):
    """Fill ``near`` with the sites j > i in the cells at and around that of i; their number."""
    n_sites = cells.cell.shape[0]
    grid = cells.grid
    if grid[0] == 1:
        for k in range(n_sites - i - 1):
            near[k] = i + 1 + k
        return n_sites - i - 1
    index = cells.cell[i]
    x, y, z = index // (grid[2] * grid[1]), index // grid[2] % grid[1], index % grid[2]
    count = 0
    for a in range(-1, 2):
        for b in range(-1, 2):
            row = ((x + a) % grid[0] * grid[1] + (y + b) % grid[1]) * grid[2]
            for c in range(-1, 2):
                at = row + (z + c) % grid[2]
                for k in range(cells.start[at], cells.start[at + 1]):
                    near[count] = cells.order[k]
                    count += cells.order[k] > i
    return count


@njit(cache=True, fastmath=FAST)
def _squared_distances(i, cells, box, near, count, r2):
    """Squared minimum-image distances of site i from ``near[:count]``."""
    x, y, z = cells.columns
    edge_x, edge_y, edge_z = box[0], box[1], box[2]
    inverse_x, inverse_y, inverse_z = 1.0 / edge_x, 1.0 / edge_y, 1.0 / edge_z
    xi, yi, zi = x[i], y[i], z[i]
    is_row = cells.grid[0] == 1
    for k in range(count):
        j = i + 1 + k if is_row else near[k]
        dx, dy, dz = x[j] - xi, y[j] - yi, z[j] - zi
        dx -= edge_x * np.floor(dx * inverse_x + 0.5)
        dy -= edge_y * np.floor(dy * inverse_y + 0.5)
        dz -= edge_z * np.floor(dz * inverse_z + 0.5)
        r2[k] = dx * dx + dy * dy + dz * dz


@njit(cache=True)
def close_pairs(positions, box, r_max, first, second, distance):
    """Fill the pairs i < j with distance < r_max; return their number.

    A number greater than the length of the buffers says what length they need.
    """
    n_sites = positions.shape[0]
    cells = sort_into_cells(positions, box, r_max)
    near = np.empty(n_sites + 1, np.int64)
    r2 = np.empty(n_sites)
    count = 0
    for i in range(n_sites):
        n_near = _candidates(i, cells, near)
        _squared_distances(i, cells, box, near, n_near, r2)
        for k in range(n_near):
            if r2[k] < r_max * r_max:
                if count < first.shape[0]:
                    first[count], second[count], distance[count] = i, near[k], math.sqrt(r2[k])
                count += 1
    return count


@njit(cache=True)
def build_list(positions, box, site_types, channel_of, reach):
    """Neighbour list of the pairs closer than ``reach`` (n_channels,) of their channel, nm.

    ``channel_of`` (n_types, n_types) is the channel of two types. A channel of no reach is empty.
    """
    n_sites = positions.shape[0]
    n_channels = reach.shape[0]
    cells = sort_into_cells(positions, box, reach.max())
    start = np.zeros(n_sites * n_channels + 1, np.int64)
    sites = np.empty(64 * n_sites, np.int64)
    near = np.empty(n_sites + 1, np.int64)
    r2 = np.empty(n_sites)
    count = 0
    longest = 0
    for i in range(n_sites):
        n_near = _candidates(i, cells, near)
        _squared_distances(i, cells, box, near, n_near, r2)
        if sites.shape[0] < count + n_near + 1:
            grown = np.empty(2 * sites.shape[0] + n_near + 1, np.int64)
            grown[:count] = sites[:count]
            sites = grown
        for c in range(n_channels):
            limit = reach[c] * reach[c]
            before = count
            if n_channels == 1:
                for k in range(n_near):
                    sites[count] = near[k]
                    count += r2[k] < limit
            else:
                for k in range(n_near):
                    sites[count] = near[k]
                    is_near = r2[k] < limit
                    count += is_near & (channel_of[site_types[i], site_types[near[k]]] == c)
            start[i * n_channels + c + 1] = count
            longest = max(longest, count - before)
    return NeighborList(start, sites, positions.copy(), box.copy(), longest)


@njit(cache=True)
def is_valid(neighbors, positions, box, skin, r_max):
    """Whether the list still holds every pair within its range.

    A pair now closer than r was, at the last build, closer than (r + 2 d)/s, with d the greatest
    displacement from the scaled reference and s the growth of the box; listed were r + skin.
    """
    scale = box[0] / neighbors.box[0]
    slack = skin * scale + min(0.0, scale - 1.0) * r_max
    if slack <= 0.0:
        return False
    limit = 0.25 * slack * slack
    for i in range(positions.shape[0]):
        moved = 0.0
        for d in range(3):
            step = positions[i, d] - scale * neighbors.reference[i, d]
            moved += step * step
        if moved > limit:
            return False
    return True
