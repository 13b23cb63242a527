"""What can be wrong with a backmapped configuration: overlaps, inverted centres, flipped double
bonds, and bonds that thread a ring."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, identity
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.stats import poisson

from remcg.boxes import heights, vectors
from remcg.errors import InputError

VDW_RADII = {  # nm, Bondi, J. Phys. Chem. 68, 441 (1964)
    "C": 0.170, "N": 0.155, "O": 0.152, "F": 0.147, "P": 0.180, "S": 0.180, "Cl": 0.175,
    "Br": 0.185, "I": 0.198, "Si": 0.210, "Se": 0.190, "He": 0.140, "Ne": 0.154, "Ar": 0.188,
    "Kr": 0.202, "Xe": 0.216, "Na": 0.227, "K": 0.275, "Mg": 0.173, "Li": 0.182, "Zn": 0.139,
}  # fmt: skip
DEFAULT_RADIUS = 0.17
HEAVY_FACTOR = 0.8
CONTACT = 0.12  # nm, no two atoms that are not bonded come closer
BONDED = 3  # atoms that so many bonds or fewer tie together may be close
LARGEST_RING = 8
MOST_IMAGES = 200_000_000  # of atoms, before a box counts as collapsed
PLANAR = np.radians(40.0)  # a double bond stays within this of cis or trans
LEAST_SEEN = 30  # template values of a dihedral before it can count as one that does not turn
SHORTEST = 1e-9  # nm, a dihedral of atoms on a line has no state
PYRAMID = 0.25
RARE = 1e-3  # probability that a reference frame has more clashes than are allowed


@dataclass(frozen=True)
class Found:
    """Defects of one configuration.

    Attributes
    ----------
    clashes, inversions, cis_trans, piercings : int
        Pairs of atoms, stereocentres, double bonds, pairs of a bond and a ring.
    """

    clashes: int
    inversions: int
    cis_trans: int
    piercings: int

    @property
    def is_lasting(self):
        """Whether there is a defect that dynamics does not mend, as it does clashes."""
        return bool(self.inversions or self.cis_trans or self.piercings)

    def described(self, most_clashes=0):
        """What is wrong, in words; empty if nothing is."""
        parts = [
            (
                self.clashes,
                f"clashes (at most {most_clashes} are usual)",
                self.clashes > most_clashes,
            ),
            (self.inversions, "inverted centres", self.inversions),
            (self.cis_trans, "flipped double bonds", self.cis_trans),
            (self.piercings, "pierced rings", self.piercings),
        ]
        return ", ".join(f"{number} {name}" for number, name, is_wrong in parts if is_wrong)


class Checker:
    """Counts defects, with what the topology and reference configurations say is right.

    Nothing is curated: chirality and the states of double bonds are those of the templates, and so
    is the number of clashes that a liquid has in equilibrium. Molecules of one species that are
    mirror images, or cis beside trans, are told apart by their own atoms in the templates.

    Parameters
    ----------
    topology : mdtraj.Topology
        With bonds.
    molecules : sequence of ndarray
        Atom indices of each molecule.
    templates : ndarray, shape (n_templates, n_atoms, 3)
        Reference configurations, molecules whole, nm.
    boxes : ndarray, shape (n_templates, 3) or (n_templates, 3, 3), or None
        Their boxes; None in vacuum.

    Attributes
    ----------
    most_clashes : int
        Allowed in one configuration: the larger of the largest number among the templates and of
        what a Poisson variable with their mean exceeds once in 1000 times.
    isomers : list of tuple
        Of each molecule the states that its centres and double bonds have in the templates.
    """

    def __init__(self, topology, molecules, templates, boxes=None):
        self.elements = [atom.element.symbol if atom.element else "" for atom in topology.atoms]
        self.bonds = bonds_of(topology)
        self.molecules, self.templates = molecules, np.asarray(templates, float)
        self.graph = bond_graph(self.bonds, topology.n_atoms)
        self.near = near_by_bonds(self.graph, molecules)
        kinds = kinds_of_atoms(topology, molecules)
        graph = self.elements, self.bonds
        united = united_centres(*graph, self.templates)
        self.centres = np.concatenate([stereocentres(*graph), united])
        turns = double_bonds(self.elements, self.bonds)
        self.turns = planar(turns, [tuple(kinds[row[1:3]]) for row in turns], self.templates)
        owner = {int(atom): m for m, atoms in enumerate(molecules) for atom in atoms}
        self.isomers = self._isomers(owner)
        mine = {atom: self.isomers[m] for atom, m in owner.items()}
        self.centre_kinds = [(kinds[a], mine[a]) for a in self.centres[:, 0].tolist()]
        self.turn_kinds = [(*kinds[row[1:3]], mine[row[1]]) for row in self.turns.tolist()]
        self.rings = rings(self.elements, self.bonds)
        frames = self.templates if len(self.templates) else []
        boxes = [None] * len(frames) if boxes is None else boxes
        self.template_clashes = [self.clashes(*frame) for frame in zip(frames, boxes)]
        self.most_clashes = allowed_clashes(self.template_clashes)

    def __call__(self, positions, box=None):
        """Defects of a configuration of whole molecules, (n_atoms, 3) nm, as :class:`Found`."""
        return Found(
            self.clashes(positions, box),
            count_inversions(positions, self.templates, self.centres, self.centre_kinds),
            count_flips(positions, self.templates, self.turns, self.turn_kinds),
            count_piercings(positions, box, self.bonds, self.rings),
        )

    def _isomers(self, owner):
        found = [[] for _ in self.molecules]
        sides = (
            (handedness(self.templates, self.centres), self.centres[:, 0]),
            (is_cis(self.templates, self.turns), self.turns[:, 1]),
        )
        for states, atoms in sides:
            for column, atom in zip(states.T, atoms.tolist()):
                found[owner[atom]].append(tuple(np.unique(column).tolist()))
        return [tuple(each) for each in found]

    @property
    def applicable(self):
        """Names of the defects that these molecules can have."""
        can = {"inversions": self.centres, "cis_trans": self.turns, "piercings": self.rings}
        return ("clashes", *(name for name, where in can.items() if len(where)))

    def clashes(self, positions, box=None):
        """Pairs of atoms that are too close, see :func:`count_clashes`."""
        return count_clashes(positions, box, self.elements, self.near)


def bonds_of(topology):
    """Bonds of an mdtraj.Topology, shape (n_bonds, 2)."""
    return np.array([(a.index, b.index) for a, b in topology.bonds], int).reshape(-1, 2)


def bond_graph(bonds, n_atoms):
    """Symmetric matrix of ones, (n_atoms, n_atoms)."""
    i, j = np.asarray(bonds, int).reshape(-1, 2).T
    both = np.concatenate([i, j]), np.concatenate([j, i])
    graph = csr_array((np.ones(2 * len(i), np.int8), both), shape=(n_atoms, n_atoms))
    graph.data[:] = 1
    return graph


def near_by_bonds(graph, molecules, reach=BONDED):
    """Pairs that may be close: within ``reach`` bonds, or of one molecule that no bonds join.

    Returns
    -------
    set of int
        i * n_atoms + j with i < j.
    """
    n_atoms = graph.shape[0]
    within = steps = identity(n_atoms, dtype=np.int32, format="csr") + graph.astype(np.int32)
    for _ in range(reach - 1):
        within = within @ steps
        within.data[:] = 1
    i, j = within.nonzero()
    pairs = [i * n_atoms + j]
    part = connected_components(graph, directed=False)[1]
    for atoms in molecules:
        atoms = np.asarray(atoms)
        if len(np.unique(part[atoms])) > 1:
            a, b = (grid.ravel() for grid in np.meshgrid(atoms, atoms, indexing="ij"))
            apart = part[a] != part[b]
            pairs.append(a[apart] * n_atoms + b[apart])
    return np.unique(np.concatenate(pairs))


def count_clashes(positions, box, elements, near):
    """Pairs of atoms that are too close and not neighbours along bonds.

    Heavy atoms closer than 0.8 (r_i + r_j) with van der Waals radii r, or any two atoms closer than
    0.12 nm, images included. Liquids have a few of the first kind in equilibrium (SPC/E: O-O below
    0.243 nm), so the count is to be read against the one of reference frames.

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3)
        nm.
    box : ndarray, shape (3,) or (3, 3), or None
        nm; None in vacuum.
    elements : sequence of str
        Chemical symbols; "VS" or "" for virtual sites, which are left out.
    near : ndarray of int
        As from :func:`near_by_bonds`.
    """
    radii = np.array([VDW_RADII.get(element, DEFAULT_RADIUS) for element in elements])
    heavy = np.array([element not in ("H", "D", "VS", "") for element in elements])
    real = np.flatnonzero([element not in ("VS", "") for element in elements])
    reach = max(2 * HEAVY_FACTOR * radii[heavy].max(initial=0.0), CONTACT)
    first, second, shift = close_pairs(positions[real], positions[real], reach, box)
    i, j = real[first], real[second]
    same = np.isin(i * len(elements) + j, near) & (np.abs(shift).max(axis=1, initial=0.0) < 1e-9)
    forward = (i < j) & ~same  # each pair is found from both sides
    i, j, shift = i[forward], j[forward], shift[forward]
    distance = np.linalg.norm(positions[j] + shift - positions[i], axis=1)
    overlap = heavy[i] & heavy[j] & (distance < HEAVY_FACTOR * (radii[i] + radii[j]))
    return int((overlap | (distance < CONTACT)).sum())


def allowed_clashes(counts):
    """The most clashes that a configuration like the references may have.

    The larger of their largest number and of the quantile 0.999 of a Poisson variable with their
    mean: the largest of a few frames alone would be exceeded too often.
    """
    if not len(counts):
        return 0
    return int(max(max(counts), poisson.ppf(1.0 - RARE, np.mean(counts))))


def close_pairs(first, second, reach, box=None):
    """Pairs of points within a distance, with all periodic images.

    Parameters
    ----------
    first, second : ndarray, shape (n, 3) and (m, 3)
        nm, anywhere.
    reach : float
        nm.
    box : ndarray, shape (3,) or (3, 3), or None

    Returns
    -------
    (i, j, shift)
        Indices, shape (n_pairs,), and lattice vectors (n_pairs, 3) such that
        second[j] + shift is near first[i].
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if not len(first) or not len(second):
        return np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3))
    if box is None:
        first_shift, ghosts, owner, ghost_shift = 0.0 * first, second, np.arange(len(second)), None
    else:
        lattice = vectors(box)
        first_shift = -np.floor(first @ np.linalg.inv(lattice)) @ lattice
        ghosts, owner, ghost_shift = _images(second, lattice, reach)
    tree = cKDTree(ghosts)
    found = cKDTree(first + first_shift).sparse_distance_matrix(tree, reach, output_type="ndarray")
    i, g = found["i"], found["j"]
    if ghost_shift is None:
        return i, g, np.zeros((len(i), 3))
    return i, owner[g], ghost_shift[g] - first_shift[i]


