"""What changed since results were made, and whether a rerun would give the same bits."""

import os
import shlex
from pathlib import Path
from typing import NamedTuple

from remcg import __version__, config, provenance, strict_yaml
from remcg.compare import compare
from remcg.errors import InputError
from remcg.io import read_json
from remcg.model import Model

# These say how or how long to run, not what.
HARMLESS = ("rem.max_iterations", "sample.ranks", "sample.states_per_job")
MOST_ROWS = 20  # of one kind and status
MODEL = "model/model.json"
# What to run again for the files of a folder, where that is not the rule of its name.
RULES = {"rem": "guess", "backmap": "backmap backmap_mapped"}


class Row(NamedTuple):
    """One difference: "changed", "missing" or "new"; what kind of thing; its name; how it was."""

    status: str
    kind: str
    name: str
    detail: str = ""


def verify(results, config_path=None):
    """Compare results, and what they were made from, with their provenance.

    Parameters
    ----------
    results : path
        ``results/<campaign>``.
    config_path : path, optional
        Default: the config that the campaign was run with.

    Returns
    -------
    holds : bool
        Nothing changed and nothing is missing; what is new does no harm.
    text : str
        A table of the differences, and what a rerun on this machine would give.
    """
    results = Path(results)
    record, rows, counts = _compared(results, config_path)
    text = [_headline(results, record), "", *_table(rows)]
    text.append("unchanged: " + ", ".join(f"{n} {what}" for what, n in counts if n is not None))
    if command := remake(results, rows, config_path or find_config(results, record)):
        text += ["", f"Results that changed or are missing are made anew by: {command}"]
    text += ["", _forecast(record, rows)]
    return all((row.status, row.kind) == ("new", "output") for row in rows), "\n".join(text)


def rows_of(results, config_path=None):
    """All differences between results, with what they were made from, and their provenance."""
    return _compared(Path(results), config_path)[1]


def remake(results, rows, config_path):
    """The command that makes changed and missing results anew; empty where there are none.

    Without it nothing is done for a file from which others were made that are still there.
    """
    names = [row.name for row in rows if row.kind == "output" and row.status != "new"]
    if not names:
        return ""
    folders = dict.fromkeys(name.split("/")[0] if "/" in name else "report" for name in names)
    rules = " ".join(RULES.get(folder, folder) for folder in folders)
    name = shlex.quote(os.path.relpath(config_path, results.absolute().parents[1]))
    return f'make run CONFIG={name.replace("$", "$$")} ARGS="--forcerun {rules}"'


def _compared(results, config_path):
    """Record, rows, and how many things of each kind are unchanged."""
    record, inputs = _record(results)
    campaign = config.load(config_path or find_config(results, record), check_files=False)
    rows, n_inputs = _input_rows(campaign, record, inputs)
    rows += _setting_rows(campaign, record, rows)
    outputs, n_outputs = _output_rows(results, record)
    code, n_code = _code_rows(record)
    counts = (
        ("inputs and settings", n_inputs),
        ("outputs", n_outputs),
        ("files of the code", n_code),
    )
    return record, rows + outputs + code, counts


def finished_record(results):
    """Content of the provenance.json of a campaign that has run to its end."""
    _refuse_sweep(results)
    return read_json_of(
        results / "provenance.json", "give the folder of a campaign that has run to its end"
    )


def _refuse_sweep(results):
    variants = sorted(path.stem for path in (results / "sweep").glob("*.yaml"))
    if variants and not (results / MODEL).exists():
        names = ", ".join(f"{results}-{name}" for name in variants)
        raise InputError(f"{results}: is a sweep; name one of its variants: {names}")


def _record(results):
    """Content of provenance.json, and the hashes of the inputs that the model itself records."""
    _refuse_sweep(results)
    try:
        model = Model.read(results / MODEL)
    except OSError as error:
        raise InputError(
            f"{results / MODEL}: cannot be read ({error.strerror}); give the folder of a campaign "
            "that has run to its end"
        ) from error
    inputs = model.extra.get("inputs")
    if not inputs:
        raise InputError(f"{results}: its model.json records no inputs; run the campaign again")
    path = results / "provenance.json"
    return (read_json(path) if path.is_file() else {}), inputs


def find_config(results, record):
    """The config that the campaign was run with, or that in the repository with its name."""
    said = record.get("config_file")
    folder = results.absolute().parents[1]
    beside = Path(os.path.normpath(folder / said)) if said else None
    if beside is not None and beside.is_file():
        return beside
    for path in sorted((config.ROOT / "config").glob("*.yaml")):
        content = strict_yaml.read(path)
        if isinstance(content, dict) and content.get("campaign") == results.name:
            return path
    raise InputError(
        f"no file in {config.ROOT / 'config'} has campaign: {results.name}; name it with --config"
    )


