"""A complete campaign small enough for a test: its reference was sampled from a known model."""

import os
import subprocess
import sys
from pathlib import Path

import mdtraj
import numpy as np
import yaml

from remcg.basis import SplineBasis
from remcg.engine.replica import Start
from remcg.model import Model, PairTerm, VolumeTerm
from remcg.sample import sample
from remcg.topology import Topology

ROOT = Path(__file__).resolve().parents[1]
N_SITES = 125
MASS = 39.948  # argon, the atom that the topology names
TEMPERATURES = {"cold": 280.0, "warm": 300.0, "hot": 320.0}
BASIS = SplineBasis(0.25, 0.6, 10)
V0 = 0.06
SHORTEST = {  # sections of a campaign that runs through all stages, and learns little
    "sample": {"steps": 1000, "equilibration": 100, "replicas": 2, "ranks": 2},
    "rem": {"max_iterations": 1},
    "predict": {"steps": 1000, "equilibration": 100},
}


def true_model():
    """A soft repulsive pair potential with a weak well that deepens on cooling."""
    r = np.linspace(0.25, 0.6, 200)
    taper = np.clip((0.6 - r) / 0.2, 0.0, 1.0) ** 2
    mean = (25.0 * np.exp(-(r - 0.25) / 0.035) - 1.5 * np.exp(-(((r - 0.42) / 0.05) ** 2))) * taper
    slope = 2.0 * np.exp(-(((r - 0.42) / 0.06) ** 2)) * taper
    fit = [np.linalg.lstsq(BASIS.values(r), u, rcond=None)[0] for u in (mean, slope)]
    terms = (PairTerm(("AR", "AR"), BASIS, 2), VolumeTerm(2, 2))
    volume = np.array([[6.0, 0.5], [1.0, 0.0]])
    return Model(("AR",), terms, 300.0, V0, (np.array(fit), volume))


def lattice(volume):
    edge = volume ** (1.0 / 3.0)
    cells = (np.stack(np.meshgrid(*[np.arange(5)] * 3), axis=-1).reshape(-1, 3) + 0.5) / 5.0
    return cells * edge, np.full(3, edge)


def sampled(model, temperature, n_frames, seed, interval=100):
    """Frames (n_frames, n_sites, 3) and boxes of a long NPT run at 1 bar."""
    positions, box = lattice(N_SITES * V0)
    start = Start(
        positions=positions,
        box=box,
        velocities=None,
        topology=Topology(np.zeros(N_SITES), np.full(N_SITES, MASS)),
    )
    result = sample(
        model,
        start,
        temperature,
        1.0,
        n_steps=n_frames * interval,
        n_equilibration=5000,
        timestep=0.004,
        sample_interval=interval,
        seed_key=("tiny", seed),
        keep=n_frames,
    )
    return result["trajectory"], result["trajectory_box"]


def moved_freely(model, temperature, volume, n_runs=5, n_frames=300, interval=0.01):
    """Frames, boxes and times of short runs at constant energy, close in time (ps)."""
    from remcg.consistency.state import moved

    start = Start(*lattice(volume), None,
                  Topology(np.zeros(N_SITES), np.full(N_SITES, MASS)))  # fmt: skip
    every, found = round(interval / 0.005), []
    for run in range(n_runs):
        settings = {"timestep": 0.005, "seed_key": ("tiny", "free", run)}
        _, begun = moved(model, start, temperature, 4000, 4000, 1.0, settings)
        frames, boxes = moved(model, begun, temperature, n_frames * every, every, 0.0, settings)[0]
        found.append((frames, boxes, 10.0 * run + interval * np.arange(n_frames)))
    return map(np.concatenate, zip(*found))


def topology():
    top = mdtraj.Topology()
    chain = top.add_chain()
    for _ in range(N_SITES):
        top.add_atom("AR", mdtraj.element.argon, top.add_residue("AR", chain))
    return top


def write_campaign(folder, n_frames=300, short_runs=(), **sections):
    """Write references, mapping and config below ``folder``; returns the config's path.

    States named in ``short_runs`` have trajectories of close frames, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model, top = true_model(), topology()
    states = []
    for seed, (name, temperature) in enumerate(TEMPERATURES.items()):
        frames, boxes = sampled(model, temperature, n_frames, seed)
        trajectory = mdtraj.Trajectory(
            frames, top, np.arange(n_frames), boxes, np.full((n_frames, 3), 90.0)
        )
        trajectory.save_xtc(str(folder / f"{name}.xtc"))
        use = "test" if name == "warm" else "train"
        states.append(
            {
                "id": name,
                "temperature": temperature,
                "pressure": 1.0,
                "trajectory": f"{name}.xtc",
                "use": use,
            }
        )
        if name in short_runs:
            volume = float(boxes.prod(axis=1).mean())
            frames, boxes, times = moved_freely(model, temperature, volume)
            short = mdtraj.Trajectory(frames, top, times, boxes, np.full((len(frames), 3), 90.0))
            short.save_trr(str(folder / f"{name}_short.trr"))
            states[-1]["dynamics"] = [f"{name}_short.trr"]
    trajectory[0].save_pdb(str(folder / "topology.pdb"))
    (folder / "mapping.yaml").write_text("AR:\n  sites:\n    AR: {atoms: [AR]}\n")
    config = {
        "campaign": "tiny",
        "seed": 7,
        "system": {"topology": "topology.pdb", "mapping": "mapping.yaml"},
        "states": states,
        "model": {
            "temperature": "linear",
            "reference_temperature": 300.0,
            "terms": [
                {"kind": "pair", "sites": ["AR", "AR"], "r_cut": 0.6, "n_basis": 10, "r_min": 0.25},
                {"kind": "volume", "order": 2},
            ],
        },
        "sample": {"steps": 24000, "equilibration": 1000, "replicas": 2, "ranks": 1},
        "rem": {"max_iterations": 16},
        "predict": {"steps": 20000, "equilibration": 1000},
        "backmap": {"frames": 0},
        **sections,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def results(config):
    return config.parent / "results" / "tiny"


def launch(config, *arguments, cores=2, **options):
    """Start ``remcg.launch`` on a config, in the config's folder."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "remcg.launch", "--configfile", str(config)]
    command += ["--cores", str(cores), *arguments]
    return subprocess.Popen(
        command,
        cwd=config.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
