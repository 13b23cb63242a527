"""Which atoms of molecules that turn give and take hydrogen bonds."""

from typing import NamedTuple

import numpy as np

POLAR = 0.3  # e: at least that of a hydrogen that is given, less than minus that of what takes it
COVALENT = 0.11  # nm: from such a hydrogen to the atom that gives it
ARM = 0.03  # nm: it is farther than that from the site, so that turns move it
NEAR = 0.36  # nm, from the atom that gives a hydrogen to what takes it
SHELL = 5  # nearest molecules of each


class Polar(NamedTuple):
    """Which atoms of turning molecules give and take hydrogen bonds.

    Hydrogens of group g are ``hydrogen[start[g]:start[g + 1]]``, each given by the atom of the same
    place in ``giver``; ``accepts`` (n_atoms,); ``owner`` (n_atoms,): the group of an atom, -1 for
    one that stands still; ``nearest`` (n_groups, SHELL): groups, -1 for none.
    """

    start: np.ndarray
    hydrogen: np.ndarray
    giver: np.ndarray
    accepts: np.ndarray
    owner: np.ndarray
    nearest: np.ndarray

    @property
    def share(self):
        """Part of the groups that can give a hydrogen to another one."""
        return float(np.mean(np.diff(self.start) > 0))


def polar_atoms(positions, groups, neighbours, charges):
    """Hydrogens that can be given and atoms that can take them, by charge and distance.

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3)
        nm, molecules whole.
    groups, neighbours
        Of :mod:`remcg.backmap.turns`.
    charges : ndarray, shape (n_atoms,)
        e.

    Returns
    -------
    Polar
        Without hydrogens of molecules near which no other one that turns can take them.
    """
    n_groups = len(groups.pivot)
    owner = np.full(len(charges), -1)
    owner[groups.atoms] = np.repeat(np.arange(n_groups), np.diff(groups.start))
    accepts = (charges <= -POLAR) & (owner >= 0)
    arms = np.zeros(len(charges))
    arms[groups.atoms] = np.linalg.norm(
        positions[groups.atoms] - groups.pivot[owner[groups.atoms]], axis=1
    )
    start, hydrogens, givers = np.zeros(n_groups + 1, np.int64), [], []
    nearest = np.full((n_groups, SHELL), -1)
    for group in range(n_groups):
        part = slice(neighbours.bounds[group, 0], neighbours.bounds[group, 4])
        others, away = neighbours.atom[part], neighbours.shift[part] - groups.pivot[group]
        moves = (others >= 0) & (owner[others] >= 0) & (owner[others] != group)
        others, away = others[moves], away[moves]
        distances = np.linalg.norm(positions[others] + away, axis=1)
        found = list(dict.fromkeys(owner[others[np.argsort(distances)]].tolist()))[:SHELL]
        nearest[group, : len(found)] = found
        takers = others[accepts[others]]
        away = groups.pivot[owner[takers]] + away[accepts[others]]
        apart = np.linalg.norm(away, axis=1) - arms[takers]
        hydrogen, giver = _given_by(positions, groups, group, charges)
        is_given = (arms[hydrogen] > ARM) & (apart.min(initial=np.inf) < NEAR + arms[giver])
        hydrogens.append(hydrogen[is_given])
        givers.append(giver[is_given])
        start[group + 1] = start[group] + is_given.sum()
    return Polar(start, np.concatenate(hydrogens), np.concatenate(givers), accepts, owner, nearest)


def _given_by(positions, groups, group, charges):
    """Polar hydrogens of a group, and the atom that gives each."""
    atoms = groups.atoms[groups.start[group] : groups.start[group + 1]]
    apart = np.linalg.norm(positions[atoms][:, None] - positions[atoms], axis=2)
    apart[:, charges[atoms] > -POLAR] = np.inf
    giver = apart.argmin(axis=1)
    is_given = (charges[atoms] >= POLAR) & (apart[np.arange(len(atoms)), giver] < COVALENT)
    return atoms[is_given], atoms[giver[is_given]]
