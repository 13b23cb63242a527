"""Which of several placements each molecule takes, beside the present ones of its neighbours."""

import numpy as np
from numba import njit

from remcg.backmap.checks import centres_of, close_pairs
from remcg.units import COULOMB, KB

SWEEPS, HOTTEST = 40, 1500.0  # K
REACH = 0.8  # nm, of pairs of atoms of different molecules
CORE = 0.8  # of sigma: nearer atoms interact as at this distance
CLOSEST = 0.1  # nm: the same for charges
REAL = np.float32  # of energies of pairs: rounding is far below kT
ZERO, ONE, LEAST = REAL(0), REAL(1), REAL(1e-12)
REACH_SQUARE, REACH_INVERSE = REAL(REACH**2), REAL(1 / REACH)
CLOSEST_SQUARE, CORE_INVERSE = REAL(CLOSEST**2), REAL(CORE**-2)


def packed(found, energies, molecules, nonbonded, box, temperature, rng):
    """Heat bath over the placements of each molecule, while it cools.

    Molecules interact by Lennard-Jones with a soft core and Coulomb, shifted to zero where both are
    truncated.

    Parameters
    ----------
    found : ndarray, shape (n_placements, n_atoms, 3)
        nm, molecules whole.
    energies : ndarray, shape (n_placements, n_molecules)
        kJ/mol, of molecules by themselves.
    molecules : sequence of ndarray
        Atom indices.
    nonbonded : remcg.backmap.atoms.Nonbonded
        Or anything with charges, sigma, epsilon and geometric.
    box : ndarray, shape (3,) or (3, 3), or None
        nm.
    temperature : float
        K, at the end.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int, shape (n_molecules,)
        Placement of each molecule.
    """
    order = np.concatenate([np.asarray(members, np.int64) for members in molecules])
    start = np.cumsum([0, *map(len, molecules)])
    members = start, *_around(found[0], molecules, box)
    is_geometric = bool(getattr(nonbonded, "geometric", False))
    sigma, epsilon = nonbonded.sigma[order], nonbonded.epsilon[order]
    charge, depth = np.sqrt(COULOMB) * nonbonded.charges[order], 2.0 * np.sqrt(epsilon)
    parameters = np.array([charge, np.sqrt(sigma) if is_geometric else 0.5 * sigma, depth], REAL)
    betas = 1.0 / (KB * np.geomspace(max(HOTTEST, temperature), temperature, SWEEPS))
    chosen = rng.integers(len(found), size=len(molecules))
    random = rng.random((SWEEPS, len(molecules)))
    arguments = energies, members, parameters, is_geometric, betas, random, chosen
    return _heat_bath(np.ascontiguousarray(found[:, order]), *arguments)


def _around(positions, molecules, box):
    """Neighbours of each molecule: where those of each begin, their numbers, and lattice shifts."""
    centres, extent = centres_of(positions, molecules)
    first, second, shift = close_pairs(centres, centres, REACH + 2.0 * extent, box)
    other = first != second
    order = np.argsort(first[other], kind="stable")
    first, second, shift = (part[other][order] for part in (first, second, shift))
    return np.searchsorted(first, np.arange(len(molecules) + 1)), second, shift


@njit(cache=True, error_model="numpy")
def _heat_bath(found, energies, members, parameters, is_geometric, betas, random, chosen):
    """Sweeps in which every molecule draws one of its placements beside those of the others."""
    start, begin, neighbour, shift = members
    n_placements = len(found)
    trial = np.empty(n_placements)
    most = np.max(begin[1:] - begin[:-1]) * np.max(start[1:] - start[:-1])
    around = np.empty((6, most), REAL)  # x, y, z, charge, size, depth of atoms of neighbours
    for sweep in range(len(betas)):
        for m in range(len(chosen)):
            origin, n_around = found[0, start[m]], 0
            for p in range(begin[m], begin[m + 1]):
                n = neighbour[p]
                for b in range(start[n], start[n + 1]):
                    for axis in range(3):
                        x = found[chosen[n], b, axis] + shift[p, axis]
                        around[axis, n_around] = x - origin[axis]
                    around[3:, n_around] = parameters[:, b]
                    n_around += 1
            for k in range(n_placements):
                trial[k] = energies[k, m]
                for a in range(start[m], start[m + 1]):
                    x = found[k, a] - origin
                    trial[k] += _energy(x, parameters[:, a], around, n_around, is_geometric)
            weights = np.cumsum(np.exp(-betas[sweep] * (trial - trial.min())))
            k = np.searchsorted(weights, random[sweep, m] * weights[-1])
            chosen[m] = min(k, n_placements - 1)
    return chosen


@njit(cache=True, fastmath=True, error_model="numpy")
def _energy(position, own, around, n_around, is_geometric):
    """Energy of an atom with those around it, kJ/mol; a loop that the compiler can unroll."""
    x, y, z = REAL(position[0]), REAL(position[1]), REAL(position[2])
    xs, ys, zs = around[0][:n_around], around[1][:n_around], around[2][:n_around]
    charges, sizes, depths = around[3][:n_around], around[4][:n_around], around[5][:n_around]
    charge, size, depth = own[0], own[1], own[2]
    total, square, nearest, hard = ZERO, REACH_SQUARE, CLOSEST_SQUARE, CORE_INVERSE
    for k in range(len(xs)):
        dx, dy, dz = xs[k] - x, ys[k] - y, zs[k] - z
        r2 = dx * dx + dy * dy + dz * dz
        sigma = size * sizes[k] if is_geometric else size + sizes[k]
        t = min(sigma * sigma / max(r2, LEAST), hard)
        t = t * t * t
        v = charge * charges[k] * (ONE / np.sqrt(max(r2, nearest)) - REACH_INVERSE)
        v += depth * depths[k] * (t * t - t)
        total += v if r2 < square else ZERO
    return total
