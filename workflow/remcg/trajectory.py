"""Atomistic trajectories and logs, read in chunks and checked on the way. Units: nm, ps."""

import csv
import mmap
import os
import re
import struct
from dataclasses import dataclass

import numpy as np

from remcg.errors import InputError
from remcg.formats import open_frames, plain_path
from remcg.sums import check_sum

CHUNK = 50  # frames
CHUNK_ATOMS = 2_000_000  # in the frames of a chunk, which is shorter for large systems
RIGHT_ANGLE_TOLERANCE = 0.01  # degrees
VOLUME_TOLERANCE = 1e-3  # relative, between log and trajectory
TIME_TOLERANCE = 1e-3  # ps, between a frame and its line in the log
LOG_COLUMNS = ("time_ps", "potential_energy_kJ_mol", "volume_nm3", "temperature_K")
TURNED = 1e-5  # of a box, upper triangle over the largest entry: another convention of vectors
SAME_TIME = 1e-6  # relative, between a time of the config and one of a frame
TIMELESS = (
    *("arc", "binpos", "cif", "crd", "dcd", "gsd", "lammpstrj", "mdcrd", "mmcif", "pdb", "pdbx"),
    "xyz",
)  # formats whose frames have no time
_XTC_MAGIC = (1995, 2023)
_XTC_HEADER = struct.Struct(">3i10fi")  # magic, atoms, step, time, box, atoms
_XTC_BOUNDS = struct.Struct(">f3i3ii")  # precision, bounds, smallest index
_XTC_INDICES = range(9, 73)  # of the table of sizes that compressed coordinates refer to
_XTC_LARGEST = 16  # bytes of one atom
_XTC_COUNTS = {1995: struct.Struct(">i"), 2023: struct.Struct(">q")}  # bytes of coordinates
_XTC_UNCOMPRESSED = 9  # atoms, up to which coordinates are stored as floats


@dataclass(frozen=True)
class Chunk:
    """Consecutive frames.

    Attributes
    ----------
    positions : ndarray, shape (n_frames, n_atoms, 3), nm
        As precise as the file has them.
    boxes : ndarray, shape (n_frames, 3) or (n_frames, 3, 3), nm
        Edges of orthorhombic boxes; where one is not, rows a, b, c, lower-triangular.
    time : ndarray, shape (n_frames,), ps
    start : int
        Frames of the trajectory before this chunk.
    frames : ndarray, shape (n_frames,), optional
        Numbers of the frames in the trajectory, where some are left out.
    """

    positions: np.ndarray
    boxes: np.ndarray
    time: np.ndarray
    start: int
    frames: np.ndarray = None

    def number(self, frame):
        """Number in the trajectory of a frame of this chunk."""
        return self.start + frame if self.frames is None else int(self.frames[frame])


class Selection:
    """Frames of a trajectory that are used: from a time to another, every so many.

    Parameters
    ----------
    start, end : float, optional
        ps, both included.
    stride : int
        Every which of the frames between them.
    """

    def __init__(self, start=None, end=None, stride=1):
        self.start, self.end, self.stride = start, end, stride

    @classmethod
    def of(cls, state):
        """As a state of a config says."""
        return cls(*(getattr(state, name, default) for name, default in
                     (("start", None), ("end", None), ("stride", 1))))  # fmt: skip

    @property
    def by_time(self):
        """Whether the times of frames matter."""
        return self.start is not None or self.end is not None

    @property
    def is_active(self):
        """Whether any frame may be left out."""
        return self.by_time or self.stride > 1

    def filter(self):
        """A function from the times of the next frames to those that are used, as a mask."""
        passed = 0

        def chosen(time):
            nonlocal passed
            slack = SAME_TIME * np.abs(time)
            inside = np.ones(len(time), bool)
            if self.start is not None:
                inside &= time >= self.start - slack
            if self.end is not None:
                inside &= time <= self.end + slack
            number = passed + np.cumsum(inside) - 1
            passed += int(inside.sum())
            return inside & (number % self.stride == 0)

        return chosen


