"""Atoms from sites: conformers of reference molecules, put exactly where the sites are."""

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from remcg.topology import members_of

POOL = 4000  # conformers of a species to choose from
CANDIDATES = 12  # of them, nearest by the distances between their sites, are turned onto the sites
SOFTNESS = 0.01  # nm, rms distance of sites that conformers may be worse than the best
VARIED_CANDIDATES, VARIED_SOFTNESS = 48, 0.05


def place(templates, species, molecules, sites, projector, rng, is_varied=False):
    """Conformers of the reference whose sites are exactly where they should be.

    Each molecule takes its shape from a molecule of its own species in a template frame. With one
    site any shape serves, turned by a rotation uniform over SO(3). With several, those are
    considered whose sites have the most similar distances from one another; each is turned by the
    proper rotation that brings its sites nearest to the wanted ones, and one is drawn with
    probability exp(-rms^2 / 2 s^2), s = :data:`SOFTNESS`. Varied placements, of which the best is
    to be chosen, come from more of them and larger s. The rest is the least mass-weighted
    displacement. Nothing is ever mirrored.

    Parameters
    ----------
    templates : ndarray, shape (n_templates, n_atoms, 3)
        Atomistic configurations with whole molecules, nm.
    species : sequence of hashable
        Per molecule; molecules of one species list their atoms and sites in one order.
    molecules : sequence of ndarray
        Atom indices of each molecule.
    sites : ndarray, shape (n_sites, 3)
        Target positions, nm, those of a molecule next to one another.
    projector : remcg.backmap.linear.Projector
    rng : numpy.random.Generator
    is_varied : bool

    Returns
    -------
    ndarray, shape (n_atoms, 3), nm
    """
    choice = (VARIED_CANDIDATES, VARIED_SOFTNESS) if is_varied else (CANDIDATES, SOFTNESS)
    positions, rows = np.zeros(templates.shape[1:]), _sites_of(molecules, projector)
    operator = projector.operator.tocsr()
    members = {}
    for k, name in enumerate(species):
        members.setdefault((name, len(molecules[k]), len(rows[k])), []).append(k)
    for chosen in members.values():
        atoms = np.array([molecules[k] for k in chosen])
        weights = operator[rows[chosen[0]]][:, atoms[0]].toarray()
        wanted = sites[np.array([rows[k] for k in chosen])]
        pool = _pool(templates, atoms, rng)
        positions[atoms] = _shapes(pool, weights, wanted, rng, choice)
    return projector.project(_at_sites(positions, molecules, sites, projector), sites)


def turned_onto(shapes, weights, wanted):
    """Molecules turned so that their sites come nearest to where they should be, but for a shift.

    Kabsch, Acta Cryst. A 32, 922 (1976), and without reflections A 34, 827 (1978).

    Parameters
    ----------
    shapes : ndarray, shape (n_molecules, n_atoms, 3)
    weights : ndarray, shape (n_sites, n_atoms)
        Of the atoms in the sites of a molecule.
    wanted : ndarray, shape (n_molecules, n_sites, 3)
    """
    turns, _ = _rotations(_centred(weights @ shapes), _centred(wanted))
    return shapes @ turns.swapaxes(-1, -2)


def _pool(templates, atoms, rng):
    """Random conformers of one species without repetition, centred, (n_pool, n_atoms, 3)."""
    n = len(templates) * len(atoms)
    frame, donor = np.divmod(rng.choice(n, min(n, POOL), replace=False), len(atoms))
    return _centred(templates[frame[:, None], atoms[donor]])


def _shapes(pool, weights, wanted, rng, choice):
    """Shapes (n_molecules, n_atoms, 3) from a pool for the wanted sites."""
    n_molecules, n_sites, _ = wanted.shape
    turns = Rotation.random(n_molecules, rng).as_matrix()
    if n_sites < 2:
        chosen = rng.integers(len(pool), size=n_molecules)
        return pool[chosen] @ turns.swapaxes(1, 2)
    chosen = _agreeing(_centred(weights @ pool), _centred(wanted), rng, *choice)
    return turned_onto(pool[chosen] @ turns.swapaxes(1, 2), weights, wanted)


def _agreeing(found, wanted, rng, candidates, softness):
    """For each of the wanted sites (n, n_sites, 3) a member of found (n_pool, n_sites, 3)."""
    count = min(candidates, len(found))
    pairs = np.triu_indices(found.shape[1], 1)
    tree = cKDTree(_distances(found, pairs))
    _, near = tree.query(_distances(wanted, pairs), k=np.arange(1, count + 1))
    _, square = _rotations(found[near], wanted[:, None])
    excess = (square - square.min(axis=1, keepdims=True)) / (2.0 * softness**2)
    weights = np.cumsum(np.exp(-excess), axis=1)
    drawn = (rng.random((len(wanted), 1)) * weights[:, -1:] > weights).sum(axis=1)
    return near[np.arange(len(wanted)), np.minimum(drawn, count - 1)]


def _distances(sites, pairs):
    i, j = pairs
    return np.linalg.norm(sites[:, i] - sites[:, j], axis=-1)


def _rotations(found, wanted):
    """Proper rotations (..., 3, 3) of found sites onto wanted ones and the mean squares left."""
    u, s, vt = np.linalg.svd(np.swapaxes(wanted, -1, -2) @ found)
    sign = np.linalg.det(u @ vt)
    u[..., -1] *= sign[..., None]
    overlap = s[..., 0] + s[..., 1] + sign * s[..., 2]
    square = (found**2).sum(axis=(-1, -2)) + (wanted**2).sum(axis=(-1, -2)) - 2.0 * overlap
    return u @ vt, np.maximum(square, 0.0) / found.shape[-2]


def _centred(points):
    return points - points.mean(axis=-2, keepdims=True)


def _owners(molecules, projector):
    """Molecule of each atom, shape (n_atoms,), and of each site, (n_sites,)."""
    rows = projector.operator.tocsr()
    molecule = np.zeros(rows.shape[1], int)
    for index, atoms in enumerate(molecules):
        molecule[atoms] = index
    return molecule, molecule[rows.indices[rows.indptr[:-1]]]


def _sites_of(molecules, projector):
    """Indices of the sites of each molecule."""
    _, owner = _owners(molecules, projector)
    return members_of(owner, len(molecules))


def _at_sites(positions, molecules, sites, projector):
    """Translate each molecule by the mean offset of its sites: the projection then moves little."""
    molecule, owner = _owners(molecules, projector)
    shift, count = np.zeros((len(molecules), 3)), np.zeros(len(molecules))
    np.add.at(shift, owner, sites - projector.map(positions))
    np.add.at(count, owner, 1.0)
    return positions + (shift / np.maximum(count, 1.0)[:, None])[molecule]
