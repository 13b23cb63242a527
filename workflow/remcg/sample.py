"""Sampling of the CG model: ``mpiexec -n 2 python -m remcg.sample ...``.

Replicas are distributed over the ranks; each has a random stream of its own, so the samples do not
depend on the number of ranks. A run that was stopped goes on from its checkpoints. States are
sampled by themselves, one or a batch of them (``--batch``, into one file); with
``sample.exchange_interval`` several are sampled together, with replica exchange.
With ``engine: lammps`` one process starts LAMMPS for each replica in turn, by ``--launcher``:
``python -m remcg.sample --launcher "mpiexec -n 2" ...``.
"""

import argparse
import json
import shutil
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from remcg import boxes, checkpoint, equilibration, exchange, parallel
from remcg.checkpoint import failed_path, keeping_failure
from remcg.engine.kernels import type_pairs
from remcg.engine.replica import Replica, Start
from remcg.engine.threads import launch_at_most
from remcg.errors import InputError, SamplingError
from remcg.io import member, open_h5, read_json, write_h5, write_members
from remcg.model import Model
from remcg.pairs import rdf_edges
from remcg.provenance import machine_line
from remcg.topology import Topology

TIME_TO_SAVE = 8.0  # s that a stopped rank leaves to the others
STOPPED = 143  # exit code, 128 + SIGTERM: not done, saved
TIME_TO_SAY = 0.5  # s that mpiexec has to pass on the last words of a rank
BONDED = ("molecule", "bonds", "angles", "dihedrals")
LEAST_KEPT, BONDED_KEPT = 50, 250  # configurations of a predicted replica; with bonded terms


def sample(
    model, start, temperature, pressure_bar=None, *, checkpoint_path=None, stop=False, **settings
):
    """Samples of one replica: Langevin dynamics (BAOAB), in NPT with a Monte Carlo barostat.

    All other arguments, ``settings`` among them, are those of
    :class:`remcg.engine.replica.Replica`.

    Parameters
    ----------
    checkpoint_path : path, optional
        Where the run saves itself every half minute and at its end, and goes on from.
    stop : object
        Becomes true when the run shall save itself and end with ``checkpoint.StopError``.

    Returns
    -------
    dict of ndarray
        site_sums (n_samples, n_functions); volume, energy, pressure, temperature (n_samples,) in
        nm^3, kJ/mol, kJ/mol/nm^3 (virial, without the volume term), K; rdf_blocks (n_blocks,
        n_pairs, n_bins); positions, velocities, box: final; trajectory, trajectory_box: kept; with
        molecules of several sites levers (n_pairs, n_bins), see
        :func:`remcg.uncertainty.virial_pressure_slopes`.
    """
    replica = Replica(model, start, temperature, pressure_bar, **settings)
    run(replica, checkpoint_path, stop)
    return replica.result()


def run(replica, checkpoint_path=None, stop=False):
    """Run a replica to its end, from its checkpoint if there is one."""
    saved = checkpoint_path and checkpoint.load(checkpoint_path, replica.key, _log)
    if saved:
        replica.restore(*saved)
        _log(f"{replica.label}: goes on from step {replica.step} of its checkpoint")
    failed = checkpoint_path and failed_path(checkpoint_path)
    save = checkpoint.Every(checkpoint.SAVE_EVERY)
    report = checkpoint.Every(checkpoint.REPORT_EVERY)
    first = replica.step
    try:
        while not replica.is_done:
            with keeping_failure(replica, failed):
                replica.run_chunk()
            if report.is_due():
                _log(replica.progress() + speed(replica, first))
            if stop:
                raise checkpoint.StopError(f"{replica.label}: stopped at step {replica.step}")
            if save.is_due():
                _save(replica, checkpoint_path)
    except SamplingError:
        raise
    except BaseException:
        _save(replica, checkpoint_path)
        raise
    _save(replica, checkpoint_path)
    _log(replica.progress() + speed(replica, first))


def speed(replica, first):
    """Steps per second since step ``first``, for the end of a line; nothing before a step."""
    n_steps = replica.step - first
    return f", {n_steps / max(replica.seconds, 1e-9):.0f} steps/s" if n_steps else ""


def _save(replica, path):
    if path:
        checkpoint.save(path, replica.key, replica.arrays(), replica.attributes())


def _log(line):
    print(line, flush=True)


class Source(NamedTuple):
    """Starts of the replicas, and what their file says; ``mean_volume`` is None for samples."""

    starts: list
    n_molecules: int
    mean_volume: float
    is_reference: bool


