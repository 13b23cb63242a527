"""A mapping applied to a topology: the linear operator, the sites, and how they are bonded."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array, csr_matrix, diags_array
from scipy.sparse.csgraph import connected_components

from remcg.errors import InputError
from remcg.mapping.rules import GROUPS, read_mapping
from remcg.topology import Topology, members_of
from remcg.trajectory import load_topology
from remcg.typed import correction, nearest


@dataclass(frozen=True)
class Sites:
    """A mapping applied to a topology.

    Attributes
    ----------
    matrix : csr_matrix, shape (n_sites, n_atoms)
        Rows sum to one.
    atoms : list of ndarray
        Per molecule, the indices of all its atoms.
    site_types, molecule : ndarray, shape (n_sites,)
    masses : ndarray, shape (n_sites,), amu
        Those of a molecule add up to its mass, whatever atoms are in a site.
    names : list of str
        Type names of the mapping, sorted, also those of residues that the topology does not have;
        ``site_types`` are indices into them.
    bonds, angles, dihedrals : ndarray, shape (n, 2), (n, 3), (n, 4)
    labels : list of (str, str)
        Residue and site name of each site.
    atom_masses : ndarray, shape (n_atoms,), amu
    """

    matrix: csr_matrix
    atoms: list
    site_types: np.ndarray
    molecule: np.ndarray
    masses: np.ndarray
    names: list
    bonds: np.ndarray = None
    angles: np.ndarray = None
    dihedrals: np.ndarray = None
    labels: list = None
    atom_masses: np.ndarray = None

    @property
    def pair_types(self):
        """All pairs of type indices, in the order of :attr:`pair_names`."""
        n = len(self.names)
        return [(a, b) for a in range(n) for b in range(a, n)]

    @property
    def pair_names(self):
        """Names of all pairs of site types, A-B, in the order of ``pair_types``."""
        return [f"{self.names[a]}-{self.names[b]}" for a, b in self.pair_types]

    @property
    def n_sites(self):
        """Number of sites."""
        return len(self.site_types)

    @property
    def n_atoms(self):
        """Atoms of the mapped molecules, in sites or not."""
        return sum(map(len, self.atoms))

    @cached_property
    def topology(self):
        """The sites as the engine knows them, a :class:`remcg.topology.Topology`."""
        groups = self.bonds, self.angles, self.dihedrals
        return Topology(self.site_types, self.masses, self.molecule, *groups)

    @cached_property
    def rank(self):
        """Rank of :attr:`matrix`: how many sites are independent of each other."""
        return self.n_sites - sum(missing for _, missing in self.dependent)

    @cached_property
    def dependent(self):
        """Sites of one molecule that depend on each other: [(sites, how many too many)]."""
        rows = _entangled(self.matrix)
        found = []
        for members in members_of(self.molecule[rows]):
            members = rows[members]
            missing = 0
            if len(members):
                missing = len(members) - np.linalg.matrix_rank(_dense(self.matrix[members]))
            if missing:
                found.append((members, int(missing)))
        return found

    @property
    def null_dimension(self):
        """Dimension of the atomistic motions that move no site: 3N - 3n of n independent sites."""
        return 3 * (self.n_atoms - self.rank)

    @property
    def mapped_masses(self):
        r"""Masses with which sites move when momenta are mapped too, shape (n_sites,), amu.

        .. math:: 1 / M_I = \sum_i c_{Ii}^2 / m_i

        (Noid et al., J. Chem. Phys. 128, 244114 (2008)); for the centre of mass of a site's atoms
        it is their mass. An atom of weight without mass makes it zero.
        """
        entries = self.matrix.tocoo()
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = np.where(
                entries.data == 0, 0.0, entries.data**2 / self.atom_masses[entries.col]
            )
            return 1.0 / np.bincount(entries.row, parts, self.n_sites)


def _entangled(matrix):
    """Rows that may depend on each other: none has an element that is alone in its column.

    A row with such an element is independent of all others and is left out, one after the other.
    """
    left, rest = np.arange(matrix.shape[0]), matrix.copy()
    rest.eliminate_zeros()
    while True:
        alone = np.bincount(rest.indices, minlength=rest.shape[1])[rest.indices] == 1
        row = np.repeat(np.arange(len(left)), np.diff(rest.indptr))
        free = np.bincount(row, alone, len(left)) > 0
        if not free.any():
            return left
        left, rest = left[~free], rest[~free]


def _dense(rows):
    """Rows of a sparse matrix without the columns in which they have nothing."""
    return rows[:, np.unique(rows.indices)].toarray()


def operator(topology, mapping):
    """Mapping matrix (n_sites, n_atoms) and the atom indices of each molecule, from two files."""
    sites = sites_of(topology, mapping)[1]
    return sites.matrix, sites.atoms


def sites_of(topology, mapping):
    """(mdtraj.Topology, Sites) of a topology file and a mapping file."""
    read = load_topology(topology)
    rules = read_mapping(mapping)
    try:
        return read, build_sites(read, rules)
    except InputError as error:
        raise InputError(f"{mapping} on {topology}: {error}") from None


def build_sites(topology, mapping):
    """Apply a mapping to a topology.

    A molecule is what bonds between atoms connect, and a residue is never in two of them. An atom
    in no site belongs to the sites that are nearest along the bonds. Two sites are bonded when they
    share an atom, or where a bond joins their atoms that is not within a third site. The mass of an
    atom is split evenly over the sites it belongs to.

    Parameters
    ----------
    topology : mdtraj.Topology
    mapping : dict
        As from :func:`read_mapping`.
    """
    _check_residues(topology, mapping)
    mapped = [residue for residue in topology.residues if mapping[residue.name] is not None]
    if not mapped:
        raise InputError("the mapping ignores every residue of the topology; map at least one")
    atom_masses = _atom_masses(topology, mapping)
    held, weighted, owners, residue_of = _entries(mapped, mapping, topology, atom_masses)
    of_atom = _molecules(topology)
    molecule = _renumbered(of_atom[_first_atoms(held)])
    several = np.bincount(molecule)[molecule] > 1
    _check_types(owners, molecule)
    atoms = _atoms_of(of_atom, held, molecule)
    _check_bonds(topology, of_atom, held, several)
    belonging = _belonging(topology, held, several)
    masses = _masses(belonging, atoms, molecule, several, atom_masses)
    _check_masses(masses, owners)
    kinds = [site.type for _, site in owners]
    names = sorted({site.type for rules in mapping.values() if rules for site in rules.sites})
    types = np.array([names.index(kind) for kind in kinds])
    groups = _groups(topology, mapping, mapped, belonging, types, masses, molecule, residue_of)
    _check_whole(groups[0], molecule, owners)
    sites = Sites(
        matrix=weighted,
        atoms=atoms,
        site_types=types,
        molecule=molecule,
        masses=masses,
        names=names,
        bonds=groups[0],
        angles=groups[1],
        dihedrals=groups[2],
        labels=[(residue.name, site.name) for residue, site in owners],
        atom_masses=atom_masses,
    )
    _check_rank(sites)
    return sites


def _atom_masses(topology, mapping):
    """Masses of all atoms, amu: of their elements, or as the mapping says."""
    masses = np.array([atom.element.mass if atom.element else 0.0 for atom in topology.atoms])
    for residue in topology.residues:
        given = getattr(mapping[residue.name], "masses", None)
        if given:
            places = {atom.name: atom.index for atom in residue.atoms}
            for name, mass in given.items():
                if name not in places:
                    raise InputError(
                        f"masses: the atom {name} is not in residue {residue}, which has "
                        f"{', '.join(places)}; correct the name"
                    )
                masses[places[name]] = mass
    return masses


def _check_types(owners, molecule):
    """Sites of residues that are never in one molecule are of one type only if that is said."""
    residues = {}  # of each type, by name: whether it is said
    for residue, site in owners:
        residues.setdefault(site.type, {})[residue.name] = (site.name, site.says_type)
    names = sorted({residue.name for residue, _ in owners})
    met = np.array([(molecule[i], names.index(owners[i][0].name)) for i in range(len(owners))])
    met = csr_array((np.ones(len(met)), tuple(met.T)), shape=(max(molecule) + 1, len(names)))
    kind = connected_components(met.T @ met, directed=False)[1]
    spellings = {}
    for name, users in residues.items():
        other = spellings.setdefault(name.lower(), name)
        if other != name:
            raise InputError(
                f"the site types {other} and {name} differ only in case; rename one of them"
            )
        first = next(iter(users))
        for residue, (site, said) in users.items():
            together = kind[names.index(first)] == kind[names.index(residue)]
            if not together and not (said and users[first][1]):
                raise InputError(
                    f"the sites {users[first][0]} of {first} and {site} of {residue}, which are of "
                    f"different molecules, would both have the type {name}; where that is meant, "
                    f"say so with types: {{{site}: {name}}} in both residues, else rename one"
                )


def _check_residues(topology, mapping):
    found = sorted({residue.name for residue in topology.residues})
    for name in found:
        if name not in mapping:
            guess = nearest(name, mapping)
            advice = f" (is '{guess}' meant for it?)" if guess else ""
            raise InputError(
                f"the topology has residues {name} but the mapping has only "
                f"{', '.join(mapping)}{advice}; add its sites, or '{name}: {{ignore: true}}' to "
                "leave it out"
            )


def _entries(mapped, mapping, topology, atom_masses):
    """Sites in the order of their residues.

    Returns
    -------
    held, weighted : csr_matrix, shape (n_sites, n_atoms)
        Ones, and weights, of the atoms of each site.
    owners : list of (residue, SiteMap)
    residue_of : ndarray, shape (n_sites,)
        Position in ``mapped`` of the residue of each site.
    """
    rows, columns, values, owners, residue_of, known = [], [], [], [], [], {}
    for number, residue in enumerate(mapped):
        atoms = list(residue.atoms)
        key = residue.name, tuple((atom.name, atom.element) for atom in atoms)
        if key not in known:
            sites = mapping[residue.name].sites
            known[key] = [_chosen(residue, site, topology, atom_masses) for site in sites]
        for site, (chosen, weights) in zip(mapping[residue.name].sites, known[key]):
            rows += [len(owners)] * len(chosen)
            columns += [atoms[k].index for k in chosen]
            values += weights
            owners.append((residue, site))
            residue_of.append(number)
    shape = len(owners), topology.n_atoms
    held = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    weighted = csr_matrix((values, (rows, columns)), shape=shape)
    return held, weighted, owners, np.array(residue_of)


def _chosen(residue, site, topology, atom_masses):
    """(places in the residue, normalised weights) of the atoms of a site."""
    atoms = list(residue.atoms)
    named = site.select is None
    chosen = _by_name(residue, site) if named else _selected(residue, site, topology)
    weights = site.weights
    if weights == "geometric":
        weights = [1.0] * len(chosen)
    elif weights == "mass":
        weights = [float(atom_masses[atoms[k].index]) for k in chosen]
    if len(weights) != len(chosen):
        raise InputError(
            f"site {site.name}: has {len(weights)} weights, but '{site.select}' selects "
            f"{len(chosen)} atoms of residue {residue}; give one number per atom"
        )
    if not sum(weights) > 0:
        raise InputError(
            f"site {site.name}: its atoms {', '.join(atoms[k].name for k in chosen)} have no mass "
            "in the topology; give elements there, or weights: geometric"
        )
    return chosen, (np.array(weights) / sum(weights)).tolist()


def _by_name(residue, site):
    places = {}
    for k, atom in enumerate(residue.atoms):
        if atom.name in places:
            raise InputError(
                f"residue {residue} has two atoms {atom.name}; give each its own name in the "
                "topology"
            )
        places[atom.name] = k
    for name in site.atoms:
        if name not in places:
            advice = correction(name, places, "; correct the name")
            raise InputError(
                f"site {site.name}: the atom {name} is not in residue {residue}, which has "
                f"{', '.join(places)}{advice}"
            )
    return [places[name] for name in site.atoms]


def _selected(residue, site, topology):
    """Places of the atoms that a selection finds when the residue is all there is."""
    alone = topology.subset([atom.index for atom in residue.atoms])
    try:
        chosen = [int(k) for k in alone.select(site.select)]
    except Exception as error:  # mdtraj's parser raises almost anything
        text = " ".join(str(error).split())
        raise InputError(
            f"site {site.name}: mdtraj does not understand the selection '{site.select}' ({text}); "
            "write it as 'name CA' or 'element C and not name CA'"
        ) from error
    if not chosen:
        names = ", ".join(atom.name for atom in residue.atoms)
        raise InputError(
            f"site {site.name}: '{site.select}' selects no atom of residue {residue}, which has "
            f"{names}; correct the selection"
        )
    return chosen


def _bonded_atoms(topology):
    """Ends of all bonds, shape (n, 2)."""
    bonds = [(bond[0].index, bond[1].index) for bond in topology.bonds]
    return np.array(bonds, np.int64).reshape(-1, 2)


def _graph(edges, n):
    """Symmetric matrix of ones from edges (m, 2)."""
    ends = np.concatenate([edges, edges[:, ::-1]])
    return csr_array((np.ones(len(ends)), tuple(ends.T)), shape=(n, n))


def _molecules(topology):
    """Molecule of each atom: what bonds connect, residues in one piece."""
    residues = [[atom.index for atom in residue.atoms] for residue in topology.residues]
    together = [(atoms[0], atom) for atoms in residues for atom in atoms[1:]]
    edges = np.concatenate([_bonded_atoms(topology), np.array(together, np.int64).reshape(-1, 2)])
    return connected_components(_graph(edges, topology.n_atoms), directed=False)[1]


def _first_atoms(held):
    return held.indices[held.indptr[:-1]]


def _renumbered(labels):
    """Labels as 0, 1, ... in the order of their first use."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _atoms_of(of_atom, held, molecule):
    """Per molecule with sites, the indices of all its atoms."""
    _, first = np.unique(molecule, return_index=True)
    members = members_of(of_atom)
    return [members[k] for k in of_atom[_first_atoms(held)[first]]]


