"""What a person sees of a run: colours where there is a terminal, verdicts in a few lines."""

import csv
import os
import re
from pathlib import Path

STYLES = {"bold": "1", "dim": "2", "pass": "34", "within noise": "33", "fails": "1;31"}
MARKS = {"pass": "✓", "within noise": "≈", "fails": "✗"}
SPOKEN = {"pass": "pass", "within noise": "within noise", "fails": "fail"}
MOST_SHOWN = 12  # checks that do not hold
ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def has_colour(stream, variables=os.environ):
    """Whether a stream is a terminal that may be coloured.

    References
    ----------
    NO_COLOR (no-color.org): a variable of this name that is not empty asks for none.
    """
    if variables.get("NO_COLOR") or variables.get("TERM") == "dumb":
        return False
    return stream.isatty()


def paint(text, style, colour=True):
    """Text in a style of ``STYLES``, or as it is without colour."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if colour else text


def cut(line, width):
    """The first ``width`` columns of a line without escape sequences."""
    line = ESCAPE.sub("", line).replace("\n", " ")
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def clock(seconds):
    """A duration for people: 42 s, 12:30 (minutes), 3:05 h."""
    seconds = max(round(seconds), 0)
    if seconds < 100:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"


def verdict_lines(path, colour=False):
    """How many checks of a ``verdict.tsv`` hold, and which do not.

    Parameters
    ----------
    path : path
        As :func:`remcg.report.write_verdict` writes it.
    colour : bool

    Returns
    -------
    list of str
        Empty if there is no such file.
    """
    if not Path(path).exists():
        return []
    rows = _read(path)
    counts = {status: sum(row["status"] == status for row in rows) for status in MARKS}
    spoken = [
        paint(f"{MARKS[status]} {number} {SPOKEN[status]}", status, colour)
        for status, number in counts.items()
        if number or status == "pass"
    ]
    failing = _failing(rows)
    lines = [f"checks: {', '.join(spoken)}"]
    lines += [paint(f"  ✗ {each}", "fails", colour) for each in failing[:MOST_SHOWN]]
    if len(failing) > MOST_SHOWN:
        lines.append(f"  and {len(failing) - MOST_SHOWN} more in {path}")
    return lines


def failing_lines(path):
    """One line for each check of a ``verdict.tsv`` that fails."""
    return _failing(_read(path))


def _read(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def _failing(rows):
    return [_told(row) for row in rows if row["status"] == "fails"]


def _told(row):
    from remcg.report import plus_minus

    unit = f" {row['unit']}" if row["unit"] else ""
    value = plus_minus(float(row["value"]), float(row["se"] or 0.0))
    return f"{row['subject']}: {row['quantity']} {value}{unit}, limit {row['limit']}{unit}"
