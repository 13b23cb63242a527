"""``mpiexec -n N python -m benchtools.ranks STEPS``: wall seconds of N ranks for two replicas."""

import os
import sys
import time

from benchtools.ours import Ours
from benchtools.systems import equilibrated, water
from remcg import parallel

N_REPLICAS = 2


def main():
    ranks = parallel.world()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[ranks.rank % len(cores)]})
    n_steps = int(sys.argv[1])
    system = equilibrated(water(8, 0.9), 500)
    mine = [Ours(system) for _ in parallel.share(N_REPLICAS, ranks)]
    ranks.barrier()
    begin = time.perf_counter()
    for ours in mine:
        ours.measure(0.0, n_steps)
    ranks.barrier()
    if ranks.rank == 0:
        print(time.perf_counter() - begin)


if __name__ == "__main__":
    main()
