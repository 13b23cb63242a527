"""Energy, forces, virial and basis sums of pair terms over a neighbour list."""

from typing import NamedTuple

import numpy as np
from numba import njit

from remcg.engine.neighbors import FAST
from remcg.pairs import PairTables, add_basis_sums, pair_tables


class System(NamedTuple):
    """What acts between sites, as arrays; C channels, one for each pair of types a <= b.

    channel_of (n_types, n_types); term (C,): index of the pair term, -1 for none; r_cut (C,): nm,
    0 for none; origin, inverse_spacing (C,): a potential is ``potential[c, m]`` (C, M, 4), cubic in
    u = (r - origin) * inverse_spacing - m, where interval 0 is the linear core and a last row of
    zeros ends at r_cut; reach (C,): what the neighbour list holds, without skin, nm; tables: the
    basis functions; psi (2,), v0, n_molecules: volume term; site_types, masses (n_sites,).
    """

    channel_of: np.ndarray
    term: np.ndarray
    r_cut: np.ndarray
    origin: np.ndarray
    inverse_spacing: np.ndarray
    potential: np.ndarray
    reach: np.ndarray
    tables: PairTables
    psi: np.ndarray
    v0: float
    n_molecules: int
    site_types: np.ndarray
    masses: np.ndarray


def type_pairs(n_types):
    """Pairs of type indices a <= b in the order of channels and of ``pair_names``."""
    return [(a, b) for a in range(n_types) for b in range(a, n_types)]


def build_system(model, temperature, site_types, masses, n_molecules, rdf_range=0.0):
    """Arrays of a :class:`remcg.model.Model` at a temperature in K for given sites."""
    pairs = type_pairs(len(model.site_types))
    tables = pair_tables(model.site_types, model.pair_terms)
    thetas = [
        theta
        for term, theta in zip(model.terms, model.term_theta(temperature))
        if term.kind == "pair"
    ]
    n_rows = 2 + max((term.basis.n_intervals for term in model.pair_terms), default=0)
    term_of = np.array([tables.term_of[pair] for pair in pairs], np.int64)
    r_cut, origin, inverse = np.zeros((3, len(pairs)))
    potential = np.zeros((len(pairs), n_rows, 4))
    channel_of = np.zeros((len(model.site_types),) * 2, np.int64)
    for c, ((a, b), t) in enumerate(zip(pairs, term_of)):
        channel_of[a, b] = channel_of[b, a] = c
        if t >= 0:
            basis = model.pair_terms[t].basis
            pieces = basis.potential(thetas[t])
            potential[c, 0, :2] = pieces[0, 0] - pieces[0, 1], pieces[0, 1]
            potential[c, 1 : 1 + len(pieces)] = pieces
            r_cut[c], inverse[c] = basis.r_cut, 1.0 / basis.spacing
            origin[c] = basis.r_min - basis.spacing
    return System(
        channel_of,
        term_of,
        r_cut,
        origin,
        inverse,
        potential,
        np.maximum(r_cut, rdf_range),
        tables,
        model.psi(temperature),
        float(model.v0),
        int(n_molecules),
        np.ascontiguousarray(site_types, np.int64),
        np.ascontiguousarray(masses, float),
    )


@njit(cache=True)
def volume_energy(volume, system):
    """U_V = N_mol [psi_1 v/v0 + psi_2 ((v - v0)/v0)^2], kJ/mol."""
    x = volume / (system.n_molecules * system.v0)
    return system.n_molecules * (system.psi[0] * x + system.psi[1] * (x - 1.0) ** 2)


