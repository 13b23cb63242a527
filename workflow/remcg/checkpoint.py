"""Checkpoints of a run, a lock on them, and the watch on the process that wanted the run."""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import platform
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from remcg.errors import InputError, SamplingError
from remcg.io import read_h5, refusals_explained, write_h5

SAVE_EVERY = 30.0  # s
REPORT_EVERY = 10.0  # s
LOCK_WAIT = 60.0  # s
GRACE = 10.0  # s between the request to stop and the hard end
PR_SET_PDEATHSIG = 1
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


class StopError(Exception):
    """The run was asked to stop and has written its checkpoint."""


class Every:
    """Tells, once each, that some seconds have passed again."""

    def __init__(self, seconds):
        self._seconds, self._last = seconds, time.monotonic()

    def is_due(self):
        """Whether the seconds have passed since this was last true."""
        now = time.monotonic()
        if now - self._last <= self._seconds:
            return False
        self._last = now
        return True


def digest(*items):
    """SHA-256 over arrays, numbers, strings and nested lists or dictionaries of them."""
    total = hashlib.sha256()
    for item in items:
        if isinstance(item, dict):
            part = digest(*(x for key in sorted(item) for x in (key, item[key])))
        elif isinstance(item, list | tuple):
            part = digest(*item)
        elif isinstance(item, np.ndarray):
            part = f"{item.dtype.str}{item.shape}" + hashlib.sha256(item.tobytes()).hexdigest()
        else:
            part = repr(item.item() if isinstance(item, np.generic) else item)
        total.update(f"{part}\n".encode())
    return total.hexdigest()


def save(path, key, arrays, attributes):
    """Write arrays and plain attributes of a run that ``key`` determines."""
    write_h5(path, arrays, {"key": key, "attributes": json.dumps(attributes, sort_keys=True)})


def load(path, key, log=print):
    """(arrays, attributes) of a checkpoint, or None where it is absent, damaged or of another run.

    What is not used is said to ``log``.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        arrays, attributes = read_h5(path)
        found, saved = attributes["key"], json.loads(attributes["attributes"])
    except (InputError, OSError, KeyError, RuntimeError, ValueError):
        log(f"checkpoint {path} is damaged: ignored, the run starts anew")
        return None
    if found != key:
        log(f"checkpoint {path} belongs to another model, start or setting: ignored")
        return None
    return arrays, saved


def failed_path(checkpoint_path):
    """Where the samples of a failed run are kept."""
    path = Path(checkpoint_path)
    return path.with_name(path.name.replace(".checkpoint", "").removesuffix(".h5") + ".failed.h5")


@contextmanager
def keeping_failure(replica, failed):
    """Write what a failed run has sampled to the path ``failed``, if it is not None.

    Its checkpoint stays the last good one.
    """
    try:
        yield
    except SamplingError as error:
        if not failed:
            raise
        save(failed, replica.key, replica.arrays(), replica.attributes())
        raise SamplingError(f"{error}; what was sampled until then is in {failed}") from None


@contextmanager
def locked(path, wait=LOCK_WAIT, log=print):
    """Hold an exclusive lock on ``path``; wait for a live owner, then refuse.

    The kernel frees the lock when its owner ends, however it ends. A file system without locks is
    said to ``log``, and nothing is held there: two runs of one state would write the same bits.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline, has_told = time.monotonic() + wait, False
    while (file := _try_lock(path, log)) is None:
        owner = path.read_text().strip() if path.exists() else ""
        if time.monotonic() > deadline:
            raise InputError(
                f"{path} is still held by process {owner or 'unknown'}, which samples the same"
                f" state; waited {wait:.0f} s; wait for it or end it, then start again"
            )
        if not has_told:
            log(f"waiting for process {owner or 'unknown'}, which holds {path}")
            has_told = True
        time.sleep(0.2)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _try_lock(path, log):
    """The locked open file, or None if another process holds it."""
    with refusals_explained(path):
        file = open(path, "a+")
    try:
        _lock(file, log)
        # the last owner may have removed the file between our opening and locking it
        if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            return file
    except BlockingIOError:
        pass
    file.close()
    return None


def _lock(file, log):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log(
            f"{file.name} cannot be locked ({error.strerror}): its file system has no locks"
            " (Lustre: mount it with -o flock); nothing keeps a second run of this state away"
        )


class StopRequest:
    """Becomes true in its block on SIGTERM or SIGINT, or when the parent or a watched process ends.

    The process named by REMCG_WATCH_PID stands for who wanted the run: mpiexec lives on when a
    workflow manager is killed. It counts on the machine REMCG_WATCH_HOST only: a job of a cluster
    runs elsewhere. A process that does not stop by itself is ended after a grace time.
    """

    def __init__(self):
        self._event, self._is_over = threading.Event(), threading.Event()
        self._parent = os.getppid()
        self._watched = _watched_process()

    def __enter__(self):
        self._earlier = {
            number: signal.signal(number, lambda *_: self._event.set())
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        signal_at_death_of_parent(signal.SIGTERM)
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        signal_at_death_of_parent(0)
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def __bool__(self):
        return self._event.is_set()

    def _watch(self):
        while os.getppid() == self._parent and _is_alive(self._watched):
            if self._is_over.wait(1.0):
                return
        self._event.set()
        if not self._is_over.wait(GRACE):
            os._exit(128 + signal.SIGTERM)


def _watched_process():
    """Id of the process to watch, or None if there is none or it is on another machine."""
    watched = os.environ.get("REMCG_WATCH_PID", "")
    is_here = os.environ.get("REMCG_WATCH_HOST", platform.node()) == platform.node()
    return int(watched) if watched.isdigit() and is_here else None


def signal_at_death_of_parent(number):
    """Ask Linux for a signal at the death of the parent; elsewhere the watch must do."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    except (OSError, AttributeError):
        pass


def _is_alive(pid):
    if pid is None:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
