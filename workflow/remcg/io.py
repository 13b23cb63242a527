"""Files are written to a temporary name and renamed, so a reader never meets half a file.

HDF5 files and the JSON files of models carry a SHA-256 of their content, their seal; what was
truncated or changed since it was written is refused. Files without a seal, written by others or by
earlier versions, are read as they are.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from contextlib import contextmanager, suppress
from functools import lru_cache
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
TEMPORARY = ".tmp"  # end of the name of a file that is being written
SEAL = "sha256"  # key of a sealed JSON file
BLOCK = 512  # bytes before the HDF5 content, which HDF5 leaves to its user
MAGIC = b"remcg sha256 "
HDF5 = b"\x89HDF\r\n\x1a\n"


@contextmanager
def replacing(path):
    """Yield a temporary path beside ``path`` that takes its name when the block succeeds.

    The content reaches the disk before the name does, so that also after a crash of the machine
    the name stands for a whole file. A full or read-only disk is an :class:`InputError`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    with refusals_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def remove_unfinished(folder):
    """Remove the files below ``folder`` whose writer was killed; none may be writing there."""
    for path in Path(folder).rglob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


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
    """Write a text file aside and rename it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, content, sealed=False):
    """Write JSON; NaN and infinity are refused, numpy numbers and arrays are converted.

    With ``sealed``, the content (a dict) gets a key with its own hash, which :func:`read_json`
    checks and takes out.
    """
    content = _plain(content)
    if sealed:
        content = {**content, SEAL: _seal_of(content)}
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path):
    """Content of a JSON file; one that was cut off or changed in transit is an InputError."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: is not JSON ({error}); the file is truncated or damaged: copy it again, or "
            "delete it and run the campaign again"
        ) from error
    if isinstance(content, dict) and SEAL in content:
        said = content.pop(SEAL)
        if said != _seal_of(content):
            raise InputError(
                f"{path}: its content is not what its key {SEAL} says; the file was damaged or "
                "edited: copy it again, or, if you mean the change, delete that key"
            )
    return content


def _seal_of(content):
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(item):
    if isinstance(item, dict):
        return {str(key): _plain(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(value) for value in item]
    if isinstance(item, np.ndarray | np.generic):
        return item.tolist()
    return item


@contextmanager
def new_h5(path):
    """Yield a new HDF5 file that is sealed and takes the name ``path`` when the block succeeds."""
    with replacing(path) as temporary:
        with h5py.File(temporary, "w", userblock_size=BLOCK) as file:
            yield file
        with open(temporary, "r+b") as stream:
            stream.seek(BLOCK)
            seal = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            stream.write((MAGIC + seal.encode()).ljust(BLOCK, b"\n"))


@contextmanager
def open_h5(path):
    """An HDF5 file, or one member of it under ``<file>/<member>``, open for reading, seal checked.

    Raises
    ------
    InputError
        If it is missing, not HDF5, truncated or changed since it was written.
    """
    path = Path(path)
    is_member = path.parent.is_file()
    whole = path.parent if is_member else path
    if is_member:  # a file of many is asked for often
        about = os.stat(whole)
        _check_once(whole, about.st_ino, about.st_size, about.st_mtime_ns)
    else:
        check_h5(whole)
    try:
        with h5py.File(whole, "r") as file:
            if is_member and path.name not in file:
                raise InputError(f"{whole} has nothing of {path.name}; delete it and run again")
            yield file[path.name] if is_member else file
    except (OSError, RuntimeError) as error:
        raise _damaged(whole, error) from error


def check_h5(path):
    """Compare a sealed HDF5 file with its seal."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(BLOCK)
            if head[: len(HDF5)] == HDF5:  # no seal: of others, or of an earlier version
                return
            seal = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if head != (MAGIC + seal.encode()).ljust(BLOCK, b"\n"):
        raise _damaged(path, "its content is not what its seal says")


@lru_cache(maxsize=4096)
def _check_once(path, *_):
    check_h5(path)


def _damaged(path, error):
    return InputError(
        f"{path}: is not a whole HDF5 file ({' '.join(str(error).split())}); it is truncated or "
        "damaged: copy it again, or delete it and run the campaign again"
    )


def write_h5(path, arrays, attributes=None):
    """Write named arrays and scalar attributes to one HDF5 file."""
    with new_h5(path) as file:
        _fill(file, arrays, attributes)


def write_members(path, members):
    """Write several named pairs (arrays, attributes) to one HDF5 file, each in a group."""
    with new_h5(path) as file:
        for name, (arrays, attributes) in members.items():
            _fill(file.create_group(name), arrays, attributes)


def _fill(group, arrays, attributes):
    for name, array in arrays.items():
        group.create_dataset(name, data=array)
    for name, value in (attributes or {}).items():
        group.attrs[name] = value


def read_h5(path):
    """Read (arrays, attributes) of a file, or of a member of a file, that this module wrote."""
    with open_h5(path) as file:
        arrays = {name: dataset[()] for name, dataset in file.items()}
        return arrays, dict(file.attrs)


def member(path, name):
    """``<path>/<name>`` where the file has such a member, else the file itself."""
    with open_h5(path) as file:
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
        with open_h5(path) as file:
            found |= {name: Path(path, name) for name in file if isinstance(file[name], h5py.Group)}
    if not found:
        return list(paths)
    lacking = [name for name in names if name not in found]
    if lacking:
        raise InputError(
            f"{', '.join(map(str, paths))}: nothing of {lacking[0]}; delete them and run again"
        )
    return [found[name] for name in names]
