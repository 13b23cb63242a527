"""What a restart must know of SLURM: which jobs in the queue an earlier run left, and their end."""

import getpass
import hashlib
import re
import subprocess
import time

from remcg.errors import InputError

GRACE = 20.0  # s for samplers to save themselves
PATIENCE = 90.0  # s for cancelled jobs to leave their nodes
LONGEST = 50  # characters that the plugin allows in a prefix


def mark(run, campaign):
    """Beginning of the names of a campaign's jobs: its own name, and a hash of its place."""
    place = hashlib.sha256(run.encode()).hexdigest()[:10]
    name = re.sub(r"[^A-Za-z0-9_-]", "-", campaign)[: LONGEST - len(place) - 7]
    return f"remcg-{name}-{place}"


def jobs(mark):
    """Ids of this user's waiting and running jobs whose names begin with ``mark``."""
    told = _call("squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i %j")
    named = [line.strip().partition(" ") for line in told.splitlines()]
    return [number for number, _, name in named if name.strip().startswith(mark)]


def cancel(mark, patience=PATIENCE):
    """Cancel the jobs whose names begin with ``mark`` and wait for their end; how many there were.

    They are asked first, and only the ranks: a sampler saves itself on SIGTERM, but ``srun``, which
    scancel signals as well, would kill it at once.
    """
    found = jobs(mark)
    if not found:
        return 0
    _call("scancel", "--state=PENDING", *found)
    _call("scancel", "--state=RUNNING", "--signal=TERM", *found)
    if left := _wait(mark, min(GRACE, patience)):
        _call("scancel", *left)
    if left := _wait(mark, patience):
        raise InputError(
            f"SLURM jobs {', '.join(left)} of an earlier run do not end within {patience:.0f} s of"
            " scancel. Wait until squeue shows them no more, then run again."
        )
    return len(found)


def _wait(mark, seconds):
    """Jobs that are left when all have ended or the time is over."""
    deadline = time.monotonic() + seconds
    while (left := jobs(mark)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def _call(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise InputError(
            f"{command[0]} was not found, but the profile runs jobs with SLURM; run on a machine"
            " that submits jobs (a login node), or load the module of SLURM"
        ) from None
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{command[0]} did not answer within 60 s; try again when SLURM answers"
        ) from None
    lines = done.stderr.strip().splitlines()
    is_gone = bool(lines) and all("Invalid job id" in line for line in lines)
    if done.returncode and not is_gone:  # a job that has ended meanwhile needs no scancel
        raise InputError(
            f"{command[0]} failed: {done.stderr.strip() or done.returncode}; try again when SLURM"
            " answers (sinfo)"
        )
    return done.stdout
