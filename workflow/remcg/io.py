"""Files are written to a temporary name and renamed, so a reader never meets half a file."""

import errno
import json
import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

from remcg.errors import InputError

REFUSALS = {
    errno.ENOSPC: ("the disk is full", "Free some space"),
    errno.EDQUOT: ("the quota is used up", "Free some space"),
    errno.EROFS: ("the file system is read-only", "Have it mounted for writing"),
    errno.EACCES: ("writing there is not permitted", "Change the permissions"),
    errno.EPERM: ("writing there is not permitted", "Change the permissions"),
}


@contextmanager
def replacing(path):
    """Yield a temporary path beside ``path`` that takes its name when the block succeeds.

    The content reaches the disk before the name does, so that also after a crash of the machine
    the name stands for a whole file. A full or read-only disk is an :class:`InputError`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with refusals_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def refusals_explained(path):
    """Raise an :class:`InputError` where the disk of ``path`` does not take what is written."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = _errno(error)
        if number not in REFUSALS or not _concerns(error, Path(path)):
            raise
        found, remedy = REFUSALS[number]
        raise InputError(
            f"{path} cannot be written: {found}{_room(path)}. {remedy} and run the same command"
            " again: what was finished is kept, and the campaign goes on from there."
        ) from error


def _concerns(error, path):
    """Whether an error is about a path, its folders or its neighbours, as far as it says."""
    named = getattr(error, "filename", None)
    return not named or Path(named) in path.parents or Path(named).parent == path.parent


def _errno(error):
    """Number of a system error; HDF5 tells it in words only."""
    told = re.search(r"errno = (\d+)", str(error))
    return int(told[1]) if told else getattr(error, "errno", None)


def _room(path):
    """What is left on the disk of a path, as part of a sentence."""
    folder = next((p for p in Path(path).absolute().parents if p.is_dir()), Path("/"))
    try:
        return f" ({shutil.disk_usage(folder).free / 1e6:.1f} MB free)"
    except OSError:
        return ""


def _sync(path):
    if not path.is_file():
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path, text):
    """Write a text file aside and rename it."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path, content):
    """Write JSON; NaN and infinity are refused, numpy numbers and arrays are converted."""
    write_text(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def read_json(path):
    """Content of a JSON file."""
    return json.loads(Path(path).read_text())


def _plain(item):
    if isinstance(item, dict):
        return {str(key): _plain(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(value) for value in item]
    if isinstance(item, np.ndarray | np.generic):
        return item.tolist()
    return item


def write_h5(path, arrays, attributes=None):
    """Write named arrays and scalar attributes to one HDF5 file."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        _fill(file, arrays, attributes)


def write_members(path, members):
    """Write several named pairs (arrays, attributes) to one HDF5 file, each in a group."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for name, (arrays, attributes) in members.items():
            _fill(file.create_group(name), arrays, attributes)


def _fill(group, arrays, attributes):
    for name, array in arrays.items():
        group.create_dataset(name, data=array)
    for name, value in (attributes or {}).items():
        group.attrs[name] = value


@contextmanager
def opened_h5(path):
    """An HDF5 file, or one member of it under ``<file>/<member>``, open for reading."""
    path = Path(path)
    is_member = path.parent.is_file()
    with h5py.File(path.parent if is_member else path, "r") as file:
        if is_member and path.name not in file:
            raise InputError(f"{path.parent} has nothing of {path.name}; delete it and run again")
        yield file[path.name] if is_member else file


def read_h5(path):
    """Read (arrays, attributes) of a file, or of a member of a file, that this module wrote."""
    with opened_h5(path) as file:
        arrays = {name: dataset[()] for name, dataset in file.items()}
        return arrays, dict(file.attrs)


def member(path, name):
    """``<path>/<name>`` where the file has such a member, else the file itself."""
    with h5py.File(path, "r") as file:
        return Path(path, name) if isinstance(file.get(name), h5py.Group) else Path(path)


def members(paths, names):
    """For each name the file, or the member of a file, that is its own.

    Parameters
    ----------
    paths : sequence of path
        One file for each name in this order, or files with members of these names.
    names : sequence of str
    """
    found = {}
    for path in paths:
        with h5py.File(path, "r") as file:
            found |= {name: Path(path, name) for name in file if isinstance(file[name], h5py.Group)}
    if not found:
        return list(paths)
    lacking = [name for name in names if name not in found]
    if lacking:
        raise InputError(
            f"{', '.join(map(str, paths))}: nothing of {lacking[0]}; delete them and run again"
        )
    return [found[name] for name in names]
