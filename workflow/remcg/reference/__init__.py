"""Atomistic reference trajectories, made on request with OpenMM or GROMACS."""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from remcg.config import SHORT_RUNS
from remcg.errors import InputError
from remcg.io import write_json
from remcg.reference.openmm import simulate, simulate_short
from remcg.streams import derived_seed
from remcg.sums import sum_path, write_sum

__all__ = ["make_dynamics", "make_reference", "simulate"]


def make_reference(campaign, state, trajectory, log, topology, threads=1, progress=None):
    """Make the reference of one state: frames, log and a PDB with the box and bonds of its start.

    A killed run goes on from its last checkpoint, in the folder beside the trajectory that has its
    name without suffix, as long as nothing that it depends on has changed.

    Parameters
    ----------
    campaign : remcg.config.Campaign
    state : str
        Id.
    trajectory, log, topology : path
        XTC, CSV and PDB to be written.
    threads : int
    progress : callable, optional
        Called with the time in ps.
    """
    state, settings = campaign.state(state), campaign.reference
    seed = derived_seed(campaign.seed, "reference", state.id)
    work = Path(trajectory).with_suffix("")
    start = work / "start.pdb"
    text = _start(campaign, state)
    _claim(work, _identity(campaign, state, seed, text))
    start.write_text(text)
    run = {
        name: getattr(settings, name)
        for name in ("timestep", "equilibration", "production", "interval", "log_interval")
    }
    run.update(cutoff=settings.cutoff, threads=threads, progress=progress)
    run["work"] = work / settings.engine
    files = Path(trajectory), Path(log)
    for path in (*files, topology):
        sum_path(path).unlink(missing_ok=True)
    if settings.engine == "gromacs":
        from remcg.reference import gromacs

        field = settings.include
        gromacs.simulate(start, field, state.temperature, state.pressure, *files, seed, **run)
    else:
        field = campaign.system.force_field
        simulate(start, field, state.temperature, state.pressure, *files, seed, **run)
    shutil.copyfile(start, topology)
    for path in (*files, topology):
        write_sum(path)
    shutil.rmtree(work)


def make_dynamics(campaign, state, sites, trajectory, threads=1, progress=None):
    """Make short runs of one state, for memory kernels, from frames spread over its reference.

    Parameters
    ----------
    campaign : remcg.config.Campaign
    state : str
        Id.
    sites : path
        ``map/<state>.h5``, of the same frames.
    trajectory : path
        TRR to be written.
    threads, progress
        As for :func:`make_reference`.
    """
    from remcg.backmap.frames import read_reference
    from remcg.boxes import many, reduced
    from remcg.io import open_h5
    from remcg.trajectory import Selection, load_topology

    state, settings = campaign.state(state), campaign.reference
    with open_h5(sites) as file:
        n_frames = len(file["box"])
    runs = settings.dynamics_runs
    if runs > n_frames:
        raise InputError(
            f"reference.dynamics_runs: {runs} runs start from as many frames, but {state.id} has "
            f"{n_frames}; give at most {n_frames}, or more frames"
        )
    chosen = np.arange(1, 2 * runs, 2) * n_frames // (2 * runs)  # the middles of equal parts
    topology = load_topology(campaign.topology(state.id))
    molecules = [sorted(atom.index for atom in each) for each in topology.find_molecules()]
    selection = Selection.of(state)
    start = read_reference(
        state.trajectory, topology, molecules, state.id, chosen, selection=selection
    )
    simulate_short(
        topology.to_openmm(),
        [(x, reduced(box)) for x, box in zip(start.positions, many(start.boxes))],
        campaign.system.force_field,
        state.temperature,
        trajectory,
        derived_seed(campaign.seed, "dynamics", state.id),
        settings.dynamics,
        settings.dynamics_interval,
        settings.cutoff,
        threads,
        progress,
    )


def _start(campaign, state):
    """Content of the PDB that a run starts from: the topology, or a new box of molecules."""
    from remcg.reference.boxes import fill, pdb_text

    settings = campaign.reference
    if settings.molecules:
        templates = {Path(path).stem: path for path in settings.templates}
        seed = derived_seed(campaign.seed, "box", state.id)
        fixed = state.pressure is None
        return pdb_text(*fill(templates, settings.molecules, settings.density, seed, fixed))
    path = Path(state.topology or campaign.system.topology)
    if path.suffix.lower() != ".pdb":
        raise InputError(
            f"reference: a run starts from a PDB file with a box, but the topology is {path}; give "
            "a PDB as the topology, or reference.molecules with reference.templates"
        )
    return path.read_text()


def _identity(campaign, state, seed, start):
    """All that the frames of a run depend on."""
    settings = asdict(campaign.reference)
    for name in SHORT_RUNS:
        del settings[name]
    files = [*settings.pop("templates"), *settings.pop("include"), *campaign.system.force_field]
    content = "".join(
        Path(name).read_text() if Path(name).is_file() else str(name) for name in files
    )
    return {
        "settings": settings,
        "temperature": state.temperature,
        "pressure": state.pressure,
        "seed": seed,
        "files": hashlib.sha256((start + content).encode()).hexdigest(),
    }


def _claim(work, identity):
    """Keep the folder of a run that is the same; begin anew where anything differs."""
    path = work / "run.json"
    if path.is_file() and json.loads(path.read_text()) == identity:
        return
    if work.exists():
        shutil.rmtree(work)
    write_json(path, identity)