def _images(points, lattice, reach):
    """Images of points in and around the cell, as far as ``reach``: (positions, owner, shift)."""
    inverse, margin = np.linalg.inv(lattice), reach / heights(lattice)
    wraps = -np.floor(points @ inverse)
    fractions = points @ inverse + wraps
    owner, offsets = np.arange(len(points)), np.zeros((len(points), 3))
    for axis in range(3):
        many = int(np.ceil(margin[axis]))
        if (2 * many + 1) * len(owner) > MOST_IMAGES:
            raise InputError(
                f"backmap: a box of heights {np.round(heights(lattice), 4).tolist()} nm is too"
                f" small to look for atoms within {reach:.3g} nm in it; correct the boxes of the"
                " coarse-grained frames"
            )
        kept_owner, kept_offsets = [], []
        for k in range(-many, many + 1):
            at = fractions[owner, axis] + k
            inside = (at >= -margin[axis]) & (at <= 1.0 + margin[axis])
            moved = offsets[inside].copy()
            moved[:, axis] = k
            kept_owner.append(owner[inside]), kept_offsets.append(moved)
        owner, offsets = np.concatenate(kept_owner), np.concatenate(kept_offsets)
    shift = (wraps[owner] + offsets) @ lattice
    return points[owner] + shift, owner, shift


