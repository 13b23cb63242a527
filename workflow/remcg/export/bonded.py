"""What exports share about molecules: groups by term, tables of bonded terms, piecewise forms."""

from typing import NamedTuple

import numpy as np

from remcg.topology import GROUPS


class Groups(NamedTuple):
    """The groups of one kind, by what acts on them.

    Attributes
    ----------
    kind : str
        bond, angle or dihedral.
    terms : list of (BondedTerm, ndarray)
        The model's terms of this kind with theta, in its order.
    sites : ndarray, shape (n, 2), (n, 3) or (n, 4)
    term : ndarray of int, shape (n,)
        Index into ``terms``; bonds without a term come last, with -1.
    """

    kind: str
    terms: list
    sites: np.ndarray
    term: np.ndarray


def groups_of(model, start, temperature):
    """Bonds, angles and dihedrals of a start, as a list of three Groups.

    All bonds are there, because neighbours are found along them; angles and dihedrals only where a
    term acts.
    """
    thetas, found = model.term_theta(temperature), []
    for n, (kind, attribute) in enumerate(GROUPS.items(), start=2):
        terms = [(t, theta) for t, theta in zip(model.terms, thetas) if t.kind == kind]
        sites, numbers = [np.zeros((0, n), np.int64)], [np.zeros(0, np.int64)]
        if start.topology is not None:
            for k, (term, _) in enumerate(terms):
                sites.append(start.topology.groups(term, start.site_names))
                numbers.append(np.full(len(sites[-1]), k))
            if kind == "bond":
                rest = _rest(getattr(start.topology, attribute), np.concatenate(sites))
                sites.append(rest)
                numbers.append(np.full(len(rest), -1))
        found.append(Groups(kind, terms, np.concatenate(sites), np.concatenate(numbers)))
    return found


def _rest(everything, taken):
    known = set(map(tuple, taken.tolist()))
    rest = [row for row in map(tuple, everything.tolist()) if row not in known]
    return np.array(rest, np.int64).reshape(-1, everything.shape[1])


def has_molecules(start):
    """Whether any molecule has more than one site."""
    return start.topology is not None and start.topology.n_molecules < start.topology.n_sites


def molecule_of(start):
    """Molecule of each site, from 0."""
    if start.topology is None:
        return np.arange(len(start.positions))
    return start.topology.molecule


def grid(term, n_rows):
    """Where a bonded term is tabulated: bonds from a tenth of their range to twice its end, nm;
    angles from 0 to pi, dihedrals from -pi to below pi, rad."""
    if term.kind == "bond":
        return np.linspace(0.1 * term.basis.low, 2.0 * term.basis.high, n_rows)
    if term.kind == "angle":
        return np.linspace(0.0, np.pi, n_rows)
    return np.linspace(-np.pi, np.pi, n_rows, endpoint=False)


def piecewise(term, theta):
    """(origin, spacing, coefficients (M, 4)) of U: polynomials in u, row by row."""
    pieces = term.basis.pieces
    weights = np.where(pieces.index >= 0, np.asarray(theta)[pieces.index], 0.0)
    return pieces.origin, pieces.spacing, np.einsum("mj,mjp->mp", weights, pieces.functions)