def _check_bonds(topology, of_atom, held, several):
    """Only along bonds can a molecule of several sites be made whole."""
    inside = np.isin(of_atom, of_atom[_first_atoms(held)[several]])
    bonds = _graph(_bonded_atoms(topology), topology.n_atoms)
    parts = connected_components(bonds, directed=False)[1]
    found = np.unique(np.stack([of_atom[inside], parts[inside]]), axis=1)
    broken = np.flatnonzero(np.bincount(found[0]) > 1)
    if len(broken) == 0:
        return
    atoms = np.flatnonzero(of_atom == broken[0])
    apart = atoms[np.argmax(parts[atoms] != parts[atoms[0]])]
    first, second = topology.atom(int(atoms[0])), topology.atom(int(apart))
    raise InputError(
        f"residue {first.residue}: its molecule has several sites, but no bonds of the topology "
        f"connect its atoms {first} and {second}, so that it cannot be made whole across the "
        "boundary of the box; give a topology with all bonds (a PDB with CONECT records, a PRMTOP "
        "or a PSF)"
    )


def _belonging(topology, held, several):
    """Sites of each atom, (n_sites, n_atoms): those that hold it, else the nearest along bonds."""
    found = csr_array(held.T)
    graph = _graph(_bonded_atoms(topology), topology.n_atoms)
    while several.any():
        step = graph @ found
        new = (np.diff(step.indptr) > 0) & (np.diff(found.indptr) == 0)
        if not new.any():
            break
        step.data[:] = 1.0
        found = csr_array(found + diags_array(new.astype(float)) @ step)
        found.eliminate_zeros()
    return csr_array(found.T)


