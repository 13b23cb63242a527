"""Raw frames of a trajectory file, in chunks: mdtraj's readers, and own ones for HDF5 and GSD."""

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from remcg.errors import InputError


class RawFrames(NamedTuple):
    """Consecutive frames as a file has them; the names are those of an ``mdtraj.Trajectory``.

    xyz (n, n_atoms, 3), nm; time (n,), ps; unitcell_lengths (n, 3), nm, and unitcell_angles (n, 3),
    degrees, or None.
    """

    xyz: np.ndarray
    time: np.ndarray
    unitcell_lengths: np.ndarray
    unitcell_angles: np.ndarray


def open_frames(path, topology, chunk):
    """Yield chunks of frames with the attributes of :class:`RawFrames`.

    Parameters
    ----------
    path : path
        The ending tells the format.
    topology : mdtraj.Topology
    chunk : int
        Frames in memory at a time; a PDB is read as a whole.
    """
    suffix = str(path).lower().rpartition(".")[2]
    if suffix in ("h5", "hdf5"):
        return _hdf5(path, chunk)
    if suffix == "gsd":
        return _gsd(path, chunk)
    if suffix == "xtc":
        return _xtc(path, chunk)
    return _of_mdtraj(path, topology, chunk)


@contextmanager
def plain_path(path):
    """The path, or a link to it of ASCII characters, which are all that mdtraj's C readers take."""
    if str(path).isascii():
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, f"trajectory{Path(path).suffix}")
        link.symlink_to(Path(path).absolute())
        yield str(link)


def _of_mdtraj(path, topology, chunk):
    import mdtraj

    with plain_path(path) as plain:
        yield from mdtraj.iterload(plain, top=topology, chunk=chunk)


def _xtc(path, chunk):
    """What mdtraj decodes, without its Trajectory."""
    from mdtraj.formats import XTCTrajectoryFile

    with plain_path(path) as plain, XTCTrajectoryFile(plain) as file:
        while True:
            xyz, time, _, vectors = file.read(chunk)
            if len(xyz) == 0:
                return
            yield RawFrames(xyz, time, *_cells(vectors))


def _cells(vectors):
    """Lengths and angles (degrees) of box vectors (n, 3, 3), as mdtraj computes them."""
    from mdtraj.utils import box_vectors_to_lengths_and_angles

    if vectors is None:
        return None, None
    if not vectors[:, ~np.eye(3, dtype=bool)].any():
        lengths = np.diagonal(vectors, axis1=1, axis2=2)
        return lengths, np.full_like(lengths, 90.0)
    cells = box_vectors_to_lengths_and_angles(*np.moveaxis(vectors, 1, 0))
    return np.stack(cells[:3], axis=1), np.stack(cells[3:], axis=1)


def _hdf5(path, chunk):
    """MDTraj's HDF5 layout: nm, ps, degrees; mdtraj itself would need PyTables for it."""
    import h5py

    with h5py.File(path, "r") as file:
        if "coordinates" not in file:
            raise InputError(
                f"{path}: has no dataset coordinates, so it is no trajectory in mdtraj's HDF5 "
                "layout; convert it to XTC"
            )
        _check_units(path, file)
        n_frames = len(file["coordinates"])
        for start in range(0, n_frames, chunk):
            part = slice(start, min(start + chunk, n_frames))
            time = file["time"][part] if "time" in file else np.arange(part.start, part.stop)
            cell = [file[name][part] if name in file else None
                    for name in ("cell_lengths", "cell_angles")]  # fmt: skip
            yield RawFrames(file["coordinates"][part], np.asarray(time, float), *cell)


HDF5_UNITS = {
    "coordinates": "nanometers",
    "time": "picoseconds",
    "cell_lengths": "nanometers",
    "cell_angles": "degrees",
}


def _check_units(path, file):
    for name, expected in HDF5_UNITS.items():
        found = file[name].attrs.get("units", expected) if name in file else expected
        found = found.decode() if isinstance(found, bytes) else str(found)
        if found != expected:
            raise InputError(
                f"{path}: its {name} are in {found}; they must be in {expected}: convert the file "
                "with mdtraj"
            )


def _gsd(path, chunk):
    """HOOMD's GSD, lengths taken as nm; frames have a step but no time."""
    import gsd.hoomd

    with gsd.hoomd.open(str(path), "r") as file:
        for start in range(0, len(file), chunk):
            stop = min(start + chunk, len(file))
            frames = [file[k] for k in range(start, stop)]
            xyz = np.array([frame.particles.position for frame in frames])
            boxes = np.array([frame.configuration.box for frame in frames], float)
            yield RawFrames(xyz, np.arange(start, stop, dtype=float), *hoomd_cells(boxes))


def hoomd_cells(boxes):
    """Lengths and angles (degrees) of boxes (Lx, Ly, Lz, xy, xz, yz), shape (n, 6).

    a = (Lx, 0, 0), b = (xy Ly, Ly, 0), c = (xz Lz, yz Lz, Lz).
    """
    zero = np.zeros(len(boxes))
    x, y, z, xy, xz, yz = boxes.T
    a = np.stack([x, zero, zero], axis=1)
    b = np.stack([xy * y, y, zero], axis=1)
    c = np.stack([xz * z, yz * z, z], axis=1)
    lengths = np.stack([np.linalg.norm(v, axis=1) for v in (a, b, c)], axis=1)
    if not (lengths > 0.0).all():
        return None, None
    cosines = [
        (u * v).sum(axis=1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
        for u, v in ((b, c), (a, c), (a, b))
    ]
    return lengths, np.degrees(np.arccos(np.clip(np.stack(cosines, axis=1), -1.0, 1.0)))
