r"""Static structure factors, angles between neighbours and coordination numbers of configurations.

.. math:: S_{ab}(\mathbf k) = \frac{\langle \rho_a(\mathbf k) \rho_b^*(\mathbf k) \rangle}
          {\sqrt{N_a N_b}}, \qquad \rho_a(\mathbf k) = \sum_{i \in a} e^{-i \mathbf k \mathbf r_i}

on the wave vectors that the periodic box of each frame allows, averaged over directions; an ideal
gas has 1 for like and 0 for unlike types (Ashcroft and Langreth, Phys. Rev. 156, 685 (1967)).
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from remcg.boxes import heights, many
from remcg.engine.neighbors import to_nearest_image
from remcg.errors import InputError
from remcg.pairs import _checked, _PairFinder, shell_volumes
from remcg.statistics import mean_and_error

MOST_VECTORS = 80  # of a bin in k
N_BLOCKS = 10
ANGLE_BINS = 60  # of 3 degrees
MOST_NEIGHBORS = 40
NARROW = 0.05  # of the distance of neighbours, by which g(r) is smoothed to find its first minimum
RISE, SIGNIFICANT = 0.06, 5.0  # of g(r) on both sides of that; standard errors
SHARE, LEAST_BINS = 0.25, 1.5  # widths of a local fit: of the distance from the peak; bins
MOST_FITS, SETTLED = 100, 1e-6


class WaveVectors(NamedTuple):
    """Integer wave vectors (h, k, l) of a box, one of each pair of opposite ones, in bins.

    indices (n_vectors, 3); bins (n_vectors,): bin of each; k (n_bins,): mean length, 1/nm.
    """

    indices: np.ndarray
    bins: np.ndarray
    k: np.ndarray


class Local(NamedTuple):
    """Neighbours within the first shell, of every ordered pair of types (centre, neighbour).

    angles (n_blocks, n_types, n_types, ANGLE_BINS): numbers of neighbour-centre-neighbour angles in
    equal bins from 0 to pi; coordination (n_blocks, n_types, n_types, MOST_NEIGHBORS + 1): numbers
    of centres with so many neighbours.
    """

    angles: np.ndarray
    coordination: np.ndarray


def wave_vectors(box, k_max, most=MOST_VECTORS):
    """Wave vectors up to k_max of a box, in bins of half the smallest wave vector.

    Parameters
    ----------
    box : ndarray, shape (3,) or (3, 3)
        Mean edges or vectors, nm.
    k_max : float
        1/nm.
    most : int
        Of a bin; of more, evenly spaced ones in the order of their length are taken.

    Returns
    -------
    WaveVectors
        Empty bins are left out.
    """
    box = many(np.asarray(box)[None])[0]
    reciprocal = 2.0 * np.pi * np.linalg.inv(box)  # columns are the reciprocal vectors
    n_max = np.floor(k_max * np.linalg.norm(box, axis=1) / (2.0 * np.pi)).astype(int)
    if k_max <= 2.0 * np.pi / heights(box[None])[0].max():
        raise InputError(
            f"k_max of {k_max:g}/nm is below the smallest wave vector of the box; give a larger one"
        )
    ranges = [np.arange(-n, n + 1) for n in n_max]
    grid = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[len(grid) // 2 + 1 :]  # one of n and -n, without zero
    length = np.linalg.norm(grid @ reciprocal.T, axis=1)
    width = np.pi / heights(box[None])[0].max()
    order = np.lexsort((*grid.T, np.round(length, 9)))
    order = order[length[order] <= k_max]
    bins = np.floor(length[order] / width).astype(int)
    chosen, number, means = [], [], []
    for each in np.unique(bins):
        members = order[bins == each]
        if len(members) > most:
            members = members[np.linspace(0, len(members) - 1, most).round().astype(int)]
        chosen.append(members)
        number.append(np.full(len(members), len(means)))
        means.append(length[members].mean())
    indices = np.ascontiguousarray(grid[np.concatenate(chosen)], np.int64)
    return WaveVectors(indices, np.concatenate(number), np.array(means))


@njit(cache=True)
def _densities(positions, inverse, indices, n_max, types, density):
    """Add exp(-i k r) of every site to ``density`` (n_types, n_vectors), complex."""
    powers = np.empty((3, n_max + 1), np.complex128)
    for i in range(positions.shape[0]):
        for d in range(3):
            phase = 0.0
            for e in range(3):
                phase += positions[i, e] * inverse[e, d]
            phase *= 2.0 * np.pi
            unit = np.cos(phase) - 1j * np.sin(phase)
            powers[d, 0] = 1.0
            for n in range(n_max):
                powers[d, n + 1] = powers[d, n] * unit
        row = density[types[i]]
        for v in range(indices.shape[0]):
            product = 1.0 + 0.0j
            for d in range(3):
                n = indices[v, d]
                product *= powers[d, n] if n >= 0 else np.conj(powers[d, -n])
            row[v] += product


def structure_factors(positions, boxes, site_types, n_types, vectors, n_blocks=N_BLOCKS):
    """Partial structure factors, averaged over the wave vectors of a bin and blocks of frames.

    The same integer vectors belong to the same bin in all frames, whatever their boxes.

    Parameters
    ----------
    positions : ndarray, shape (n_frames, n_sites, 3)
        nm, in any periodic image.
    boxes : ndarray, shape (n_frames, 3) or (n_frames, 3, 3)
    site_types : ndarray of int, shape (n_sites,)
    n_types : int
    vectors : WaveVectors
    n_blocks : int
        At most the number of frames.

    Returns
    -------
    ndarray, shape (n_blocks, n_pairs, n_bins)
        Pairs (a, b) of types with a <= b, in order.
    """
    positions, boxes, types = _checked(positions, boxes, site_types, 0.0)
    counts = np.bincount(types, minlength=n_types)
    pairs = [(a, b) for a in range(n_types) for b in range(a, n_types)]
    size, n_max = np.bincount(vectors.bins), int(np.abs(vectors.indices).max())
    result = np.zeros((min(n_blocks, len(positions)), len(pairs), len(size)))
    for block, frames in enumerate(np.array_split(np.arange(len(positions)), len(result))):
        for frame in frames:
            density = np.zeros((n_types, len(vectors.indices)), complex)
            inverse = np.linalg.inv(boxes[frame])
            _densities(positions[frame], inverse, vectors.indices, n_max, types, density)
            for p, (a, b) in enumerate(pairs):
                product = (density[a] * density[b].conj()).real
                norm = max(np.sqrt(counts[a] * counts[b]), 1.0) * len(frames)
                result[block, p] += np.bincount(vectors.bins, product) / size / norm
    return result


def structure_factor_from_rdf(edges, g, density, k, closed=None, same=True):
    r"""Structure factor of one pair of types by Fourier transform of its g(r).

    .. math:: S(k) = \delta_{ab} + 4\pi\rho \int_0^R r^2 (g(r) - 1) \frac{\sin kr}{kr} W(r)\,dr

    with the Lorch window :math:`W = \sin(\pi r/R)/(\pi r/R)`, which keeps the truncation at R from
    rippling and smooths S over about pi/R. A closed box of N sites has a tail below 1; g is divided
    by what is left in the rest of the box,

    .. math:: g_\infty = g\,\frac{N(1 - V_r/V)}{N(1 - V_r/V) - \Delta N(r) - \delta_{ab}}, \qquad
              \Delta N(r) = \rho \int_0^r 4\pi r'^2 (g - 1) dr'

    for g normalised by the N - 1 (or N) other sites. Bins are integrated exactly, g constant in
    each.

    Parameters
    ----------
    edges, g : ndarray, shape (n_bins + 1,) in nm, (n_bins,)
        From 0 to R, at most half the box.
    density : float
        sqrt(rho_a rho_b), 1/nm^3.
    k : ndarray, 1/nm
        Reliable above pi/R.
    closed : (int, float), optional
        Sites of the second type in the box, and its volume in nm^3; without it there is no
        finite-size correction.
    same : bool
        Like types.

    Returns
    -------
    ndarray, shape of k

    References
    ----------
    Ganguly and van der Vegt, J. Chem. Theory Comput. 9, 1347 (2013), eq. 10; Lorch, J. Phys. C 2,
    229 (1969).
    """
    r, r_max = 0.5 * (edges[1:] + edges[:-1]), edges[-1]
    shells = shell_volumes(edges)
    if closed:
        n_sites, volume = closed
        around = (n_sites - same) / volume * shells * g
        inner = np.cumsum(around) - 0.5 * around
        left = (n_sites - same - inner) / (n_sites * (1.0 - 4.0 / 3.0 * np.pi * r**3 / volume))
        g = g * (n_sites - same) / n_sites / np.where(left > 0.1, left, 1.0)
    window = np.sinc(r / r_max)
    k = np.maximum(np.asarray(k, float), 1e-9)[..., None]
    x = k * edges
    moments = (np.sin(x) - x * np.cos(x)) / k**3
    kernel = 4.0 * np.pi * np.diff(moments, axis=-1)
    return float(same) + density * kernel @ ((g - 1.0) * window)


def first_minimum(edges, blocks):
    r"""Distance of the first minimum of g(r) behind its first peak, nm.

    It is found roughly in g smoothed by NARROW of the distance where g first exceeds 1: the first
    minimum that both its sides exceed by RISE (of g there, where that is above 1) and SIGNIFICANT
    standard errors. Then it is the point r that is itself the minimum of the cubic polynomial
    fitted to g with the weights

    .. math:: \exp\left[-\tfrac12 (r_b - r)^2/\sigma^2\right], \qquad
              \sigma = s\,(r - r_{peak}), \quad s = \tfrac14,

    which moves with g, not from bin to bin: noise of g changes it in proportion, and states whose g
    differ little have radii that differ little.

    Parameters
    ----------
    edges : ndarray, shape (n_bins + 1,), nm
    blocks : ndarray, shape (n_blocks, n_bins)
        g(r) of blocks of frames.

    Returns
    -------
    float
        The last edge where there is no such minimum.

    References
    ----------
    Cleveland, J. Am. Stat. Assoc. 74, 829 (1979), on local polynomial fits.
    """
    r, g = 0.5 * (edges[1:] + edges[:-1]), blocks.mean(axis=0)
    width = edges[1] - edges[0]
    if not (g > 1.0).any():
        return float(edges[-1])
    smooth = _smoothed(blocks, max(NARROW * r[np.argmax(g > 1.0)] / width, 1.0))
    found = _rough_minimum(*mean_and_error(smooth))
    if found is None:
        return float(edges[-1])
    peak, lowest = found
    top = r[peak] + width * _vertex(smooth.mean(axis=0)[peak - 1 : peak + 2])
    return float(_settled_minimum(r, g, r[lowest], top, LEAST_BINS * width))


def _smoothed(rows, deviation):
    """Rows averaged with Gaussian weights; ``deviation`` is in bins."""
    reach = int(np.ceil(4.0 * deviation))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    weights /= weights.sum()
    padded = np.pad(rows, ((0, 0), (reach, reach)), mode="edge")
    return np.array([np.convolve(row, weights, mode="valid") for row in padded])


def _rough_minimum(g, error):
    """Bins of a peak and of the first minimum behind it that is more than noise, or None."""
    if not (g > 1.0).any():
        return None
    peak = lowest = int(np.argmax(g > 1.0))

    def differs(a, b):
        least = max(RISE * max(g[lowest], 1.0), SIGNIFICANT * np.hypot(error[a], error[b]))
        return g[a] - g[b] > least

    for here in range(peak, len(g)):
        if g[here] < g[lowest]:
            lowest = here
        elif differs(here, lowest) and differs(peak, lowest):
            return max(peak, 1), lowest
        elif g[here] > g[peak]:
            peak = lowest = here
    return None


def _vertex(three):
    """Place of the extremum of the parabola through three values at -1, 0 and 1."""
    bend = three[0] - 2.0 * three[1] + three[2]
    return 0.5 * (three[0] - three[2]) / bend if bend < 0.0 else 0.0


def _settled_minimum(r, g, start, peak, least):
    """The r that is the minimum of the cubic fitted around itself, see :func:`first_minimum`."""
    at = start
    for _ in range(MOST_FITS):
        deviation = max(SHARE * (at - peak), least)
        x = (r - at) / deviation
        near = np.abs(x) < 4.0
        cubic, square, slope, _ = np.polyfit(x[near], g[near], 3, w=np.exp(-0.25 * x[near] ** 2))
        root = square**2 - 3.0 * slope * cubic
        if root <= 0.0 or square <= 0.0:  # no minimum nearby
            return start
        step = np.clip(-slope / (square + np.sqrt(root)), -1.0, 1.0)
        at += deviation * step
        if abs(step) < SETTLED:
            break
    return min(max(at, peak), r[-1])


@njit(cache=True)
def _local(first, second, distance, count, positions, box, types, cuts, angles, coordination):
    n_sites, n_types = positions.shape[0], cuts.shape[0]
    number = np.zeros(n_sites, np.int64)
    for p in range(count):
        i, j = first[p], second[p]
        if distance[p] < cuts[types[i], types[j]]:
            number[i] += 1
            number[j] += 1
    starts = np.zeros(n_sites + 1, np.int64)
    for i in range(n_sites):
        starts[i + 1] = starts[i] + number[i]
    neighbors, units = np.empty(starts[-1], np.int64), np.empty((starts[-1], 3))
    at = starts[:-1].copy()
    step = np.empty(3)
    for p in range(count):
        i, j, r = first[p], second[p], distance[p]
        if r >= cuts[types[i], types[j]] or r == 0.0:
            continue
        for d in range(3):
            step[d] = positions[j, d] - positions[i, d]
        to_nearest_image(step, box)
        neighbors[at[i]], neighbors[at[j]] = j, i
        for d in range(3):
            units[at[i], d], units[at[j], d] = step[d] / r, -step[d] / r
        at[i] += 1
        at[j] += 1
    n_bins, most = angles.shape[2], coordination.shape[2] - 1
    found = np.empty(n_types, np.int64)
    for i in range(n_sites):
        a = types[i]
        found[:] = 0
        for p in range(starts[i], at[i]):
            b = types[neighbors[p]]
            found[b] += 1
            for q in range(p + 1, at[i]):
                if types[neighbors[q]] == b:
                    c = 0.0
                    for d in range(3):
                        c += units[p, d] * units[q, d]
                    angle = np.arccos(min(max(c, -1.0), 1.0))
                    angles[a, b, min(int(angle / np.pi * n_bins), n_bins - 1)] += 1
        for b in range(n_types):
            coordination[a, b, min(found[b], most)] += 1


def local_structure(positions, boxes, site_types, cuts, excluded=(), n_blocks=N_BLOCKS):
    """Angles between neighbours and coordination numbers within the first shells.

    Parameters
    ----------
    positions, boxes, site_types
        As in :func:`structure_factors`.
    cuts : ndarray, shape (n_types, n_types)
        Radius of the first shell of each pair of types, symmetric, nm.
    excluded : ndarray, shape (n, 2), optional
        Pairs of sites that are no neighbours.
    n_blocks : int

    Returns
    -------
    Local
    """
    cuts = np.asarray(cuts, float)
    positions, boxes, types = _checked(positions, boxes, site_types, cuts.max())
    find = _PairFinder(cuts.max(), excluded)
    n_blocks = min(n_blocks, len(positions))
    angles = np.zeros((n_blocks, *cuts.shape, ANGLE_BINS))
    coordination = np.zeros((n_blocks, *cuts.shape, MOST_NEIGHBORS + 1))
    for block, frames in enumerate(np.array_split(np.arange(len(positions)), n_blocks)):
        for frame in frames:
            found = find(positions[frame], boxes[frame])
            own = angles[block], coordination[block]
            _local(*found, positions[frame], boxes[frame], types, cuts, *own)
    return Local(angles, coordination)
