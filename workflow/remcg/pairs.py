"""Sums over pairs of sites in given configurations: basis sums, radial distributions, onsets."""

from typing import NamedTuple

import numpy as np
from numba import njit

from remcg.boxes import heights, many, volume
from remcg.engine.neighbors import close_pairs
from remcg.errors import InputError

RDF_WIDTH = 0.01  # nm
ROUNDING = 1e-9  # of a box edge against twice a range
ONSET_RANGE = 1.0  # nm, where the onset of a pair is looked for first


class PairTables(NamedTuple):
    """Pair terms as arrays for kernels; T terms, at most M intervals.

    term_of (n_types, n_types): term of a pair of types, -1 for none; r_min, r_cut, inverse_spacing
    (T,): nm; n_intervals, offset (T,): offset is a term's first basis sum; local (T, M, 4, 4): see
    :attr:`remcg.basis.SplineBasis.local`.
    """

    term_of: np.ndarray
    r_min: np.ndarray
    r_cut: np.ndarray
    inverse_spacing: np.ndarray
    n_intervals: np.ndarray
    offset: np.ndarray
    local: np.ndarray


def pair_tables(site_names, pair_terms):
    """Gather pair terms into arrays; ``site_names[i]`` is the name of type i."""
    names = list(site_names)
    term_of = np.full((len(names), len(names)), -1, np.int64)
    for t, term in enumerate(pair_terms):
        if all(name in names for name in term.sites):
            a, b = (names.index(name) for name in term.sites)
            term_of[a, b] = term_of[b, a] = t
    bases = [term.basis for term in pair_terms]
    n_intervals = np.array([basis.n_intervals for basis in bases], np.int64)
    local = np.zeros((len(bases), max(n_intervals, default=1), 4, 4))
    for t, basis in enumerate(bases):
        local[t, : basis.n_intervals] = basis.local
    sizes = [basis.n_basis for basis in bases]
    return PairTables(
        term_of,
        np.array([basis.r_min for basis in bases], float),
        np.array([basis.r_cut for basis in bases], float),
        np.array([1.0 / basis.spacing for basis in bases], float),
        n_intervals,
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)[: len(bases)],
        local,
    )


@njit(cache=True)
def add_basis_sums(distances, count, term, tables, sums):
    """Add the functions of a term at ``distances[:count]``, at most four each, to ``sums``.

    Below r_min the functions continue linearly: the first interval without its x**2 and x**3.
    """
    table = tables.local[term]
    r_min, r_cut, scale = tables.r_min[term], tables.r_cut[term], tables.inverse_spacing[term]
    last, offset = tables.n_intervals[term] - 1, tables.offset[term]
    n_sums = sums.shape[0]
    for k in range(count):
        if distances[k] >= r_cut:
            continue
        x = (distances[k] - r_min) * scale
        if x < 0.0:
            for j in range(2):
                sums[offset + j] += table[0, j, 0] + x * table[0, j, 1]
            continue
        m = min(int(x), last)
        x -= m
        # functions that the basis leaves out are zero; behind the last term they have no slot
        for j in range(min(4, n_sums - offset - m)):
            high = table[m, j, 2] + x * table[m, j, 3]
            sums[offset + m + j] += table[m, j, 0] + x * (table[m, j, 1] + x * high)


@njit(cache=True)
def _frame_sums(first, second, distance, count, site_types, tables, sums):
    term_of = tables.term_of
    chosen = np.empty(count)
    for term in range(tables.r_cut.shape[0]):
        n_chosen = 0
        for p in range(count):
            if term_of[site_types[first[p]], site_types[second[p]]] == term:
                chosen[n_chosen] = distance[p]
                n_chosen += 1
        add_basis_sums(chosen, n_chosen, term, tables, sums)


@njit(cache=True)
def _frame_counts(first, second, distance, count, site_types, channel, low, inverse, counts):
    n_bins = counts.shape[1]
    for p in range(count):
        c = channel[site_types[first[p]], site_types[second[p]]]
        if c >= 0 and distance[p] >= low:
            k = int((distance[p] - low) * inverse)
            if k < n_bins:
                counts[c, k] += 1


