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
        room = _room(path) if number == errno.ENOSPC else ""
        raise InputError(
            f"{path} cannot be written: {found}{room}. {remedy} and run the same command"
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
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path, content):
    """Write JSON; NaN and infinity are refused, numpy numbers and arrays are converted."""
    write_text(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def read_json(path):
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
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        for name, value in (attributes or {}).items():
            file.attrs[name] = value


def read_h5(path):
    """Read (arrays, attributes) of an HDF5 file written by :func:`write_h5`."""
    with h5py.File(path, "r") as file:
        arrays = {name: dataset[()] for name, dataset in file.items()}
        return arrays, dict(file.attrs)
