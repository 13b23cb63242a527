"""Speeds: of one measurement, and of several programs in turn."""

import os
import time
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

SINGLE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
}


class Timing(NamedTuple):
    """Steps, and the CPU and wall seconds they took."""

    steps: int
    cpu: float
    wall: float

    @property
    def rate(self):
        """Steps per CPU second: what other processes take from the core does not count."""
        return self.steps / self.cpu


class Pace(NamedTuple):
    """How long a benchmark takes: seconds and least steps per measurement, repeats, skins tried."""

    seconds: float
    tune_seconds: float
    least_steps: int
    rounds: int
    skins: tuple  # nm


FULL = Pace(1.2, 0.4, 60, 5, (0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25))
QUICK = Pace(0.05, 0.05, 20, 1, (0.08,))


class Stopwatch:
    """CPU and wall seconds of this process since the start."""

    def __init__(self):
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    @property
    def cpu(self):
        return time.process_time() - self._cpu

    def timing(self, steps):
        return Timing(steps, self.cpu, time.perf_counter() - self._wall)


def in_turn(measures, rounds):
    """Call all ``measures`` (name: function) in turn, ``rounds`` times; timings by name."""
    timings = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            timings[name].append(measure())
    return timings


def middle(timings):
    """Median rate, steps/s."""
    return median(timing.rate for timing in timings)


def cpu_use(timings):
    """CPU seconds per wall second: below 1 where other processes took the core."""
    return sum(timing.cpu for timing in timings) / sum(timing.wall for timing in timings)


@contextmanager
def pinned(cores):
    """This process and those it starts run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
