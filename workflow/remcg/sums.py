"""Checksums beside files whose format has none: ``T300.xtc.sha256``, as ``sha256sum`` writes it."""

from pathlib import Path

from remcg.errors import InputError
from remcg.io import write_text
from remcg.provenance import file_hash


def sum_path(path):
    """Where the checksum of a file lies."""
    path = Path(path)
    return path.with_name(f"{path.name}.sha256")


def write_sum(path):
    """Write the checksum of a file beside it; ``sha256sum -c`` understands it."""
    write_text(sum_path(path), f"{file_hash(path)}  {Path(path).name}\n")


def check_sum(path, state=""):
    """Refuse a file that is not what the checksum beside it says; without one, it is not checked.

    Trajectory formats such as XTC and DCD have no checksums of their own: a flipped bit among the
    coordinates can be recognised in no other way.
    """
    beside = sum_path(path)
    if not beside.is_file():
        return
    words = beside.read_text(encoding="utf-8", errors="replace").split()
    if not words or file_hash(path) != words[0].lower():
        where = f"{state}: " if state else ""
        raise InputError(
            f"{where}{path} is not the file that {beside.name} was written for; copy it again, or, "
            f"if you mean the change, delete {beside.name}"
        )
