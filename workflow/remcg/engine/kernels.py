"""Energy, forces, virial and basis sums of all terms of a model."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from remcg.engine.neighbors import is_skew
from remcg.engine.simd import (
    add_forces,
    add_powers,
    add_tensor,
    locate,
    look_up,
    separations,
    slopes,
    squares,
    straight_separations,
)

BLOCK = 512  # pairs that go through the loops of pair_forces together: they stay in the cache
BOND, ANGLE, DIHEDRAL = 2, 3, 4  # sites of a group
FAR = 1e6  # nm^2: beyond every cut-off
TINY = 1e-7  # of a sine: there sites are collinear
BENT = 0.02  # sine of an angle from which a dihedral acts with its full force

FORCES, OBSERVED = 0, 1


class Sites(NamedTuple):
    """What belongs to sites, as arrays.

    site_types, masses, molecule (n_sites,); molecule_mass (n_molecules,); excluded_start
    (n_sites + 1,), excluded: by site, those it does not interact with; groups (n_groups, 4): sites
    of the bonded groups, of term t from term_start[t] to term_start[t + 1], term_size[t] in each.
    """

    site_types: np.ndarray
    masses: np.ndarray
    molecule: np.ndarray
    molecule_mass: np.ndarray
    excluded_start: np.ndarray
    excluded: np.ndarray
    groups: np.ndarray
    term_start: np.ndarray
    term_size: np.ndarray


class System(NamedTuple):
    """What acts between sites, as arrays: C channels, one for each pair of types a <= b, then the
    bonded terms; all together *curves*, cubic in u = (x - origin) * inverse_spacing - row.

    channel_of (n_types, n_types); has_term (C,); r_cut, reach (C,): nm, what the potential and
    what the neighbour list need; origin, inverse_spacing, last (n_curves,): last is the last row;
    potential (n_curves, M, 4): coefficients of U(u), kJ/mol; functions (n_curves, M, J, 4), column
    (n_curves, M, J): basis functions alive in a row and their place in the sums, -1 for none;
    n_columns; psi (2,), v0: volume term.
    """

    channel_of: np.ndarray
    has_term: np.ndarray
    r_cut: np.ndarray
    reach: np.ndarray
    origin: np.ndarray
    inverse_spacing: np.ndarray
    last: np.ndarray
    potential: np.ndarray
    functions: np.ndarray
    column: np.ndarray
    n_columns: int
    psi: np.ndarray
    v0: float


def type_pairs(n_types):
    """Pairs of type indices a <= b in the order of channels and of ``pair_names``."""
    return [(a, b) for a in range(n_types) for b in range(a, n_types)]


def build_system(model, temperature, rdf_range=0.0):
    """Arrays of a :class:`remcg.model.Model` at a temperature in K."""
    names = model.site_types
    pairs = [tuple(sorted((names[a], names[b]))) for a, b in type_pairs(len(names))]
    site_terms = model.site_terms
    thetas = [
        theta
        for term, theta in zip(model.terms, model.term_theta(temperature))
        if term.kind != "volume"
    ]
    offsets = np.concatenate([[0], np.cumsum([term.n_basis for term in site_terms])]).astype(int)
    term_of = {tuple(sorted(t.sites)): k for k, t in enumerate(site_terms) if t.kind == "pair"}
    bonded = [k for k, term in enumerate(site_terms) if term.kind != "pair"]
    curves = [term_of.get(pair, -1) for pair in pairs] + bonded
    shapes = [site_terms[k].basis.pieces.index.shape for k in curves if k >= 0]
    n_rows, n_alive = np.max([(1, 4), *shapes], axis=0).tolist()
    origin, inverse = np.zeros(len(curves)), np.ones(len(curves))
    last = np.zeros(len(curves), np.int64)
    potential = np.zeros((len(curves), n_rows, 4))
    functions = np.zeros((len(curves), n_rows, n_alive, 4))
    column = np.full((len(curves), n_rows, n_alive), -1, np.int64)
    for c, k in enumerate(curves):
        if k < 0:
            continue
        pieces = site_terms[k].basis.pieces
        rows = slice(len(pieces.index))
        alive = pieces.index >= 0
        origin[c], inverse[c], last[c] = pieces.origin, 1.0 / pieces.spacing, rows.stop - 1
        functions[c, rows, : alive.shape[1]] = pieces.functions
        column[c, rows, : alive.shape[1]] = np.where(alive, pieces.index + offsets[k], -1)
        weights = np.where(alive, thetas[k][pieces.index], 0.0)
        potential[c, rows] = np.einsum("mj,mjp->mp", weights, pieces.functions)
    r_cut = np.array(
        [site_terms[k].basis.high if k >= 0 else 0.0 for k in curves[: len(pairs)]], float
    )
    channel_of = np.zeros((len(names),) * 2, np.int64)
    for c, (a, b) in enumerate(type_pairs(len(names))):
        channel_of[a, b] = channel_of[b, a] = c
    return System(
        channel_of,
        np.array(curves[: len(pairs)]) >= 0,
        r_cut,
        np.maximum(r_cut, rdf_range),
        origin,
        inverse,
        last,
        potential,
        functions,
        column,
        int(offsets[-1]),
        model.psi(temperature),
        float(model.v0),
    )


def build_sites(model, topology):
    """Arrays of a :class:`remcg.topology.Topology` for a model."""
    groups = [np.zeros((0, 4), np.int64)]
    for term in model.bonded_terms:
        found = topology.groups(term, model.site_types)
        groups.append(np.pad(found, ((0, 0), (0, 4 - found.shape[1]))))
    pairs = topology.excluded(model.exclude)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    return Sites(
        topology.site_types,
        topology.masses,
        topology.molecule,
        np.bincount(topology.molecule, topology.masses),
        np.searchsorted(both[:, 0], np.arange(topology.n_sites + 1)),
        np.ascontiguousarray(both[:, 1]),
        np.concatenate(groups),
        np.cumsum([len(found) for found in groups]),
        np.array([len(term.sites) for term in model.bonded_terms], np.int64),
    )


@njit(cache=True)
def volume_energy(volume, n_molecules, system):
    """U_V = N_mol [psi_1 v/v0 + psi_2 ((v - v0)/v0)^2], kJ/mol."""
    x = volume / (n_molecules * system.v0)
    return n_molecules * (system.psi[0] * x + system.psi[1] * (x - 1.0) ** 2)


class Observed(NamedTuple):
    """Sums over one configuration, filled by :func:`all_forces` where it is asked to.

    moments (n_curves, 4, M, 4): sums of 1, u, u^2, u^3 by curve and row, in four parts, from which
    come all basis sums; counts (C, 4, n_bins + 1): pairs by distance, in four parts, the last bin
    for those beyond rdf_range; virial
    (3, 4): sum of r_ij (x) F_ij, kJ/mol.
    """

    moments: np.ndarray
    counts: np.ndarray
    virial: np.ndarray
    rdf_range: float


@njit(cache=True)
def no_sums(system, n_bins, rdf_range):
    """Arrays for :class:`Observed`, all zero."""
    n_curves, n_rows = system.potential.shape[:2]
    n_channels = system.r_cut.shape[0]
    return Observed(
        np.zeros((n_curves, 4, n_rows, 4)),
        np.zeros((n_channels, 4, n_bins + 1), np.int64),
        np.zeros((3, 4)),
        rdf_range,
    )


@njit(cache=True)
def basis_sums(observed, system, sums):
    """Basis sums (n_columns,) of all terms of sites, from the moments of their rows."""
    sums[:] = 0.0
    for c in range(system.last.shape[0]):
        for m in range(system.last[c] + 1):
            for j in range(system.column.shape[2]):
                k = system.column[c, m, j]
                if k >= 0:
                    for p in range(4):
                        moment = observed.moments[c, :, m, p].sum()
                        sums[k] += system.functions[c, m, j, p] * moment


@njit(cache=True)
def all_forces(positions, box, neighbors, sites, system, task, observed, forces):
    """Fill the forces (n_sites, 4) of all terms, kJ/mol/nm; return the energy, kJ/mol.

    With ``task`` OBSERVED also fill ``observed``.
    """
    forces[:] = 0.0
    if task == OBSERVED:
        observed.moments[:] = 0.0
        observed.counts[:] = 0
        observed.virial[:] = 0.0
    energy = pair_forces(
        positions, box, neighbors, 0, positions.shape[0], system, task, observed, forces
    )
    return energy + bonded_forces(positions, sites, system, task, observed, forces)


@njit(cache=True)
def bonded_forces(positions, sites, system, task, observed, forces):
    """Add the forces of all bonded groups; return their energy."""
    energy = 0.0
    first = system.r_cut.shape[0]
    for t in range(sites.term_start.shape[0] - 1):
        c = first + t
        groups = sites.groups[sites.term_start[t] : sites.term_start[t + 1]]
        curve = system.origin[c], system.inverse_spacing[c], system.last[c], system.potential[c]
        sums = task == OBSERVED, observed.moments[c, 0], observed.virial
        if sites.term_size[t] == BOND:
            energy += _bonds(positions, groups, curve, sums, forces)
        elif sites.term_size[t] == ANGLE:
            energy += _angles(positions, groups, curve, sums, forces)
        else:
            energy += _dihedrals(positions, groups, curve, sums, forces)
    return energy


@njit(cache=True)
def pair_forces(positions, box, neighbors, first, last, system, task, observed, forces):
    """Add the forces of the pairs listed with sites first ... last - 1; return their energy."""
    energy = 0.0
    for c in range(system.r_cut.shape[0]):
        if neighbors.start[c, first] < neighbors.start[c, last]:
            energy += _channel_forces(
                positions, box, neighbors, c, first, last, system, task, observed, forces
            )
    return energy


@njit(cache=True)
def _lattice(box):
    """Rows that :func:`remcg.engine.simd.separations` takes."""
    table = np.zeros((6, 4))
    for d in range(3):
        if is_skew(box):
            table[2 - d, :3] = box[d]
            table[5 - d] = 1.0 / box[d, d]
        else:
            table[0, d] = box[d, d]
            table[1, d] = 1.0 / box[d, d]
    return table


@njit(cache=True)
def _count(r, count, inverse_width, counts):
    last = float(counts.shape[1] - 1)
    for k in range(count):
        counts[k & 3, np.uint32(min(r[k] * inverse_width, last))] += 1


@njit(cache=True)
def _channel_forces(positions, box, neighbors, c, i, end, system, task, observed, forces):
    """The same for one channel; its pairs pass through short loops, block by block."""
    size = max(BLOCK, neighbors.longest) + 4
    d = np.zeros((size, 4))
    r, r2, u, s, c0, c1, c2, c3 = np.zeros((8, size))
    row = np.zeros(size, np.int32)
    lattice, skew = _lattice(box), is_skew(box)
    origin, scale, last = system.origin[c], system.inverse_spacing[c], float(system.last[c])
    start, listed, table = neighbors.start[c], neighbors.sites, system.potential[c]
    n_bins = observed.counts.shape[2] - 1
    per_bin = n_bins / observed.rdf_range if observed.rdf_range > 0.0 else 0.0
    energy = np.zeros(4)
    while i < end:
        begin, first = start[i], i
        while i < end and start[i + 1] - begin <= size - 4:
            i += 1
        count = start[i] - begin
        for k in range(first, i):
            if skew:
                separations(positions, k, listed, start[k], start[k + 1], begin, lattice, d)
            else:
                straight_separations(
                    positions, k, listed, start[k], start[k + 1], begin, lattice, d
                )
        squares(d, count, r2)
        r2[count : count + 3] = FAR  # where the loops by four go beyond
        locate(r2, count, origin, scale, last, r, u, row)
        if system.has_term[c]:
            look_up(table, row, count, c0, c1, c2, c3)
            slopes(r, u, c0, c1, c2, c3, count, scale, s, energy)
            for k in range(first, i):
                add_forces(d, s, listed, start[k], start[k + 1], begin, k, forces)
        if task == OBSERVED:
            if system.has_term[c]:
                add_powers(row, u, count, table.shape[0], observed.moments[c])
                add_tensor(d, s, count, observed.virial)
            if n_bins > 0:
                _count(r, count, per_bin, observed.counts[c])
    return energy.sum()


@njit(cache=True)
def _on_curve(curve, x, sums):
    """(U, dU/dx) of a bonded curve, whose powers of u are added to the moments."""
    origin, scale, last, table = curve
    place = (x - origin) * scale
    m = int(min(max(place, 0.0), float(last))) if place == place else 0
    u = place - m
    if sums[0]:
        for power in range(4):
            sums[1][m, power] += u**power
    p0, p1, p2, p3 = table[m, 0], table[m, 1], table[m, 2], table[m, 3]
    slope = (p1 + u * (2.0 * p2 + u * 3.0 * p3)) * scale
    return p0 + u * (p1 + u * (p2 + u * p3)), slope


@njit(cache=True)
def _minus(positions, i, j):
    """positions[i] - positions[j]; molecules are whole, so that no image is looked for."""
    return (
        positions[i, 0] - positions[j, 0],
        positions[i, 1] - positions[j, 1],
        positions[i, 2] - positions[j, 2],
    )


@njit(cache=True)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True)
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@njit(cache=True)
def _mix(p, a, q, b):
    return p * a[0] + q * b[0], p * a[1] + q * b[1], p * a[2] + q * b[2]


@njit(cache=True)
def _push(forces, i, factor, a):
    for d in range(3):
        forces[i, d] += factor * a[d]


@njit(cache=True)
def _add_virial(virial, step, factor, a):
    for x in range(3):
        for y in range(3):
            virial[x, y] += step[x] * factor * a[y]


@njit(cache=True)
def _lost(forces, group, size):
    """Sites at one place have no direction: forces that are not finite are seen a step later."""
    for m in range(size):
        forces[group[m]] = np.nan
    return np.nan


@njit(cache=True)
def _bonds(positions, groups, curve, sums, forces):
    total = 0.0
    for n in range(groups.shape[0]):
        i, j = groups[n, 0], groups[n, 1]
        a = _minus(positions, i, j)
        r = math.sqrt(_dot(a, a))
        energy, slope = _on_curve(curve, r, sums)
        factor = -slope / r if r > 0.0 else np.nan
        _push(forces, i, factor, a)
        _push(forces, j, -factor, a)
        if sums[0]:
            _add_virial(sums[2], a, factor, a)
        total += energy
    return total


@njit(cache=True)
def _angles(positions, groups, curve, sums, forces):
    """Angle at the middle site, from atan2: exact up to 180 degrees, where the slope is zero.

    With unit vectors e, f to the ends, grad_i theta = (cos theta e - f)/(|a| sin theta).
    """
    total = 0.0
    for n in range(groups.shape[0]):
        i, j, k = groups[n, 0], groups[n, 1], groups[n, 2]
        a, b = _minus(positions, i, j), _minus(positions, k, j)
        length_a, length_b = math.sqrt(_dot(a, a)), math.sqrt(_dot(b, b))
        if not length_a * length_b > 0.0:
            total += _lost(forces, groups[n], ANGLE)
            continue
        normal = _cross(a, b)
        sine = math.sqrt(_dot(normal, normal)) / (length_a * length_b)
        cosine = _dot(a, b) / (length_a * length_b)
        energy, slope = _on_curve(curve, math.atan2(sine, cosine), sums)
        factor = -slope / sine if sine > TINY else 0.0
        if not math.isfinite(sine):
            factor = np.nan
        along_a, along_b = cosine / length_a**2, cosine / length_b**2
        both = 1.0 / (length_a * length_b)
        first, last = _mix(along_a, a, -both, b), _mix(along_b, b, -both, a)
        _push(forces, i, factor, first)
        _push(forces, k, factor, last)
        _push(forces, j, -factor, first)
        _push(forces, j, -factor, last)
        if sums[0]:
            _add_virial(sums[2], a, factor, first)
            _add_virial(sums[2], b, factor, last)
        total += energy
    return total


@njit(cache=True)
def _dihedrals(positions, groups, curve, sums, forces):
    """Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996): no division by a sine of phi.

    Forces grow as the inverse sine of the angles. Within a degree of a straight one, where a step
    would not resolve them, they fall to zero instead; the sum and the torque stay zero.
    """
    total = 0.0
    for n in range(groups.shape[0]):
        i, j, k, m = groups[n, 0], groups[n, 1], groups[n, 2], groups[n, 3]
        f, g, h = _minus(positions, i, j), _minus(positions, j, k), _minus(positions, m, k)
        a, b = _cross(f, g), _cross(h, g)
        a2, b2, length = _dot(a, a), _dot(b, b), math.sqrt(_dot(g, g))
        if not length > 0.0:
            total += _lost(forces, groups[n], DIHEDRAL)
            continue
        phi = math.atan2(_dot(_cross(b, a), g) / length, _dot(a, b))
        energy, slope = _on_curve(curve, phi, sums)
        straight = TINY**2 * length**2
        is_straight = a2 <= straight * _dot(f, f) or b2 <= straight * _dot(h, h)
        factor = 0.0
        if not is_straight:
            square = min(a2 / _dot(f, f), b2 / _dot(h, h)) / length**2  # of the smaller sine
            factor = -slope * min(square / BENT**2, 1.0)
        of_a = -length / a2 if not is_straight else 0.0
        of_b = length / b2 if not is_straight else 0.0
        mid_a = _dot(f, g) / (a2 * length) if not is_straight else 0.0
        mid_b = _dot(h, g) / (b2 * length) if not is_straight else 0.0
        first, last = _mix(of_a, a, 0.0, b), _mix(0.0, a, of_b, b)
        middle = _mix(mid_a, a, -mid_b, b)
        _push(forces, i, factor, first)
        _push(forces, j, -factor, first)
        _push(forces, j, factor, middle)
        _push(forces, k, -factor, middle)
        _push(forces, k, -factor, last)
        _push(forces, m, factor, last)
        if sums[0]:
            # relative to site j: sites i, k and m are at f, -g and h - g
            _add_virial(sums[2], f, factor, first)
            _add_virial(sums[2], g, factor, middle)
            _add_virial(sums[2], h, factor, last)
        total += energy
    return total