def _masses(belonging, atoms, molecule, several, atom_masses):
    """Mass of each site; the only one of a molecule has all of it."""
    shares = np.maximum(np.bincount(belonging.indices, minlength=len(atom_masses)), 1)
    masses = belonging @ (atom_masses / shares)
    for site in np.flatnonzero(~several):
        masses[site] = sum(atom_masses[atoms[molecule[site]]].tolist())
    return masses


def _check_masses(masses, owners):
    if min(masses) <= 0:
        residue, site = owners[int(np.argmin(masses))]
        raise InputError(
            f"residue {residue}: its site {site.name} has no mass; ignore it, or give atoms with "
            "elements"
        )


def _groups(topology, mapping, mapped, belonging, types, masses, molecule, residue_of):
    """Bonds, angles and dihedrals of sites: inferred, but within a residue as it lists them."""
    first_site = np.searchsorted(residue_of, np.arange(len(mapped)))
    bonds = _inferred_bonds(topology, belonging)
    bonds = _with_listed(bonds, "bonds", mapping, mapped, first_site, residue_of)
    chains = Topology.from_bonds(types, masses, bonds, molecule)
    inferred = chains.bonds, chains.angles, chains.dihedrals
    return [
        _with_listed(groups, name, mapping, mapped, first_site, residue_of)
        for name, groups in zip(GROUPS, inferred)
    ]


