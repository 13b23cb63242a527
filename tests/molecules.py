"""Made-up molecules of several atoms and residues: fixtures of the tests of mappings."""

import mdtraj
import numpy as np


def topology(residues, bonds, n_copies=1):
    """Copies of one molecule.

    Parameters
    ----------
    residues : list of (str, list of str)
        Name of each residue and of its atoms, whose first letter is the element.
    bonds : list of (int, int)
        By the place of the atoms in the molecule.
    """
    result = mdtraj.Topology()
    for _ in range(n_copies):
        chain, atoms = result.add_chain(), []
        for name, names in residues:
            residue = result.add_residue(name, chain)
            for atom in names:
                element = mdtraj.element.get_by_symbol(atom[0])
                atoms.append(result.add_atom(atom, element, residue))
        for i, j in bonds:
            result.add_bond(atoms[i], atoms[j])
    return result


def carbons(n, n_copies=1, name="CHN"):
    """Straight chains of n carbons C1 ... Cn."""
    names = [f"C{i}" for i in range(1, n + 1)]
    return topology([(name, names)], [(i, i + 1) for i in range(n - 1)], n_copies)


PEPTIDE_ATOMS = ["N", "HA", "CA", "CB", "C", "O"]
PEPTIDE_BONDS = [(0, 2), (1, 2), (2, 3), (2, 4), (4, 5)]


def peptide(n_residues, name="ALA"):
    """Residues N, HA, CA, CB, C, O in a row, bonded from C to N."""
    bonds = [(6 * k + i, 6 * k + j) for k in range(n_residues) for i, j in PEPTIDE_BONDS]
    bonds += [(6 * k + 4, 6 * k + 6) for k in range(n_residues - 1)]
    return topology([(name, PEPTIDE_ATOMS)] * n_residues, bonds)


def walks(n_atoms, n_frames, n_copies, seed=1, step=0.15):
    """Random walks (n_frames, n_copies n_atoms, 3) of fixed step, nm, anywhere near the origin."""
    random = np.random.default_rng(seed)
    steps = random.normal(size=(n_frames, n_copies, n_atoms, 3))
    steps *= step / np.linalg.norm(steps, axis=-1, keepdims=True)
    steps[:, :, 0] = random.uniform(0.0, 3.0, (n_frames, n_copies, 3))
    return np.cumsum(steps, axis=2).reshape(n_frames, -1, 3)


def stored(positions, top, vectors, time=None):
    """A trajectory of atoms wrapped one by one into boxes with the rows ``vectors`` (3, 3)."""
    fractions = positions @ np.linalg.inv(vectors)
    wrapped = (fractions - np.floor(fractions)) @ vectors
    time = np.arange(1.0, len(positions) + 1.0) if time is None else time
    result = mdtraj.Trajectory(wrapped, top, time)
    result.unitcell_vectors = np.tile(vectors, (len(positions), 1, 1))
    return result
