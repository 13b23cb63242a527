"""remcg: bottom-up coarse-graining by relative entropy minimisation."""

import hashlib
import os
import platform
import tempfile
from pathlib import Path

__version__ = "0.1.0"


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


os.environ.setdefault("NUMBA_CACHE_DIR", str(_kernel_cache()))
