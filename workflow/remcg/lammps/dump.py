"""LAMMPS' binary dumps, frame by frame: ``dump custom file.bin id x y z vx vy vz``."""

from typing import NamedTuple

import numpy as np

from remcg.errors import SamplingError

COLUMNS = "id x y z vx vy vz"
BYTES_PER_SITE = 8 * len(COLUMNS.split())
ANGSTROM = 0.1  # nm
SPEED = 100.0  # nm/ps of 1 Angstrom/fs


class Frame(NamedTuple):
    """One configuration: its step; positions (n_sites, 3) in nm from the corner of the box,
    velocities in nm/ps, both by id; box vectors (3, 3) as rows in nm."""

    step: int
    positions: np.ndarray
    velocities: np.ndarray
    box: np.ndarray


def frames(path, n_sites):
    """Frames of a dump in ``units real``, one at a time.

    The format is that of LAMMPS since 2020, in which each frame begins with a magic string.

    Parameters
    ----------
    path : path
    n_sites : int
        Ids are 1 to n_sites.

    Yields
    ------
    Frame

    Raises
    ------
    SamplingError
        Where the file ends within a frame, or has other columns or another number of sites.
    """
    with open(path, "rb") as file:
        while (begin := file.read(8)) != b"":
            yield _frame(file, begin, path, n_sites)


def _frame(file, begin, path, n_sites):
    length = -int(np.frombuffer(begin.ljust(8, b"\0"), np.int64)[0])
    if not 0 < length < 100:
        raise SamplingError(
            f"{path} is not a binary dump of LAMMPS of 2020 or later; take a newer LAMMPS"
        )

    def take(dtype, count=1):
        found = np.fromfile(file, dtype, count)
        if len(found) < count:
            raise SamplingError(
                f"{path} ends within a frame, at byte {file.tell()}: LAMMPS was stopped, or the"
                " disk is full; make room, then start again"
            )
        return found

    take(np.uint8, length)
    if take(np.int32)[0] != 1:
        raise SamplingError(f"{path} was written on a machine with another byte order; use one")
    revision = take(np.int32)[0]
    step, n_atoms = take(np.int64, 2)
    form = take(np.int32)[0]
    take(np.int32, 6)
    bounds = take(np.float64, 6).reshape(3, 2)
    tilts = take(np.float64, 3) if form else np.zeros(3)
    n_columns = take(np.int32)[0]
    columns = COLUMNS
    if revision > 1:
        take(np.uint8, take(np.int32)[0])
        if take(np.uint8)[0]:
            take(np.float64)
        columns = take(np.uint8, take(np.int32)[0]).tobytes().decode().strip()
    if columns != COLUMNS or n_columns != len(COLUMNS.split()) or n_atoms != n_sites or form > 1:
        raise SamplingError(
            f"{path} has {n_atoms} sites with the columns '{columns}', not {n_sites} with"
            f" '{COLUMNS}'; delete the folder and start again"
        )
    rows = np.empty((n_sites, n_columns))
    first = 0
    for _ in range(take(np.int32)[0]):
        part = take(np.float64, take(np.int32)[0]).reshape(-1, n_columns)
        rows[first : first + len(part)] = part
        first += len(part)
    if first != n_sites:
        raise SamplingError(f"{path}: step {step} has {first} sites of {n_sites}; sites were lost")
    return _by_id(int(step), rows, bounds, tilts)


def _by_id(step, rows, bounds, tilts):
    origin, box = _box(bounds, tilts)
    site = rows[:, 0].astype(np.int64) - 1
    positions, velocities = np.empty((2, len(rows), 3))
    positions[site] = ANGSTROM * (rows[:, 1:4] - origin)
    velocities[site] = SPEED * rows[:, 4:7]
    return Frame(step, positions, velocities, ANGSTROM * box)


def _box(bounds, tilts):
    """Corner and vectors from the bounds of a box, which of a skew one enclose it."""
    xy, xz, yz = tilts
    low, high = bounds.T.copy()
    low -= [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
    high -= [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
    box = np.diag(high - low)
    box[1, 0], box[2, 0], box[2, 1] = xy, xz, yz
    return low, box