def _inferred_bonds(topology, belonging):
    """Pairs of sites (i < j) that share an atom, or that a bond between two of their atoms joins.

    A bond both of whose atoms are in one site joins no others.
    """
    of_atom = csr_array(belonging.T)
    first, second = (of_atom[ends] for ends in _bonded_atoms(topology).T)
    between = np.asarray(first.multiply(second).sum(axis=1)).ravel() == 0
    joined = first[between].T @ second[between] + belonging @ of_atom
    pairs = np.sort(np.stack(joined.nonzero(), axis=1), axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0).astype(np.int64)


def _with_listed(groups, name, mapping, mapped, first_site, residue_of):
    """Groups without those inside residues that list theirs, and with what these list."""
    listed, replaced = [], np.zeros(len(mapped), bool)
    for number, residue in enumerate(mapped):
        rules = mapping[residue.name]
        given = getattr(rules, name)
        if given is not None:
            replaced[number] = True
            places = {site.name: first_site[number] + k for k, site in enumerate(rules.sites)}
            listed += [[places[site] for site in group] for group in given]
    if not replaced.any():
        return groups
    of_group = residue_of[groups]
    inside = (of_group == of_group[:, :1]).all(axis=1) & replaced[of_group[:, 0]]
    kept = np.concatenate([groups[~inside], np.array(listed, np.int64).reshape(-1, GROUPS[name])])
    return kept[np.lexsort(kept.T[::-1])]


def _check_whole(bonds, molecule, owners):
    """The sites of a molecule must be one piece."""
    parts = connected_components(_graph(bonds, len(molecule)), directed=False)[1]
    _, first = np.unique(molecule, return_index=True)
    apart = parts != parts[first][molecule]
    if apart.any():
        site = int(np.argmax(apart))
        one, other = owners[first[molecule[site]]], owners[site]
        raise InputError(
            f"residue {other[0]}: its site {other[1].name} is not bonded to the rest of the "
            f"molecule, such as the site {one[1].name} of {one[0]}; list bonds of the sites, such "
            f"as bonds: [[{one[1].name}, {other[1].name}]]"
        )


def _check_rank(sites):
    """Sites that are not independent have no probability density together."""
    if sites.dependent:
        rows, _ = sites.dependent[0]
        names = ", ".join(sites.labels[row][1] for row in rows[:8])
        raise InputError(
            f"residue {sites.labels[rows[0]][0]}: the positions of its sites ({names}) depend on "
            "each other, as where two have the same atoms and weights; give each site atoms of its "
            "own"
        )
