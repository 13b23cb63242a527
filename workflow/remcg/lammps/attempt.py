"""Which segment LAMMPS is at, on disk, so that a later process knows what did not get through."""

import re
import time
from contextlib import contextmanager
from pathlib import Path

from remcg.checkpoint import Every
from remcg.errors import InputError, SamplingError
from remcg.io import read_json, write_json

TRIES = 2  # of a segment, before shorter ones are tried
PATIENCE = 60.0  # s: what ended sooner was no try
HEARTBEAT = 5.0  # s
_THERMO = re.compile(r"^ *(\d+)(?: +\S+){4} *$", re.M)


class Attempt:
    """The segment that is being run, in the file ``path`` until it is done."""

    def __init__(self, path):
        self.path = Path(path)
        self._record, self._begin, self._beat, self._counts = None, 0.0, None, False

    @contextmanager
    def at(self, step, n_steps):
        """Remember a segment for as long as the block takes, and beyond if it is stopped or killed.

        An error is no matter of time, and forgotten.
        """
        last = self._last(step)
        again = last["tries"] if last and last["n_steps"] == n_steps else 0
        self._record = {"step": step, "n_steps": n_steps, "tries": again, "seconds": 0.0}
        self._begin, self._beat, self._counts = time.monotonic(), Every(HEARTBEAT), False
        self._write()
        try:
            yield
        except (InputError, SamplingError):
            self.path.unlink(missing_ok=True)
            raise
        self.path.unlink(missing_ok=True)

    def go_on(self, is_stopped=False):
        """Note the time that the segment takes, now and then."""
        if not (is_stopped or self._beat.is_due()):
            return
        seconds = time.monotonic() - self._begin
        if seconds >= PATIENCE and not self._counts:
            self._record["tries"], self._counts = self._record["tries"] + 1, True
        self._record["seconds"] = seconds
        self._write()

    def shorter(self, step, first, log):
        """Steps of a segment that will get through, or None where the last one may be tried again.

        Half of the steps that LAMMPS reached, or a tenth of what it was to do.

        Parameters
        ----------
        step : int
            At which the segment begins.
        first : int
            LAMMPS' number of this step.
        log : path
            What LAMMPS said.
        """
        last = self._last(step)
        if not last or last["tries"] < TRIES:
            return None
        reached = _last_step(log) - first
        guess = reached // 2 if reached > 0 else last["n_steps"] // 10
        return max(1, min(guess, last["n_steps"] // 2))

    def _last(self, step):
        record = read_json(self.path) if self.path.is_file() else None
        return record if record and record["step"] == step else None

    def _write(self):
        write_json(self.path, self._record)


def _last_step(log):
    """Step of the last line of thermodynamic output, or 0."""
    text = Path(log).read_text(errors="replace") if Path(log).is_file() else ""
    lines = _THERMO.findall(text)
    return int(lines[-1]) if lines else 0
