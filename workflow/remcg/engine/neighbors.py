"""Pairs of sites closer than a distance, in orthorhombic and triclinic periodic boxes."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from remcg.engine.simd import append_close, append_shifted

CELLS_PER_REACH = 2.0
SPARE = 4  # entries beyond the end that a loop by four may touch
# nan and infinity keep their meaning: a blow-up must be seen
FAST = {"reassoc", "contract", "nsz", "arcp"}


class Cells(NamedTuple):
    """Sites sorted into cells of equal fractions of the box vectors.

    columns (3, n_sites + SPARE): positions in the box, cell (n_sites,), order (n_sites + SPARE,):
    which site, all sorted by cell; start (n_cells + 1,); grid (3,): cells along a, b, c, one in all
    where all pairs are candidates; span (3,): cells that a reach may touch; heights (3,) of the
    box; reach: greatest distance of interest, nm.
    """

    n_sites: int
    columns: np.ndarray
    cell: np.ndarray
    order: np.ndarray
    start: np.ndarray
    grid: np.ndarray
    span: np.ndarray
    box: np.ndarray
    heights: np.ndarray
    skew: bool
    reach: float


class Surroundings(NamedTuple):
    """Sites of a cell and of those around it: columns (3, n), names (n,), count (1,)."""

    columns: np.ndarray
    names: np.ndarray
    count: np.ndarray


class NeighborList(NamedTuple):
    """Half list of neighbours by channel (pair of types) and site.

    The neighbours of site i in channel c are ``sites[start[c, i]:start[c, i + 1]]``. ``reference``
    (n_sites, 4) and ``box`` (3, 3) are the configuration of the last build, ``longest`` the most
    neighbours of one site in one channel.
    """

    start: np.ndarray
    sites: np.ndarray
    reference: np.ndarray
    box: np.ndarray
    longest: int


@njit(cache=True)
def box_heights(box):
    """Distances between opposite faces of a lower-triangular box, nm."""
    a, b, c = box[0], box[1], box[2]
    x, y, z = b[1] * c[2], -b[0] * c[2], b[0] * c[1] - b[1] * c[0]
    heights = np.empty(3)
    heights[0] = a[0] * b[1] * c[2] / math.sqrt(x * x + y * y + z * z)
    heights[1] = b[1] * c[2] / math.sqrt(c[1] * c[1] + c[2] * c[2])
    heights[2] = c[2]
    return heights


@njit(cache=True)
def is_skew(box):
    """Whether a box (3, 3) with lower-triangular rows is not orthorhombic."""
    return box[1, 0] != 0.0 or box[2, 0] != 0.0 or box[2, 1] != 0.0


@njit(cache=True)
def _choose_grid(box, n_sites, reach):
    """Cells along a, b, c: half a reach wide, but not more of them than sites."""
    grid = np.ones(3, np.int64)
    heights = box_heights(box)
    if reach <= 0.0 or heights.min() < 2.0 * reach or n_sites < 2:
        return grid
    volume = box[0, 0] * box[1, 1] * box[2, 2]
    width = max(reach / CELLS_PER_REACH, (volume / n_sites) ** (1.0 / 3.0))
    for d in range(3):
        grid[d] = max(1, int(heights[d] / width))
    return grid


@njit(cache=True)
def sort_into_cells(positions, box, reach):
    """Sort sites into cells, or into one where the box is less than two reaches wide."""
    n_sites = positions.shape[0]
    grid = _choose_grid(box, n_sites, reach)
    fractions = np.empty((3, n_sites))
    cell = np.empty(n_sites, np.int64)
    start = np.zeros(grid[0] * grid[1] * grid[2] + 1, np.int64)
    for i in range(n_sites):
        c = positions[i, 2] / box[2, 2]
        b = (positions[i, 1] - c * box[2, 1]) / box[1, 1]
        a = (positions[i, 0] - b * box[1, 0] - c * box[2, 0]) / box[0, 0]
        a, b, c = a - math.floor(a), b - math.floor(b), c - math.floor(c)
        fractions[0, i], fractions[1, i], fractions[2, i] = a, b, c
        k = 0
        if a >= 0.0 and b >= 0.0 and c >= 0.0:  # not nan, of which an integer would be anything
            k = min(int(a * grid[0]), grid[0] - 1) * grid[1] + min(int(b * grid[1]), grid[1] - 1)
            k = k * grid[2] + min(int(c * grid[2]), grid[2] - 1)
        cell[i] = k
        start[k + 1] += 1
    for k in range(start.size - 1):
        start[k + 1] += start[k]
    place = start.copy()
    order = np.zeros(n_sites + SPARE, np.int32)
    for i in range(n_sites):
        order[place[cell[i]]] = i
        place[cell[i]] += 1
    columns = np.zeros((3, n_sites + SPARE))
    for k in range(n_sites):
        a, b, c = fractions[0, order[k]], fractions[1, order[k]], fractions[2, order[k]]
        columns[0, k] = a * box[0, 0] + b * box[1, 0] + c * box[2, 0]
        columns[1, k] = b * box[1, 1] + c * box[2, 1]
        columns[2, k] = c * box[2, 2]
    heights = box_heights(box)
    span = (reach / heights * grid).astype(np.int64) + 1
    return Cells(
        n_sites, columns, np.sort(cell), order, start, grid, span, box, heights, is_skew(box), reach
    )


@njit(cache=True)
def no_surroundings(cells):
    """Empty room for the surroundings of the fullest cell."""
    most = 0
    for k in range(cells.start.shape[0] - 1):
        most = max(most, cells.start[k + 1] - cells.start[k])
    a, b, c = cells.span
    size = min((a + 1) * (2 * b + 1) * (2 * c + 1) * most, 27 * cells.n_sites) + SPARE
    return Surroundings(np.empty((3, size)), np.empty(size, np.int32), np.zeros(1, np.int64))


@njit(cache=True)
def close_to(i, cells, around, near):
    """Fill ``near`` with sites closer than the reach to the i-th sorted site; return their number.

    To be called for all i in turn. Each pair is found from one of its two sites; ``near`` holds
    n_sites + 3.
    """
    if cells.reach <= 0.0:
        return 0
    if cells.start.shape[0] == 2:
        return _close_images(i, cells, near)
    cell = cells.cell[i]
    if i == cells.start[cell]:
        _look_around(cell, cells, around)
    x, y, z = cells.columns[0, i], cells.columns[1, i], cells.columns[2, i]
    first, last, limit = i - cells.start[cell] + 1, around.count[0], cells.reach * cells.reach
    xs, ys, zs = around.columns[0], around.columns[1], around.columns[2]
    return append_close(xs, ys, zs, around.names, x, y, z, first, last, limit, near, 0)


@njit(cache=True)
def _close_images(i, cells, near):
    """All later sites whose nearest image is close, in a box of one cell."""
    columns, box, count = cells.columns, cells.box, 0
    # the nearest image by rounding is the nearest up to half a height: list all where skew
    limit = np.inf if is_skew(box) else cells.reach * cells.reach
    edge_x, edge_y, edge_z = box[0, 0], box[1, 1], box[2, 2]
    x, y, z = columns[0, i], columns[1, i], columns[2, i]
    for k in range(i + 1, cells.n_sites):
        dx, dy, dz = abs(columns[0, k] - x), abs(columns[1, k] - y), abs(columns[2, k] - z)
        dx, dy, dz = min(dx, edge_x - dx), min(dy, edge_y - dy), min(dz, edge_z - dz)
        near[count] = cells.order[k]
        count += not dx * dx + dy * dy + dz * dz >= limit
    return count


@njit(cache=True)
def _look_around(cell, cells, around):
    """Gather the sites of a cell, and after them those of half of the cells within reach."""
    grid, span, heights = cells.grid, cells.span, cells.heights
    own_c = cell % grid[2]
    own_b = cell // grid[2] % grid[1]
    own_a = cell // (grid[2] * grid[1])
    limit = cells.reach * cells.reach
    around.count[0] = 0
    _gather(cell, cell, 0, 0, 0, cells, around)
    for da in range(span[0] + 1):
        gap_a = max(da - 1, 0) * heights[0] / grid[0]
        row_a, image_a = own_a + da, 0
        if row_a >= grid[0]:
            row_a, image_a = row_a - grid[0], 1
        for db in range(-span[1] if da > 0 else 0, span[1] + 1):
            gap_b = max(abs(db) - 1, 0) * heights[1] / grid[1]
            rest = limit - gap_a**2 - gap_b**2
            if cells.skew:  # gaps along skew axes do not add up
                rest = limit if max(gap_a, gap_b) < cells.reach else 0.0
            if rest <= 0.0:
                continue
            row_b, image_b = own_b + db, 0
            if row_b >= grid[1]:
                row_b, image_b = row_b - grid[1], 1
            elif row_b < 0:
                row_b, image_b = row_b + grid[1], -1
            row = (row_a * grid[1] + row_b) * grid[2]
            reach_c = min(int(math.sqrt(rest) / heights[2] * grid[2]) + 1, span[2])
            low, high = own_c - reach_c, own_c + reach_c
            if da == 0 and db == 0:
                low = own_c + 1
            for image_c in range(-1 if low < 0 else 0, 2 if high >= grid[2] else 1):
                first = max(low - image_c * grid[2], 0)
                last = min(high - image_c * grid[2], grid[2] - 1)
                if first <= last:
                    _gather(row + first, row + last, image_a, image_b, image_c, cells, around)


@njit(cache=True)
def _gather(first, last, image_a, image_b, image_c, cells, around):
    """Append the sites of cells first ... last, as images by a number of box vectors."""
    box, columns = cells.box, cells.columns
    x = image_a * box[0, 0] + image_b * box[1, 0] + image_c * box[2, 0]
    y = image_b * box[1, 1] + image_c * box[2, 1]
    z = image_c * box[2, 2]
    around.count[0] = append_shifted(
        columns[0], columns[1], columns[2], cells.order, cells.start[first], cells.start[last + 1],
        x, y, z, around.columns[0], around.columns[1], around.columns[2], around.names,
        around.count[0],
    )  # fmt: skip


@njit(cache=True)
def close_pairs(positions, box, r_max, first, second, distance):
    """Fill the pairs with distance < r_max <= half the least height; return their number.

    A number greater than the length of the buffers says what length they need.
    """
    n_sites = positions.shape[0]
    cells = sort_into_cells(positions, box, r_max)
    near, around = np.empty(n_sites + 3, np.int32), no_surroundings(cells)
    count = 0
    for k in range(n_sites):
        i = cells.order[k]
        for m in range(close_to(k, cells, around, near)):
            j = near[m]
            r = _image_distance(positions, i, j, box)
            if r < r_max:
                if count < first.shape[0]:
                    first[count], second[count], distance[count] = min(i, j), max(i, j), r
                count += 1
    return count


@njit(cache=True)
def to_nearest_image(step, box):
    """Make a step (3,) between two sites the one to the nearest image, in place."""
    for d in range(2, -1, -1):
        n = np.floor(step[d] / box[d, d] + 0.5)
        for e in range(d + 1):
            step[e] -= n * box[d, e]


@njit(cache=True)
def _image_distance(positions, i, j, box):
    dx = positions[i, 0] - positions[j, 0]
    dy = positions[i, 1] - positions[j, 1]
    dz = positions[i, 2] - positions[j, 2]
    n = math.floor(dz / box[2, 2] + 0.5)
    dx, dy, dz = dx - n * box[2, 0], dy - n * box[2, 1], dz - n * box[2, 2]
    n = math.floor(dy / box[1, 1] + 0.5)
    dx, dy = dx - n * box[1, 0], dy - n * box[1, 1]
    dx -= math.floor(dx / box[0, 0] + 0.5) * box[0, 0]
    return math.sqrt(dx * dx + dy * dy + dz * dz)


@njit(cache=True)
def build_list(positions, box, sites, channel_of, reach):
    """Neighbour list of all pairs closer than the greatest ``reach`` (n_channels,), nm.

    ``channel_of`` (n_types, n_types) is the channel of two types. A channel of no reach is empty,
    and excluded pairs of ``sites`` (:class:`remcg.engine.kernels.Sites`) are left out.
    """
    n_sites, n_channels = positions.shape[0], reach.shape[0]
    cells = sort_into_cells(positions, box, reach.max())
    near, around = np.empty(n_sites + 3, np.int32), no_surroundings(cells)
    has_exclusions = sites.excluded.shape[0] > 0
    mark = np.full(n_sites if has_exclusions else 0, -1, np.int64)
    found = np.empty(64 * n_sites + 1, np.int32)
    run = np.zeros((n_sites, n_channels + 1), np.int64)  # by site, where its channels begin
    count = 0
    for k in range(n_sites):
        i = cells.order[k]
        n_near = close_to(k, cells, around, near)
        if found.shape[0] < count + n_near + 1:
            grown = np.empty(2 * found.shape[0] + n_near, np.int32)
            grown[:count] = found[:count]
            found = grown
        if has_exclusions:
            for m in range(sites.excluded_start[i], sites.excluded_start[i + 1]):
                mark[sites.excluded[m]] = i
            n_kept = 0
            for m in range(n_near):
                near[n_kept] = near[m]
                n_kept += mark[near[m]] != i
            n_near = n_kept
        own_type = sites.site_types[i]
        for c in range(n_channels):
            run[i, c] = count
            if n_channels == 1:
                found[count : count + n_near] = near[:n_near]
                count += n_near
            elif reach[c] > 0.0:
                for m in range(n_near):
                    found[count] = near[m]
                    count += channel_of[own_type, sites.site_types[near[m]]] == c
        run[i, n_channels] = count
    return _by_channel(found, run, positions.copy(), box.copy())


@njit(cache=True)
def _by_channel(found, run, reference, box):
    """Runs of neighbours, in any order of sites, as a list by channel and site."""
    n_sites, n_channels = run.shape[0], run.shape[1] - 1
    start = np.zeros((n_channels, n_sites + 1), np.int64)
    total, longest = 0, 0
    for c in range(n_channels):
        for i in range(n_sites):
            start[c, i] = total
            length = run[i, c + 1] - run[i, c]
            longest = max(longest, length)
            total += length
        start[c, n_sites] = total
    sites = np.empty(total, np.int32)
    for c in range(n_channels):
        for i in range(n_sites):
            offset = start[c, i] - run[i, c]
            for m in range(run[i, c], run[i, c + 1]):
                sites[m + offset] = found[m]
    return NeighborList(start, sites, reference, box, longest)


@njit(cache=True, fastmath=FAST)
def _farthest(positions, reference, scale):
    """Greatest squared displacement from the scaled reference."""
    farthest = 0.0
    sx, sy, sz = scale[0], scale[1], scale[2]
    for i in range(positions.shape[0]):
        dx = positions[i, 0] - sx * reference[i, 0]
        dy = positions[i, 1] - sy * reference[i, 1]
        dz = positions[i, 2] - sz * reference[i, 2]
        farthest = max(farthest, dx * dx + dy * dy + dz * dz)
    return farthest


@njit(cache=True)
def is_valid(neighbors, positions, box, skin, r_max):
    """Whether the list still holds every pair within its range.

    A pair now closer than r was, at the last build, closer than (r + 2 d)/s, with d the greatest
    displacement from the scaled reference and s the least growth of an edge; listed were r + skin.
    """
    scale = np.empty(3)
    for d in range(3):
        scale[d] = box[d, d] / neighbors.box[d, d]
    least = scale.min()
    slack = skin * least + min(0.0, least - 1.0) * r_max
    if slack <= 0.0:
        return False
    return _farthest(positions, neighbors.reference, scale) <= 0.25 * slack * slack