def read_source(path, n_replicas):
    """Starts from a map file (frames spread over it) or a sample file (replica i mod n)."""
    with open_h5(path) as file:
        is_reference = "velocities" not in file
        n_frames = len(file["positions"])
        if is_reference:
            frames = [int((i + 0.5) * n_frames / n_replicas) for i in range(n_replicas)]
        else:
            frames = [i % n_frames for i in range(n_replicas)]
        topology = read_topology(file)
        starts = [
            Start(
                file["positions"][frame],
                file["box"][frame],
                None if is_reference else file["velocities"][frame],
                topology,
            )
            for frame in frames
        ]
        volume = float(boxes.volume(boxes.many(file["box"][()])).mean()) if is_reference else None
        n_molecules = int(file.attrs["n_molecules"])
    if n_molecules != topology.n_molecules:
        raise InputError(
            f"{path} has {topology.n_sites} sites in {n_molecules} molecules but says not"
            " which site belongs to which: write it anew, with the dataset 'molecule'"
        )
    return Source(starts, n_molecules, volume, is_reference)


def read_topology(file):
    """Topology of an open map or sample file; without molecules, each site is one."""
    kept = {name: file[name][()] for name in BONDED if name in file}
    return Topology(file["site_types"][()], file["masses"][()], **kept)


def topology_arrays(topology):
    """What :func:`read_topology` reads."""
    arrays = {"site_types": topology.site_types, "masses": topology.masses}
    if topology.n_molecules < topology.n_sites:
        arrays |= {name: getattr(topology, name) for name in BONDED}
    return arrays


class Task(NamedTuple):
    """One state to sample: ensemble, starts of its replicas, file to write, share of the steps."""

    state: object
    ensemble: str
    starts: list
    output: Path
    effort: float = 1.0

    @property
    def pressure_bar(self):
        """Pressure of the barostat, bar; None in NVT."""
        return self.state.pressure if self.ensemble == "NPT" else None


def read_tasks(arguments, campaign, n_replicas):
    """What the arguments ask for, state by state."""
    known = {state.id: state for state in campaign.states}
    plan = read_json(arguments.plan) if arguments.plan else {}
    together = _exchanges(arguments, campaign)
    tasks = []
    for number, name in enumerate(arguments.state):
        if name not in known:
            raise InputError(f"no state {name} in {arguments.config}; it has {', '.join(known)}")
        state = known[name]
        ensemble = choose_ensemble(state, plan, arguments.ensemble, arguments.predict)
        of = campaign.nearest_training(state).id if arguments.predict else name
        start = member(arguments.start[number], of)
        starts = starts_of(arguments, number, start, plan, ensemble, n_replicas)
        effort = 1.0 if arguments.predict or together else plan.get("effort", {}).get(name, 1.0)
        tasks.append(Task(state, ensemble, starts, Path(arguments.output[number]), effort))
    return tasks


def starts_of(arguments, number, path, plan, ensemble, n_replicas):
    """Starts of all replicas of a state, in NVT at the reference volume of the state."""
    volume_from = arguments.volume_from[number]
    reference = volume_from and read_source(volume_from, n_replicas)
    source = read_source(path, n_replicas)
    if plan.get("restart") == "reference" and not source.is_reference:
        if not reference:
            raise InputError(
                f"{arguments.plan} asks to restart from the reference, but {path} is a sample"
                " file; give the map file of the state with --start or --volume-from"
            )
        source = reference
    starts = source.starts
    if arguments.predict:
        starts = [replace(start, velocities=None) for start in starts]
    if ensemble == "NPT":
        return starts
    at = reference or source
    if at.mean_volume is None:
        raise InputError(
            f"an NVT run needs the reference volume of {arguments.state[number]}, which the sample"
            f" file {path} does not tell; give the map file with --volume-from"
        )
    volume = at.mean_volume / at.n_molecules * source.n_molecules
    return [start.with_volume(volume) for start in starts]


def choose_ensemble(state, plan, forced, is_prediction):
    """NVT where the state has no pressure; else what is asked for, the plan's phase, or a default.

    Defaults without a plan: NPT for predictions, NVT for iterations (the global phase).
    """
    if state.pressure is None:
        return "NVT"
    return forced or plan.get("phase") or ("NPT" if is_prediction else "NVT")


