"""What results were made from, with and where: hashes, versions, machines, times."""

import hashlib
import json
import os
import platform
import re
import subprocess
import time
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path

FORMAT = 2
ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the Snakefile
LOCK = ROOT / "envs" / "requirements.lock"
REVISION = "REVISION.json"  # beside the Snakefile where the code is not a git checkout
CODE = ("Snakefile", "rules/*.smk", "scripts/*.py", "workflow/remcg/**/*.py")
LATER = ("provenance.json", "workflow.html")  # written after it
STREAMS = "derived from seed, campaign, state, iteration and replica"
MACHINE = "machine "  # begins the line of a log that says where the job ran
_MACHINES = re.compile(MACHINE + r"(\{[^{}]*\})")


def file_hash(path):
    """SHA-256 of a file's content."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bytes_hash(content):
    """SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


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
        "sample": _without(settings["sample"], "ranks", "states_per_job", "lammps"),
        **_engine(campaign),
        "rem": _without(settings["rem"], "max_iterations"),
        "states": [
            _without(item, "trajectory", "topology", "log", "dynamics", "use") for item in states
        ],
    }
    text = json.dumps(shaping, sort_keys=True)
    return {
        "settings": hashlib.sha256(text.encode()).hexdigest(),
        **{name: file_hash(path) for name, path in names.items()},
    }


def _engine(campaign):
    """What LAMMPS does in its own way, where it samples; not where its program lies."""
    lammps = campaign.sample.engine == "lammps"
    return {"barostat_time": campaign.sample.lammps.barostat_time} if lammps else {}


def _without(section, *names):
    return {key: value for key, value in section.items() if key not in names}


def campaign_files(campaign):
    """{name in the config: path} of all files that a campaign reads.

    Topologies, mapping, trajectories, logs, force fields, templates, and what those include; of
    folders of includes every file.
    """
    found = dict(_paths(campaign, campaign.to_dict()))
    files = {}
    for name, path in found.items():
        if path.is_dir():
            below = [each for each in sorted(path.rglob("*")) if each.is_file()]
            files |= {f"{name}/{each.relative_to(path).as_posix()}": each for each in below}
        else:
            files[name] = path
    folders = [path for path in found.values() if path.is_dir()]
    for name, path in list(files.items()):
        files |= _included(name, path, folders, set(files.values()))
    return files


def _paths(item, plain):
    """(name, path) of every path in nested dataclasses and their plain content."""
    if isinstance(item, Path):
        yield plain, item
    elif is_dataclass(item):
        for each in fields(item):
            if each.name in plain:  # a sweep, and where the config came from, are not
                yield from _paths(getattr(item, each.name), plain[each.name])
    elif isinstance(item, dict):
        for key, value in item.items():
            yield from _paths(value, plain[key])
    elif isinstance(item, list | tuple):
        for value, text in zip(item, plain):
            yield from _paths(value, text)


def _included(name, path, folders, known):
    """Files that a GROMACS topology includes, from its own folder."""
    if path.suffix not in (".top", ".itp") or not path.is_file():
        return {}
    found = {}
    for word in re.findall(r'^\s*#include\s+"([^"]+)"', path.read_text(errors="replace"), re.M):
        inside = Path(os.path.normpath(path.parent / word))
        if inside.is_file() and inside not in known:
            label = (Path(name).parent / word).as_posix()
            found |= {label: inside, **_included(label, inside, folders, known | {inside})}
    return found


def revision():
    """Commit and modified files of the code, as far as git or an archive tells."""
    record = ROOT / REVISION
    if record.is_file():
        return json.loads(record.read_text(encoding="utf-8"))
    try:
        if Path(_git("rev-parse", "--show-toplevel").strip()).resolve() != ROOT:
            return {}
        lines = _git("status", "--porcelain", "--untracked-files=no").splitlines()
        return {"commit": _git("rev-parse", "HEAD").strip(), "dirty": [x[3:] for x in lines]}
    except (OSError, subprocess.CalledProcessError):
        return {}