def load_topology(path):
    """Topology of any file that mdtraj reads, with its bonds."""
    import mdtraj

    check_sum(path)
    try:
        return mdtraj.load_topology(str(path))
    except Exception as error:  # mdtraj's readers raise almost anything
        raise InputError(
            f"{path}: mdtraj cannot read it as a topology ({_one_line(error)}); give a file with "
            "atoms and residues, such as PDB, GRO or PRMTOP"
        ) from error


def read_frames(paths, topology, state, topology_name="the topology", chunk=None, selection=None):
    """Yield checked chunks of one trajectory in one or several files.

    Parameters
    ----------
    paths : list of path
    topology : mdtraj.Topology
    state : str
        Name of the state, for messages.
    chunk : int, optional
        Frames held in memory.
    selection : Selection, optional
        Frames that are used; default: all.

    Raises
    ------
    InputError
        Number of atoms, truncated or corrupt file, coordinates that are not numbers, no box, no
        frame.
    """
    selection, chunk = selection or Selection(), chunk or _frames_at_once(topology)
    start, n_used, chosen, times = 0, 0, selection.filter(), []
    for path in paths:
        _check_times(path, selection, state)
        for frames in _read_file(path, topology, state, topology_name, chunk):
            checked = _checked(frames, start, path, state, topology)
            start += len(checked.time)
            times += [checked.time[0], checked.time[-1]]
            if selection.is_active:
                checked = _taken(checked, chosen(checked.time))
            n_used += len(checked.time)
            if len(checked.time):
                yield checked
    if n_used == 0:
        raise InputError(
            f"{state}: has no frame between start and end, as its times go from {min(times):g} to "
            f"{max(times):g} ps; correct start and end"
        )


