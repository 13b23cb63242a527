"""A sweep of two variants of the tiny campaign, from one command to one table."""

import csv
import os
import subprocess
import sys

import pytest
import yaml

import tiny
from remcg import config, sweep

pytestmark = pytest.mark.verify  # two whole campaigns: two minutes
SECTIONS = {
    "sample": {"steps": 1200, "equilibration": 200, "replicas": 2, "states_per_job": 2},
    "rem": {"max_iterations": 2},
    "predict": {"steps": 2000, "equilibration": 200},
}
VARIANTS = {"coarse": {"model.terms.0.n_basis": 8}, "fine": {}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a sweep")
    path = tiny.write_campaign(folder, n_frames=60, sweep={"variants": VARIANTS}, **SECTIONS)
    process = tiny.launch(path)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return path, output


def files(path, pattern):
    return sorted(each.relative_to(path.parent).as_posix() for each in path.parent.glob(pattern))


def test_each_state_is_mapped_once_for_all_variants(finished):
    path, output = finished
    assert files(path, "logs/*/map/*.log") == [
        f"logs/tiny-coarse/map/{state}.log" for state in ("cold", "hot", "warm")
    ]
    assert len(files(path, "results/*/map/*.h5")) == 3
    assert len(files(path, "results/*/target/*.h5")) == 6
    assert output.count("] map") == 3


def test_one_table_and_one_figure_compare_the_variants(finished):
    path, output = finished
    folder = path.parent / "results" / "tiny"
    with open(folder / "sweep.tsv", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["variant"] for row in rows] == ["coarse", "fine"]
    assert [row["model.terms.0.n_basis"] for row in rows] == ["8", ""]
    assert sum(row["best"] == "best" for row in rows) == 1
    assert min(float(row["held_out_nats_per_site"]) for row in rows) == 0.0
    assert all(float(row["rdf_rmse_test"]) > 0.0 for row in rows)
    assert "nan" not in (folder / "sweep.tsv").read_text().lower()
    assert (folder / "sweep.png").stat().st_size > 5000
    assert "held-out nats/site" in output and "sweep.tsv" in output


def test_a_variant_with_the_same_terms_would_neither_map_nor_make_targets(finished, monkeypatch):
    path, _ = finished
    monkeypatch.chdir(path.parent)
    content = yaml.safe_load(path.read_text())
    content["sweep"]["variants"]["heavy"] = {"states.cold.weight": 3}
    more = path.with_name("more.yaml")
    more.write_text(yaml.safe_dump(content, sort_keys=False))
    heavy = sweep.prepare(config.load(more))["heavy"]
    assert heavy.share.targets == "tiny-fine"
    home = tiny.ROOT
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(home / "Snakefile"), "-n"]
    command += ["--workflow-profile", str(home / "profiles" / "default"), "--nolock"]
    done = subprocess.run(
        [*command, "--configfile", str(heavy.source), "--cores", "1", "--quiet", "reason"],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "Agg"},
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "guess" in said
    for rule in ("map", "basis", "target"):
        assert f"\n{rule} " not in said
