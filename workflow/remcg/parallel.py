"""The ranks of this run: MPI under a launcher, one process otherwise."""

import os
import time

from remcg.errors import InputError

LAUNCHERS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MPI_LOCALRANKID")


class Serial:
    """One process: the interface of :class:`Ranks` without MPI."""

    rank = 0
    size = 1

    def gather(self, item):
        """List of the one item."""
        return [item]

    def allgather(self, item):
        """List of the one item."""
        return [item]

    def barrier(self):
        """Nothing to wait for."""
        pass

    def all_arrive(self, seconds):
        return True

    def abort(self, code):
        """End this process; does not return."""
        raise SystemExit(code)


class Ranks:
    """Thin cover of an MPI communicator."""

    def __init__(self, communicator):
        self._communicator = communicator
        self.rank = communicator.Get_rank()
        self.size = communicator.Get_size()

    def gather(self, item):
        """List of every rank's item on rank 0, None elsewhere."""
        return self._communicator.gather(item, root=0)

    def allgather(self, item):
        """List of every rank's item, on all ranks."""
        return self._communicator.allgather(item)

    def barrier(self):
        """Wait for all ranks."""
        self._communicator.Barrier()

    def all_arrive(self, seconds):
        """Whether all ranks call this within some seconds of this rank's call."""
        request = self._communicator.Ibarrier()
        deadline = time.monotonic() + seconds
        while not request.Test():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def abort(self, code):
        """End all ranks; does not return."""
        self._communicator.Abort(code)


def world():
    """The ranks of this run; MPI is only loaded where a launcher started this process."""
    if not any(name in os.environ for name in LAUNCHERS):
        return Serial()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"this process was started by an MPI launcher but MPI cannot be loaded ({error});"
            " install mpi4py and its MPI library, or run without mpiexec"
        ) from error
    return Ranks(MPI.COMM_WORLD)


def library():
    """Name and version of the MPI library, or "" where it cannot be loaded; MPI is not started."""
    try:
        import mpi4py

        mpi4py.rc.initialize = mpi4py.rc.finalize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        return ""
    lines = MPI.Get_library_version().strip("\0 \n").splitlines()
    return " ".join(lines[0].split()) if lines else ""


def share(n_items, ranks):
    """Indices of the items that this rank works on: every size-th, beginning at its rank."""
    return range(ranks.rank, n_items, ranks.size)
