"""Right inverses of a linear mapping: least norm, least mass-weighted displacement."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import bmat, coo_matrix, csc_matrix, csr_matrix, diags
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from remcg.boxes import vectors
from remcg.errors import InputError


class Blocks(NamedTuple):
    """Sites and atoms that hang together, for all blocks of one size.

    rows (n_blocks, n_sites), columns (n_blocks, n_atoms): indices in the operator; weights
    (n_blocks, n_sites, n_atoms).
    """

    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray


def pseudoinverse(operator):
    r"""Moore–Penrose inverse M⁺ of a mapping: M⁺ y is the configuration of least norm.

    .. math:: M^+ = M^T (M M^T)^+

    Sites that share atoms form one dense block, others never meet. M M⁺ = 1 where the sites are
    independent; x depends on the origin of coordinates (:func:`mass_metric_inverse` does not).

    Parameters
    ----------
    operator : sparse matrix, shape (n_sites, n_atoms)

    Returns
    -------
    csr_matrix, shape (n_atoms, n_sites)

    References
    ----------
    Penrose, Proc. Camb. Philos. Soc. 51, 406 (1955).
    """
    return _assemble(operator, np.linalg.pinv)


def mass_metric_inverse(operator, masses):
    r"""Right inverse in the metric of the masses, which commutes with translations.

    .. math:: B = W^{-1} M^T (M W^{-1} M^T)^{+}, \quad W = diag(m)

    With rows of M that sum to one, :math:`B 1 = 1` for one site per molecule weighted by mass, and
    :math:`x_0 + B (y - M x_0)` is the mass-weighted least displacement of any x_0 that brings the
    sites to y.

    Parameters
    ----------
    operator : sparse matrix, shape (n_sites, n_atoms)
    masses : array_like, shape (n_atoms,)
        amu; massless particles (virtual sites) stay where they are.

    Returns
    -------
    csr_matrix, shape (n_atoms, n_sites)
    """
    inverse = inverse_masses(masses)
    _check_movable(operator, inverse)

    def invert(weights, columns):
        spread = inverse[columns][:, :, None] * weights.swapaxes(1, 2)
        return spread @ np.linalg.pinv(weights @ spread, hermitian=True)

    return _assemble(operator, invert, with_columns=True)


def null_space_dimension(operator):
    """Dimension of {x : M x = y}, 3 (n_atoms - rank M)."""
    rank = 0
    for block in blocks(operator):
        rank += int(np.linalg.matrix_rank(block.weights).sum())
    return 3 * (operator.shape[1] - rank)


def inverse_masses(masses):
    """1/m of each atom, 0 where there is no mass."""
    masses = np.asarray(masses, float)
    return np.where(masses > 0, 1.0 / np.where(masses > 0, masses, 1.0), 0.0)


def blocks(operator):
    """Connected sites and atoms of an operator, :class:`Blocks` of each size."""
    entries = _entries(operator)
    n_sites = entries.shape[0]
    graph = bmat([[None, entries], [entries.T, None]])
    n_blocks, label = connected_components(graph, directed=False)
    of_site, of_atom = label[:n_sites], label[n_sites:]
    site_rank, atom_rank = _ranked(of_site), _ranked(of_atom)
    sizes = np.array([np.bincount(each, minlength=n_blocks) for each in (of_site, of_atom)]).T
    for size in np.unique(sizes[sizes[:, 0] > 0], axis=0):
        chosen = np.flatnonzero((sizes == size).all(axis=1))
        number = np.full(n_blocks, -1)
        number[chosen] = np.arange(len(chosen))
        rows, columns = (np.zeros((len(chosen), n), int) for n in size)
        for where, of, rank in ((rows, of_site, site_rank), (columns, of_atom, atom_rank)):
            kept = np.flatnonzero(number[of] >= 0)
            where[number[of[kept]], rank[kept]] = kept
        kept = number[of_site[entries.row]] >= 0
        i, j = entries.row[kept], entries.col[kept]
        weights = np.zeros((len(chosen), *size))
        weights[number[of_site[i]], site_rank[i], atom_rank[j]] = entries.data[kept]
        yield Blocks(rows, columns, weights)


class Projector:
    r"""Moves atoms by the least mass-weighted displacement so that M x = y holds exactly.

    .. math:: x = x_0 + W^{-1} M^T (M W^{-1} M^T)^{-1} (y - M x_0), \quad W = diag(m)

    For a site at the centre of mass this translates the molecule as a rigid body.

    Parameters
    ----------
    operator : sparse matrix, shape (n_sites, n_atoms)
        M, rows that sum to one.
    masses : array_like, shape (n_atoms,)
        amu; massless particles (virtual sites) stay where they are.
    """

    def __init__(self, operator, masses):
        inverse = inverse_masses(masses)
        self.operator = csc_matrix(operator, dtype=float)
        _check_movable(self.operator, inverse)
        _check_independent(self.operator, inverse)
        self._spread = (diags(inverse) @ self.operator.T).tocsr()
        self._metric = splu((self.operator @ self._spread).tocsc())

    def map(self, positions):
        """Sites of atoms, shape (n_sites, 3), nm; molecules must be whole."""
        return self.operator @ positions

    def project(self, positions, sites):
        """Positions (n_atoms, 3) nearest to the given ones whose sites are ``sites``, nm."""
        for _ in range(2):  # the second pass removes the rounding error of the first
            shift = self._metric.solve(np.ascontiguousarray(sites - self.map(positions)))
            positions = positions + self._spread @ shift
        return positions

    def residual(self, positions, sites, box=None):
        """Largest distance between the sites of ``positions`` and ``sites``, nearest image, nm.

        ``box``: edges (3,) or vectors (3, 3), nm; None in vacuum.
        """
        difference = self.map(positions) - sites
        if box is not None:
            box = vectors(box)
            for k in (2, 1, 0):
                difference -= np.round(difference[:, k : k + 1] / box[k, k]) * box[k]
        return float(np.sqrt((difference**2).sum(axis=1)).max())


def _entries(operator):
    entries = csr_matrix(operator, dtype=float)
    entries.sum_duplicates()
    entries.eliminate_zeros()
    return entries.tocoo()


def _ranked(labels):
    """Place of each element among those of its label."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    rank = np.empty(len(labels), int)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank


