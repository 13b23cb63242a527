"""Sampling of the CG model at one state: ``mpiexec -n 2 python -m remcg.sample ...``.

Replicas are distributed over the ranks; each has a random stream of its own, so the samples do not
depend on the number of ranks. A run that was stopped goes on from its checkpoints.
"""

import argparse
import json
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from remcg import boxes, checkpoint, equilibration, parallel
from remcg.engine.kernels import type_pairs
from remcg.engine.replica import Replica, Start
from remcg.errors import InputError, SamplingError
from remcg.io import read_json, write_h5
from remcg.model import Model
from remcg.pairs import rdf_edges
from remcg.topology import Topology

SAVE_EVERY = 30.0  # s
REPORT_EVERY = 10.0  # s
TIME_TO_SAVE = 2.0  # s that a stopped rank leaves to the others
BONDED = ("molecule", "bonds", "angles", "dihedrals")
LEAST_KEPT = 10  # configurations of a predicted replica


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
        n_pairs, n_bins); positions, velocities, box: final; trajectory, trajectory_box: kept.
    """
    replica = Replica(model, start, temperature, pressure_bar, **settings)
    run(replica, checkpoint_path, stop)
    return replica.result()


def run(replica, checkpoint_path=None, stop=False):
    """Run a replica to its end, from its checkpoint if there is one.

    What a failed run has sampled goes to a file of its own: its checkpoint stays the last good one.
    """
    saved = checkpoint_path and checkpoint.load(checkpoint_path, replica.key, _log)
    if saved:
        replica.restore(*saved)
        _log(f"{replica.label}: goes on from step {replica.step} of its checkpoint")
    last_save = last_report = time.monotonic()
    try:
        while not replica.is_done:
            replica.run_chunk()
            now = time.monotonic()
            if now - last_report > REPORT_EVERY:
                _log(replica.progress())
                last_report = now
            if stop:
                raise checkpoint.StopError(f"{replica.label}: stopped at step {replica.step}")
            if now - last_save > SAVE_EVERY:
                _save(replica, checkpoint_path)
                last_save = now
    except SamplingError as error:
        if not checkpoint_path:
            raise
        failed = failed_path(checkpoint_path)
        _save(replica, failed)
        raise SamplingError(f"{error}; what was sampled until then is in {failed}") from None
    except BaseException:
        _save(replica, checkpoint_path)
        raise
    _save(replica, checkpoint_path)
    _log(replica.progress())


def failed_path(checkpoint_path):
    """Where the samples of a failed run are kept."""
    path = Path(checkpoint_path)
    return path.with_name(path.name.replace(".checkpoint", "").removesuffix(".h5") + ".failed.h5")


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
    with h5py.File(path, "r") as file:
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


def starts_of(arguments, plan, ensemble, n_replicas):
    """Starts of all replicas, in NVT at the reference volume of the state."""
    reference = arguments.volume_from and read_source(arguments.volume_from, n_replicas)
    source = read_source(arguments.start, n_replicas)
    if plan.get("restart") == "reference" and not source.is_reference:
        if not reference:
            raise InputError(
                f"{arguments.plan} asks to restart from the reference, but {arguments.start} is a"
                " sample file; give the map file of the state with --start or --volume-from"
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
            f"an NVT run needs the reference volume of {arguments.state}, which the sample file"
            f" {arguments.start} does not tell; give the map file with --volume-from"
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
        return chosen.steps, chosen.equilibration, chosen.replicas, 0
    predict = campaign.predict
    replicas = predict.replicas or chosen.replicas
    keep = max(LEAST_KEPT, 2 * -(-campaign.backmap.frames // replicas))  # equilibration is cut
    return predict.steps, predict.equilibration, replicas, keep


def run_state(arguments, campaign, ranks, stop):
    """Sample one state with all ranks; rank 0 writes the sample file."""
    state = next((item for item in campaign.states if item.id == arguments.state), None)
    if state is None:
        names = ", ".join(item.id for item in campaign.states)
        raise InputError(f"no state {arguments.state} in {arguments.config}; it has {names}")
    plan = read_json(arguments.plan) if arguments.plan else {}
    ensemble = choose_ensemble(state, plan, arguments.ensemble, arguments.predict)
    steps, equilibration, n_replicas, keep = _settings(campaign, arguments.predict)
    model = Model.read(arguments.model)
    starts = starts_of(arguments, plan, ensemble, n_replicas)
    edges = rdf_edges(max((term.basis.r_cut for term in model.pair_terms), default=0.0))
    iteration = "predict" if arguments.predict else arguments.iteration
    results, seconds, paths = {}, 0.0, checkpoint_paths(arguments.output, n_replicas)
    _log(f"{state.id}: {ensemble}, rank {ranks.rank} of {ranks.size}, {n_replicas} replicas")
    for i in parallel.share(n_replicas, ranks):
        replica = Replica(
            model,
            starts[i],
            state.temperature,
            state.pressure if ensemble == "NPT" else None,
            n_steps=steps,
            n_equilibration=equilibration,
            timestep=campaign.sample.timestep,
            friction=campaign.sample.friction,
            barostat_interval=campaign.sample.barostat_interval,
            sample_interval=campaign.sample.sample_interval,
            seed_key=(campaign.seed, campaign.campaign, state.id, iteration, i),
            rdf_edges=edges,
            keep=keep,
            label=f"state {state.id}, replica {i}",
        )
        run(replica, paths[i], stop)
        results[i] = replica.result()
        seconds += replica.seconds
    gathered = ranks.gather((results, seconds))
    if ranks.rank == 0:
        results = {i: result for part, _ in gathered for i, result in part.items()}
        write_samples(arguments, campaign, state, ensemble, model, starts[0], edges, results, steps)
        for path in paths:
            path.unlink(missing_ok=True)
            failed_path(path).unlink(missing_ok=True)
        _log(f"busy_core_seconds {sum(busy for _, busy in gathered):.3f}")


def checkpoint_paths(output, n_replicas):
    """Checkpoint file of each replica: hidden, beside the output."""
    output = Path(output)
    return [
        output.with_name(f".{output.stem}.replica-{i}.checkpoint.h5") for i in range(n_replicas)
    ]


def write_samples(arguments, campaign, state, ensemble, model, start, edges, results, steps):
    """Write the sample file of all replicas."""
    results, n_discarded = equilibration.cut([results[i] for i in sorted(results)], _log)
    arrays = {name: np.stack([result[name] for result in results]) for name in results[0]}
    for name in ("trajectory", "trajectory_box"):
        kept = arrays.pop(name)
        if arguments.predict:
            arrays[name] = kept.reshape(-1, *kept.shape[2:])
    topology = start.topology
    arrays |= {"rdf_edges": edges, **topology_arrays(topology)}
    names = model.site_types
    attributes = {
        "state": state.id,
        "ensemble": ensemble,
        "temperature": float(state.temperature),
        "n_molecules": topology.n_molecules,
        "n_discarded": n_discarded,
        "timestep": float(campaign.sample.timestep),
        "steps": int(steps),
        "pair_names": json.dumps([f"{names[a]}-{names[b]}" for a, b in type_pairs(len(names))]),
        "site_names": json.dumps(list(names)),
    }
    if ensemble == "NPT":
        attributes["pressure_bar"] = float(state.pressure)
    write_h5(arguments.output, arrays, attributes)


def _arguments(argv):
    parser = argparse.ArgumentParser(prog="python -m remcg.sample", description=__doc__)
    parser.add_argument("--config", required=True, help="config of the campaign")
    parser.add_argument("--state", required=True, help="id of the state")
    parser.add_argument("--model", required=True, help="model.json")
    parser.add_argument("--output", required=True, help="sample file to write")
    parser.add_argument("--start", required=True, help="map file or sample file to start from")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--iteration", type=int, help="number of the iteration")
    kind.add_argument("--predict", action="store_true", help="long run with the final model")
    parser.add_argument("--plan", help="update.json: phase and restart")
    parser.add_argument("--volume-from", help="map file whose mean volume an NVT run takes")
    parser.add_argument("--ensemble", choices=["NVT", "NPT"], help="instead of the plan's phase")
    return parser.parse_args(argv)


def main(argv=None):
    arguments = _arguments(argv)
    ranks = parallel.Serial()
    try:
        ranks = parallel.world()
        from remcg.config import load

        campaign = load(arguments.config)
        output = Path(arguments.output)
        lock = output.with_name(f".{output.stem}.lock")
        is_first = ranks.rank == 0
        with checkpoint.locked(lock, log=_log) if is_first else nullcontext():
            ranks.barrier()
            with checkpoint.StopRequest() as stop:
                run_state(arguments, campaign, ranks, stop)
        return 0
    except (InputError, SamplingError) as error:
        print(f"remcg sample: {error}", file=sys.stderr, flush=True)
        return _end(ranks, 1)
    except checkpoint.StopError as stopped:
        print(f"remcg sample: {stopped}; start it again to go on", file=sys.stderr, flush=True)
        if ranks.size > 1:
            time.sleep(TIME_TO_SAVE)
        return _end(ranks, 143)


def _end(ranks, code):
    """Exit code of this process; the other ranks, which may wait for this one, end too."""
    if ranks.size > 1:
        ranks.abort(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