def _input_rows(campaign, record, of_model):
    """Rows of the files that the campaign reads, and of the hash of the settings."""
    recorded = {**record.get("inputs", {}), **of_model}
    files = provenance.campaign_files(campaign)
    everything = record.get("format", 1) >= provenance.FORMAT
    current = {name: path for name, path in files.items() if everything or name in recorded}
    rows, same = [], 0
    try:
        settings = provenance.input_hashes(campaign)["settings"]
    except OSError:  # a training input is missing, which has a row of its own
        settings = recorded["settings"]
    if settings != recorded.get("settings"):
        rows.append(Row("changed", "setting", "settings", "has changed"))
    else:
        same += 1
    for name in sorted((recorded.keys() | current.keys()) - {"settings"}):
        if name not in current:
            rows.append(Row("missing", "input", name, "was an input but is not one now"))
        elif not current[name].is_file():
            rows.append(Row("missing", "input", name, f"there is no file {current[name]}"))
        elif name not in recorded:
            rows.append(Row("new", "input", name, "is an input now but was not then"))
        elif provenance.file_hash(current[name]) != recorded[name]:
            rows.append(Row("changed", "input", name, "has changed"))
        else:
            same += 1
    return rows, same


def _setting_rows(campaign, record, rows):
    """Keys of the config that differ; in place of the row of their hash, where there are any."""
    then, now = (_flat(item) for item in (record.get("config", {}), campaign.to_dict()))
    if not then:
        return []
    found = [
        Row("changed", "setting", key, f"was {_spoken(then, key)}, is {_spoken(now, key)}")
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key) and key not in HARMLESS and _was_known(key, then)
    ]
    if found:
        rows[:] = [row for row in rows if row.name != "settings"]
    return found


def _was_known(key, then):
    """Whether the version that wrote the record knew the key, or the key is in a list."""
    return key in then or "[" in key


def _flat(item, where=""):
    """{dotted key: value} of nested dicts and lists."""
    if isinstance(item, dict):
        parts = [(f"{where}.{key}" if where else str(key), value) for key, value in item.items()]
    elif isinstance(item, list) and any(isinstance(value, dict | list) for value in item):
        names = [_label(value, i) for i, value in enumerate(item)]
        parts = [(f"{where}[{name}]", value) for name, value in zip(names, item)]
    else:
        return {where: item}
    return {key: value for name, part in parts for key, value in _flat(part, name).items()}


def _label(item, number):
    return item.get("id", number) if isinstance(item, dict) else number


def _spoken(values, key):
    return values[key] if key in values else "not there"


def _output_rows(results, record):
    """Rows of the result files; None in place of a count where they were not recorded."""
    recorded = record.get("outputs")
    if not recorded:
        return [], None
    current = provenance.output_hashes(results)
    rows = []
    for name in sorted(recorded.keys() | current.keys()):
        if name not in current:
            rows.append(Row("missing", "output", name))
        elif name not in recorded:
            rows.append(Row("new", "output", name))
        elif recorded[name] != current[name]:
            rows.append(Row("changed", "output", name, "is not what the campaign wrote"))
    return rows, sum(current.get(name) == each for name, each in recorded.items())


def _code_rows(record):
    """Rows of version and code."""
    version = record.get("version", record.get("remcg"))
    rows = []
    if version not in (None, __version__):
        rows.append(Row("changed", "version", "remcg", f"was {version}, is {__version__}"))
    then = record.get("code", {}).get("files")
    if not then:
        return rows, None
    now = provenance.code_hashes()
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            status = "new" if name not in then else "changed" if name in now else "missing"
            rows.append(Row(status, "code", name))
    return rows, sum(now.get(name) == each for name, each in then.items())


def _headline(results, record):
    """Who made the results, where."""
    if record.get("format", 1) < provenance.FORMAT:
        return (
            f"{results}: not run to its end, or made by an earlier version; all that is known are "
            "the inputs of its model"
        )
    code = record["code"]
    commit = code.get("commit", "")[:10] or "unknown"
    if code.get("dirty"):
        commit += f" with {len(code['dirty'])} modified files"
    return (
        f"{results}: made by remcg {record['remcg']} (commit {commit}) on {record['host']} "
        f"({record['cpu']}), {record['written']}"
    )


