"""remcg: bottom-up coarse-graining by relative entropy minimisation."""

import atexit
import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
import time
from pathlib import Path

__version__ = "0.1.0"
WHOLE = "complete"  # in the folder of a process that compiled all that the dynamics needs
OURS = "REMCG_KERNELS"  # what we set NUMBA_CACHE_DIR to, which child processes inherit
FORGOTTEN = 86400.0  # s, after which the folder of a killed process is removed


def _cpu():
    """Model and features of the processor: machine code for one may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "".join(line for line in lines if line.startswith(("model name", "flags", "Features")))


def _kernel_cache():
    """Folder for compiled kernels, keyed by their sources and the processor.

    numba's own cache does not notice a change in a function that is called from another file, and
    it cannot be shared between kinds of processors.
    """
    package = Path(__file__).parent
    key = hashlib.sha256(_cpu().encode())
    for source in sorted([*package.glob("engine/*.py"), package / "pairs.py"]):
        key.update(source.read_bytes())
    home = package / "__pycache__"
    writable = os.access(home if home.is_dir() else package, os.W_OK)
    name = f"remcg-kernels-{os.getuid()}"
    base = home / "kernels" if writable else Path(tempfile.gettempdir()) / name
    return base / key.hexdigest()[:16]


def kernels_are_compiled():
    """Whether there is a folder of compiled kernels for this processor and these sources."""
    return (_kernel_cache() / WHOLE).exists()


def choose_cache():
    """Let numba take the compiled kernels, or where there are none yet a folder of this process.

    What numba compiles with callees that another process has compiled may crash whoever loads it:
    so nobody meets the kernels of a process that is at work, or was killed at it.
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen and chosen != os.environ.get(OURS):
        return
    folder = _kernel_cache()
    if not (folder / WHOLE).exists():
        own = folder.with_name(f"{folder.name}.{platform.node()}.{os.getpid()}")
        atexit.register(_publish, own, folder, os.getpid())
        folder = own
    os.environ["NUMBA_CACHE_DIR"] = os.environ[OURS] = str(folder)


def _publish(own, folder, pid):
    """Give the kernels of this process to all, if the dynamics is among them."""
    if pid != os.getpid() or not own.is_dir():
        return
    with contextlib.suppress(OSError):
        if any(own.glob("engine*/dynamics.advance*.nbc")) and not (folder / WHOLE).exists():
            (own / WHOLE).touch()
            shutil.rmtree(folder, ignore_errors=True)
            own.rename(folder)
    for each in (own, *folder.parent.glob(f"{folder.name}.*.*")):
        with contextlib.suppress(OSError):
            if each == own or time.time() - each.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(each, ignore_errors=True)


choose_cache()