@njit(cache=True)
def _drop_excluded(first, second, distance, count, starts, partners):
    """Close the gaps that excluded pairs leave; return the number of the others."""
    kept = 0
    for p in range(count):
        i, j = first[p], second[p]
        is_excluded = False
        for k in range(starts[i], starts[i + 1]):
            if partners[k] == j:
                is_excluded = True
                break
        first[kept], second[kept], distance[kept] = i, j, distance[p]
        kept += not is_excluded
    return kept


def _partners(excluded, n_sites):
    """Excluded pairs by their smaller site: (starts (n_sites + 1,), larger sites)."""
    pairs = np.sort(np.asarray(excluded, np.int64).reshape(-1, 2), axis=1)
    if pairs.size and not 0 <= pairs.min() <= pairs.max() < n_sites:
        raise InputError(
            f"excluded pairs name the sites {pairs.min()} to {pairs.max()}, but there are"
            f" {n_sites}; count sites from 0"
        )
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    starts = np.searchsorted(pairs[:, 0], np.arange(n_sites + 1))
    return starts, np.ascontiguousarray(pairs[:, 1])


class _PairFinder:
    """Buffers for the pairs of one frame after another; they grow when they must.

    ``excluded``: pairs of sites (n, 2) that are left out.
    """

    def __init__(self, r_max, excluded=()):
        self.r_max = r_max
        self.excluded = excluded
        self.partners = None
        self._allocate(1024)

    def _allocate(self, size):
        self.first = np.empty(size, np.int64)
        self.second = np.empty(size, np.int64)
        self.distance = np.empty(size)

    def __call__(self, positions, box):
        """(first, second, distance, count): pairs closer than r_max."""
        while True:
            buffers = self.first, self.second, self.distance
            count = close_pairs(positions, box, self.r_max, *buffers)
            if count <= len(self.first):
                return *buffers, self._kept(count, len(positions))
            self._allocate(int(1.2 * count))

    def _kept(self, count, n_sites):
        if len(self.excluded) == 0:
            return count
        if self.partners is None:
            self.partners = _partners(self.excluded, n_sites)
        return _drop_excluded(self.first, self.second, self.distance, count, *self.partners)


def _checked(positions, boxes, site_types, r_max):
    """Cast to contiguous arrays; refuse what has no minimum image."""
    positions = np.ascontiguousarray(positions, float)
    boxes = np.asarray(boxes, float)
    site_types = np.ascontiguousarray(site_types, np.int64)
    if positions.ndim != 3 or positions.shape[1:] != (len(site_types), 3):
        raise InputError(
            f"positions of shape {positions.shape} do not fit {len(site_types)} sites; give"
            " (n_frames, n_sites, 3)"
        )
    if boxes.shape[:1] != (len(positions),) or boxes.shape[1:] not in ((3,), (3, 3)):
        raise InputError(f"boxes of shape {boxes.shape} for {len(positions)} frames; give one each")
    finite = np.isfinite(positions).all(axis=(1, 2)) & np.isfinite(boxes).all(
        axis=tuple(range(1, boxes.ndim))
    )
    if not finite.all():
        raise InputError(
            f"frame {np.argmin(finite)} has positions or box edges that are not finite"
        )
    boxes = many(boxes)
    height = heights(boxes)
    if len(boxes) and height.min() < 2.0 * r_max * (1.0 - ROUNDING):
        frame, axis = np.unravel_index(np.argmin(height), height.shape)
        raise InputError(
            f"frame {frame}: the box is {height[frame, axis]:.4g} nm high along {'abc'[axis]}, less"
            f" than twice the range {r_max:.4g} nm of a pair; shorten r_cut or take a larger box"
        )
    return positions, boxes, site_types