def _table(rows):
    """Lines of the table, the longest lists shortened."""
    if not rows:
        return ["inputs, settings, results and version are unchanged"]
    shown, groups = [], {}
    for row in rows:
        groups.setdefault((row.status, row.kind), []).append(row)
    for (status, kind), group in groups.items():
        shown += group[:MOST_ROWS]
        if len(group) > MOST_ROWS:
            shown.append(Row(status, kind, f"and {len(group) - MOST_ROWS} more"))
    widths = [max(len(row[k]) for row in shown) for k in range(2)]
    lines = []
    for row in shown:
        name = f"{row.name}: {row.detail}" if row.detail else row.name
        lines.append(f"{row.status.ljust(widths[0])}  {row.kind.ljust(widths[1])}  {name}")
    return lines


def _cpus(record):
    """{key: model} of the processors that jobs ran on."""
    stages = record.get("jobs", {}).values()
    found = {key: name for stage in stages for key, name in stage["cpus"].items()}
    return found or {record["cpu_key"]: record["cpu"]}


def differences(record, now):
    """Why two runs could differ in their last bits, as a list.

    Nothing differs where processor, lock file, packages, Python and C library are the same.

    Parameters
    ----------
    record, now : dict
        Content of a provenance.json, or of this machine (:func:`remcg.provenance.environment`).
    """
    found = []
    cpus, here = _cpus(record), _cpus(now)
    if set(cpus) != set(here) or len(here) > 1:
        names, others = (" and ".join(sorted(set(each.values()))) for each in (cpus, here))
        others = f"{names} with other features" if names == others else others
        found.append(f"the processor was {names}, now {others}")
    if record["lock"] != now["lock"]:
        found.append("the lock file is another one")
    then, here = record["packages"], now["packages"]
    for name in sorted(then.keys() | here.keys()):
        if then.get(name) != here.get(name):
            found.append(f"{name} was {then.get(name, 'absent')}, is {here.get(name, 'absent')}")
    for name, spoken in (("python", "Python"), ("libc", "the C library")):
        if record[name] != now[name]:
            found.append(f"{spoken} was {record[name]}, is {now[name]}")
    return found


def _forecast(record, rows):
    """What a rerun on this machine would give, and why."""
    if record.get("format", 1) < provenance.FORMAT:
        return "Whether a rerun gives the same bits is not known: the machine was not recorded."
    if any(row.kind in ("input", "setting") for row in rows):
        return "A rerun gives other results: inputs or settings are not the same (see above)."
    found = differences(record, provenance.environment())
    n_code = sum(row.kind in ("code", "version") for row in rows)
    if n_code:
        found.append(f"the code differs in {n_code} places (see above)")
    if not found:
        return (
            "A rerun on this machine gives the same bits: the processor, the lock file and the "
            "installed packages, Python, the C library and the code are the same."
        )
    return (
        "A rerun on this machine agrees within error bars, but perhaps not to the last bit: "
        + "; ".join(found)
        + "."
    )


def compare_with_original(results, original):
    """Compare a rerun with the results that an archive carries.

    Parameters
    ----------
    results : path
        ``results/<campaign>`` of the rerun.
    original : path
        Folder with ``provenance.json`` and ``model.json`` of the first run.

    Returns
    -------
    agrees : bool
        The same bits where they are to be expected, else within error bars.
    text : str
    """
    results, original = Path(results), Path(original)
    record = read_json_of(
        original / "provenance.json", "give the folder 'original' of an unpacked archive"
    )
    rerun = finished_record(results)
    agrees, said = compare(results / MODEL, original / "model.json")
    expected = differences(record, rerun)
    for what, here, there in (
        ("inputs or settings", rerun["inputs"], record["inputs"]),
        ("files of the code", rerun["code"]["files"], record["code"]["files"]),
    ):
        if here != there:
            expected.append(f"{what} are not the same")
    then, now = record["outputs"], provenance.output_hashes(results)
    same = sum(now.get(name) == each for name, each in then.items())
    lines = [
        f"{results / MODEL} and that of the original: {said}",
        f"{same} of {len(then)} files of the original are the same to the last bit",
    ]
    is_identical = (results / MODEL).read_bytes() == (original / "model.json").read_bytes()
    if expected:
        lines.append("the same bits are not promised here: " + "; ".join(expected))
    else:
        lines.append("the same bits are promised here: processor, lock file and packages are alike")
        agrees = agrees and is_identical
    return agrees, "\n".join(lines)


def read_json_of(path, advice):
    """Content of a provenance.json with everything in it."""
    if not path.is_file():
        raise InputError(f"{path} is missing; {advice}")
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format", 1) < provenance.FORMAT:
        raise InputError(f"{path}: was written by an earlier version; run its campaign again")
    return record
