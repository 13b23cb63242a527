"""Orientations of sites: the principal axes of their atoms, followed through time."""

from itertools import permutations, product

import numpy as np

STRAIGHT = 1e-4  # smallest over largest moment of inertia, below which atoms are in line


class Orientations:
    r"""Principal axes of each site, continuous in time.

    Rows of a frame are the eigenvectors of the inertia tensor

    .. math:: \sum_i m_i (r_i^2 1 - \mathbf{r}_i \mathbf{r}_i^T)

    about the centre of mass of the site's atoms, right-handed. In the first frame they are in the
    order of their moments and point to the side of the site's first atom; later each is the axis
    (of all orders and signs) that is nearest to what it was. Sites without three atoms off a line
    keep the axes of the box.

    Parameters
    ----------
    sites : remcg.mapping.Sites
    """

    def __init__(self, sites):
        self.matrix = sites.matrix
        self.masses = sites.atom_masses
        self.last = None
        self.undefined = np.zeros(sites.n_sites, bool)

    def __call__(self, positions):
        """Axes (n_frames, n_sites, 3, 3) of the next frames, from atoms of whole molecules."""
        moments, axes = self._principal(positions)
        if self.last is None:
            self.undefined = moments[0, :, 0] <= STRAIGHT * moments[0, :, 2]
            self.last = self._first(positions[0], axes[0])
        axes[:, self.undefined] = np.eye(3)
        for frame, each in enumerate(axes):
            axes[frame] = self.last = nearest_axes(self.last, each)
        return axes

    def _principal(self, positions):
        """Moments (n_frames, n_sites, 3), ascending, and axes as rows."""
        entries = self.matrix.tocoo()
        masses, sites = self.masses[entries.col], entries.row
        starts = np.flatnonzero(np.diff(sites, prepend=-1))
        atoms = positions[:, entries.col]
        total = np.add.reduceat(masses, starts)
        centres = np.add.reduceat(atoms * masses[:, None], starts, axis=1) / total[:, None]
        arms = atoms - centres[:, sites]
        second = masses[:, None, None] * arms[..., :, None] * arms[..., None, :]
        second = np.add.reduceat(second, starts, axis=1)
        trace = np.trace(second, axis1=-2, axis2=-1)
        moments, columns = np.linalg.eigh(trace[..., None, None] * np.eye(3) - second)
        return moments, np.swapaxes(columns, -1, -2)

    def _first(self, positions, axes):
        """What the first frame is compared with: its own axes with chosen signs."""
        entries = self.matrix.tocoo()
        starts = np.flatnonzero(np.diff(entries.row, prepend=-1))
        centres = self.matrix @ positions
        arms = positions[entries.col[starts]] - centres
        signs = np.where(np.einsum("sij,sj->si", axes[:, :2], arms) < 0.0, -1.0, 1.0)
        one, two = np.moveaxis(axes[:, :2] * signs[..., None], 1, 0)
        return np.stack([one, two, np.cross(one, two)], axis=1)


def _proper_turns():
    """The 24 rotations that permute and reverse three axes, (24, 3, 3)."""
    found = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            turn = np.zeros((3, 3))
            turn[range(3), order] = signs
            if np.linalg.det(turn) > 0.0:
                found.append(turn)
    return np.array(found)


TURNS = _proper_turns()


def nearest_axes(before, axes):
    """The same axes in the order and with the signs nearest to ``before``, right-handed.

    Parameters
    ----------
    before, axes : ndarray, shape (n, 3, 3)
        Orthonormal rows.
    """
    axes = axes * np.sign(np.linalg.det(axes))[:, None, None]
    overlaps = np.einsum("sij,skj->sik", before, axes)
    best = np.argmax(np.einsum("tik,sik->st", TURNS, overlaps), axis=1)
    return TURNS[best] @ axes
