"""A campaign as one file that another machine can run again: code, config, inputs, provenance."""

import gzip
import io
import json
import os
import posixpath
import shlex
import subprocess
import tarfile
import zipfile
from pathlib import Path

import yaml

from remcg import config, provenance, strict_yaml, verify
from remcg.errors import InputError
from remcg.io import replacing

ROOT = config.ROOT
TIME = (1980, 1, 1, 0, 0, 0)  # of every file in an archive, the first that ZIP knows
TIME_S = 315532800  # the same in seconds
ENDINGS = (".tar.gz", ".tgz", ".zip")
LEVEL = 6  # of compression
REFERENCES = "REFERENCES.sha256"
SUMS = "SHA256SUMS"
README = """# The campaign {campaign}

Written by `remcg archive`. `code/` is the revision of remcg that made the results (commit
{commit}{dirty}), with the reference data of this campaign only; `original/` are the model, the
summary and the provenance of the results.
{references}
To run it again (Linux, Python 3.11 to 3.13, make):

    cd {code}
    make run CONFIG={config}
    .venv/bin/remcg verify results/{campaign} --original {original}

The last command says whether the model has the same bits, which is to be expected with the same
type of processor and the same packages, or agrees within error bars. `sha256sum -c {sums}` in this
folder checks the files.
"""
MISSING = f"""
The reference trajectories and their logs are not in here. `{REFERENCES}` has their names and
hashes: put them there, and check them with `sha256sum -c {REFERENCES}` in this folder.
"""


def archive(results, output, config_path=None, references=True, dirty=False):
    """Write the archive of a campaign; the same campaign gives the same bytes.

    Parameters
    ----------
    results : path
        ``results/<campaign>``, run to its end.
    output : path
        Ending in .tar.gz, .tgz or .zip.
    config_path : path, optional
        Default: the config that the campaign was run with.
    references : bool
        Whether trajectories and logs go into the archive, or only their hashes.
    dirty : bool
        Whether code that is not committed may go into it, marked as such.

    Returns
    -------
    list of str
        Names of the files in the archive.

    Raises
    ------
    InputError
        If config, inputs or code are not what the results were made from.
    """
    results, output = Path(results), Path(output)
    if not output.name.endswith(ENDINGS):
        raise InputError(f"{output}: its name must end in {', '.join(ENDINGS)}")
    record = verify.finished_record(results)
    path = Path(os.path.abspath(config_path or verify.find_config(results, record)))
    campaign = config.load(path, check_files=references)
    held_back = set() if references else _reference_names(campaign)
    _check_unchanged(results, path, held_back)
    files, hashes = {}, {}
    code, place = _places(campaign, path)
    of_campaign = provenance.campaign_files(campaign)
    for name, source in of_campaign.items():
        at = _place(name, source, code, place)
        if name in held_back:
            hashes[at] = record["inputs"][name]
        else:
            _put(files, at, source)
    revision = {
        "commit": record["code"].get("commit", ""),
        "dirty": record["code"].get("dirty", []),
    }
    used = {posixpath.relpath(name, code) for name in (*files, *hashes)}
    for name, content in _code(record, dirty).items():
        if not name.startswith("resources/") or _is_kept(name, used):
            if f"{code}/{name}" not in hashes:
                files.setdefault(f"{code}/{name}", content)
    files[f"{code}/{provenance.REVISION}"] = _json(revision)
    files[place] = _portable(path).encode()
    for name in ("provenance.json", "summary.json", verify.MODEL):
        files[f"original/{posixpath.basename(name)}"] = results / name
    files["README.md"] = _readme(campaign.campaign, revision, code, place, bool(hashes)).encode()
    if hashes:
        files[REFERENCES] = _sums(hashes)
    files[SUMS] = _sums({name: _hash(content) for name, content in files.items()})
    top = output.name.removesuffix(next(e for e in ENDINGS if output.name.endswith(e)))
    with replacing(output) as temporary:
        write = _write_zip if output.suffix == ".zip" else _write_tar
        write(temporary, {f"{top}/{name}": files[name] for name in sorted(files)})
    return sorted(files)


def _reference_names(campaign):
    """Names of trajectories and logs, as the provenance has them."""
    names = set()
    for state in campaign.to_dict()["states"]:
        names |= {*state["trajectory"], *state["dynamics"]}
        names |= {state["log"]} if state["log"] else set()
    return names


def _check_unchanged(results, path, held_back):
    """Refuse to archive what is not what the results were made from."""
    rows = [
        row
        for row in verify.rows_of(results, path)
        if row.kind in ("input", "setting") or (row.kind == "output" and row.status != "new")
        if row.status != "missing" or row.name not in held_back
    ]
    if rows:
        command = verify.remake(results, rows, path)
        again = f"run {command}" if command else "run the campaign again"
        spoken = "; ".join(f"{row.kind} {row.name} ({row.status})" for row in rows[:5])
        raise InputError(
            f"{results}: is not what its provenance says: {spoken}"
            f"{' and more' if len(rows) > 5 else ''}; {again}, then archive it"
        )


