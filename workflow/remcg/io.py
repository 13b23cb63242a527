"""Files are written to a temporary name and renamed, so a reader never meets half a file."""

import json
import os
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np


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
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        for name, value in (attributes or {}).items():
            file.attrs[name] = value


def read_h5(path):
    """Read (arrays, attributes) of an HDF5 file written by :func:`write_h5`."""
    with h5py.File(path, "r") as file:
        arrays = {name: dataset[()] for name, dataset in file.items()}
        return arrays, dict(file.attrs)