def kinds_of_atoms(topology, molecules):
    """What makes atoms of copies of a molecule the same, an object array of shape (n_atoms,)."""
    kinds = np.empty(topology.n_atoms, object)
    for k in range(topology.n_atoms):
        kinds[k] = (None, k)
    for atoms in molecules:
        name = species(topology, atoms)
        for place, atom in enumerate(atoms):
            kinds[atom] = name, place
    return kinds


def species(topology, atoms):
    """What makes two molecules exchangeable: residue and atom names in order."""
    return tuple((topology.atom(int(i)).residue.name, topology.atom(int(i)).name) for i in atoms)


def stereocentres(elements, bonds):
    """Atoms with four different substituents, shape (n_centres, 5): the atom and its neighbours.

    Substituents are told apart by the bond graph with elements (colour refinement), in a fixed
    order that depends on the graph alone, so the sign of a centre can be compared between copies.
    """
    return _centres(elements, neighbours_of(elements, bonds), 4)


def united_centres(elements, bonds, templates):
    """Centres whose hydrogen is part of them, shape (n_centres, 5), the atom itself stands last.

    C, Si, P or S with three different neighbours that is no plane: in all templates (30 values of a
    centre at least) the triple product of unit vectors to these is above 0.25 and of one sign. In a
    tetrahedron it is 0.77, around a planar atom it fluctuates about 0.
    """
    found = _centres(elements, neighbours_of(elements, bonds), 3)
    found = found[[elements[atom] in ("C", "Si", "P", "S") for atom in found[:, 0]]]
    if not len(found) or len(templates) < LEAST_SEEN:
        return found[:0]
    arms = templates[:, found[:, 1:4]] - templates[:, found[:, :1]]
    length = np.maximum(np.linalg.norm(arms, axis=-1, keepdims=True), SHORTEST)
    volume = np.linalg.det(arms / length)
    is_pyramid = (np.abs(volume) > PYRAMID).all(axis=0)
    return found[is_pyramid & (np.abs(np.sign(volume).sum(axis=0)) == len(volume))]


