"""``python -m benchtools.big PROGRAM N_SITES STEPS``: one big box in a process of its own.

Prints a line of JSON: seconds per step, peak memory in MiB of the process that does the steps, and
what belongs to a sample. PROGRAM is ours (the Replica of a campaign) or lammps (the same model and
configuration in the files of ``engine: lammps``).
"""

import json
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchtools.lammps import CPU_USE, LOOP
from benchtools.systems import equilibrated, water
from remcg.engine.replica import Replica, Start
from remcg.lammps.dump import frames
from remcg.lammps.program import Program
from remcg.lammps.replica import LammpsReplica
from remcg.pairs import rdf_edges
from remcg.topology import Topology

COPIES = {100_000: (4, 5, 5), 1_000_000: (10, 10, 10)}  # of 1000 waters
R_CUT = 0.9  # nm
MIB = 1024.0  # per KiB, the unit of ru_maxrss


def box_of(n_sites):
    """Waters at 300 K and 33.4 per nm^3: copies of 1000 equilibrated ones with velocities anew."""
    system = equilibrated(water(10, R_CUT), 1000)
    copies, start = np.array(COPIES[n_sites]), system.start
    shifts = np.stack(np.meshgrid(*map(np.arange, copies), indexing="ij"), axis=-1)
    positions = (np.mod(start.positions, start.box) + shifts.reshape(-1, 1, 3) * start.box).reshape(
        -1, 3
    )
    topology = Topology(np.zeros(n_sites, int), np.full(n_sites, start.topology.masses[0]))
    return replace(system, start=Start(positions, copies * start.box, None, topology))


def settings(system, n_steps):
    """Those of both programs; one sample at the end."""
    return dict(
        n_steps=n_steps, n_equilibration=0, timestep=system.timestep, friction=system.friction,
        sample_interval=n_steps, rdf_edges=rdf_edges(R_CUT),
    )  # fmt: skip


def ours(system, n_steps):
    """CPU seconds of whole chunks, with the one sample that ends them."""
    replica = Replica(
        system.model, system.start, system.temperature, **settings(system, 2 * n_steps)
    )
    replica.run_chunk(n_steps)  # loads the kernels
    begin = time.process_time()
    replica.run_chunk(2 * n_steps)
    return {"s_per_step": (time.process_time() - begin) / n_steps, "peak_mib": peak()}


def lammps(system, n_steps):
    """LAMMPS' loop time times its CPU use; what the engine does around it."""
    with tempfile.TemporaryDirectory() as folder:
        program = Program.of("lmp -sf omp -pk omp 1")
        replica = LammpsReplica(
            system.model, system.start, system.temperature, program=program, folder=folder,
            **settings(system, n_steps),
        )  # fmt: skip
        found = {"peak_before_mib": peak()}
        begin = time.process_time()
        replica._write_tables()
        found["s_input"] = time.process_time() - begin
        replica._write_input(n_steps)
        with replica.attempt.at(0, n_steps):
            replica._run()
        said = (Path(folder) / "log.segment").read_text()
        wall, steps = LOOP.findall(said)[-1]
        use = min(float(CPU_USE.findall(said)[-1]) / 100.0, 1.0)
        found["s_per_step"] = float(wall) * use / int(steps)
        found["peak_mib"] = peak(resource.RUSAGE_CHILDREN)
        found["dump_mib"] = (Path(folder) / "samples.bin").stat().st_size / 2**20 / 2
        replica._read(n_steps)
        frame = next(frames(Path(folder) / "final.bin", system.n_sites))
        begin = time.process_time()
        replica._observe(frame, 0)
        found["s_per_sample"] = time.process_time() - begin
        found["reader_peak_mib"] = peak()
    return found


def peak(who=resource.RUSAGE_SELF):
    return resource.getrusage(who).ru_maxrss / MIB


def main():
    name, n_sites, n_steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps({"ours": ours, "lammps": lammps}[name](box_of(n_sites), n_steps)))


if __name__ == "__main__":
    main()
