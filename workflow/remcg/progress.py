"""What Snakemake says, read line by line and told in one line per finished job."""

import os
import re
import time
from dataclasses import dataclass, field
from typing import NamedTuple

HEADER = re.compile(r"^(?:local)?(?:rule|checkpoint) (\S+):$")
FAILURE = re.compile(r"^Error in (?:rule|checkpoint) (\S+):$")
FINISHED = re.compile(r"^Finished jobid: (\d+)(?: \(Rule: (\S+)\))?")
STEPS = re.compile(r"^(\d+) of (\d+) steps")
ENTRY = re.compile(r"^ {4}(jobid|log|wildcards): (.*)$")
ACCOUNT = "busy_core_seconds"  # the last line of a log, for the machine
SAMPLED = re.compile(r"^(state .+?|all replicas): step (\d+) of (\d+)(?:.*?, (\d+) steps/s)?", re.M)
PLACE = re.compile(r"^\S+: \w+, rank \d+ of (\d+), (\d+) replicas", re.M)
SAMPLER = re.compile(r"(?:^|_)(?:sample|predict)")  # also with the prefix of a module
EXCHANGING = "all replicas"  # which then run together
TAIL = 1_000_000  # bytes of a log, at either end, that are read for its progress
HINT = " (check log file(s) for error details)"


@dataclass
class Job:
    """One job of the workflow, as far as Snakemake has described it."""

    rule: str
    id: str = ""
    log: str = ""
    label: str = ""
    started: float = field(default_factory=time.monotonic)

    def describe(self, key, value):
        """Take one entry of Snakemake's description."""
        if key == "jobid":
            self.id = value.strip()
        elif key == "log":
            self.log = value.removesuffix(HINT).split(", ")[0]
        else:
            self.label = _label(value)

    @property
    def name(self):
        """Rule, iteration and state."""
        return f"{self.rule} {self.label}".strip()


class Progress:
    """Follow the output of Snakemake; lines that say nothing of a job are passed over.

    Attributes
    ----------
    running : dict
        Jobs that have started and not finished, by id.
    failures : list of Job
        Jobs that failed, each once.
    n_finished : int
        Jobs that have run, the target rule ``all`` not counted.
    """

    def __init__(self, clock=time.monotonic):
        self.running = {}
        self.failures = []
        self.n_finished = 0
        self._clock = clock
        self._described = None
        self._waiting = []

    def feed(self, line):
        """Take one line; return the lines to show for it."""
        line = line.rstrip("\n")
        if match := HEADER.match(line):
            self._described = Job(match[1], started=self._clock())
        elif match := FAILURE.match(line):
            self._described = Job(match[1])
            self.failures.append(self._described)
        elif (match := ENTRY.match(line)) and self._described:
            self._describe(*match.groups())
        elif match := FINISHED.match(line):
            self._finish(match[1], match[2] or "job")
        elif match := STEPS.match(line):
            return self._show(*match.groups())
        return []

    def _describe(self, key, value):
        job = self._described
        job.describe(key, value)
        if key != "jobid":
            return
        if not any(job is failure for failure in self.failures):
            self.running[job.id] = job
            return
        started = self.running.pop(job.id, None)
        job.label = started.label if started else job.label
        if any(job.id == failure.id for failure in self.failures if failure is not job):
            self.failures.remove(job)
            self._described = None

    def _finish(self, identity, rule):
        job = self.running.pop(identity, None) or Job(rule, started=self._clock())
        if job.rule != "all":
            self.n_finished += 1
            self._waiting.append((job, self._clock() - job.started))

    def _show(self, done, total):
        width = len(total)
        lines = [
            f"[{done:>{width}}/{total}] {job.rule:<9} {job.label:<16} {seconds:6.0f} s"
            for job, seconds in self._waiting
        ]
        self._waiting.clear()
        return lines

    def jobs(self):
        """Each running job, the seconds since its start, and how far it has sampled or None."""
        now = self._clock()
        return [(job, now - job.started, sampling(job)) for job in self.running.values()]

    def status(self):
        """The running jobs in one line, for a file."""
        jobs = [
            f"{job.name} ({', '.join([spoken(seconds), *(found.told() if found else [])])})"
            for job, seconds, found in self.jobs()
        ]
        return "running: " + ", ".join(jobs) if jobs else ""


class Sampling(NamedTuple):
    """How far a sampler has come: steps of all its replicas, and steps per second."""

    done: int
    total: int
    rate: float

    def told(self):
        """As texts: ["43 %", "12000 steps/s", "35 s left"]."""
        share = [f"{100 * self.done // self.total} %"]
        if not self.rate or self.done >= self.total:
            return share
        left = spoken((self.total - self.done) / self.rate)
        return [*share, f"{self.rate} steps/s", f"{left} left"]


def spoken(seconds):
    """A duration for people: 42 s, 12:30 (minutes), 3:05 h."""
    seconds = max(round(seconds), 0)
    if seconds < 100:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"


def sampling(job):
    """The :class:`Sampling` of a job, from its log; None if it does not sample, or not yet."""
    return sampled(_ends(job.log)) if SAMPLER.search(job.rule) and job.log else None


def sampled(text):
    """The same from the text of a log.

    Each rank runs its replicas one after the other; the rates of those that run are added.
    """
    steps, rates = {}, {}
    for label, step, total, rate in SAMPLED.findall(text):
        steps[label] = int(step), int(total)
        rates[label] = int(rate or 0)
    if not steps:
        return None
    if EXCHANGING in steps:
        return Sampling(*steps[EXCHANGING], rates[EXCHANGING])
    places = set(PLACE.findall(text))
    n_ranks = max((int(ranks) for ranks, _ in places), default=1)
    states = {line.split(":")[0] for line in re.findall(r"^\S+: \w+, rank.*$", text, re.M)}
    n_replicas = max((int(n) for _, n in places), default=1) * max(len(states), 1)
    n_all = max(n_replicas, len(steps)) * max(total for _, total in steps.values())
    n_done = sum(step for step, _ in steps.values())
    live = [rates[label] for label, (step, total) in steps.items() if step < total]
    rate = sum(live or list(rates.values())[-n_ranks:])
    return Sampling(n_done, n_all, rate)


def _ends(path):
    """Beginning and end of a log, which may be written to or not exist yet."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(TAIL)
            file.seek(max(size - TAIL, len(head)))
            return (head + file.read()).decode(errors="replace")
    except OSError:
        return ""


def _label(wildcards):
    """``campaign=x, iteration=003, state=T310`` becomes ``iter-003 T310``."""
    pairs = dict(item.split("=", 1) for item in wildcards.split(", ") if "=" in item)
    pairs.pop("campaign", None)
    iteration = pairs.pop("iteration", None)
    return " ".join(([f"iter-{iteration}"] if iteration else []) + list(pairs.values()))


def last_words(text, n_lines=12):
    """The end of a log; of a Python traceback only the message."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(ACCOUNT)]
    starts = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call")]
    if starts:
        message = [line for line in lines[starts[-1] + 1 :] if not line.startswith(" ")]
        lines = message or lines
    return "\n".join(lines[-n_lines:])
