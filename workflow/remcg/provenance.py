"""Hashes of what a result was made from."""

import hashlib
import json
import platform
from importlib import metadata


def file_hash(path):
    """SHA-256 of a file's content."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def input_hashes(campaign):
    """Hashes of the training inputs and of the settings that shape the model.

    Files go by the names that the config gives them, so a moved checkout keeps its hashes; what
    only says how or how long to run (ranks, the limit of iterations) has no part in them.
    """
    settings = campaign.to_dict()
    names = {
        settings["system"]["topology"]: campaign.system.topology,
        settings["system"]["mapping"]: campaign.system.mapping,
    }
    states = [item for item in settings["states"] if item["use"] == "train"]
    for item, state in zip(states, campaign.training):
        names |= dict(zip(item["trajectory"], state.trajectory))
        if state.topology:
            names[item["topology"]] = state.topology
        if state.log:
            names[item["log"]] = state.log
    shaping = {
        "seed": settings["seed"],
        "model": settings["model"],
        "sample": _without(settings["sample"], "ranks", "states_per_job"),
        "rem": _without(settings["rem"], "max_iterations"),
        "states": [_without(item, "trajectory", "topology", "log", "use") for item in states],
    }
    text = json.dumps(shaping, sort_keys=True)
    return {
        "settings": hashlib.sha256(text.encode()).hexdigest(),
        **{name: file_hash(path) for name, path in names.items()},
    }


def _without(section, *names):
    return {key: value for key, value in section.items() if key not in names}


def provenance(campaign):
    """What the campaign was run with: versions, machine, config and hashes of all inputs."""
    packages = ("numpy", "scipy", "numba", "mdtraj", "openmm", "snakemake", "mpi4py", "pymbar")
    return {
        "remcg": metadata.version("remcg"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "packages": {name: metadata.version(name) for name in packages},
        "config": campaign.to_dict(),
        "inputs": input_hashes(campaign),
    }
