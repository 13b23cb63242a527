r"""Forces of pair terms, function by function, and the normal equations of force matching.

.. math:: F_{ik} = -\sum_{j \ne i} B_k'(r_{ij}) \, \mathbf{r}_{ij} / r_{ij}, \qquad
          \mathbf{r}_{ij} = \mathbf{r}_i - \mathbf{r}_j

is the force on site i of the k-th basis sum, so that a model's forces are linear in theta, too.
"""

import numpy as np
from numba import njit

from remcg.engine.neighbors import to_nearest_image
from remcg.errors import InputError
from remcg.pairs import _checked, _PairFinder, pair_tables


@njit(cache=True)
def _add_forces(first, second, distance, count, positions, box, site_types, tables, forces):
    """Add the forces of all pairs of one frame to ``forces`` (n_sites, 3, n_functions)."""
    step = np.empty(3)
    for p in range(count):
        i, j = first[p], second[p]
        term = tables.term_of[site_types[i], site_types[j]]
        r = distance[p]
        if term < 0 or r >= tables.r_cut[term] or r == 0.0:
            continue
        for c in range(3):
            step[c] = positions[i, c] - positions[j, c]
        to_nearest_image(step, box)
        scale, offset = tables.inverse_spacing[term], tables.offset[term]
        x = (r - tables.r_min[term]) * scale
        m = min(max(int(x), 0), tables.n_intervals[term] - 1)
        x = max(x - m, 0.0)  # below r_min the slope stays what it is there
        table = tables.local[term, m]
        for f in range(min(4, forces.shape[2] - offset - m)):
            slope = scale * (table[f, 1] + x * (2.0 * table[f, 2] + x * 3.0 * table[f, 3]))
            for c in range(3):
                push = -slope * step[c] / r
                forces[i, c, offset + m + f] += push
                forces[j, c, offset + m + f] -= push


def basis_forces(positions, boxes, site_types, site_names, pair_terms):
    """Yield the forces of every pair basis function, frame by frame, minimum image.

    Parameters
    ----------
    positions, boxes, site_types, site_names, pair_terms
        As in :func:`remcg.pairs.pair_sums`.

    Yields
    ------
    ndarray, shape (n_sites, 3, n_pair_functions), 1/nm
        The same array each time, with other content.
    """
    tables = pair_tables(site_names, pair_terms)
    r_max = max(tables.r_cut, default=0.0)
    positions, boxes, site_types = _checked(positions, boxes, site_types, r_max)
    find = _PairFinder(r_max)
    forces = np.empty((len(site_types), 3, sum(term.n_basis for term in pair_terms)))
    for frame, box in zip(positions, boxes):
        forces[:] = 0.0
        _add_forces(*find(frame, box), frame, box, site_types, tables, forces)
        yield forces


def normal_equations(positions, boxes, reference, site_types, site_names, pair_terms):
    r"""Sums over frames from which least squares follow, without keeping any force.

    .. math:: N = \sum G^T G, \quad b = \sum G^T f, \quad s = \sum f^T f

    with the basis forces G (3 n_sites, n_pair_functions) and the mapped forces f of each frame.

    Parameters
    ----------
    positions, boxes, site_types, site_names, pair_terms
        As in :func:`remcg.pairs.pair_sums`.
    reference : ndarray, shape (n_frames, n_sites, 3), kJ/mol/nm
        Forces on the sites.

    Returns
    -------
    normal, right, square
        (n_pair_functions, n_pair_functions) in nm^-2, (n_pair_functions,) in kJ/mol/nm^2, float in
        (kJ/mol/nm)^2.

    References
    ----------
    Izvekov and Voth, J. Phys. Chem. B 109, 2469 (2005); Noid et al., J. Chem. Phys. 128, 244114
    (2008).
    """
    reference = np.asarray(reference, float)
    if reference.shape != np.shape(positions):
        raise InputError(
            f"forces of shape {reference.shape} do not fit positions of shape "
            f"{np.shape(positions)}; give one force per site and frame"
        )
    n_functions = sum(term.n_basis for term in pair_terms)
    normal, right = np.zeros((n_functions, n_functions)), np.zeros(n_functions)
    frames = basis_forces(positions, boxes, site_types, site_names, pair_terms)
    for basis, force in zip(frames, reference):
        rows = basis.reshape(-1, n_functions)
        normal += rows.T @ rows
        right += rows.T @ force.ravel()
    return normal, right, float(np.sum(reference**2))