def _assemble(operator, invert, with_columns=False):
    """Sparse matrix (n_atoms, n_sites) of the inverted blocks."""
    rows, columns, data = [], [], []
    for block in blocks(operator):
        arguments = (block.columns,) if with_columns else ()
        inverse = invert(block.weights, *arguments)
        i, j = np.broadcast_arrays(block.columns[:, :, None], block.rows[:, None, :])
        rows.append(i.ravel())
        columns.append(j.ravel())
        data.append(inverse.ravel())
    indices = np.concatenate(rows), np.concatenate(columns)
    return coo_matrix((np.concatenate(data), indices), operator.shape[::-1]).tocsr()


def _check_independent(operator, inverse):
    """No site may be a combination of others, but for rounding errors."""
    for block in blocks(operator):
        scaled = block.weights * np.sqrt(inverse[block.columns])[:, None, :]
        if np.linalg.matrix_rank(scaled).min() < scaled.shape[1]:
            raise InputError(
                "the sites of the mapping depend on one another (one of them is a combination of"
                " others), so they cannot be set one by one; leave out the sites that follow from"
                " others"
            )


def _check_movable(operator, inverse):
    """Every site must contain an atom that can move."""
    weight = np.abs(csr_matrix(operator)) @ inverse
    if np.any(weight == 0.0):
        fixed = np.flatnonzero(weight == 0.0)
        raise InputError(
            f"site {fixed[0]} of the mapping ({len(fixed)} such sites) has no atom with a mass and"
            " a weight, so atoms cannot be put under it; give it atoms that have mass"
        )
