"""Variants of a campaign that differ in model choices: run side by side, compared in one table.

A variant is a campaign of its own, ``<campaign>-<variant>``, whose config is written to
``results/<campaign>/sweep/<variant>.yaml``. What variants have in common (maps; targets where the
terms are the same) is made once, by one of them, and the others name it in ``share``.
"""

import contextlib
import csv
import io
import json
import math
import re
import signal
import subprocess
import sys
import threading
from itertools import product
from pathlib import Path

import yaml

from remcg import config, launch, strict_yaml
from remcg.errors import InputError
from remcg.io import write_text
from remcg.typed import suggestion

FIXED = ("campaign", "source", "sweep", "share")
MOST_VARIANTS = 1000
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")


def changes_of(campaign):
    """Name of each variant to its changes: keys with dots to values.

    Those that are listed come first, then a grid of all combinations, then the lines of a table.
    """
    found = {}
    for name, changes in campaign.sweep.variants.items():
        _add(found, name, changes, "sweep.variants")
    grid = {str(key): values for key, values in (campaign.sweep.grid or {}).items()}
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"sweep.grid.{key}: found {values!r}; give a list of values")
    if grid:
        count = math.prod(map(len, grid.values()))
        if count > MOST_VARIANTS:
            raise InputError(
                f"sweep.grid: has {count} combinations; {MOST_VARIANTS} are allowed: give fewer"
                " values"
            )
        for values in product(*grid.values()):
            changes = dict(zip(grid, values))
            name = "_".join(_label(key, value) for key, value in changes.items())
            _add(found, name, changes, "sweep.grid")
    if campaign.sweep.table:
        path = config.find_file(campaign.sweep.table, "sweep.table", campaign.source)
        for name, changes in _read_table(path):
            _add(found, name, changes, str(path))
    return found


def _add(found, name, changes, where):
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise InputError(
            f"{where}: '{name}' cannot name a variant; use letters, digits, '_', '.' and '-'"
        )
    if name.lower() in {other.lower() for other in found}:
        raise InputError(f"{where}: two variants are called {name}; give each its own name")
    same = next((other for other in found if found[other] == changes), None)
    if same is not None:
        raise InputError(f"{where}: {name} and {same} are the same; leave one of them out")
    found[name] = changes


def _label(key, value):
    """The last word of a key and its value, as far as they can be in a file name."""
    text = json.dumps(value) if isinstance(value, list | dict) else str(value)
    return f"{key.split('.')[-1]}-{_UNFIT.sub('', text) or 'none'}"


def _read_table(path):
    """(name, changes) of every line of a TSV; an empty cell changes nothing."""
    (at, header), *lines = _cells(path)
    for column in header:
        if not column or header.count(column) > 1:
            raise InputError(
                f"{path}, line {at}: the column '{column}' has no name or one that another has;"
                " give each its own"
            )
    if len(header) == 1 and re.search("[,;]", header[0]):
        raise InputError(f"{path}: has no tabs; separate its columns by tabs")
    if "variant" not in header:
        raise InputError(f"{path}: has no column 'variant'; add it, with a name in each line")
    for number, cells in lines:
        if len(cells) > len(header):
            raise InputError(
                f"{path}, line {number}: has {len(cells)} cells, but there are {len(header)}"
                " columns; separate cells by one tab each"
            )
        line = dict(zip(header, cells))
        name, where = line.pop("variant", ""), f"{path}, line {number}"
        filled = {key: text for key, text in line.items() if text}
        yield name, {key: strict_yaml.value(text, where) for key, text in filled.items()}