def _centres(elements, neighbours, n_neighbours):
    candidates = [
        a
        for a, n in enumerate(neighbours)
        if len(n) == n_neighbours and sum(elements[b] == "H" for b in n) < 2
    ]
    centres = []
    for centre in candidates:
        labels = _branch_labels(centre, elements, neighbours)
        if len(set(labels.values())) == n_neighbours:
            row = [centre, *sorted(labels, key=labels.get), centre]
            centres.append(row[:5])
    return np.array(centres, int).reshape(-1, 5)


def neighbours_of(elements, bonds):
    """Bonded atoms of each atom, as lists."""
    neighbours = [[] for _ in elements]
    for a, b in np.asarray(bonds, int).reshape(-1, 2).tolist():
        neighbours[a].append(b)
        neighbours[b].append(a)
    return neighbours


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


def count_inversions(positions, templates, centres, kinds):
    """Stereocentres whose handedness occurs in no template molecule of the same species.

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3)
    templates : ndarray, shape (n_templates, n_atoms, 3)
        Both with whole molecules, nm.
    centres : ndarray, shape (n_centres, 5)
    kinds : sequence of hashable
        Species and place in the molecule, so that equal centres share an entry.
    """
    if not len(centres):
        return 0
    return _unknown(handedness(positions, centres), handedness(templates, centres), kinds)


def _unknown(now, before, kinds):
    """How many states occur in no template; shapes (n,), (n_templates, n), kinds of length n."""
    known = {}
    for states, kind in zip(before.T, kinds):
        known.setdefault(kind, set()).update(states.tolist())
    return sum(state not in known[kind] for state, kind in zip(now.tolist(), kinds))


def double_bonds(elements, bonds):
    """Dihedrals that tell cis from trans at bonds that may be double, shape (n, 4).

    Both atoms of such a bond are C or N with three bonds at most, the bond is in no ring, and the
    substituents of either end differ (by the bond graph); the dihedral is over the ones that come
    first in an order of the graph alone.
    """
    neighbours = neighbours_of(elements, bonds)
    found = []
    for a, b in np.asarray(bonds, int).reshape(-1, 2).tolist():
        if any(elements[c] not in ("C", "N") or not 2 <= len(neighbours[c]) <= 3 for c in (a, b)):
            continue
        if _shortest_path(a, b, neighbours, len(elements)) is not None:
            continue
        ends = []
        for atom, other in ((a, b), (b, a)):
            labels = _branch_labels(atom, elements, neighbours)
            del labels[other]
            if len(set(labels.values())) == len(labels):
                ends.append(max(labels, key=labels.get))
        if len(ends) == 2:
            found.append([ends[0], a, b, ends[1]])
    return np.array(found, int).reshape(-1, 4)


def dihedrals(positions, quadruples):
    """Dihedral angles, rad (cis is 0), shape (..., n), of positions (..., n_atoms, 3)."""
    p, q, r, s = (positions[..., quadruples[:, k], :] for k in range(4))
    axis = r - q
    a, b = np.cross(q - p, axis), np.cross(axis, s - r)
    length = np.maximum(np.linalg.norm(axis, axis=-1), SHORTEST)
    return np.arctan2((np.cross(a, b) * axis).sum(axis=-1) / length, (a * b).sum(axis=-1))


def planar(quadruples, kinds, templates):
    """Those of the dihedrals that stay within 40 degrees of cis or of trans in all templates.

    Copies count together; a kind with fewer than 30 values is left out, as a bond that turns
    freely could stay planar in so few by chance.
    """
    if not len(quadruples) or not len(templates):
        return quadruples[:0]
    angle = np.abs(dihedrals(templates, quadruples))
    turned = np.minimum(angle, np.pi - angle) > PLANAR
    seen, moves = {}, {}
    for column, kind in zip(turned.T, kinds):
        seen[kind] = seen.get(kind, 0) + len(column)
        moves[kind] = moves.get(kind, False) or bool(column.any())
    kept = [seen[kind] >= LEAST_SEEN and not moves[kind] for kind in kinds]
    return quadruples[np.array(kept, bool)]


