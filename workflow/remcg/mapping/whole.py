"""Molecules in one piece across the boundaries of the box, and the sites of many frames."""

import math

import numpy as np
from numba import njit

from remcg.boxes import many
from remcg.errors import InputError

LONGEST_BOND = 0.5  # nm; a longer one means a corrupt frame or another topology


class Unwrapper:
    """Makes molecules whole across the boundaries of orthorhombic and triclinic boxes.

    Each molecule is walked from its first atom along its bonds. Atoms that no bond reaches are
    placed next to the first atom.

    Parameters
    ----------
    topology : mdtraj.Topology
    molecules : list of ndarray
        Atom indices.
    """

    def __init__(self, topology, molecules):
        self.topology = topology
        neighbours = {}
        for bond in topology.bonds:
            a, b = bond[0].index, bond[1].index
            neighbours.setdefault(a, []).append(b)
            neighbours.setdefault(b, []).append(a)
        levels = {}
        for atoms in molecules:
            _walk([int(atom) for atom in atoms], neighbours, levels)
        steps = [step for depth in sorted(levels) for step in levels[depth]]
        # child, parent, whether they are bonded; every parent comes before its children
        self.steps = np.array(steps, np.int64).reshape(-1, 3)

    def __call__(self, chunk, state):
        """Positions of a chunk of frames, shape (n_frames, n_atoms, 3), nm, molecules whole."""
        positions = np.array(chunk.positions, float, order="C")
        worst = _make_whole(positions, many(chunk.boxes), self.steps)
        if worst[0] > LONGEST_BOND:
            length, frame, k = worst[0], int(worst[1]), int(worst[2])
            child, parent, _ = self.steps[k]
            atoms = " and ".join(str(self.topology.atom(int(i))) for i in (parent, child))
            raise InputError(
                f"{state}: in frame {chunk.number(frame)} the bonded atoms {atoms} are "
                f"{length:.3g} nm apart (more than {LONGEST_BOND:g} nm); the trajectory is "
                "corrupt there, or the topology lists its atoms in another order"
            )
        return positions


def _walk(atoms, neighbours, levels):
    """Sort a molecule's atoms by their depth in its bond graph: (child, parent, is bonded)."""
    seen, depth = {atoms[0]}, 1
    front = [atoms[0]]
    inside, others = set(atoms), iter(atoms)
    while len(seen) < len(atoms):
        grown = []
        for parent in front:
            for child in neighbours.get(parent, ()):
                if child in inside and child not in seen:
                    seen.add(child)
                    grown.append(child)
                    levels.setdefault(depth, []).append((child, parent, 1))
        if not grown and len(seen) < len(atoms):
            child = next(atom for atom in others if atom not in seen)
            seen.add(child)
            grown.append(child)
            levels.setdefault(depth, []).append((child, atoms[0], 0))
        front, depth = grown, depth + 1


@njit(cache=True)
def _make_whole(positions, boxes, steps):
    """Shift atoms in place, step by step; (length, frame, step) of the longest bond."""
    worst = np.zeros(3)
    longest = 0.0
    for f in range(positions.shape[0]):
        box, atoms = boxes[f], positions[f]
        for k in range(steps.shape[0]):
            child, parent = steps[k, 0], steps[k, 1]
            dx = atoms[child, 0] - atoms[parent, 0]
            dy = atoms[child, 1] - atoms[parent, 1]
            dz = atoms[child, 2] - atoms[parent, 2]
            n = np.rint(dz / box[2, 2])
            dx, dy, dz = dx - n * box[2, 0], dy - n * box[2, 1], dz - n * box[2, 2]
            n = np.rint(dy / box[1, 1])
            dx, dy = dx - n * box[1, 0], dy - n * box[1, 1]
            dx -= np.rint(dx / box[0, 0]) * box[0, 0]
            square = dx * dx + dy * dy + dz * dz
            if square > longest and steps[k, 2] == 1:
                longest = square
                worst[1], worst[2] = f, k
            atoms[child, 0] = atoms[parent, 0] + dx
            atoms[child, 1] = atoms[parent, 1] + dy
            atoms[child, 2] = atoms[parent, 2] + dz
    worst[0] = math.sqrt(longest)
    return worst


def map_positions(matrix, positions):
    """M x of each frame.

    Parameters
    ----------
    matrix : csr_matrix, shape (n_sites, n_atoms)
    positions : ndarray, shape (n_frames, n_atoms, 3)

    Returns
    -------
    ndarray, shape (n_frames, n_sites, 3)
    """
    positions = np.ascontiguousarray(positions, float)
    if positions.shape[1:] != (matrix.shape[1], 3):
        raise InputError(
            f"positions of shape {positions.shape} do not fit a mapping of {matrix.shape[1]} atoms;"
            " give (n_frames, n_atoms, 3)"
        )
    result = np.empty((len(positions), matrix.shape[0], 3))
    _multiply(matrix.indptr, matrix.indices, matrix.data, positions, result)
    return result


@njit(cache=True)
def _multiply(starts, columns, weights, positions, result):
    for f in range(positions.shape[0]):
        atoms, sites = positions[f], result[f]
        for i in range(sites.shape[0]):
            x = y = z = 0.0
            for k in range(starts[i], starts[i + 1]):
                atom, weight = columns[k], weights[k]
                x += weight * atoms[atom, 0]
                y += weight * atoms[atom, 1]
                z += weight * atoms[atom, 2]
            sites[i, 0], sites[i, 1], sites[i, 2] = x, y, z