def _places(campaign, path):
    """Folder of the code in the archive, and place of the config.

    Names of files outside of the checkout are relative to the config and may begin with ``..``;
    so many folders stand above the config that they lead to a place in the archive.
    """
    names = [name for name, source in provenance.campaign_files(campaign).items()
             if not source.is_relative_to(ROOT)]  # fmt: skip
    up = max((posixpath.normpath(name).split("/").count("..") for name in names), default=0)
    if not path.is_relative_to(ROOT):
        return "code", "/".join(["campaign", *["folder"] * up, path.name])
    inside = path.relative_to(ROOT)
    above = max(0, up - len(inside.parent.parts))
    code = "/".join([*["folder"] * above, "code"])
    return code, f"{code}/{inside.as_posix()}"


def _place(name, source, code, config_place):
    if source.is_relative_to(ROOT):
        return f"{code}/{source.relative_to(ROOT).as_posix()}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(config_place), name))


def _put(files, at, source):
    if files.get(at, source) != source:
        raise InputError(f"{files[at]} and {source} would both be {at} in the archive; move one")
    files[at] = source


def _is_kept(name, used):
    """Of the reference data, what the campaign reads and what explains it."""
    same_folder = {posixpath.dirname(each) for each in used}
    return name in used or (name.endswith(".md") and posixpath.dirname(name) in same_folder)


def _code(record, dirty):
    """{name: path or bytes} of the revision that made the results."""
    said = record["code"]
    commit, modified = said.get("commit"), said.get("dirty", [])
    if commit and not modified:
        try:
            content = _git("archive", "--format=tar", commit)
        except (OSError, subprocess.CalledProcessError) as error:
            raise InputError(
                f"git does not know the commit {commit} that made the results; archive them in the "
                "checkout that they were made in"
            ) from error
        with tarfile.open(fileobj=io.BytesIO(content)) as tree:
            files = {each.name: tree.extractfile(each).read() for each in tree if each.isfile()}
        if all(_hash(files.get(name, b"")) == each for name, each in said["files"].items()):
            return files
        modified = ["files that git does not know"]
    if not dirty:
        what = f"modified: {', '.join(modified[:5])}" if modified else "not in a git checkout"
        raise InputError(
            f"the code that made the results is not committed ({what}); commit it and run the "
            "campaign again, or archive the files as they are with --dirty"
        )
    if provenance.code_hashes() != said["files"]:
        raise InputError("the code has changed since the results were made; run the campaign again")
    try:
        names = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").decode()
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(
            f"{ROOT} is not a git checkout, so it is not known which files belong to the code; "
            "archive the campaign from one"
        ) from error
    paths = {name: ROOT / name for name in names.split("\0") if name}
    return {name: path for name, path in paths.items() if path.is_file()}


def _git(*arguments):
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def _portable(path):
    """Text of the config, with names relative to it in place of absolute ones.

    A variant of a sweep makes by itself what it had from another one, which is not in the archive.
    """
    strict_yaml.read(path)
    text = _without_section(path.read_text(encoding="utf-8"), "share")
    scalars = {
        node.start_mark.index: node for node in _scalars(yaml.compose(text, yaml.SafeLoader))
    }
    for start in sorted(scalars, reverse=True):
        node = scalars[start]
        if node.value.startswith(("/", "~")):
            source = Path(node.value).expanduser()
            outside = not path.is_relative_to(ROOT) and source.is_relative_to(ROOT)
            name = os.path.relpath(source, ROOT if outside else path.parent)
            quoted = json.dumps(name, ensure_ascii=False)
            text = text[:start] + quoted + text[node.end_mark.index :]
    return text


def _without_section(text, name):
    """YAML without one of its top-level keys."""
    for key, value in yaml.compose(text, yaml.SafeLoader).value:
        if key.value == name:
            return text[: key.start_mark.index] + text[value.end_mark.index :]
    return text


def _scalars(node):
    """Values of a YAML document, wherever they stand."""
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _scalars(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item)
    elif node is not None:
        yield node


def _readme(campaign, revision, code, place, is_incomplete):
    def quoted(name):
        return shlex.quote(posixpath.relpath(name, code)).replace("$", "$$")

    return README.format(
        campaign=campaign,
        commit=revision["commit"] or "unknown",
        dirty=f", {len(revision['dirty'])} files modified" if revision["dirty"] else "",
        references=MISSING if is_incomplete else "",
        code=code,
        config=quoted(place),
        original=quoted("original"),
        sums=SUMS,
    )


def _json(content):
    return (json.dumps(content, indent=1) + "\n").encode()


def _sums(hashes):
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode()


def _hash(content):
    if isinstance(content, bytes):
        return provenance.bytes_hash(content)
    return provenance.file_hash(content)


def _write_tar(path, files):
    with (
        open(path, "wb") as stream,
        gzip.GzipFile("", "wb", LEVEL, stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tree,
    ):
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.mtime, item.mode = TIME_S, _mode(name)
            with _opened(content) as file:
                item.size = file.seek(0, os.SEEK_END)
                file.seek(0)
                tree.addfile(item, file)


def _write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as tree:
        for name, content in files.items():
            item = zipfile.ZipInfo(name, TIME)
            item.compress_type, item.create_system = zipfile.ZIP_DEFLATED, 3
            item.external_attr = (0o100000 | _mode(name)) << 16
            with _opened(content) as file, tree.open(item, "w", force_zip64=True) as target:
                while block := file.read(1 << 20):
                    target.write(block)


def _mode(name):
    return 0o755 if name.endswith((".sh", ".ci/run")) else 0o644


def _opened(content):
    return io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb")
