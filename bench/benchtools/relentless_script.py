"""REM iterations of relentless with LAMMPS; runs in a Python that has both, not in remcg's.

Reads ``inputs.json`` and leaves in ``records.json`` when each model had been sampled and when its
gradient was known, and the frames in ``steps/<iteration>/frames.npy``.
"""

import json
import time
from pathlib import Path

import lammpsio
import numpy
import relentless
from relentless.optimize import RelativeEntropy, SteepestDescent
from relentless.optimize.criteria import ConvergenceTest

TYPE = "1"
FRAMES = "frames.dump"


class Timed(RelativeEntropy):
    """Notes when a simulation ended and when its gradient was known."""

    records = ()

    def compute_gradient(self, ensemble, variables):
        sampled = time.time()
        gradient = super().compute_gradient(ensemble, variables)
        self.records = [*self.records, {"sampled": sampled, "updated": time.time()}]
        return gradient


class Deadline(ConvergenceTest):
    """Stops where one more iteration would take too long."""

    def __init__(self, seconds):
        self.seconds, self.begin, self.n_results = seconds, time.time(), 0

    def converged(self, result):
        self.n_results += 1
        spent = time.time() - self.begin
        return spent * (1.0 + 1.0 / self.n_results) > self.seconds


def start_file(given):
    """The first configuration as a LAMMPS data file."""
    half, n = 0.5 * given["edge"], given["n_sites"]
    snapshot = lammpsio.Snapshot(n, lammpsio.Box([-half] * 3, [half] * 3))
    snapshot.position, snapshot.typeid = given["positions"], numpy.ones(n, int)
    snapshot.mass = numpy.full(n, round(given["mass"], 4))  # lammpsio has no room for more
    spread = numpy.sqrt(given["thermal"] / given["mass"])
    snapshot.velocity = numpy.random.default_rng(1).normal(0.0, spread, (n, 3))
    lammpsio.DataFile.create("start.data", snapshot, "atomic")
    return "start.data"


def potential(given):
    """The spline and, as variables with their scales, the knots that the target samples."""
    spline = relentless.model.potential.PairSpline(
        types=(TYPE,), num_knots=len(given["knots"]), mode="value"
    )
    pair = (TYPE, TYPE)
    spline.from_array(pair, given["knots"], given["values"])
    volume, scales = given["edge"] ** 3, {}
    for (_, knot), pairs in list(zip(spline.knots(pair), given["pairs"]))[:-1]:
        if pairs >= given["least_pairs"]:
            scales[knot] = given["thermal"] * (volume / pairs) ** 0.5
    return spline, scales


def simulation(given):
    """LAMMPS, and the operation that measures the RDF."""
    simulate = relentless.simulate
    every = given["interval"]
    rdf = {"stop": given["r_cut"], "num": given["n_bins"]}
    average = simulate.EnsembleAverage(None, every, rdf=rdf, assume_constraints=True)
    frames = simulate.WriteTrajectory(FRAMES, every, format="LAMMPS-dump")
    how = {
        "timestep": given["timestep"], "T": given["thermal"], "seed": 545454,
        "friction": given["friction"] * given["mass"],
    }  # fmt: skip
    operations = [
        simulate.RunLangevinDynamics(given["n_equilibration"], **how),
        simulate.RunLangevinDynamics(given["n_steps"], analyzers=[average, frames], **how),
    ]
    start = simulate.InitializeFromFile(start_file(given))
    return simulate.LAMMPS(start, operations, types={TYPE: 1}), average


def target(given):
    volume = relentless.model.Cube(given["edge"])
    ensemble = relentless.model.Ensemble(T=given["thermal"], N={TYPE: given["n_sites"]}, V=volume)
    ensemble.rdf[TYPE, TYPE] = relentless.model.RDF(given["r"], given["g"])
    return ensemble


def keep_frames(folder):
    """The dump of an iteration as an array."""
    frames = [snapshot.position for snapshot in lammpsio.DumpFile(str(folder / FRAMES))]
    numpy.save(folder / "frames.npy", numpy.array(frames))


def main():
    given = json.loads(Path("inputs.json").read_text())
    spline, scales = potential(given)
    potentials = relentless.simulate.Potentials()
    potentials.pair = relentless.simulate.PairPotentialTabulator(
        spline, start=given["knots"][0], stop=given["r_cut"], num=1000, neighbor_buffer=0.1
    )
    engine, average = simulation(given)
    objective = Timed(target(given), engine, potentials, average)
    deadline = Deadline(given["seconds"])
    descent = SteepestDescent(deadline, given["n_iterations"] - 1, given["step_size"], scale=scales)
    descent.optimize(objective, tuple(scales), "steps", overwrite=True)
    for iteration in range(len(objective.records)):
        keep_frames(Path("steps", str(iteration)))
    Path("records.json").write_text(json.dumps(objective.records))


if __name__ == "__main__":
    main()