def _frames_at_once(topology):
    return max(1, min(CHUNK, CHUNK_ATOMS // topology.n_atoms))


def _taken(chunk, mask):
    if mask.all():
        frames = chunk.start + np.arange(len(mask))
        return Chunk(chunk.positions, chunk.boxes, chunk.time, chunk.start, frames)
    frames = chunk.start + np.flatnonzero(mask)
    return Chunk(chunk.positions[mask], chunk.boxes[mask], chunk.time[mask], chunk.start, frames)


def _check_times(path, selection, state):
    if selection.by_time and _suffix(str(path).lower().removesuffix(".gz")) in TIMELESS:
        raise InputError(
            f"{state}: has start or end, but {os.path.basename(path)} is of a format without "
            "times; leave them out, or convert the trajectory to XTC with its times"
        )


def _suffix(path):
    return str(path).lower().rpartition(".")[2]


def _read_file(path, topology, state, topology_name, chunk):
    """Raw chunks of one file; whatever its reader raises becomes an InputError."""
    n_atoms, n_expected = _inspect(path, state)
    if n_atoms is not None and n_atoms != topology.n_atoms:
        raise _other_atoms(path, n_atoms, topology, state, topology_name)
    n_read = 0
    try:
        for frames in open_frames(path, topology, chunk):
            if frames.xyz.shape[1] != topology.n_atoms:
                raise _other_atoms(path, frames.xyz.shape[1], topology, state, topology_name)
            n_read += len(frames.xyz)
            yield frames
    except InputError:
        raise
    except Exception as error:  # mdtraj's readers raise almost anything
        supplied = re.search(r"supplied\s+\(\d+, (\d+), 3\)", str(error))
        if supplied or "same atoms" in str(error):
            found = int(supplied[1]) if supplied else "another number of"
            raise _other_atoms(path, found, topology, state, topology_name) from error
        raise InputError(
            f"{state}: {path} cannot be read between frames {n_read} and {n_read + chunk - 1} "
            f"({_one_line(error)}); the file is truncated or corrupt: copy it again, or keep only "
            "the frames before"
        ) from error
    if n_read == 0:
        raise InputError(f"{state}: {path} has no frames; give a trajectory")
    if n_expected is not None and n_read < n_expected:
        raise InputError(
            f"{state}: {path} holds {n_expected} frames but only {n_read} can be read; the file is "
            "corrupt: copy it again, or cut it off before that frame"
        )


def has_forces(path):
    """Whether a trajectory holds forces that can be read: a TRR written with them."""
    if not str(path).lower().endswith(".trr"):
        return False
    from mdtraj.formats import TRRTrajectoryFile

    with plain_path(path) as plain, TRRTrajectoryFile(plain) as file:
        return file._check_has_velocities_forces()[1] > 0


def read_forces(paths, topology, state, chunk=None, selection=None):
    """Yield the forces of TRR files, shape (n_frames, n_atoms, 3), kJ/mol/nm.

    In the same chunks of frames as :func:`read_frames`, with the same ``chunk`` and ``selection``.
    """
    from mdtraj.formats import TRRTrajectoryFile

    chosen, chunk = (selection or Selection()).filter(), chunk or _frames_at_once(topology)
    for path in paths:
        with plain_path(path) as plain, TRRTrajectoryFile(plain) as file:
            while True:
                try:  # mdtraj has no public way to forces
                    read = file._read(chunk, None, get_velocities=False, get_forces=True)
                    time, forces = read[1], read[-1]
                except Exception as error:  # mdtraj's readers raise almost anything
                    raise InputError(
                        f"{state}: the forces of {path} cannot be read ({_one_line(error)}); write "
                        "forces with every frame (GROMACS: nstfout = nstxout)"
                    ) from error
                if forces is None or len(forces) == 0:
                    break
                forces = forces.astype(float)
                if not np.isfinite(forces).all():
                    raise InputError(
                        f"{state}: {path} has forces that are not numbers; the simulation failed "
                        "there: keep only the frames before, or run it again"
                    )
                kept = chosen(np.asarray(time, float))
                if kept.any():
                    yield forces[kept]


def _other_atoms(path, found, topology, state, topology_name):
    name = os.path.basename(str(topology_name))
    return InputError(
        f"{state}: {name} has {topology.n_atoms} atoms but {os.path.basename(path)} has {found}"
        f"{'' if isinstance(found, int) else ' atoms'}; give the topology that the trajectory was "
        "written with"
    )


def _inspect(path, state):
    """(n_atoms, n_frames) as the file itself says, or None where only its reader knows."""
    if not os.path.isfile(path):
        raise InputError(f"{state}: the trajectory {path} is missing; correct the path")
    if os.path.getsize(path) == 0:
        raise InputError(f"{state}: {path} is empty; copy it again")
    check_sum(path, state)
    suffix = _suffix(path)
    if suffix == "xtc":
        return walk_xtc(path, state)
    return None, _dcd_frames(path) if suffix == "dcd" else None


def _dcd_frames(path):
    """Frames that the header of a DCD file claims; its reader ends silently where it was cut."""
    with open(path, "rb") as stream:
        header = stream.read(12)
    if len(header) < 12 or header[4:8] != b"CORD":
        return None
    order = "<" if header[:4] == struct.pack("<i", 84) else ">"
    return struct.unpack(f"{order}i", header[8:])[0]


def walk_xtc(path, state):
    """Follow the headers of an XTC file from frame to frame: (n_atoms, n_frames).

    A reader may end silently where a file was cut off or overwritten; the headers tell.
    """
    at, n_frames, n_atoms = 0, 0, None
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as content:
        size = len(content)
        while at < size:
            header = _xtc_header(content, at, size)
            if header is None or header[0] > size:
                raise InputError(
                    f"{state}: {path} is truncated in frame {n_frames}, {size - at} bytes after "
                    "its start; copy it again, or keep only the frames before"
                )
            end, magic, atoms, box = header
            n_atoms = atoms if n_atoms is None else n_atoms
            if magic not in _XTC_MAGIC or atoms != n_atoms or atoms <= 0:
                raise InputError(
                    f"{state}: {path} is corrupt at frame {n_frames} (byte {at}), where no XTC "
                    "frame begins; copy it again, or keep only the frames before"
                )
            if box[1] or box[2] or box[5]:
                _check_turn(box, path, n_frames, state)
            at, n_frames = end, n_frames + 1
    return n_atoms, n_frames


def _check_turn(box, path, frame, state):
    """Box vectors must be lower-triangular but for rounding."""
    if max(abs(box[1]), abs(box[2]), abs(box[5])) > TURNED * max(map(abs, box)):
        raise InputError(
            f"{state}: {path} has box vectors {box} in frame {frame}, but the first must lie along "
            "x and the second in the plane of x and y; rotate the system so that they do (any "
            "program of GROMACS writes them so)"
        )


def _xtc_header(content, at, size):
    """(end, magic number, atoms, box) of the frame at byte ``at``; None if cut off."""
    if at + _XTC_HEADER.size > size:
        return None
    header = _XTC_HEADER.unpack_from(content, at)
    magic, atoms, box = header[0], header[1], header[4:13]
    after = at + _XTC_HEADER.size
    if magic not in _XTC_MAGIC or atoms <= 0:
        return at, magic, atoms, box
    if atoms <= _XTC_UNCOMPRESSED:
        return after + 12 * atoms, magic, atoms, box
    count = _XTC_COUNTS[magic]
    if after + _XTC_BOUNDS.size + count.size > size:
        return None
    precision, a, b, c, x, y, z, index = _XTC_BOUNDS.unpack_from(content, after)
    after += _XTC_BOUNDS.size
    (n_bytes,) = count.unpack_from(content, after)
    is_sound = 0.0 < precision < np.inf and index in _XTC_INDICES  # else a reader may crash
    is_sound = is_sound and a <= x and b <= y and c <= z
    if not (is_sound and 0 < n_bytes <= _XTC_LARGEST * atoms):
        return at, -1, atoms, box
    return after + count.size + (n_bytes + 3) // 4 * 4, magic, atoms, box


def _checked(frames, start, path, state, topology):
    """A chunk without nonsense, or an InputError that names the frame."""
    finite = np.isfinite(frames.xyz)
    if not finite.all():
        frame, atom, _ = np.argwhere(~finite)[0]
        raise InputError(
            f"{state}: {path} has coordinates that are not numbers in frame {start + frame}, atom "
            f"{atom} ({topology.atom(int(atom))}); the simulation failed there: keep only the "
            "frames before, or run it again"
        )
    boxes = _boxes(frames, start, path, state)
    return Chunk(frames.xyz, boxes, np.asarray(frames.time, float), start)


def _boxes(frames, start, path, state):
    """Edges (n_frames, 3), or where a box is skew rows a, b, c (n_frames, 3, 3)."""
    lengths, angles = frames.unitcell_lengths, frames.unitcell_angles
    usable = lengths is not None and np.isfinite(lengths).all(axis=1) & (lengths > 0).all(axis=1)
    if lengths is None or not usable.all():
        frame = start if lengths is None else start + int(np.argmin(usable))
        raise InputError(
            f"{state}: {path} has no box in frame {frame}; distances need a periodic box: write "
            "the trajectory with its box"
        )
    lengths = np.asarray(lengths, float)
    if not (np.abs(angles - 90.0) > RIGHT_ANGLE_TOLERANCE).any():
        return lengths
    vectors = lattice(lengths, np.asarray(angles, float))
    flat = ~(vectors[:, 2, 2] > 1e-3 * lengths[:, 2])
    if flat.any():
        frame = int(np.argmax(flat))
        found = ", ".join(f"{angle:.2f}" for angle in angles[frame])
        raise InputError(
            f"{state}: {path} has a box with angles {found} degrees in frame {start + frame}, "
            "which has no volume; the file is corrupt there, or was written wrongly"
        )
    return vectors


def lattice(lengths, angles):
    """Rows a = (a_x, 0, 0), b = (b_x, b_y, 0), c of boxes, shape (n, 3, 3).

    Parameters
    ----------
    lengths, angles : ndarray, shape (n, 3)
        nm; degrees between b and c, a and c, a and b. Nearly right angles are taken as right.
    """
    right = np.abs(angles - 90.0) <= RIGHT_ANGLE_TOLERANCE
    alpha, beta, gamma = np.where(right, 0.0, np.cos(np.radians(angles))).T
    sine = np.sqrt(1.0 - gamma**2)
    a, b, c = lengths.T
    result = np.zeros((len(lengths), 3, 3))
    result[:, 0, 0] = a
    result[:, 1, 0], result[:, 1, 1] = b * gamma, b * sine
    result[:, 2, 0], result[:, 2, 1] = c * beta, c * (alpha - beta * gamma) / sine
    square = c**2 - result[:, 2, 0] ** 2 - result[:, 2, 1] ** 2
    result[:, 2, 2] = np.sqrt(np.maximum(square, 0.0))
    return result


def read_log(path, state):
    """Columns of a CSV log by name, each of shape (n_lines,).

    The columns that have a meaning are ``time_ps``, ``potential_energy_kJ_mol``, ``volume_nm3`` and
    ``temperature_K``; each may be missing, others are passed over.
    """
    check_sum(path, state)
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{state}: the log {path} cannot be read ({_one_line(error)})") from error
    names = [name.strip().lstrip("#").strip() for name in rows[0]] if rows else []
    known = [name for name in names if name in LOG_COLUMNS]
    if not known or len(rows) < 2:
        raise InputError(
            f"{state}: the log {path} has the columns {names} and {max(0, len(rows) - 1)} lines; "
            f"give a CSV with a header and any of {', '.join(LOG_COLUMNS)}"
        )
    return {name: _column(rows[1:], names.index(name), name, path, state) for name in known}


def _column(rows, at, name, path, state):
    values = np.empty(len(rows))
    for i, row in enumerate(rows):
        try:
            values[i] = float(row[at])
        except (ValueError, IndexError):
            values[i] = np.nan
        if not np.isfinite(values[i]):
            raise InputError(
                f"{state}: the log {path} has no number for {name} in line {i + 2}; correct the "
                "line or leave the log out"
            )
    return values


def at_frames(log, time):
    """The columns of a log at the frames of its trajectory, or None where these are unknown.

    A log with as many lines as frames has them in the same order; the lines of a longer one are
    found by their time.

    Parameters
    ----------
    log : dict
        As from :func:`read_log`.
    time : ndarray, shape (n_frames,), ps
    """
    if len(next(iter(log.values()))) == len(time):
        return log
    if "time_ps" not in log:
        return None
    order = np.argsort(log["time_ps"], kind="stable")
    found = np.searchsorted(log["time_ps"][order], time - TIME_TOLERANCE)
    lines = order[np.minimum(found, len(order) - 1)]
    if (np.abs(log["time_ps"][lines] - time) > TIME_TOLERANCE).any():
        return None
    return {name: values[lines] for name, values in log.items()}


def while_sampled(log, time):
    """The columns of a log from one frame interval before the first frame to the last frame.

    It may begin earlier, when the run was not yet in equilibrium, and go on after the trajectory.

    Parameters
    ----------
    log : dict
        With a column ``time_ps``.
    time : ndarray, shape (n_frames,), ps
    """
    start, end = time[0] - (time[1] - time[0]), time[-1]
    lines = (log["time_ps"] > start + TIME_TOLERANCE) & (log["time_ps"] < end + TIME_TOLERANCE)
    return {name: values[lines] for name, values in log.items()}


def log_of_frames(log, mapped):
    """The lines of a log that belong to the frames of a mapped trajectory.

    ``mapped`` is its open file, which says in ``frame`` what frames of the trajectory were used; a
    log in which they are found by number or time (:func:`at_frames`) stays as it is.
    """
    if not log or "frame" not in mapped or at_frames(log, mapped["time"][()]) is not None:
        return log
    frames, lines = mapped["frame"][()], len(next(iter(log.values())))
    if lines == len(frames) or frames[-1] >= lines:
        return log
    return {name: column[frames] for name, column in log.items()}


def check_log(log, volumes, time, state):
    """Compare a log with the volumes of its trajectory, frame by frame.

    Returns
    -------
    list of str
        Warnings; volumes that differ raise an InputError, as the log is another run's.
    """
    matched = at_frames(log, time)
    if matched is None:
        n_lines = len(next(iter(log.values())))
        return [
            f"{state}: the log has {n_lines} lines but the trajectory has {len(volumes)} frames, "
            "and they cannot be matched by time, so the log is left out; write one line per frame, "
            f"or a column time_ps with the time of every frame (within {TIME_TOLERANCE:g} ps)"
        ]
    if "volume_nm3" in log:
        logged = matched["volume_nm3"]
        differ = np.abs(logged / volumes - 1.0) > VOLUME_TOLERANCE
        if differ.any():
            frame = int(np.argmax(differ))
            raise InputError(
                f"{state}: in frame {frame} the log says {logged[frame]:.5g} nm³ but "
                f"the box of the trajectory is {volumes[frame]:.5g} nm³; give the log of this "
                "trajectory, with a line for every frame, or leave it out"
            )
    return []


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__
