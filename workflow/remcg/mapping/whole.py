"""Molecules in one piece across the boundaries of the box, and the sites of many frames."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

from remcg.boxes import many
from remcg.errors import InputError

SURE = 0.4  # of an edge, up to which the image of an atom without bonds is certain
INDEX = np.uint32  # kernels need not ask whether it counts from the end
LONGEST_BOND = 0.5  # nm; a longer one means a corrupt frame or another topology


class Walks(NamedTuple):
    """Molecules as arrays for the kernel.

    child, parent, bonded: atoms that are reached one after the other, the atoms before them, and
    whether the two are bonded; start, column, weight: the rows of the mapping, as of a csr_matrix.
    """

    child: np.ndarray
    parent: np.ndarray
    bonded: np.ndarray
    start: np.ndarray
    column: np.ndarray
    weight: np.ndarray


class Mapper:
    """Molecules in one piece, and their sites, chunk by chunk.

    Boxes are orthorhombic or triclinic. Each molecule is walked from its first atom along its
    bonds; atoms that no bond reaches are placed next to the first atom, and refused where they are
    farther from it than 0.4 of the box.

    Parameters
    ----------
    topology : mdtraj.Topology
    sites : remcg.mapping.Sites
    keep_atoms : bool
        Whether :attr:`atoms` is to hold the atoms of whole molecules.

    Attributes
    ----------
    atoms : ndarray, shape (n_frames, n_atoms, 3), or None
        Of the last chunk, nm; the next one overwrites it.
    """

    def __init__(self, topology, sites, keep_atoms=False):
        self.topology, self.keep_atoms, self.atoms = topology, keep_atoms, None
        self.walks = _walks(topology, sites.atoms, sites.matrix)
        self._buffers = np.empty((0, 0, 3)), np.empty((0, 0, 3))

    def __call__(self, chunk, state):
        """Positions of the sites (n_frames, n_sites, 3), nm; the next call overwrites them."""
        n_frames, n_atoms, _ = chunk.positions.shape
        if len(self._buffers[0]) < n_frames:
            sites = np.empty((n_frames, len(self.walks.start) - 1, 3))
            self._buffers = sites, np.empty((n_frames if self.keep_atoms else 0, n_atoms, 3))
        sites, atoms = (buffer[:n_frames] for buffer in self._buffers)
        given = np.ascontiguousarray(chunk.positions).reshape(n_frames, -1)
        frame, k, square = _map_frames(given, many(chunk.boxes), self.walks, atoms, sites)
        if square > 0.0:
            raise self._torn(square**0.5, chunk.number(frame), k, state)
        self.atoms = atoms if self.keep_atoms else None
        return sites

    def _torn(self, length, frame, k, state):
        """The error of step ``k``, along a bond that is too long or far without one."""
        ends = self.walks.parent[k], self.walks.child[k]
        atoms = " and ".join(str(self.topology.atom(int(atom))) for atom in ends)
        if not self.walks.bonded[k]:
            return InputError(
                f"{state}: in frame {frame} no bonds connect {atoms}, which are {length:.3g} nm "
                "apart, nearly half the box, so that their images cannot be told; give a topology "
                "with all bonds (a PDB with CONECT records, a PRMTOP or a PSF)"
            )
        return InputError(
            f"{state}: in frame {frame} the bonded atoms {atoms} are {length:.3g} nm apart (more "
            f"than {LONGEST_BOND:g} nm); the trajectory is corrupt there, or the topology lists "
            "its atoms in another order"
        )


class Unwrapper:
    """Makes molecules whole, as :class:`Mapper` does, without sites.

    Parameters
    ----------
    topology : mdtraj.Topology
    molecules : list of ndarray
        Atom indices.
    """

    def __init__(self, topology, molecules):
        none = SimpleNamespace(atoms=molecules, matrix=csr_matrix((0, topology.n_atoms)))
        self._map = Mapper(topology, none, keep_atoms=True)

    def __call__(self, chunk, state):
        """Positions of a chunk of frames, shape (n_frames, n_atoms, 3), nm, molecules whole."""
        self._map(chunk, state)
        return self._map.atoms.copy()


def _walks(topology, molecules, matrix):
    """Gather the walks through molecules and the rows of a mapping."""
    neighbours = {}
    for bond in topology.bonds:
        a, b = bond[0].index, bond[1].index
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    walks = [_walk([int(atom) for atom in atoms], neighbours) for atoms in molecules]
    steps = np.array([step for walk in walks for step in walk], int).reshape(-1, 3)
    arrays = *steps.T, matrix.indptr, matrix.indices
    arrays = [np.ascontiguousarray(each, INDEX) for each in arrays]
    return Walks(*arrays, matrix.data)


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


@njit(cache=True, error_model="numpy")
def _map_frames(given, boxes, walks, kept, sites):
    """Make molecules whole and map them; (frame, step, length squared) of the longest wrong step.

    The length is 0 where no bond is too long, and no atom without bonds so far from the first one
    that it might be an image. Atoms are kept where ``kept`` has room for them.
    ``given`` has all numbers of a frame in a row, which is copied faster. There are no calls and
    views inside: they would take longer than the work.
    """
    child, parent, bonded = walks.child, walks.parent, walks.bonded
    start, column, weight = walks.start, walks.column, walks.weight
    numbers, longest, where, which = np.empty(given.shape[1]), 0.0, 0, 0
    atoms = numbers.reshape(-1, 3)
    for f in range(given.shape[0]):
        for k in range(given.shape[1]):
            numbers[k] = given[f, k]
        edge_x, edge_y, edge_z = boxes[f, 0, 0], boxes[f, 1, 1], boxes[f, 2, 2]
        shear_yx, shear_zx, shear_zy = boxes[f, 1, 0], boxes[f, 2, 0], boxes[f, 2, 1]
        # a step that is shorter is neither too long nor to another image
        limit = min(LONGEST_BOND, SURE * min(edge_x, edge_y, edge_z)) ** 2
        sure_x, sure_y, sure_z = SURE * edge_x, SURE * edge_y, SURE * edge_z
        for k in range(child.shape[0]):
            i, j = child[k], parent[k]
            dx, dy = atoms[i, 0] - atoms[j, 0], atoms[i, 1] - atoms[j, 1]
            dz = atoms[i, 2] - atoms[j, 2]
            if dx * dx + dy * dy + dz * dz < limit:
                continue
            n = np.rint(dz / edge_z)
            dx, dy, dz = dx - n * shear_zx, dy - n * shear_zy, dz - n * edge_z
            n = np.rint(dy / edge_y)
            dx, dy = dx - n * shear_yx, dy - n * edge_y
            dx -= np.rint(dx / edge_x) * edge_x
            square = dx * dx + dy * dy + dz * dz
            wrong = square > LONGEST_BOND**2
            if not bonded[k]:
                wrong = abs(dx) > sure_x or abs(dy) > sure_y or abs(dz) > sure_z
            if wrong and square > longest:
                longest, where, which = square, f, k
            atoms[i, 0], atoms[i, 1] = atoms[j, 0] + dx, atoms[j, 1] + dy
            atoms[i, 2] = atoms[j, 2] + dz
        for row in range(sites.shape[1]):
            x = y = z = 0.0
            for k in range(start[row], start[row + 1]):
                i, w = column[k], weight[k]
                x, y, z = x + w * atoms[i, 0], y + w * atoms[i, 1], z + w * atoms[i, 2]
            sites[f, row, 0], sites[f, row, 1], sites[f, row, 2] = x, y, z
        if kept.shape[0] > 0:
            kept[f] = atoms
    return where, which, longest


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
    starts, columns = matrix.indptr.astype(INDEX), matrix.indices.astype(INDEX)
    _multiply(starts, columns, matrix.data, positions, result)
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