@njit(cache=True, fastmath=FAST, error_model="numpy")
def pair_forces(positions, box, neighbors, system, with_energy, forces):
    """Fill the forces (n_sites, 3) of pair terms, kJ/mol/nm.

    Returns
    -------
    energy, virial : float
        kJ/mol; the virial is sum over pairs of r_ij . F_ij. Both zero unless ``with_energy``.

    Each site's neighbours pass through short loops, of which those with arithmetic have no
    look-ups and no branches: they become vector instructions.
    """
    n_sites = positions.shape[0]
    n_channels = system.r_cut.shape[0]
    edge_x, edge_y, edge_z = box[0], box[1], box[2]
    inverse_x, inverse_y, inverse_z = 1.0 / edge_x, 1.0 / edge_y, 1.0 / edge_z
    size = neighbors.longest + 1
    bx, by, bz, br = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    c0, c1, c2, c3 = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    row, partner = np.empty(size, np.int32), np.empty(size, np.int64)
    energy = 0.0
    virial = 0.0
    forces[:] = 0.0
    for i in range(n_sites):
        xi, yi, zi = positions[i, 0], positions[i, 1], positions[i, 2]
        fx, fy, fz = 0.0, 0.0, 0.0
        for c in range(n_channels):
            if system.r_cut[c] == 0.0:
                continue
            limit = system.r_cut[c] * system.r_cut[c]
            origin, scale = system.origin[c], system.inverse_spacing[c]
            table = system.potential[c]
            begin = neighbors.start[i * n_channels + c]
            n_listed = neighbors.start[i * n_channels + c + 1] - begin
            for k in range(n_listed):
                j = neighbors.sites[begin + k]
                bx[k], by[k], bz[k] = positions[j, 0], positions[j, 1], positions[j, 2]
            for k in range(n_listed):
                dx, dy, dz = xi - bx[k], yi - by[k], zi - bz[k]
                dx -= edge_x * np.floor(dx * inverse_x + 0.5)
                dy -= edge_y * np.floor(dy * inverse_y + 0.5)
                dz -= edge_z * np.floor(dz * inverse_z + 0.5)
                bx[k], by[k], bz[k] = dx, dy, dz
                br[k] = dx * dx + dy * dy + dz * dz
            n_near = 0
            for k in range(n_listed):
                r2 = br[k]
                bx[n_near], by[n_near], bz[n_near], br[n_near] = bx[k], by[k], bz[k], r2
                partner[n_near] = neighbors.sites[begin + k]
                n_near += r2 < limit
            for k in range(n_near):
                x = (np.sqrt(br[k]) - origin) * scale
                inside = x if x > 0.0 else 0.0
                row[k] = np.int32(inside)
            for k in range(n_near):
                m = row[k]
                c0[k], c1[k], c2[k], c3[k] = table[m, 0], table[m, 1], table[m, 2], table[m, 3]
            gx, gy, gz, site_energy, site_virial = 0.0, 0.0, 0.0, 0.0, 0.0
            if with_energy:
                for k in range(n_near):
                    r = np.sqrt(br[k])
                    u = (r - origin) * scale - row[k]
                    site_energy += c0[k] + u * (c1[k] + u * (c2[k] + u * c3[k]))
                    site_virial -= (c1[k] + u * (2.0 * c2[k] + u * 3.0 * c3[k])) * scale * r
            for k in range(n_near):
                r = np.sqrt(br[k])
                u = (r - origin) * scale - row[k]
                s = -(c1[k] + u * (2.0 * c2[k] + u * 3.0 * c3[k])) * scale / r
                br[k] = s
                gx += s * bx[k]
                gy += s * by[k]
                gz += s * bz[k]
            for k in range(n_near):
                j, s = partner[k], br[k]
                forces[j, 0] -= s * bx[k]
                forces[j, 1] -= s * by[k]
                forces[j, 2] -= s * bz[k]
            fx += gx
            fy += gy
            fz += gz
            energy += site_energy
            virial += site_virial
        forces[i, 0] += fx
        forces[i, 1] += fy
        forces[i, 2] += fz
    return energy, virial


@njit(cache=True)
def observe_pairs(positions, box, neighbors, system, rdf_range, weight, sums, counts):
    """Add basis sums to ``sums`` (n_functions,) and weight per pair to ``counts`` (C, n_bins).

    The bins of ``counts`` divide [0, rdf_range] nm.
    """
    n_channels = system.r_cut.shape[0]
    n_bins = counts.shape[1]
    inverse = n_bins / rdf_range if rdf_range > 0.0 else 0.0
    edge_x, edge_y, edge_z = box[0], box[1], box[2]
    inverse_x, inverse_y, inverse_z = 1.0 / edge_x, 1.0 / edge_y, 1.0 / edge_z
    terms, start, sites = system.term, neighbors.start, neighbors.sites
    r = np.empty(neighbors.longest + 1)
    for i in range(positions.shape[0]):
        for c in range(n_channels):
            begin = start[i * n_channels + c]
            count = start[i * n_channels + c + 1] - begin
            for k in range(count):
                j = sites[begin + k]
                dx = positions[i, 0] - positions[j, 0]
                dy = positions[i, 1] - positions[j, 1]
                dz = positions[i, 2] - positions[j, 2]
                dx -= edge_x * np.floor(dx * inverse_x + 0.5)
                dy -= edge_y * np.floor(dy * inverse_y + 0.5)
                dz -= edge_z * np.floor(dz * inverse_z + 0.5)
                r[k] = np.sqrt(dx * dx + dy * dy + dz * dz)
                if r[k] < rdf_range:
                    counts[c, min(int(r[k] * inverse), n_bins - 1)] += weight
            if terms[c] >= 0:
                add_basis_sums(r, count, terms[c], system.tables, sums)
