"""Bonded coordinates of given configurations: basis sums, distributions, shapes of molecules."""

from itertools import groupby
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from remcg.model import canonical
from remcg.pairs import pair_sums
from remcg.topology import GROUPS, members_of

WIDTHS = {"bond": 0.001, "angle": np.pi / 180, "dihedral": np.pi / 90}  # of bins, nm or rad
CHAIN_WIDTH = 0.01  # nm
LOWEST = {"dihedral": -np.pi}
N_BINS = {"angle": 180, "dihedral": 180}  # of a bond as many as it takes
PADDING = 10  # empty bins that are kept on either side
SHAPES = ("rg", "end")
LEAST_CHAIN = 3  # sites of a molecule that has a shape


class Group(NamedTuple):
    """All bonds, angles or dihedrals of the same site types.

    ``sites`` (n_groups, 2, 3 or 4): their sites, along the chain.
    """

    kind: str
    name: str
    sites: np.ndarray

    @property
    def key(self):
        """Name in tables and files: kind and site types."""
        return f"{self.kind} {self.name}"


class Chains(NamedTuple):
    """All molecules of one kind with LEAST_CHAIN sites or more.

    ``sites`` (n_molecules, n): their sites; ``ends``: places in a row of the two sites that are
    most bonds apart, or None where bonds do not connect the molecule.
    """

    name: str
    sites: np.ndarray
    ends: tuple | None


def groups_of(topology, site_names):
    """Every kind and tuple of site types that occurs, as a list of Group.

    Parameters
    ----------
    topology : Topology
    site_names : sequence of str
        Name of each site type.
    """
    names, found = np.array(list(site_names)), []
    for kind, attribute in GROUPS.items():
        rows = getattr(topology, attribute)
        labels = ["-".join(canonical(row)) for row in names[topology.site_types[rows]].tolist()]
        for label in sorted(set(labels)):
            found.append(Group(kind, label, rows[np.array(labels) == label]))
    return found


def coordinates(positions, sites):
    """Lengths (nm), angles or dihedrals (rad; cis is 0) of groups of 2, 3 or 4 sites.

    Parameters
    ----------
    positions : ndarray, shape (n_frames, n_sites, 3)
        nm, with whole molecules.
    sites : ndarray, shape (n_groups, 2), (n_groups, 3) or (n_groups, 4)

    Returns
    -------
    ndarray, shape (n_frames, n_groups)
    """
    points = np.moveaxis(np.asarray(positions, float)[:, sites], 2, 0)
    if len(points) == 2:
        return np.linalg.norm(points[0] - points[1], axis=-1)
    if len(points) == 3:
        a, b = points[0] - points[1], points[2] - points[1]
        return np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(axis=-1))
    f, g, h = points[0] - points[1], points[1] - points[2], points[3] - points[2]
    a, b = np.cross(f, g), np.cross(h, g)
    triple = (np.cross(b, a) * g).sum(axis=-1) / np.linalg.norm(g, axis=-1)
    return np.arctan2(triple, (a * b).sum(axis=-1))


def site_sums(positions, boxes, topology, site_names, terms, excluded=()):
    """Basis sums of all pair and bonded terms, in their order.

    Parameters
    ----------
    positions : ndarray, shape (n_frames, n_sites, 3)
        nm, with whole molecules.
    boxes : ndarray, shape (n_frames, 3) or (n_frames, 3, 3), nm
    topology : Topology
    site_names : sequence of str
    terms : sequence of terms
        The volume term is passed over.
    excluded : ndarray, shape (n, 2)
        Pairs of sites on which no pair term acts, as from :meth:`Topology.excluded`.

    Returns
    -------
    ndarray, shape (n_frames, n_functions)
    """
    pairs = [term for term in terms if term.kind == "pair"]
    of_pairs = pair_sums(positions, boxes, topology.site_types, site_names, pairs, excluded)
    parts, at = [np.zeros((len(positions), 0))], 0
    for term in terms:
        if term.kind == "pair":
            parts.append(of_pairs[:, at : at + term.n_basis])
            at += term.n_basis
        elif term.kind != "volume":
            parts.append(_bonded_sums(positions, topology.groups(term, site_names), term.basis))
    return np.concatenate(parts, axis=1)


def _bonded_sums(positions, sites, basis):
    """Frame by frame: the values of all functions at all groups are large."""
    found = coordinates(positions, sites)
    return np.array([basis.values(x).sum(axis=0) for x in found]).reshape(-1, basis.n_basis)


def chains_of(topology, site_names):
    """Kinds of molecules with a shape, as Chains; linear ones are named along the chain."""
    kinds = {}
    for sites in members_of(topology.molecule):
        if len(sites) >= LEAST_CHAIN:
            kinds.setdefault(tuple(topology.site_types[sites].tolist()), []).append(sites)
    found = []
    for sites in kinds.values():
        steps = _steps(topology, sites[0])
        names = [site_names[k] for k in topology.site_types[_along(sites[0], steps)]]
        found.append(Chains(chain_name(names), np.array(sites), _ends(steps)))
    return found


def chain_name(names):
    """A-B2-A for a molecule of the sites A, B, B, A."""
    runs = [(name, len(list(run))) for name, run in groupby(names)]
    return "-".join(name if n == 1 else f"{name}{n}" for name, n in runs)