def pair_sums(positions, boxes, site_types, site_names, pair_terms, excluded=()):
    """Basis sums of pair terms, phi_k = sum over pairs of B_k(r_ij), minimum image.

    Parameters
    ----------
    positions : ndarray, shape (n_frames, n_sites, 3)
        nm, in any periodic image.
    boxes : ndarray, shape (n_frames, 3) or (n_frames, 3, 3)
        Edges of orthorhombic boxes, or lower-triangular rows a, b, c, nm.
    site_types : ndarray, shape (n_sites,)
        Index into ``site_names``.
    pair_terms : list of PairTerm
    excluded : ndarray, shape (n, 2), optional
        Pairs of sites on which no term acts, each once.

    Returns
    -------
    ndarray, shape (n_frames, n_pair_functions)
        Functions of all terms in their order.
    """
    tables = pair_tables(site_names, pair_terms)
    r_max = max(tables.r_cut, default=0.0)
    positions, boxes, site_types = _checked(positions, boxes, site_types, r_max)
    find = _PairFinder(r_max, excluded)
    sums = np.zeros((len(positions), sum(term.n_basis for term in pair_terms)))
    for frame, row in enumerate(sums):
        _frame_sums(*find(positions[frame], boxes[frame]), site_types, tables, row)
    return sums


def channels(n_types, pair_types):
    """Table (n_types, n_types) of the index of each pair of types in ``pair_types``, else -1."""
    table = np.full((n_types, n_types), -1, np.int64)
    for c, (a, b) in enumerate(pair_types):
        table[a, b] = table[b, a] = c
    return table


def number_of_pairs(pair, type_counts):
    """N(N - 1)/2, or N_a N_b; ``type_counts``: sites of each type, by what ``pair`` names them."""
    a, b = (type_counts[kind] for kind in pair)
    return a * (a - 1) // 2 if pair[0] == pair[1] else a * b


def numbers_of_pairs(site_types, pair_types, excluded=()):
    """Pairs of sites of each pair of types, shape (n_pairs,).

    Parameters
    ----------
    site_types : ndarray, shape (n_sites,)
    pair_types : list of (int, int)
        Each pair of types once.
    excluded : ndarray, shape (n, 2), optional
        Pairs of sites that do not count.
    """
    type_counts = np.bincount(site_types, minlength=1 + np.max(pair_types))
    numbers = np.array([number_of_pairs(pair, type_counts) for pair in pair_types])
    kinds = np.asarray(site_types)[np.asarray(excluded, np.int64).reshape(-1, 2)]
    channel = channels(len(type_counts), pair_types)[kinds[:, 0], kinds[:, 1]]
    return numbers - np.bincount(channel[channel >= 0], minlength=len(numbers))


def shell_volumes(edges):
    """Volumes between spheres of radii ``edges`` (n_bins + 1,) nm, shape (n_bins,), nm^3."""
    return 4.0 / 3.0 * np.pi * np.diff(np.asarray(edges, float) ** 3)


def rdf_norm(site_types, pair_types, edges):
    """What a count per bin times V is divided by, shape (n_pairs, n_bins), nm^3.

    Pairs N(N-1)/2 or N_a N_b, times the volume of the shell; infinite where there is no pair.
    """
    n_pairs = numbers_of_pairs(site_types, pair_types).astype(float)
    n_pairs[n_pairs == 0.0] = np.inf
    return n_pairs[:, None] * shell_volumes(edges)


