"""What can be wrong with a backmapped configuration: overlaps and inverted centres."""

import numpy as np
from scipy.spatial import cKDTree

VDW_RADII = {  # nm, Bondi, J. Phys. Chem. 68, 441 (1964)
    "C": 0.170, "N": 0.155, "O": 0.152, "F": 0.147, "P": 0.180, "S": 0.180, "Cl": 0.175,
    "Br": 0.185, "I": 0.198, "Si": 0.210, "Se": 0.190, "He": 0.140, "Ne": 0.154, "Ar": 0.188,
    "Kr": 0.202, "Xe": 0.216, "Na": 0.227, "K": 0.275, "Mg": 0.173, "Li": 0.182, "Zn": 0.139,
}  # fmt: skip
DEFAULT_RADIUS = 0.17
HEAVY_FACTOR = 0.8
CONTACT = 0.12  # nm, no two atoms of different molecules come closer


def count_clashes(positions, box, elements, molecule):
    """Pairs of atoms of different molecules that are too close.

    Heavy atoms closer than 0.8 (r_i + r_j) with van der Waals radii r, or any two atoms closer than
    0.12 nm. Liquids have a few of the first kind in equilibrium (SPC/E: O-O below 0.243 nm), so
    the count is to be read against the one of reference frames.

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3)
    box : ndarray, shape (3,)
        nm, both.
    elements : sequence of str
        Chemical symbols; "VS" or "" for virtual sites, which are left out.
    molecule : ndarray, shape (n_atoms,)
    """
    radii = np.array([VDW_RADII.get(element, DEFAULT_RADIUS) for element in elements])
    heavy = np.array([element not in ("H", "D", "VS", "") for element in elements])
    real = np.array([element not in ("VS", "") for element in elements])
    reach = max(2 * HEAVY_FACTOR * radii[heavy].max(initial=0.0), CONTACT)
    kept = np.flatnonzero(real)
    tree = cKDTree(np.mod(np.mod(positions[kept], box), box), boxsize=box)
    i, j = kept[tree.query_pairs(reach, output_type="ndarray")].reshape(-1, 2).T
    apart = molecule[i] != molecule[j]
    i, j = i[apart], j[apart]
    difference = positions[i] - positions[j]
    difference -= box * np.round(difference / box)
    distance = np.sqrt((difference**2).sum(axis=1))
    overlap = heavy[i] & heavy[j] & (distance < HEAVY_FACTOR * (radii[i] + radii[j]))
    return int((overlap | (distance < CONTACT)).sum())


def stereocentres(elements, bonds):
    """Atoms with four different substituents, shape (n_centres, 5): the atom and its neighbours.

    Substituents are told apart by the bond graph with elements (colour refinement), in a fixed
    order that depends on the graph alone, so the sign of a centre can be compared between copies.
    """
    neighbours = [[] for _ in elements]
    for a, b in bonds:
        neighbours[a].append(b)
        neighbours[b].append(a)
    candidates = [
        a
        for a, n in enumerate(neighbours)
        if len(n) == 4 and sum(elements[b] == "H" for b in n) < 2
    ]
    centres = []
    for centre in candidates:
        labels = _branch_labels(centre, elements, neighbours)
        if len(set(labels.values())) == 4:
            centres.append([centre, *sorted(labels, key=labels.get)])
    return np.array(centres, int).reshape(-1, 5)


def _branch_labels(centre, elements, neighbours, depth=6):
    """A nested description of the branch behind each neighbour, cut at ``depth`` bonds."""

    def describe(atom, origin, left):
        if left == 0:
            return (elements[atom],)
        branches = sorted(describe(b, atom, left - 1) for b in neighbours[atom] if b != origin)
        return (elements[atom], *branches)

    return {b: describe(b, centre, depth) for b in neighbours[centre]}


def handedness(positions, centres):
    """Sign of the triple product at each stereocentre; positions (..., n_atoms, 3)."""
    arms = positions[..., centres[:, 1:4], :] - positions[..., centres[:, :1], :]
    return np.sign(np.linalg.det(arms))


def count_inversions(positions, templates, centres, species_of_centre):
    """Stereocentres whose handedness occurs in no template molecule of the same species.

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3)
    templates : ndarray, shape (n_templates, n_atoms, 3)
        Both with whole molecules, nm.
    centres : ndarray, shape (n_centres, 5)
    species_of_centre : sequence of hashable
        Species and place in the molecule, so that equal centres share an entry.
    """
    known = {}
    for sign, kind in zip(handedness(templates, centres).T, species_of_centre):
        known.setdefault(kind, set()).update(sign.tolist())
    now = handedness(positions, centres)
    return sum(sign not in known[kind] for sign, kind in zip(now.tolist(), species_of_centre))
