"""A campaign with names that a shell or a page could mistake, archived and run again elsewhere."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import mdtraj
import pytest
import yaml

import tiny
from remcg import archive, cli, provenance
from remcg.errors import InputError
from remcg.io import read_json

pytestmark = pytest.mark.campaigns

NASTY = """it's "a" $(touch pwned) `touch pwned` <img src=x onerror=alert(1)> ü λ & ; # %s"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A campaign whose folder, config, mapping, topology and trajectories have a nasty name."""
    folder = tmp_path_factory.mktemp("campaign") / f"{NASTY} <script>alert(1) {{x}}"
    tiny.write_campaign(folder.parent / "plain", n_frames=30, **tiny.SHORTEST)
    (folder.parent / "plain").rename(folder)
    plain = folder / "config.yaml"
    content = yaml.safe_load(plain.read_text())
    plain.unlink()
    for state in content["states"]:
        state["trajectory"] = _renamed(folder, state["trajectory"])
    content["states"][0]["trajectory"] = str(folder / content["states"][0]["trajectory"])
    for key in ("topology", "mapping"):
        content["system"][key] = _renamed(folder, content["system"][key])
    config = folder / f"-{NASTY}.yaml"
    config.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    process = tiny.launch(config)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return config


def _renamed(folder, name):
    new = f"{NASTY} {name}"
    (folder / name).rename(folder / new)
    return new


def verify(config, capsys, *more):
    code = cli.main(["verify", str(tiny.results(config)), *more])
    return code, capsys.readouterr().out


def test_no_name_reached_a_shell_or_a_page(finished):
    folder = finished.parent
    for place in (folder, folder.parent, tiny.ROOT, Path.cwd()):
        assert not (place / "pwned").exists()
    for page in ("report.html", "workflow.html"):
        assert "<img src=x" not in (tiny.results(finished) / page).read_text()


def test_the_provenance_is_complete(finished):
    record = read_json(tiny.results(finished) / "provenance.json")
    assert record["packages"]["numpy"] and len(record["packages"]) > 50
    assert record["jobs"]["sample"]["ranks"] == 2 and record["jobs"]["sample"]["jobs"] == 2
    assert {"map", "target", "update", "model", "predict"} <= record["jobs"].keys()
    assert record["wall_s"]["sample"] > 0.0 and record["wall_s"]["total"] > 0.0
    assert record["code"]["files"]["Snakefile"] == provenance.file_hash(tiny.ROOT / "Snakefile")
    assert record["seeds"]["seed"] == 7 and record["host"] and record["cpu"] and record["mpi"]
    assert {"model/model.json", "rem/iter-000/sample/cold.h5", "map/hot.h5", "report.html"} <= (
        record["outputs"].keys()
    )
    names = [name for name in record["inputs"] if name.endswith(("xtc", "pdb", "mapping.yaml"))]
    assert len(names) == 5 and record["config_file"].endswith(finished.name)


def test_verify_tells_changed_missing_and_new_results(finished, capsys, tmp_path):
    code, text = verify(finished, capsys)
    assert code == 0 and "inputs, settings, results and version are unchanged" in text
    assert text.splitlines()[-1].startswith("A rerun on this machine gives the same bits")
    folder = tmp_path / "results" / "tiny"
    shutil.copytree(tiny.results(finished), folder)
    (folder / "predict" / "hot.h5").unlink()
    (folder / "validate" / "states.tsv").write_text("edited")
    (folder / "note.txt").write_text("mine")
    assert cli.main(["verify", str(folder), "--config", str(finished)]) == 1
    text = capsys.readouterr().out
    assert "missing  output  predict/hot.h5" in text
    assert "changed  output  validate/states.tsv" in text
    assert "new      output  note.txt" in text


def packed(finished, path, capsys, *more):
    if not (tiny.ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    arguments = ["archive", str(tiny.results(finished)), "-o", str(path), "--dirty", *more]
    assert cli.main(arguments) == 0, capsys.readouterr().err
    capsys.readouterr()
    return path


def test_the_same_campaign_gives_the_same_archive(finished, tmp_path, capsys):
    first = packed(finished, tmp_path / "a.tar.gz", capsys).read_bytes()
    os.utime(tiny.results(finished) / "model" / "model.json")
    assert packed(finished, tmp_path / "b" / "a.tar.gz", capsys).read_bytes() == first
    with tarfile.open(tmp_path / "a.tar.gz") as tree:
        members = tree.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names) and all(name.startswith("a/") for name in names)
    assert {(m.mtime, m.uid, m.uname) for m in members} == {(archive.TIME_S, 0, "")}
    assert not [name for name in names if ".." in name.split("/") or "/resources/" in name]