def rdf(positions, boxes, site_types, pair_types, edges, n_blocks, excluded=()):
    """Radial distribution functions, averaged over blocks of consecutive frames.

    .. math:: g_{ab}(r) = \\langle V n_{ab}(r) \\rangle / (N_{pairs} \\Delta V_{shell})

    with the volume of each frame and N(N-1)/2 or N_a N_b pairs, whatever pairs are excluded.

    Parameters
    ----------
    positions, boxes, site_types
        As in :func:`pair_sums`.
    pair_types : list of (int, int)
        Pairs of type indices.
    edges : ndarray, shape (n_bins + 1,)
        Equal bins, nm.
    n_blocks : int
        At most the number of frames.
    excluded : ndarray, shape (n, 2), optional
        Pairs of sites that are not counted.

    Returns
    -------
    ndarray, shape (n_blocks, n_pairs, n_bins)
    """
    edges = np.asarray(edges, float)
    width = (edges[-1] - edges[0]) / (len(edges) - 1)
    if not np.allclose(np.diff(edges), width, rtol=1e-6):
        raise InputError("the edges of an RDF are not equally spaced; give bins of one width")
    positions, boxes, site_types = _checked(positions, boxes, site_types, edges[-1])
    if not 1 <= n_blocks <= len(positions):
        raise InputError(f"{n_blocks} blocks of {len(positions)} frames; give 1 to that many")
    table = channels(1 + max(site_types.max(), np.max(pair_types)), pair_types)
    find = _PairFinder(edges[-1], excluded)
    result = np.zeros((n_blocks, len(pair_types), len(edges) - 1))
    for block, frames in enumerate(np.array_split(np.arange(len(positions)), n_blocks)):
        for frame in frames:
            counts = np.zeros(result.shape[1:], np.int64)
            pairs = find(positions[frame], boxes[frame])
            _frame_counts(*pairs, site_types, table, edges[0], 1.0 / width, counts)
            result[block] += counts * volume(boxes[frame])
        result[block] /= len(frames)
    return result / rdf_norm(site_types, pair_types, edges)


def onset(positions, boxes, site_types, pair_types, count=10, excluded=()):
    """Smallest r at which the number of pairs over all frames reaches ``count``.

    Looked for up to 1 nm or half the smallest box edge; where that is not enough, up to half the
    smallest edge.

    Returns
    -------
    ndarray, shape (n_pairs,)
        nm; infinite for a pair of types with fewer than ``count`` pairs.
    """
    half = 0.5 * heights(many(boxes)).min()
    for r_max in (min(ONSET_RANGE, half), half):
        closest = Closest(site_types, pair_types, r_max, count, excluded)
        closest.add(positions, boxes)
        if not np.isinf(closest.onset).any():
            break
    return closest.onset


class Closest:
    """The smallest distances of each pair of types, over frames that come in parts.

    Parameters
    ----------
    site_types : ndarray, shape (n_sites,)
    pair_types : list of (int, int)
    r_max : float
        nm; pairs beyond are not looked for.
    count : int
        How many distances of each pair of types to keep.
    excluded : ndarray, shape (n, 2), optional
        Pairs of sites that do not count.
    """

    def __init__(self, site_types, pair_types, r_max, count=10, excluded=()):
        self.site_types = np.ascontiguousarray(site_types, np.int64)
        self.channel = channels(1 + max(self.site_types.max(), np.max(pair_types)), pair_types)
        self.r_max, self.count, self.excluded = r_max, count, excluded
        self.smallest = np.full((len(pair_types), count), np.inf)

    @property
    def onset(self):
        """Per pair of types, the largest of its ``count`` smallest distances, nm, or infinity."""
        return self.smallest.max(axis=1)

    def add(self, positions, boxes):
        """Go through the next frames, as in :func:`pair_sums`."""
        positions, boxes, types = _checked(positions, boxes, self.site_types, self.r_max)
        find = _PairFinder(self.r_max, self.excluded)
        for frame in range(len(positions)):
            find.r_max = min(self.r_max, self.onset.max())  # farther pairs change nothing
            first, second, distance, n = find(positions[frame], boxes[frame])
            channel = self.channel[types[first[:n]], types[second[:n]]]
            for c, kept in enumerate(self.smallest):
                near = np.concatenate([kept, distance[:n][channel == c]])
                self.smallest[c] = np.partition(near, self.count - 1)[: self.count]


def rdf_edges(r_cut, width=RDF_WIDTH):
    """Edges of the bins of a stored RDF: from 0 in steps of ``width`` to at most r_cut, nm."""
    return width * np.arange(int(r_cut / width + 1e-6) + 1)