def count_flips(positions, templates, quadruples, kinds):
    """Double bonds that are cis where all templates of the species are trans, or the reverse.

    A bond is cis where its dihedral is below 90 degrees. Parameters as in :func:`count_inversions`,
    with dihedrals from :func:`planar`.
    """
    if not len(quadruples):
        return 0
    return _unknown(is_cis(positions, quadruples), is_cis(templates, quadruples), kinds)


def is_cis(positions, quadruples):
    """Whether each of the dihedrals is below 90 degrees; positions (..., n_atoms, 3)."""
    return np.abs(dihedrals(positions, quadruples)) < 0.5 * np.pi


def rings(elements, bonds, largest=LARGEST_RING):
    """Rings of at most ``largest`` atoms and without hydrogen: list of ndarray, atoms in order.

    For each bond the shortest ring that it is in.
    """
    neighbours, found = neighbours_of(elements, bonds), {}
    for a, b in np.asarray(bonds, int).reshape(-1, 2).tolist():
        path = _shortest_path(a, b, neighbours, largest)
        if path is not None and not any(elements[atom] in ("H", "D") for atom in path):
            found.setdefault(frozenset(path), path)
    return [np.array(path) for path in found.values()]


def _shortest_path(start, end, neighbours, most):
    """Atoms of the shortest way between bonded atoms that is not their bond, or None.

    ``most`` limits their number.
    """
    before, front = {start: None}, [start]
    for _ in range(most - 1):
        grown = []
        for atom in front:
            for other in neighbours[atom]:
                if other in before or (atom == start and other == end):
                    continue
                before[other] = atom
                if other == end:
                    path = [end]
                    while before[path[-1]] is not None:
                        path.append(before[path[-1]])
                    return path
                grown.append(other)
        if not grown:
            return None
        front = grown
    return None


def centres_of(positions, groups):
    """Centres of groups of atoms, (n, 3) nm, and the largest distance of an atom from its own."""
    centres = np.array([positions[atoms].mean(axis=0) for atoms in groups])
    pairs = zip(groups, centres)
    return centres, max(np.linalg.norm(positions[atoms] - c, axis=1).max() for atoms, c in pairs)


def count_piercings(positions, box, bonds, ring_atoms):
    """Pairs of a bond and a ring that it passes through, periodic images included.

    A ring is the fan of triangles between its centre and its edges; bonds of its own atoms are left
    out. The test of a segment against a triangle is that of Moeller and Trumbore, J. Graph. Tools
    2, 21 (1997).

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3)
        nm, molecules whole.
    box : ndarray, shape (3,) or (3, 3), or None
    bonds : ndarray, shape (n_bonds, 2)
    ring_atoms : list of ndarray
    """
    if not len(ring_atoms) or not len(bonds):
        return 0
    centre, radius = centres_of(positions, ring_atoms)
    ends = positions[bonds]
    half = 0.5 * np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).max()
    ring, bond, shift = close_pairs(centre, ends.mean(axis=1), radius + half, box)
    is_own = np.array([np.isin(bonds[b], ring_atoms[r]).any() for r, b in zip(ring, bond)], bool)
    ring, bond, shift = ring[~is_own], bond[~is_own], shift[~is_own]
    pierced = np.zeros(len(ring), bool)
    for size in {len(atoms) for atoms in ring_atoms}:
        chosen = np.array([len(ring_atoms[r]) == size for r in ring], bool)
        if chosen.any():
            corners = positions[np.array([ring_atoms[r] for r in ring[chosen]])]
            segment = ends[bond[chosen]] + shift[chosen, None]
            pierced[chosen] = _crosses(segment, corners, centre[ring[chosen]])
    return int(pierced.sum())


def _crosses(segment, corners, centre):
    """Whether segments (n, 2, 3) cross fans of corners (n, size, 3) around centres (n, 3)."""
    start, way = segment[:, None, 0], (segment[:, 1] - segment[:, 0])[:, None]
    a = centre[:, None]
    first, second = corners - a, np.roll(corners, -1, axis=1) - a
    p = np.cross(way, second)
    volume = (first * p).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / volume
        offset = start - a
        u = (offset * p).sum(axis=-1) * inverse
        q = np.cross(offset, first)
        v = (way * q).sum(axis=-1) * inverse
        t = (second * q).sum(axis=-1) * inverse
    inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 0) & (t <= 1)
    return (inside & (volume != 0)).any(axis=1)