def _settings(campaign, is_prediction):
    """(steps, equilibration, replicas, kept configurations per replica)."""
    chosen = campaign.sample
    if not is_prediction:
        return chosen.steps, chosen.equilibration, chosen.replicas, chosen.keep
    predict = campaign.predict
    replicas = campaign.predict_replicas
    least = BONDED_KEPT if campaign.bonded_terms else LEAST_KEPT
    keep = max(least, 2 * -(-campaign.backmap.frames // replicas))  # equilibration is cut
    return predict.steps, predict.equilibration, replicas, keep


def run_states(arguments, campaign, ranks, stop):
    """Sample one state, or several together, with all ranks; rank 0 writes the sample files."""
    n_replicas = _settings(campaign, arguments.predict)[2]
    tasks = read_tasks(arguments, campaign, n_replicas)
    model = Model.read(arguments.model)
    _log(machine_line())
    for task in tasks:
        place = f"rank {ranks.rank} of {ranks.size}"
        _log(f"{task.state.id}: {task.ensemble}, {place}, {n_replicas} replicas")
    walkers = [(k, i) for k in range(len(tasks)) for i in range(n_replicas)]
    own = [walkers[w] for w in parallel.share(len(walkers), ranks)]

    def replica(walker):
        made = make_replica(arguments, campaign, model, tasks[walker[0]], walker[1])
        made.stop = stop
        return made

    paths = [
        checkpoint_paths(task.output, n_replicas, task.state.id if arguments.batch else None)
        for task in tasks
    ]
    if _exchanges(arguments, campaign):
        replicas = {walker: replica(walker) for walker in own}
        swaps = make_exchange(arguments, campaign, model, tasks, n_replicas)
        together = exchange_path(tasks[0].output)
        failed = {(k, i): failed_path(paths[k][i]) for k, i in own}
        exchange.run(swaps, replicas, ranks, together, failed, stop, _log)
        done = {walker: (each.result(), each.seconds) for walker, each in replicas.items()}
    else:
        swaps = None
        done = {(k, i): _run_one(replica((k, i)), paths[k][i], stop) for k, i in own}
    results = {walker: result for walker, (result, _) in done.items()}
    seconds = sum(busy for _, busy in done.values()) + (swaps.seconds if swaps else 0.0)
    gathered = ranks.gather((results, seconds))
    if ranks.rank == 0:
        results = {walker: result for part, _ in gathered for walker, result in part.items()}
        write_all(arguments, campaign, tasks, model, results, swaps)
        remove_checkpoints(tasks, paths)
        _log(f"busy_core_seconds {sum(busy for _, busy in gathered):.3f}")


def _run_one(replica, path, stop):
    """(result, busy seconds) of one replica."""
    run(replica, path, stop)
    return replica.result(), replica.seconds


def write_all(arguments, campaign, tasks, model, results, swaps):
    """Cut the equilibration, of exchanging states together, and write what is left."""
    n_replicas = len(results) // len(tasks)
    of_state = [[results[k, i] for i in range(n_replicas)] for k in range(len(tasks))]
    if swaps:
        rest, n_cut = equilibration.cut([item for each in of_state for item in each], _log)
        of_state = [rest[k * n_replicas : (k + 1) * n_replicas] for k in range(len(tasks))]
        cuts = [n_cut] * len(tasks)
    else:
        of_state, cuts = zip(*[equilibration.cut(each, _log) for each in of_state])
    contents = {}
    for k, task in enumerate(tasks):
        more = {"n_discarded": cuts[k], **(exchange_attributes(swaps, k) if swaps else {})}
        contents[task.state.id] = content_of(arguments, campaign, task, model, of_state[k], more)
    if arguments.batch:
        write_members(tasks[0].output, contents)
    else:
        for task in tasks:
            write_h5(task.output, *contents[task.state.id])


def make_replica(arguments, campaign, model, task, number):
    """A replica of a state, with the settings of the campaign."""
    steps, equilibration_steps, _, keep = _settings(campaign, arguments.predict)
    if task.effort != 1.0:
        interval = campaign.sample.sample_interval
        steps = max(round(steps * task.effort / interval), 1) * interval
    iteration = "predict" if arguments.predict else arguments.iteration
    settings = {
        "n_steps": steps,
        "n_equilibration": equilibration_steps,
        "timestep": campaign.sample.timestep,
        "friction": campaign.sample.friction,
        "barostat": campaign.sample.barostat,
        "barostat_interval": campaign.sample.barostat_interval,
        "sample_interval": campaign.sample.sample_interval,
        "seed_key": (campaign.seed, campaign.campaign, task.state.id, iteration, number),
        "threads": campaign.sample.threads,
        "rdf_edges": _edges(model),
        "keep": keep,
        "label": f"state {task.state.id}, replica {number}",
    }
    run_of = task.starts[number], task.state.temperature, task.pressure_bar
    if _engine(arguments, campaign) == "lammps":
        from remcg.lammps.program import Program
        from remcg.lammps.replica import LammpsReplica

        lammps = campaign.sample.lammps
        settings["program"] = Program.of(lammps.command, arguments.launcher)
        settings["barostat_time"] = lammps.barostat_time
        settings["ranks"] = campaign.sample.ranks
        settings["folder"] = lammps_folder(task.output, number)
        return LammpsReplica(model, *run_of, **settings)
    return Replica(model, *run_of, **settings)


def _engine(arguments, campaign):
    """Who runs the dynamics: numba or lammps."""
    return campaign.predict_engine if arguments.predict else campaign.sample.engine


def lammps_folder(output, number):
    """Where LAMMPS works for a replica: hidden, beside the output."""
    output = Path(output)
    return output.with_name(f".{output.stem}.replica-{number}.lammps")


def make_exchange(arguments, campaign, model, tasks, n_replicas):
    """Replica exchange between the states, with the settings of the campaign."""
    first = tasks[0]
    for task in tasks[1:]:
        if not _same_molecules(first.starts[0].topology, task.starts[0].topology):
            raise InputError(
                f"{first.state.id} and {task.state.id} have different sites and cannot exchange"
                " configurations; give references of the same molecules in the same order, or set"
                " sample.exchange_interval to null"
            )
    ensembles = [
        exchange.Ensemble(task.state.id, task.state.temperature, task.pressure_bar)
        for task in tasks
    ]
    seed_key = (campaign.seed, campaign.campaign, "exchange", arguments.iteration)
    interval = campaign.sample.exchange_interval
    return exchange.Exchange(model, ensembles, n_replicas, interval, seed_key)


def _same_molecules(topology, other):
    names = ("site_types", "masses", *BONDED)
    return all(np.array_equal(getattr(topology, name), getattr(other, name)) for name in names)


def _exchanges(arguments, campaign):
    return not arguments.predict and campaign.sample.exchange_interval is not None


def _edges(model):
    return rdf_edges(max((term.basis.r_cut for term in model.pair_terms), default=0.0))


def exchange_path(output):
    """Checkpoint file of several states: hidden, beside the output of the first."""
    return output.with_name(f".{output.stem}.exchange.checkpoint.h5")


def exchange_attributes(swaps, number):
    """What the sample file of a state says of its exchanges."""
    return {
        "exchange_interval": swaps.interval,
        "exchange_acceptance": json.dumps(swaps.acceptance(number), sort_keys=True),
    }


def remove_checkpoints(tasks, paths):
    """Remove the checkpoints of finished states and of their failed replicas."""
    exchange_path(tasks[0].output).unlink(missing_ok=True)
    for task, of_state in zip(tasks, paths):
        for number in range(len(of_state)):
            shutil.rmtree(lammps_folder(task.output, number), ignore_errors=True)
    for path in [path for of_state in paths for path in of_state]:
        path.unlink(missing_ok=True)
        failed_path(path).unlink(missing_ok=True)


def checkpoint_paths(output, n_replicas, state=None):
    """Checkpoint file of each replica of a state (in a batch): hidden, beside the output."""
    output = Path(output)
    stem = output.stem if state is None else f"{output.stem}.{state}"
    return [output.with_name(f".{stem}.replica-{i}.checkpoint.h5") for i in range(n_replicas)]


def content_of(arguments, campaign, task, model, results, more):
    """(arrays, attributes) of all replicas of a state, with more attributes."""
    arrays = {name: np.stack([result[name] for result in results]) for name in results[0]}
    for name in ("trajectory", "trajectory_box"):
        kept = arrays.pop(name)
        if kept.shape[1]:
            arrays[name] = kept.reshape(-1, *kept.shape[2:])
    topology = task.starts[0].topology
    arrays |= {"rdf_edges": _edges(model), **topology_arrays(topology)}
    phi = model.basis_sums(arrays["site_sums"], arrays["volume"], topology.n_molecules)
    theta = model.theta(task.state.temperature)
    arrays["term_energy"] = np.stack([phi[..., k] @ theta[k] for k in model.phi_slices], axis=-1)
    names = model.site_types
    attributes = {
        "state": task.state.id,
        "ensemble": task.ensemble,
        "temperature": float(task.state.temperature),
        "n_molecules": topology.n_molecules,
        "timestep": float(campaign.sample.timestep),
        "steps": int(_settings(campaign, arguments.predict)[0]),
        "pair_names": json.dumps([f"{names[a]}-{names[b]}" for a, b in type_pairs(len(names))]),
        "site_names": json.dumps(list(names)),
        "term_names": json.dumps([f"{term.kind} {term.name}" for term in model.terms]),
        **more,
    }
    if task.pressure_bar is not None:
        attributes["pressure_bar"] = float(task.pressure_bar)
    return arrays, attributes


def _arguments(argv):
    parser = argparse.ArgumentParser(prog="python -m remcg.sample", description=__doc__)
    parser.add_argument("--config", required=True, help="config of the campaign")
    parser.add_argument("--model", required=True, help="model.json")
    each = parser.add_argument_group("one for each state")
    each.add_argument("--state", nargs="+", required=True, help="id of the state")
    each.add_argument("--output", nargs="+", required=True, help="sample file to write")
    each.add_argument("--start", nargs="+", required=True, help="map or sample file to start from")
    each.add_argument("--volume-from", nargs="+", help="map file whose mean volume NVT takes")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--iteration", type=int, help="number of the iteration")
    kind.add_argument("--predict", action="store_true", help="long run with the final model")
    parser.add_argument("--batch", action="store_true", help="all states into one sample file")
    parser.add_argument("--plan", help="update.json: phase and restart")
    parser.add_argument("--ensemble", choices=["NVT", "NPT"], help="instead of the plan's phase")
    parser.add_argument("--launcher", help="what starts LAMMPS, such as 'srun -n 8'")
    return _complete(parser.parse_args(argv), parser)


def _complete(arguments, parser):
    """The arguments, with a file of each kind for each state.

    One sample file of a batch stands for the starts of all its states, one output for all of them.
    """
    n_states = len(arguments.state)
    arguments.volume_from = arguments.volume_from or [None] * n_states
    if arguments.batch:
        arguments.output = arguments.output * n_states
        if len(arguments.start) == 1:
            arguments.start = arguments.start * n_states
    for name in ("output", "start", "volume_from"):
        n_files = len(getattr(arguments, name))
        if n_files != n_states:
            option = f"--{name.replace('_', '-')}"
            parser.error(f"{option} names {n_files} files for {n_states} states; give one for each")
    return arguments


def _check_number(arguments, campaign):
    """Several states need exchange, and exchange needs several states."""
    names, n_states = ", ".join(arguments.state), len(arguments.state)
    if _exchanges(arguments, campaign) and n_states < 2:
        raise InputError(
            f"{names} alone has nothing to exchange with (sample.exchange_interval is"
            f" {campaign.sample.exchange_interval}); give all training states with --state, or set"
            " sample.exchange_interval to null"
        )
    if n_states > 1 and not arguments.batch and not _exchanges(arguments, campaign):
        raise InputError(
            f"{names} are sampled together only in an iteration with replica exchange or as a"
            " batch; set sample.exchange_interval, give --batch, or give one state"
        )


def _check_launch(arguments, campaign, ranks):
    """LAMMPS is started by one process, which belongs to no MPI run of several."""
    if _engine(arguments, campaign) == "lammps" and ranks.size > 1:
        raise InputError(
            f"engine: lammps starts MPI itself, but this is one of {ranks.size} ranks; start"
            " python -m remcg.sample without mpiexec or srun, and give these with --launcher"
        )


def main(argv=None):
    """Sample as the command line asks for; return the exit code."""
    arguments = _arguments(argv)
    ranks = parallel.Serial()
    try:
        ranks = parallel.world()
        from remcg.config import load

        campaign = load(arguments.config)
        launch_at_most(campaign.sample.threads)
        _check_number(arguments, campaign)
        _check_launch(arguments, campaign, ranks)
        output = Path(arguments.output[0])
        lock = output.with_name(f".{output.stem}.lock")
        is_first = ranks.rank == 0
        with checkpoint.locked(lock, log=_log) if is_first else nullcontext():
            ranks.barrier()
            with checkpoint.StopRequest() as stop:
                run_states(arguments, campaign, ranks, stop)
        return 0
    except (InputError, SamplingError) as error:
        print(f"remcg sample: {error}", file=sys.stderr, flush=True)
        if ranks.size > 1:
            time.sleep(TIME_TO_SAY)
        return _end(ranks, 1)
    except checkpoint.StopError as stopped:
        print(f"remcg sample: {stopped}; start it again to go on", file=sys.stderr, flush=True)
        if ranks.all_arrive(TIME_TO_SAVE):
            return STOPPED
        return _end(ranks, STOPPED)


def _end(ranks, code):
    """Exit code of this process; the other ranks, which may wait for this one, end too."""
    if ranks.size > 1:
        ranks.abort(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