def _git(*arguments):
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def code_hashes():
    """Hashes of the library, the scripts and the rules, by their names."""
    paths = [path for pattern in CODE for path in sorted(ROOT.glob(pattern))]
    return {path.relative_to(ROOT).as_posix(): file_hash(path) for path in paths}


def locked_versions():
    """{package: version} of the lock file."""
    if not LOCK.is_file():
        return {}
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK.read_text(), re.M))


def installed_versions():
    """{package: version} of what the lock file names and this Python has."""
    found = {}
    for name in locked_versions():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu():
    """Model of the processor, and a key that also stands for its features."""
    from remcg import _cpu

    text = _cpu()
    model = re.search(r"^model name\s*:\s*(.*?)(?:flags|Features|$)", text)
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    return {"cpu": model[1].strip() if model else platform.machine(), "cpu_key": key}


def machine_line():
    """Line of a log that says on what machine a job ran."""
    return MACHINE + json.dumps({"host": platform.node(), **cpu()}, sort_keys=True)


def environment():
    """What decides, beside inputs and settings, whether a rerun gives the same bits."""
    return {
        **cpu(),
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "lock": file_hash(LOCK) if LOCK.is_file() else "",
        "packages": installed_versions(),
    }


def jobs(logs):
    """Per stage: jobs, and where they ran, from their logs; ranks are processes of one job.

    Parameters
    ----------
    logs : path
        ``logs/<campaign>``.
    """
    found = {}
    for path in sorted(Path(logs).glob("*/**/*.log")):
        found_in = _MACHINES.findall(path.read_text(errors="replace"))  # ranks may share a line
        machines = [item for item in map(_parsed, found_in) if item]
        if not machines:
            continue
        stage = found.setdefault(
            path.relative_to(logs).parts[0], {"jobs": 0, "ranks": 0, "hosts": [], "cpus": {}}
        )
        stage["jobs"] += 1
        stage["ranks"] = max(stage["ranks"], len(machines))
        stage["hosts"] = sorted({*stage["hosts"], *(item["host"] for item in machines)})
        stage["cpus"] |= {item["cpu_key"]: item["cpu"] for item in machines}
    return found


def _parsed(text):
    try:
        item = json.loads(text)
        return item if {"host", "cpu", "cpu_key"} <= item.keys() else None
    except ValueError:
        return None


def output_hashes(folder):
    """Hashes of all results that stand when the provenance is written, by their names."""
    folder = Path(folder)
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and name.as_posix() not in LATER:
            found[name.as_posix()] = file_hash(path)
    return found


def provenance(campaign, results=None, wall_s=None, config_file=None):
    """What the campaign was run with: versions, machines, config and hashes of all inputs.

    Parameters
    ----------
    campaign : remcg.config.Campaign
    results : path, optional
        ``results/<campaign>``, for the hashes of what is in it.
    wall_s : dict, optional
        Seconds per stage.
    config_file : path, optional
        Name of the config from the folder that the campaign was run in.
    """
    from remcg import parallel

    files = campaign_files(campaign)
    logs = Path("logs", campaign.campaign)
    return {
        "format": FORMAT,
        "campaign": campaign.campaign,
        "remcg": metadata.version("remcg"),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "host": platform.node(),
        "cores": os.cpu_count(),
        "mpi": parallel.library(),
        **environment(),
        "code": {**revision(), "files": code_hashes()},
        "seeds": {"seed": campaign.seed, "streams": STREAMS},
        "ranks": campaign.sample.ranks,
        "threads": campaign.sample.threads,
        "jobs": jobs(logs),
        "wall_s": wall_s or {},
        "config_file": str(config_file or ""),
        "config": campaign.to_dict(),
        "inputs": {
            **input_hashes(campaign),
            **{name: file_hash(path) for name, path in files.items() if path.is_file()},
        },
        "outputs": output_hashes(results) if results else {},
    }
