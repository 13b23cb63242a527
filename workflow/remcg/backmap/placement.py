"""Atoms from sites: conformers of reference molecules, put exactly where the sites are."""

import numpy as np
from scipy.spatial.transform import Rotation

from remcg.errors import InputError


def make_whole(positions, boxes, molecules):
    """Shift atoms to the periodic image nearest to the first atom of their molecule.

    Parameters
    ----------
    positions : ndarray, shape (n_frames, n_atoms, 3)
        nm; no molecule may be larger than half the box.
    boxes : ndarray, shape (n_frames, 3)
        Edge lengths, nm.
    molecules : sequence of ndarray
        Atom indices of each molecule.
    """
    anchor = np.arange(positions.shape[1])
    for atoms in molecules:
        anchor[atoms] = atoms[0]
    positions = np.asarray(positions, float)
    edges = np.asarray(boxes, float)[:, None, :]
    return positions - edges * np.round((positions - positions[:, anchor]) / edges)


def place(templates, species, molecules, sites, projector, rng):
    """Random conformers whose sites are exactly where they should be.

    Each molecule takes its shape from a random molecule of its own species in a random template
    frame, turned by a proper rotation uniform over SO(3), and with several sites then by the one
    that brings these nearest to where they should be (:func:`turned_onto`).

    Parameters
    ----------
    templates : ndarray, shape (n_templates, n_atoms, 3)
        Atomistic configurations with whole molecules, nm.
    species : sequence of hashable
        Per molecule; molecules of one species list their atoms in one order.
    molecules : sequence of ndarray
        Atom indices of each molecule.
    sites : ndarray, shape (n_sites, 3)
        Target positions, nm.
    projector : Projector
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n_atoms, 3), nm
    """
    positions, rows = np.zeros(templates.shape[1:]), _sites_of(molecules, projector)
    for kind in dict.fromkeys(species):
        chosen = [k for k, name in enumerate(species) if name == kind]
        atoms = np.array([molecules[k] for k in chosen])
        frame = rng.integers(len(templates), size=len(atoms))
        donor = rng.integers(len(atoms), size=len(atoms))
        shapes = templates[frame[:, None], atoms[donor]]
        shapes = shapes - shapes.mean(axis=1, keepdims=True)
        turns = Rotation.random(len(atoms), rng).as_matrix()
        shapes = np.einsum("mij,maj->mai", turns, shapes)
        wanted = sites[np.array([rows[k] for k in chosen])]
        if wanted.shape[1] > 1:
            weights = projector.operator.tocsr()[rows[chosen[0]]][:, atoms[0]].toarray()
            shapes = turned_onto(shapes, weights, wanted)
        positions[atoms] = shapes
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
    found = np.einsum("sa,mad->msd", weights, shapes)
    found, wanted = (x - x.mean(axis=1, keepdims=True) for x in (found, wanted))
    u, _, vt = np.linalg.svd(np.einsum("msi,msj->mij", wanted, found))
    u[..., -1] *= np.linalg.det(u @ vt)[:, None]
    return np.einsum("mij,maj->mai", u @ vt, shapes)


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
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.cumsum(np.bincount(owner, minlength=len(molecules)))[:-1])


def _at_sites(positions, molecules, sites, projector):
    """Translate each molecule by the mean offset of its sites: the projection then moves little."""
    molecule, owner = _owners(molecules, projector)
    shift, count = np.zeros((len(molecules), 3)), np.zeros(len(molecules))
    np.add.at(shift, owner, sites - projector.map(positions))
    np.add.at(count, owner, 1.0)
    return positions + (shift / np.maximum(count, 1.0)[:, None])[molecule]


def check_shapes(sites, boxes, operator, templates, n_atoms, topology):
    """Refuse arrays that do not belong together."""
    if operator.shape[1] != n_atoms or templates.shape[1] != n_atoms:
        raise InputError(
            f"backmap: {topology} has {n_atoms} atoms, but the mapping was built for "
            f"{operator.shape[1]} and the template frames have {templates.shape[1]}; give the "
            "topology that the reference trajectories were written with."
        )
    if sites.shape[1] != operator.shape[0] or len(boxes) != len(sites):
        raise InputError(
            f"backmap: the coarse-grained frames have {sites.shape[1]} sites and {len(boxes)} boxes"
            f" for {len(sites)} frames, but the mapping of {topology} makes {operator.shape[0]} "
            "sites; predict and map the same system."
        )
    if np.ndim(boxes) != 2:
        raise InputError(
            "backmap: the coarse-grained frames are in skew boxes, but this version knows only "
            "boxes with right angles; set backmap.frames: 0"
        )
    if not (np.isfinite(sites).all() and np.isfinite(boxes).all() and (boxes > 0).all()):
        raise InputError(
            "backmap: the coarse-grained frames contain coordinates or boxes that are not finite; "
            "the prediction they come from has blown up, look at its log."
        )