def _steps(topology, sites):
    """Numbers of bonds between the sites of a molecule, (n, n); infinite where none connect."""
    place = {site: k for k, site in enumerate(sites.tolist())}
    bonds = [[place[a], place[b]] for a, b in topology.bonds.tolist() if a in place]
    i, j = np.array(bonds, np.int64).reshape(-1, 2).T
    graph = csr_array((np.ones(len(i)), (i, j)), shape=(len(sites),) * 2)
    return shortest_path(graph, directed=False, unweighted=True)


def _ends(steps):
    """Places of the first two sites that are most bonds apart."""
    if np.isinf(steps).any():
        return None
    return tuple(int(k) for k in np.unravel_index(np.argmax(steps), steps.shape))


def _along(sites, steps):
    """Sites of a linear molecule from end to end; of any other as they are."""
    ends = _ends(steps)
    if ends is None or steps[ends] != len(sites) - 1:
        return sites
    return sites[np.argsort(steps[ends[0]])]


def shapes(positions, chains, masses):
    """Radii of gyration and end-to-end distances, nm: dict of arrays (n_frames, n_molecules).

    Parameters
    ----------
    positions : ndarray, shape (n_frames, n_sites, 3)
        nm, with whole molecules.
    chains : Chains
    masses : ndarray, shape (n_sites,), amu
    """
    points, weights = np.asarray(positions, float)[:, chains.sites], masses[chains.sites[0]]
    weights = weights / weights.sum()
    centre = np.einsum("fmsd,s->fmd", points, weights)
    spread = ((points - centre[:, :, None]) ** 2).sum(axis=-1)
    found = {"rg": np.sqrt(spread @ weights)}
    if chains.ends is not None:
        first, last = chains.ends
        found["end"] = np.linalg.norm(points[:, :, first] - points[:, :, last], axis=-1)
    return found


class Histograms:
    """Distributions of bonded coordinates and of shapes, frames added block by block.

    Parameters
    ----------
    topology : Topology
    site_names : sequence of str
    n_blocks : int
    """

    def __init__(self, topology, site_names, n_blocks):
        self.groups = groups_of(topology, site_names)
        self.chains = chains_of(topology, site_names)
        self.masses, self.n_blocks = topology.masses, n_blocks
        self.counts = {}

    def add(self, positions, block):
        """Count frames of whole molecules, (n_frames, n_sites, 3), in a block."""
        for group in self.groups:
            x = coordinates(positions, group.sites) - LOWEST.get(group.kind, 0.0)
            self._count(f"bonded_{group.kind}_{group.name}", block, x / WIDTHS[group.kind])
        for chains in self.chains:
            for shape, x in shapes(positions, chains, self.masses).items():
                self._count(f"chain_{chains.name}_{shape}", block, x / CHAIN_WIDTH)

    def _count(self, key, block, places):
        rows = self.counts.setdefault(key, [np.zeros(0)] * self.n_blocks)
        found = np.bincount(places.astype(int).ravel(), minlength=len(rows[block])).astype(float)
        found[: len(rows[block])] += rows[block]
        rows[block] = found

    def arrays(self):
        """Edges and normalised histograms of the blocks: bonded_..._edges, bonded_..._blocks."""
        found = {}
        for key, rows in self.counts.items():
            kind = key.split("_")[1] if key.startswith("bonded_") else "chain"
            table, first = _table(rows, N_BINS.get(kind))
            width = WIDTHS.get(kind, CHAIN_WIDTH)
            edges = LOWEST.get(kind, 0.0) + width * np.arange(first, first + table.shape[1] + 1)
            totals = table.sum(axis=1, keepdims=True)
            found[f"{key}_edges"] = edges
            found[f"{key}_blocks"] = table / (np.maximum(totals, 1.0) * width)
        return found

    def attributes(self):
        """Numbers of groups by "bond A-B" and of molecules by kind."""
        return {
            "bonded": {group.key: len(group.sites) for group in self.groups},
            "chains": {chains.name: len(chains.sites) for chains in self.chains},
        }


def _table(rows, n_bins):
    """Counts (n_blocks, n_bins) of rows of different lengths, and the number of the first bin.

    With ``n_bins``, what rounding puts beyond the last bin is counted in it; else empty bins are
    cut off but for PADDING.
    """
    longest = max(len(row) for row in rows)
    table = np.array([np.pad(row, (0, longest - len(row))) for row in rows])
    if n_bins is not None:
        table = np.pad(table, ((0, 0), (0, max(0, n_bins - longest))))
        table[:, n_bins - 1] += table[:, n_bins:].sum(axis=1)
        return table[:, :n_bins], 0
    used = np.flatnonzero(table.sum(axis=0))
    first = max(used[0] - PADDING, 0)
    table = np.pad(table[:, first : used[-1] + 1], ((0, 0), (0, PADDING)))
    return table, first


def histogram(x, edges):
    """Normalised histogram of values in given bins; those beyond count in the nearest one."""
    width = edges[1] - edges[0]
    places = np.clip((np.asarray(x) - edges[0]) / width, 0, len(edges) - 2).astype(int)
    return np.bincount(places.ravel(), minlength=len(edges) - 1) / (places.size * width)
