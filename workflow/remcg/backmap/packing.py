"""Which of several placements each molecule takes, beside the present ones of its neighbours."""

import numpy as np
from numba import njit

from remcg.backmap.checks import centres_of, close_pairs
from remcg.units import COULOMB, KB

SWEEPS, HOTTEST = 40, 1500.0  # K
REACH = 0.8  # nm, of pairs of atoms of different molecules
CORE = 0.8  # of sigma: nearer atoms interact as at this distance
CLOSEST = 0.1  # nm: the same for charges


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
    members = start, order, *_around(found[0], molecules, box)
    charge, depth = np.sqrt(COULOMB) * nonbonded.charges, 2.0 * np.sqrt(nonbonded.epsilon)
    is_geometric = bool(getattr(nonbonded, "geometric", False))
    size = np.sqrt(nonbonded.sigma) if is_geometric else 0.5 * nonbonded.sigma
    betas = 1.0 / (KB * np.geomspace(max(HOTTEST, temperature), temperature, SWEEPS))
    chosen = rng.integers(len(found), size=len(molecules))
    random = rng.random((SWEEPS, len(molecules)))
    parameters = charge, size, depth, is_geometric
    return _heat_bath(found, energies, members, parameters, betas, random, chosen)


def _around(positions, molecules, box):
    """Neighbours of each molecule: where those of each begin, their numbers, and lattice shifts."""
    centres, extent = centres_of(positions, molecules)
    first, second, shift = close_pairs(centres, centres, REACH + 2.0 * extent, box)
    other = first != second
    order = np.argsort(first[other], kind="stable")
    first, second, shift = (part[other][order] for part in (first, second, shift))
    return np.searchsorted(first, np.arange(len(molecules) + 1)), second, shift


@njit(cache=True, error_model="numpy")
def _heat_bath(found, energies, members, parameters, betas, random, chosen):
    """Sweeps in which every molecule draws one of its placements beside those of the others."""
    start, order, begin, neighbour, shift = members
    n_placements = len(found)
    trial = np.empty(n_placements)
    for sweep in range(len(betas)):
        for m in range(len(chosen)):
            for k in range(n_placements):
                trial[k] = energies[k, m]
                for p in range(begin[m], begin[m + 1]):
                    n = neighbour[p]
                    trial[k] += _between(
                        found[k], order[start[m] : start[m + 1]], found[chosen[n]],
                        order[start[n] : start[n + 1]], shift[p], parameters,
                    )  # fmt: skip
            weights = np.cumsum(np.exp(-betas[sweep] * (trial - trial.min())))
            k = np.searchsorted(weights, random[sweep, m] * weights[-1])
            chosen[m] = min(k, n_placements - 1)
    return chosen


@njit(cache=True, error_model="numpy")
def _between(x, mine, y, theirs, shift, parameters):
    """Energy of two molecules, kJ/mol."""
    charge, size, depth, is_geometric = parameters
    total, square = 0.0, REACH * REACH
    for a in mine:
        ax, ay, az = x[a, 0] - shift[0], x[a, 1] - shift[1], x[a, 2] - shift[2]
        for b in theirs:
            dx, dy, dz = y[b, 0] - ax, y[b, 1] - ay, y[b, 2] - az
            r2 = dx * dx + dy * dy + dz * dz
            if r2 >= square:
                continue
            sigma = size[a] * size[b] if is_geometric else size[a] + size[b]
            t = min(sigma * sigma / max(r2, 1e-12), 1.0 / (CORE * CORE))
            t = t * t * t
            total += depth[a] * depth[b] * (t * t - t)
            total += (
                charge[a] * charge[b] * (1.0 / np.sqrt(max(r2, CLOSEST * CLOSEST)) - 1.0 / REACH)
            )
    return total
