"""A SLURM of one node for tests, started and ended through ``tests/slurm/single_node.sh``."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from remcg.basis import SplineBasis
from remcg.model import Model, PairTerm, VolumeTerm
from remcg.sample import main
from test_parallel import command, write_campaign

SCRIPT = Path(__file__).with_name("slurm") / "single_node.sh"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun")
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
CPUS = 2


def reason_to_skip():
    """Why this machine cannot have a SLURM, or None."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [name for name in PROGRAMS if not shutil.which(name, path=path)]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurm-wlm munge"
    if os.getuid() != 0:
        return "SLURM's configuration can only be put into /etc/slurm by root"
    return None


def ask(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


class Node:
    """The daemons, and the jobs of a test."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def daemon(self, what):
        # files, not pipes: the daemons would hold a pipe open
        with open(self.folder / "start.log", "w+") as log:
            command = ["bash", str(SCRIPT), what, str(self.folder), str(CPUS)]
            code = subprocess.run(command, stdout=log, stderr=log, timeout=120).returncode
            log.seek(0)
            return code, log.read()

    def submit(self, command, log, **options):
        """Submit ``srun`` of a command with two tasks; the id of the job."""
        options = {"ntasks": 2, "time": 30, "output": log, "open-mode": "append", **options}
        flags = [f"--{key}={value}" for key, value in options.items()]
        words = " ".join(map(str, ["srun", "--mpi=pmi2", "--kill-on-bad-exit", *command]))
        return ask("sbatch", "--parsable", "--requeue", *flags, "--wrap", f"exec {words}")

    def state(self, job):
        told = ask("scontrol", "--oneliner", "show", "job", job)
        return next(w.split("=")[1] for w in told.split() if w.startswith("JobState="))

    def restarts(self, job):
        told = ask("scontrol", "--oneliner", "show", "job", job)
        return int(next(w.split("=")[1] for w in told.split() if w.startswith("Restarts=")))

    def wait(self, job, *states, seconds=300):
        states = states or OVER
        deadline = time.monotonic() + seconds
        while (state := self.state(job)) not in states:
            assert time.monotonic() < deadline, f"job {job} is {state}, not one of {states}"
            time.sleep(0.2)
        return state

    def pid(self, name):
        return int((self.folder / f"{name}.pid").read_text())


class Sampler:
    """A small run of the sampler, with the file that it writes where nothing disturbs it."""

    def __init__(self, folder, steps, *kind):
        terms = (PairTerm(("W", "W"), SplineBasis(0.2, 0.6, 12), 1), VolumeTerm(2, 1))
        theta = 20.0 * np.exp(-np.arange(12) / 2.0)
        model = Model(("W",), terms, 300.0, 0.05, (theta[None], np.array([[4.0, 0.5]])))
        write_campaign(folder, model, steps=steps, replicas=2)
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace("steps: 500", f"steps: {steps}"))
        self.folder, self._kind = folder, kind
        assert main(self._arguments("whole.h5")) == 0
        self.whole = (folder / "whole.h5").read_bytes()

    def _arguments(self, output):
        arguments = command(self.folder, "T300", output, *self._kind)
        if "--predict" in self._kind:
            at = arguments.index("--iteration")
            del arguments[at : at + 2]
        return arguments

    def program(self, output):
        return [sys.executable, "-m", "remcg.sample", *self._arguments(output)]


def wait_for(claim, seconds=300):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def processes(*words):
    """Living processes whose command line holds all words."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and all(word in line for word in words):
                found.append(process)
    return found


def of_job(job):
    """All processes that a job has started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SLURM_JOB_ID") == job:
                found.append(process)
    return found


def ranks(job):
    """The samplers of a job."""
    found = []
    for process in of_job(job):
        with contextlib.suppress(psutil.Error):
            is_sampler = "remcg.sample" in process.cmdline()[:4]
            if is_sampler and "SLURM_PROCID" in process.environ():
                found.append(process)
    return found


@pytest.fixture(scope="module")
def node():
    if reason := reason_to_skip():
        pytest.skip(reason)
    folder = tempfile.mkdtemp(prefix="slurm-")  # short: sockets have short paths
    started = Node(folder)
    code, said = started.daemon("start")
    if code:
        started.daemon("stop")
        pytest.skip(f"SLURM does not start here: {said.strip()}")
    yield started
    started.daemon("stop")
    shutil.rmtree(folder, ignore_errors=True)
