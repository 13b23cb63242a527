"""Parts of a chain that hang on two atoms, such as the plane of a peptide bond, and their turns."""

from typing import NamedTuple

import numpy as np

LARGEST = 8  # atoms of a part


class Crank(NamedTuple):
    """``atoms`` turn about the line through the atoms ``first`` and ``last``."""

    first: int
    last: int
    atoms: np.ndarray


def find_cranks(neighbours):
    """All cranks of a bond graph.

    Two atoms that are three bonds apart, and of no ring together, with all that hangs on the bond
    between their neighbours, up to :data:`LARGEST` atoms.

    Parameters
    ----------
    neighbours : sequence of collections of int
        Atoms that each atom is bonded to.

    Returns
    -------
    list of Crank
    """
    paths = [(k,) for k in range(len(neighbours))]
    for _ in range(3):
        paths = [
            (*path, k) for path in paths for k in sorted(neighbours[path[-1]]) if k not in path[-2:]
        ]
    cranks = []
    for first, second, _, last in paths:
        if first < last and min(len(neighbours[k]) for k in (first, last)) > 1:
            part = _between(neighbours, first, last, second)
            if part is not None:
                cranks.append(Crank(first, last, np.array(part)))
    return cranks


def _between(neighbours, first, last, start):
    """Atoms that hang on ``start`` without the two ends; None if too many or in a ring."""
    part, new = {start}, [start]
    while new:
        new = [j for i in new for j in neighbours[i] if j not in (first, last) and j not in part]
        part.update(new)
        if len(part) > LARGEST:
            return None
    alone = all(len(part & set(neighbours[end])) == 1 for end in (first, last))
    return sorted(part) if alone and not _joined(neighbours, first, last, part) else None


def _joined(neighbours, first, last, part):
    """Whether another path than through the part joins the two ends."""
    seen, new = {first, *part}, [first]
    while new:
        new = [j for i in new for j in neighbours[i] if j not in seen]
        seen.update(new)
    return last in seen


def turned(positions, crank, angle):
    """Positions (n_atoms, 3) with the atoms of a crank turned by an angle (rad)."""
    x, origin = positions.copy(), positions[crank.first]
    axis = positions[crank.last] - origin
    axis /= np.linalg.norm(axis)
    v = positions[crank.atoms] - origin
    along = np.outer(v @ axis, axis)
    x[crank.atoms] = (
        origin + along + np.cos(angle) * (v - along) + np.sin(angle) * np.cross(axis, v)
    )
    return x
