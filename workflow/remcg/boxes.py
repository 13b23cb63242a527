"""Periodic boxes: three edges, or three vectors a, b, c as rows of a lower-triangular matrix."""

import numpy as np

from remcg.errors import InputError


def vectors(box):
    """Rows a = (a_x, 0, 0), b = (b_x, b_y, 0), c of a box, or of each of many, nm.

    Parameters
    ----------
    box : array_like, shape (..., 3) or (..., 3, 3)
        Edges of orthorhombic boxes or box vectors; an array of shape (3, 3) is one box.

    Raises
    ------
    InputError
        Where the vectors are not lower-triangular or a diagonal entry is not positive.
    """
    box = np.asarray(box, float)
    if box.shape[-2:] != (3, 3):
        box = box[..., None] * np.eye(3)
    diagonal = np.diagonal(box, axis1=-2, axis2=-1)
    if np.any(np.triu(box, 1)) or not (diagonal > 0.0).all():
        raise InputError(
            f"box vectors {box.tolist()} are not of the form a = (a_x, 0, 0), b = (b_x, b_y, 0),"
            " c = (c_x, c_y, c_z) with a_x, b_y, c_z > 0; rotate the system so that they are"
        )
    return box


def volume(box):
    """nm^3, of edges or vectors as :func:`vectors` takes them."""
    return np.diagonal(vectors(box), axis1=-2, axis2=-1).prod(axis=-1)


def heights(box):
    """Distances between opposite faces, shape (..., 3), nm: V over the area of a face."""
    a, b, c = np.moveaxis(vectors(box), -2, 0)
    areas = [np.linalg.norm(np.cross(*pair), axis=-1) for pair in ((b, c), (c, a), (a, b))]
    return volume(box)[..., None] / np.stack(areas, axis=-1)


def many(boxes):
    """Vectors of a sequence of boxes given as edges (n, 3) or vectors (n, 3, 3)."""
    boxes = np.asarray(boxes, float)
    return vectors(boxes if boxes.ndim == 3 else boxes[:, :, None] * np.eye(3))


def reduced(box):
    """The same lattice with the vectors that OpenMM takes: off-diagonals at most half an edge.

    ``box``: edges (3,) or vectors (3, 3), nm.
    """
    a, b, c = vectors(box).copy()
    c = c - np.round(c[1] / b[1]) * b
    c = c - np.round(c[0] / a[0]) * a
    b = b - np.round(b[0] / a[0]) * a
    return np.array([a, b, c])
