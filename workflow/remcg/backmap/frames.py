"""What backmapping starts from: frames of sites and of whole atomistic molecules."""

from dataclasses import dataclass

import numpy as np

from remcg.backmap.validation import is_rounded
from remcg.boxes import vectors
from remcg.errors import InputError
from remcg.mapping import Unwrapper
from remcg.trajectory import read_frames


@dataclass(frozen=True)
class Frames:
    """Atomistic configurations with whole molecules.

    Attributes
    ----------
    positions : ndarray, shape (n_frames, n_atoms, 3), nm
    boxes : ndarray, shape (n_frames, 3) or (n_frames, 3, 3), nm; None in vacuum
    is_rounded : bool
        Whether the file they are from has positions to 0.001 nm only.
    """

    positions: np.ndarray
    boxes: np.ndarray | None
    is_rounded: bool = False

    def __len__(self):
        return len(self.positions)

    def box(self, k):
        """Box of frame ``k``, nm, edges (3,) or rows (3, 3); None without a box."""
        return None if self.boxes is None else self.boxes[k]

    def take(self, chosen):
        """The frames with these indices."""
        boxes = None if self.boxes is None else self.boxes[chosen]
        return Frames(self.positions[chosen], boxes, self.is_rounded)


def evenly_spaced(n_frames, count):
    """Indices of at most ``count`` frames, in the middle of as many equal parts of a trajectory."""
    count = min(count, n_frames)
    return ((np.arange(count) + 0.5) * n_frames / max(count, 1)).astype(int)


def read_reference(paths, topology, molecules, state, chosen, selection=None, in_vacuum=False):
    """Frames of a reference trajectory, molecules whole.

    Parameters
    ----------
    paths : list of path
    topology : mdtraj.Topology
    molecules : sequence of ndarray
        Atom indices.
    state : str
        For messages.
    chosen : array_like of int
        Numbers of the frames, sorted, among those that ``selection`` leaves.
    selection : remcg.trajectory.Selection, optional
    in_vacuum : bool
        The box only made molecules whole: forget it.

    Returns
    -------
    Frames
    """
    unwrap, chosen = Unwrapper(topology, molecules), np.asarray(chosen, int)
    positions, boxes, rounded, first = [], [], True, 0
    for chunk in read_frames(paths, topology, state, selection=selection):
        last = first + len(chunk.time)
        mine = chosen[(chosen >= first) & (chosen < last)] - first
        if len(mine):
            rounded = rounded and is_rounded(chunk.positions[mine])
            positions.append(unwrap(chunk, state)[mine])
            boxes.append(chunk.boxes[mine])
        first = last
    if sum(map(len, positions)) < len(chosen):
        raise InputError(
            f"{state}: its trajectory has {first} frames, but backmapping was told to take number"
            f" {chosen.max()}; map the trajectory anew, it has changed"
        )
    found = None if in_vacuum else _alike(boxes)
    return Frames(np.concatenate(positions), found, rounded)


def _alike(boxes):
    """Boxes of several chunks in one array."""
    if any(part.ndim == 3 for part in boxes):
        boxes = [part if part.ndim == 3 else part[:, :, None] * np.eye(3) for part in boxes]
    return np.concatenate(boxes)


def prepare_sites(frames, boxes, mapped, topology, where):
    """Sites with whole molecules in the cell, and boxes: arrays that belong together.

    Parameters
    ----------
    frames : array_like, shape (n_frames, n_sites, 3)
        nm, in any periodic image.
    boxes : array_like, shape (n_frames, 3) or (n_frames, 3, 3), or None
    mapped : remcg.mapping.Sites
    topology : mdtraj.Topology
    where : str
        Name of the state, for messages.

    Returns
    -------
    (ndarray, ndarray or None)
        Sites of frames that cannot be used, because they or their boxes are not finite or the box
        has no volume, are NaN.

    Raises
    ------
    InputError
        Frames of another system, without sites, or none that can be used.
    """
    frames = np.asarray(frames, float)
    boxes = None if boxes is None else np.asarray(boxes, float)
    if frames.ndim != 3 or 0 in frames.shape:
        raise InputError(
            f"backmap: {where} has coarse-grained frames of shape {frames.shape}, where at least"
            " one frame of at least one site is needed; predict the state again"
        )
    if mapped.matrix.shape[1] != topology.n_atoms:
        raise InputError(
            f"backmap: the topology of {where} has {topology.n_atoms} atoms, but the mapping was"
            f" built for {mapped.matrix.shape[1]}; give the topology that the reference"
            " trajectories were written with"
        )
    if frames.shape[1] != mapped.n_sites:
        raise InputError(
            f"backmap: the coarse-grained frames of {where} have {frames.shape[1]} sites, but the"
            f" mapping of its topology makes {mapped.n_sites}; predict and map the same system"
        )
    if boxes is not None and len(boxes) != len(frames):
        raise InputError(
            f"backmap: {where} has {len(boxes)} boxes for {len(frames)} coarse-grained frames; give"
            " one box per frame"
        )
    usable = np.isfinite(frames).all(axis=(1, 2))
    if boxes is not None:
        usable &= has_volume(boxes)
    if not usable.any():
        raise InputError(
            f"backmap: the coarse-grained frames of {where} contain coordinates or boxes that are "
            "not finite; the prediction they come from has blown up, look at its log"
        )
    found = np.full(frames.shape, np.nan)
    for k in np.flatnonzero(usable):
        found[k] = frames[k] if boxes is None else _in_cell(mapped.topology, frames[k], boxes[k])
    return found, boxes


def has_volume(boxes):
    """Whether each of the boxes (n, 3) or (n, 3, 3) is finite and none of its edges is zero."""
    edges = boxes if boxes.ndim == 2 else np.diagonal(boxes, axis1=1, axis2=2)
    return np.isfinite(boxes).reshape(len(boxes), -1).all(axis=1) & (edges > 0.0).all(axis=1)


def _in_cell(topology, positions, box):
    """Whole molecules, the first site of each in the cell."""
    lattice = vectors(box)
    whole = topology.make_whole(positions, box)
    first = np.unique(topology.molecule, return_index=True)[1]
    shifts = -np.floor(whole[first] @ np.linalg.inv(lattice)) @ lattice
    return whole + shifts[topology.molecule]
