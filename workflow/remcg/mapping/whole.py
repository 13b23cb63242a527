"""Molecules in one piece across the boundaries of the box, and the sites of many frames."""

import math

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

from remcg.boxes import many
from remcg.errors import InputError

NEAR = 0.4999999  # of an edge
INDEX = np.uint32  # kernels need not ask whether it counts from the end
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
        steps = [_walk([int(atom) for atom in atoms], neighbours) for atoms in molecules]
        # child, parent, whether they are bonded; every parent comes before its children
        self.steps = np.array([step for each in steps for step in each], INDEX).reshape(-1, 3)

    def __call__(self, chunk, state):
        """Positions of a chunk of frames, shape (n_frames, n_atoms, 3), nm, molecules whole."""
        whole = np.empty(chunk.positions.shape)
        sites = np.empty((len(whole), 0, 3))
        self._run(csr_matrix((0, whole.shape[1])), chunk, whole, sites, state)
        return whole

    def _run(self, matrix, chunk, whole, sites, state):
        """Fill whole atoms, of each frame or of the last one only, and sites."""
        given = np.ascontiguousarray(chunk.positions)
        rows = _rows(matrix)
        worst = _map_frames(given, many(chunk.boxes), self.steps, *rows, whole, sites)
        if worst[0] > LONGEST_BOND:
            length, frame, k = worst[0], int(worst[1]), int(worst[2])
            child, parent, _ = self.steps[k]
            atoms = " and ".join(str(self.topology.atom(int(i))) for i in (parent, child))
            raise InputError(
                f"{state}: in frame {chunk.number(frame)} the bonded atoms {atoms} are "
                f"{length:.3g} nm apart (more than {LONGEST_BOND:g} nm); the trajectory is "
                "corrupt there, or the topology lists its atoms in another order"
            )


class Mapper:
    """Sites of whole molecules, chunk by chunk; its arrays are overwritten by the next chunk.

    Parameters
    ----------
    topology : mdtraj.Topology
    sites : remcg.mapping.Sites
    keep_atoms : bool
        Whether :attr:`atoms` is to hold the atoms of whole molecules.
    """

    def __init__(self, topology, sites, keep_atoms=False):
        self.unwrap = Unwrapper(topology, sites.atoms)
        self.matrix = sites.matrix
        self.keep_atoms = keep_atoms
        self._atoms = np.empty((1, 0, 3))
        self._sites = np.empty((0, 0, 3))
        self.atoms = None

    def __call__(self, chunk, state):
        """Positions of the sites (n_frames, n_sites, 3), nm."""
        n_frames, n_atoms, _ = chunk.positions.shape
        if len(self._sites) < n_frames or self._atoms.shape[1] != n_atoms:
            self._sites = np.empty((n_frames, self.matrix.shape[0], 3))
            self._atoms = np.empty((n_frames if self.keep_atoms else 1, n_atoms, 3))
        sites = self._sites[:n_frames]
        self.unwrap._run(self.matrix, chunk, self._atoms, sites, state)
        self.atoms = self._atoms[:n_frames] if self.keep_atoms else None
        return sites


def _walk(atoms, neighbours):
    """The atoms of a molecule by their depth in its bond graph: [(child, parent, is bonded)]."""
    seen, front, steps = {atoms[0]}, [atoms[0]], []
    inside, others = set(atoms), iter(atoms)
    while len(seen) < len(atoms):
        grown = []
        for parent in front:
            for child in neighbours.get(parent, ()):
                if child in inside and child not in seen:
                    seen.add(child)
                    grown.append(child)
                    steps.append((child, parent, 1))
        if not grown and len(seen) < len(atoms):
            child = next(atom for atom in others if atom not in seen)
            seen.add(child)
            grown.append(child)
            steps.append((child, atoms[0], 0))
        front = grown
    return steps


@njit(cache=True)
def _map_frames(given, boxes, steps, starts, columns, weights, whole, sites):
    """Make molecules whole and map them; (length, frame, step) of the longest bond.

    ``whole`` holds the atoms of every frame, or of one frame after the other.
    """
    worst = np.zeros(3)
    longest = 0.0
    for f in range(given.shape[0]):
        atoms = whole[f if whole.shape[0] > 1 else 0]
        for i in range(atoms.shape[0]):
            for d in range(3):
                atoms[i, d] = given[f, i, d]
        found, k = _make_whole(atoms, boxes[f], steps)
        if found > longest:
            longest = found
            worst[1], worst[2] = f, k
        _multiply(starts, columns, weights, atoms, sites[f])
    worst[0] = math.sqrt(longest)
    return worst


@njit(cache=True)
def _make_whole(atoms, box, steps):
    """Shift the atoms of a frame in place, step by step; longest bond, squared, and its step."""
    edge_x, edge_y, edge_z = box[0, 0], box[1, 1], box[2, 2]
    # shorter steps are in the same image: what a division would tell more slowly
    near_x, near_y, near_z = NEAR * edge_x, NEAR * edge_y, NEAR * edge_z
    longest, which = 0.0, 0
    for k in range(steps.shape[0]):
        child, parent = steps[k, 0], steps[k, 1]
        dx = atoms[child, 0] - atoms[parent, 0]
        dy = atoms[child, 1] - atoms[parent, 1]
        dz = atoms[child, 2] - atoms[parent, 2]
        if abs(dz) > near_z:
            n = np.rint(dz / edge_z)
            dx, dy, dz = dx - n * box[2, 0], dy - n * box[2, 1], dz - n * edge_z
        if abs(dy) > near_y:
            n = np.rint(dy / edge_y)
            dx, dy = dx - n * box[1, 0], dy - n * edge_y
        if abs(dx) > near_x:
            dx -= np.rint(dx / edge_x) * edge_x
        square = dx * dx + dy * dy + dz * dz
        if square > longest and steps[k, 2] == 1:
            longest, which = square, k
        atoms[child, 0] = atoms[parent, 0] + dx
        atoms[child, 1] = atoms[parent, 1] + dy
        atoms[child, 2] = atoms[parent, 2] + dz
    return longest, which


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
    _multiply_all(*_rows(matrix), positions, result)
    return result


def _rows(matrix):
    return matrix.indptr.astype(INDEX), matrix.indices.astype(INDEX), matrix.data


@njit(cache=True)
def _multiply_all(starts, columns, weights, positions, result):
    for f in range(positions.shape[0]):
        _multiply(starts, columns, weights, positions[f], result[f])


@njit(cache=True)
def _multiply(starts, columns, weights, atoms, sites):
    for i in range(sites.shape[0]):
        x = y = z = 0.0
        for k in range(starts[i], starts[i + 1]):
            atom, weight = columns[k], weights[k]
            x += weight * atoms[atom, 0]
            y += weight * atoms[atom, 1]
            z += weight * atoms[atom, 2]
        sites[i, 0], sites[i, 1], sites[i, 2] = x, y, z
