"""Hashes of what a result was made from."""

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path


def file_hash(path):
    """SHA-256 of a file's content."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def input_hashes(campaign):
    """Hashes of the training inputs and of the settings that shape the model.

    Keys are file names without folders, so that a moved campaign keeps its hashes.
    """
    files = [campaign.system.topology, campaign.system.mapping]
    for state in campaign.training:
        files += [*state.trajectory, *([state.log] if state.log else [])]
    settings = campaign.to_dict()
    shaping = {key: settings[key] for key in ("seed", "model", "sample", "rem")}
    shaping["states"] = [
        {key: state[key] for key in ("id", "temperature", "pressure", "weight")}
        for state in settings["states"]
        if state["use"] == "train"
    ]
    text = json.dumps(shaping, sort_keys=True)
    return {
        "settings": hashlib.sha256(text.encode()).hexdigest(),
        **{Path(path).name: file_hash(path) for path in files},
    }


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
