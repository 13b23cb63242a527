"""What a person sees of a run: rich draws it on a terminal, and a file gets plain lines.

Names and labels are data: nothing in them is read as rich's markup.
"""

import csv
import sys
import time
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from remcg.progress import spoken

STYLES = {"pass": "blue", "within noise": "yellow", "fails": "bold red"}
BARS = {"bar.complete": "cyan", "bar.finished": "cyan"}  # rich's own are red, as what fails
MARKS = {"pass": "✓", "within noise": "≈", "fails": "✗"}
SPOKEN = {"pass": "pass", "within noise": "within noise", "fails": "fail"}
MOST_SHOWN = 12  # checks that do not hold
UNBOUNDED = 10_000  # columns of a file: whoever reads it breaks the lines
QUIET = 60.0  # seconds between lines about running jobs where there is no terminal
LIVELY = 0.5  # seconds between two pictures of the running jobs where there is one
BAR, LEAST_FOR_BAR = 20, 70  # columns: of a bar, and of a terminal that has room for it


def console_for(stream):
    """A console on a stream: styled and as wide as the terminal, or plain and unbounded.

    References
    ----------
    NO_COLOR (no-color.org): a variable of this name that is not empty asks for no colours.
    """
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")  # an encoding may lack ✓ or χ
    return Console(
        file=stream,
        width=None if stream.isatty() else UNBOUNDED,
        force_terminal=stream.isatty(),
        theme=Theme(STYLES | BARS),
        markup=False,
        emoji=False,
        highlight=False,
    )


class Display:
    """Lines on standard output, and the running jobs.

    On a terminal these stand below the lines and are renewed as often as :meth:`status` is called,
    twice a second at most; in a file they are told in a line of their own, at most once a minute.
    As a context it takes them away at its end.
    """

    def __init__(self, stream=None, clock=time.monotonic):
        self.console = console_for(stream or sys.stdout)
        self._clock, self._last = clock, clock()
        self._live, self._drawn = None, clock() - LIVELY

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._live:
            self._live.stop()
            self._live = None

    def say(self, line="", style=None):
        """Print a text above the running jobs, never broken into other lines than its own."""
        self._last = self._clock()
        self.console.print(Text(line, style=style or ""), soft_wrap=True)
        self.console.file.flush()

    def show(self, header, rows):
        """Print a table, see :func:`laid_out`."""
        self.console.print(laid_out(header, rows, self.console))

    def status(self, progress):
        """Show the running jobs of a :class:`remcg.progress.Progress`."""
        now = self._clock()
        if self.console.is_interactive:
            if now - self._drawn < LIVELY:
                return
            self._drawn = now
            if self._live is None:
                self._live = Live(console=self.console, auto_refresh=False, transient=True,
                                  redirect_stdout=False, redirect_stderr=False)  # fmt: skip
                self._live.start()
            self._live.update(running(progress.jobs(), self.console.width), refresh=True)
        elif now - self._last >= QUIET and progress.running:
            self.say(progress.status())


def running(jobs, width):
    """Running jobs, one per line: a bar for those that sample, the name, and how far it is.

    Parameters
    ----------
    jobs : list of (remcg.progress.Job, float, remcg.progress.Sampling or None)
        With the seconds since their start.
    width : int
        Columns of the terminal.
    """
    grid = Table.grid(padding=(0, 2))
    has_bar = width >= LEAST_FOR_BAR and any(sampling for *_, sampling in jobs)
    for _ in range(2 + has_bar):
        grid.add_column(no_wrap=True, overflow="ellipsis")
    for job, seconds, sampling in jobs:
        bar = ProgressBar(sampling.total, sampling.done, width=BAR) if sampling else ""
        told = ", ".join([*(sampling.told() if sampling else []), spoken(seconds)])
        grid.add_row(*[bar] * has_bar, Text(job.name), Text(told, style="dim"))
    return grid


def laid_out(header, rows, console):
    """A table, or where the console is too narrow for it a block of lines for each row.

    Parameters
    ----------
    header : list of str
    rows : list of list of (str or rich.text.Text)
        The first cell names the row.
    console : rich.console.Console
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for label in header:
        table.add_column(Text(label), no_wrap=True)
    for row in rows:
        table.add_row(*row)
    unbounded = console.options.update(max_width=UNBOUNDED)
    if console.measure(table, options=unbounded).maximum <= console.width:
        return table
    return Group(*(_block(header, row) for row in rows))


def _block(header, row):
    grid = Table.grid(padding=(0, 2))
    for label, cell in zip(header[1:], row[1:]):
        grid.add_row(Text(f"  {label}"), cell)
    return Group(Text.assemble(header[0], " ", (str(row[0]), "bold")), grid)


def show_campaign(display, summary, checks, paths):
    """The end of a run: the table of states, what became of the optimisation, checks and files.

    Parameters
    ----------
    display : Display
    summary : dict
        Content of ``summary.json``.
    checks : path
        As :func:`remcg.report.write_verdict` writes them.
    paths : dict
        What is where.
    """
    from remcg.report import closing, table

    rows = _read(checks) if Path(checks).exists() else []
    header, cells = table(summary)
    if rows:
        header = [*header, "verdict"]
        cells = [[*row, _verdict(row[0], rows)] for row in cells]
    display.say()
    display.show(header, cells)
    display.say()
    for line in closing(summary):
        display.say(line)
    for name, path in paths.items():
        display.say(f"{name + ':':<12}{path}")
    if rows:
        display.say()
        _show_checks(display, rows, checks)


def _verdict(state, rows):
    """The worst that the checks of a state say."""
    found = [row["status"] for row in rows if row["subject"] == state]
    if not found:
        return Text("-")
    worst = max(found, key=list(MARKS).index)
    return Text(f"{MARKS[worst]} {worst}", style=worst)


def _show_checks(display, rows, path):
    """How many checks hold, and which do not."""
    counts = {status: sum(row["status"] == status for row in rows) for status in MARKS}
    told = [
        (f"{MARKS[status]} {number} {SPOKEN[status]}", status)
        for status, number in counts.items()
        if number or status == "pass"
    ]
    parts = [part for item in told for part in (item, ", ")]
    display.console.print(Text.assemble("checks: ", *parts[:-1]), soft_wrap=True)
    failing = _failing(rows)
    for each in failing[:MOST_SHOWN]:
        display.say(f"  ✗ {each}", "fails")
    if len(failing) > MOST_SHOWN:
        display.say(f"  and {len(failing) - MOST_SHOWN} more in {path}")


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