def _cells(path):
    """(number, cells) of every line of a TSV that is not blank, without blank cells at its end."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, delimiter="\t", strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a text file in UTF-8; save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path}: is not a table with tabs ({error}); correct it") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    for _, cells in lines:
        while cells and not cells[-1]:
            cells.pop()
    lines = [(number, cells) for number, cells in lines if cells]
    if not lines:
        raise InputError(f"{path}: is empty; give a line of names, then one per variant")
    return lines


def content_of(campaign, name, changes):
    """The config of a variant, as plain values; files by their absolute names.

    Raises
    ------
    InputError
        For a key that does not exist, with the one nearest to it, and for what is not allowed.
    """
    content = campaign.to_config()
    del content["share"]
    for key, value in changes.items():
        _set(content, key, value, name)
    content["campaign"] = f"{campaign.campaign}-{name}"
    content = _checked(content, campaign, name, check_files=False).to_config()
    del content["share"]
    return content


def _checked(content, campaign, name, check_files=True):
    """The variant, its files beside those of the campaign; a mistake is told with its name."""
    try:
        return config.from_content(content, campaign.source, check_files)
    except InputError as error:
        raise InputError(f"sweep: {name}: {error}") from error


def _set(content, key, value, name):
    """Set what a key with dots names; items of a list go by number, states by id as well."""
    *parents, last = str(key).split(".")
    if str(key).split(".")[0] in FIXED:
        raise InputError(f"sweep: {name}: {key} cannot be varied; leave it out")
    place = content
    for word in parents:
        place = place[_step(place, word, key, name)]
    place[_step(place, last, key, name)] = value


def _step(place, word, key, name):
    if isinstance(place, list):
        ids = {
            item["id"]: i for i, item in enumerate(place) if isinstance(item, dict) and "id" in item
        }
        if word in ids:
            return ids[word]
        if word.isdecimal() and len(word) < 10 and int(word) < len(place):
            return int(word)
        allowed = f"0 to {len(place) - 1}" + (f", or {', '.join(list(ids)[:5])}" if ids else "")
        raise InputError(f"sweep: {name}: '{word}' in {key} is none of the list: {allowed}")
    known = list(place) if isinstance(place, dict) else []
    if word not in known:
        advice = suggestion(word, known)
        allowed = f"allowed are {', '.join(known)}" if known else "it has no keys"
        raise InputError(f"sweep: {name}: unknown key '{word}' in {key}; {advice}{allowed}")
    return word


def prepare(campaign):
    """Write the configs of all variants; name to :class:`remcg.config.Campaign`.

    Configs that say the same are left alone: a newer one makes inputs be read again.
    """
    folder = Path("results", campaign.campaign, "sweep")
    contents, checked = _variants(campaign)
    maps = leaders(checked, map_key, lambda each: -max(t.r_cut for t in each.pair_terms))
    targets = leaders(checked, target_key)
    variants = {}
    for name, content in contents.items():
        share = {"maps": maps[name], "targets": targets[name]}
        share = {kind: contents[of]["campaign"] for kind, of in share.items() if of != name}
        path = folder / f"{name}.yaml"
        _write_if_new(path, {**content, **({"share": share} if share else {})}, campaign)
        variants[name] = config.load(path, check_files=False)
    return variants


def _variants(campaign):
    """Name of each variant to its config as plain values, and to its campaign."""
    contents = {
        name: content_of(campaign, name, changes) for name, changes in changes_of(campaign).items()
    }
    return contents, {name: _checked(each, campaign, name) for name, each in contents.items()}


def describe(campaign):
    """Lines that tell what each variant changes; nothing is written.

    Raises
    ------
    InputError
        For a variant that is not allowed.
    """
    _variants(campaign)
    for name, changes in changes_of(campaign).items():
        said = ", ".join(f"{key} {value}" for key, value in changes.items())
        yield f"{name}: {said or 'as it is'}"


def _write_if_new(path, content, campaign):
    text = f"# A variant of {campaign.source.name}, written by its sweep.\n"
    text += yaml.safe_dump(content, sort_keys=False)
    if not path.is_file() or path.read_text() != text:
        write_text(path, text)


def leaders(variants, key, order=lambda _: 0):
    """Name of each variant to the one that makes what all with the same key share."""
    groups = {}
    for name, each in variants.items():
        groups.setdefault(key(each), []).append(name)
    first = {group: min(names, key=lambda n: order(variants[n])) for group, names in groups.items()}
    return {name: first[key(each)] for name, each in variants.items()}


def map_key(campaign):
    """What a map depends on but the cut-off: the variant with the longest maps for all."""
    content = campaign.to_dict()
    states = [_without(state, "use", "weight") for state in content["states"]]
    terms = sorted(
        {f"{term.kind} {term.name}" for term in campaign.model.terms} - {"volume volume"}
    )
    forces = campaign.rem.method == "force_matching" and [
        [state.id for state in campaign.training],
        content["reference"]["cutoff"],
    ]
    system = content["system"]
    return json.dumps([system, states, sorted(campaign.exclude), terms, forces], sort_keys=True)


def target_key(campaign):
    """What basis and targets depend on: the map, the terms, and the states they are made for."""
    content = campaign.to_dict()
    weighs = bool(campaign.open_terms)
    uses = [[s.id, s.use, s.weight if weighs else None] for s in campaign.states]
    return json.dumps([map_key(campaign), content["model"], uses], sort_keys=True)


def _without(section, *names):
    return {key: value for key, value in section.items() if key not in names}


def shared_files(variants):
    """Campaign to the files that others have from it, in the order in which they are to be made."""
    maps = {each.share.maps for each in variants.values()} - {None}
    targets = {each.share.targets for each in variants.values()} - {None}
    found = {}
    by_campaign = {each.campaign: each for each in variants.values()}
    for name in sorted(maps | targets, key=lambda name: name not in maps):
        each, files = by_campaign[name], []
        if name in maps:
            files += [f"results/{name}/map/{state.id}.h5" for state in each.states]
        if name in targets:
            files += [f"results/{name}/basis/terms.json"]
            files += [f"results/{name}/target/{state.id}.h5" for state in each.states]
        found[name] = files
    return found


def run(campaign, cores, more=(), options=()):
    """Run all variants of a sweep and compare them; the exit code.

    Maps and targets that variants share are made first; then variants run side by side, as many as
    there are cores, each with its share of them. The same command goes on where it was stopped.

    Parameters
    ----------
    campaign : remcg.config.Campaign
        With a sweep.
    cores : int
    more : sequence of str
        Further arguments for Snakemake.
    options : sequence of str
        Further arguments for the launcher of each variant; jobs may then run elsewhere, and all
        variants run side by side.
    """
    variants = prepare(campaign)
    paths = {each.campaign: each.source for each in variants.values()}
    dry = launch.DRY.intersection(more)
    for name, files in shared_files(variants).items():
        print(f"\n{name}: what variants share", flush=True)
        given = ["--configfile", str(paths[name]), "--cores", str(cores), *options]
        code = launch.main([*given, "--", *dry, *files])
        if code or (dry and not all(Path(file).exists() for file in files)):
            return code  # variants can be planned once what they share is there
    codes = run_side_by_side(variants, cores, more, options)
    if not dry:
        from remcg.sweep_table import conclude

        conclude(campaign, variants, codes)
    return max((code if code >= 0 else 128 - code for code in codes.values()), default=0)


def run_side_by_side(variants, cores, more=(), options=()):
    """Variant to the exit code of its launcher; a signal to this process goes to all of them.

    A variant that was not started has no code.
    """
    waiting, running, codes = dict(variants), {}, {}
    most = max(each.sample.ranks * each.sample.threads for each in variants.values())
    n_beside = len(variants) if options else max(min(len(variants), cores // most), 1)
    with _handing_on(running, waiting):
        while waiting or running:
            while waiting and len(running) < n_beside:
                name = next(iter(waiting))
                share = ["--cores", str(max(cores // n_beside, 1)), *options]
                running[name] = _start(name, waiting.pop(name), share, more)
            for name, (process, reader) in list(running.items()):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    codes[name] = process.wait(0.2)
                    reader.join()
                    del running[name]
            if launch.INTERRUPTED in codes.values():
                waiting.clear()
    return codes


def _start(name, variant, options, more):
    command = [sys.executable, "-m", "remcg.launch", "--configfile", str(variant.source)]
    command += [*options, *(["--", *more] if more else [])]
    process = subprocess.Popen(command, start_new_session=True, **launch.PIPED)
    reader = threading.Thread(target=_show, args=(name, process.stdout), daemon=True)
    reader.start()
    return process, reader


def _show(name, stream):
    for line in stream:
        print(f"{name}: {line}", end="", flush=True)


@contextlib.contextmanager
def _handing_on(running, waiting):
    """Signals end the variants in an orderly way, each by its own launcher."""

    def hand_on(*_):
        waiting.clear()
        for process, _ in running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    earlier = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def table_text(columns, rows):
    """Rows (dictionaries) as TSV; what does not exist is an empty cell."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: spoken(value) for key, value in row.items() if key in columns})
    return stream.getvalue()


def spoken(value):
    """A value as tables and messages show it."""
    return f"{value:.6g}" if isinstance(value, float) else value
