"""Sites and how they are bonded: what the engine must know of molecules."""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from remcg.errors import InputError

EXCLUSIONS = ("1-2", "1-3", "1-4")
GROUPS = {"bond": "bonds", "angle": "angles", "dihedral": "dihedrals"}


@dataclass(frozen=True)
class Topology:
    """Sites, molecules and bonded groups.

    Attributes
    ----------
    site_types : ndarray, shape (n_sites,)
        Indices into the model's ``site_types``.
    masses : ndarray, shape (n_sites,)
        amu.
    molecule : ndarray, shape (n_sites,), optional
        Molecule of each site, 0 ... n_molecules - 1; by default what bonds connect, in the order
        of the first sites.
    bonds, angles, dihedrals : ndarray, shape (n, 2), (n, 3), (n, 4), optional
        Sites of each group, in the order of the chain.
    """

    site_types: np.ndarray
    masses: np.ndarray
    molecule: np.ndarray = None
    bonds: np.ndarray = None
    angles: np.ndarray = None
    dihedrals: np.ndarray = None

    def __post_init__(self):
        self._set("site_types", self.site_types, np.int64)
        self._set("masses", self.masses, float)
        for n_members, name in enumerate(GROUPS.values(), start=2):
            groups = getattr(self, name)
            groups = np.zeros((0, n_members)) if groups is None else np.asarray(groups)
            self._set(name, groups.reshape(-1, n_members), np.int64)
            self._check_groups(name, getattr(self, name))
        molecule = self._components if self.molecule is None else self.molecule
        self._set("molecule", molecule, np.int64)
        self._check_molecules()

    def _set(self, name, value, dtype):
        object.__setattr__(self, name, np.ascontiguousarray(value, dtype))

    def _check_groups(self, name, groups):
        if groups.size and not 0 <= groups.min() <= groups.max() < self.n_sites:
            raise InputError(
                f"{name} name the sites {groups.min()} to {groups.max()}, but there are"
                f" {self.n_sites}; count sites from 0"
            )
        twice = (np.diff(np.sort(groups, axis=1), axis=1) == 0).any(axis=1)
        if twice.any():
            raise InputError(
                f"{name}: {groups[np.argmax(twice)].tolist()} names a site twice; give different"
                " sites"
            )

    def _check_molecules(self):
        for name in ("masses", "molecule"):
            found = getattr(self, name).shape
            if found != (self.n_sites,):
                raise InputError(f"{name} of shape {found} for {self.n_sites} sites; give one each")
        numbers = np.unique(self.molecule)
        if not np.array_equal(numbers, np.arange(len(numbers))):
            raise InputError(
                f"{len(numbers)} molecules are numbered {numbers[0]} to {numbers[-1]}; count"
                " molecules from 0 without a gap"
            )
        for name in GROUPS.values():
            groups = getattr(self, name)
            molecule = self.molecule[groups]
            apart = (molecule != molecule[:, :1]).any(axis=1)
            if apart.any():
                first = np.argmax(apart)
                raise InputError(
                    f"{name}: the sites {groups[first].tolist()} are of the molecules"
                    f" {molecule[first].tolist()}; what is bonded must be one molecule"
                )

    @classmethod
    def from_bonds(cls, site_types, masses, bonds, molecule=None):
        """A topology with every angle and proper dihedral along its bonds, each once.

        Parameters
        ----------
        site_types, masses, molecule
            As the attributes.
        bonds : array_like, shape (n, 2)
            In any order; a bond given twice counts once.
        """
        bonds = np.sort(np.asarray(bonds, np.int64).reshape(-1, 2), axis=1)
        bonds = np.unique(bonds, axis=0)
        bonded = cls(site_types, masses, molecule, bonds)  # checks the bonds
        neighbors = [[] for _ in range(bonded.n_sites)]
        for i, j in bonds.tolist():
            neighbors[i].append(j)
            neighbors[j].append(i)
        angles = [
            (i, j, k)
            for j, around in enumerate(neighbors)
            for i, k in combinations(sorted(around), 2)
        ]
        dihedrals = [
            (i, j, k, last)
            for j, k in bonds.tolist()
            for i, last in product(sorted(neighbors[j]), sorted(neighbors[k]))
            if len({i, j, k, last}) == 4
        ]
        return cls(site_types, masses, bonded.molecule, bonds, angles, dihedrals)

    @property
    def n_sites(self):
        """Number of sites."""
        return len(self.site_types)

    @property
    def n_molecules(self):
        """Number of molecules."""
        return int(self.molecule.max(initial=-1)) + 1

    def groups(self, term, site_names):
        """Bonds, angles or dihedrals on which a bonded term acts, shape (n, 2), (n, 3) or (n, 4).

        ``site_names[i]`` is the name of type i.
        """
        groups = getattr(self, GROUPS[term.kind])
        names = list(site_names)
        kinds = np.array([names.index(site) if site in names else -1 for site in term.sites])
        found = self.site_types[groups]
        return groups[(found == kinds).all(axis=1) | (found == kinds[::-1]).all(axis=1)]

    def excluded(self, kinds):
        """Pairs of sites one, two or three bonds apart, by the shortest way, shape (n, 2).

        Parameters
        ----------
        kinds : sequence of str
            Of "1-2", "1-3" and "1-4".

        Returns
        -------
        ndarray of int64
            Each pair once, smaller site first, sorted.
        """
        unknown = [kind for kind in kinds if kind not in EXCLUSIONS]
        if unknown:
            raise InputError(
                f"exclude names {unknown[0]!r}; allowed are {', '.join(EXCLUSIONS)}, in a list"
            )
        n_sites, walks = self.n_sites, self._graph
        nearer = np.arange(n_sites) * (n_sites + 1)  # pairs as numbers: i * n_sites + j
        found = np.zeros(0, np.int64)
        for kind in EXCLUSIONS:
            i, j = walks.nonzero()
            reached = np.setdiff1d(i.astype(np.int64) * n_sites + j, nearer)
            nearer = np.union1d(nearer, reached)
            if kind in kinds:
                found = np.union1d(found, reached)
            walks = walks @ self._graph
        pairs = np.stack(np.divmod(found, max(n_sites, 1)), axis=1)
        return pairs[pairs[:, 0] < pairs[:, 1]]

    def make_whole(self, positions, box):
        """Positions with every molecule in one piece, none of its bonds across the box.

        Each molecule keeps its first site and is walked from there along its bonds; parts that no
        bond connects to the first site go to its minimum image. Sites move by lattice vectors only.

        Parameters
        ----------
        positions : ndarray, shape (n_sites, 3)
            nm, in any periodic image.
        box : ndarray, shape (3,) or (3, 3)
            Edges, or lower-triangular rows a, b, c, nm. Steps of a walk must be shorter than half
            of a_x, b_y and c_z.

        Returns
        -------
        ndarray, shape (n_sites, 3)
        """
        positions = np.asarray(positions, float)
        box = np.asarray(box, float)
        box = np.diag(box) if box.ndim == 1 else box
        at = self._parents
        shifts = _image_shifts(positions - positions[at], box)
        while not np.array_equal(at, at[at]):  # each round doubles the part of the walk summed
            shifts, at = shifts + shifts[at], at[at]
        return positions + shifts @ box

    def centres(self, positions):
        """Centres of mass of whole molecules, shape (n_molecules, 3)."""
        total = np.zeros((self.n_molecules, 3))
        np.add.at(total, self.molecule, self.masses[:, None] * positions)
        return total / np.bincount(self.molecule, self.masses)[:, None]

    @cached_property
    def _parents(self):
        """The site before each on a walk from the first site of its molecule; a first site's is
        itself."""
        first_of = np.unique(self.molecule, return_index=True)[1][self.molecule]
        parts = np.unique(self._components, return_index=True)[1]
        # a root above all first sites makes the walks of all molecules one breadth-first walk
        root, firsts = np.full(self.n_molecules, self.n_sites), np.unique(first_of)
        i = np.concatenate([root, first_of[parts], self.bonds[:, 0]])
        j = np.concatenate([firsts, parts, self.bonds[:, 1]])
        shape = (self.n_sites + 1, self.n_sites + 1)
        graph = csr_array((np.ones(len(i)), (i, j)), shape=shape)
        walk = breadth_first_order(graph, self.n_sites, directed=False)
        parents = walk[1][:-1].astype(np.int64)
        return np.where(parents == self.n_sites, np.arange(self.n_sites), parents)

    @cached_property
    def _components(self):
        """Number of the connected part of each site, in the order of the first sites."""
        found = connected_components(self._graph, directed=False)[1]
        _, first, part = np.unique(found, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[part]

    @cached_property
    def _graph(self):
        """Bonds as a symmetric matrix, shape (n_sites, n_sites)."""
        i, j = self.bonds.T
        ends = np.concatenate([i, j]), np.concatenate([j, i])
        return csr_array((np.ones(2 * len(i), bool), ends), shape=(self.n_sites, self.n_sites))


def members_of(labels, n_labels=0):
    """Indices of each label 0, 1, ..., of at least ``n_labels`` of them: a list of ndarrays."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels, minlength=n_labels))[:-1])


def _image_shifts(steps, box):
    """Lattice vectors, as integers, that take steps into the brick a_x, b_y, c_z around zero."""
    steps, shifts = steps.copy(), np.zeros(steps.shape)
    for axis in (2, 1, 0):
        shifts[:, axis] = -np.round(steps[:, axis] / box[axis, axis])
        steps += shifts[:, axis, None] * box[axis]
    return shifts
