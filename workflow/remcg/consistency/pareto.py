"""Several objectives at once: points that no other point beats, and how much they dominate."""

import numpy as np

from remcg.errors import InputError


def front(points):
    """Indices of the points that no other one dominates, sorted by the first objective.

    A point dominates another that is nowhere smaller and somewhere larger; of equal points the
    first counts.

    Parameters
    ----------
    points : ndarray, shape (n_points, n_objectives)
        To be minimised.
    """
    points = np.asarray(points, float)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise InputError(
            f"points of shape {points.shape}; give (n_points, n_objectives), all finite"
        )
    kept = []
    for i in np.lexsort(points.T[::-1]):
        below = (points[kept] <= points[i]).all(axis=1) if kept else np.zeros(0, bool)
        if not below.any():
            kept.append(int(i))
    return np.array(kept, int)


def hypervolume(points, reference):
    """Area that the front of two objectives dominates, up to a reference point.

    Parameters
    ----------
    points : ndarray, shape (n_points, 2)
    reference : ndarray, shape (2,)
        Points beyond it do not count.
    """
    points = np.asarray(points, float)
    inside = points[(points < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    chosen = inside[front(inside)]
    ends = np.append(chosen[1:, 0], reference[0])
    return float(np.sum((ends - chosen[:, 0]) * (reference[1] - chosen[:, 1])))
