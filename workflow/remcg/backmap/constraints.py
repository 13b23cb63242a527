r"""Sites and rigid bonds, held exactly, block by block.

Atoms hang together where a site or a rigid bond joins them. The sites of such a block are linear:
with the right inverse :math:`B = W^{-1}M^T(MW^{-1}M^T)^{+}` they are met by :math:`x + B(y - Mx)`,
and what remains free moves with :math:`Q = W^{-1} - B M W^{-1}`, a constant. A rigid bond b between
atoms i and j, of vector :math:`r_b`, then acts along the columns :math:`E = Q d^T` of
:math:`d_b = e_i - e_j`, and two bonds couple through :math:`(r_b \cdot r_c) D_{bc}, D = d Q d^T`.
Only this matrix, no larger than the number of rigid bonds of a block, has to be solved.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix, vstack

from remcg.backmap.linear import blocks, inverse_masses
from remcg.errors import InputError

INDEX = np.uint32  # kernels need not ask whether it counts from the end
ITERATIONS = 50
TOLERANCE = 1e-11  # of (l^2 - l0^2) / l0^2
REDUNDANT = 1e-9  # of the largest pivot: a bond that others or sites already fix
LONGEST_STEP = 0.5  # of the bond length, in one iteration without reference


class UnreachableError(InputError):
    """Sites that the atoms cannot meet; ``atoms``: indices of the first block that cannot."""

    def __init__(self, message, atoms):
        super().__init__(message)
        self.atoms = atoms


class Kinds(NamedTuple):
    """Blocks of one kind share their matrices, one after the other in flat arrays.

    n_atoms, n_sites, n_bonds, and where the matrices begin: mapping M (n_sites, n_atoms), spread B
    (n_atoms, n_sites), couple D (n_bonds, n_bonds), move E (n_atoms, n_bonds), ends (n_bonds, 2)
    local atoms, squares (n_bonds,) nm^2.
    """

    sizes: np.ndarray
    starts: np.ndarray
    mapping: np.ndarray
    spread: np.ndarray
    couple: np.ndarray
    move: np.ndarray
    ends: np.ndarray
    squares: np.ndarray


class Members(NamedTuple):
    """Kind of each block, and its atoms and sites in flat arrays with their beginnings."""

    kind: np.ndarray
    first_atom: np.ndarray
    first_site: np.ndarray
    atoms: np.ndarray
    sites: np.ndarray


class Constraints:
    """Fixed sites and rigid bonds of a system of molecules.

    Parameters
    ----------
    operator : sparse matrix, shape (n_sites, n_atoms)
        The mapping M.
    masses : array_like, shape (n_atoms,)
        amu; massless particles are left alone.
    rigid : array_like, shape (n_rigid, 2)
        Atoms of rigid bonds.
    rigid_lengths : array_like, shape (n_rigid,)
        nm.
    molecules : sequence of ndarray, optional
        Not needed: blocks follow from sites and bonds alone, and may be smaller than molecules or,
        for sites of several molecules, larger.

    Attributes
    ----------
    n_constraints : int
        Independent ones: three per site and one per rigid bond, less what others already fix.
    degrees_of_freedom : int
        Of the atoms with mass.
    is_exact : bool
        Whether dynamics under these constraints samples the reference at fixed sites as it is: so
        where each rigid bond is inside one site, or several alike, whose weights are its masses.
        Else draws have the weights of :meth:`log_weight`, which differ little for light hydrogens.

    Notes
    -----
    A bond that follows from others and from sites (both its atoms are sites, say) is left out by
    a pivot threshold. Cost: cube of the rigid bonds in a block.
    """

    def __init__(self, operator, masses, rigid, rigid_lengths, molecules=None):
        self.operator = csr_matrix(operator, dtype=float)
        self.masses = np.asarray(masses, float)
        self.rigid = np.asarray(rigid, int).reshape(-1, 2)
        self.rigid_lengths = np.asarray(rigid_lengths, float)
        inverse = inverse_masses(masses)
        self._check(inverse)
        found = list(_gather(self.operator, inverse, self.rigid, self.rigid_lengths))
        self._kinds, self._members, rank = _pack(found)
        self.n_constraints = rank
        self.degrees_of_freedom = 3 * int((inverse > 0).sum()) - rank
        self._inexact = _inexact(found)
        self.is_exact = not self._inexact

    def project(self, positions, sites, reference=None):
        """Positions that meet sites and rigid bonds.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
        sites : ndarray, shape (n_sites, 3)
        reference : ndarray, shape (n_atoms, 3), optional
            Positions whose gradients the displacement follows (SHAKE, RATTLE). None: those of the
            positions themselves as they change, which also mends large errors.

        Returns
        -------
        ndarray, shape (n_atoms, 3)

        Raises
        ------
        UnreachableError
            Where rigid bonds and sites cannot be met together.

        References
        ----------
        Andersen, J. Comput. Phys. 52, 24 (1983); Newton iterations in place of its sweeps.
        """
        result = np.array(positions, float)
        follow = reference is not None
        origin = np.ascontiguousarray(reference, float) if follow else result
        bad = _project(result, _rows(sites), origin, follow, self._kinds, self._members)
        if bad >= 0:
            raise self._unreachable(bad)
        return result

    def project_velocities(self, velocities, positions):
        """Velocities (n_atoms, 3) without what would change sites or rigid bonds, nm/ps.

        The least change in the metric of the masses; applied to Maxwell velocities it leaves those
        of the constrained system.
        """
        result = np.array(velocities, float)
        _project_velocities(result, _rows(positions), self._kinds, self._members)
        return result

    def project_forces(self, forces, positions):
        """Forces (n_atoms, 3) along the manifold, in the metric of the masses, kJ/mol/nm."""
        inverse = inverse_masses(self.masses)[:, None]
        return self.project_velocities(forces * inverse, positions) * self.masses[:, None]

    def log_weight(self, positions):
        r"""Logarithm of the weight of a draw, up to a constant; 0 where :attr:`is_exact`.

        Dynamics with rigid bonds has the measure of its manifold, in the metric of the masses. The
        reference, at fixed sites, has that of its own manifold over the Jacobian of the sites,

        .. math:: w = \left(\frac{\det A_0}{\det A}\right)^{1/2}, \quad
            A_{bc} = (r_b \cdot r_c) D_{bc}, \quad A_0: D = d W^{-1} d^T

        with A the coupling of rigid bonds under fixed sites and :math:`A_0` without these: the
        co-area formula, with the determinant of both kinds of constraints taken in blocks.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)

        References
        ----------
        Fixman, Proc. Natl. Acad. Sci. USA 71, 3050 (1974), on the metric of constraints.
        """
        total = 0.0
        for atoms, ends, couple, bare in self._inexact:
            r = positions[atoms[:, ends[:, 0]]] - positions[atoms[:, ends[:, 1]]]
            dots = r @ r.swapaxes(1, 2)
            total += 0.5 * (_log_determinant(bare * dots) - _log_determinant(couple * dots))
        return float(total)

    def residual(self, positions, sites):
        """Largest distance of a site from its place, and largest error of a rigid bond, nm."""
        offset = self.operator @ positions - sites
        i, j = self.rigid.T
        lengths = np.linalg.norm(positions[i] - positions[j], axis=1)
        error = np.abs(lengths - self.rigid_lengths)
        return float(np.sqrt((offset**2).sum(axis=1)).max(initial=0.0)), float(error.max(initial=0))

    def _unreachable(self, block):
        members, kind = self._members, self._members.kind[block]
        n_atoms, n_sites, _ = self._kinds.sizes[kind]
        first, site = members.first_atom[block], members.first_site[block]
        atoms = np.array(members.atoms[first : first + n_atoms])
        sites = members.sites[site : site + n_sites].tolist()
        return UnreachableError(
            f"atoms {atoms.min()} to {atoms.max()} cannot meet their sites {sites} and keep their"
            " rigid bonds: the sites are farther apart, or closer, than the molecule can reach;"
            " compare the distances between sites in the coarse-grained frame with those of the"
            " mapped reference",
            atoms,
        )

    def _check(self, inverse):
        n_atoms = self.operator.shape[1]
        if len(inverse) != n_atoms:
            raise InputError(
                f"the mapping is for {n_atoms} atoms, but there are masses of {len(inverse)}; use"
                " one topology for both"
            )
        fixed = np.flatnonzero(np.abs(self.operator) @ inverse == 0.0)
        if len(fixed):
            raise InputError(
                f"site {fixed[0]} of the mapping ({len(fixed)} such sites) has no atom with a mass"
                " and a weight, so atoms cannot be put under it; give it atoms that have mass"
            )


def _rows(array):
    return np.ascontiguousarray(array, float)


def _gather(operator, inverse, rigid, lengths):
    """(atoms, sites, M, 1/m, ends, squares) of each block, sizes in turn."""
    n_sites, n_bonds = operator.shape[0], len(rigid)
    row = np.repeat(np.arange(n_bonds), 2)
    joined = csr_matrix((np.ones(2 * n_bonds), (row, rigid.ravel())), (n_bonds, operator.shape[1]))
    if n_sites + n_bonds == 0:
        return
    place = np.empty(operator.shape[1], int)
    for group in blocks(vstack([operator, joined])):
        for rows, atoms, weights in zip(*group):
            place[atoms] = np.arange(len(atoms))
            is_site = rows < n_sites
            bonds = rows[~is_site] - n_sites
            ends = place[rigid[bonds]]
            yield atoms, rows[is_site], weights[is_site], inverse[atoms], ends, lengths[bonds] ** 2


def _pack(found):
    """Kinds, members and the number of independent constraints of all blocks."""
    known, ranks, kind = {}, [], []
    lists = [[] for _ in range(6)]
    sizes = []
    for _, _, weights, inverse, ends, squares in found:
        parts = weights, inverse, ends, squares
        key = weights.shape, *(part.tobytes() for part in parts)
        if key not in known:
            known[key] = len(known)
            spread, move, couple = _matrices(weights, inverse, ends)
            for each, part in zip(lists, (weights, spread, couple, move, ends, squares)):
                each.append(np.ravel(part))
            sizes.append((len(inverse), len(weights), len(ends)))
            ranks.append(3 * np.linalg.matrix_rank(spread) + _generic_rank(couple, ends, inverse))
        kind.append(known[key])
    starts = [np.cumsum([0, *(len(part) for part in each)])[:-1] for each in lists]
    kinds = Kinds(
        np.array(sizes, int).reshape(-1, 3),
        np.array(starts, int).T.copy(),
        *(np.concatenate([np.empty(0), *each]) for each in lists[:4]),
        np.concatenate([np.empty(0, INDEX), *lists[4]]).astype(INDEX),
        np.concatenate([np.empty(0), *lists[5]]),
    )
    n_atoms, n_sites = ([len(block[k]) for block in found] for k in (0, 1))
    members = Members(
        np.array(kind, int),
        np.cumsum([0, *n_atoms]),
        np.cumsum([0, *n_sites]),
        np.concatenate([np.empty(0, INDEX), *(block[0] for block in found)]).astype(INDEX),
        np.concatenate([np.empty(0, INDEX), *(block[1] for block in found)]).astype(INDEX),
    )
    return kinds, members, int(sum(ranks[each] for each in kind))


def _inexact(found):
    """(atoms (n, n_atoms), ends, D, D without sites) of blocks whose sites couple rigid bonds."""
    kinds = {}
    for atoms, _, weights, inverse, ends, _ in found:
        if len(weights) and len(ends):
            key = weights.shape, weights.tobytes(), inverse.tobytes(), ends.tobytes()
            kinds.setdefault(key, (weights, inverse, ends, []))[3].append(atoms)
    result = []
    for weights, inverse, ends, atoms in kinds.values():
        couple, bonds = _matrices(weights, inverse, ends)[2], _differences(ends, len(inverse))
        bare = (bonds * inverse) @ bonds.T
        free = np.diag(couple) > 0.0
        if not np.allclose(couple[free], bare[free], rtol=0, atol=1e-9 * bare.max()):
            kept = np.ix_(free, free)
            result.append((np.array(atoms), ends[free], couple[kept], bare[kept]))
    return result


def _log_determinant(matrices):
    """Sum over symmetric matrices (n, k, k), without directions that are redundant."""
    values = np.linalg.eigvalsh(matrices)
    kept = values > REDUNDANT * values[:, -1:]
    return np.log(values[kept]).sum()


def _differences(ends, n_atoms):
    """e_i - e_j of each bond."""
    bonds, each = np.zeros((len(ends), n_atoms)), np.arange(len(ends))
    bonds[each, ends[:, 0]], bonds[each, ends[:, 1]] = 1.0, -1.0
    return bonds


def _matrices(weights, inverse, ends):
    """B, E and D of a block."""
    lifted = inverse[:, None] * weights.T
    spread = lifted @ np.linalg.pinv(weights @ lifted, hermitian=True)
    free = np.diag(inverse) - spread @ lifted.T
    bonds = _differences(ends, len(inverse))
    move = free @ bonds.T
    couple = bonds @ move
    fixed = np.diag(couple) < REDUNDANT * inverse[ends].sum(axis=1)
    move[:, fixed], couple[fixed], couple[:, fixed] = 0.0, 0.0, 0.0
    return spread, move, couple


def _generic_rank(couple, ends, inverse):
    """Rigid bonds that are independent of one another and of sites, atoms anywhere."""
    if len(ends) == 0:
        return 0
    anywhere = np.random.default_rng(0).normal(size=(len(inverse), 3))
    r = anywhere[ends[:, 0]] - anywhere[ends[:, 1]]
    matrix = couple * (r @ r.T)
    return int((np.linalg.eigvalsh(matrix) > REDUNDANT * matrix.max()).sum())


@njit(cache=True)
def _largest(sizes):
    """Most sites and most bonds of a block, at least one."""
    sites = bonds = 1
    for k in range(len(sizes)):
        sites, bonds = max(sites, sizes[k, 1]), max(bonds, sizes[k, 2])
    return sites, bonds


@njit(cache=True, error_model="numpy")
def _project(positions, sites, reference, follow, kinds, members):
    """Meet sites and bonds of all blocks in place; the first block that cannot, or -1."""
    bad = -1
    most, widest = _largest(kinds.sizes)
    offset = np.empty((most, 3))
    matrix = np.empty((widest, widest + 1))
    now, along = np.empty((widest, 3)), np.empty((widest, 3))
    total, solution, column_of = np.empty(widest), np.empty(widest), np.empty(widest, np.int64)
    for block in range(members.kind.shape[0]):
        k = members.kind[block]
        n_atoms, _, n_bonds = kinds.sizes[k]
        atoms = members.atoms[members.first_atom[block] :]
        _meet_sites(positions, sites, block, kinds, members, offset)
        if n_bonds == 0:
            continue
        couple = kinds.couple[kinds.starts[k, 2] :]
        move = kinds.move[kinds.starts[k, 3] :]
        ends = kinds.ends[kinds.starts[k, 4] :]
        squares = kinds.squares[kinds.starts[k, 5] :]
        for b in range(n_bonds):
            i, j = atoms[ends[2 * b]], atoms[ends[2 * b + 1]]
            total[b] = 0.0
            for x in range(3):
                now[b, x] = positions[i, x] - positions[j, x]
                along[b, x] = reference[i, x] - reference[j, x] if follow else now[b, x]
        met = False
        for _ in range(ITERATIONS):
            worst = 0.0
            for b in range(n_bonds):
                square = now[b, 0] ** 2 + now[b, 1] ** 2 + now[b, 2] ** 2
                matrix[b, n_bonds] = squares[b] - square
                error = abs(squares[b] - square) / squares[b]
                if not error <= worst:  # also where it is not a number
                    worst = error
            if worst < TOLERANCE:
                met = True
                break
            for b in range(n_bonds):
                for c in range(n_bonds):
                    dot = 0.0
                    for x in range(3):
                        dot += now[b, x] * along[c, x]
                    matrix[b, c] = 2.0 * dot * couple[b * n_bonds + c]
            _eliminate(matrix, n_bonds, column_of, solution)
            if not follow:
                _shorten(matrix, n_bonds, along, couple)
            for b in range(n_bonds):
                for c in range(n_bonds):
                    step = couple[b * n_bonds + c] * matrix[c, n_bonds]
                    for x in range(3):
                        now[b, x] += step * along[c, x]
            if follow:
                for b in range(n_bonds):
                    total[b] += matrix[b, n_bonds]
            else:
                _displace(positions, atoms, n_atoms, n_bonds, move, matrix[:, n_bonds], along)
                along[:n_bonds] = now[:n_bonds]
        if not met and not worst < 1e-9:
            if bad < 0:
                bad = block
            continue
        if follow:
            _displace(positions, atoms, n_atoms, n_bonds, move, total, along)
        else:  # many steps, each with its rounding error
            _meet_sites(positions, sites, block, kinds, members, offset)
    return bad


@njit(cache=True, error_model="numpy", inline="always")
def _meet_sites(positions, sites, block, kinds, members, offset):
    """x + B (y - M x) of one block, in place; offset is room for its sites."""
    k = members.kind[block]
    n_atoms, n_sites = kinds.sizes[k, 0], kinds.sizes[k, 1]
    first_atom, first_site = members.first_atom[block], members.first_site[block]
    weight, back = kinds.starts[k, 0], kinds.starts[k, 1]
    for s in range(n_sites):
        site = members.sites[first_site + s]
        dx, dy, dz = sites[site, 0], sites[site, 1], sites[site, 2]
        for a in range(first_atom, first_atom + n_atoms):
            w, atom = kinds.mapping[weight], members.atoms[a]
            weight += 1
            dx -= w * positions[atom, 0]
            dy -= w * positions[atom, 1]
            dz -= w * positions[atom, 2]
        offset[s, 0], offset[s, 1], offset[s, 2] = dx, dy, dz
    for a in range(first_atom, first_atom + n_atoms):
        atom = members.atoms[a]
        dx = dy = dz = 0.0
        for s in range(n_sites):
            b = kinds.spread[back]
            back += 1
            dx += b * offset[s, 0]
            dy += b * offset[s, 1]
            dz += b * offset[s, 2]
        positions[atom, 0] += dx
        positions[atom, 1] += dy
        positions[atom, 2] += dz


@njit(cache=True, error_model="numpy", inline="always")
def _displace(positions, atoms, n_atoms, n_bonds, move, factor, along):
    for a in range(n_atoms):
        for b in range(n_bonds):
            step = move[a * n_bonds + b] * factor[b]
            for x in range(3):
                positions[atoms[a], x] += step * along[b, x]


@njit(cache=True, error_model="numpy")
def _shorten(matrix, n, along, couple):
    """Scale a solution so that no bond changes by more than a part of its length."""
    largest = 0.0
    for b in range(n):
        square = along[b, 0] ** 2 + along[b, 1] ** 2 + along[b, 2] ** 2
        change = 0.0
        for x in range(3):
            value = 0.0
            for c in range(n):
                value += couple[b * n + c] * matrix[c, n] * along[c, x]
            change += value * value
        largest = max(largest, change / square)
    if largest > LONGEST_STEP**2:
        for b in range(n):
            matrix[b, n] *= LONGEST_STEP / np.sqrt(largest)


@njit(cache=True, error_model="numpy", inline="always")
def _eliminate(matrix, n, column_of, solution):
    """Solve in place: columns up to n the matrix, column n the right side and then the solution.

    Rows are exchanged for the largest pivot; an unknown without one is redundant and set to 0.
    """
    scale = 0.0
    for i in range(n):
        scale = max(scale, abs(matrix[i, i]))
    rank = 0
    for column in range(n):
        pivot = rank
        for i in range(rank + 1, n):
            if abs(matrix[i, column]) > abs(matrix[pivot, column]):
                pivot = i
        if not abs(matrix[pivot, column]) > REDUNDANT * scale:
            continue
        if pivot != rank:
            for j in range(column, n + 1):
                matrix[rank, j], matrix[pivot, j] = matrix[pivot, j], matrix[rank, j]
        for i in range(rank + 1, n):
            factor = matrix[i, column] / matrix[rank, column]
            if factor != 0.0:
                for j in range(column + 1, n + 1):
                    matrix[i, j] -= factor * matrix[rank, j]
        column_of[rank] = column
        rank += 1
    for i in range(n):
        solution[i] = 0.0
    for row in range(rank - 1, -1, -1):
        value = matrix[row, n]
        for j in range(column_of[row] + 1, n):
            value -= matrix[row, j] * solution[j]
        solution[column_of[row]] = value / matrix[row, column_of[row]]
    for i in range(n):
        matrix[i, n] = solution[i]


@njit(cache=True, error_model="numpy")
def _project_velocities(velocities, positions, kinds, members):
    most, widest = _largest(kinds.sizes)
    offset = np.empty((most, 3))
    matrix, along = np.empty((widest, widest + 1)), np.empty((widest, 3))
    solution, column_of = np.empty(widest), np.empty(widest, np.int64)
    rest = np.zeros((members.sites.shape[0], 3))
    for block in range(members.kind.shape[0]):
        k = members.kind[block]
        n_atoms, _, n_bonds = kinds.sizes[k]
        atoms = members.atoms[members.first_atom[block] :]
        _meet_sites(velocities, rest, block, kinds, members, offset)
        if n_bonds == 0:
            continue
        couple = kinds.couple[kinds.starts[k, 2] :]
        move = kinds.move[kinds.starts[k, 3] :]
        ends = kinds.ends[kinds.starts[k, 4] :]
        for b in range(n_bonds):
            i, j = atoms[ends[2 * b]], atoms[ends[2 * b + 1]]
            rate = 0.0
            for x in range(3):
                along[b, x] = positions[i, x] - positions[j, x]
                rate += along[b, x] * (velocities[i, x] - velocities[j, x])
            matrix[b, n_bonds] = -rate
        for b in range(n_bonds):
            for c in range(n_bonds):
                dot = 0.0
                for x in range(3):
                    dot += along[b, x] * along[c, x]
                matrix[b, c] = dot * couple[b * n_bonds + c]
        _eliminate(matrix, n_bonds, column_of, solution)
        _displace(velocities, atoms, n_atoms, n_bonds, move, matrix[:, n_bonds], along)