def test_an_archive_without_references_has_their_hashes(finished, tmp_path, capsys):
    path = packed(finished, tmp_path / "a.zip", capsys, "--without-references")
    with zipfile.ZipFile(path) as tree:
        names = tree.namelist()
        sums = tree.read("a/REFERENCES.sha256").decode().splitlines()
        readme = tree.read("a/README.md").decode()
    assert not [name for name in names if name.endswith(".xtc")]
    assert len(sums) == 3 and "sha256sum -c REFERENCES.sha256" in readme
    hot = next(finished.parent.glob("*hot.xtc"))
    assert f"{provenance.file_hash(hot)}  campaign/{hot.name}" in sums


def test_another_folder_reruns_an_archive_to_the_same_bits_and_verify_says_so(
    finished, tmp_path, capsys
):
    with tarfile.open(packed(finished, tmp_path / "a.tar.gz", capsys)) as tree:
        tree.extractall(tmp_path / "else where", filter="data")
    top = tmp_path / "else where" / "a"
    for line in (top / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ", 1)
        assert hashlib.sha256((top / name).read_bytes()).hexdigest() == digest
    text = next((top / "campaign").glob("*.yaml")).read_text(encoding="utf-8")
    assert str(finished.parent) not in text
    config = f"../campaign/{finished.name}"
    variables = {**os.environ, "PYTHONPATH": str(top / "code" / "workflow")}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    command = [sys.executable, "-m", "remcg.launch", "--configfile", config, "--cores", "2"]
    where = {"cwd": top / "code", "env": variables, "text": True, "capture_output": True}
    done = subprocess.run(command, timeout=900, **where)
    assert done.returncode == 0, done.stdout + done.stderr
    again = top / "code" / "results" / "tiny"
    first = (tiny.results(finished) / "model" / "model.json").read_bytes()
    assert (again / "model" / "model.json").read_bytes() == first
    command = [sys.executable, "-m", "remcg.cli", "verify", "results/tiny"]
    done = subprocess.run([*command, "--original", "../original"], **where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "and that of the original: identical to the last bit" in done.stdout
    assert "the same bits are promised here" in done.stdout


def test_changed_inputs_and_uncommitted_code_are_not_archived(finished, tmp_path, capsys):
    folder = tmp_path / "results" / "tiny"
    shutil.copytree(tiny.results(finished), folder)
    arguments = ["archive", str(folder), "-o", str(tmp_path / "a.zip"), "--config", str(finished)]
    record = json.loads((folder / "provenance.json").read_text())
    record["code"]["dirty"] = ["scripts/map.py"]
    (folder / "provenance.json").write_text(json.dumps(record))
    assert cli.main(arguments) == 2
    assert "is not committed (modified: scripts/map.py)" in capsys.readouterr().err
    hot = next(finished.parent.glob("*hot.xtc"))
    before = hot.read_bytes()
    topology = shutil.copy(next(finished.parent.glob("*.pdb")), tmp_path / "a.pdb")
    fewer = shutil.copy(hot, tmp_path / "a.xtc")  # mdtraj opens names of ASCII only
    mdtraj.load(str(fewer), top=str(topology))[:20].save_xtc(str(fewer))
    shutil.copy(fewer, hot)
    try:
        assert cli.main([*arguments, "--dirty"]) == 2
    finally:
        hot.write_bytes(before)
    assert "hot.xtc (changed); run the campaign again" in capsys.readouterr().err


def test_a_variant_of_a_sweep_is_archived_as_a_campaign_that_makes_its_own_maps(tmp_path):
    path = tmp_path / "fine.yaml"
    plain = {"campaign": "x-fine", "system": {"topology": str(tmp_path / "a.pdb")}}
    for share in ({"maps": "x-coarse", "targets": None}, None):
        content = plain | ({"share": share} if share else {})
        for order in (content, dict(reversed(content.items()))):
            path.write_text(yaml.safe_dump(order, sort_keys=False))
            found = yaml.safe_load(archive._portable(path))
            assert found == {"campaign": "x-fine", "system": {"topology": "a.pdb"}}


def test_a_sweep_as_such_is_not_verified_but_its_variants_are_named(tmp_path, capsys):
    folder = tmp_path / "results" / "x"
    (folder / "sweep").mkdir(parents=True)
    (folder / "sweep" / "fine.yaml").touch()
    assert cli.main(["verify", str(folder)]) == 2
    assert f"name one of its variants: {folder}-fine" in capsys.readouterr().err
    assert cli.main(["archive", str(folder), "-o", str(tmp_path / "a.zip")]) == 2
    assert f"name one of its variants: {folder}-fine" in capsys.readouterr().err


def test_files_outside_of_the_folder_of_the_config_keep_their_names(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.tar\.gz"):
        archive.archive(tmp_path, tmp_path / "a.rar")
    config = tiny.ROOT / "config" / "spce-water.yaml"
    campaign = archive.config.load(tiny.ROOT / "docs" / ".." / "config" / "spce-water.yaml")
    assert campaign.source == config
    assert archive._places(campaign, config) == ("code", "code/config/spce-water.yaml")
