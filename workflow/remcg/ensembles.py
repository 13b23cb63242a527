"""From the files of a campaign to the arrays that the guess and the optimiser work on."""

import json

import numpy as np

from remcg import optimize
from remcg.guess import BondedTarget, StateTarget
from remcg.io import read_h5, write_h5
from remcg.uncertainty import virial_pressure_slopes
from remcg.units import BAR

ARRAYS = ("parameters", "gradient", "metric", "noise", "reference_noise", "batch_lengths")
SCALARS = ("n_batches", "stage", "full_step_kl", "passed")


def internal_pressure(state):
    """Set pressure in kJ/mol/nm^3, or None for a canonical state."""
    return None if state.pressure is None else state.pressure * BAR


def read_state_target(path, state):
    """What the guess needs of one state's target file."""
    arrays, attributes = read_h5(path)
    names = json.loads(attributes["pair_names"])
    return StateTarget(
        temperature=state.temperature,
        pressure=internal_pressure(state),
        volume=float(arrays["volume"].mean()),
        n_frames=len(arrays["volume"]),
        n_molecules=int(attributes["n_molecules"]),
        type_counts=json.loads(attributes["type_counts"]),
        edges=arrays["rdf_fine_edges"],
        rdf=dict(zip(names, arrays["rdf_fine"])),
        bonded=read_bonded(arrays, attributes),
    )


def read_bonded(arrays, attributes):
    """Bonded distributions of a target file, by "bond A-B" and alike, as BondedTarget."""
    found = {}
    for key, n_groups in json.loads(attributes.get("bonded", "{}")).items():
        name = "bonded_" + key.replace(" ", "_", 1)
        blocks = arrays[f"{name}_blocks"]
        found[key] = BondedTarget(arrays[f"{name}_edges"], blocks.mean(axis=0), n_groups)
    return found


def read_training_data(model, states, targets, samples):
    """Reference and model ensembles of the training states.

    Parameters
    ----------
    model : Model
    states : sequence of State
    targets, samples : sequence of path
        Target and sample files in the order of ``states``.

    Returns
    -------
    list of remcg.optimize.StateData
    """
    read_targets = [read_h5(path) for path in targets]
    counts = [int(attributes["n_molecules"]) for _, attributes in read_targets]
    weights = optimize.weights(states, counts)
    return [
        _state_data(model, state, weight, reference, read_h5(path))
        for state, weight, reference, path in zip(states, weights, read_targets, samples)
    ]


def _state_data(model, state, weight, target, sample):
    (reference, attributes), (arrays, _) = target, sample
    n = int(attributes["n_molecules"])
    return optimize.StateData(
        name=state.id,
        temperature=state.temperature,
        pressure=internal_pressure(state),
        weight=float(weight),
        n_molecules=n,
        reference_phi=model.basis_sums(reference["site_sums"], reference["volume"], n)[None],
        reference_volume=reference["volume"][None],
        phi=model.basis_sums(arrays["site_sums"], arrays["volume"], n),
        volume=arrays["volume"],
        pressure_samples=arrays["pressure"],
        pressure_slopes=virial_pressure_slopes(
            model,
            arrays["rdf_edges"],
            arrays["rdf_blocks"].mean(axis=(0, 1)),
            arrays["volume"].mean(),
            json.loads(attributes["type_counts"]),
            mean_levers(arrays),
        ),
        composition=tuple(sorted(json.loads(attributes["type_counts"]).items())),
    )


def mean_levers(arrays):
    """Levers of a sample file, mean over its replicas, or None where every site is a molecule."""
    return arrays["levers"].mean(axis=0) if "levers" in arrays else None


def write_observation(path, observation):
    """Write what an iteration saw, an ``optimize.Observation``, as ``record.h5``."""
    arrays = {name: getattr(observation, name) for name in ARRAYS}
    for k, (phi, volume) in enumerate(zip(observation.phi, observation.volume)):
        arrays |= {f"phi_{k}": phi, f"volume_{k}": volume}
    write_h5(path, arrays, {name: getattr(observation, name) for name in SCALARS})


def read_observation(path):
    """The ``optimize.Observation`` of a ``record.h5``."""
    arrays, scalars = read_h5(path)
    n_states = len(arrays["batch_lengths"])
    return optimize.Observation(
        **{name: arrays[name] for name in ARRAYS},
        n_batches=int(scalars["n_batches"]),
        stage=str(scalars["stage"]),
        full_step_kl=float(scalars["full_step_kl"]),
        passed=bool(scalars["passed"]),
        phi=tuple(arrays[f"phi_{k}"] for k in range(n_states)),
        volume=tuple(arrays[f"volume_{k}"] for k in range(n_states)),
    )


def rdf_rmse(target_path, sample_path):
    """Root mean square deviation of the iteration's RDFs, over all pairs, for the progress plot."""
    reference = read_h5(target_path)[0]["rdf_blocks"].mean(axis=0)
    model = read_h5(sample_path)[0]["rdf_blocks"].mean(axis=(0, 1))
    onset = np.argmax(reference > 0.01, axis=1)
    return float(
        np.sqrt(np.mean([np.mean((m - r)[i:] ** 2) for r, m, i in zip(reference, model, onset)]))
    )
