"""Files are written to a temporary name and renamed, so a reader never meets half a file.

HDF5 files and the JSON files of models carry a SHA-256 of their content, their seal; what was
truncated or changed since it was written is refused. Files without a seal, written by others or by
earlier versions, are read as they are.
"""

import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from remcg.errors import InputError

SEAL = "sha256"  # key of a sealed JSON file
BLOCK = 512  # bytes before the HDF5 content, which HDF5 leaves to its user
MAGIC = b"remcg sha256 "
HDF5 = b"\x89HDF\r\n\x1a\n"


@contextmanager
def replacing(path):
    """Yield a temporary path beside ``path`` that takes its name when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
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
    """Yield an HDF5 file for reading, after its seal was checked.

    Raises
    ------
    InputError
        If it is missing, not HDF5, truncated or changed since it was written.
    """
    check_h5(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise _damaged(path, error) from error


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


def _damaged(path, error):
    return InputError(
        f"{path}: is not a whole HDF5 file ({' '.join(str(error).split())}); it is truncated or "
        "damaged: copy it again, or delete it and run the campaign again"
    )


def write_h5(path, arrays, attributes=None):
    """Write named arrays and scalar attributes to one HDF5 file."""
    with new_h5(path) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        for name, value in (attributes or {}).items():
            file.attrs[name] = value


def read_h5(path):
    """Read (arrays, attributes) of an HDF5 file written by :func:`write_h5`."""
    with open_h5(path) as file:
        arrays = {name: dataset[()] for name, dataset in file.items()}
        return arrays, dict(file.attrs)
